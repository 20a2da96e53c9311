"""Field: all jobs that wait, in lanes, and what others count against limits."""

from collections.abc import Iterator
from itertools import count
from math import inf
from typing import Any, Final
from weakref import WeakSet

from oddjob.job import Job
from oddjob.limits import Gate
from oddjob.workforce.lanes import Hold, KeyLane, Lane, OpenLane

__all__ = ["Field"]

_KEPT: Final = 64  # lanes that may be empty


class Field:
    """The jobs that wait, in lanes; those that are put off; and what counts against limits.

    Locking: none of its own; the agenda's lock. Its length may be asked for without.
    """

    def __init__(self, ageing: float | None) -> None:
        self._ageing: Final = ageing
        self._numbers = count()
        self._lanes: dict[Any, OpenLane] = {}
        self._keys: dict[Any, KeyLane] = {}
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
        """The lane that a job belongs to."""
        lane = self._known_lane(job)
        if lane is None:
            priority = job.line.priority
            if job.key is None:
                lane = self._lanes[job.line] = OpenLane(job.line, next(self._numbers))
                self._is_crowded = self._is_crowded or priority in self._priorities
            else:
                lane = self._keys[job.key] = KeyLane(job.key, next(self._numbers))
                self._is_crowded = True
            self._priorities.add(priority)
        return lane

    def _known_lane(self, job: Job[Any]) -> OpenLane | KeyLane | None:
        return self._lanes.get(job.line) if job.key is None else self._keys.get(job.key)

    def note_cancelled(self, job: Job[Any]) -> bool:
        """Be told that a job was cancelled; false if it is to be taken out at once."""
        lane = self._known_lane(job)
        if not isinstance(lane, OpenLane) or job in self.delayed:
            return False
        lane.note_cancelled()
        return True

    def forget_if_unused(self, lane: Lane) -> None:
        """Keep no lane in which there is nothing."""
        if lane.jobs or lane.inside or lane.entry is not None:
            return
        if lane.is_keyed:
            self._keys.pop(lane.ident, None)
        elif len(self._lanes) > _KEPT:
            self._lanes.pop(lane.ident, None)

    def lanes(self) -> Iterator[Lane]:
        """All lanes."""
        yield from list(self._lanes.values())
        yield from list(self._keys.values())

    def waits(self, job: Job[Any]) -> bool:
        """Whether a job is still to be handed out."""
        lane = self._known_lane(job)
        return job in self.delayed or (lane is not None and lane.has(job))

    def jobs_behind(self, job: Job[Any]) -> list[Job[Any]]:
        """Those of its key that wait."""
        lane = self._keys.get(job.key)
        return [] if lane is None else lane.snapshot()

    def in_order(self) -> list[Job[Any]]:
        """All jobs in the order in which they will start if nothing stops them."""
        found: list[tuple[float, float, Job[Any]]] = []
        for lane in self.lanes():
            rank = (-inf, -inf)
            for job in lane.snapshot():
                rank = max(rank, self._rank(job))
                found.append((*rank, job))
        found += [(inf, until, job) for job, until in self.delayed.items()]
        found.sort(key=lambda each: each[:2])
        return [job for _, _, job in found]

    def oldest(self) -> Job[Any] | None:
        """The one that has waited longest, of those with the lowest priority."""
        firsts = [job for lane in self.lanes() if (job := lane.first) is not None]
        found = firsts or list(self.delayed)
        return min(found, key=lambda job: (job.line.priority, job.queued_at), default=None)

    def _rank(self, job: Job[Any]) -> tuple[float, float]:
        priority = job.line.priority
        if self._ageing is None:
            return (-priority, job.queued_at)
        return (0, job.queued_at - priority * self._ageing)
