"""Timer: calls that are submitted to a pool at a time, once or again and again.

`Timer` is what users see. Of jobs that are stored it is a view of the store, which waits for them
(see `oddjob.durable.timers`). Of all others it is a `MemoryTimer`, an alarm of the scheduler: when
it fires, its jobs are queued like any others. Until then it is known to the scheduler, to the core
of its pool, whose end it shares, and to the jobs that wait for it: when the last of those is
cancelled, so is the timer.

Keys are computed, and middleware is asked, in the thread that sets the timer, not in that of the
scheduler: so the jobs are made at once, or, if it fires again and again, models of them, whose keys
and carriers the jobs of each firing take over.

Locking: the scheduler's lock guards the fields of all timers, and ``core.timers``. No job is
touched under it.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextvars import Context
from datetime import datetime
from math import inf
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from oddjob.callables import call_all, describe
from oddjob.compat import override
from oddjob.errors import PoolClosed
from oddjob.keys import Key
from oddjob.runtime.job import Job
from oddjob.runtime.links import set_due, set_waiting
from oddjob.runtime.middleware import recurring_by
from oddjob.runtime.new_jobs import new_jobs
from oddjob.runtime.policy import JobPolicy
from oddjob.schedule.clock import clock
from oddjob.schedule.scheduler import Alarm, log_in_thread, scheduler
from oddjob.schedule.triggers import Trigger

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


class Calls(NamedTuple):
    """What a timer submits, as `new_jobs` takes it."""

    policy: JobPolicy
    fn: Callable[..., Any]
    arguments: Sequence[Any]  # of each call
    kwargs: Any
    context: Context
    key: Key | None


class Timer(ABC):
    """A scheduled or recurring submission, such as ``pool.after(…).perform(…)`` returns.

    It can be read and cancelled until it fires; from then on, its jobs are ordinary queued jobs. If
    the pool is closed before, the timer is cancelled. If the pool cannot take the jobs, because it
    is broken or full, they end with the exception that says so. That is logged, and kept in
    `error`; a recurring timer goes on.

    In a pool with a store, what is to come is in the store, and does not end with the pool or the
    process: any process that consumes the pool runs it. The timer is a view of that. A recurring
    one is the same in all processes that set it: cancelling it cancels it for all of them.

    Thread safety: all methods may be called from any thread, and from signal handlers.
    """

    __slots__ = ()

    _error: Exception | None
    _fired: int
    _missed: int

    @property
    @abstractmethod
    def pool(self) -> Any:
        """The pool that the jobs are submitted to; None once an anonymous one was collected."""

    @property
    @abstractmethod
    def jobs(self) -> list[Job[Any]]:
        """The jobs that wait for the timer or, once it has fired, those of its latest firing.

        The list is empty if the calls were given to ``perform`` or ``perform_many``, and of a
        recurring timer in a store, whose jobs may run in other processes.
        """

    @property
    @abstractmethod
    def cancelled(self) -> bool:
        """Whether the timer was cancelled before it fired (for the last time)."""

    @property
    def fired(self) -> int:
        """How often the timer has fired."""
        return self._fired

    @property
    def missed(self) -> int:
        """How many firings were left out.

        Those are the ones that came too late, and those that came while the jobs of the previous
        firing had not ended.
        """
        return self._missed

    @property
    def error(self) -> Exception | None:
        """Why the pool refused the jobs of a firing, the latest if there were several."""
        return self._error

    @property
    @abstractmethod
    def fires_at(self) -> datetime:
        """The date of the next firing; if there is none, when the last one was due."""

    @property
    def next(self) -> datetime | None:
        """The date of the next firing; None if there is none."""
        return None if self.remaining() is False else self.fires_at

    @abstractmethod
    def remaining(self) -> float | Literal[False]:
        """Return the seconds until the next firing; False if there is none."""

    @abstractmethod
    def cancel(self) -> float | Literal[False]:
        """Cancel the timer and the jobs that wait for it.

        Returns:
            The seconds that were left; False if the timer has fired, or was cancelled before. Ask
            ``is False``: a timer that was due, or paused, had 0.0 left.

        Callbacks of cancelled jobs run in the calling thread.
        """

    @abstractmethod
    def pause(self) -> bool:
        """Hold the timer back until `resume`; return False if it is over, or paused already.

        A paused timer has no `next` firing, and does not keep the process alive.

        Raises:
            RuntimeError: its jobs are in a store, and due once.
        """

    @abstractmethod
    def resume(self) -> bool:
        """Let a paused timer fire again; return False if it is not paused.

        If firings were due meanwhile, one of them happens at once, as after a pause of the machine.
        """

    @abstractmethod
    def run_now(self) -> bool:
        """Fire the timer now, also if it is paused; return False if it does not fire.

        A recurring one fires at its times all the same. It does not fire now if it is over, or if
        the jobs of the previous firing have not ended, unless they may overlap.
        """


class MemoryTimer(Timer, Alarm):
    """A timer whose jobs live in this process."""

    __slots__ = ("_calls", "_core", "_due", "_ending", "_error", "_fired", "_is_detached",
                 "_is_paused", "_jobs", "_keeps_process", "_missed", "_models", "_overlap",
                 "_owner", "_trigger", "_waiting")  # fmt: skip

    def __init__(
        self,
        trigger: Trigger,
        core: "PoolCore",
        calls: Calls,
        owner: object,
        keeps_process: bool,
        overlap: bool,
    ) -> None:
        """Set the timer.

        `owner` is kept until the timer ends, so that an anonymous pool is not collected before. If
        it `keeps_process`, the process does not end before the timer does. Unless firings may
        `overlap`, one is left out if the jobs of the previous one have not ended.

        Raises:
            PoolClosed, PoolBroken: the pool takes no jobs.
            ValueError: the time of the trigger has passed by now.
            Exception: no thread could be started, or the key function or the middleware raised.
        """
        self._trigger = trigger
        self._core = core
        self._is_detached: Final = calls.policy.is_detached
        self._owner = owner
        self._overlap = overlap
        self._models: Sequence[Job[Any]] = ()  # of the jobs of a recurring timer
        self._jobs: Sequence[Job[Any]] = ()  # those that wait, or else those of the latest firing
        self._ending: Literal["fired", "cancelled"] | None = None  # None: it will fire (again)
        self._fired = self._missed = 0
        self._error = None
        if trigger.repeats:
            with recurring_by(trigger):
                self._models = new_jobs(*calls, inf)
        elif calls.policy.is_prepared or not self._is_detached:
            self._jobs = new_jobs(*calls, inf)
            self._waiting = len(self._jobs)
            for job in self._jobs:
                set_waiting(job, self)
        self._calls = None if self._jobs else calls  # of jobs that are yet to be made
        if keeps_process:
            core.intake.ensure_worker()  # no thread can be started at the end of the process (3.12)
        # An empty batch keeps no process.
        self._keeps_process = keeps_process and bool(calls.arguments)
        self._is_paused = False
        self._due = trigger.first()
        with scheduler.lock:
            self._set_alarm()
            core.timers[self] = None
        try:  # asked only now that a thread which closes the pool can find the timer
            core.state.check_open()
        except Exception:
            self.cancel()
            raise

    @override
    def __repr__(self) -> str:
        left = self.remaining()
        state = f"next in {left:g} s" if left is not False else self._ending or "paused"
        return f"<Timer {self._trigger!r}, pool {self._core.label}, {state}>"

    @property
    @override
    def pool(self) -> Any:
        return self._core.pool

    @property
    def name(self) -> str:
        """The name of its jobs."""
        calls, jobs = self._calls, self._jobs
        if calls is None:
            return jobs[0].name if jobs else ""
        return calls.policy.name or describe(calls.fn)

    @property
    def trigger(self) -> Trigger:
        """What says when it fires."""
        return self._trigger

    @property
    def repeats(self) -> bool:
        """Whether it may fire more than once."""
        return self._trigger.repeats

    @property
    @override
    def jobs(self) -> list[Job[Any]]:
        return [] if self._is_detached else list(self._jobs)

    @property
    @override
    def cancelled(self) -> bool:
        return self._ending == "cancelled"

    @property
    @override
    def fires_at(self) -> datetime:
        return self._trigger.date_of(self._at)

    @override
    def remaining(self) -> float | Literal[False]:
        with scheduler.lock:
            is_set = self._ending is None and not self._is_paused
            return max(0.0, self._remaining()) if is_set else False

    @override
    def cancel(self) -> float | Literal[False]:
        with scheduler.lock:
            if self._ending is not None:
                return False
            left = scheduler.cancel(self)
            if left is None and not (self._trigger.repeats or self._is_paused):  # it is firing
                return False
            self._end("cancelled")
        if not self._trigger.repeats:
            call_all(job.cancel for job in self._jobs)
        return left or 0.0

    @override
    def pause(self) -> bool:
        with scheduler.lock:
            if self._ending is not None or self._is_paused:
                return False
            was_set = scheduler.cancel(self) is not None
            self._is_paused = was_set or self._trigger.repeats  # else it is firing
            return self._is_paused

    @override
    def resume(self) -> bool:
        with scheduler.lock:
            if self._ending is not None or not self._is_paused:
                return False
            self._is_paused = False
            self._set_alarm()
            return True

    @override
    def run_now(self) -> bool:
        with scheduler.firing:  # no firing comes in between
            with scheduler.lock:
                calls, models = self._calls, self._models
                if self._ending is not None:
                    return False
                if not self._trigger.repeats:
                    scheduler.cancel(self)
                    self._end("fired")
            jobs = self._next_jobs(calls, models)
        self._submit(jobs or ())  # without the lock: in inline mode this runs them
        return jobs is not None

    def _set_alarm(self) -> None:
        """Let the timer fire when it is due; the caller holds the lock."""
        at = self._due + self._trigger.random_delay()
        scheduler.set_alarm(self, at, self._trigger.is_wall, self._keeps_process)

    @property
    def others(self) -> Sequence[Job[Any]]:
        """None: its jobs wait for a time, not for others."""
        return ()

    def mark_lost(self) -> None:
        """Leave the timer, and the jobs that wait for it, to the parent of a forked child."""
        self._ending = "cancelled"
        for job in self._jobs:
            set_due(job, -inf)  # like those that were queued before the fork

    def job_cancelled(self, job: Job[Any]) -> None:
        """Let go of a cancelled job that has waited; cancel the timer if none is left."""
        set_due(job, inf)  # it refers to the timer no more: there is no reference cycle
        with scheduler.lock:
            self._waiting -= 1
            if not self._waiting and (scheduler.cancel(self) is not None or self._is_paused):
                self._end("cancelled")

    @override
    def _fire(self) -> None:
        try:
            following = self._trigger.after(self._due, self._heap.now())
        except BaseException:  # of a time zone that a user has written
            self.cancel()
            raise
        with scheduler.lock:
            if self._ending is not None or self._is_paused:  # meanwhile
                return
            calls, models = self._calls, self._models  # of which `_end` lets go
            self._missed += following.missed
            if following.at is None:
                self._end("fired")
            else:
                self._due = following.at
                self._set_alarm()
        if following.fires_now:
            self._submit(self._next_jobs(calls, models) or ())

    def _next_jobs(
        self, calls: Calls | None, models: Sequence[Job[Any]]
    ) -> Sequence[Job[Any]] | None:
        """Return the jobs of a firing; None if those of the previous one have not ended."""
        repeats = self._trigger.repeats
        if repeats and not self._overlap and not all(job.done() for job in self._jobs):
            self._missed += 1
            return None
        self._fired += 1
        now = clock.monotonic()
        jobs = self._jobs if calls is None else new_jobs(*calls, now, models)
        if repeats:
            self._jobs = jobs
        for job in jobs:
            set_due(job, now)
        return jobs

    def _submit(self, jobs: Sequence[Job[Any]]) -> None:
        waiting = [job for job in jobs if not job.done()]
        if waiting:
            self._core.intake.accept_fired(waiting, self._note_refusal)
            if self._core.in_place_wakeups:
                self._core.wake_waiters()  # a thread that waits for one of these may have to run it

    def _note_refusal(self, error: Exception) -> None:
        """Keep and log why the pool refused the jobs of a firing."""
        self._error = error
        if not isinstance(error, PoolClosed):  # a pool that closes is about to cancel the timer
            log_in_thread(logging.WARNING, "%r could not queue its jobs: %r", self, error)

    def _end(self, ending: Literal["fired", "cancelled"]) -> None:
        """Let the timer be over, and let go of its calls; the caller holds the lock."""
        self._ending = ending
        self._core.timers.pop(self, None)
        self._calls = self._owner = None
        self._models = ()


def timers_of(core: "PoolCore") -> list[Timer]:
    """Return the timers of a pool that are not over, and those of its store's entries."""
    with scheduler.lock:
        timers: list[Timer] = list(core.timers)
    if core.store is not None:
        timers += core.store.entries.timers()
    return sorted(timers, key=lambda timer: timer.fires_at)


def cancel_timers(core: "PoolCore") -> list[Timer]:
    """Cancel the timers of a pool that has been closed; return those that had not ended."""
    with scheduler.lock:
        timers = list(core.timers)
    call_all(timer.cancel for timer in timers)
    return [timer for timer in timers if timer.cancelled]
