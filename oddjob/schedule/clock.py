"""The clocks of this library, all in seconds; every file asks here what time it is.

*Monotonic* time: delays, periods, retries and rates go by it.
*Wall* time: what people's clocks show, since the epoch. It can be set forward and back; ``at`` and
``cron`` go by it. A test can replace both with `oddjob.testing.FakeClock`.
*Steady* time: the machine's own monotonic time, which nothing replaces; threads sleep by it.

A tool such as freezegun, which replaces the clocks of the standard library, changes wall time and
nothing else here: a sleeping thread or a rate limiter would not survive a jump of fifty years. That
is why the functions are kept in an instance, where such tools do not look.
"""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import BuiltinFunctionType
from typing import Final

_DEPTH: Final = 12  # calls; more than freezegun looks at
_JITTER: Final = 0.001  # seconds that may pass between three readings of clocks


class Clock:
    """Tells monotonic, wall and steady time, to any thread; each field is replaced in one step."""

    __slots__ = ("_lead", "_offset", "_wall", "monotonic", "steady")

    def __init__(self) -> None:
        # If freezegun is active already, the real function is in its module.
        freezegun = sys.modules.get("freezegun.api")
        steady = getattr(freezegun, "real_monotonic", time.monotonic)
        self.steady: Final[Callable[[], float]] = steady
        self.monotonic: Callable[[], float] = steady
        self._wall: Callable[[], float] | None = None
        self._offset = 0.0  # of wall time from monotonic time, when they were compared last
        self._lead = 0.0  # seconds by which monotonic time is ahead of steady time

    def wall(self) -> float:
        """Return wall time."""
        if self._wall is not None:
            return self._wall()
        return _time_seen_from_depth(_DEPTH) if self.is_replaced else time.time()

    def date_of(self, moment: float) -> datetime:
        """Return a monotonic time as a date, in UTC: the same one until the wall clock is set."""
        before = wall = after = 0.0
        for _ in range(10):
            before, wall, after = self.monotonic(), self.wall(), self.monotonic()
            if after - before < _JITTER:
                break  # else another thread has had the processor in between
        if abs(wall - after - self._offset) > 2 * _JITTER:
            self._offset = wall - after
        return datetime.fromtimestamp(self._offset + moment, UTC)

    @property
    def is_replaced(self) -> bool:
        """Whether a tool has replaced ``time.time``.

        Such a clock moves without notice, so a thread that waits for a wall time has to look often.
        """
        return not isinstance(time.time, BuiltinFunctionType)

    @property
    def is_fake(self) -> bool:
        """Whether `replace` is in effect."""
        return self._wall is not None

    def replace(self, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        """Take monotonic and wall time from these functions."""
        self.monotonic, self._wall = monotonic, wall

    def restore(self) -> None:
        """Take the time from the machine again; monotonic time does not go back."""
        self._lead = max(self._lead, self.monotonic() - self.steady())
        self._wall = None
        self.monotonic = self._monotonic_with_lead if self._lead > 0 else self.steady

    def steady_time_of(self, moment: float) -> float:
        """Return the steady time at which a monotonic time is reached."""
        lead = 0.0 if self.monotonic is self.steady else self.monotonic() - self.steady()
        return moment - lead

    def _monotonic_with_lead(self) -> float:
        return self.steady() + self._lead


def _time_seen_from_depth(depth: int) -> float:
    # freezegun shows the real time to some modules, ``threading`` among them. It finds out who is
    # asking by looking at the last few calls; with these, they are all ours.
    return _time_seen_from_depth(depth - 1) if depth else time.time()


clock: Final = Clock()
