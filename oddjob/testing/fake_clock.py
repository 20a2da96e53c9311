"""FakeClock: a clock for tests, which moves only when it is told to.

It replaces monotonic and wall time of `oddjob.schedule.clock`, and fires alarms in the thread that
moves it; the scheduler's own thread, which goes by the same clock, finds nothing due.
"""

import time
from datetime import UTC, datetime, timedelta
from math import ceil, inf
from typing import TYPE_CHECKING, Any, Final, Self

from oddjob.compat import override
from oddjob.quantities import Seconds, as_seconds
from oddjob.runtime.lifecycle import active_cores
from oddjob.schedule.clock import clock
from oddjob.schedule.local_time import as_zone
from oddjob.schedule.scheduler import scheduler

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore

_ROUNDING: Final = 1e-6  # seconds: ten times 0.1 is a second
_PAUSE: Final = 0.0005  # seconds between two looks at whether jobs have ended
_DEFAULT_START: Final = datetime(2024, 1, 1, tzinfo=UTC)


class FakeClock:
    """The clock of pools and timers in a test: ``with oddjob.testing.FakeClock() as clock:``.

    Inside the block, time stands still for timers, retries and rates, and for what waits in stores
    that this process uses; `advance` moves it. Timeouts, and waits with a timeout, go by the
    machine's clock.

    Args:
        start: the time at first; midnight UTC at the beginning of 2024 if not given. A naive one is
            local time of the machine.
        patience: the longest time, in seconds of the machine's clock, that `advance` waits at each
            moment for jobs to end. Jobs that do not end within that are not waited for again.

    Thread safety: applies to all threads of the process. One thread at a time may move it. Only
    one fake clock can be in use: a second one is a ``RuntimeError``.
    """

    def __init__(self, start: datetime | None = None, *, patience: Seconds = 5.0) -> None:
        start = _DEFAULT_START if start is None else start
        if not isinstance(start, datetime):
            raise TypeError(f"FakeClock: start must be a datetime, not {start!r}")
        self._zone: Final = as_zone(start.tzinfo)
        self._start = start.timestamp()
        self._monotonic = 0.0
        self._lead = 0.0  # seconds by which wall time is ahead of monotonic time
        self._patience: Final = as_seconds("patience", patience)
        self._given_up: set[Any] = set()  # jobs that are not waited for again
        self._is_active = False

    def __enter__(self) -> Self:
        with scheduler.lock:
            if clock.is_fake:
                raise RuntimeError("another FakeClock is in use, and there can be only one")
            # A whole number: what is due at the same time by both clocks is so to the last bit.
            self._monotonic = float(ceil(clock.monotonic()))
            self._lead = self._start - self._monotonic
            clock.replace(lambda: self._monotonic, self._wall)
            self._is_active = True
        return self

    def __exit__(self, *_: object) -> None:
        self._start = self._wall()
        self._is_active = False
        clock.restore()
        scheduler.clock_changed()
        self._given_up.clear()

    @override
    def __repr__(self) -> str:
        return f"<FakeClock {self.now().isoformat()}>"

    def now(self) -> datetime:
        """Return the time, in the zone of `start`."""
        return datetime.fromtimestamp(self._wall() if self._is_active else self._start, self._zone)

    def advance(
        self, seconds: Seconds = 0, *, minutes: float = 0, hours: float = 0, days: float = 0
    ) -> None:
        """Let time pass, and stop at every moment at which something is due.

        The jobs of that moment run (in inline mode, in the calling thread), and end, before time
        goes on.

        Raises:
            ValueError: the time is negative or infinite.
            RuntimeError: the block has not begun, or has ended.
        """
        rest = timedelta(minutes=minutes, hours=hours, days=days)
        left = as_seconds("seconds", seconds) + rest.total_seconds()
        if not left < inf:
            raise ValueError(f"time can be advanced by a finite number of seconds, not {left!r}")
        if left < 0:
            raise ValueError("time does not go back: to set the wall clock back, use set_wall()")
        self._check_active()
        end = self._monotonic + left
        with scheduler.firing:
            self._wait_for_jobs()
            while (step := self._next_in()) <= end - self._monotonic + _ROUNDING:
                self._monotonic += step
                self._run_due()
            self._monotonic = max(self._monotonic, end)

    def set_wall(self, when: datetime) -> None:
        """Set the wall clock forward or back, as a user or a time server does.

        Monotonic time stands still meanwhile. What is due by the new time has happened when this
        returns.

        Raises:
            RuntimeError: the block has not begun, or has ended.
        """
        self._check_active()
        with scheduler.firing:
            self._lead = when.timestamp() - self._monotonic
            self._run_due()

    def _wall(self) -> float:
        return self._monotonic + self._lead

    def _check_active(self) -> None:
        if not self._is_active:
            raise RuntimeError("a FakeClock moves in its block: with FakeClock() as clock: ...")

    def _next_in(self) -> float:
        """Return the seconds until something is due; 0 if something is."""
        queues = [core.dispatcher.limited for core in active_cores()]
        dues = [each.next_due() - self._monotonic for each in queues if each is not None]
        return max(0.0, min([scheduler.next_in(), *dues]))

    def _run_due(self) -> None:
        while scheduler.run_one():
            self._wait_for_jobs()
        for core in active_cores():
            core.open_due()
        self._wait_for_jobs()

    def _wait_for_jobs(self) -> None:
        """Wait until no job runs, or can start, that is worth waiting for."""
        # This polls: a job that is retried, or waits for another, does not end.
        deadline = clock.steady() + self._patience
        while True:
            busy = {each for core in active_cores() for each in _busy(core)}
            if clock.steady() > deadline:
                self._given_up |= busy
            if busy <= self._given_up:
                return
            time.sleep(_PAUSE)


def _busy(core: "PoolCore") -> list[object]:
    """Return the jobs that run or may start now, and what is looking for one: workers, a store."""
    parked = list(core.dispatcher.parked)
    looking = [worker for worker in core.workers.all() if worker.wake not in parked]
    stores = [] if core.store is None or not core.store.is_busy else [core.store]
    return [
        *stores,
        *(worker.slot.job or worker for worker in looking),
        *core.running(),
        *(core.dispatcher.ready() if core.workers.size else ()),  # none: it is paused
    ]
