"""ReadyOrder: the jobs that may start now, in the order in which they will start.

Higher priorities come first; jobs of equal priority keep their order of arrival (``job._number``).
With aging, a job gains one level of priority for every `aging` seconds that it waits.

Entries may be stale: a cancelled job stays in here until it is the first one, and `LimitedQueue`
drops it then.

Locking: every method needs the queue's lock.
"""

from collections import deque
from heapq import heapify, heappop, heappush
from typing import Any, Final

from oddjob.runtime.job import Job

_KEPT_BUCKETS: Final = 64  # beyond that, a bucket that becomes empty is dropped
_HIGHEST_PRIORITY: Final = 10**300  # clamp: with aging, priorities become floats

Entry = tuple[float, int, Job[Any]]


class _Bucket:
    """The jobs of one rank: a FIFO of those added in order, and a heap of all others."""

    __slots__ = ("in_order", "is_in_ranks", "out_of_order")

    def __init__(self) -> None:
        self.in_order: deque[Job[Any]] = deque()
        self.out_of_order: list[Entry] = []  # a heap
        self.is_in_ranks = False


class ReadyOrder:
    """Buckets of jobs by rank, and a heap of the ranks in use.

    The rank is minus the priority. With aging there is one bucket, of rank 0, with all jobs in its
    heap, sorted by the time at which they were queued, moved back by `aging` seconds per level.
    """

    __slots__ = ("_aging", "_buckets", "ranks")

    def __init__(self, aging: float | None) -> None:
        self._aging: Final = aging
        self.clear()

    def clear(self) -> None:
        """Remove all entries."""
        self.ranks: list[float] = []  # of buckets that have entries; empty if no job may start
        self._buckets: dict[float, _Bucket] = {}

    def append(self, job: Job[Any]) -> None:
        """Add a job that has arrived after all others."""
        if self._aging is not None:
            self.insert(job)
            return
        rank = -job._policy.priority
        bucket = self._buckets.get(rank)
        if bucket is None or not bucket.is_in_ranks:
            bucket = self._open_bucket(rank)
        bucket.in_order.append(job)

    def insert(self, job: Job[Any]) -> None:
        """Add a job that may have arrived before others, at its place."""
        if self._aging is None:
            rank: float = -job._policy.priority
            entry: Entry = (rank, job._number, job)
        else:
            rank, entry = 0, self.entry(job)
        bucket = self._buckets.get(rank)
        if bucket is None or not bucket.is_in_ranks:
            bucket = self._open_bucket(rank)
        heappush(bucket.out_of_order, entry)

    def entry(self, job: Job[Any]) -> Entry:
        """Return the sort key of a job, its number, and the job; lower entries start first."""
        if self._aging is None:
            return (-job._policy.priority, job._number, job)
        # A job of one level more is ahead of those that came `aging` seconds earlier.
        priority = max(-_HIGHEST_PRIORITY, min(job._policy.priority, _HIGHEST_PRIORITY))
        sort_key = job._queued_at - priority * self._aging
        return (sort_key, job._number, job)

    def pop(self) -> Job[Any]:
        """Remove the first entry and return its job; there must be one."""
        ranks = self.ranks
        bucket = self._buckets[ranks[0]]
        in_order, out_of_order = bucket.in_order, bucket.out_of_order
        if out_of_order and not (in_order and in_order[0]._number < out_of_order[0][1]):
            _, _, job = heappop(out_of_order)
        else:
            job = in_order.popleft()
        if not in_order and not out_of_order:
            bucket.is_in_ranks = False
            rank = heappop(ranks)
            if len(self._buckets) > _KEPT_BUCKETS:
                del self._buckets[rank]
        return job

    def remove(self, job: Job[Any]) -> None:
        """Remove the entry of a job that may return to the queue, if there is one."""
        rank = -job._policy.priority if self._aging is None else 0
        bucket = self._buckets.get(rank)
        if bucket is None:
            return
        bucket.in_order = deque(each for each in bucket.in_order if each is not job)
        bucket.out_of_order = [each for each in bucket.out_of_order if each[2] is not job]
        heapify(bucket.out_of_order)
        if bucket.is_in_ranks and not (bucket.in_order or bucket.out_of_order):
            bucket.is_in_ranks = False
            self.ranks.remove(rank)
            heapify(self.ranks)

    def _open_bucket(self, rank: float) -> _Bucket:
        """Return the bucket of a rank without entries, with the rank in `ranks`."""
        bucket = self._buckets[rank] = self._buckets.get(rank) or _Bucket()
        bucket.is_in_ranks = True
        heappush(self.ranks, rank)
        return bucket
