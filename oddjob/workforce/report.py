"""DrainReport: what a pool that was drained leaves behind."""

from typing import Any, NamedTuple

from oddjob.job import Job
from oddjob.timer import Timer

__all__ = ["DrainReport"]


class DrainReport(NamedTuple):
    """What became of the jobs that were queued or running when the drain began."""

    finished: list[Job[Any]]  # have succeeded or failed
    cancelled: list[Job[Any]]  # had not started when the time was up, late-comers included
    running: list[Job[Any]]  # had not ended; nobody will wait for them
    timers: list[Timer]  # had not fired, and were cancelled when the pool was closed

    @classmethod
    def of(
        cls, jobs: list[Job[Any]], cancelled: list[Job[Any]], timers: list[Timer]
    ) -> "DrainReport":
        """Sort jobs by what became of them; `cancelled` are those that the drain has cancelled.

        What others have cancelled meanwhile, they know.
        """
        running = [job for job in jobs if not job.done()]
        finished = [job for job in jobs if job.done() and not job.cancelled()]
        return cls(finished, cancelled, running, timers)
