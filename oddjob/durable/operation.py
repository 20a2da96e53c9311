"""Operation: a request of another thread to the store thread, and the answer."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from oddjob.durable.record import Submit
from oddjob.durable.store import Store

if TYPE_CHECKING:
    from oddjob.durable.job_handle import JobHandle


class RunnerOver(Exception):
    """The runner has ended since the caller got it: get the next one, or end."""


# The runner and the transaction of the job that runs in this context.
in_transaction: Final[ContextVar[tuple[Any, Any]]] = ContextVar("transaction", default=(None, None))


def check_no_transaction(runner: object) -> None:
    """Raise `RuntimeError` in a job with an open transaction, for which its runner would wait."""
    writer, transaction = in_transaction.get()
    if writer is runner and transaction.is_open:
        raise RuntimeError(
            "the transaction of this job is open, and nobody else can write to the store until "
            "the job returns: submit jobs with pool.using(connection), or before it begins"
        )


class Operation:
    """A call with the store, or submits for the next turn; a thread may wait for the answer."""

    __slots__ = ("_done", "_has_ended", "answer", "call", "error", "handles", "submits")

    def __init__(
        self,
        submits: Sequence[Submit] = (),
        handles: Sequence["JobHandle | None"] = (),
        call: Callable[[Store], Any] | None = None,
    ) -> None:
        self.submits: Final = submits
        self.handles: Final = handles
        self.call: Final = call
        self.answer: Any = None
        self.error: BaseException | None = None
        self._has_ended = False
        self._done: Final = threading.Lock()
        self._done.acquire()

    def end(self, answer: Any = None, error: BaseException | None = None) -> None:
        """Give the answer to the waiting thread, unless one was given; in the store thread."""
        if not self._has_ended:  # else something failed after the answer was given
            self._has_ended = True
            self.answer, self.error = answer, error
            self._done.release()

    def wait(self) -> Any:
        """Return the answer, or raise the error."""
        self._done.acquire()
        if self.error is not None:
            raise self.error
        return self.answer


def drain(items: deque[Any]) -> list[Any]:
    """Take all items from a deque, except those that are appended meanwhile."""
    return [items.popleft() for _ in range(len(items))] if items else []
