"""Managed jobs: those that may run only for so long, or are tried again when they fail."""

import logging
from contextvars import copy_context
from types import CoroutineType
from typing import Any, TypeVar

from oddjob.callables import is_async
from oddjob.errors import JobTimeout
from oddjob.fire_and_forget import FireAndForget
from oddjob.job import Job
from oddjob.limited import SerialJob
from oddjob.log import say
from oddjob.marks import Mark, mark_here
from oddjob.schedule.clock import clock
from oddjob.states import ENDED, FAILED, PENDING, RUNNING, SUCCEEDED
from oddjob.traces import leave_out_outermost_frames
from oddjob.work import OF_BATCH

__all__ = ["ManagedErrand", "ManagedJob"]

T = TypeVar("T")

_TIME = Mark()  # concludes what takes too long


class ManagedJob(SerialJob[T]):
    """A job whose runs are watched over: each is an *attempt*, and only the last is the job's end.

    It has its monitor from the start. What an attempt comes to is decided under the monitor's
    lock, by whoever is first: the thread that runs it (`_conclude`), or the supervisor when the
    time is up (`expire`). Who comes second has come to nothing. An attempt that is not the last
    one takes the job back to where it was: queued, with nobody owning it.
    """

    __slots__ = ("_concluder", "_deadline", "_expiry", "_number")

    def __init__(self, *call: Any) -> None:
        super().__init__(*call)
        self._number = 0
        self._deadline: float | None = None
        # The thread that runs it, when that is through: then no timeout can strike. Or `_TIME`.
        self._concluder: Mark | None = None
        self._expiry: JobTimeout | None = None  # what it ends with if its time is up before

    @property
    def timeout(self) -> float | None:
        """For how long it may run, in seconds; None for as long as it takes."""
        return self._rules.timeout

    @property
    def may_come_back(self) -> bool:
        """Whether it may be queued again after it was run."""
        return self._rules.retries.limit > 0

    @property
    def attempt(self) -> int:
        """The number of the latest attempt, 1 being the first; 0 while it has not started."""
        return self._number

    @property
    def deadline(self) -> float | None:
        """When the time of this attempt is up, in monotonic seconds; None if it has no timeout."""
        return self._deadline

    @property
    def verdict(self) -> str:
        """What statistics count it as: its state, or ``timed_out``."""
        return "timed_out" if self._has_timed_out else self.state

    @property
    def _has_timed_out(self) -> bool:
        return self._expiry is not None and getattr(self, "_outcome", None) is self._expiry

    def execute(  # noqa: C901  (all that can come of an attempt)
        self, *, claimed: bool = False
    ) -> BaseException | bool | None:
        """Make an attempt, under the eyes of the supervisor if there is a timeout."""
        if not claimed and not self._watch().claim():
            return self._give_way(self._watch())
        number = self._begin()
        is_over = False
        watch = None
        try:
            if self._rules.timeout is not None:
                self._deadline = clock.steady() + self._rules.timeout
                watch = self._crew.watch(self, self._deadline)
            result = self._call()
            is_over = self._conclude(number)
            if is_over:
                self._end(SUCCEEDED, result)
        except BaseException as error:
            if is_over:  # a callback's
                raise
            leave_out_outermost_frames(error, 2)
            # What comes of it after its time is dropped, and no reason for the thread to go.
            if not self._conclude(number):
                return None
            is_over = not self._try_again(error)
            if is_over:
                self._give_up(error)
            return error if self._crew.is_crash(error) else None
        else:
            return is_over or None
        finally:
            if watch is not None:
                self._crew.unwatch(watch)
            if is_over:
                self._tell_line()
            del self

    def expire(self, error: JobTimeout, number: int) -> bool:
        """Take the attempt of that number for failed, by the supervisor; false if it is over.

        The job then has ended, or is queued again. Callbacks are left to `follow_up`: they are the
        user's, and the supervisor has no time.
        """
        monitor = self._watch()
        with monitor.lock:
            if monitor.state is not RUNNING or self._concluder or self._number != number:
                return False
            self._concluder = _TIME
        if self._put_off(error) is None:
            self._expiry = error
            self._failed_at = clock.monotonic()
            self._settle(FAILED, error)
            self.let_go()
        return True

    def reopen(self) -> bool:
        """Be queued again after an attempt that failed; false if the job has ended."""
        monitor = self._watch()
        with monitor.lock:
            if monitor.state in ENDED or monitor.cancel_requested:
                return False
            monitor.state = self._raw = PENDING
            monitor.owner = None
            return True

    def call_prompt(self) -> list[Job[Any]]:
        """Run those callbacks that are our own; returns the jobs that they have ended."""
        return self._watch().call_prompt(self)

    # Inside.

    def _begin(self) -> int:
        self._raw = RUNNING
        self._number += 1
        self._concluder = None  # after that: until then no timeout strikes
        return self._number

    def _call(self) -> T:
        fn, args, kwargs, context = self._fn, self._args, self._kwargs, self._context.copy()
        result: Any
        try:
            if kwargs is None:
                result = context.run(fn, *args)
            elif kwargs is OF_BATCH:
                result = context.run(fn, args)
            else:
                result = context.run(fn, *args, **kwargs)
            if type(result) is CoroutineType and is_async(fn):
                result = self._crew.run_coroutine(self, result, context)
            return result  # type: ignore[no-any-return]  # it is what fn returns
        finally:
            del self, fn, args, kwargs, context  # what is raised holds this frame

    def _conclude(self, number: int) -> bool:
        """Whether the attempt of that number, which this thread has made, still counts."""
        here = mark_here()
        monitor = self._watch()
        with monitor.lock:
            if self._number != number or monitor.owner is not here or monitor.state is not RUNNING:
                return False
            if self._concluder is None:
                self._concluder = here
            return self._concluder is here  # again, if something was thrown in meanwhile

    def _put_off(self, error: BaseException) -> float | None:
        """Queue the job again after that failure, if it is worth it; returns the delay."""
        retries = self._rules.retries
        delay = retries.delay_after(error, self._number) if retries.limit else None
        if delay is None or not self._crew.put_off(self, delay):
            return None
        return delay

    def _give_up(self, error: BaseException) -> None:
        if self.fail(error):
            self._crew.note_failure(self, error)

    def _try_again(self, error: BaseException) -> bool:
        number = self._number
        delay = self._put_off(error)
        if delay is None:
            return False
        what = "job %s of pool %s failed in attempt %d, and is tried again in %g s: %r"
        say(logging.WARNING, what, self.name, self._crew.label, number, delay, error)
        self._crew.note_retry(self, error)
        return True


class ManagedErrand(FireAndForget, ManagedJob[Any]):
    """A managed job that nobody waits for."""

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
