"""Callables: what people call them, and which of them are ``async def``."""

import functools
from types import FunctionType
from typing import Any, Final

__all__ = ["describe", "is_async"]

_COROUTINE_FUNCTION: Final = 0x80  # the flag of a code object; inspect.CO_COROUTINE


def describe(fn: object) -> str:
    """The name people know a callable by: its qualified name, or else its type's. Never raises."""
    if type(fn) is FunctionType:
        return fn.__qualname__
    try:
        if isinstance(fn, functools.partial):
            return describe(fn.func)
        name = fn.__qualname__  # type: ignore[attr-defined]  # whatever that may be, or raise
    except Exception:
        name = None
    return name if isinstance(name, str) else type(fn).__qualname__


def is_async(fn: Any) -> bool:
    """Whether a callable is an ``async def``, or something wrapped around one. Never raises."""
    try:
        for _ in range(100):  # wrappers around wrappers, but not for ever
            code = getattr(fn, "__code__", None)
            if getattr(code, "co_flags", 0) & _COROUTINE_FUNCTION:
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
