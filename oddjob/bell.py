"""Bell: something to sleep on until anybody rings it, or the time is up."""

import threading
from _thread import allocate_lock
from collections.abc import Callable
from math import inf
from typing import Final

from oddjob.schedule.clock import clock

__all__ = ["Bell"]


class Bell:
    """Something for one thread to sleep on; a ring that comes before is not lost.

    Locking: none; it is a lock itself, held except for the moment after a ring.
    """

    def __init__(self) -> None:
        self._lock: Final = allocate_lock()
        self._lock.acquire()
        # As `ring`, in one step that nothing can interrupt; a RuntimeError the second time.
        self.knock: Final[Callable[[], None]] = self._lock.release

    def ring(self) -> None:
        """Wake the thread, from any other; twice does no harm."""
        try:  # noqa: SIM105  (finalisers come here, also when modules have been torn down)
            self.knock()
        except RuntimeError:  # somebody else has, at this moment
            pass

    def ring_for(self, _: object) -> tuple[()]:
        """Wake the thread, as a callback."""
        self.ring()
        return ()

    def wait(self, until: float) -> bool:
        """Sleep until somebody rings; false if it is later than `until`, in monotonic seconds."""
        if until == inf:
            return self._lock.acquire()
        left = min(max(0.0, until - clock.steady()), threading.TIMEOUT_MAX)
        return self._lock.acquire(timeout=left)
