"""Intake: how jobs get into the queue of their pool, and how workers are started for them.

Most jobs are appended to the FIFO queue, and a parked worker is woken: `accept` does that without a
lock, and without a look at anything else, as long as `refresh` has found that it may. All others
take the way of `accept_many`: to the store, to `dependencies`, to inline mode, through
`Backpressure`, or straight to `Dispatcher.put`.

Guarantees: an accepted job is taken by a worker; a refused one leaves nothing behind. No job is
queued in a pool that has just been closed, or in a queue that has just been replaced, and left
there:

1. The submitter appends the job to ``_open_queue``, then reads that field again.
2. To close the pool, or to replace the queue, is to change the field, then to look at the queue.
3. A submitter that finds the field changed has `_check_accepted` look after the job.

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
from oddjob.runtime import inline, lifecycle
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
        """Begin with the parts that the pool has now: also in a forked child."""
        self._dispatcher = self._core.dispatcher
        self._backpressure = self._core.backpressure
        # Both are kept by `refresh`.
        self._open_queue: deque[Job[Any]] | None = None  # where a job may be put without a look
        self._all_started = False  # every worker runs: who appends a job there need start none

    def refresh(self) -> None:
        """Note that the state, workers or queue of the pool, or inline mode, have changed."""
        core = self._core
        with core.state.lock:
            has_threads = core.supervisor.thread is not None
            is_free = has_threads and core.state.is_open and not inline.is_on()
            self._all_started = is_free and not core.workers.room()
            self._open_queue = self._dispatcher.fifo if is_free else None

    def accept(self, job: Job[Any]) -> None:
        """Queue a job and see to it that a worker takes it.

        Raises:
            PoolClosed, PoolBroken: the job was not queued.
            QueueFull: there was no room, or not in time.
            Exception: no thread could be started, and there is none.
        """
        try:
            queue = self._open_queue
            if queue is None or (self._is_bounded and not self._backpressure.try_put(job, queue)):
                self.accept_many([job])
                return
            if not self._is_bounded:
                queue.append(job)
            # A worker takes the job if one that was parked has been woken or, with none parked, if
            # all have been started: a busy one looks at the queue before it parks.
            dispatcher = self._dispatcher
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
            while chunk := list(islice(jobs, self._backpressure.chunk_size())):
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
            await self._core.store.accept_in_loop(job)
            return
        if not self._is_bounded or is_linked([job]) or inline.is_on():
            self.accept_many([job])
            return
        try:
            self._start_workers(1)
            await self._backpressure.put_in_loop(job)
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
            run_in_thread(end, f"{self._core.label}-callbacks")  # callbacks may take any time

        try:
            if inline.is_on():
                inline.run_fired(self._core, jobs)
            elif self._is_bounded:
                self._start_workers(len(jobs))
                self._backpressure.put_fired(jobs, refuse_all)
            else:
                self._start_workers(len(jobs), and_queue=jobs)
        except Exception as error:
            refuse_all(error)

    def ensure_worker(self) -> None:
        """Have at least one worker, though there are no jobs yet; raises like `accept`."""
        with self._core.state.lock:
            if not self._core.workers.all():
                self._start_workers(1)

    def run_claimed(self, jobs: Sequence[Job[Any]]) -> None:
        """Run jobs that come from the store, whatever limits there are; raises like `accept`."""
        self._start_workers(len(jobs), and_queue=jobs, is_checked=False)

    def run_queued(self) -> None:
        """Have workers run what is queued, as there may be more of them than before."""
        self._start_workers(len(self._dispatcher), is_checked=False)

    def _start_workers(
        self, count: int, *, and_queue: Sequence[Job[Any]] = (), is_checked: bool = True
    ) -> None:
        """Start the supervisor and the workers that `count` jobs need, and queue jobs."""
        with self._core.state.lock:
            if is_checked:
                self._core.state.check_open()
            if self._core.supervisor.thread is None:
                self._start_supervisor()
            failure = self._core.workers.start_for(count)
            if failure is not None and not self._core.workers.all():
                if is_interpreters_end(failure):
                    raise PoolClosed(AFTER_EXIT) from failure
                raise failure
            if and_queue:
                self._dispatcher.put(and_queue, len(and_queue))
        if failure is not None and not is_interpreters_end(failure):
            what = "pool %s could not start another worker"
            log(logging.WARNING, what, self._core.label, error=failure)

    def _start_supervisor(self) -> None:
        if not lifecycle.begin_threads(self._core):
            self._core.state.closed_because = AFTER_EXIT
            self._core.state.check_open()
        try:
            self._core.supervisor.start()
        except BaseException:
            lifecycle.end_threads(self._core)
            raise

    def _check_accepted(self, jobs: Sequence[Job[Any]], needed: int = 0) -> None:
        """Look after jobs that were queued while the pool changed, or need more workers.

        If the queue was replaced meanwhile, they are moved to the new one. If the pool takes no
        jobs, or has no worker and can start none, they are withdrawn; if all have been started,
        they were accepted.
        """
        self._dispatcher.reclaim()
        try:
            self._core.state.check_open()
            if needed and len(self._dispatcher):
                self._start_workers(needed)
        except Exception:
            withdrawn = [job for job in jobs if withdraw(job)]
            for job in withdrawn:
                self._dispatcher.remove(job)  # no worker may ever come to do that
            if withdrawn:
                raise
        self._dispatcher.wake_up_to(len(jobs))

    def _end_refused(self, jobs: Sequence[Job[Any]], error: Exception) -> None:
        for job in jobs:
            if isinstance(error, PoolClosed):
                job.cancel()
            else:
                refuse(job, error, self._core)
