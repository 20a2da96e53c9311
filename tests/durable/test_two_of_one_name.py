"""Functions of one name, in a pool with a store: a stored job is found by that name."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import oddjob
from oddjob.durable.definitions import _last_definition
from tests.hang import WAIT

HEAD = "import oddjob\n\npool = oddjob.pool('mail')\n\n"
SEND = "@pool.job\ndef send():\n    return {0}\n\n\nsend_{0} = send\n"
Write = Callable[[str], ModuleType]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module, and import it, or reload it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    name = f"mails_{tmp_path.name}"
    oddjob.start_pool("mail", pool_size=1, store=f"sqlite:///{tmp_path}/jobs.db")

    def write(text: str) -> ModuleType:
        (tmp_path / f"{name}.py").write_text(HEAD + text)
        importlib.invalidate_caches()
        former = sys.modules.get(name)
        return importlib.reload(former) if former else importlib.import_module(name)

    yield write
    sys.modules.pop(name, None)
    assert oddjob.shutdown_all(WAIT)


def test_a_second_function_of_a_name_is_refused_with_both_lines(write: Write) -> None:
    """The jobs of both would run the second one, and nobody would be told."""
    with pytest.raises(ValueError, match=r"two functions mails_.*:send, in lines 5 and 11 of "):
        write(SEND.format(1) + SEND.format(2))


def test_functions_that_are_made_in_a_loop_are_refused(write: Write) -> None:
    with pytest.raises(ValueError, match="give each its own"):
        write("for number in 1, 2:\n    @pool.job\n    def send(n=number):\n        return n\n")


def test_a_module_that_is_reloaded_defines_its_functions_anew(write: Write) -> None:
    """What other modules have of it runs what is there now."""
    former = write(SEND.format(1)).send
    assert former.submit().result(WAIT) == 1
    now = write("# A line more.\n" + SEND.format(2)).send
    assert now.submit().result(WAIT) == 2
    assert former.submit().result(WAIT) == 2


def test_a_cell_of_a_notebook_may_be_run_again(write: Write) -> None:
    """A notebook gives each text of a cell a file name of its own; all share one module."""
    module = write("")
    cells: dict[str, Any] = vars(module)
    del cells["__file__"]
    for number, (name, text) in enumerate(
        [("1.py", SEND), ("1.py", SEND), ("2.py", "\n" + SEND), ("1.py", "\n\n" + SEND)]
    ):
        exec(compile(text.format(number), name, "exec"), cells)
        assert module.send.submit().result(WAIT) == number


def test_one_function_may_be_decorated_twice(write: Write) -> None:
    module = write("def send():\n    return 1\n\n\nsend = pool.job(send)\nagain = pool.job(send)\n")
    assert module.again.submit().result(WAIT) == 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there were no generic functions")
def test_a_generic_function_is_a_definition() -> None:
    code = compile("import json\ndef first[T](items: list[T]) -> T: ...\n", "module", "exec")
    assert _last_definition(code) == 2
