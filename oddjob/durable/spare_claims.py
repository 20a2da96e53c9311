"""SpareClaims: hands back claims that wait for a worker here while other processes could run them.

A process claims a little ahead of its workers: see `ClaimedJobs`. If a job takes longer than
expected, the claims behind it are handed back: after `_PATIENCE` if a peer is hungry, else after
`STANDSTILL`. They would do harm: users cannot cancel claims like queued jobs, jobs of a higher
priority cannot overtake them, and they are shown as running.
"""

from collections.abc import Iterable
from math import inf
from typing import TYPE_CHECKING, Final

from oddjob.durable.record import Turn
from oddjob.schedule.clock import clock

if TYPE_CHECKING:
    from oddjob.durable.pool_store import PoolStore

_PATIENCE: Final = 0.02  # seconds that a claim may wait for a worker while a peer is hungry
STANDSTILL: Final = 0.25  # seconds without the start of a job, after which claims go back


class SpareClaims:
    """Remembers since when there are spare claims, and whether a peer is hungry.

    Thread safety: the store thread alone uses it.
    """

    def __init__(self) -> None:
        self._since = inf  # monotonic seconds
        self._has_hungry_peers = False

    def hand_back(self, pools: Iterable["PoolStore"]) -> None:
        """Hand back the claims that have waited for too long, and all of a pool that hands back."""
        now = clock.monotonic()
        are_wanted = self._has_hungry_peers and now - self._since >= _PATIENCE
        for pool in pools:
            is_stuck = now - pool.claimed.latest_start >= STANDSTILL
            if pool.hands_back or ((are_wanted or is_stuck) and pool.claimed.has_spare):
                pool.claimed.hand_back()

    def next_look(self, pools: Iterable["PoolStore"], turn: Turn) -> float:
        """Return the seconds until claims may have waited for too long."""
        has_spare = any(each.claimed.has_spare for each in pools)
        self._since = min(self._since, clock.monotonic()) if has_spare else inf
        self._has_hungry_peers = turn.hungry_peers
        if not has_spare:
            return inf
        return _PATIENCE if turn.hungry_peers else STANDSTILL
