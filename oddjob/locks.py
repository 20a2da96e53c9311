"""Locks that the standard library does not have: to sleep on, and to survive a fork.

A forked child has a single thread, and copies of locks that may be held by threads it does not
have. What must be made anew in it is registered with `after_fork_in_child`.
"""

import os
import threading
from _thread import allocate_lock
from collections.abc import Callable
from math import inf
from typing import Final

from oddjob.schedule.clock import clock


class Wakeup:
    """A binary semaphore that starts empty, for one thread to sleep on.

    A wake-up that comes before the sleep is not lost; several of them wake once.

    It is a lock, held while there is no wake-up. `release` is the lock's own method, a single C
    call: an asynchronous exception cannot come in the middle of it. It raises ``RuntimeError``
    where the thread is awake already; `set` does not.
    """

    __slots__ = ("lock", "release")

    def __init__(self) -> None:
        self.lock: Final = allocate_lock()
        self.lock.acquire()
        self.release: Final[Callable[[], None]] = self.lock.release

    def set(self) -> None:
        """Wake the thread, from any other thread, signal handler or destructor."""
        try:  # noqa: SIM105  (destructors come here, also when modules have been torn down)
            self.release()
        except RuntimeError:
            pass

    def wait(self, until: float = inf) -> bool:
        """Sleep until `set`; return False if `until`, in steady seconds, comes first."""
        if until == inf:
            return self.lock.acquire()
        left = min(max(0.0, until - clock.steady()), threading.TIMEOUT_MAX)
        return self.lock.acquire(timeout=left)


class ProcessLock:
    """A reentrant lock that lives as long as the process, and is free in forked children.

    Use it as ``with process_lock.lock:``.
    """

    __slots__ = ("lock",)

    def __init__(self) -> None:
        self._make_lock()
        after_fork_in_child(self._make_lock)

    def _make_lock(self) -> None:
        self.lock: threading.RLock = threading.RLock()


def is_held_here(lock: threading.RLock) -> bool:
    """Return whether the calling thread holds a reentrant lock."""
    is_owned: bool = getattr(lock, "_is_owned")()  # noqa: B009  (as `threading.Condition` asks)
    return is_owned


def after_fork_in_child(callback: Callable[[], object]) -> None:
    """Call `callback` in every child process, in the order in which callbacks are registered."""
    if hasattr(os, "register_at_fork"):  # there is none where there is no fork
        os.register_at_fork(after_in_child=callback)
