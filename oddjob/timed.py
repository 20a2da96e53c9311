"""Jobs with a timeout: a supervisor can end them while their thread is stuck."""

from contextvars import copy_context
from typing import Any, Literal, TypeVar

from oddjob.errors import JobTimeout
from oddjob.fire_and_forget import FireAndForget
from oddjob.job import Job
from oddjob.states import FAILED

__all__ = ["TimedErrand", "TimedJob"]

T = TypeVar("T")


class TimedJob(Job[T]):
    """A job that may run for so long and no longer.

    It has its monitor from the start: whether the result comes in time or the timeout strikes
    first is decided under the monitor's lock, like any two ends of a job. Who comes second has come
    to nothing.
    """

    __slots__ = ("_expiry", "_timeout")

    def __init__(self, timeout: float, *call: Any) -> None:
        super().__init__(*call)
        self._timeout = timeout
        self._expiry: JobTimeout | None = None  # what it ends with if its time is up before

    @property
    def timeout(self) -> float:
        """For how long it may run, in seconds."""
        return self._timeout

    @property
    def verdict(self) -> str:
        """What statistics count it as: its state, or ``timed_out``."""
        return "timed_out" if self._has_timed_out else self.state

    def execute(self, *, claimed: bool = False) -> BaseException | Literal[True] | None:
        """Run the call under the eyes of the supervisor; else as any job."""
        if not claimed and not self._watch().claim():
            return super().execute()  # which will give way
        watch = None
        try:
            watch = self._crew.watch(self)
            ending = super().execute(claimed=True)
        finally:
            if watch is not None:
                self._crew.unwatch(watch)
        # What comes of it after its time is dropped, and no reason for the thread to go.
        return None if self._has_timed_out else ending

    def expire(self, error: JobTimeout) -> bool:
        """Settle as timed out, by the supervisor; false if the job has ended.

        Callbacks are left to `follow_up`: they are the user's, and the supervisor has no time.
        """
        self._expiry = error
        return self._settle(FAILED, error)

    @property
    def _has_timed_out(self) -> bool:
        return self._expiry is not None and getattr(self, "_outcome", None) is self._expiry

    def call_prompt(self) -> list[Job[Any]]:
        """Run those callbacks that are our own; returns the jobs that they have ended."""
        return self._watch().call_prompt(self)


class TimedErrand(FireAndForget, TimedJob[Any]):
    """A job with a timeout that nobody waits for."""

    __slots__ = ()

    def has_followers(self) -> bool:
        """Whether its end is to be told to anybody: it always is."""
        return True

    def follow_up(self) -> None:
        """Report the end."""
        context = self._context
        if self._has_timed_out:
            context = copy_context() if context is None else context.copy()
            self._crew.report_failure(self, self._outcome, context)
        super().follow_up()
