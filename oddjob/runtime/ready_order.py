"""ReadyOrder: the jobs that may start now, in the order in which they will.

Higher priorities come first; among equals it is the order of arrival (``job._number``). With aging,
a job gains one level of priority for every `aging` seconds that it waits.

Entries may be stale: a job that was cancelled stays in here until it comes up, and `LimitedQueue`
drops it then. Locking: that of the queue.
"""

from collections import deque
from heapq import heapify, heappop, heappush
from typing import Any, Final

from oddjob.runtime.job import Job

_KEPT: Final = 64  # buckets; beyond that, one that becomes empty is dropped
_HIGHEST_PRIORITY: Final = 10**300  # with aging: more is no float

Entry = tuple[float, int, Job[Any]]


class _Bucket:
    """The jobs of one rank: those that came in their order, and a heap of all others."""

    __slots__ = ("fresh", "is_listed", "sorted_in")

    def __init__(self) -> None:
        self.fresh: deque[Job[Any]] = deque()
        self.sorted_in: list[Entry] = []  # a heap
        self.is_listed = False


class ReadyOrder:
    """Buckets of jobs by rank, which is minus the priority; and a heap of the ranks in use.

    With aging there is one bucket, of rank 0, with all jobs in its heap.
    """

    __slots__ = ("_aging", "_buckets", "ranks")

    def __init__(self, aging: float | None) -> None:
        self._aging: Final = aging
        self.clear()

    def clear(self) -> None:
        """Forget all entries."""
        self.ranks: list[float] = []  # of buckets that have entries: empty if no job may start
        self._buckets: dict[float, _Bucket] = {}

    def append(self, job: Job[Any]) -> None:
        """Add a job that has arrived after all others."""
        if self._aging is not None:
            self.insert(job)
            return
        rank = -job._policy.priority
        bucket = self._buckets.get(rank)
        if bucket is None or not bucket.is_listed:
            bucket = self._listed(rank)
        bucket.fresh.append(job)

    def insert(self, job: Job[Any]) -> None:
        """Add a job that has waited for something else, at its place."""
        if self._aging is None:
            rank: float = -job._policy.priority
            entry: Entry = (rank, job._number, job)
        else:
            rank, entry = 0, self.entry(job)
        bucket = self._buckets.get(rank)
        if bucket is None or not bucket.is_listed:
            bucket = self._listed(rank)
        heappush(bucket.sorted_in, entry)

    def entry(self, job: Job[Any]) -> Entry:
        """Return what sorts as the job does: its rank, its number, and the job."""
        if self._aging is None:
            return (-job._policy.priority, job._number, job)
        # A job of one level more is ahead of those that came `aging` seconds earlier.
        priority = max(-_HIGHEST_PRIORITY, min(job._policy.priority, _HIGHEST_PRIORITY))
        return (job._queued_at - priority * self._aging, job._number, job)

    def pop(self) -> Job[Any]:
        """Remove the first entry and return its job; there must be one."""
        ranks = self.ranks
        bucket = self._buckets[ranks[0]]
        fresh, sorted_in = bucket.fresh, bucket.sorted_in
        if sorted_in and not (fresh and fresh[0]._number < sorted_in[0][1]):
            job = heappop(sorted_in)[2]
        else:
            job = fresh.popleft()
        if not fresh and not sorted_in:
            bucket.is_listed = False
            rank = heappop(ranks)
            if len(self._buckets) > _KEPT:
                del self._buckets[rank]
        return job

    def remove(self, job: Job[Any]) -> None:
        """Remove the entry of a job that may come back, if there is one."""
        rank = -job._policy.priority if self._aging is None else 0
        bucket = self._buckets.get(rank)
        if bucket is None:
            return
        bucket.fresh = deque(each for each in bucket.fresh if each is not job)
        bucket.sorted_in = [entry for entry in bucket.sorted_in if entry[2] is not job]
        heapify(bucket.sorted_in)
        if bucket.is_listed and not (bucket.fresh or bucket.sorted_in):
            bucket.is_listed = False
            self.ranks.remove(rank)
            heapify(self.ranks)

    def _listed(self, rank: float) -> _Bucket:
        """Return the bucket of a rank that had no entries, and is about to have one."""
        bucket = self._buckets[rank] = self._buckets.get(rank) or _Bucket()
        bucket.is_listed = True
        heappush(self.ranks, rank)
        return bucket
