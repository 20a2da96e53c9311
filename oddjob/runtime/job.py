"""Job: one unit of work and its future in one object.

A job is passive. It knows its call, its policy and its state; `oddjob.runtime.execution` runs it,
and what it needs of its pool is the `JobHost` of its policy.

Guarantees: the call (function, arguments, context) is let go of when the job ends.
Locking: see `oddjob.runtime.shared_state`; ``install_lock`` guards the making of its lazy parts.
"""

import os
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager
from contextvars import Context
from datetime import datetime
from typing import TYPE_CHECKING, Any

from oddjob.callables import describe
from oddjob.compat import P, TypeVar, override
from oddjob.keys import Key
from oddjob.quantities import Seconds, as_wait
from oddjob.runtime.effects import begin_transaction, report, run_step
from oddjob.runtime.future import StandardFuture
from oddjob.runtime.job_state import (
    CANCELLED,
    ENDED,
    FAILED,
    QUEUED,
    RUNNING,
    SCHEDULED,
    SUCCEEDED,
    JobState,
    Progress,
)
from oddjob.runtime.policy import JobPolicy
from oddjob.runtime.settling import run_callbacks, settle_or_interrupt
from oddjob.runtime.shared_state import JobDetails, SharedState, install_lock
from oddjob.schedule.clock import clock

if TYPE_CHECKING:
    import sqlite3

    from oddjob.runtime.reasons import JobTimes

T = TypeVar("T", default=Any)
V = TypeVar("V")  # what a step returns


