"""Callables: their names for people, whether they are ``async def``, and calling many of them."""

import functools
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any, Final

_CO_COROUTINE: Final = 0x80  # as in `inspect`, which takes time to import
_MAX_WRAPPERS: Final = 100  # a wrapper may, by mistake, wrap itself


def describe(fn: object) -> str:
    """Return the qualified name of a callable, or else that of its type; never raise."""
    if type(fn) is FunctionType:
        return fn.__qualname__
    try:
        if isinstance(fn, functools.partial):
            return describe(fn.func)
        name = fn.__qualname__  # type: ignore[attr-defined]  # whatever that is, or raises
    except Exception:
        name = None
    return name if isinstance(name, str) else type(fn).__qualname__


def is_async(fn: Any) -> bool:
    """Return whether a callable is an ``async def`` or wraps one; never raise."""
    try:
        for _ in range(_MAX_WRAPPERS):
            code = getattr(fn, "__code__", None)
            if getattr(code, "co_flags", 0) & _CO_COROUTINE:
                return True
            if isinstance(fn, functools.partial):
                fn = fn.func
            elif getattr(fn, "__wrapped__", None) is not None:
                fn = fn.__wrapped__
            elif code is None and isinstance(type(fn).__call__, FunctionType):
                fn = type(fn).__call__
            else:
                return False
    except Exception:
        return False
    return False


def call_all(actions: Iterable[Callable[[], object]]) -> None:
    """Call all of them, whatever each raises; raise the first exception in the end."""
    first: BaseException | None = None
    for action in actions:
        try:
            action()
        except BaseException as error:
            first = first or error
    try:
        if first is not None:
            raise first
    finally:
        del first  # its traceback refers to this frame
