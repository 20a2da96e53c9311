"""Forked child processes: what has to be made anew in them.

A child has a single thread, and copies of locks that may be held by threads it does not have.
"""

import os
import threading
from collections.abc import Callable


def after_fork_in_child(callback: Callable[[], object]) -> None:
    """Call `callback` in every child process, in the order in which callbacks are registered."""
    if hasattr(os, "register_at_fork"):  # there is none where there is no fork
        os.register_at_fork(after_in_child=callback)


class ProcessLock:
    """A reentrant lock that lives as long as the process, and is free in forked children.

    Use it as ``with process_lock.lock:``.
    """

    __slots__ = ("lock",)

    def __init__(self) -> None:
        self._make_lock()
        after_fork_in_child(self._make_lock)

    def _make_lock(self) -> None:
        self.lock = threading.RLock()
