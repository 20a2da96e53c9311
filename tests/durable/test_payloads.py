"""Payloads on a server that others can write to: signed pickle, or JSON; nothing else is read."""

import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from oddjob import Backoff, Pool, PoolClosed, StoreUnusable
from oddjob.durable.record import Capacity, Partition, State, Submit, Update
from oddjob.durable.redis.location import Location
from oddjob.durable.redis.store import RedisStore
from oddjob.errors import PayloadError
from tests.durable import jobs
from tests.redis_server import RedisServer

WAIT = 10.0
PARTITION = Partition("durable", "tests.durable.jobs:note")


class Bomb:
    """Something that does harm when it is unpickled."""

    def __reduce__(self) -> Any:
        return os._exit, (66,)


@pytest.fixture
def signed(redis_url: str) -> Iterator[Pool]:
    with Pool("durable", 1, store=redis_url, signing_keys=jobs.KEYS) as pool:
        yield pool


@pytest.fixture
def plain(redis_url: str) -> Iterator[Pool]:
    with Pool("durable", 1, store=redis_url) as pool:
        yield pool


def outcome_of(
    pool: Pool, payload: bytes, partition: Partition = PARTITION
) -> BaseException | None:
    """Return how a job ends that another program has stored."""
    (submitted,) = pool._core.store.open().submit([Submit(partition, payload, wants_outcome=False)])
    return pool.find(submitted.id).exception(WAIT)


def test_pickle_that_is_not_signed_is_not_read(signed: Pool) -> None:
    bomb = pickle.dumps([[Bomb()], {}])
    for payload in (bomb, b"", b"x", os.urandom(100)):
        assert isinstance(outcome_of(signed, payload), PayloadError)
    assert signed.submit(jobs.note, 1).result(WAIT) == 1


def test_without_keys_nothing_is_unpickled(plain: Pool) -> None:
    for payload in (pickle.dumps([[Bomb()], {}]), b"", b"5", b'"a"', b"[1, 2, 3]"):
        assert isinstance(outcome_of(plain, payload), PayloadError)
    assert plain.submit(jobs.note, {"a": [1, None, 2.5]}).result(WAIT) == {"a": [1, None, 2.5]}


def test_a_signature_is_valid_for_one_function_of_one_pool(signed: Pool) -> None:
    encode = signed._core.store.codec.encode_call
    good = encode(PARTITION, ([1],), {})
    assert outcome_of(signed, good) is None
    for partition in (
        Partition("other", PARTITION.function),
        Partition("durable", "tests.durable.jobs:slow"),
    ):
        assert isinstance(outcome_of(signed, encode(partition, ([1],), {})), PayloadError)
    for changed in (good[:-1], good + b"x", good[:50] + b"?" + good[51:], good[1:]):
        error = outcome_of(signed, changed)
        assert isinstance(error, PayloadError)
        assert not any(key in str(error) for key in jobs.KEYS)


def test_a_result_is_not_taken_for_that_of_another_job(signed: Pool, redis_url: str) -> None:
    with Pool("other", 1, store=redis_url, signing_keys=jobs.KEYS, consume=False) as other:
        waiting = other.submit(jobs.note, 1)
        forged = signed._core.store.codec.encode_result("forged", "durable:1")
        intruder = RedisStore(Location(redis_url))
        intruder.join({"other": [PARTITION.function]}, 1)
        (claim,) = intruder.turn([], [], {"other": Capacity(1, 1)}).claims
        intruder.turn([Update(claim, State.SUCCEEDED, forged)], [], {})
        intruder.leave()
        intruder.close()
        with pytest.raises(PayloadError, match="its result cannot be read"):
            waiting.result(WAIT)


