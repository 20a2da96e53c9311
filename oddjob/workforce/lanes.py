"""Lanes: jobs that wait one behind the other, whatever else is going on."""

from collections import deque
from typing import Any, Final, Protocol

from oddjob.job import Job
from oddjob.limits import Gate
from oddjob.settling import contains, remove, snapshot

__all__ = ["Entry", "Hold", "KeyLane", "Lane", "OpenLane", "Taker"]

_SHORT: Final = 16  # as many jobs are kept in a list, which takes little room

# What limits a job counts against: the lane of its key, gates, and the tickets for these.
Hold = tuple["KeyLane | None", tuple[Gate, ...], tuple[int, ...]]
Entry = tuple[float, float, int, "Lane"]  # of a heap: less urgency, later arrival, the lane


class Taker(Protocol):
    """Who takes jobs.

    `offered` is the one it was given, `returned` one that was queued again; `hold` is what limits
    the one that it was given counts against, until it takes the next.
    """

    thread: int | None
    offered: Job[Any] | None
    returned: Job[Any] | None
    hold: Hold | None


class Lane:
    """Jobs that wait in the order in which they will start.

    Of a lane only the first job is looked at. What stops it stops the lane, so a limit that is
    reached costs a step for each lane and not for each job.

    Locking: none of its own; the agenda's lock.
    """

    __slots__ = ("entry", "ident", "jobs", "number")

    is_keyed = False
    inside = 0  # how many of a key's jobs have been handed out

    jobs: Any

    def __init__(self, ident: Any, number: int) -> None:
        self.ident: Final = ident
        self.number: Final = number
        self.entry: Entry | None = None  # by which it stands in a heap; any other is out of date

    @property
    def first(self) -> Job[Any] | None:
        """The job that is looked at; None if there is none."""
        try:
            return self.jobs[0]  # type: ignore[no-any-return]  # a list or deque of jobs
        except IndexError:
            return None

    def has(self, job: Job[Any]) -> bool:
        """Whether a job is there."""
        return contains(self.jobs, job)

    def snapshot(self) -> list[Job[Any]]:
        """The jobs that are there now."""
        return snapshot(self.jobs)

    def mend(self) -> None:
        """Put back what an interruption has left out."""


class OpenLane(Lane):
    """Jobs without a key, that have their priority and their limits in common.

    Locking: workers may take jobs from it without the agenda's lock, when they are told to (see
    `oddjob.workforce.express`). So it may have lost some, or all, at any time.
    """

    __slots__ = ("_cancelled", "_former")

    jobs: deque[Job[Any]]

    def __init__(self, ident: Any, number: int) -> None:
        super().__init__(ident, number)
        self.jobs = deque()
        self._cancelled = 0  # how many were, since it was last cleared of them
        # While it is cleared: what they were in before, and those that were still there at the end.
        self._former: tuple[deque[Job[Any]], list[Job[Any]]] | None = None

    def add(self, job: Job[Any]) -> None:
        """Put a job at the end."""
        self.jobs.append(job)

    def remove(self, job: Job[Any]) -> bool:
        """Take a job out; false if it is not there."""
        return remove(self.jobs, job)

    def note_cancelled(self) -> list[Job[Any]]:
        """Be told that a job has been cancelled: it is taken out in time, with others.

        Returns those that have been taken out now.
        """
        self._cancelled += 1
        if self._cancelled * 2 <= len(self.jobs):
            return []
        self._cancelled = 0
        kept = deque([job for job in snapshot(self.jobs) if not job.done()])
        left: list[Job[Any]] = []
        self._former = self.jobs, left
        self.jobs = kept
        self._leave_out_what_was_taken()
        return [job for job in left if job.done()]

    def _leave_out_what_was_taken(self) -> None:
        """Keep no job that a worker has taken from the former deque, which he had known before."""
        assert self._former is not None  # the caller has seen to that  # noqa: S101
        former, left = self._former
        if former is not self.jobs:
            try:
                # Taken by a loop, and kept: nothing can interrupt in between.
                for job in iter(former.popleft, None):
                    left.append(job)
            except IndexError:
                if former:  # it was thrown in
                    raise
            for job in set(self.jobs).difference(left):
                self.remove(job)
        self._former = None

    def mend(self) -> None:
        """Put right what an interruption has left."""
        if self._former is not None:
            self._leave_out_what_was_taken()


class KeyLane(Lane):
    """Jobs of one key.

    Locking: the agenda's lock.
    """

    __slots__ = ("ahead", "inside")

    is_keyed = True

    # A key has few jobs, or one, and there are many keys: a list takes less room.
    jobs: list[Job[Any]] | deque[Job[Any]]

    def __init__(self, ident: Any, number: int) -> None:
        super().__init__(ident, number)
        self.inside = 0
        self.ahead: Job[Any] | None = None  # had claimed the key, and counts until it gives it back
        self.jobs = []

    def add(self, job: Job[Any]) -> None:
        """Put a job at the end."""
        if len(self.jobs) == _SHORT:
            self.jobs = deque(self.jobs)
        self.jobs.append(job)

    def remove(self, job: Job[Any]) -> bool:
        """Take a job out; false if it is not there."""
        try:
            self.jobs.remove(job)
        except ValueError:
            return False
        return True
