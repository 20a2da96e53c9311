"""Links: what a scheduled job waits for (a timer, or other jobs), and the batch that it is in.

`set_waiting` marks a job as scheduled; `set_due` marks it as queued.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import IntEnum
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from oddjob.callables import call_all
from oddjob.runtime.job_state import FAILED, SUCCEEDED, JobState

if TYPE_CHECKING:
    from oddjob.runtime.job import Job


class Condition(IntEnum):
    """How a predecessor has to end so that the job that waits for it runs."""

    SUCCESS = 0  # by success. If it fails, the job fails; if it is cancelled, the job is cancelled
    VALUE = 1  # as SUCCESS; its result becomes the first argument of the job
    IF_SUCCEEDED = 2  # by success; otherwise the job is cancelled
    IF_FAILED = 3  # by failure; otherwise the job is cancelled
    ENDED = 4  # in any way

    def is_met(self, state: JobState) -> bool:
        """Return whether the job may run if its predecessor has ended in this state."""
        if self is Condition.IF_FAILED:
            return state == FAILED
        return self is Condition.ENDED or state == SUCCEEDED

    def passes_on(self, state: JobState) -> bool:
        """Return whether the job fails if the condition is not met; otherwise it is cancelled."""
        return self in (Condition.SUCCESS, Condition.VALUE) and state == FAILED


class Links(NamedTuple):
    """How a job is linked to others."""

    after: "tuple[tuple[Job[Any], Condition], ...]" = ()  # its predecessors
    batch: "Job[Any] | None" = None  # the job that stands for the batch of which it is a member
    is_batch: bool = False  # it stands for a batch itself, and has no call

    @property
    def takes_value(self) -> bool:
        """Whether the job is called with the result of a predecessor."""
        return any(condition is Condition.VALUE for _, condition in self.after)


class WaitsFor(Protocol):
    """What a scheduled job waits for: a timer, or other jobs."""

    @property
    def others(self) -> "Sequence[Job[Any]]":
        """The jobs that it waits for; empty for a timer."""
        ...

    @property
    def next(self) -> datetime | None:
        """The date at which it fires; None if it waits for jobs, or is paused."""
        ...

    def job_cancelled(self, job: "Job[Any]", /) -> None:
        """Note that a job was cancelled while it waited."""


def set_waiting(job: "Job[Any]", timer: WaitsFor) -> None:
    """Let a job wait for a timer, or for other jobs; it is ``scheduled`` until `set_due`."""
    job._queued_at = inf
    job._ensure_details().waits_for = timer


def set_due(job: "Job[Any]", now: float) -> None:
    """Let a job wait no longer, and release what it has waited for.

    Args:
        job: the job.
        now: when it is queued, in monotonic seconds; infinity if it has ended; minus infinity if
            the job belongs to the parent process, in a forked child.
    """
    job._queued_at = now
    if job._details is not None:
        job._details.waits_for = None


def unended_predecessors(job: "Job[Any]") -> "list[Job[Any]]":
    """Return the jobs that a job itself waits for and that have not ended."""
    waits_for = None if job._details is None else job._details.waits_for
    return [] if waits_for is None else [each for each in waits_for.others if not each.done()]


def with_predecessors(job: "Job[Any]") -> "Iterator[Job[Any]]":
    """Yield a job and all on which it depends, each once, if they have not ended."""
    seen: set[Job[Any]] = set()
    left = [job]
    while left:
        each = left.pop()
        if each not in seen and not each.done():
            seen.add(each)
            left += reversed(unended_predecessors(each))
            yield each


class _Cascade(threading.local):
    """The calls that wait for their turn in the calling thread; None: no call is being made."""

    calls: deque[Callable[[], object]] | None = None


_here: Final = _Cascade()


def call_in_turn(call: Callable[[], object]) -> None:
    """Make a call that ends or queues a job because another one has ended.

    The end of a job may end the next one of a chain, and so on. If each such call was made within
    the one before, a chain of 200 jobs would reach the recursion limit. So a call that comes while
    another one is being made in this thread is made after that.
    """
    if _here.calls is not None:
        _here.calls.append(call)
        return
    with own_turns():
        call()


@contextmanager
def own_turns() -> Iterator[None]:
    """Make the calls that come in this block at its end, and not in the turns of an outer call.

    Code of the user's may run within such a call, and may wait for jobs that run in its thread.
    """
    outer, _here.calls = _here.calls, deque()
    try:
        try:
            yield
        finally:
            call_all(_taken(_here.calls))
    finally:
        _here.calls = outer


def _taken(calls: deque[Callable[[], object]]) -> Iterator[Callable[[], object]]:
    while calls:
        yield calls.popleft()
