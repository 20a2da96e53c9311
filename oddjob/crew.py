"""Crew: what a job knows of the workforce that it was given to."""

from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Protocol

__all__ = ["Crew"]


class Crew(Protocol):
    """What a job knows of the workforce that it was given to."""

    @property
    def pool(self) -> Any:
        """The pool object, or None once an anonymous one has been collected."""

    @property
    def name(self) -> str | None:
        """The pool's name; None for an anonymous one."""

    @property
    def label(self) -> str:
        """What the pool is called in the log."""

    def is_crash(self, error: BaseException) -> bool:
        """Whether the worker that ran into it should be replaced."""

    def count(self, what: str) -> None:
        """Count, for the pool's statistics, what befell a job that no worker had."""

    def watch(self, job: Any, deadline: float) -> Any:
        """Look after a job with a timeout, which the calling thread is about to run."""

    def unwatch(self, watch: Any) -> None:
        """Be told that the run is over."""

    def note_failure(self, job: Any, error: BaseException) -> None:
        """Be told that a call has raised something."""

    def note_retry(self, job: Any, error: BaseException) -> None:
        """Be told that a call has raised something, and that the job is tried again."""

    def note_loss(self, job: Any) -> None:
        """Be told that a queued job has been cancelled."""

    def note_seen(self, job: Any) -> None:
        """Be told that somebody has looked at a failure."""

    def put_off(self, job: Any, delay: float) -> bool:
        """Queue a job again that has failed; false if it has ended meanwhile."""

    def release(self, job: Any) -> None:
        """Count a job no longer against limits."""

    def forsake_line(self, job: Any, since: float) -> None:
        """End those that waited for a job, which has failed at that time, to succeed."""

    def interrupt(self, job: Any) -> None:
        """Cancel the coroutine of a running job, if it is one."""

    def when_queued(self, job: Any, act: Callable[[], object]) -> bool:
        """Have something called when a job's time has come; false if it need not wait for that."""

    def has_lost(self, job: Any) -> bool:
        """Whether the job stayed behind in the process that forked this one."""

    def run_in_place(self, job: Any, timeout: float | None, *, stays: bool) -> bool:
        """Execute a queued job in the calling thread, if that is one of the crew."""

    def run_coroutine(self, job: Any, coroutine: Coroutine[Any, Any, Any], context: Context) -> Any:
        """Run the coroutine of a job to its end on an event loop of the crew's."""

    def report_failure(self, job: Any, error: BaseException, context: Context) -> None:
        """Make known the failure of a job that nobody waits for."""
