"""Marks: which thread is which, for as long as anybody remembers it.

A thread's identifier does not tell: when a thread is over, the interpreter gives its identifier to
the next one.
"""

import threading
from typing import Final

__all__ = ["Mark", "mark_here"]


class Mark:
    """Stands for one thread."""

    __slots__ = ()


class _Here(threading.local):
    def __init__(self) -> None:
        self.mark: Final = Mark()


_here: Final = _Here()


def mark_here() -> Mark:
    """The mark of the calling thread."""
    return _here.mark
