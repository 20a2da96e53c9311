"""DueAlarm: wakes the store thread when something in the store is due.

The store's times are wall time, which may be set at any moment, and goes on while a machine sleeps.
A thread that slept for a number of seconds would miss that. The scheduler notices it (and goes by a
fake clock in tests), so it wakes the store thread.

Thread safety: one thread, the store thread, calls `set` and `clear`. The scheduler fires the alarm
in any other.
"""

from collections.abc import Callable
from math import inf, nan
from typing import Final

from oddjob.compat import override
from oddjob.schedule.clock import clock
from oddjob.schedule.scheduler import Alarm, scheduler

_CLOSE: Final = 0.001  # seconds by which it may go off too early; setting it again costs time


class DueAlarm(Alarm):
    """The alarm of one runner."""

    __slots__ = ("_has_fired", "_moment", "_wake", "_was_set")

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake: Final = wake
        self._moment = inf  # wall time for which it is set; nan: it has fired, or was not set
        self._was_set = False
        self._has_fired = False  # and the store thread has not noticed yet

    @override
    def _fire(self) -> None:
        self._has_fired = True
        self._wake()

    def clear(self) -> None:
        """Note that it has fired, if it has."""
        if self._has_fired:
            self._has_fired = False
            self._moment = nan

    def set(self, seconds: float) -> float:
        """Wake the thread in some seconds; return for how long it may sleep by itself."""
        if seconds == self._moment == inf:
            return inf
        moment = clock.wall() + seconds
        if moment == self._moment or 0 <= moment - self._moment < _CLOSE:
            return inf
        with scheduler.lock:
            if self._was_set:
                scheduler.cancel(self)
            self._moment, self._was_set = moment, True
            if moment < inf:
                scheduler.set_alarm(self, moment, is_wall=True)
        try:
            scheduler.ensure_thread()
        except Exception:  # at the end of the process no thread can be started
            self._moment = nan
            return seconds
        return inf
