"""Dispatcher: hands queued jobs to idle workers.

No thread dispatches: a submitter wakes a parked worker, and a worker that has finished a job takes
the next one itself.

Guarantees: a queued job is taken as soon as a worker is free. No wake-up is lost:

1. *Queue against park.* The submitter appends to the queue, then looks at ``parked``. The worker
   appends itself to ``parked``, then looks at the queue. At least one of them sees the other.
2. *A worker that is removed from* ``parked`` *is woken.* Both happen between two points at which
   the interpreter handles signals and asynchronous exceptions: the item of a ``for`` loop over
   ``iter(pop, None)`` is bound and called without such a point in between.
3. *Close against park.* The closing thread sets the flag, then wakes all. The worker parks, then
   reads the flag.

If a worker ends while it is parked, the supervisor removes it from ``parked``. If it had been woken
for a job, its replacement looks at the queue before it parks.

Locking: none here; the deques are thread-safe, and `LimitedQueue` has its own lock. So jobs can be
queued from signal handlers, destructors and callbacks.
"""

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol

from oddjob.runtime.job import Job
from oddjob.runtime.limited_queue import LimitedQueue
from oddjob.runtime.links import set_due
from oddjob.runtime.slot import Slot

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


_MISSING: Final = object()


class JobSource(Protocol):
    """A source of jobs that were not submitted in this process: the seam for a store."""

    def demand(self, free: int) -> None:
        """Note that `free` workers have no job.

        A worker calls this when it is about to park. It must not wait. No lock is held.
        """


