"""Every error that OddJob raises on its own account.

::

    OddJobError
    ├── PoolClosed      (RuntimeError)       you shut the pool down
    ├── JobLost         (RuntimeError)       the job stayed behind in the process that forked
    ├── PoolBroken      (BrokenThreadPool)   its workers kept crashing; the cause is chained
    ├── PoolNotFound    (LookupError)        no pool of that name: misspelt, or never started
    ├── PoolNameTaken   (ValueError)         a live pool has that name already
    └── SettingsError   (ValueError)         configure() was given something it cannot use

Each has the standard library class as its second parent that code written for
``concurrent.futures`` catches already. A wait that ran out of time raises the built-in
``TimeoutError``, a cancelled job ``concurrent.futures.CancelledError``; whatever a job itself
raised comes out of ``result()`` as it is.
"""

from concurrent.futures.thread import BrokenThreadPool

__all__ = [
    "JobLost",
    "OddJobError",
    "PoolBroken",
    "PoolClosed",
    "PoolNameTaken",
    "PoolNotFound",
    "SettingsError",
]


class OddJobError(Exception):
    """The parent of all errors of this library."""


class JobLost(OddJobError, RuntimeError):
    """The job was pending when this process was forked: it is its parent's, and ends only there."""


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
