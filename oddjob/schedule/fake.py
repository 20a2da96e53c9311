"""FakeClock: a clock that moves when it is told to."""

import time as real
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from math import ceil, inf
from types import TracebackType
from typing import Any, Final, Protocol, Self

from oddjob.schedule.clock import clock
from oddjob.schedule.local import as_zone, in_zone
from oddjob.schedule.scheduler import scheduler

__all__ = ["Clockwork", "FakeClock"]

_ROUNDING: Final = 1e-6  # seconds: ten times 0.1 is a second
_PAUSE: Final = 0.0005  # seconds, between looks at whether jobs have ended
_START: Final = datetime(2024, 1, 1, tzinfo=UTC)


class Clockwork(Protocol):
    """Something that waits for times, and is to be told when they have come."""

    def next_alarm(self) -> float:
        """The next monotonic time that it waits for."""

    def ring_alarm(self) -> None:
        """Do what is due."""

    def busy_with(self) -> Iterable[Any]:
        """Jobs that run, or that can start now."""


class FakeClock:
    """The clock of pools and timers, in a test: ``with oddjob.testing.FakeClock() as clock:``.

    While the block lasts, time stands still, for timers, retries and rates; `advance` moves it, and
    stops at every moment at which something falls due: the jobs of that moment are run, and have
    ended, before it goes on. Timeouts, and waiting with one, go by the machine's clock.

    Args:
        start: what time it is at first; local time of the machine if it is naive. If not given, it
            is midnight UTC at the beginning of 2024.
        patience: for how many seconds, of the machine's clock, `advance` waits at each moment for
            jobs to end. Those that have not, it does not wait for any more.

    Raises:
        RuntimeError: there is one already.

    Thread safety: it holds for all threads of the process. One thread at a time may advance it.
    """

    _works: Callable[[], Iterable[Clockwork]] = list  # set by `oddjob.testing`

    def __init__(self, start: datetime | None = None, *, patience: float = 5.0) -> None:
        start = _START if start is None else start
        if not isinstance(start, datetime):
            raise TypeError(f"FakeClock: start must be a datetime, not {start!r}")
        self._zone = as_zone(start.tzinfo)
        self._start = start.timestamp()
        self._monotonic = 0.0
        self._ahead = 0.0  # what wall time is ahead of monotonic time
        self._patience = patience
        self._given_up: set[Any] = set()
        self._is_on = False

    def __enter__(self) -> Self:
        with scheduler.lock:
            if clock.is_fake:
                raise RuntimeError("there is a FakeClock already, and there can be only one")
            # A whole number: what is due at the same time by both clocks is so to the last bit.
            self._monotonic = float(ceil(clock.monotonic()))
            self._ahead = self._start - self._monotonic
            clock.replace(lambda: self._monotonic, self._wall)
            self._is_on = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._start = self._wall()
        self._is_on = False
        clock.restore()
        scheduler.look_again()
        self._given_up.clear()

    def __repr__(self) -> str:
        return f"<FakeClock {self.now().isoformat()}>"

    def now(self) -> datetime:
        """What time it is, in the zone of `start`."""
        return in_zone(self._wall() if self._is_on else self._start, self._zone)

    def advance(
        self,
        seconds: float = 0.0,
        *,
        minutes: float = 0.0,
        hours: float = 0.0,
        days: float = 0.0,
    ) -> None:
        """Let time pass, and all that falls due happen, in order.

        Raises:
            ValueError: it is to go back.
            RuntimeError: the block has not begun, or is over.

        Blocks until the jobs that fall due have ended, in other threads or, in
        `oddjob.testing.inline`, in this one.
        """
        left = seconds + timedelta(minutes=minutes, hours=hours, days=days).total_seconds()
        if not left < inf:
            raise ValueError(f"time can be advanced by a finite number of seconds, not {left!r}")
        if left < 0:
            raise ValueError("time does not go back: to set the wall clock back, use set_wall()")
        self._see_that_it_is_on()
        end = self._monotonic + left
        with scheduler.ringing:
            self._settle()
            while (step := self._next_in()) <= end - self._monotonic + _ROUNDING:
                self._monotonic += step
                self._ring()
            self._monotonic = max(self._monotonic, end)

    def set_wall(self, when: datetime) -> None:
        """Set the wall clock, forward or back, as a user or a time server would.

        Monotonic time stands still meanwhile. A machine that was suspended wakes up like that, too.
        What is due by the new time happens before this returns.
        """
        self._see_that_it_is_on()
        with scheduler.ringing:
            self._ahead = when.timestamp() - self._monotonic
            self._ring()

    # Inside.

    def _wall(self) -> float:
        return self._monotonic + self._ahead

    def _see_that_it_is_on(self) -> None:
        if not self._is_on:
            raise RuntimeError("a FakeClock is of use in its block: with FakeClock() as clock: ...")

    def _next_in(self) -> float:
        """In how many seconds something falls due; 0 if something is."""
        alarms = [work.next_alarm() - self._monotonic for work in FakeClock._works()]
        return max(0.0, min([scheduler.next_in(), *alarms], default=inf))

    def _ring(self) -> None:
        while scheduler.ring_one():
            self._settle()
        for work in FakeClock._works():
            work.ring_alarm()
        self._settle()

    def _settle(self) -> None:
        """Wait until nothing runs, and nothing can start, that it is worth to wait for."""
        deadline = clock.steady() + self._patience
        while busy := self._busy():
            if clock.steady() > deadline:
                self._given_up |= busy
                return
            real.sleep(_PAUSE)

    def _busy(self) -> set[Any]:
        found = {job for work in FakeClock._works() for job in work.busy_with()}
        return found - self._given_up
