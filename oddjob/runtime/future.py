"""StandardFuture: the private protocol of ``concurrent.futures.Future``.

``wait``, ``as_completed`` and asyncio read its private attributes, and other executors claim and
settle futures by hand. A job has neither the condition nor the lists of the base class: they are
made when something asks for them.
"""

import threading
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any, Final

from oddjob.compat import TypeVar, override
from oddjob.hints import HintedAttributes
from oddjob.runtime.job_state import (
    CANCELLED,
    ENDED,
    FAILED,
    QUEUED,
    RUNNING,
    SCHEDULED,
    SUCCEEDED,
    Failure,
    JobState,
)
from oddjob.runtime.policy import JobPolicy
from oddjob.runtime.settling import end
from oddjob.runtime.shared_state import SharedState

T = TypeVar("T", default=Any)

_STANDARD_STATES: Final = {
    RUNNING: "RUNNING",
    SUCCEEDED: "FINISHED",
    FAILED: "FINISHED",
    CANCELLED: "CANCELLED_AND_NOTIFIED",
}


class StandardFuture(HintedAttributes, Future[T]):
    """The part of a `Job` that the standard library prescribes, and its users do not use."""

    __slots__ = ()

    _policy: JobPolicy
    _outcome: Any
    _fast_state: JobState

    @property
    def _local_state(self) -> JobState:
        raise NotImplementedError

    def _ensure_shared(self) -> SharedState:
        raise NotImplementedError

    @override
    def set_running_or_notify_cancel(self) -> bool:
        """Claim the job for an executor of your own; return False if it was cancelled."""
        shared = self._ensure_shared()
        with shared.lock:
            if shared.claim_queued(threading.current_thread()):
                self._fast_state = RUNNING
                return True
            if shared.state is CANCELLED:
                return False
        raise RuntimeError(f"job in unexpected state: {self!r}")

    @override
    def set_result(self, result: T) -> None:
        """Settle with a result; raise ``InvalidStateError`` if the job has ended."""
        self._settle_by_hand(SUCCEEDED, result)

    @override
    def set_exception(self, exception: BaseException | None) -> None:
        """Settle with an exception; raise ``InvalidStateError`` if the job has ended."""
        if exception is None:
            self._settle_by_hand(SUCCEEDED, None)
        else:
            self._settle_by_hand(FAILED, Failure(exception))

    def _settle_by_hand(self, state: JobState, outcome: Any) -> None:
        was_queued = self._local_state in (SCHEDULED, QUEUED)
        job: Any = self
        if not end(job, state, outcome):
            raise InvalidStateError(f"{self._local_state}: {self!r}")
        if was_queued:
            self._policy.core.job_cancelled(job, is_counted=False)

    # What the standard library's wait(), as_completed() and asyncio look at. Type checkers are
    # shown the plain attributes of the base class.

    if not TYPE_CHECKING:

        @property
        def _state(self) -> str:
            return _STANDARD_STATES.get(self._local_state, "PENDING")

        @property
        def _condition(self) -> threading.Condition:
            shared = self._ensure_shared()
            with shared.lock:
                if shared.condition is None:
                    shared.condition = threading.Condition(shared.lock)
                return shared.condition

        @property
        def _waiters(self) -> list[Any]:
            shared = self._ensure_shared()
            with shared.lock:
                if shared.waiters is None:
                    shared.waiters = []
                return shared.waiters

    def _get_snapshot(self) -> tuple[bool, bool, Any, BaseException | None]:
        state = self._local_state
        result = self._outcome if state is SUCCEEDED else None
        error = self._outcome.exception() if state is FAILED else None
        return state in ENDED, state is CANCELLED, result, error
