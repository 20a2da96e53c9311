"""LimitGate: acquires and releases the limits of jobs, and keeps the jobs that a limit stops.

A job that a closed limit stops waits before that limit. When the limit opens, the gate lets one job
through: the queue examines it in its turn. The job may start, be stopped by another limit, or have
been cancelled. Whatever the result, its limits then let the next jobs through; hence no job waits
before an open limit.

Locking: every method needs the queue's lock, except `adopt` and `adopted`, which any thread may
call. `_adopted` is changed and read in single steps of a dict.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from heapq import heapify, heappop, heappush
from math import inf
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from oddjob.runtime.job import Job
from oddjob.runtime.limits import Limit
from oddjob.runtime.ready_order import ReadyOrder

# One entry for each limit of the job's policy, in the same order; None if there is nothing to
# release.
Tickets = Sequence[int | None]

NOTHING_TO_RELEASE: Final[Tickets] = [None]  # the usual case: a single limit, a rate


class Obstacles(NamedTuple):
    """What keeps a job from starting."""

    holders: Sequence[Job[Any]] = ()  # if `is_behind`: the jobs that hold places of its key
    closed: Sequence[Limit] = ()  # its limits that are closed
    is_behind: bool = False  # another job of its key must start first
    delayed_until: float | None = None  # when its next attempt is due, in monotonic seconds


class LimitGate:
    """The limits of one queue.

    Args:
        ready: receives the jobs that the gate lets through.
        waiting: the jobs that wait. A job before a limit that is not among them is stale.
        schedule: called with the time at which a limit opens, in monotonic seconds, and the limit.
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
        self._adopted: Final[WeakKeyDictionary[Limit, None]] = WeakKeyDictionary()

    def adopt(self, limits: Iterable[Limit]) -> None:
        """Note that jobs of this queue have these limits; some may have been adopted before."""
        for limit in limits:
            self._adopted[limit] = None

    def adopted(self) -> list[Limit]:
        """Return the limits in use."""
        return [limit for ref in self._adopted.keyrefs() if (limit := ref()) is not None]

    def reset_after_fork(self) -> list[Limit]:
        """Reset the limits in use in a forked child, and return them."""
        limits = self.adopted()
        for limit in limits:
            limit.reset()
        return limits

    def acquire_all(self, job: Job[Any], limits: tuple[Limit, ...], now: float) -> Tickets | None:
        """Acquire all limits of a job and return its tickets.

        If a limit is closed, keep the job before the first closed one, acquire none, and return
        None.
        """
        for limit in limits:
            if limit.opens_at > now:
                heappush(limit.waiting, self._ready.entry(job))
                self.let_jobs_through(limits, now)
                return None
        queued_at, tickets = job._queued_at, []
        for limit in limits:
            tickets.append(limit.acquire(now, queued_at))  # a comprehension takes twice as long
            if limit.waiting:
                self.let_next_through(limit, now)
        return tickets

    def acquire_except(self, job: Job[Any], held: Container[Limit], now: float) -> Tickets | None:
        """Acquire the limits of a job except those in `held`, and return its tickets.

        A limit in `held` belongs to a job that waits for this one: its ticket is None, as it is not
        to be released twice. If one of the others is closed, acquire none, and return None.
        """
        limits = job._policy.limits
        closed = [each for each in limits if each.opens_at > now and each not in held]
        for limit in closed:
            self._schedule_opening(limit)
        if closed:
            return None
        return [None if each in held else each.acquire(now, job._queued_at) for each in limits]

    def release_all(self, job: Job[Any], tickets: Tickets, now: float) -> None:
        """Release the tickets of a job."""
        for limit, ticket in zip(job._policy.limits, tickets):  # noqa: B905  (one each)
            if ticket is not None:
                limit.release(ticket, now)
            if limit.waiting:
                self.let_next_through(limit, now)

    def drop_waiting(self, job: Job[Any]) -> None:
        """Remove a job from those that wait before its limits, as it may return to the queue."""
        for limit in job._policy.limits:
            limit.waiting = [each for each in limit.waiting if each[2] is not job]
            heapify(limit.waiting)

    def let_jobs_through(self, limits: tuple[Limit, ...], now: float) -> None:
        """Let one job through each of these limits that is open."""
        for limit in limits:
            if limit.waiting:
                self.let_next_through(limit, now)

    def let_next_through(self, limit: Limit, now: float) -> None:
        """Let the first job before a limit through, or schedule that for when the limit opens."""
        if limit.opens_at > now:
            self._schedule_opening(limit)
            return
        while limit.waiting:
            _, _, job = heappop(limit.waiting)
            if job in self._waiting:
                self._ready.insert(job)
                return

    def reopen(self, limit: Limit, now: float) -> None:
        """Let a job through a limit whose scheduled time has come."""
        limit.scheduled_for = inf
        self.let_next_through(limit, now)

    def rebuild(self, holders: Iterable[tuple[Job[Any], Tickets]]) -> None:
        """Recount what running jobs hold, and let no job wait before a limit.

        The caller makes all waiting jobs ready again.
        """
        held = Counter(
            limit
            for job, tickets in holders
            for limit, ticket in zip(job._policy.limits, tickets)  # noqa: B905
            if ticket is not None
        )
        for limit in self.adopted():
            limit.waiting, limit.scheduled_for = [], inf
            limit.recount(held[limit])

    def _schedule_opening(self, limit: Limit) -> None:
        if limit.opens_at < limit.scheduled_for:
            limit.scheduled_for = limit.opens_at
            self._schedule(limit.opens_at, limit)
