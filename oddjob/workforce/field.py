"""Field: all jobs that wait, in lanes, and what others count against limits.

Jobs of one key have a lane of their own, which is where they wait for each other. Most keys of a
program with many have one job at a time, though, and that waits for nobody: it *claims* its key,
and stands in the lane of those that have none. Whoever has run it gives the key back, without the
agenda's lock. A second job of the key opens the lane: the first is ``ahead`` of it then, wherever
it is, and goes on being counted. So each key is in one of three states: nobody's, claimed by one
job (``claims``), or with a lane (``_keys``), in which new ones of that key line up until it is
empty. Which of two was quicker, the second job or the first one's end, is decided by who takes the
claim out of the dict.
"""

from collections.abc import Iterator
from itertools import count
from math import inf
from typing import Any, Final
from weakref import WeakSet

from oddjob.job import Job
from oddjob.limits import Gate, Line
from oddjob.workforce.lanes import Hold, KeyLane, Lane, OpenLane

__all__ = ["Field"]

_KEPT: Final = 64  # lanes that may be empty
_MOST_URGENT: Final = 10**300  # where jobs become more urgent: what is beyond that is no float


class Field:
    """The jobs that wait, in lanes; those that are put off; and what counts against limits.

    Locking: none of its own; the agenda's lock. Its length may be asked for without.
    """

    def __init__(self, ageing: float | None) -> None:
        self._ageing: Final = ageing
        self._numbers = count()
        self._lanes: dict[Any, OpenLane] = {}
        self._keys: dict[Any, KeyLane] = {}
        self.claims: dict[Any, Job[Any]] = {}
        self.delayed: dict[Job[Any], float] = {}  # until when
        self.holders: dict[Job[Any], Hold] = {}
        self._gates: WeakSet[Gate] = WeakSet()
        self._keyed = 0  # how many jobs with a key wait
        self._priorities: set[float] = set()
        # Whether two lanes may be equally urgent. Then it is a matter of arrival which is first.
        self._is_crowded = ageing is not None

    def __len__(self) -> int:
        """How many wait, those included that are put off."""
        in_open_lanes = sum([len(lane.jobs) for lane in list(self._lanes.values())])
        return in_open_lanes + self._keyed + len(self.delayed)

    def lane_of(self, job: Job[Any]) -> OpenLane | KeyLane:
        """The lane that a job stands in, or would."""
        if job.key is None or self._has_key(job):
            return self.open_lane(job.line)
        return self.key_lane(job)

    def open_lane(self, line: Line) -> OpenLane:
        """The lane of those that stand in that line and have no key, or have theirs."""
        lane = self._lanes.get(line)
        if lane is None:
            lane = self._lanes[line] = OpenLane(line, next(self._numbers))
            self._is_crowded = self._is_crowded or line.priority in self._priorities
            self._priorities.add(line.priority)
        return lane

    def key_lane(self, job: Job[Any]) -> KeyLane:
        """The lane of those of a job's key; whoever has claimed it is ahead of them from now on."""
        key = job.key
        lane = self._keys.get(key)
        if lane is None:
            lane = self._keys[key] = KeyLane(key, next(self._numbers))
            self._is_crowded = True
            self._priorities.add(job.line.priority)
        if key in self.claims:
            # Set by a loop: nothing can interrupt between taking the claim and keeping it.
            for lane.ahead in map(self.claims.pop, (key,), (None,)):
                lane.inside = int(lane.ahead is not None)
            self._pass_by_if_cancelled(lane)
        return lane

    def _pass_by_if_cancelled(self, lane: KeyLane) -> None:
        """Have nobody wait for a job to which nobody has come yet, and that need not be run."""
        ahead = lane.ahead
        if ahead is not None and ahead.cancelled():
            where = self._lanes.get(ahead.line)
            if where is not None and where.remove(ahead):
                lane.ahead = None
                lane.inside = 0

    def _has_key(self, job: Job[Any]) -> bool:
        """Whether a job that has a key does not stand in its lane."""
        return job.can_claim and (
            self.claims.get(job.key) is job or self.lane_behind(job) is not None
        )

    def lane_behind(self, job: Job[Any]) -> KeyLane | None:
        """The lane of those that wait for a job which had claimed their key; None if none do."""
        lane = self._keys.get(job.key) if job.can_claim else None
        return lane if lane is not None and lane.ahead is job else None

    def take_key_from(self, job: Job[Any]) -> KeyLane | None:
        """Have a job that has claimed its key have it no more.

        Returns the lane of those behind it, if there is one, in which it still counts as inside.
        """
        lane = self.lane_behind(job)
        if lane is not None:
            lane.ahead = None
        elif self.claims.get(job.key) is job:
            self.claims.pop(job.key, None)
        return lane

    def forget_if_unused(self, lane: Lane) -> None:
        """Keep no lane in which there is nothing."""
        if lane.jobs or lane.inside or lane.entry is not None:
            return
        if lane.is_keyed:
            self._keys.pop(lane.ident, None)
        elif len(self._lanes) > _KEPT:
            self._lanes.pop(lane.ident, None)

    def _give_back_room(self) -> None:
        """Have dicts that have been large, and are empty, take no more room than others."""
        if not self.claims:  # nobody adds to it without the lock
            self.claims.clear()
        if not self._keys:
            self._keys.clear()

    def lanes(self) -> Iterator[Lane]:
        """All lanes."""
        yield from list(self._lanes.values())
        yield from list(self._keys.values())

    def waits(self, job: Job[Any]) -> bool:
        """Whether a job is still to be handed out."""
        if job in self.delayed:
            return True
        # No generator: what interrupts one that is being closed is lost.
        key_lane, lane = self._keys.get(job.key), self._lanes.get(job.line)
        is_in_key_lane = key_lane is not None and key_lane.has(job)
        return is_in_key_lane or (lane is not None and lane.has(job))

    def jobs_behind(self, job: Job[Any]) -> list[Job[Any]]:
        """Those of its key that wait."""
        lane = self._keys.get(job.key)
        return [] if lane is None else lane.snapshot()

    def jobs(self) -> Iterator[Job[Any]]:
        """All jobs, in no order."""
        for lane in self.lanes():
            yield from lane.snapshot()
        yield from list(self.delayed)

    def in_order(self) -> list[Job[Any]]:
        """All jobs in the order in which they will start if nothing stops them."""
        found: list[tuple[float, float, Job[Any]]] = []
        for lane in self.lanes():
            rank = (-inf, -inf)
            if isinstance(lane, KeyLane) and lane.ahead is not None:
                rank = self._rank(lane.ahead)
            for job in lane.snapshot():
                rank = max(rank, self._rank(job))
                found.append((*rank, job))
        found += [(inf, until, job) for job, until in self.delayed.items()]
        found.sort(key=lambda each: each[:2])
        return [job for _, _, job in found]

    def oldest(self) -> Job[Any] | None:
        """The one that has waited longest, of those with the lowest priority."""
        firsts = [job for lane in self._lanes.values() if (job := lane.first) is not None]
        firsts += [job for lane in self._keys.values() for job in lane.jobs]
        found = firsts or list(self.delayed)
        return min(found, key=lambda job: (job.line.priority, job.queued_at), default=None)

    def _rank(self, job: Job[Any]) -> tuple[float, float]:
        priority = job.line.priority
        if self._ageing is None:
            return (-priority, job.queued_at)
        priority = max(-_MOST_URGENT, min(priority, _MOST_URGENT))
        return (0, job.queued_at - priority * self._ageing)
