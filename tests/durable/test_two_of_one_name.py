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


@pytest.mark.parametrize(
    ("rebinding", "meaning"),
    [
        ("send = print", "<built-in function print>"),
        ("del send", "None"),
        ("send = functools.cache(send)", "<functools._lru_cache_wrapper .*>"),
        ("def send(): ...", "<function send .*>"),
        ("@pool.job\ndef send(): ...", "<JobFunction send .*>"),
    ],
)
def test_a_function_whose_name_has_come_to_mean_another_one_is_refused(
    write: Write, rebinding: str, meaning: str
) -> None:
    """Its jobs would run that one, and nobody would be told."""
    module = write("import functools\n\n\ndef send():\n    return 1\n\n\nformer = send\n")
    pool, former = module.pool, module.former
    assert pool.submit(former).result(WAIT) == 1
    exec(rebinding, vars(module))
    said = f"^<function send .*> cannot be stored, as {module.__name__}:send is {meaning}: "
    for submit in pool.submit, pool.after(60).submit, pool.every(60).submit, pool.chain:
        with pytest.raises(TypeError, match=said):
            submit(former)
    assert [record.state for record in pool.records()] == ["succeeded"]
    assert pool.recurring() == []
    assert pool.options(persist=False).submit(former).result(WAIT) == 1


def test_a_decorated_function_whose_name_was_given_to_another_one_is_refused(write: Write) -> None:
    """As it is when a test replaces it, and other modules have imported it before."""
    module = write(SEND.format(1))
    module.send = print
    with pytest.raises(TypeError, match="send is <built-in function print>: submit that"):
        module.send_1.submit()


def test_a_method_of_a_class_is_not_stored_for_its_subclass(write: Write) -> None:
    text = "class {0}:\n    @classmethod\n    def made(cls):\n        return cls.__name__\n\n\n"
    module = write(text.format("First") + "class Second(First): ...\n")
    assert module.pool.submit(module.First.made).result(WAIT) == "First"
    with pytest.raises(TypeError, match=r"First.made is <bound method First.made of .*First'>>: "):
        module.pool.submit(module.Second.made)


def test_a_function_may_be_decorated_whose_name_meant_another_one(write: Write) -> None:
    """Its timer is set before it takes the name."""
    module = write(
        "def send():\n    return 1\n\n\n@pool.job(every=60)\ndef send():\n    return 2\n"
    )
    assert module.send.timer.run_now()
    assert module.send.submit().result(WAIT) == 2


def test_a_program_that_one_of_its_modules_imports_stores_its_own_functions(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is executed twice then, and other processes import it by its name."""
    text = "def send():\n    return __name__\n"
    module = write(text)
    main = ModuleType("__main__")
    vars(main).update(__file__=module.__file__)
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec(compile(HEAD + text, str(module.__file__), "exec"), vars(main))
    assert main.pool.submit(main.send).result(WAIT) == module.__name__


def test_one_function_may_be_decorated_twice(write: Write) -> None:
    module = write("def send():\n    return 1\n\n\nsend = pool.job(send)\nagain = pool.job(send)\n")
    assert module.again.submit().result(WAIT) == 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there were no generic functions")
def test_a_generic_function_is_a_definition() -> None:
    code = compile("import json\ndef first[T](items: list[T]) -> T: ...\n", "module", "exec")
    assert _last_definition(code) == 2
