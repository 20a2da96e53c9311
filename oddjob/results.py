"""Results: reading what jobs have returned, one after the other."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from oddjob.job import Job
from oddjob.schedule.clock import clock

__all__ = ["cancel_all", "results_of"]


def cancel_all(jobs: Iterable[Job[Any]]) -> None:
    """Cancel those that have not started."""
    for job in jobs:
        job.cancel()


def results_of(
    jobs: deque[Job[Any]], deadline: float | None, feed: Callable[[], None] | None = None
) -> Iterator[Any]:
    """The results in the order of the jobs; `feed` is called after each, and may add a job."""
    # No method: a pool that nobody else holds may go while its results are read.
    try:
        while jobs:
            yield _take(jobs, deadline, feed)  # and hold nothing of it meanwhile
    finally:
        cancel_all(jobs)
        del jobs, feed  # what is raised holds this frame


def _take(jobs: deque[Job[Any]], deadline: float | None, feed: Callable[[], None] | None) -> object:
    # A job leaves the deque only with its result: until then it can be cancelled.
    try:
        result = jobs[0].result(None if deadline is None else deadline - clock.steady())
        jobs.popleft()
        if feed is not None:
            feed()
        return result
    finally:
        del jobs, feed  # what is raised holds this frame
