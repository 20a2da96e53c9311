"""Links: what a scheduled job waits for, a timer or other jobs, and the batch that it is in.

`set_waiting` and `set_due` mark a job as scheduled, and as queued.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import IntEnum
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from oddjob.runtime.job_state import FAILED, SUCCEEDED, JobState

if TYPE_CHECKING:
    from oddjob.runtime.job import Job


class Condition(IntEnum):
    """What a job that waits for another one needs of the end of that."""

    SUCCESS = 0  # success; if the other one fails or is cancelled, so does, or is, the waiting job
    VALUE = 1  # as SUCCESS, and the result becomes the first argument
    IF_SUCCEEDED = 2  # success; otherwise the waiting job is cancelled
    IF_FAILED = 3  # failure; otherwise the waiting job is cancelled
    ENDED = 4  # any end will do

    def is_met(self, state: JobState) -> bool:
        """Return whether an end in this state is what the waiting job needs."""
        if self is Condition.IF_FAILED:
            return state == FAILED
        return self is Condition.ENDED or state == SUCCEEDED

    def passes_on(self, state: JobState) -> bool:
        """Return whether the job fails if the other one has ended so; else it is cancelled."""
        return self in (Condition.SUCCESS, Condition.VALUE) and state == FAILED


class Links(NamedTuple):
    """How a job is linked to others."""

    after: "tuple[tuple[Job[Any], Condition], ...]" = ()  # it waits for these
    batch: "Job[Any] | None" = None  # it is a member of that
    is_batch: bool = False  # it stands for a batch, and has no call

    @property
    def takes_value(self) -> bool:
        """Whether it is given the result of the job before."""
        return any(condition is Condition.VALUE for _, condition in self.after)


class WaitsFor(Protocol):
    """What a scheduled job waits for: a timer, or other jobs."""

    @property
    def others(self) -> "Sequence[Job[Any]]":
        """The jobs that it waits for; none of a timer."""
        ...

    @property
    def next(self) -> datetime | None:
        """When it fires; None: it does not, as it waits for jobs, or is paused."""
        ...

    def job_cancelled(self, job: "Job[Any]", /) -> None:
        """Let go of a job that was cancelled while it waited."""


def set_waiting(job: "Job[Any]", timer: WaitsFor) -> None:
    """Let a job wait for a timer, or for others: it is ``scheduled`` until `set_due`."""
    job._queued_at = inf
    job._ensure_details().waits_for = timer


def set_due(job: "Job[Any]", now: float) -> None:
    """Take a job off what it waits for.

    Args:
        job: the job.
        now: when it is queued, in monotonic seconds; infinity if it was cancelled; minus infinity
            if it is the parent's, in a forked child.
    """
    job._queued_at = now
    if job._details is not None:
        job._details.waits_for = None
