"""DueAlarm: wakes the store thread when something in the store is due.

The times in a store are wall time. The wall clock may be set at any moment, and goes on while the
machine is suspended; a thread that sleeps for some seconds would notice neither. The scheduler
notices both (and follows a fake clock in tests), so the scheduler wakes the store thread.

Thread safety: one thread, the store thread, calls `set` and `clear`. The scheduler fires the alarm
in any other.
"""

from collections.abc import Callable
from math import inf, nan
from typing import Final

from oddjob.compat import override
from oddjob.schedule.clock import clock
from oddjob.schedule.scheduler import Alarm, scheduler

_CLOSE: Final = 0.001  # seconds: the alarm is not moved if it is too early by less than this


class DueAlarm(Alarm):
    """The alarm of one runner."""

    __slots__ = ("_has_fired", "_moment", "_wake", "_was_set")

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake: Final = wake
        # Wall time for which the alarm is set; inf: nothing is due; nan: it has to be set anew.
        self._moment = inf
        self._was_set = False  # whether `set` was called before
        self._has_fired = False  # since the latest `clear`

    @override
    def _fire(self) -> None:
        self._has_fired = True
        self._wake()

    def clear(self) -> None:
        """Note in the store thread whether the alarm has fired."""
        if self._has_fired:
            self._has_fired = False
            self._moment = nan

    def set(self, seconds: float) -> float:
        """Wake the store thread in some seconds, or, with inf, not.

        Returns the seconds after which the thread has to wake by itself: inf, unless the alarm
        could not be set.
        """
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
