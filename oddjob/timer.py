"""Timer: calls that come to a pool later, once or again and again.

Each has an alarm at the scheduler. When that rings, the timer's jobs are queued as any others.
Until then they are known here alone, in the *book*: by the pool they are meant for, whose end is
theirs, and by job, so that one that is cancelled takes its timer with it.
"""

import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import partial
from math import inf
from typing import Any, Final, Literal, Protocol

from oddjob.aside import in_a_thread_of_its_own
from oddjob.errors import PoolClosed
from oddjob.fire_and_forget import FireAndForget
from oddjob.fork import in_child
from oddjob.job import Job
from oddjob.log import say_whatever_comes
from oddjob.roll import Roll
from oddjob.schedule.clock import clock
from oddjob.schedule.plans import Plan
from oddjob.schedule.scheduler import Alarm, scheduler
from oddjob.settling import settle_all

__all__ = [
    "Timer",
    "cancel_all",
    "cancel_timers_of",
    "forget",
    "has_forgotten",
    "when_queued",
    "when_queued_no_more",
]


_AGAIN: Final = 1.0  # seconds after which a plan is asked again that has failed


class Host(Protocol):
    """What a timer asks of the workforce that runs its jobs."""

    @property
    def label(self) -> str:
        """What its pool is called in the log."""

    def refusal(self) -> Exception | None:
        """Why the pool takes no jobs, as an exception to raise; None while it does."""

    @property
    def pool(self) -> Any:
        """The pool object."""

    def stand_by(self) -> None:
        """Have a worker, though there are no jobs yet."""

    def take_up(
        self, jobs: Sequence[Job[Any]], note: Callable[[Exception], object]
    ) -> Exception | None:
        """Queue jobs, without waiting; returns why they were not, and have ended so.

        If that turns out later, `note` is told.
        """


class Timer:
    """Something that is to come to a pool at a time: what `perform` of ``pool.after(…)`` returns.

    It can be read and cancelled until it fires; then its jobs are ordinary queued jobs. If the pool
    is closed before, the timer is cancelled. If it cannot take the jobs when they come, as it is
    broken or full, these end with the error that says so, which is logged, and kept as `error`; a
    timer that repeats goes on.

    Thread safety: all methods may be called from any thread, and from signal handlers.
    Locking: the scheduler's lock guards the fields.
    """

    __slots__ = ("_alarm", "_due", "_is_off", "_is_over", "_jobs", "_keeps_process", "_make",
                 "_overlap", "_plan", "_source", "_workforce", "error", "fired",
                 "missed")  # fmt: skip

    def __init__(
        self,
        plan: Plan,
        source: object,
        workforce: Host,
        make: Callable[[], Sequence[Job[Any]]],
        *,
        keeps_process: bool = False,
        overlap: bool = False,
    ) -> None:
        self._plan: Final = plan
        self._source: Final = source  # an anonymous pool must not be collected before
        self._workforce: Final = workforce
        self._make: Callable[[], Sequence[Job[Any]]] | None = make if plan.repeats else None
        self._jobs: Sequence[Job[Any]] = () if plan.repeats else make()
        self._keeps_process: Final = keeps_process and (plan.repeats or bool(self._jobs))
        self._overlap: Final = overlap
        self._is_off = False
        self._is_over = False  # it has fired for the last time
        self.fired = 0
        self.missed = 0
        self.error: Exception | None = None
        self._due = plan.first()
        if self._keeps_process:
            workforce.stand_by()  # when the interpreter ends there may be no new threads (3.12)
        self._alarm: Alarm | None = None
        with scheduler.lock:
            _book.add(self)
            try:
                self._set_alarm(self._due)
            except BaseException:
                _book.remove(self)
                _book.tell(self._jobs)
                raise
        # Now that it can be found by those who close the pool.
        refusal = workforce.refusal()
        if refusal is not None:
            self.cancel()
            raise refusal

    def __repr__(self) -> str:
        left = self.remaining()
        state = "cancelled" if self.cancelled else "fired"
        when = state if left is False else f"next in {left:g} s"
        return f"<Timer {self._plan!r}, pool {self._workforce.label}, {when}>"

    @property
    def pool(self) -> Any:
        """The pool that its jobs come to."""
        return self._workforce.pool

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
            if alarm is None or self._is_off or self._is_over:
                return False
            if alarm.act is None:  # it is firing
                return 0.0 if self._plan.repeats else False
            return max(0.0, alarm.remaining())

    def cancel(self) -> float | Literal[False]:
        """Have it not fire any more; jobs that wait for it are cancelled.

        Returns the seconds that were left, or False if it had fired, or was cancelled before.
        Done-callbacks of the jobs run in the calling thread.
        """
        with scheduler.lock:
            left = self._switch_off()
            jobs = deque(() if left is False or self._plan.repeats else self._jobs)
        settle_all(jobs, Job.cancel)
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
        if alarm is None or self._is_off or self._is_over:
            return False
        left = scheduler.switch_off(alarm)
        if left is None and not self._plan.repeats:
            return False  # it has fired
        self._is_off = True
        self._make = None
        _book.remove(self)
        return left or 0.0

    def lose(self) -> None:
        """In a forked child: be over, the jobs are the parent's."""
        self._alarm = None
        self._is_off = True

    def note_loss(self) -> None:
        """Be told that one of its jobs was cancelled."""
        with scheduler.lock:
            if not self._plan.repeats and all(job.done() for job in self._jobs):
                self._switch_off()

    def _ring(self) -> None:
        """Queue the jobs; the scheduler's thread, or that of a test."""
        try:
            following = self._plan.after(self._due)
        except Exception as failure:  # a clock that a test is just replacing may well raise
            self._note(failure)
            following = None
        with scheduler.lock:
            make = self._make
            if self._is_off:
                return
            if following is None:
                self._alarm = Alarm(self._ring, clock.monotonic() + _AGAIN)
                scheduler.set(self._alarm)
                return
            self.missed += following.missed
            if following.at is None:
                self._is_over = True
                _book.remove(self)
            else:
                self._set_alarm(following.at)
        if not following.fires_now:
            return
        if make is not None:
            if not self._overlap and not all(job.done() for job in self._jobs):
                self.missed += 1
                return
            self._fire(make())
        elif not self._plan.repeats:
            self._fire(self._jobs)

    def _fire(self, jobs: Sequence[Job[Any]]) -> None:
        self.fired += 1
        now = clock.monotonic()
        for job in jobs:
            job.queued_at = now
        self._jobs = jobs
        waiting = [job for job in jobs if not job.done()]
        error = None
        try:
            if waiting:
                error = self._workforce.take_up(waiting, self._note)
        except BaseException:  # thrown in: whether they are queued by now nobody knows
            for job in waiting:
                job.withdraw()
            raise
        finally:
            _book.tell(jobs)
            if not self._plan.repeats:
                self._jobs = self.jobs
        if error is not None:
            self._note(error)

    def _note(self, error: Exception) -> None:
        """Be told what kept the jobs out of the pool."""
        self.error = error
        if isinstance(error, PoolClosed):
            return  # whoever has closed it is about to cancel this
        what = "%r could not queue its jobs: %r"
        warn = partial(say_whatever_comes, logging.WARNING, what, self, error)
        in_a_thread_of_its_own(warn, "oddjob-warning")  # log handlers may take any time


