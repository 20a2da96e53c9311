"""LimitGate: acquires and releases the limits of jobs, and keeps those that a limit stops.

A job that a closed limit stops waits before that limit. When it opens, one job goes on: it is
examined in its turn, and whatever comes of that (it starts, another limit stops it, it was
cancelled), its limits are resumed again. So no job waits before a limit that is open.

Locking: that of the queue.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from heapq import heapify, heappop, heappush
from math import inf
from typing import Any, Final, NamedTuple
from weakref import WeakSet

from oddjob.runtime.job import Job
from oddjob.runtime.limits import Limit
from oddjob.runtime.ready_order import ReadyOrder

Tickets = Sequence[int | None]  # of a job's limits, in their order; None: nothing to release

NOTHING_TO_RELEASE: Final[Tickets] = [None]  # of a single limit, as it mostly is


class Obstacles(NamedTuple):
    """What keeps a job from starting."""

    holders: Sequence[Job[Any]] = ()  # of its key, if others of the key are before it
    closed: Sequence[Limit] = ()
    is_behind: bool = False  # others of its key are before it
    delayed_until: float | None = None  # monotonic seconds; it is to be tried again then


class LimitGate:
    """The limits of one queue.

    Args:
        ready: takes the jobs that go on.
        waiting: the jobs that wait; any other one before a limit is stale.
        schedule: called with a limit that is closed, and when it opens, in monotonic seconds.
    """

    __slots__ = ("_adopted", "_ready", "_schedule", "_waiting")

    def __init__(
        self,
        ready: ReadyOrder,
        waiting: Container[Job[Any]],
        schedule: Callable[[float, Limit], object],
    ) -> None:
        self._ready: Final = ready
        self._waiting: Final = waiting
        self._schedule: Final = schedule
        self._adopted: Final[WeakSet[Limit]] = WeakSet()

    def adopt(self, limits: Iterable[Limit]) -> None:
        """Let jobs of this queue pass limits that are new to it; they begin anew."""
        for limit in limits:
            if limit not in self._adopted:
                limit.reset()
                self._adopted.add(limit)

    def adopted(self) -> list[Limit]:
        """Return the limits that are in use."""
        return list(self._adopted)

    def enter(self, job: Job[Any], limits: tuple[Limit, ...], now: float) -> Tickets | None:
        """Acquire all limits of a job, or keep it before the first one that is closed."""
        for limit in limits:
            if limit.opens_at > now:
                heappush(limit.waiting, self._ready.entry(job))
                self.resume(limits, now)
                return None
        queued_at, tickets = job._queued_at, []
        for limit in limits:
            tickets.append(limit.acquire(now, queued_at))  # a comprehension takes twice as long
            if limit.waiting:
                self.resume_one(limit, now)
        return tickets

    def enter_beside(self, job: Job[Any], held: Container[Limit], now: float) -> Tickets | None:
        """Acquire the limits of a job but for those in `held`; None if one of them is closed."""
        limits = job._policy.limits
        closed = [each for each in limits if each.opens_at > now and each not in held]
        for limit in closed:
            self._schedule_opening(limit)
        if closed:
            return None
        return [None if each in held else each.acquire(now, job._queued_at) for each in limits]

    def leave(self, job: Job[Any], tickets: Tickets, now: float) -> None:
        """Release what a job holds."""
        for limit, ticket in zip(job._policy.limits, tickets):  # noqa: B905  (one each)
            if ticket is not None:
                limit.release(ticket, now)
            if limit.waiting:
                self.resume_one(limit, now)

    def remove(self, job: Job[Any]) -> None:
        """Remove a job that may come back from before its limits."""
        for limit in job._policy.limits:
            limit.waiting = [entry for entry in limit.waiting if entry[2] is not job]
            heapify(limit.waiting)

    def resume(self, limits: tuple[Limit, ...], now: float) -> None:
        """Let jobs go on that wait before these limits, if they are open."""
        for limit in limits:
            if limit.waiting:
                self.resume_one(limit, now)

    def resume_one(self, limit: Limit, now: float) -> None:
        """Let the first job before an open limit go on; have a closed one looked at later."""
        if limit.opens_at > now:
            self._schedule_opening(limit)
            return
        while limit.waiting:
            job = heappop(limit.waiting)[2]
            if job in self._waiting:
                self._ready.insert(job)
                return

    def reopen(self, limit: Limit, now: float) -> None:
        """Look at a limit whose time has come."""
        limit.scheduled_for = inf
        self.resume_one(limit, now)

    def rebuild(self, holders: Iterable[tuple[Job[Any], Tickets]]) -> None:
        """Count anew what the running jobs hold; no job waits before a limit now."""
        held = Counter(
            limit
            for job, tickets in holders
            for limit, ticket in zip(job._policy.limits, tickets)  # noqa: B905
            if ticket is not None
        )
        for limit in self._adopted:
            limit.waiting, limit.scheduled_for = [], inf
            limit.recount(held[limit])

    def _schedule_opening(self, limit: Limit) -> None:
        if limit.opens_at < limit.scheduled_for:
            limit.scheduled_for = limit.opens_at
            self._schedule(limit.opens_at, limit)