class Dispatcher:
    """The queue of a pool, and its parked workers.

    After queuing one job call `wake` (bound to `wake_one` or `wake_searcher`, depending on the
    queue in use), after several `wake_up_to`, after a change that may let a job of `limited` start
    `wake_if_work`, and after closing the pool `wake_all`.
    """

    def __init__(self, core: "PoolCore") -> None:
        self._core: Final = core
        self.fifo: deque[Job[Any]] = deque()  # the queue, or the inbox of `limited`
        self._former = self.fifo  # the queue that `limited` has replaced
        # The `wake` of each parked worker. LIFO: the one that parked last has the warmest caches.
        self.parked: Final[deque[Callable[[], None]]] = deque()
        self.waiting_for_jobs: Final[dict[Job[Any], None]] = {}  # these are in no queue
        self.limited: LimitedQueue | None = None
        self.source: JobSource | None = None
        # Whether a worker was woken to search `limited`, and has not looked yet. Advisory: a race
        # causes an extra wake-up, no lost one.
        self._search_pending = False
        self.wake: Callable[[], object] = self.wake_one

    def use_limits(self) -> LimitedQueue:
        """Replace the FIFO queue by a `LimitedQueue`, for good; the caller then calls `reclaim`."""
        if self.limited is None:
            self._former = self.fifo
            self.limited = LimitedQueue(self._core)  # before `fifo`: see `taker`
            self.fifo = self.limited.inbox
            self.wake = self.wake_searcher
        return self.limited

    def reclaim(self) -> None:
        """Move jobs that were added to a queue while it was being replaced to the new one."""
        former = self._former
        if former is not self.fifo:
            with suppress(IndexError):  # one C call: each job is always in one of the queues
                self.fifo.extend(iter(former.popleft, None))

    def put(self, jobs: Iterable[Job[Any]], count: int) -> None:
        """Queue `count` jobs next to each other, even while the queue is being replaced."""
        self.fifo.extend(jobs)
        self.reclaim()
        self.wake_up_to(count)

    def taker(self, slot: Slot) -> Callable[[], Job[Any] | None]:
        """Return a function that takes the next job for a slot.

        Without a job it returns None or raises IndexError; then call `taker` again. So a worker
        that takes from the FIFO queue when that is replaced still empties it. (It must not take
        from the inbox of `limited`: `use_limits` writes the two fields in the opposite order.)
        """
        fifo, limited = self.fifo, self.limited
        return fifo.popleft if limited is None else partial(limited.take, slot)

    def wake_up_to(self, count: int) -> None:
        """Wake workers for `count` jobs that have been queued."""
        if self.limited is not None:
            self.wake_searcher()  # it wakes the next one, if it finds more to do
        else:
            for _ in range(min(count, len(self.parked))):
                self.wake_one()

    def wake_one(self) -> bool:
        """Wake the worker that parked last; return False if none is parked."""
        try:
            for wake in iter(self.parked.pop, None):
                wake()
                return True
        except IndexError:
            pass
        return False

    def wake_all(self) -> None:
        """Wake every parked worker."""
        while self.wake_one():
            pass

    def wake_searcher(self) -> bool:
        """Wake one worker to search `limited`, unless one is about to; return False if none can.

        If it finds more than one job, it wakes the next worker. If several were woken at once, they
        would compete for the lock: on free-threaded builds that costs a quarter of the throughput.
        """
        while not self._search_pending:
            self._search_pending = True
            try:
                if self.wake_one():
                    return True
            except BaseException:  # Ctrl-C: otherwise no worker would ever be woken again
                self._search_pending = False
                raise
            self._search_pending = False
            if not (self.parked and self.has_work()):
                return False  # otherwise a worker has parked meanwhile, and relied on this search
        return True

    def search_done(self) -> None:
        """Note that a worker which may have been woken to search has looked, or has ended.

        If there may be more to do, the next worker is woken, or started if none is parked. Thus
        jobs that arrive during one search get as many workers as they need.
        """
        self._search_pending = False
        self.wake_if_work()
        if not self.parked and self.has_work():
            self._core.ask_for_workers()

    def wake_if_work(self) -> None:
        """Wake a worker if it may find a job, or if the pool is finished, so that workers leave."""
        if (
            self.parked
            and not self._search_pending
            and (self.has_work() or self._core.is_finished())
        ):
            self.wake_searcher()

    def has_work(self) -> bool:
        """Return whether a worker that searches now may find a job."""
        limited = self.limited
        return bool(self.fifo) if limited is None else limited.has_work()

    def __len__(self) -> int:
        """Return how many jobs are queued, including those delayed or just cancelled."""
        limited = self.limited
        return len(self.fifo) if limited is None else len(limited)

    @property
    def waiting_count(self) -> int:
        """The number of jobs that workers may take, without those delayed until a retry."""
        limited = self.limited
        return len(self.fifo) if limited is None else limited.waiting_count

    def waiting(self) -> list[Job[Any]]:
        """Return the queued jobs in the order of their starts, then those that wait for others."""
        return [*self._queued(), *[job for job in list(self.waiting_for_jobs) if not job.done()]]

    def mark_lost(self) -> None:
        """In a forked child: mark the jobs that wait for others as the parent's."""
        for job in self.waiting_for_jobs:
            set_due(job, -inf)

    def _queued(self) -> list[Job[Any]]:
        limited = self.limited
        jobs = snapshot(self.fifo) if limited is None else limited.waiting()
        return [job for job in jobs if not job.done()]

    def ready(self) -> list[Job[Any]]:
        """Return the queued jobs if at least one of them may start now, otherwise none."""
        limited = self.limited
        return self._queued() if limited is None else limited.ready()

    def take_oldest(self) -> Job[Any] | None:
        """Remove and return the oldest job of the lowest priority; None if there is none."""
        if self.limited is not None:
            return self.limited.pop_oldest()
        with suppress(IndexError):
            return self.fifo.popleft()
        return None

    def remove(self, job: Job[Any]) -> bool:
        """Remove a job that is in the FIFO queue or waits for others; return False otherwise."""
        was_waiting = self.waiting_for_jobs.pop(job, _MISSING) is not _MISSING
        return was_waiting or discard_from(self.fifo, job)

    def forget_worker(self, wake: Callable[[], None]) -> None:
        """Remove a worker that has ended from the parked ones."""
        discard_from(self.parked, wake)


def snapshot(items: deque[Any]) -> list[Any]:
    """Return the items of a deque that other threads may change meanwhile."""
    while True:
        try:
            return list(items.copy())
        except RuntimeError:  # it changed while it was copied, without the GIL
            continue


def discard_from(items: deque[Any], item: object) -> bool:
    """Remove an item from a deque that other threads may change; return False if it is absent."""
    while True:
        try:
            items.remove(item)
        except ValueError:
            return False
        except IndexError:  # it changed while it was searched
            continue
        return True