class Job(StandardFuture[T]):
    """One call on its way through a pool, and the future of its result.

    Pools make jobs. A job is a ``concurrent.futures.Future``, and can also be awaited::

        job = pool.submit(fetch, url)
        print(job.state, job.why())  # what it waits for
        page = job.result(timeout=10)  # or: await job

    From inside, `oddjob.current_job` returns it.

    Thread safety: all methods may be called from any thread, and from signal handlers; a
    destructor may cancel a job, but must not wait for one.
    """

    # The call is ``fn(*args)`` if kwargs is None, else ``fn(*args, **kwargs)``, in a context of its
    # own; with ONE_ARGUMENT ``fn(args)``, in a copy of the batch's context: one object less.

    __slots__ = ("_args", "_context", "_details", "_fair_key", "_fast_state", "_fn",
                 "_key", "_kwargs", "_name", "_number", "_outcome", "_policy", "_queued_at",
                 "_shared")  # fmt: skip

    _number: Any  # its place in the limited queue, which sets it: an int, or a `Place`
    _fair_key: Key | None  # of the option fair_by; unset without that
    _outcome: Any  # the result, or a Failure; unset until the job has ended

    def __init__(
        self,
        fn: Callable[..., T],
        args: Any,
        kwargs: Any,
        context: Context,
        policy: JobPolicy,
        queued_at: float,
        key: Key | None = None,
    ) -> None:
        # The base class is not initialized: its condition and lists are what a job does without.
        self._fn: Any = fn
        self._args: Any = args
        self._kwargs: Any = kwargs
        self._context: Any = context
        self._policy: JobPolicy = policy
        self._key: Key | None = key
        # In monotonic seconds; of a retry, when that was queued; in the future: it is scheduled.
        self._queued_at: float = queued_at
        self._name: str | None = policy.name
        self._fast_state: JobState = QUEUED
        self._shared: SharedState | None = None
        self._details: JobDetails | None = None

    @property
    def state(self) -> JobState:
        """``scheduled``, ``queued``, ``running``, ``succeeded``, ``failed`` or ``cancelled``."""
        state = self._local_state
        if state is QUEUED and self._policy.is_durable:
            return self._policy.host.store.live.state_of(self)  # type: ignore[no-any-return]
        return state

    @property
    @override
    def _local_state(self) -> JobState:
        """The state, as far as this process knows it; a job in a store is queued until its end."""
        state = self._fast_state  # read before `_shared`: without that it is the truth
        shared = self._shared
        if shared is not None and state not in ENDED:
            state = shared.state
        return SCHEDULED if state is QUEUED and self._queued_at > clock.monotonic() else state

    @property
    def id(self) -> str:
        """The job's identifier. In a pool with a store, the store's: "" until it is committed."""
        details = self._ensure_details()
        is_to_be_stored = self._policy.is_durable and self._local_state in (QUEUED, SCHEDULED)
        if details.id is None and not is_to_be_stored:
            with install_lock.lock:
                details.id = details.id or os.urandom(16).hex()
        return details.id or ""

    @property
    def name(self) -> str:
        """The name given with ``options(name=…)``, else the qualified name of the function."""
        return self._name or describe(self._fn)

    @property
    def pool(self) -> Any:
        """The pool that the job was submitted to; None once an anonymous pool was collected."""
        return self._policy.host.pool

    @property
    def priority(self) -> int:
        """The priority: of two queued jobs, the one with the higher priority starts first."""
        return self._policy.priority

    @property
    def key(self) -> Key | None:
        """The key that the job shares with those that must not run at the same time."""
        return self._key

    @property
    def timeout(self) -> float | None:
        """How long an attempt may run, in seconds; None: no limit."""
        return self._policy.timeout

    @property
    def attempt(self) -> int:
        """The number of the latest attempt, 1 being the first; 0 before the job has started."""
        if self._policy.is_plain:
            return int(self._local_state not in (SCHEDULED, QUEUED, CANCELLED))
        attempt = 0 if self._details is None else self._details.attempt
        is_stored = not attempt and self._policy.is_durable
        return self._policy.host.store.live.attempt_of(self) if is_stored else attempt

    @property
    def deadline(self) -> float | None:
        """When the current attempt times out, as ``time.monotonic()`` tells; None: never."""
        return None if self._details is None else self._details.deadline

    @property
    def cancel_requested(self) -> bool:
        """Whether `cancel` was called while the job was running.

        Only a coroutine is interrupted by that. Any other job should look at this where it can
        stop, and return or raise.
        """
        return self._shared is not None and self._shared.cancel_requested

    @property
    def is_inline(self) -> bool:
        """Whether the job runs inside other code of its thread, not by itself on a worker.

        A thread that waits for it may run it, or its submitter (``when_full="caller_runs"``,
        `oddjob.testing.inline`). Only known with middleware, which must then leave alone what
        belongs to the thread.
        """
        return self._details is not None and self._details.is_inline

    @property
    def progress(self) -> Progress | None:
        """What the job has reported last; None if nothing."""
        progress = None if self._details is None else self._details.progress
        is_stored = progress is None and self._policy.is_durable
        return self._policy.host.store.live.progress_of(self) if is_stored else progress

    @property
    def queued_at(self) -> datetime | None:
        """When the job was queued, the last time if it is retried; None while it is scheduled.

        Of a job in a store, these three times are those of its record, which is read for that.
        """
        return self._times().queued

    @property
    def started_at(self) -> datetime | None:
        """When the latest attempt began; None before that.

        Also None of a *plain* job that has succeeded or was cancelled: one without timeout,
        retries, serial key, middleware and store. To note it would make each of them slower.
        """
        return self._times().started

    @property
    def finished_at(self) -> datetime | None:
        """When the job ended; None before that, and of plain jobs as in `started_at`."""
        return self._times().finished

    @property
    def submitted_by(self) -> str | None:
        """The name of the thread that has submitted the job, or of its asyncio task.

        It is known of jobs that have middleware, and were not submitted in another process: to look
        it up would make each submission slower.
        """
        return None if self._details is None else self._details.submitter

    def why(self) -> str:
        """Return why the job has not ended, in a sentence: what it waits for, or where it runs.

        Such as ``its key 'ann' is held by job send_mail, which has run for 3.1 s``. Of a job in a
        store, that is what its record says.
        """
        from oddjob.runtime.reasons import reason_of

        return reason_of(self)

    def _times(self) -> "JobTimes":
        from oddjob.runtime.reasons import times_of

        return times_of(self)

    def report(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Report progress, from inside the job while it runs; `progress` shows it.

        Args:
            done: how much is done, in any unit.
            total: how much there is to do, in the same unit; None if that is unknown.
            note: what the job is doing, for people.

        Raises:
            RuntimeError: the job is not running.
        """
        report(self, Progress(done, total, note))

    def step(self, name: str, fn: Callable[P, V], /, *args: P.args, **kwargs: P.kwargs) -> V:
        """Run ``fn(*args, **kwargs)`` once, however often the job is tried; from inside the job.

        ::

            receipt = oddjob.current_job().step("charge", charge, order)

        The value is kept under `name`, and later attempts get it from there: in a loop, give each
        step its own, such as ``f"charge {item}"``. A failure is not kept. If `fn` is a coroutine
        function, await what this returns.

        Raises:
            JobLost: the job was taken over by another process; it should end.
            RuntimeError: the job is not running.
            StoreFull, StoreUnusable, TypeError: the value could not be stored.
        """
        try:
            return run_step(self, name, fn, args, kwargs)  # type: ignore[no-any-return]
        finally:
            del self  # see `execution`

    def transaction(self) -> "AbstractContextManager[sqlite3.Connection]":
        """Give the job a connection on which it writes exactly once; from inside the job.

        For ``with job.transaction() as connection:`` in a pool whose store is a file of SQLite.
        What is written is committed when the function returns, together with the job's outcome; if
        it raises, it is rolled back. Until then nobody else can write to the file, and the job has
        to submit jobs with `Pool.using`: let it be the last thing that a job does.

        Raises:
            JobLost: the job was taken over by another process; it should end.
            RuntimeError: the job is not running, has a transaction, or is in no such store.
        """
        return begin_transaction(self)

    @override
    def __repr__(self) -> str:
        state: str = self._local_state
        ending = ""
        if state is QUEUED and self._policy.is_durable:
            state = "pending"  # only the store knows more
        elif state is SUCCEEDED:
            ending = f", returned {type(self._outcome).__name__}"
        elif state is FAILED:
            ending = f", raised {type(self._outcome.error).__name__}"
        name = self._policy.host.name
        pool = "an anonymous pool" if name is None else f"pool {name!r}"
        return f"<Job {self.name} {state}{ending}, in {pool}, id {self.id}>"

    # The future.

    @override
    def running(self) -> bool:
        """Return whether a thread is running the job."""
        return self.state is RUNNING

    @override
    def done(self) -> bool:
        """Return whether the job has succeeded, failed or been cancelled."""
        return self._local_state in ENDED

    @override
    def cancelled(self) -> bool:
        """Return whether the job was cancelled before it started."""
        return self._local_state is CANCELLED

    @override
    def cancel(self) -> bool:
        """Cancel the job if it has not started; otherwise ask it to stop.

        A running thread cannot be stopped: the job finds `cancel_requested` true, and is not
        retried if it fails. If it is a coroutine, that is cancelled.

        Returns:
            True if the job is cancelled now, or was before; False if it is running or has ended.

        Callbacks of a cancelled job run in the calling thread.
        """
        try:
            if settle_or_interrupt(self):
                run_callbacks(self)
        except BaseException:  # Ctrl-C may come too late to prevent the cancellation
            if self._local_state is CANCELLED:
                run_callbacks(self)
            raise
        return self._local_state is CANCELLED

    @override
    def result(self, timeout: Seconds | None = None) -> T:
        """Wait until the job has ended, and return what it returned.

        On a worker of the job's own pool, while no other worker is free to take the job from the
        queue, this runs the job at once, so that jobs which wait for jobs of their own pool cannot
        lock it up. `timeout` does not interrupt such a run.

        Args:
            timeout: the longest wait, in seconds; None or ``math.inf``: no limit.

        Raises:
            TimeoutError: the job has not ended within `timeout`.
            CancelledError: the job was cancelled.
            JobLost: the job was queued when this process was forked: it is the parent's.
            BaseException: whatever the job raised.
        """
        if self._fast_state is not SUCCEEDED:
            self._wait(timeout)
            if self._fast_state is not SUCCEEDED:
                try:
                    return self._read()
                finally:
                    del self  # an exception that is raised here refers to this frame
        return self._outcome  # type: ignore[no-any-return]  # one slot holds either end

    @override
    def exception(self, timeout: Seconds | None = None) -> BaseException | None:
        """Wait until the job has ended, and return what it raised; None if it succeeded.

        Raises:
            TimeoutError, CancelledError, JobLost: as `result` does.
        """
        self._wait(timeout)
        try:
            return self._failure()
        finally:
            del self

    @override
    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Call ``fn(job)`` when the job has ended, or at once if it has.

        Callbacks run in the order in which they were added, in the thread that ends the job. What
        they raise is logged; a ``BaseException`` is also raised there, once all have run.
        """
        self._ensure_shared().add_callback(self, fn)

    def __await__(self) -> Generator[Any, None, T]:
        try:
            yield from self._policy.host.wait_in_loop(self)
            return self._read()
        finally:
            del self

    # For the files of this folder.

    @override
    def _ensure_shared(self) -> SharedState:
        """Return the shared state; the first call installs it (races 1 and 2)."""
        shared = self._shared
        if shared is None:
            shared = SharedState(self._fast_state)
            with shared.lock:
                with install_lock.lock:
                    if self._shared is None:
                        self._shared = shared
                if self._shared is shared:
                    shared.state = self._fast_state
            shared = self._shared
        return shared

    def _ensure_details(self) -> JobDetails:
        """Return the details; the first call makes them."""
        details = self._details
        if details is None:
            details = JobDetails()
            with install_lock.lock:
                details = self._details = self._details or details
        return details

    def _wait(self, timeout: Seconds | None) -> None:
        if self._fast_state in ENDED:
            return
        deadline = clock.steady() + (seconds := as_wait("timeout", timeout))
        try:
            if seconds > 0 and self._policy.host.run_where_awaited(self, deadline):
                return
            if not self._ensure_shared().wait(deadline):
                raise TimeoutError
        finally:
            del self

    def _failure(self) -> BaseException | None:
        state = self._local_state
        if state is CANCELLED:
            raise CancelledError
        return self._outcome.exception() if state is FAILED else None

    def _read(self) -> T:
        failure = self._failure()
        try:
            if failure is not None:
                raise failure
            return self._outcome  # type: ignore[no-any-return]  # one slot holds either end
        finally:
            del self, failure
