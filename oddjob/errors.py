"""The exceptions that OddJob raises itself, each under `OddJobError`.

Each is also an exception of the standard library that code written for ``concurrent.futures``
catches already. A wait that runs out of time raises the built-in ``TimeoutError``, a cancelled job
``concurrent.futures.CancelledError``; what a job raises comes out of ``result()`` unchanged.
"""

import queue
import traceback
from collections.abc import Iterable
from concurrent.futures.thread import BrokenThreadPool

from oddjob.compat import override


class OddJobError(Exception):
    """The base class of all exceptions of this library."""


class PoolClosed(OddJobError, RuntimeError):
    """The pool, or the interpreter, has been shut down; the job was not accepted."""


class PoolBroken(OddJobError, BrokenThreadPool):
    """The pool gave up, because its workers crashed more often than its restart limits allow."""


class PoolNotFound(OddJobError, LookupError):
    """No pool has this name; the message lists the names that there are."""


class PoolNameTaken(OddJobError, ValueError):
    """A live pool has this name already."""


class QueueFull(OddJobError, queue.Full):
    """The queue holds ``max_queue`` jobs; the job was not accepted."""


class JobDropped(OddJobError, RuntimeError):
    """The job was the oldest in a full queue, and was dropped to make room for a newer one."""


def format_frames(frames: Iterable[tuple[str, int, str]]) -> str:
    """Return a stack (file, line and function of each call) as text, like a traceback."""
    return "".join(traceback.format_list([(*frame, None) for frame in frames]))


class JobTimeout(OddJobError, TimeoutError):
    """The job ran longer than its timeout; `stack` shows what its thread was doing.

    Args:
        message: what happened.
        frames: file, line and function of each call of the job, the innermost last.
    """

    def __init__(self, message: str, frames: Iterable[tuple[str, int, str]] = ()) -> None:
        super().__init__(message)
        self._frames = list(frames)

    @property
    def stack(self) -> str:
        """The stack of the job's thread when its time was up, formatted like a traceback."""
        return format_frames(self._frames)

    @override
    def __str__(self) -> str:
        message = str(self.args[0])
        return f"{message}; its thread was here:\n{self.stack}" if self._frames else message


class JobLost(OddJobError, RuntimeError):
    """No process will end the job, or not this one; the message says why.

    It was pending when this process was forked, and runs only in the parent; it was submitted in a
    transaction that was rolled back; another process has taken it over; or it has killed too many.
    """


class JobNotFound(OddJobError, LookupError):
    """The store has no job of that id: there was none, or its record has been deleted."""


class PredecessorFailed(OddJobError, RuntimeError):
    """A job did not run, because one before it failed: of its serial key, or that it waits for."""


class BatchFailed(OddJobError, RuntimeError):
    """Jobs of the batch, or of the chain, failed; the message says how many."""


class GroupClosed(OddJobError, RuntimeError):
    """The group takes no more jobs: one of its jobs has failed, or its block has ended."""


class SettingsError(OddJobError, ValueError):
    """A setting is unknown, of the wrong type or out of range; the message has its path."""


class StoreUnusable(OddJobError, OSError):
    """The store cannot be used: it is not ours, too new, not writable, damaged, or out of reach.

    What was asked of it has not happened. Only of a server that has stopped answering it is not
    known: the message says so.
    """


class StoreUnsafe(StoreUnusable):
    """The store could be used, but jobs might be lost or corrupted there; the message says why."""


class StoreFull(OddJobError, OSError):
    """There is no room for the job in the store; it was not accepted."""


class PayloadError(OddJobError, ValueError):
    """A call or outcome cannot be stored, or cannot be read; what is stored is kept as it is."""


class UnknownFunction(OddJobError, LookupError):
    """No process that runs jobs of the pool knows the job's function."""


def describe_error(error: BaseException) -> str:
    """Return one line about an exception, for people."""
    try:
        # The stack of a job that was too slow is in the traceback of its attempt.
        text = str(error.args[0] if type(error) is JobTimeout else error)
        text = text.strip().partition("\n")[0]
    except Exception:  # it is the user's
        text = "its text cannot be made"
    return f"{type(error).__qualname__}: {text}"[:500]
