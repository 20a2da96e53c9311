"""Timer: calls that are submitted to a pool at a time, once or again and again.

A timer is an alarm of the scheduler. When it fires, its jobs are queued like any others. Until then
it is known to the scheduler, to the core of its pool, whose end it shares, and to the jobs that
wait for it: when the last of those is cancelled, so is the timer.

Locking: the scheduler's lock guards the fields of all timers, and ``core.timers``. No job is
touched under it.
"""

import logging
from collections.abc import Callable, Sequence
from contextvars import Context
from datetime import datetime
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final, Literal

from oddjob.callables import call_all
from oddjob.compat import override
from oddjob.errors import PoolClosed
from oddjob.keys import Key
from oddjob.log import log, run_in_thread
from oddjob.runtime.job import Job, new_jobs, set_due, set_waiting
from oddjob.runtime.policy import BATCH_ITEM, JobPolicy
from oddjob.schedule.clock import clock
from oddjob.schedule.scheduler import Alarm, scheduler
from oddjob.schedule.triggers import Trigger

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore

_EMPTY: Final = Context()  # shared, so that the garbage collector has less to visit
_Ending = Literal["fired", "cancelled"]


class Timer(Alarm):
    """A scheduled or recurring submission, such as ``pool.after(…).perform(…)`` returns.

    It can be read and cancelled until it fires; from then on, its jobs are ordinary queued jobs. If
    the pool is closed before, the timer is cancelled. If the pool cannot take the jobs, because it
    is broken or full, they end with the exception that says so. That is logged, and kept in
    `error`; a recurring timer goes on.

    Attributes:
        fired: how often the timer has fired.
        missed: how many firings were left out: those that came too late, and those that came while
            the jobs of the previous firing had not ended.
        error: why the pool refused the jobs of a firing, the latest if there were several.

    Thread safety: all methods may be called from any thread, and from signal handlers.
    """

    # There may be many timers, so the garbage collector is shown few objects for each.

    __slots__ = ("_args", "_context", "_core", "_ending", "_fn", "_jobs", "_key", "_kwargs",
                 "_models", "_overlap", "_owner", "_policy", "_trigger", "_waiting",
                 "error", "fired", "missed")  # fmt: skip

    def __init__(
        self,
        trigger: Trigger,
        core: "PoolCore",
        policy: JobPolicy,
        fn: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Any,
        context: Context,
        key: Key | None,
        owner: object,
        keeps_process: bool = False,
        overlap: bool = False,
    ) -> None:
        """Set the timer.

        `fn`, `args`, `kwargs`, `context` and `key` are those of the jobs, see `new_jobs`; with
        BATCH_ITEM, `args` are the items of a batch. `owner` is kept until the timer ends, so that
        an anonymous pool is not collected before. If it `keeps_process`, the process does not end
        before the timer does. Unless firings may `overlap`, one is left out if the jobs of the
        previous one have not ended.

        Raises:
            PoolClosed, PoolBroken: the pool takes no jobs.
            ValueError: the time of the trigger has passed by now.
            Exception: no thread could be started, or the key function or the middleware raised.
        """
        self._trigger = trigger
        self._core = core
        self._policy = policy
        self._fn: Any = fn
        self._args = args
        self._kwargs = kwargs
        self._context: Any = context or _EMPTY
        self._key = key
        self._owner: object = owner
        self._overlap = overlap
        self._models: Sequence[Job[Any]] = ()  # of the jobs of a recurring timer
        self._jobs: Sequence[Job[Any]] = ()  # those that wait, or else those of the latest firing
        self._ending: _Ending | None = None  # None: it will fire (again)
        self.fired = self.missed = 0
        self.error: Exception | None = None
        # Keys are computed, and middleware is asked, here and not in the scheduler's thread.
        if trigger.repeats:
            self._models = self._job_maker()(inf)
        elif policy.is_prepared or not policy.is_detached:
            self._jobs = self._job_maker()(inf)
            self._waiting = len(self._jobs)
            for job in self._jobs:
                set_waiting(job, self)
        if keeps_process:
            keeps_process = kwargs is not BATCH_ITEM or bool(args)  # an empty batch does not
            core.ensure_worker()  # no thread can be started at the end of the process (3.12)
        at = trigger.first()
        with scheduler.lock:
            scheduler.set_alarm(self, at, trigger.is_wall, keeps_process)
            core.timers[self] = None
        # Asked only now that a thread which closes the pool can find the timer.
        refusal = core.state.refusal()
        if refusal is not None:
            self.cancel()
            raise refusal

    @override
    def __repr__(self) -> str:
        left = self.remaining()
        state = f"next in {left:g} s" if left is not False else self._ending
        return f"<Timer {self._trigger!r}, pool {self._core.label}, {state}>"

    @property
    def pool(self) -> Any:
        """The pool that the jobs are submitted to; None once an anonymous one was collected."""
        return self._core.pool

    @property
    def jobs(self) -> list[Job[Any]]:
        """The jobs that wait for the timer or, once it has fired, those of its latest firing.

        The list is empty if the calls were given to ``perform`` or ``perform_many``.
        """
        return [] if self._policy.is_detached else list(self._jobs)

    @property
    def cancelled(self) -> bool:
        """Whether the timer was cancelled before it fired (for the last time)."""
        return self._ending == "cancelled"

    @property
    def fires_at(self) -> datetime:
        """The date of the next firing; if there is none, when the last one was due."""
        return self._trigger.date_of(self._at)

    @property
    def next(self) -> datetime | None:
        """The date of the next firing; None if there is none."""
        return None if self.remaining() is False else self.fires_at

    def remaining(self) -> float | Literal[False]:
        """Return the seconds until the next firing; False if there is none."""
        with scheduler.lock:
            return False if self._ending is not None else max(0.0, self._remaining())

    def cancel(self) -> float | Literal[False]:
        """Cancel the timer and the jobs that wait for it.

        Returns:
            The seconds that were left; False if the timer has fired, or was cancelled before.

        Callbacks of cancelled jobs run in the calling thread.
        """
        with scheduler.lock:
            if self._ending is not None:
                return False
            left = scheduler.cancel(self)
            if left is None and not self._trigger.repeats:  # it is firing
                return False
            self._end("cancelled")
        if not self._trigger.repeats:
            call_all(job.cancel for job in self._jobs)
        return left or 0.0

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
            if not self._waiting and scheduler.cancel(self) is not None:
                self._end("cancelled")

    @override
    def _fire(self) -> None:
        try:
            following = self._trigger.after(self._at)
        except BaseException:  # of a time zone that a user has written
            self.cancel()
            raise
        with scheduler.lock:
            if self._ending is not None:  # it was cancelled meanwhile
                return
            make_jobs = self._job_maker()
            self.missed += following.missed
            if following.at is None:
                self._end("fired")
            else:
                scheduler.set_alarm(self, following.at, self._trigger.is_wall)
        if following.fires_now:
            self._submit(make_jobs)

    def _job_maker(self) -> Callable[[float], list[Job[Any]]]:
        """Return what makes the jobs of a firing; it takes the time at which they are queued."""
        calls = self._args if self._kwargs is BATCH_ITEM else (self._args,)
        call = self._fn, calls, self._kwargs, self._context, self._key
        return partial(new_jobs, self._policy, *call, models=self._models)

    def _submit(self, make_jobs: Callable[[float], list[Job[Any]]]) -> None:
        """Queue the jobs of a firing, unless those of the previous one have to end first."""
        repeats = self._trigger.repeats
        if repeats and not self._overlap and not all(job.done() for job in self._jobs):
            self.missed += 1
            return
        self.fired += 1
        now = clock.monotonic()
        jobs = make_jobs(now) if repeats or not self._jobs else self._jobs
        if repeats:
            self._jobs = jobs
        for job in jobs:
            set_due(job, now)
        waiting = [job for job in jobs if not job.done()]
        if waiting:
            self._core.accept_fired(waiting, self._note_refusal)
            if self._core.standbys:
                self._core.wake_waiters()  # a thread that waits for one of these may have to run it

    def _note_refusal(self, error: Exception) -> None:
        """Keep and log why the pool refused the jobs of a firing."""
        self.error = error
        if not isinstance(error, PoolClosed):  # a pool that closes is about to cancel the timer
            message = "%r could not queue its jobs: %r"
            report = partial(log, logging.WARNING, message, self, error)
            run_in_thread(report, "oddjob-log")  # a log handler may take any time

    def _end(self, ending: _Ending) -> None:
        """Let the timer be over, and let go of its call; the caller holds the lock."""
        self._ending = ending
        self._core.timers.pop(self, None)
        self._fn = self._kwargs = self._context = self._key = self._owner = None
        self._args = self._models = ()


def cancel_timers(core: "PoolCore") -> list[Timer]:
    """Cancel the timers of a pool that has been closed; return those that had not ended."""
    with scheduler.lock:
        timers = list(core.timers)
    call_all(timer.cancel for timer in timers)
    return [timer for timer in timers if timer.cancelled]
