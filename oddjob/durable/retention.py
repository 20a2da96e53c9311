"""Retention: old records of jobs are deleted, a portion at a time.

After the first job that has ended, as a process may run only a few, and whenever some hundred more
have, the runner purges until there is nothing left to delete; its turns go on in between.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from oddjob.durable.store import Store

if TYPE_CHECKING:
    from oddjob.durable.pool_store import PoolStore

_PURGE_AFTER: Final = 500  # jobs that have ended
_PURGED_AT_ONCE: Final = 500


class Retention:
    """Counts the jobs that have ended since the last purge.

    Thread safety: the store thread alone uses it.
    """

    def __init__(self) -> None:
        self._ended = _PURGE_AFTER

    def note_end(self) -> None:
        """Note that a job has ended."""
        self._ended += 1

    def purge(self, store: Store, pools: Iterable["PoolStore"], now: float) -> bool:
        """Delete some old jobs, if it is time for that; return whether there may be more."""
        if self._ended <= _PURGE_AFTER:
            return False
        purged = 0
        for each in pools:
            before = now - each.keep_failed
            limits = each.keep_succeeded, before, each.keep_bytes
            purged += store.purge(each.name, *limits, _PURGED_AT_ONCE)
        if not purged:
            self._ended = 0
        return bool(purged)
