"""Timer: calls that come to a pool later, once or again and again.

Each has an alarm at the scheduler. When that rings, the timer's jobs are queued as any others.
Until then they are known here alone, in the *book*: by the pool they are meant for, whose end is
theirs, and by job, so that one that is cancelled takes its timer with it.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from math import inf
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

from oddjob.errors import PoolClosed
from oddjob.fire_and_forget import FireAndForget
from oddjob.fork import in_child
from oddjob.job import Job
from oddjob.log import say_whatever_comes
from oddjob.schedule.clock import clock
from oddjob.schedule.plans import Plan
from oddjob.schedule.scheduler import Alarm, scheduler

__all__ = ["Timer", "cancel_all", "cancel_timers_of", "forget", "has_forgotten", "when_queued"]


K = TypeVar("K")
V = TypeVar("V")

_FEW: Final = 64  # entries for which no room is given back


class Host(Protocol):
    """What a timer asks of the workforce that runs its jobs."""

    @property
    def label(self) -> str:
        """What its pool is called in the log."""

    def take_up(self, jobs: Sequence[Job[Any]]) -> Exception | None:
        """Queue jobs, without waiting; returns why they were not, and have ended so."""


class Timer:
    """Something that is to come to a pool at a time: what `perform` of ``pool.after(…)`` returns.

    It can be read and cancelled until it fires; then its jobs are ordinary queued jobs. If the pool
    is closed before, the timer is cancelled. If it cannot take the jobs when they come, as it is
    broken or full, these end with the error that says so, which is logged, and kept as `error`; a
    timer that repeats goes on.

    Thread safety: all methods may be called from any thread, and from signal handlers.
    Locking: the scheduler's lock guards the fields.
    """

    __slots__ = ("_alarm", "_due", "_is_off", "_jobs", "_keeps_process", "_make", "_overlap",
                 "_plan", "_pool", "_workforce", "error", "fired", "missed")  # fmt: skip

    def __init__(
        self,
        plan: Plan,
        pool: Any,
        workforce: Host,
        make: Callable[[], Sequence[Job[Any]]],
        *,
        keeps_process: bool = False,
        overlap: bool = False,
    ) -> None:
        self._plan: Final = plan
        self._pool: Final = pool  # an anonymous one must not be collected before
        self._workforce: Final = workforce
        self._make: Callable[[], Sequence[Job[Any]]] | None = make if plan.repeats else None
        self._jobs: Sequence[Job[Any]] = () if plan.repeats else make()
        self._keeps_process: Final = keeps_process
        self._overlap: Final = overlap
        self._is_off = False
        self.fired = 0
        self.missed = 0
        self.error: Exception | None = None
        self._due = plan.first()
        self._alarm: Alarm | None = None
        with scheduler.lock:
            _book.add(self)
            try:
                self._set_alarm(self._due)
            except BaseException:
                _book.remove(self)
                raise

    def __repr__(self) -> str:
        left = self.remaining()
        state = "cancelled" if self.cancelled else "fired"
        when = state if left is False else f"next in {left:g} s"
        return f"<Timer {self._plan!r}, pool {self._workforce.label}, {when}>"

    @property
    def pool(self) -> Any:
        """The pool that its jobs come to."""
        return self._pool

    @property
    def job(self) -> Job[Any]:
        """The one job of a timer that was just set for one."""
        return self._jobs[0]

    @property
    def jobs(self) -> list[Job[Any]]:
        """The jobs that wait for the timer, or else those of the last time that it fired.

        Those that nobody is to wait for, as they were given to `perform`, are not among them.
        """
        return [job for job in self._jobs if not isinstance(job, FireAndForget)]

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled before it had fired (for the last time)."""
        return self._is_off

    @property
    def fires_at(self) -> datetime:
        """When it fires next or, if it does not any more, when it was last to do so."""
        return self._plan.date_of(self._due)

    @property
    def next(self) -> datetime | None:
        """When it fires next; None if it does not any more."""
        return None if self.remaining() is False else self.fires_at

    def remaining(self) -> float | Literal[False]:
        """In how many seconds it fires next; False if it has fired, or was cancelled."""
        with scheduler.lock:
            alarm = self._alarm
            if alarm is None or alarm.act is None:
                return False
            return max(0.0, alarm.remaining())

    def cancel(self) -> float | Literal[False]:
        """Have it not fire any more; jobs that wait for it are cancelled.

        Returns the seconds that were left, or False if it had fired, or was cancelled before.
        Done-callbacks of the jobs run in the calling thread.
        """
        with scheduler.lock:
            left = self._switch_off()
            jobs = list(self._jobs) if left is not False and self._make is None else []
        for job in jobs:
            job.cancel()
        return left

    # Inside.

    def _set_alarm(self, at: float) -> None:
        self._due = at
        self._alarm = Alarm(
            self._ring, at, is_wall=self._plan.is_wall, keeps_process=self._keeps_process
        )
        scheduler.set(self._alarm)

    def _switch_off(self) -> float | Literal[False]:
        """With the scheduler's lock held: be over, as if it had never been."""
        alarm = self._alarm
        if alarm is None or self._is_off:
            return False
        left = scheduler.switch_off(alarm)
        if left is None and self._make is None:
            return False  # it has fired
        self._is_off = True
        _book.remove(self)
        return left or 0.0

    def lose(self) -> None:
        """In a forked child: be over, the jobs are the parent's."""
        self._alarm = None
        self._is_off = True

    def note_loss(self) -> None:
        """Be told that one of its jobs was cancelled."""
        with scheduler.lock:
            if self._make is None and all(job.done() for job in self._jobs):
                self._switch_off()

    def _ring(self) -> None:
        """Queue the jobs; the scheduler's thread, or that of a test."""
        make = self._make
        following = self._plan.after(self._due)
        with scheduler.lock:
            if self._is_off:
                return
            self.missed += following.missed
            if following.at is None:
                _book.remove(self)
            else:
                self._set_alarm(following.at)
        if not following.fires_now:
            return
        if make is not None:
            if not self._overlap and not all(job.done() for job in self._jobs):
                self.missed += 1
                return
            try:
                self._jobs = make()
            except Exception as failure:  # of a function that tells a key
                self._note(failure)
                return
        self.fired += 1
        jobs = [job for job in self._jobs if not job.done()]
        now = clock.monotonic()
        for job in jobs:
            job.queued_at = now
        try:
            error = self._workforce.take_up(jobs) if jobs else None
        finally:
            _book.tell(jobs)
            if make is None:
                self._jobs = self.jobs
        if error is not None:
            self._note(error)

    def _note(self, error: Exception) -> None:
        self.error = error
        if isinstance(error, PoolClosed):
            self.cancel()  # as it would have been a moment later
            return
        what = "%r could not queue its jobs: %r"
        say_whatever_comes(logging.WARNING, what, self, error)


