"""What jobs are called: by people, and uniquely."""

import os

__all__ = ["describe", "fresh_id"]


def describe(fn: object) -> str:
    """The name people know a callable by: its qualified name, or that of what it wraps."""
    name = getattr(fn, "__qualname__", None)
    if isinstance(name, str):
        return name
    wrapped = getattr(fn, "func", None) or getattr(fn, "__wrapped__", None)
    return describe(wrapped) if wrapped is not None else type(fn).__qualname__


def fresh_id() -> str:
    """32 hexadecimal digits that nobody else, in any process, will draw."""
    return os.urandom(16).hex()
