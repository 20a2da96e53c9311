"""Every error that OddJob raises on its own account.

::

    OddJobError
    ├── PoolClosed      (RuntimeError)       you shut the pool down
    ├── GroupClosed     (RuntimeError)       a job of the group failed, or its block was left
    ├── JobLost         (RuntimeError)       the job stayed behind in the process that forked
    ├── PoolBroken      (BrokenThreadPool)   its workers kept crashing; the cause is chained
    ├── QueueFull       (queue.Full)         the pool has as much to do as it may: back off
    ├── JobDropped      (RuntimeError)       a newer job took the job's place in a full queue
    ├── PredecessorFailed (RuntimeError)     the job was to run after one of its key that failed
    ├── JobTimeout      (TimeoutError)       the job ran for longer than it was allowed
    ├── PoolNotFound    (LookupError)        no pool of that name: misspelt, or never started
    ├── PoolNameTaken   (ValueError)         a live pool has that name already
    └── SettingsError   (ValueError)         configure() was given something it cannot use

Each has the standard library class as its second parent that code written for
``concurrent.futures`` catches already. A wait that ran out of time raises the built-in
``TimeoutError``, a cancelled job ``concurrent.futures.CancelledError``; whatever a job itself
raised comes out of ``result()`` as it is.
"""

import queue
import traceback
from collections.abc import Iterable
from concurrent.futures.thread import BrokenThreadPool

__all__ = [
    "GroupClosed",
    "JobDropped",
    "JobLost",
    "JobTimeout",
    "OddJobError",
    "PoolBroken",
    "PoolClosed",
    "PoolNameTaken",
    "PoolNotFound",
    "PredecessorFailed",
    "QueueFull",
    "SettingsError",
]


class OddJobError(Exception):
    """The parent of all errors of this library."""


class GroupClosed(OddJobError, RuntimeError):
    """The group of jobs takes no more: one of them has failed, or its block has been left."""


class QueueFull(OddJobError, queue.Full):
    """The pool's queue holds as many jobs as it may; nothing has been queued."""


class JobDropped(OddJobError, RuntimeError):
    """The job waited longest in a queue that was full when a newer one came."""


class PredecessorFailed(OddJobError, RuntimeError):
    """The job was to run only after one of its key had succeeded, and that has failed."""


class JobLost(OddJobError, RuntimeError):
    """The job was pending when this process was forked: it is its parent's, and ends only there."""


class JobTimeout(OddJobError, TimeoutError):
    """The job ran for longer than its timeout; `stack` tells where its thread was then."""

    def __init__(self, message: str, places: Iterable[tuple[str, int, str]] = ()) -> None:
        super().__init__(message)
        self._places = list(places)

    @property
    def stack(self) -> str:
        """The stack of the job's thread at that moment, as in a traceback, innermost call last."""
        return "".join(traceback.format_list([(*place, None) for place in self._places]))

    def __str__(self) -> str:
        message = str(self.args[0])
        return f"{message}; its thread was here:\n{self.stack}" if self._places else message


class PoolClosed(OddJobError, RuntimeError):
    """The pool, or the interpreter, has been shut down and takes no more jobs."""


class PoolBroken(OddJobError, BrokenThreadPool):
    """The pool gave up: its workers crashed more often than its restart limits allow."""


class PoolNotFound(OddJobError, LookupError):
    """No pool of this name is known; the message lists those that are."""


class PoolNameTaken(OddJobError, ValueError):
    """A live pool already has this name."""


class SettingsError(OddJobError, ValueError):
    """A setting is unknown, of the wrong type or out of range; the message names its path."""
