"""Jobs with a timeout: a supervisor can end them while their thread is stuck."""

from contextvars import copy_context
from typing import Any, Literal, TypeVar

from oddjob.errors import JobTimeout
from oddjob.fire_and_forget import FireAndForget
from oddjob.job import Job
from oddjob.states import ENDED, FAILED

__all__ = ["TimedErrand", "TimedJob"]

T = TypeVar("T")


class TimedJob(Job[T]):
    """A job that may run for so long and no longer.

    It has its monitor from the start: whether the result comes in time or the timeout strikes
    first is decided under the monitor's lock, like any two ends of a job. Who comes second has come
    to nothing.
    """

    __slots__ = ("_has_timed_out", "_timeout")

    def __init__(self, timeout: float, *call: Any) -> None:
        super().__init__(*call)
        self._timeout = timeout
        self._has_timed_out = False

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
        watch = self._crew.watch(self)
        try:
            return super().execute(claimed=True)
        finally:
            self._crew.unwatch(watch)

    def expire(self, error: JobTimeout) -> bool:
        """Settle as timed out, by the supervisor; false if the job has ended.

        Callbacks are left to `follow_up`: they are the user's, and the supervisor has no time.
        """
        monitor = self._watch()
        with monitor.lock:
            if monitor.state in ENDED:
                return False
            self._has_timed_out = True
            self._outcome = error
            self._raw = FAILED
            monitor.announce(self, FAILED)
        return True

    def has_followers(self) -> bool:
        """Whether somebody is to be called after it has expired."""
        return bool(self._watch().callbacks)

    def follow_up(self) -> None:
        """Call those who asked for it."""
        self._watch().call_back(self)


class TimedErrand(FireAndForget, TimedJob[Any]):
    """A job with a timeout that nobody waits for."""

    __slots__ = ()

    def has_followers(self) -> bool:
        """Its end is always reported."""
        return True

    def follow_up(self) -> None:
        """Report the end."""
        context = self._context
        if self._has_timed_out:
            context = copy_context() if context is None else context.copy()
            self._crew.report_failure(self, self._outcome, context)
        super().follow_up()
