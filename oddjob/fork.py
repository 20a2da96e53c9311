"""After a fork: what a child process must make anew.

A forked child has one thread, and copies of locks that threads it does not have may hold.
"""

import os
import threading
from collections.abc import Callable

__all__ = ["ProcessLock", "in_child"]


def in_child(remake: Callable[[], object]) -> None:
    """Have `remake` called in every child, right after the fork."""
    if hasattr(os, "register_at_fork"):  # not where there is no fork
        os.register_at_fork(after_in_child=remake)


class ProcessLock:
    """A reentrant lock that lives as long as the process, and is free in its children.

    Hold it with ``with that.lock:``. Made at import; each is remembered for ever.
    """

    __slots__ = ("lock",)

    def __init__(self) -> None:
        self._remake()
        in_child(self._remake)

    def _remake(self) -> None:
        self.lock = threading.RLock()
