"""PoolCore: everything of a pool that must outlive the object in the user's hands.

Workers and jobs refer to the core, never to the `Pool`: so an anonymous pool that nothing refers to
is garbage-collected, and its core finishes the queue and ends its threads.

It puts together the parts in this folder (see `_make_parts`), which know each other through it.

Locking: that of `PoolState`, on cold paths. `accept` takes none as long as a worker will come for
the job. No job is queued in a pool that has just been closed, or in a queue that has just been
replaced, and left there:

1. The submitter appends the job to ``_open_queue``, then reads that field again.
2. To close the pool, or to replace the queue, is to change the field, then to look at the queue.
3. A submitter that finds the field changed has `_check_accepted` look after the job.
"""

import logging
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from math import inf
from typing import Any, Final

from oddjob.errors import JobLost, PoolClosed
from oddjob.events import EventListener
from oddjob.log import log, run_in_thread
from oddjob.options import PoolOptions
from oddjob.runtime import in_place, inline, lifecycle
from oddjob.runtime.backpressure import Backpressure
from oddjob.runtime.dependencies import accept_linked, is_linked
from oddjob.runtime.dispatcher import Dispatcher
from oddjob.runtime.job import Job
from oddjob.runtime.job_host import MemorySettlement, Settlement
from oddjob.runtime.limited_queue import LimitedQueue
from oddjob.runtime.limits import Limit
from oddjob.runtime.metrics import PoolMetrics
from oddjob.runtime.policy import JobPolicy
from oddjob.runtime.pool_ending import AFTER_EXIT, PoolEnding, PoolState
from oddjob.runtime.settling import refuse, reopen, report_failure, withdraw
from oddjob.runtime.slot import slot_of
from oddjob.runtime.supervisor import Supervisor
from oddjob.runtime.watchdog import Watchdog
from oddjob.runtime.worker_set import WorkerSet, is_interpreters_end
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
        self._is_bounded: Final = options.max_queue is not None
        self._forked_at = -inf  # monotonic seconds
        self._make_parts(pool)
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
        # Both are kept by `refresh`, which follows every change of what they say.
        self._open_queue: deque[Job[Any]] | None = None  # where a job may be put without a look
        self._all_started = False  # every worker runs: who appends a job there need start none
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
            if self.store is not None:
                self.store.reset_after_fork()
            if former.limited is not None:
                self.use_limits(former.limited.gate.adopted())
            self.state.closed_because = closed_because

    @property
    def pool(self) -> Any:
        """The `Pool`; None once an anonymous one has been collected."""
        return self._pool()

    def refresh(self) -> None:
        """Note that the state, workers or queue of the pool, or inline mode, have changed."""
        with self.state.lock:
            has_threads = self.supervisor.thread is not None
            is_free = has_threads and self.state.is_open and not inline.is_on()
            self._all_started = is_free and not self.workers.room()
            self._open_queue = self.dispatcher.fifo if is_free else None

    # Accepting jobs. What `accept` cannot just append takes the way of `accept_many`: to the store,
    # to `dependencies`, to inline mode, through `Backpressure`, or straight to `Dispatcher.put`.
    # `accept_stream` reads an iterator in chunks for it; `accept_in_loop` awaits room instead of
    # waiting for it; `accept_fired` does neither. Then a worker is on its way in any case, or
    # `_start_workers` has seen to that, or `_check_accepted` does.

    def accept(self, job: Job[Any]) -> None:
        """Queue a job and see to it that a worker takes it.

        Raises:
            PoolClosed, PoolBroken: the job was not queued.
            QueueFull: there was no room, or not in time.
            Exception: no thread could be started, and there is none.
        """
        try:
            queue = self._open_queue
            if queue is None or (self._is_bounded and not self.backpressure.try_put(job, queue)):
                self.accept_many([job])
                return
            if not self._is_bounded:
                queue.append(job)
            # A worker takes the job if one that was parked has been woken or, with none parked, if
            # all have been started: a busy one looks at the queue before it parks.
            dispatcher = self.dispatcher
            will_come = dispatcher.wake() if dispatcher.parked else self._all_started
            if not will_come or self._open_queue is not queue:  # step 3 above
                self._check_accepted([job], needed=1)
        except BaseException:
            withdraw(job)  # it may have been queued before an interruption
            raise

    def accept_many(self, jobs: Sequence[Job[Any]]) -> None:
        """Queue jobs with nothing between them, if there is room; raises like `accept`."""
        try:
            if jobs and jobs[0]._policy.is_durable:
                self.store.accept_many(jobs)
            elif is_linked(jobs):
                accept_linked(jobs)
            elif inline.is_on():
                self.state.check_open()
                for job in jobs:
                    inline.run_inline(self, job)
            elif self._is_bounded:
                self._start_workers(len(jobs))
                self.backpressure.put(jobs)
                self._check_accepted(jobs)
            else:
                self._start_workers(len(jobs), and_queue=jobs)
        except BaseException:
            for job in jobs:
                withdraw(job)
            raise

    def accept_stream(self, jobs: Iterator[Job[Any]], *, keep: bool) -> list[Job[Any]]:
        """Queue the jobs of an iterator as there is room, and read it as there is room.

        Raises like `accept`, and what the iterator raises. Jobs that are to be kept are returned,
        or cancelled then, if they have not started; of others there may be any number.
        """
        kept: list[Job[Any]] = []
        try:
            while chunk := list(islice(jobs, self.backpressure.chunk_size())):
                if keep:
                    kept += chunk
                self.accept_many(chunk)
        except BaseException:
            for job in kept:
                withdraw(job)
            raise
        return kept

    async def accept_in_loop(self, job: Job[Any]) -> None:
        """Queue a job; await room instead of blocking the event loop. Raises like `accept`."""
        if job._policy.is_durable:
            await self.store.accept_in_loop(job)
            return
        if not self._is_bounded or is_linked([job]) or inline.is_on():
            self.accept_many([job])
            return
        try:
            self._start_workers(1)
            await self.backpressure.put_in_loop(job)
            self._check_accepted([job])
        except BaseException:
            withdraw(job)
            raise

    def accept_fired(
        self, jobs: Sequence[Job[Any]], on_refused: Callable[[Exception], object]
    ) -> None:
        """Queue the jobs of a timer, in the thread that fires it, which must not wait.

        Jobs that are refused end with the error, in another thread, and `on_refused` is called
        with it.
        """

        def refuse_all(error: Exception) -> None:
            on_refused(error)
            end = partial(self._end_refused, jobs, error)
            run_in_thread(end, f"{self.label}-callbacks")  # callbacks may take any time

        try:
            if inline.is_on():
                inline.run_fired(self, jobs)
            elif self._is_bounded:
                self._start_workers(len(jobs))
                self.backpressure.put_fired(jobs, refuse_all)
            else:
                self._start_workers(len(jobs), and_queue=jobs)
        except Exception as error:
            refuse_all(error)

    def ensure_worker(self) -> None:
        """Have at least one worker, though there are no jobs yet; raises like `accept`."""
        with self.state.lock:
            if not self.workers.all():
                self._start_workers(1)

    def use_limits(self, limits: Iterable[Limit] = ()) -> LimitedQueue:
        """Have the queue look after priorities, keys, retries and these limits from now on."""
        with self.state.lock:
            try:
                limited = self.dispatcher.use_limits()
                self.refresh()
            finally:
                self.dispatcher.reclaim()
        limited.gate.adopt(limits)
        self.dispatcher.wake_if_work()
        return limited

    def run_claimed(self, jobs: Sequence[Job[Any]]) -> None:
        """Run jobs that come from the store, whatever limits there are; raises like `accept`."""
        self._start_workers(len(jobs), and_queue=jobs, is_checked=False)

    def run_queued(self) -> None:
        """Have workers run what is queued, as there may be more of them than before."""
        self._start_workers(len(self.dispatcher), is_checked=False)

    def _start_workers(
        self, count: int, *, and_queue: Sequence[Job[Any]] = (), is_checked: bool = True
    ) -> None:
        """Start the supervisor and the workers that `count` jobs need, and queue jobs."""
        with self.state.lock:
            if is_checked:
                self.state.check_open()
            if self.supervisor.thread is None:
                self._start_supervisor()
            failure = self.workers.start_for(count)
            if failure is not None and not self.workers.all():
                if is_interpreters_end(failure):
                    raise PoolClosed(AFTER_EXIT) from failure
                raise failure
            if and_queue:
                self.dispatcher.put(and_queue, len(and_queue))
        if failure is not None and not is_interpreters_end(failure):
            what = "pool %s could not start another worker"
            log(logging.WARNING, what, self.label, error=failure)

    def _start_supervisor(self) -> None:
        if not lifecycle.begin_threads(self):
            self.state.closed_because = AFTER_EXIT
            self.state.check_open()
        try:
            self.supervisor.start()
        except BaseException:
            lifecycle.end_threads(self)
            raise

    def _check_accepted(self, jobs: Sequence[Job[Any]], needed: int = 0) -> None:
        """Look after jobs that were queued while the pool changed, or need more workers.

        If the queue was replaced meanwhile, they are moved to the new one. If the pool takes no
        jobs, or has no worker and can start none, they are withdrawn; if all have been started,
        they were accepted.
        """
        self.dispatcher.reclaim()
        try:
            self.state.check_open()
            if needed and len(self.dispatcher):
                self._start_workers(needed)
        except Exception:
            withdrawn = [job for job in jobs if withdraw(job)]
            for job in withdrawn:
                self.dispatcher.remove(job)  # no worker may ever come to do that
            if withdrawn:
                raise
        self.dispatcher.wake_up_to(len(jobs))

    def _end_refused(self, jobs: Sequence[Job[Any]], error: Exception) -> None:
        for job in jobs:
            if isinstance(error, PoolClosed):
                job.cancel()
            else:
                refuse(job, error, self)

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
            limited.retry(job, due)
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
            limited.forget(job)
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
        elif self._is_bounded and self.dispatcher.remove(job):
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
        is_due = limited.next_due() <= clock.monotonic()
        limited.tidy()
        if is_due:
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
