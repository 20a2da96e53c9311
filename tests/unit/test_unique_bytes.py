"""What makes calls unique: the same bytes for equal arguments."""

import os
import subprocess
import sys

import pytest

from oddjob.durable.unique import canonical_bytes


@pytest.mark.parametrize("kind", ["set", "frozenset"])
def test_a_set_gives_the_same_key_in_every_process(kind):
    program = (
        "from oddjob.durable.unique import canonical_bytes as b;"
        f"print(b(([{kind}('abcdefgh')], {{'a': {kind}('stuv')}})).hex())"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(keys) == 1


def test_the_order_of_a_dict_does_not_matter():
    assert canonical_bytes(([{"a": 1, "b": 2}],)) == canonical_bytes(([{"b": 2, "a": 1}],))


def test_a_frozenset_may_be_the_key_of_a_dict():
    assert canonical_bytes({frozenset("ab"): 1}) == canonical_bytes({frozenset("ba"): 1})


def test_values_that_differ_give_other_keys():
    values = [{1}, frozenset({1}), [1], (1,), {1: 1}, {1: 2}, {2: 1}, {1, 2}, [[1]], [{1}]]
    assert len(set(map(canonical_bytes, values))) == len(values)


def test_a_value_that_refers_to_itself_has_bytes_too():
    value: dict[str, object] = {}
    value["self"] = value
    assert canonical_bytes(value)
