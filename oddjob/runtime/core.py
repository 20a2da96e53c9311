"""PoolCore: everything of a pool that must outlive the object in the user's hands.

Workers and jobs refer to the core, never to the `Pool`: so an anonymous pool that nothing refers to
is garbage-collected, and its core finishes the queue and ends its threads.

It puts together the parts in this folder (see `_make_parts`), which know each other through it, and
answers what jobs, workers and the supervisor ask their pool. `Intake` accepts jobs; the rest is in
the part that has the name of it.

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
from oddjob.runtime.job_host import MemorySettlement, Settlement
from oddjob.runtime.limited_queue import LimitedQueue
from oddjob.runtime.limits import Limit
from oddjob.runtime.metrics import PoolMetrics
from oddjob.runtime.policy import JobPolicy
from oddjob.runtime.pool_ending import PoolEnding, PoolState
from oddjob.runtime.settling import refuse, reopen, report_failure
from oddjob.runtime.slot import slot_of
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
        self.policy: JobPolicy  # of jobs that are given no options; set by the pool
        self.memory: Settlement = MemorySettlement(self.retry)
        self.settlement: Settlement = self.memory
        self.store: Any = None  # a `PoolStore`: where jobs go in place of the queue
        if options.store and name is not None:
            from oddjob.durable.pool_store import PoolStore  # loaded by programs that use it

            self.store = self.settlement = PoolStore(self, name, options.store)
        self.events: Final = EventListener(label, options.on_event)
        self.timers: Final[dict[MemoryTimer, None]] = {}  # guarded by the scheduler's lock
        self._forked_at = -inf  # monotonic seconds
        self._make_parts(pool)
        self.intake: Intake = Intake(self)  # where jobs are accepted
        lifecycle.register(self)

    def _make_parts(self, pool: Any) -> None:
        self.state: PoolState = PoolState(self.label)  # open, closed or broken
        self.metrics: PoolMetrics = PoolMetrics()
        self.supervisor: Supervisor = Supervisor(self)  # restarts workers, and wakes parts in time
        self.dispatcher: Dispatcher = Dispatcher(self)  # the queue, and the workers that wait
        self.workers: WorkerSet = WorkerSet(self)  # all of them
        self.watchdog: Watchdog = Watchdog(self)  # ends jobs past their timeout
        self.backpressure: Backpressure = Backpressure(self)  # `max_queue`, and who waits for room
        self.ending: PoolEnding = PoolEnding(self)  # shutdown, drain, breakdown
        # Wake-up calls of threads that wait for a job of this pool and may have to run it in place.
        self.in_place_wakeups: dict[Callable[[], object], None] = {}
        notify = self.supervisor.notify
        # The callback may run anywhere, so it only notifies; that needs no lock.
        self._pool = weakref.ref(pool, lambda _: notify())

    def reset_after_fork(self) -> None:
        """In a forked child: begin without threads, jobs, and locks that other threads hold."""
        pool = self._pool()
        self._forked_at = clock.monotonic()
        for timer in self.timers:
            timer.mark_lost()
        self.timers.clear()
        for worker in self.workers.all():
            worker.leaving = True  # the one that has forked must not take its parent's jobs
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
        """Have the queue look after priorities, keys, retries and these limits from now on."""
        with self.state.lock:
            try:
                limited = self.dispatcher.use_limits()
                self.intake.refresh()
            finally:
                self.dispatcher.reclaim()
        limited.gate.adopt(limits)
        self.dispatcher.wake_if_work()
        return limited

    # What execution, watchdog and in-place runs ask for.

    def is_crash(self, error: BaseException) -> bool:
        """Return whether a worker that has run into `error` should be replaced."""
        return not isinstance(error, Exception) or isinstance(error, self.options.crash_on)

    def retry(self, job: Job[Any], delay: float) -> bool:
        """Queue a failed job again; return False if it has ended, or the pool is broken."""
        if self.state.broken_by is not None:
            return False
        if inline.is_on():
            return reopen(job)  # the thread that runs it will see
        limited, due = self.use_limits(), clock.monotonic() + delay
        is_open = reopen(job)
        if is_open:
            limited.post_retry(job, due)
            if job.done():  # it was cancelled, and `post_ended` came before `post_retry`
                limited.post_ended(job)
            self.supervisor.notify()  # this worker may be held up, as by `on_event`
            if self.state.broken_by is not None:  # `break_down` came between, and missed this job
                refuse(job, self.state.breakdown(), self)
        return is_open

    def give_back(self, job: Job[Any]) -> None:
        """Count a job that has ended no longer against its key and limits."""
        if self.store is not None and job._policy.settlement is not self.memory:
            self.store.claimed.ended(job)
            return
        limited = self.dispatcher.limited
        if limited is not None:
            limited.post_ended(job)
            self.dispatcher.wake_if_work()
            self.wake_waiters()

    def wake_waiters(self) -> None:
        """Let waiting submitters in, and wake threads that may have to run a job in place."""
        self.backpressure.admit()
        for wake in list(self.in_place_wakeups):
            wake()

    def report_failure(
        self, job: Job[Any], error: BaseException, *, is_unseen: bool = False
    ) -> None:
        """Log the failure of a job that nobody waits for, or looks at, and call ``on_error``."""
        if not (is_unseen and job._queued_at <= self._forked_at):  # its parent has that one, too
            report_failure(self, job, error, is_unseen=is_unseen)

    def run_where_awaited(self, job: Job[Any], deadline: float) -> bool:
        """Run a queued job in the calling thread, where that waits for it; see `in_place`.

        Raises:
            JobLost: no thread of this process will run it.
        """
        self.check_own(job)
        slot = slot_of(self)
        if slot is None:
            return False
        if job._policy.is_durable:
            return self.store.lending.wait(job, deadline)  # type: ignore[no-any-return]
        for each in in_place.awaited_by(job):
            each._policy.host.run_where_awaited(each, deadline)
        try:
            return in_place.wait_in_place(self, job, slot, deadline)
        finally:
            del job

    def check_own(self, job: Job[Any]) -> None:
        """Raise `JobLost` if no thread of this process will run a job."""
        if job._queued_at <= self._forked_at:
            raise JobLost(f"pending when this process was forked, and its parent's: {job!r}")

    def wait_in_loop(self, job: Job[Any]) -> Generator[Any, None, None]:
        """Wait in the running event loop until the job has ended; see `awaiting`."""
        from oddjob.runtime.awaiting import wait_in_loop  # loads asyncio, for those who use it

        return wait_in_loop(job)

    def job_cancelled(self, job: Job[Any], *, is_counted: bool) -> None:
        """Take a queued job that has been cancelled out of the queue."""
        if is_counted:
            self.metrics.count("cancelled")
        if job._details is not None and job._details.waits_for is not None:
            job._details.waits_for.job_cancelled(job)
            return
        if self.dispatcher.limited is not None:
            self.give_back(job)
        elif self.options.max_queue is not None and self.dispatcher.remove(job):
            self.backpressure.admit()

    def interrupt(self, job: Job[Any]) -> None:
        """Cancel the coroutine of a running job."""
        for slot in self.workers.slots():
            if slot.job is job:
                slot.coroutines.cancel(job)

    # What the supervisor asks for.

    def is_finished(self) -> bool:
        """Return whether the pool is closed, and there is nothing left to run."""
        return (
            self.state.closed_because is not None
            and not (len(self.dispatcher) or self.dispatcher.waiting_for_jobs)
            and (self.store is None or self.store.is_done)
        )

    def open_due(self) -> float:
        """Open what has become due in the queue, and wake those who may run it.

        Returns when the next thing becomes due, in monotonic seconds.
        """
        limited = self.dispatcher.limited
        if limited is None:
            return inf
        is_due, before = limited.next_due() <= clock.monotonic(), limited.waiting_count
        limited.tidy()
        if is_due or limited.waiting_count > before:
            # When a job is to be retried, the worker that has run it may be busy, and the only one.
            # (A thread that cannot be started leaves its place empty: the supervisor tries again.)
            self.workers.start_for(limited.waiting_count)
            self.dispatcher.wake_up_to(1)
            self.wake_waiters()
        return limited.next_due()

    # What users see.

    def running(self) -> list[Job[Any]]:
        """Return the jobs that workers have begun with, and that have not ended."""
        jobs = [slot.job for slot in self.workers.slots()]
        return [job for job in jobs if job is not None and not job.done()]
