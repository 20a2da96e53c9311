"""Dispatcher: hands queued jobs to idle workers.

Dispatching is a discipline, not a thread: a submitter wakes a parked worker; a worker that
has finished a job takes the next one itself.

Guarantees: a queued job is taken as soon as a worker is free. No wake-up is lost:

1. *Queue against park.* The submitter appends to the queue, then looks at ``parked``. The worker
   appends itself to ``parked``, then looks at the queue. At least one of them sees the other.
2. *Who takes a worker off* ``parked`` *wakes it.* Both happen between two points at which the
   interpreter handles signals and asynchronous exceptions: the item of a ``for`` loop over
   ``iter(pop, None)`` is bound and called without such a point in between.
3. *Close against park.* The closer sets the flag, then wakes all. The worker parks, then looks at
   the flag.

A worker that dies while it is parked: the supervisor takes it off ``parked``. If it was woken for a
job already, its replacement looks at the queue before it parks.

Locking: none here; two deques, and the lock of `LimitedQueue`. So a job can be queued from signal
handlers, destructors and callbacks.
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


class JobSource(Protocol):
    """Where more jobs come from than those that were submitted here: the seam for a store."""

    def demand(self, free: int) -> None:
        """Note that `free` workers have no job.

        Called by a worker that is about to park, under no lock; it must not wait.
        """


class Dispatcher:
    """The queue of a pool, and the workers that wait for jobs.

    Call `wake`, one of two methods, by the queue, after a job was queued; `wake_up_to` after
    several; `wake_if_work` after a change that may let a job of `limited` start; `wake_all` when
    the pool is closed.
    """

    def __init__(self, core: "PoolCore") -> None:
        self._core: Final = core
        self.fifo: deque[Job[Any]] = deque()  # the queue; the inbox of `limited`, once there is one
        self._former = self.fifo  # the queue that `limited` has replaced
        # What wakes each of them. LIFO: the worker that parked last has the warmest caches.
        self.parked: Final[deque[Callable[[], None]]] = deque()
        self.waiting_for_jobs: Final[dict[Job[Any], None]] = {}  # they are in no queue
        self.limited: LimitedQueue | None = None
        self.source: JobSource | None = None
        self._search_pending = False  # a worker was woken for `limited`, and has not looked yet
        self.wake: Callable[[], object] = self.wake_one  # after a job was queued

    def use_limits(self) -> LimitedQueue:
        """Replace the FIFO queue by a `LimitedQueue`, for good; the caller sees to `reclaim`."""
        if self.limited is None:
            self._former = self.fifo
            self.limited = LimitedQueue(self._core)  # before `fifo`: see `taker`
            self.fifo = self.limited.inbox
            self.wake = self.wake_searcher
        return self.limited

    def reclaim(self) -> None:
        """Move jobs that were put into a queue while it was being replaced to the one in use."""
        former = self._former
        if former is not self.fifo:
            with suppress(IndexError):  # one C call: no job is ever in neither queue
                self.fifo.extend(iter(former.popleft, None))

    def put(self, jobs: Iterable[Job[Any]], count: int) -> None:
        """Queue `count` jobs with nothing between them, also while the queue is being replaced."""
        self.fifo.extend(jobs)
        self.reclaim()
        self.wake_up_to(count)

    def taker(self, slot: Slot) -> Callable[[], Job[Any] | None]:
        """Return what takes the next job for a slot; it returns None, or raises, if there is none.

        It is used until then: a worker that is taking from the FIFO queue when limits come finds
        only what came before. (It must not take from the inbox of `limited`. So the two are read
        in the opposite order of that in which they are written.)
        """
        fifo, limited = self.fifo, self.limited
        return fifo.popleft if limited is None else partial(limited.take, slot)

    def wake_up_to(self, count: int) -> None:
        """Wake workers for `count` jobs that have been queued."""
        if self.limited is not None:
            self.wake_searcher()
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
        """Wake one worker to look into `limited`, unless one is about to; False if none can.

        It wakes the next one if it finds that there is more. Without that, several workers would
        compete for the lock for each job: on free-threaded builds a quarter of the throughput.
        """
        while not self._search_pending:
            self._search_pending = True
            try:
                if self.wake_one():
                    return True
            except BaseException:  # Ctrl-C: else no worker would be woken any more
                self._search_pending = False
                raise
            self._search_pending = False
            if not (self.parked and self.has_work()):
                return False  # else a worker has parked meanwhile, believing that another looks
        return True

    def search_done(self) -> None:
        """Note that a worker which may have been woken to search has looked, or has gone."""
        self._search_pending = False
        self.wake_if_work()

    def wake_if_work(self) -> None:
        """Wake a worker if there is something to find in `limited`, or never will be again."""
        if (
            self.parked
            and not self._search_pending
            and (self.has_work() or self._core.is_finished())
        ):
            self.wake_searcher()

    def has_work(self) -> bool:
        """Return whether a worker that looks now may find a job."""
        limited = self.limited
        return bool(self.fifo) if limited is None else limited.has_work()

    def __len__(self) -> int:
        """Return how many jobs wait, those included that are delayed or just cancelled."""
        limited = self.limited
        return len(self.fifo) if limited is None else len(limited)

    def waiting(self) -> list[Job[Any]]:
        """Return the jobs that wait, as they will start; then those that wait for others."""
        return [*self._queued(), *[job for job in list(self.waiting_for_jobs) if not job.done()]]

    def mark_lost(self) -> None:
        """Note, in a forked child, that jobs which wait for others are its parent's."""
        for job in self.waiting_for_jobs:
            set_due(job, -inf)

    def _queued(self) -> list[Job[Any]]:
        limited = self.limited
        jobs = snapshot(self.fifo) if limited is None else limited.waiting()
        return [job for job in jobs if not job.done()]

    def ready(self) -> list[Job[Any]]:
        """Return the jobs that wait if at least one of them may start now, else none."""
        limited = self.limited
        return self._queued() if limited is None else limited.ready()

    def take_oldest(self) -> Job[Any] | None:
        """Take the job that has waited longest, of the lowest priority, out of the queue."""
        if self.limited is not None:
            return self.limited.pop_oldest()
        with suppress(IndexError):
            return self.fifo.popleft()
        return None

    def remove(self, job: Job[Any]) -> bool:
        """Remove a job that waits in the FIFO queue, or for others; return False if it does not."""
        waited = (
            self.waiting_for_jobs.pop(job, self) is None
        )  # (its value; `self`: it was not there)
        return waited or discard_from(self.fifo, job)

    def forget_worker(self, wake: Callable[[], None]) -> None:
        """Take a worker that will not answer off the list of the parked."""
        discard_from(self.parked, wake)


def snapshot(items: deque[Any]) -> list[Any]:
    """Return what is in a deque, while other threads change it."""
    while True:
        try:
            return list(items.copy())
        except RuntimeError:  # it changed while it was copied, without the GIL
            continue


def discard_from(items: deque[Any], item: object) -> bool:
    """Remove an item from a deque, while other threads change it; return False if not there."""
    while True:
        try:
            items.remove(item)
        except ValueError:
            return False
        except IndexError:  # it changed while it was searched
            continue
        return True
