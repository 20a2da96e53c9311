"""Job: one unit of work and its future in one object.

A job is passive. It holds its call, its policy and its state. `oddjob.runtime.execution` runs it,
and it reaches its pool through the `PoolCore` of its policy.

Guarantees: the call (function, arguments, context) is released when the job ends.
Locking: see `oddjob.runtime.shared_state`; ``install_lock`` guards the creation of the lazy parts.
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
from oddjob.runtime.settling import interrupt, run_callbacks, settle_cancelled
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
        print(job.state, job.why())  # why it has not ended
        page = job.result(timeout=10)  # or: await job

    Within the job's function, `oddjob.current_job` returns it.

    Thread safety: all methods may be called from any thread, and from signal handlers; a
    destructor may cancel a job, but must not wait for one.
    """

    # `_kwargs`       call, and context
    # a dict          ``fn(*_args, **_kwargs)``, in the job's own context; None stands for ``{}``
    # ONE_ARGUMENT    ``fn(_args)``, in the context that its batch shares, copied when the job runs
    #
    # `_fast_state`   written by the thread that runs the job, without a lock
    # `_local_state`  what this process knows, from that, `SharedState` and `_queued_at`
    # `state`         the same, but the store is asked about a stored job that is queued here

    __slots__ = ("_args", "_context", "_details", "_fair_key", "_fast_state", "_fn",
                 "_key", "_kwargs", "_name", "_number", "_outcome", "_policy", "_queued_at",
                 "_shared")  # fmt: skip

    _number: Any  # set by the limited queue: the place in it, an int or a `Place`
    _fair_key: Key | None  # set by the option ``fair_by``, otherwise unset
    _outcome: Any  # the result, or a `Failure` (so mypy cannot narrow it); unset before the end

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
        # The base class is not initialized: a job does not need its condition and lists.
        self._fn: Any = fn
        self._args: Any = args
        self._kwargs: Any = kwargs
        self._context: Any = context
        self._policy: JobPolicy = policy
        self._key: Key | None = key
        # Monotonic time at which it was last queued. A value in the future means "scheduled".
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
            return self._policy.core.store.live.state_of(self)  # type: ignore[no-any-return]
        return state

    @property
    @override
    def _local_state(self) -> JobState:
        """The state as this process knows it: a job in a store is queued until it has ended."""
        # Read first: if no `SharedState` is installed afterwards, this value was authoritative.
        state = self._fast_state
        shared = self._shared
        if shared is not None and state not in ENDED:
            state = shared.state
        return SCHEDULED if state is QUEUED and self._queued_at > clock.monotonic() else state

    @property
    def id(self) -> str:
        """The job's identifier. With a store: that of its record, "" before the commit."""
        details = self._ensure_details()
        is_to_be_stored = self._policy.is_durable and self._local_state in (QUEUED, SCHEDULED)
        if details.id is None and not is_to_be_stored:
            with install_lock.lock:
                details.id = details.id or os.urandom(16).hex()
        return details.id or ""

    @property
    def name(self) -> str:
        """The name given by ``options(name=…)``, else the qualified name of the function."""
        return self._name or describe(self._fn)

    @property
    def pool(self) -> Any:
        """The pool that the job was submitted to; None once an anonymous pool was collected."""
        return self._policy.core.pool

    @property
    def priority(self) -> int:
        """The priority: among queued jobs, those with a higher priority start first."""
        return self._policy.priority

    @property
    def key(self) -> Key | None:
        """The key that the job shares with jobs that must not run at the same time."""
        return self._key

    @property
    def timeout(self) -> float | None:
        """How long an attempt may run, in seconds; None means no limit."""
        return self._policy.timeout

    @property
    def attempt(self) -> int:
        """The latest attempt, from 1; 0 before the first. A death of its process does not count."""
        if self._policy.is_plain:
            return int(self._local_state not in (SCHEDULED, QUEUED, CANCELLED))
        attempt = 0 if self._details is None else self._details.attempt
        is_stored = not attempt and self._policy.is_durable
        return self._policy.core.store.live.attempt_of(self) if is_stored else attempt

    @property
    def deadline(self) -> float | None:
        """When the current attempt times out, on the clock of ``time.monotonic()``; None: never."""
        return None if self._details is None else self._details.deadline

    @property
    def cancel_requested(self) -> bool:
        """Whether `cancel` was called while the job was running.

        Only a coroutine is interrupted by `cancel`. Any other job should read this where it can
        stop, and then return or raise.
        """
        return self._shared is not None and self._shared.cancel_requested

    @property
    def is_inline(self) -> bool:
        """Whether the job runs inside other code of its thread, not by itself on a worker.

        That is so if its submitter (``"caller_runs"``, inline mode) or a waiting thread runs it.
        Recorded only for middleware, which must not touch what belongs to the thread then.
        """
        return self._details is not None and self._details.is_inline

    @property
    def progress(self) -> Progress | None:
        """The latest progress that the job has reported; None if it has reported none."""
        progress = None if self._details is None else self._details.progress
        is_stored = progress is None and self._policy.is_durable
        return self._policy.core.store.live.progress_of(self) if is_stored else progress

    @property
    def queued_at(self) -> datetime | None:
        """When the job was last queued (again, for a retry); None while it is scheduled.

        For a job in a store, this and the next two times are read from its record.
        """
        return self._times().queued

    @property
    def started_at(self) -> datetime | None:
        """When the latest attempt began; None before that.

        Also None for a *plain* job that has succeeded or was cancelled: one without timeout,
        retries, serial key, middleware and store. Recording it would slow down every plain job.
        """
        return self._times().started

    @property
    def finished_at(self) -> datetime | None:
        """When the job ended; None before that, and for plain jobs as in `started_at`."""
        return self._times().finished

    @property
    def submitted_by(self) -> str | None:
        """The name of the thread or asyncio task that has submitted the job; None if unknown.

        Recorded only for jobs with middleware, in the process that has submitted them.
        """
        return None if self._details is None else self._details.submitter

    def why(self) -> str:
        """Return why the job has not ended (what it waits for, where it runs), or how it has.

        For example ``its key 'ann' is held by job send_mail, which has run for 3.1 s``. For a job
        in a store, the sentence is made from its record.
        """
        from oddjob.runtime.reasons import reason_of

        return reason_of(self)

    def _times(self) -> "JobTimes":
        from oddjob.runtime.reasons import times_of

        return times_of(self)

    def report(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Report progress, from inside the job while it runs; `progress` returns it.

        Args:
            done: how much is done, as a number of any unit.
            total: how much there is to do, in the same unit; None if that is unknown.
            note: what the job is doing, as text.

        Raises:
            RuntimeError: the job is not running, or this attempt of it has timed out.
        """
        report(self, Progress(done, total, note))

    def step(self, name: str, fn: Callable[P, V], /, *args: P.args, **kwargs: P.kwargs) -> V:
        """Run ``fn(*args, **kwargs)`` once, however often the job is tried; from inside the job.

        ::

            receipt = oddjob.current_job().step("charge", charge, order)

        Later attempts return the value that is kept under `name`: in a loop, give each step its own
        name, such as ``f"charge {item}"``. A failure is not kept. If the attempt times out during a
        step, or its process dies, the step runs again. If `fn` is a coroutine function, await this.

        Raises:
            JobLost: the job was taken over by another process; it should end.
            RuntimeError: the job is not running, or this attempt of it has timed out.
            StoreFull, StoreUnusable, TypeError: the value could not be stored.
        """
        try:
            return run_step(self, name, fn, args, kwargs)  # type: ignore[no-any-return]
        finally:
            del self  # see the rule in `execution`

    def transaction(self) -> "AbstractContextManager[sqlite3.Connection]":
        """Give the job a connection on which it writes exactly once; from inside the job.

        Use it as ``with job.transaction() as connection:``, in a pool whose store is a SQLite file.
        The writes are committed together with the job's outcome when the function returns; if it
        raises, they are rolled back. Until then no other connection can write to the file, and the
        job has to submit jobs with `Pool.using`: make it the last thing that a job does.

        Raises:
            JobLost: the job was taken over by another process; it should end.
            RuntimeError: the job is not running, has a transaction, or is in no SQLite store.
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
        name = self._policy.core.name
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
        """Return whether the job was cancelled before it started, or has stopped as requested."""
        return self._local_state is CANCELLED

    @override
    def cancel(self) -> bool:
        """Cancel the job if it has not started; otherwise ask it to stop.

        A running thread cannot be stopped: `cancel_requested` becomes true, and the job is not
        retried if it fails. If it is a coroutine, the coroutine is cancelled.

        Returns:
            True if the job is cancelled, by this call or before; otherwise False.

        Callbacks of a cancelled job run in the calling thread.
        """
        try:
            if settle_cancelled(self):
                run_callbacks(self)
        except BaseException:  # Ctrl-C may come too late to prevent the cancellation
            if self._local_state is CANCELLED:
                run_callbacks(self)
            raise
        is_cancelled = self._local_state is CANCELLED  # first: a coroutine may end at once
        interrupt(self)
        return is_cancelled

    @override
    def result(self, timeout: Seconds | None = None) -> T:
        """Wait until the job has ended, and return what it returned.

        On a worker of the job's own pool, if no other worker is free to take the job from the
        queue, this runs the job at once, so that jobs which wait for jobs of their own pool do not
        deadlock. `timeout` does not interrupt such a run.

        Args:
            timeout: the longest wait, in seconds; None or ``math.inf`` means no limit.

        Raises:
            TimeoutError: the job has not ended within `timeout`.
            CancelledError: the job was cancelled.
            JobLost: the job was queued when this process was forked, so the parent runs it.
            BaseException: whatever the job raised.
        """
        if self._fast_state is not SUCCEEDED:
            self._wait(timeout)
            if self._fast_state is not SUCCEEDED:
                try:
                    return self._read()
                finally:
                    del self  # an exception that is raised here refers to this frame
        return self._outcome  # type: ignore[no-any-return]

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
        """Call ``fn(job)`` when the job ends, or at once if it has ended.

        Callbacks run in the order in which they were added, in the thread that ends the job. What
        they raise is logged; a ``BaseException`` is also raised there, once all have run.
        """
        self._ensure_shared().add_callback(self, fn)

    def __await__(self) -> Generator[Any, None, T]:
        try:
            yield from self._policy.core.wait_in_loop(self)
            return self._read()
        finally:
            del self

    # Used by the files of this folder.

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
            if seconds > 0 and self._policy.core.run_where_awaited(self, deadline):
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
            return self._outcome  # type: ignore[no-any-return]
        finally:
            del self, failure