class _Roll(Generic[K, V]):
    """A dict that gives back the room of what was taken out.

    Locking: the scheduler's lock; ``entries`` may be read without. A signal handler or a destructor
    that comes in between finds it whole, and what it does is kept: the dict is replaced only if
    nothing has changed since it was copied, and no call stands between seeing that and doing so.
    """

    __slots__ = ("_changes", "_most", "entries")

    def __init__(self) -> None:
        self.entries: dict[K, V] = {}
        self._changes = 0
        self._most = _FEW  # entries since it was last made small

    def add(self, key: K, value: V) -> None:
        """Put in an entry."""
        self._changes += 1
        self.entries[key] = value
        self._most = max(self._most, len(self.entries))

    def strike(self, key: K) -> None:
        """Take out an entry, if it is there."""
        self._changes += 1
        self.entries.pop(key, None)
        while self._most > _FEW and len(self.entries) < self._most // 4:
            changes = self._changes
            left = dict(self.entries)
            if changes == self._changes:
                self.entries = left
                self._most = max(_FEW, len(left))


class _Book:
    """The timers that have not fired, and the jobs that wait for them.

    Locking: the scheduler's lock.
    """

    def __init__(self) -> None:
        self.by_host: dict[Host, _Roll[Timer, None]] = {}
        self.by_job: _Roll[Job[Any], Timer] = _Roll()
        self.watched: dict[Job[Any], list[Callable[[], object]]] = {}

    def add(self, timer: Timer) -> None:
        """Enter a timer."""
        timers = self.by_host.get(timer._workforce)
        if timers is None:
            timers = self.by_host[timer._workforce] = _Roll()
        timers.add(timer, None)
        for job in timer.jobs:
            self.by_job.add(job, timer)

    def remove(self, timer: Timer) -> None:
        """Take one out."""
        timers = self.by_host.get(timer._workforce)
        if timers is not None:
            timers.strike(timer)
            if not timers.entries:
                del self.by_host[timer._workforce]

    def tell(self, jobs: Collection[Job[Any]]) -> None:
        """Tell those who wait for it that jobs have been queued, or never will be."""
        for job in jobs:
            with scheduler.lock:
                self.by_job.strike(job)
                acts = self.watched.pop(job, [])
            for act in acts:
                act()

    def begin_anew(self) -> None:
        """In a forked child, where the timers are another process's."""
        for timers in self.by_host.values():
            for timer in timers.entries:
                timer.lose()
        self.__init__()  # type: ignore[misc]  # it is as new


_book: Final = _Book()
in_child(_book.begin_anew)


def cancel_timers_of(host: Host) -> list[Timer]:
    """Cancel the timers of a workforce that is being closed; returns those that were not before."""
    with scheduler.lock:
        roll = _book.by_host.get(host)
        timers = [] if roll is None else list(roll.entries)
    return [timer for timer in timers if timer.cancel() is not False]


def cancel_all() -> None:
    """Cancel every timer, since the interpreter ends."""
    with scheduler.lock:
        hosts = list(_book.by_host)
    for host in hosts:
        cancel_timers_of(host)


def forget(job: Job[Any]) -> None:
    """Be told that a job was cancelled while it waited for its time."""
    timer = _book.by_job.entries.get(job)
    _book.tell([job])
    if timer is not None:
        timer.note_loss()


def has_forgotten(job: Job[Any]) -> bool:
    """Whether a job waits for a time that will not come in this process."""
    return job.queued_at == inf and job not in _book.by_job.entries


def when_queued(job: Job[Any], act: Callable[[], object]) -> bool:
    """Have something quick called when a job's time has come; false if it has, or was cancelled."""
    with scheduler.lock:
        waits = job in _book.by_job.entries
        if waits:
            _book.watched.setdefault(job, []).append(act)
        return waits
