"""PoolCore: everything of a pool that must outlive the `Pool` object that a user holds.

Workers and jobs refer to the core, never to the `Pool`: so an anonymous pool that nothing refers to
is garbage-collected, and its core finishes the queue and ends its threads.

It creates the parts of the pool (see `_make_parts`), which reach each other through it, and answers
the questions of jobs, workers and the supervisor. `Intake` accepts jobs; everything else is in the
part named for it.

Locking: none of its own.
"""

import weakref
from collections.abc import Callable, Generator, Iterable
from math import inf
from typing import Any, Final

from oddjob.errors import JobLost
from oddjob.events import EventListener
from oddjob.options import PoolOptions
from oddjob.runtime import in_place, inline, lifecycle
from oddjob.runtime.backpressure import Backpressure
from oddjob.runtime.dispatcher import Dispatcher
from oddjob.runtime.intake import Intake
from oddjob.runtime.job import Job
from oddjob.runtime.limited_queue import LimitedQueue
from oddjob.runtime.limits import Limit
from oddjob.runtime.metrics import PoolMetrics
from oddjob.runtime.policy import JobPolicy
from oddjob.runtime.pool_ending import PoolEnding, PoolState
from oddjob.runtime.settlement import MemorySettlement, Settlement
from oddjob.runtime.settling import refuse, reopen, report_failure
from oddjob.runtime.slot import worker_slot
from oddjob.runtime.supervisor import Supervisor
from oddjob.runtime.watchdog import Watchdog
from oddjob.runtime.worker_set import WorkerSet
from oddjob.schedule.clock import clock
from oddjob.schedule.timer import MemoryTimer


