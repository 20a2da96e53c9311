"""SpareClaims: hands back claims that wait for a worker here while other processes could run them.

A process claims a little ahead of its workers. If a job takes longer than expected, the claims
behind it are handed back: after a moment if another process is hungry, else when no job has begun
for a while, as claims cannot be cancelled or overtaken, and are shown as running.
"""

from collections.abc import Iterable
from math import inf
from typing import TYPE_CHECKING, Final

from oddjob.durable.record import Turn
from oddjob.schedule.clock import clock

if TYPE_CHECKING:
    from oddjob.durable.pool_store import PoolStore

_PATIENCE: Final = 0.02  # seconds that a claim may wait for a worker while a peer is hungry
STANDSTILL: Final = 0.25  # seconds without a start, after which claims are handed back in any case


class SpareClaims:
    """Knows since when there are spare claims, and whether a peer is hungry.

    Thread safety: the store thread alone uses it.
    """

    def __init__(self) -> None:
        self._since = inf  # monotonic seconds
        self._has_hungry_peers = False

    def hand_back(self, pools: Iterable["PoolStore"]) -> None:
        """Hand back what has waited for too long; of a pool that hands back, all."""
        now = clock.monotonic()
        is_overdue = self._has_hungry_peers and now - self._since >= _PATIENCE
        for each in pools:
            is_late = is_overdue or now - each.claimed.latest_start >= STANDSTILL
            if each.hands_back or (is_late and each.claimed.has_spare):
                each.claimed.hand_back()

    def next_look(self, pools: Iterable["PoolStore"], turn: Turn) -> float:
        """Return the seconds until claims may have waited for too long."""
        has_spare = any(each.claimed.has_spare for each in pools)
        self._since = min(self._since, clock.monotonic()) if has_spare else inf
        self._has_hungry_peers = turn.hungry_peers
        if not has_spare:
            return inf
        return _PATIENCE if turn.hungry_peers else STANDSTILL
