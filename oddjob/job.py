"""Job: one unit of work and its future in one object.

A `Job` is a ``concurrent.futures.Future`` that knows its callable. What its workers do with it is
told in `oddjob.work`; here is what everybody else sees.
"""

import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future, InvalidStateError
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeVar

from oddjob.callables import describe
from oddjob.errors import JobLost
from oddjob.fork import ProcessLock
from oddjob.headway import Progress
from oddjob.schedule.clock import clock
from oddjob.states import (
    CANCELLED,
    ENDED,
    FAILED,
    PENDING,
    RUNNING,
    SCHEDULED,
    STANDARD,
    SUCCEEDED,
    State,
)
from oddjob.work import Work

__all__ = ["Job"]

T = TypeVar("T")

_naming: Final = ProcessLock()  # held while a job's id is set


class Job(Work[T]):
    """One call, on its way through a pool, and the future of its result.

    Thread safety: all methods may be called from any thread, and from signal handlers.
    """

    __slots__ = ()

    # What a job says of itself.

    @property
    def id(self) -> str:
        """A name for this job alone: 32 hexadecimal digits, drawn when first asked for."""
        if not hasattr(self, "_id"):
            fresh = os.urandom(16).hex()
            with _naming.lock:
                if not hasattr(self, "_id"):
                    self._id = fresh
        return self._id

    @property
    def name(self) -> str:
        """The name given with ``options(name=…)``, else the callable's qualified name."""
        return self._name or describe(self._fn)

    @property
    def pool(self) -> Any:
        """The pool it was submitted to; None once an anonymous pool has been collected."""
        return self._crew.pool

    @property
    def priority(self) -> int:
        """How urgent it is: the higher the sooner."""
        return 0

    @property
    def timeout(self) -> float | None:
        """For how long it may run, in seconds; None for as long as it takes."""
        return None

    @property
    def attempt(self) -> int:
        """The number of the latest attempt, 1 being the first; 0 while it has not started."""
        return 0 if self.state in (SCHEDULED, PENDING, CANCELLED) else 1

    @property
    def deadline(self) -> float | None:
        """When the time of this attempt is up, in monotonic seconds; None if it has no timeout."""
        return None

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody has tried to cancel it while it was running.

        Nothing else happens to a job that is no coroutine: it should look at this where it can
        stop, and return or raise.
        """
        monitor = self._monitor
        return monitor is not None and monitor.cancel_requested

    @property
    def progress(self) -> Progress | None:
        """What the job has reported last, or None."""
        monitor = self._monitor
        return None if monitor is None else monitor.progress

    def report(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Tell, from inside the job, how far it has got; `progress` reads it.

        Args:
            done: how much is done, in whatever unit.
            total: how much there is to do, in the same unit; None if that is not known.
            note: what it is at, for people.
        """
        self._watch().progress = Progress(done, total, note)

    def __repr__(self) -> str:
        state = self.state
        said = f"<Job {self.name} {state}"
        if state is SUCCEEDED:
            said += f", returned {type(self._outcome).__name__}"
        elif state is FAILED:
            said += f", raised {type(self._outcome).__name__}"
        where = f"pool {self._crew.name!r}" if self._crew.name else "an anonymous pool"
        return f"{said}, in {where}, id {self.id}>"

    # The future.

    def running(self) -> bool:
        """Whether a thread is running the call now."""
        return self.state is RUNNING

    def done(self) -> bool:
        """Whether the job has ended: succeeded, failed or cancelled."""
        return self.state in ENDED

    def cancelled(self) -> bool:
        """Whether the job was cancelled before it started."""
        return self.state is CANCELLED

    def cancel(self) -> bool:
        """Cancel the job if it has not started; else ask it to stop.

        A thread cannot be stopped: a job that runs finds `cancel_requested` true, and is not tried
        again if it fails. If it is a coroutine, that is cancelled.

        Returns true if it is now (or was before) cancelled, false if it runs or has ended.
        Done-callbacks run in the calling thread.
        """
        try:
            is_cancelled = self._call_off(counts=True)
            if is_cancelled:
                self._watch().call_back(self)
        except BaseException:  # it was interrupted: if that came too late, go on
            if self.cancelled():
                self._watch().call_back(self)
            raise
        if is_cancelled is False and self.state is RUNNING:
            self._crew.interrupt(self)
        return is_cancelled is not False

    def withdraw(self) -> None:
        """Cancel a job that its pool has refused, and that may have been queued all the same."""
        if self._call_off(counts=False):
            self._watch().call_back(self)

    def result(self, timeout: float | None = None) -> T:
        """Wait for the job to end and return what it returned.

        Called on a worker of the job's own pool while the job is still queued, this runs the job
        there and then, so that jobs which wait for their own pool cannot lock it up; the timeout
        does not interrupt such a run.

        Args:
            timeout: the longest wait, in seconds; None waits without limit.

        Raises:
            TimeoutError: the job had not ended after `timeout` seconds.
            CancelledError: the job was cancelled.
            JobLost: this process was forked while the job was pending.
            BaseException: whatever the job raised.
        """
        if self._raw is SUCCEEDED:
            return self._outcome  # type: ignore[no-any-return]  # one slot holds either end
        self._join(timeout)
        try:
            return self._read()
        finally:
            # An exception raised here holds this frame: without this they would hold each other.
            del self

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait and raise like `result`; return what the job raised, or None if it succeeded."""
        self._join(timeout)
        state = self.state
        if state is CANCELLED:
            raise CancelledError
        if state is FAILED:
            self._crew.note_seen(self)
        return self._outcome if state is FAILED else None

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Call ``fn(job)`` when the job has ended, at once if it has.

        Callbacks run in the order they were added, in the thread that ends the job. What they
        raise is logged; an exception that is no ``Exception`` also goes on, once all have run,
        to the thread that ran them (a worker is then replaced).
        """
        monitor = self._watch()
        if not monitor.add_callback(fn):
            monitor.call_back(self)

    def __await__(self) -> Generator[Any, None, T]:
        from oddjob.bridge import wait_in_loop  # asyncio is loaded only by those who use it

        try:
            yield from wait_in_loop(self)
            return self._read()
        finally:
            del self

    # For the standard library, and for those who settle jobs themselves.

    def run_here(self, timeout: float | None = None, *, stays: bool = False) -> bool:
        """Run the job in the calling thread, if that is a worker of its pool and it is queued.

        If a limit stops it, that is waited for, `timeout` seconds at most. With `stays`, so it is
        while another thread runs it, if it may be queued again after that.

        Raises:
            JobLost: nobody will run it in this process.
        """
        if self._crew.has_lost(self):
            raise JobLost(f"pending when this process was forked, and its parent's: {self!r}")
        return self._crew.run_in_place(self, timeout, stays=stays and self.may_come_back)

    def when_queued(self, act: Callable[[], object]) -> bool:
        """Have something quick called when its time has come; false if that is so already."""
        return self.queued_at == inf and self._crew.when_queued(self, act)

    def set_running_or_notify_cancel(self) -> bool:
        """Take the job for running elsewhere; false if it was cancelled."""
        monitor = self._watch()
        with monitor.lock:
            if monitor.claim_queued():
                self._raw = RUNNING
                return True
            if monitor.state is CANCELLED:
                return False
        raise RuntimeError(f"job in unexpected state: {self!r}")

    def set_result(self, result: T) -> None:
        """Settle with a result; an ``InvalidStateError`` if it had ended."""
        self._settle_by_hand(SUCCEEDED, result)

    def set_exception(self, exception: BaseException | None) -> None:
        """Settle with an exception; an ``InvalidStateError`` if the job had ended."""
        state: State = SUCCEEDED if exception is None else FAILED
        self._settle_by_hand(state, exception)

    def _settle_by_hand(self, state: State, outcome: Any) -> None:
        if not self._end(state, outcome):
            raise InvalidStateError(f"{self.state}: {self!r}")
        if self.queued_at == inf:
            self._crew.note_loss(self)

    # What the standard library's wait(), as_completed() and asyncio look at; type checkers are
    # shown the base class's plain attributes, which as_completed() asks for.

    if not TYPE_CHECKING:

        @property
        def _state(self) -> str:
            return STANDARD[self.state]

        @property
        def _condition(self) -> threading.Condition:
            monitor = self._watch()
            with monitor.lock:
                if monitor.condition is None:
                    monitor.condition = threading.Condition(monitor.lock)
                return monitor.condition

        @property
        def _waiters(self) -> list[Any]:
            monitor = self._watch()
            with monitor.lock:
                if monitor.waiters is None:
                    monitor.waiters = []
                return monitor.waiters

    def _get_snapshot(self) -> tuple[bool, bool, Any, BaseException | None]:
        state = self.state
        result = self._outcome if state is SUCCEEDED else None
        error = self._outcome if state is FAILED else None
        return state in ENDED, state is CANCELLED, result, error

    # Inside.

    def call_off(self) -> bool:
        """Cancel the job if it has not started; its callbacks are left to `follow_up`.

        Returns whether this call has done it.
        """
        return self._call_off(counts=True) is True

    def has_followers(self) -> bool:
        """Whether callbacks are to be run."""
        return bool(self._watch().callbacks)

    def follow_up(self) -> None:
        """Run the callbacks of a job that has ended and for which that was left to others."""
        self._watch().call_back(self)

    def _call_off(self, *, counts: bool) -> bool | None:
        """Cancel; false if it has started, None if it was cancelled before."""
        monitor = self._watch()
        try:
            with monitor.lock:
                if monitor.state is not PENDING:
                    monitor.cancel_requested = monitor.cancel_requested or monitor.state is RUNNING
                    return None if monitor.state is CANCELLED else False
                if counts:
                    self._crew.count("cancelled")
                self._raw = CANCELLED
                monitor.announce(self, CANCELLED)
            self._release()
            self._crew.note_loss(self)
        except BaseException:  # it was interrupted: if that came too late, go on
            if self.cancelled():
                monitor.tell_rest(self)
                self._release()
                self._crew.note_loss(self)
            raise
        return True

    def _join(self, timeout: float | None) -> None:
        if self.done():
            return
        deadline = None if timeout is None else clock.steady() + timeout
        patient = timeout is None or timeout > 0
        if not (patient and self.run_here(timeout, stays=True)):
            left = None if deadline is None else deadline - clock.steady()
            if not self._watch().wait(left):
                raise TimeoutError

    def _read(self) -> T:
        state = self.state
        if state is CANCELLED:
            raise CancelledError
        if state is FAILED:
            self._crew.note_seen(self)
            try:
                raise self._outcome
            finally:
                del self
        return self._outcome  # type: ignore[no-any-return]  # one slot holds either end
