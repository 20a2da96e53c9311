"""Lanes: jobs that wait one behind the other, whatever else is going on."""

from collections import OrderedDict
from typing import Any, Final

from oddjob.job import Job
from oddjob.limits import Gate

__all__ = ["Entry", "Hold", "Lane"]

_SHORT: Final = 16  # as many jobs are kept in a list, which takes little room

# What limits a job counts against: the lane of its key, gates, and the tickets for these.
Hold = tuple["Lane | None", tuple[Gate, ...], tuple[int, ...]]
Entry = tuple[float, float, int, "Lane"]  # of a heap: less urgency, later arrival, the lane


class Lane:
    """Jobs of one key, or else of one priority and the same limits, in the order they will start.

    Of a lane only the first job is looked at. What stops it stops the lane, so a limit that is
    reached costs a step for each lane and not for each job.

    Locking: none of its own; the agenda's lock.
    """

    __slots__ = ("entry", "ident", "inside", "is_keyed", "jobs", "number")

    def __init__(self, ident: Any, number: int, *, is_keyed: bool) -> None:
        self.ident: Final = ident
        self.number: Final = number
        self.is_keyed: Final = is_keyed
        self.inside = 0  # how many of a key's jobs have been handed out
        self.entry: Entry | None = None  # by which it stands in a heap; any other is out of date
        # In order, and a job can be taken out anywhere. A key has few jobs, or one, and there are
        # many keys: for those a list does, which takes less room.
        self.jobs: list[Job[Any]] | OrderedDict[Job[Any], None] = [] if is_keyed else OrderedDict()

    @property
    def first(self) -> Job[Any]:
        """The job that is looked at."""
        return next(iter(self.jobs))

    def add(self, job: Job[Any]) -> None:
        """Put a job at the end."""
        jobs = self.jobs
        if type(jobs) is OrderedDict:
            jobs[job] = None
        elif len(jobs) < _SHORT:
            jobs.append(job)  # type: ignore[union-attr]  # a list
        else:
            self.jobs = OrderedDict.fromkeys([*jobs, job])

    def add_first(self, job: Job[Any]) -> None:
        """Put a job at the head."""
        jobs = self.jobs
        if type(jobs) is OrderedDict:
            jobs[job] = None
            jobs.move_to_end(job, last=False)
        else:
            jobs.insert(0, job)  # type: ignore[union-attr]  # a list

    def remove(self, job: Job[Any]) -> None:
        """Take a job out that is in it."""
        jobs = self.jobs
        if type(jobs) is OrderedDict:
            del jobs[job]
        else:
            jobs.remove(job)  # type: ignore[union-attr]  # a list

    def clear(self) -> None:
        """Have no jobs any more."""
        self.jobs = [] if self.is_keyed else OrderedDict()
