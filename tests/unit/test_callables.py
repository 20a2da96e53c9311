"""Names of callables, which of them are asynchronous, and calling many of them."""

import functools
import gc
import weakref
from typing import Any

import pytest

from oddjob.callables import call_all, describe, is_async


def plain() -> None: ...


async def coroutine() -> None: ...


class Callable:
    def __call__(self) -> None: ...


class AsyncCallable:
    async def __call__(self) -> None: ...


class Liar:
    def __getattr__(self, name: str) -> Any:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (plain, "plain"),
        (functools.partial(functools.partial(plain)), "plain"),
        (Callable().__call__, "Callable.__call__"),
        (Callable(), "Callable"),
        (abs, "abs"),
    ],
)
def test_every_callable_has_a_name_for_people(fn: Any, name: str) -> None:
    assert describe(fn) == name


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (plain, False),
        (coroutine, True),
        (functools.partial(coroutine), True),
        (functools.wraps(coroutine)(Callable()), True),
        (AsyncCallable(), True),
        (Callable(), False),
        (abs, False),
    ],
)
def test_coroutine_functions_are_recognized_also_inside_wrappers(fn: Any, expected: bool) -> None:
    assert is_async(fn) is expected


def test_a_callable_that_answers_no_question_has_the_name_of_its_type() -> None:
    assert describe(Liar()) == "Liar"
    assert is_async(Liar()) is False


def test_a_wrapper_of_itself_is_not_searched_for_ever() -> None:
    def wrapper() -> None: ...

    wrapper.__wrapped__ = wrapper  # type: ignore[attr-defined]
    assert is_async(wrapper) is False


def test_all_actions_are_called_and_the_first_exception_is_raised_in_the_end() -> None:
    called: list[int] = []

    def fail(error: BaseException) -> None:
        called.append(1)
        raise error

    first, second = SystemExit(), ValueError()
    with pytest.raises(SystemExit) as caught:
        call_all([lambda: fail(first), lambda: fail(second), functools.partial(called.append, 2)])
    assert caught.value is first
    assert called == [1, 1, 2]


def test_what_call_all_raises_is_in_no_reference_cycle() -> None:
    class Error(Exception):
        pass

    def fail() -> None:
        raise Error

    gc.disable()
    try:
        try:
            call_all([fail])
        except Error as error:
            seen = weakref.ref(error)
        assert seen() is None
    finally:
        gc.enable()
