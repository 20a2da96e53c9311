"""Retention: deletes old records of jobs, a portion at a time.

A purge begins after the first job that ends, as a process may run only a few, and then each time
after more than `_PURGE_AFTER` jobs have ended. It goes on, between turns, until nothing is left to
delete.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from oddjob.durable.store import Store

if TYPE_CHECKING:
    from oddjob.durable.pool_store import PoolStore

_PURGE_AFTER: Final = 500  # jobs that have ended
_PURGED_AT_ONCE: Final = 500  # records, in each pool


class Retention:
    """Counts the jobs that have ended since the last purge.

    Thread safety: the store thread alone uses it.
    """

    def __init__(self) -> None:
        self._ended = _PURGE_AFTER  # so that the first end begins a purge

    def note_end(self) -> None:
        """Note that a job has ended."""
        self._ended += 1

    def purge(self, store: Store, pools: Iterable["PoolStore"], now: float) -> bool:
        """Delete some old jobs if a purge is due; return whether there may be more."""
        if self._ended <= _PURGE_AFTER:
            return False
        purged = 0
        for pool in pools:
            limits = pool.keep_succeeded, now - pool.keep_failed, pool.keep_bytes
            purged += store.purge(pool.name, *limits, _PURGED_AT_ONCE)
        if not purged:
            self._ended = 0
        return bool(purged)