class PoolCore:
    """One pool's queue, workers and supervisor."""

    def __init__(self, options: PoolOptions, name: str | None, label: str, pool: Any) -> None:
        self.options: Final = options
        self.pool_size: int = options.pool_size  # `WorkerSet.set_pool_size` changes it
        self.name = name
        self.label = label
        self.policy: JobPolicy  # for jobs without options of their own; set by the pool
        self.memory: Settlement = MemorySettlement(self.retry)
        self.settlement: Settlement = self.memory
        # A `PoolStore`, which takes jobs in place of the queue. (Its type is in a higher layer.)
        self.store: Any = None
        if options.store and name is not None:
            from oddjob.durable.pool_store import PoolStore  # loaded only if it is used

            self.store = self.settlement = PoolStore(self, name, options.store)
        self.events: Final = EventListener(label, options.on_event)
        self.timers: Final[dict[MemoryTimer, None]] = {}  # guarded by the scheduler's lock
        self._forked_at = -inf  # monotonic seconds
        self._make_parts(pool)
        self.intake: Intake = Intake(self)  # where jobs are accepted
        lifecycle.register(self)

    def _make_parts(self, pool: Any) -> None:
        # Each part may use those above it in its constructor.
        self.state: PoolState = PoolState(self.label)  # open, closed or broken
        self.metrics: PoolMetrics = PoolMetrics()
        self.supervisor: Supervisor = Supervisor(self)  # restarts workers; wakes on time
        self.dispatcher: Dispatcher = Dispatcher(self)  # the queue and the parked workers
        self.workers: WorkerSet = WorkerSet(self)  # all workers
        self.watchdog: Watchdog = Watchdog(self)  # ends jobs past their timeout
        self.backpressure: Backpressure = Backpressure(self)  # the bound; submitters waiting
        self.ending: PoolEnding = PoolEnding(self)  # shutdown, drain, breakdown
        # Called when a job ends or is queued: each wakes a thread that waits for a job of this pool
        # and may have to run it in place.
        self.in_place_wakeups: dict[Callable[[], object], None] = {}
        notify = self.supervisor.notify
        # The callback may run anywhere, so it only notifies; that needs no lock.
        self._pool = weakref.ref(pool, lambda _: notify())

    def reset_after_fork(self) -> None:
        """In a forked child: begin anew, without threads, jobs, or locks held by other threads.

        A closed pool stays closed; a paused or broken one is as new.
        """
        pool = self._pool()
        self._forked_at = clock.monotonic()
        for timer in self.timers:
            timer.mark_lost()
        self.timers.clear()
        for worker in self.workers.all():
            worker.leaving = True  # a worker that has forked must not take its parent's jobs
        if pool is not None:
            former, closed_because = self.dispatcher, self.state.closed_because
            former.mark_lost()
            self._make_parts(pool)
            self.intake.reset()
            if self.store is not None:
                self.store.reset_after_fork()
            if former.limited is not None:
                self.use_limits(former.limited.gate.reset_after_fork())
            self.state.closed_because = closed_because

    @property
    def pool(self) -> Any:
        """The `Pool`; None once an anonymous one has been collected."""
        return self._pool()

    def use_limits(self, limits: Iterable[Limit] = ()) -> LimitedQueue:
        """Make the queue respect priorities, keys, retries and these limits from now on."""
        with self.state.lock:
            try:
                limited = self.dispatcher.use_limits()
                self.intake.refresh()
            finally:
                self.dispatcher.reclaim()
        limited.gate.adopt(limits)
        self.dispatcher.wake_if_work()
        return limited

    # Called by execution, the watchdog and in-place runs.

    def is_crash(self, error: BaseException) -> bool:
        """Return whether the worker in which `error` was raised should be replaced."""
        return not isinstance(error, Exception) or isinstance(error, self.options.crash_on)

    def retry(self, job: Job[Any], delay: float) -> bool:
        """Queue a failed job again; return False if it has ended, or the pool is broken."""
        if self.state.broken_by is not None:
            return False
        if inline.runs_here():
            return reopen(job)
        limited, due = self.use_limits(), clock.monotonic() + delay
        is_open = reopen(job)
        if is_open:
            limited.post_retry(job, due)
            if job.done():  # it was cancelled in between: `post_ended` ran before `post_retry`
                limited.post_ended(job)
            self.supervisor.notify()  # this worker may be delayed, for instance by `on_event`
            if self.state.broken_by is not None:  # `break_down` ran in between, and missed it
                refuse(job, self.state.breakdown(), self)
        return is_open

    def give_back(self, job: Job[Any]) -> None:
        """Release what an ended job holds: its place in its key's line, and its limits."""
        if self.store is not None and job._policy.settlement is not self.memory:
            self.store.claimed.ended(job)
            return
        limited = self.dispatcher.limited
        if limited is not None:
            limited.post_ended(job)
            self.dispatcher.wake_if_work()
            self.wake_waiters()

    def wake_waiters(self) -> None:
        """Admit waiting submitters, and wake threads that may have to run a job in place."""
        self.backpressure.admit()
        for wake in list(self.in_place_wakeups):
            wake()

    def report_failure(
        self, job: Job[Any], error: BaseException, *, is_unseen: bool = False
    ) -> None:
        """Log a failure that no caller waits for, or has looked at, and call ``on_error``."""
        if not (is_unseen and self.is_lost(job)):  # its parent reports that one
            report_failure(self, job, error, is_unseen=is_unseen)

    def run_where_awaited(self, job: Job[Any], deadline: float) -> bool:
        """Wait for a job if the calling thread is a worker, of any pool; see `in_place`.

        Returns:
            Whether the job has ended. If not, the caller waits for it like any other thread.

        Raises:
            JobLost: no thread of this process will run it.
        """
        self.check_own(job)
        slot = worker_slot()
        if slot is None:
            return False
        try:
            return in_place.wait_in_place(job, slot, deadline)
        finally:
            del job

    def is_lost(self, job: Job[Any]) -> bool:
        """Return whether a job was pending when this process was forked: it is the parent's."""
        return job._queued_at <= self._forked_at

    def check_own(self, job: Job[Any]) -> None:
        """Raise `JobLost` if no thread of this process will run a job."""
        if self.is_lost(job):
            raise JobLost(f"pending when this process was forked, and its parent's: {job!r}")

    def wait_in_loop(self, job: Job[Any]) -> Generator[Any, None, None]:
        """Wait in the running event loop until the job has ended; see `awaiting`."""
        from oddjob.runtime.awaiting import wait_in_loop  # loads asyncio

        return wait_in_loop(job)

    def job_cancelled(self, job: Job[Any], *, is_counted: bool) -> None:
        """Remove a cancelled job from what holds it: its timer, or the queue.

        In a plain queue without a bound it stays: the worker that takes it discards it.
        """
        if is_counted:
            self.metrics.count("cancelled")
        waits_for = None if job._details is None else job._details.waits_for
        if waits_for is not None:
            waits_for.job_cancelled(job)
            return
        if self.dispatcher.limited is not None:
            self.give_back(job)
        elif self.options.max_queue is not None and self.dispatcher.remove(job):
            self.backpressure.admit()

    def interrupt(self, job: Job[Any]) -> None:
        """Cancel the coroutine of a running job; a job that is no coroutine is not affected."""
        for slot in self.workers.slots():
            if slot.job is job:
                slot.coroutines.cancel(job)

    def ask_for_workers(self) -> None:
        """Let the supervisor start workers for the waiting jobs, if there may be more workers."""
        if self.workers.room():
            self.supervisor.needs_workers = True
            self.supervisor.notify()

    # Called by the supervisor.

    def is_finished(self) -> bool:
        """Return whether the pool is closed and nothing is left to run."""
        return (
            self.state.closed_because is not None
            and not (len(self.dispatcher) or self.dispatcher.waiting_for_jobs)
            and (self.store is None or self.store.is_done)
        )

    def open_due(self) -> float:
        """Open the queued jobs and limits that have become due, and start or wake workers for them.

        Returns:
            When the next job or limit becomes due, in monotonic seconds.
        """
        limited, supervisor = self.dispatcher.limited, self.supervisor
        if limited is not None:
            limited.tidy()
        if supervisor.needs_workers:
            supervisor.needs_workers = False
            # A retried job may need a new worker: the only one may be busy by now. (If no thread
            # can be started, the place stays empty, and the supervisor tries again.)
            self.workers.start_needed()
            self.dispatcher.wake_up_to(1)
            self.wake_waiters()
        return inf if limited is None else limited.next_due()

    # Shown to users.

    def running(self) -> list[Job[Any]]:
        """Return the jobs that workers have started and that have not ended."""
        jobs = [slot.job for slot in self.workers.slots() if not slot.is_late]
        return [job for job in jobs if job is not None and not job.done()]
