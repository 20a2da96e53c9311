"""Settlement: what happens to the outcome of an attempt before the job's future is settled.

This is the seam for a store. A policy has a settlement: the store's, or that of memory.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from oddjob.runtime.job import Job


class Settlement(Protocol):
    """What happens to the outcome of an attempt before the job's future hears of it.

    The seam for a store, which commits outcomes here: a result that has been seen has been
    committed. It is called under no lock, in the thread that ran the attempt (or in the
    supervisor's, when the time of the attempt is up).
    """

    def succeeded(self, job: "Job[Any]", result: Any) -> None:
        """Commit a result. What this raises is the job's failure instead."""

    def failed(self, job: "Job[Any]", error: BaseException) -> float | None:
        """Commit a failure, or arrange for another attempt.

        Returns:
            The seconds until the next attempt, which is arranged for by now; None: there is none.
        """

    def cancelled(self, job: "Job[Any]") -> bool:
        """Commit the cancellation of a queued job; return False to refuse it."""
        ...

    def progressed(self, job: "Job[Any]") -> None:
        """Let others see what a running job has reported of itself."""

    def find_step(self, job: "Job[Any]", name: str, default: Any) -> Any:
        """Return the value of a step that the job has taken, in this attempt or another one."""

    def save_step(self, job: "Job[Any]", name: str, value: Any) -> Any:
        """Save the value of a step, and return the one that is kept for later attempts.

        Raises:
            JobLost: the job was taken over by another process.
        """

    def transaction(self, job: "Job[Any]") -> AbstractContextManager[Any]:
        """Return the transaction that `Job.transaction` describes, or raise RuntimeError."""
        ...


class MemorySettlement:
    """The settlement of jobs that live in this process: nothing is committed."""

    def __init__(self, requeue: "Callable[[Job[Any], float], bool]") -> None:
        self._requeue: Final = requeue

    def succeeded(self, job: "Job[Any]", result: Any) -> None:
        """Do nothing."""

    def failed(self, job: "Job[Any]", error: BaseException) -> float | None:
        """Queue the job again if its policy says so."""
        retry = job._policy.retry
        delay = None if retry is None else retry.decide(error, job.attempt)
        return None if delay is None or not self._requeue(job, delay) else delay

    def cancelled(self, job: "Job[Any]") -> bool:  # noqa: ARG002  (as any settlement)
        """Allow it."""
        return True

    def progressed(self, job: "Job[Any]") -> None:
        """Do nothing: the job itself shows it."""

    def find_step(self, job: "Job[Any]", name: str, default: Any) -> Any:
        """Return the value that the job itself keeps."""
        return (job._ensure_details().steps or {}).get(name, default)

    def save_step(self, job: "Job[Any]", name: str, value: Any) -> Any:
        """Keep the value in the job, unless a late attempt of it has ended this step meanwhile."""
        job._ensure_shared()  # so that the end, even of a plain job, releases the values
        details = job._ensure_details()
        if details.steps is None:
            details.steps = {}
        return details.steps.setdefault(name, value)

    def transaction(self, job: "Job[Any]") -> AbstractContextManager[Any]:
        """Raise RuntimeError: there is no store to write to."""
        raise RuntimeError(
            f"transaction() is for jobs that come from a store in a file, and {job.name} does not: "
            'Pool("name", store="sqlite:///jobs.db")'
        )
