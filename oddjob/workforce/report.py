"""DrainReport: what a pool that was drained leaves behind."""

from typing import Any, NamedTuple

from oddjob.job import Job

__all__ = ["DrainReport"]


class DrainReport(NamedTuple):
    """What became of the jobs that were queued or running when the drain began."""

    finished: list[Job[Any]]  # have succeeded or failed
    cancelled: list[Job[Any]]  # had not started when the time was up
    running: list[Job[Any]]  # had not ended; nobody will wait for them

    @classmethod
    def of(cls, jobs: list[Job[Any]]) -> "DrainReport":
        """Sort jobs by what became of them."""
        report = cls([], [], [])
        for job in jobs:
            if not job.done():
                report.running.append(job)
            elif job.cancelled():
                report.cancelled.append(job)
            else:
                report.finished.append(job)
        return report