def test_keys_are_replaced_in_two_steps(redis_url: str) -> None:
    """Old payloads are read as long as their key is among those of the program."""
    new, old = jobs.KEYS
    with Pool("durable", 1, store=redis_url, signing_keys=old, consume=False) as pool:
        ids = [pool.submit(jobs.note, n).id for n in range(2)]
    for keys, job, error in ((new, ids[0], PayloadError), ([new, old], ids[1], None)):
        with Pool("durable", 1, store=redis_url, signing_keys=keys, consume=False) as pool:
            record = pool.records()
            found = next(each for each in record if each.id == job)
            if error is None:
                assert found.arguments() == ((1,), {})
            else:
                with pytest.raises(error, match="not signed with any of the signing keys"):
                    found.arguments()
            assert "secret" not in repr(pool.configuration)


REFUSED: list[tuple[Any, str]] = [
    ((1, 2), r"args\[0\] is of type tuple"),
    ({1: 2}, r"a key of args\[0\] is 1"),
    ([b"bytes"], r"args\[0\]\[0\] is of type bytes"),
    ({"when": datetime(2024, 1, 1, tzinfo=UTC)}, r"args\[0\]\['when'\] is of type datetime"),
]


@pytest.mark.parametrize(("value", "said"), REFUSED)
def test_what_json_does_not_carry_is_refused_by_submit(plain: Pool, value: Any, said: str) -> None:
    """Rather than coming back as something else; the message says what to do."""
    with pytest.raises(TypeError, match=said + "|signing_keys"):
        plain.submit(jobs.note, value)
    assert list(plain.records()) == []


def test_options_of_a_call_are_kept_without_pickle(plain: Pool) -> None:
    jobs.runs.clear()
    backoff = Backoff(0.01, maximum=0.02)
    view = plain.options(retries=5, backoff=backoff, retry_on=(OSError, KeyError), timeout=30)
    assert view.submit(jobs.fail_first).result(WAIT) == 3
    assert isinstance(view.options(no_retry_on=OSError).submit(jobs.fail, "no").exception(WAIT),
                      OSError)  # fmt: skip
    assert view.options(backoff=[0.01]).submit(jobs.note, 1).result(WAIT) == 1


KEYS: list[tuple[Any, Callable[..., Any], str]] = [
    ("short", ValueError, "keys of 16 bytes or more"),
    ([], ValueError, "keys of 16 bytes or more"),
    (5, TypeError, "texts or bytes"),
]


@pytest.mark.parametrize(("keys", "kind", "said"), KEYS)
def test_keys_that_are_none(keys: Any, kind: Any, said: str) -> None:
    with pytest.raises(kind, match=said):
        Pool("durable", 1, store="memory:", signing_keys=keys)


def test_no_password_is_shown_of_a_pool(redis_server: RedisServer, redis_url: str) -> None:
    """Nor in what a closed pool says, which is what it would be opened with."""
    redis_server.ask("ACL", "SETUSER", "me", "on", ">verysecret", "+@all", "~*", "&*")
    url = redis_url.replace("unix://", "unix://me:verysecret@")
    with Pool("durable", 1, store=url) as pool:
        assert pool.submit(jobs.note, 1).result(WAIT) == 1
        names = [each.name for each in threading.enumerate()]
        assert "verysecret" not in f"{pool!r} {pool.configuration} {names}"
        assert pool.configuration.store == url
    with pytest.raises(PoolClosed) as caught:
        pool.counts()
    assert "verysecret" not in str(caught.value)


def test_no_password_is_shown(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """In no error, repr or log."""
    url = "redis://me:verysecret@localhost:1/0"
    with pytest.raises(OSError, match="localhost:1/0") as caught:
        Pool("durable", 1, store=url)
    assert "verysecret" not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"
    assert "verysecret" not in caplog.text


def test_a_program_without_the_package_of_redis_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [
        each for each in sys.modules if each.startswith(("redis", "oddjob.durable.redis"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(StoreUnusable, match=r'pip install "oddjob\[redis\]"'):
        Pool("durable", 1, store="redis://localhost")