class _Book:
    """The timers that have not fired, and the jobs that wait for them.

    Locking: the scheduler's lock.
    """

    def __init__(self) -> None:
        self.by_host: dict[Host, Roll[Timer, None]] = {}
        self.by_job: Roll[Job[Any], Timer] = Roll()
        self.watched: dict[Job[Any], list[Callable[[], object]]] = {}

    def add(self, timer: Timer) -> None:
        """Enter a timer."""
        timers = self.by_host.get(timer._workforce)
        if timers is None:
            timers = self.by_host[timer._workforce] = Roll()
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


def when_queued_no_more(job: Job[Any], act: Callable[[], object]) -> None:
    """Have it called no more."""
    with scheduler.lock:
        acts = _book.watched.get(job, [])
        if act in acts:
            acts.remove(act)


def cancel_timers_of(host: Host) -> list[Timer]:
    """Cancel the timers of a workforce that is being closed; returns those that were not before."""
    with scheduler.lock:
        roll = _book.by_host.get(host)
        timers = [] if roll is None else list(roll.entries)
    crash: BaseException | None = None
    cancelled: list[Timer] = []
    for timer in timers:
        try:
            if timer.cancel() is not False:
                cancelled.append(timer)
        except BaseException as error:  # of a callback; raised below, the others go first
            crash = crash or error
    try:
        if crash is not None:
            raise crash
    finally:
        del crash  # what is raised holds this frame
    return cancelled


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
    if job in _book.by_job.entries:  # first: before it is not, the rest has changed
        return False
    return job.queued_at == inf and not job.done()


def when_queued(job: Job[Any], act: Callable[[], object]) -> bool:
    """Have something quick called when a job's time has come; false if it has, or was cancelled."""
    with scheduler.lock:
        waits = job in _book.by_job.entries
        if waits:
            _book.watched.setdefault(job, []).append(act)
        return waits
