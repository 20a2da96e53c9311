"""Timer: calls that are submitted to a pool at a given time, once or repeatedly.

`Timer` is what users see. For stored jobs it is a view of the store, which keeps their times (see
`oddjob.durable.timers`). For all others it is a `MemoryTimer`, an alarm of the scheduler: when it
fires, its jobs are queued like any others. Until then three objects refer to it: the scheduler, the
core of its pool (which cancels it when the pool is closed), and the jobs that wait for it (when the
last one is cancelled, so is the timer).

Key functions and middleware run in the thread that sets the timer, not in the scheduler's. So the
jobs of a timer that fires once are made when it is set. A recurring timer makes *models* then; the
jobs of each firing take over their keys and carriers.

Locking: the scheduler's lock guards ``core.timers`` and the fields of all timers, except that
`_next_jobs` changes ``_fired``, ``_missed`` and ``_jobs`` under ``scheduler.firing`` alone. No job
is changed under the scheduler's lock.
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
    """The calls that a timer submits, as arguments of `new_jobs`."""

    policy: JobPolicy
    fn: Callable[..., Any]
    arguments: Sequence[Any]  # one item for each call
    kwargs: Any
    context: Context
    key: Key | None


class Timer(ABC):
    """A scheduled or recurring submission, such as ``pool.after(…).perform(…)`` returns.

    It can be read and cancelled until it fires; from then on, its jobs are ordinary queued jobs. If
    the pool is closed before, the timer is cancelled. If the pool refuses the jobs, because it is
    broken or full, they end with that exception, which is also logged and kept in `error`; a
    recurring timer goes on.

    In a pool with a store, the timer is a view of the store: its future firings are in the store.
    They outlive the pool and the process, and any process that consumes the pool runs their jobs. A
    recurring timer is shared by all processes that set it: cancelling it cancels it for all.

    Thread safety: all methods may be called from any thread, and from signal handlers.
    """

    __slots__ = ()

    _error: Exception | None
    _fired: int
    _missed: int

    @property
    @abstractmethod
    def pool(self) -> Any:
        """The pool that the jobs are submitted to; None once an anonymous pool was collected."""

    @property
    @abstractmethod
    def jobs(self) -> list[Job[Any]]:
        """The jobs that wait for the timer or, once it has fired, those of its latest firing.

        The list is empty if the calls were given to ``perform`` or ``perform_many``, and for a
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
        """How many firings were skipped.

        A firing is skipped if it comes too late, or if the jobs of the previous firing have not
        ended (unless firings may overlap).
        """
        return self._missed

    @property
    def error(self) -> Exception | None:
        """The exception with which the pool last refused the jobs of a firing; None: none."""
        return self._error

    @property
    @abstractmethod
    def fires_at(self) -> datetime:
        """The date of the next firing; if there is none, the date of the last one."""

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
            The seconds that were left; False if the timer has fired or was cancelled before. Test
            with ``is False``: a timer that was due or paused returns 0.0.

        Callbacks of cancelled jobs run in the calling thread.
        """

    @abstractmethod
    def pause(self) -> bool:
        """Stop the timer from firing until `resume`; return False if it is over or already paused.

        A paused timer has no `next` firing, and does not keep the process alive.

        Raises:
            RuntimeError: the timer fires once, and its jobs are in a store.
        """

    @abstractmethod
    def resume(self) -> bool:
        """Let a paused timer fire again; return False if it is not paused.

        If firings were due meanwhile, one of them happens at once, as after a suspended machine
        wakes up.
        """

    @abstractmethod
    def run_now(self) -> bool:
        """Fire the timer now, even if it is paused; return False if it does not fire.

        The regular firings of a recurring timer are not affected. The timer does not fire if it is
        over, or if the jobs of the previous firing have not ended (unless firings may overlap).
        """


# new        being made; another thread may cancel its jobs by then
# set        its alarm is set, or it is firing
# paused     it has no alarm until `resume`
# fired      over: it has fired, and will not fire again
# cancelled  over
_State = Literal["new", "set", "paused", "fired", "cancelled"]


class MemoryTimer(Timer, Alarm):
    """A timer whose jobs live in this process."""

    __slots__ = ("__weakref__", "_calls", "_core", "_due", "_error", "_fired", "_is_detached",
                 "_jobs", "_keeps_process", "_missed", "_models", "_overlap", "_owner", "_state",
                 "_trigger", "_waiting")  # fmt: skip

    def __init__(
        self,
        trigger: Trigger,
        core: "PoolCore",
        calls: Calls,
        owner: object,
        *,
        keeps_process: bool,
        overlap: bool,
    ) -> None:
        """Set the timer.

        Args:
            trigger: when it fires.
            core: the core of its pool.
            calls: what it submits.
            owner: referred to until the timer ends, so that an anonymous pool is not collected.
            keeps_process: whether the process must not end before the timer does. (A timer without
                calls never keeps it.)
            overlap: whether it fires though the jobs of the previous firing have not ended.

        Raises:
            PoolClosed, PoolBroken: the pool takes no jobs.
            ValueError: the time of the trigger has passed.
            Exception: no thread could be started, or a key function or the middleware raised.
        """
        self._trigger = trigger
        self._core = core
        self._is_detached: Final = calls.policy.is_detached
        self._owner = owner
        self._overlap = overlap
        self._state: _State = "new"
        self._models: Sequence[Job[Any]] = ()  # the models of a recurring timer's jobs
        self._jobs: Sequence[Job[Any]] = ()  # the jobs that wait, else those of the latest firing
        self._waiting = 0  # number of jobs that wait
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
        self._calls = None if self._jobs else calls  # kept for jobs that are made when it fires
        if keeps_process:
            core.intake.ensure_worker()  # no thread can be started at the end of the process (3.12)
        self._keeps_process = keeps_process and bool(calls.arguments)
        self._due = self._at = trigger.first()
        with scheduler.lock:
            if self._state == "new":  # otherwise another thread has just cancelled its jobs
                self._set_alarm()
                core.timers[self] = None
        try:
            scheduler.ensure_thread()
            core.state.check_open()  # a thread that closes the pool from now on finds the timer
        except BaseException:
            self.cancel()
            raise

    @override
    def __repr__(self) -> str:
        left = self.remaining()
        state = self._state if left is False else f"next in {left:g} s"
        return f"<Timer {self._trigger!r}, pool {self._core.label}, {state}>"

    @property
    @override
    def pool(self) -> Any:
        return self._core.pool

    @property
    def name(self) -> str:
        """The name of the timer's jobs."""
        calls, jobs = self._calls, self._jobs
        if calls is None:
            return jobs[0].name if jobs else ""
        return calls.policy.name or describe(calls.fn)

    @property
    def trigger(self) -> Trigger:
        """The trigger, which says when the timer fires."""
        return self._trigger

    @property
    def repeats(self) -> bool:
        """Whether the timer may fire more than once."""
        return self._trigger.repeats

    @property
    @override
    def jobs(self) -> list[Job[Any]]:
        return [] if self._is_detached else list(self._jobs)

    @property
    @override
    def cancelled(self) -> bool:
        return self._state == "cancelled"

    @property
    @override
    def fires_at(self) -> datetime:
        return self._trigger.date_of(self._at)

    @override
    def remaining(self) -> float | Literal[False]:
        with scheduler.lock:
            return max(0.0, self._remaining()) if self._state == "set" else False

    @override
    def cancel(self) -> float | Literal[False]:
        with scheduler.lock:
            left = scheduler.cancel(self) if self._state == "set" else None
            if left is None and (self._is_over() or self._is_firing_last()):
                return False
            self._end("cancelled")
        if not self._trigger.repeats:
            call_all(job.cancel for job in self._jobs)
        return left or 0.0

    @override
    def pause(self) -> bool:
        with scheduler.lock:
            if self._state != "set":
                return False
            if scheduler.cancel(self) is None and self._is_firing_last():
                return False
            self._state = "paused"
            return True

    @override
    def resume(self) -> bool:
        with scheduler.lock:
            if self._state != "paused":
                return False
            self._set_alarm()
        try:
            scheduler.ensure_thread()
        except BaseException:
            self.pause()
            raise
        return True

    @override
    def run_now(self) -> bool:
        with scheduler.firing:  # so that it does not fire meanwhile
            with scheduler.lock:
                calls, models = self._calls, self._models
                if self._is_over():
                    return False
                if not self._trigger.repeats:
                    scheduler.cancel(self)
                    self._end("fired")
            jobs = self._next_jobs(calls, models)
        self._submit(jobs or ())  # without the lock: in inline mode this runs them
        return jobs is not None

    def _set_alarm(self) -> None:
        """Make the timer fire when it is due; the caller holds the scheduler's lock."""
        self._state = "set"
        at = self._due + self._trigger.random_delay()
        scheduler.set_alarm(self, at, self._trigger.is_wall, self._keeps_process)

    def _is_over(self) -> bool:
        return self._state in ("fired", "cancelled")

    def _is_firing_last(self) -> bool:
        """Return whether a timer without an alarm is firing, and will not fire again."""
        return self._state == "set" and not self._trigger.repeats

    @property
    def others(self) -> Sequence[Job[Any]]:
        """Part of `WaitsFor`; empty, since its jobs wait for a time, not for other jobs."""
        return ()

    def mark_lost(self) -> None:
        """In a forked child: leave the timer, and the jobs that wait for it, to the parent."""
        self._state = "cancelled"
        for job in self._jobs:
            set_due(job, -inf)  # as if it had been queued before the fork

    def job_cancelled(self, job: Job[Any]) -> None:
        """Release a cancelled job that has waited; cancel the timer if no other job waits."""
        set_due(job, inf)  # breaks the reference cycle of timer and job
        with scheduler.lock:
            self._waiting -= 1
            if self._waiting or self._is_over():
                return
            if self._state != "set" or scheduler.cancel(self) is not None:  # else it is firing
                self._end("cancelled")

    @override
    def _fire(self) -> None:
        try:
            following = self._trigger.after(self._due, self._queue.now())
        except BaseException:  # raised by a user's tzinfo class
            self.cancel()
            raise
        with scheduler.lock:
            if self._state != "set":  # it was paused or cancelled meanwhile
                return
            # Read first: `_end` clears them.
            calls, models, owner = self._calls, self._models, self._owner
            self._missed += following.missed
            if following.at is None:
                self._end("fired")
            else:
                self._due = following.at
                self._set_alarm()
        scheduler.ensure_thread()  # a fake clock may have fired it, in another thread
        if following.fires_now:
            self._submit(self._next_jobs(calls, models) or ())
        del owner  # now an anonymous pool may be collected

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
                self._core.wake_waiters()  # a thread that waits for one of the jobs may run it

    def _note_refusal(self, error: Exception) -> None:
        """Keep and log the exception with which the pool refused the jobs of a firing."""
        self._error = error
        if not isinstance(error, PoolClosed):  # a pool that closes is about to cancel the timer
            log_in_thread(logging.WARNING, "%r could not queue its jobs: %r", self, error)

    def _end(self, state: Literal["fired", "cancelled"]) -> None:
        """End the timer and release its calls; the caller holds the scheduler's lock."""
        self._state = state
        self._core.timers.pop(self, None)
        self._calls = self._owner = None
        self._models = ()


def timers_of(core: "PoolCore") -> list[Timer]:
    """Return the timers of a pool that have not ended, and those of its store's entries."""
    with scheduler.lock:
        timers: list[Timer] = list(core.timers)
    if core.store is not None:
        timers += core.store.entries.timers()
    return sorted(timers, key=lambda timer: timer.fires_at)


def cancel_timers(core: "PoolCore") -> list[Timer]:
    """Cancel the timers of a closed pool; return those that had not ended."""
    with scheduler.lock:
        timers = list(core.timers)
    call_all(timer.cancel for timer in timers)
    return [timer for timer in timers if timer.cancelled]
