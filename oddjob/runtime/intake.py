"""Intake: how jobs get into the queue of their pool, and how workers are started for them.

`accept` appends most jobs to the FIFO queue and wakes a parked worker, without a lock and without
any further test, while `refresh` has found that this is allowed. `accept_many` takes all others to
the first of these that applies: the store, `dependencies`, inline mode, `Backpressure`, or else
`Dispatcher.put`.

Guarantees: an accepted job is taken by a worker; a refused one leaves nothing behind. No job stays
behind in a pool that has just been closed, or in a queue that has just been replaced:

1. The submitter appends the job to ``_open_queue``, then reads that field again.
2. A thread that closes the pool or replaces the queue changes the field, then examines the queue.
3. A submitter that finds the field changed calls `_recheck_accepted`.

Locking: that of `PoolState`, on cold paths.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from oddjob.errors import PoolClosed
from oddjob.log import log, run_in_thread
from oddjob.runtime import inline
from oddjob.runtime.dependencies import accept_linked, is_linked
from oddjob.runtime.job import Job
from oddjob.runtime.pool_ending import AFTER_EXIT
from oddjob.runtime.settling import refuse, withdraw
from oddjob.runtime.worker_set import is_interpreters_end

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


class Intake:
    """The way into the queue of one pool; policies refer to it, so it outlives a fork."""

    def __init__(self, core: "PoolCore") -> None:
        self._core: Final = core
        self._is_bounded: Final = core.options.max_queue is not None
        self.reset()

    def reset(self) -> None:
        """Use the parts that the pool has now, at first and in a forked child."""
        self._dispatcher = self._core.dispatcher
        self._backpressure = self._core.backpressure
        # `refresh` sets both.
        self._open_queue: deque[Job[Any]] | None = None  # jobs may be appended without a test
        # Every allowed worker is running, so a submitter need not start one.
        self._all_started = False

    def refresh(self) -> None:
        """Take note of a changed state, worker or queue of the pool, or of inline mode."""
        core = self._core
        with core.state.lock:
            has_threads = core.supervisor.thread is not None
            is_free = has_threads and core.state.is_open and not inline.is_on()
            self._all_started = is_free and not core.workers.room()
            self._open_queue = self._dispatcher.fifo if is_free else None

    def accept(self, job: Job[Any]) -> None:
        """Queue a job, and make sure that a worker takes it.

        Raises:
            PoolClosed, PoolBroken: the job was not queued.
            QueueFull: there was no room, or none within ``submit_timeout``.
            Exception: no thread could be started, and there is none.
        """
        try:
            queue = self._open_queue
            if queue is None or (self._is_bounded and not self._backpressure.try_put(job, queue)):
                self.accept_many([job])
                return
            if not self._is_bounded:
                queue.append(job)
            # A worker will take the job if a parked one was woken or, with none parked, if all have
            # been started: a busy worker looks at the queue before it parks.
            dispatcher = self._dispatcher
            will_come = dispatcher.wake() if dispatcher.parked else self._all_started
            if not will_come or self._open_queue is not queue:  # step 3 above
                self._recheck_accepted([job], needs_worker=True)
        except BaseException:
            withdraw(job)  # it may have been queued before an interruption
            raise

    def accept_many(self, jobs: Sequence[Job[Any]]) -> None:
        """Queue jobs next to each other, if there is room; raises like `accept`."""
        try:
            if jobs and jobs[0]._policy.is_durable:
                self._core.store.accept_many(jobs)
            elif is_linked(jobs):
                accept_linked(jobs)
            elif inline.is_on():
                self._core.state.check_open()
                for job in jobs:
                    inline.run_inline(self._core, job)
            elif self._is_bounded:
                self._start_workers(len(jobs))
                self._backpressure.put(jobs)
                self._recheck_accepted(jobs)
            else:
                self._queue(jobs)
        except BaseException:
            for job in jobs:
                withdraw(job)
            raise

    def accept_stream(self, jobs: Iterator[Job[Any]], *, keep: bool) -> list[Job[Any]]:
        """Read an iterator only as fast as the queue has room, and queue its jobs.

        The pool must have a bound. If `keep`, the jobs are returned; otherwise the iterator may be
        endless.

        Raises:
            BaseException: as `accept`, or whatever the iterator raises. Jobs that were to be kept
                are cancelled, unless they have started; others that it gave before are queued.
        """
        kept: list[Job[Any]] = []
        chunk: list[Job[Any]] = []
        try:
            while True:
                try:
                    chunk.extend(islice(jobs, self._backpressure.chunk_size()))
                except BaseException:  # the chunk has the jobs before that
                    if not keep:
                        self.accept_many(chunk)
                    raise
                if not chunk:
                    break
                self.accept_many(chunk)
                if keep:
                    kept += chunk
                chunk = []
        except BaseException:
            for job in kept:
                withdraw(job)
            raise
        return kept

    async def accept_in_loop(self, job: Job[Any]) -> None:
        """Queue a job; await room instead of blocking the event loop. Raises like `accept`."""
        if job._policy.is_durable:
            await self._core.store.accept_in_loop(job)
            return
        if is_linked([job]) or inline.is_on() or not self._is_bounded:
            self.accept_many([job])
            return
        try:
            self._start_workers(1)
            await self._backpressure.put_in_loop(job)
            self._recheck_accepted([job])
        except BaseException:
            withdraw(job)
            raise

    def accept_fired(
        self, jobs: Sequence[Job[Any]], on_refused: Callable[[Exception], object]
    ) -> None:
        """Queue the jobs of a timer, in the thread that fires it, which must not wait.

        (They are neither stored nor linked: a store fires its own, and `after=` excludes a time.)

        If they are refused, `on_refused` is called with the error, and the jobs end with it in
        another thread.
        """

        def refuse_all(error: Exception) -> None:
            on_refused(error)
            end = partial(self._end_refused, jobs, error)
            run_in_thread(end, f"{self._core.label}-callbacks")  # callbacks may take any time

        try:
            if inline.is_on():
                inline.run_fired(self._core, jobs)
            elif self._is_bounded:
                self._start_workers(len(jobs))
                self._backpressure.put_fired(jobs, refuse_all)
            else:
                self._queue(jobs)
        except Exception as error:
            refuse_all(error)

    def ensure_worker(self) -> None:
        """Start a worker if there is none, though there is no job yet; raises like `accept`."""
        if not self._core.workers.all():
            self._start_workers(1)

    def run_claimed(self, jobs: Sequence[Job[Any]]) -> None:
        """Queue jobs that were accepted before, even in a closed pool; raises like `accept`.

        They come from the store, or have waited for other jobs.
        """
        self._queue(jobs, is_checked=False)

    def run_queued(self) -> None:
        """Start workers for queued jobs, after the number of allowed workers has grown."""
        self._start_workers(is_checked=False)

    def _queue(self, jobs: Sequence[Job[Any]], *, is_checked: bool = True) -> None:
        """Queue jobs next to each other, and start the workers that they need.

        The supervisor runs first: the end of a pool waits for it. The workers come last: one that
        is ready before the jobs might be given those of another submitter.
        """
        core, dispatcher = self._core, self._dispatcher
        if core.supervisor.thread is None:
            self._start_workers(is_checked=is_checked)
        with core.state.lock:
            if is_checked:
                core.state.check_open()
            dispatcher.put(jobs, len(jobs))
        try:
            if not self._all_started:
                self._start_workers(is_checked=False)
        except Exception:
            removed = [job for job in jobs if dispatcher.remove(job)]
            if removed:  # else the supervisor has started a worker meanwhile
                raise

    def _start_workers(self, more: int = 0, *, is_checked: bool = True) -> None:
        """Start what `WorkerSet.start_needed` says, and the supervisor; raises like `accept`."""
        core = self._core
        if is_checked:
            core.state.check_open()
        failure = core.workers.start_needed(more)
        if failure is None:
            return
        if not core.workers.all():
            if is_interpreters_end(failure):
                raise PoolClosed(AFTER_EXIT) from failure
            raise failure
        if not is_interpreters_end(failure):
            log(
                logging.WARNING, "pool %s could not start another worker", core.label, error=failure
            )

    def _recheck_accepted(self, jobs: Sequence[Job[Any]], *, needs_worker: bool = False) -> None:
        """Repair what a concurrent change of the pool has done to jobs that were just queued.

        If the queue was replaced, they are moved to the new one. If they need more workers, those
        are started. If the pool takes no jobs any more, or has no worker and can start none, the
        jobs are withdrawn, and that is raised, unless all of them have started.
        """
        self._dispatcher.reclaim()
        try:
            self._core.state.check_open()
            if needs_worker and self._dispatcher.waiting_count:
                self._start_workers()
        except Exception:
            withdrawn = [job for job in jobs if withdraw(job)]
            for job in withdrawn:
                self._dispatcher.remove(job)  # there may never be a worker that discards it
            if withdrawn:
                raise
        self._dispatcher.wake_up_to(len(jobs))

    def _end_refused(self, jobs: Sequence[Job[Any]], error: Exception) -> None:
        for job in jobs:
            if isinstance(error, PoolClosed):
                job.cancel()
            else:
                refuse(job, error, self._core)
                self._dispatcher.remove(job)  # it must not take up room in the queue
        self._backpressure.admit()
