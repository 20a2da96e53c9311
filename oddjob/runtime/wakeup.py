"""Wakeup: something for one thread to sleep on until another thread wakes it.

Guarantees: a wake-up that comes before the sleep is not lost; several of them wake once.
Assumes: only one thread sleeps on it at a time.
"""

import threading
from _thread import allocate_lock
from collections.abc import Callable
from math import inf
from typing import Final

from oddjob.schedule.clock import clock


class Wakeup:
    """A binary semaphore that starts empty: a lock, held while there is no wake-up.

    `release` is the lock's own method, a single C call: an asynchronous exception cannot strike in
    the middle of it. It raises ``RuntimeError`` where the thread is awake already; `set` does not.
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
