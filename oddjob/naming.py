"""What jobs are called: by people, and uniquely."""

import functools
import os
from types import FunctionType

__all__ = ["describe", "fresh_id"]


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


def fresh_id() -> str:
    """32 hexadecimal digits that nobody else, in any process, will draw."""
    return os.urandom(16).hex()
