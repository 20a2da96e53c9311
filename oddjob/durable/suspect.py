"""SuspectGuard: the last attempt of a job that may have killed processes runs alone.

When a process dies, the store charges a crash to all jobs that had begun in it, as nobody knows
which of them killed it. A job that fails at its next crash is a *suspect*: no other stored job of
the process runs beside it, so neither is charged with a crash that the other one has caused. There
is one exception: while the suspect waits for jobs of its own pool, stored jobs of that pool run one
at a time, as any of them may be the one that it waits for. Jobs in memory, and jobs of another
store, are not held up.
"""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final

from oddjob.durable.record import Capacity, Claim

if TYPE_CHECKING:
    from oddjob.durable.pool_store import PoolStore


class SuspectGuard:
    """Holds at most one suspect, and starts it when no other claim is held.

    Thread safety: the store thread alone uses it.
    """

    def __init__(self, hand_back: Callable[[Claim], object]) -> None:
        self._hand_back: Final = hand_back
        self._suspect: Claim | None = None
        self._has_started = False

    def capacity_of(self, pool: "PoolStore") -> Capacity:
        """Return how many jobs a pool may claim: hardly any while there is a suspect."""
        if self._suspect is None:
            return pool.capacity()
        # If all jobs of the pool wait for other jobs, these run, one at a time, beside the suspect.
        limit = int(0 < pool.lending.lent >= len(pool.claimed.held))
        return Capacity(limit, limit)

    def admit(self, claims: Sequence[Claim], pools: Collection["PoolStore"]) -> list[Claim]:
        """Return the claims that may start now: the suspect, once no other claim is held."""
        admitted = list(claims)
        if self._suspect is None:
            self._suspect = next((each for each in claims if each.is_suspect), None)
            if self._suspect is None:
                return admitted
            for claim in claims:
                if claim is not self._suspect:
                    self._hand_back(claim)
            for pool in pools:
                pool.claimed.hand_back()
            admitted = []
        if self._has_started:
            return admitted
        suspect = self._suspect
        its_pool = next((pool for pool in pools if pool.name == suspect.pool), None)
        if its_pool is None or its_pool.hands_back:
            self._hand_back(suspect)  # once a turn, until the store confirms it
        elif not any(pool.claimed.held for pool in pools):
            self._has_started = True
            admitted.append(suspect)
        return admitted

    def forget_if_suspect(self, claim: Claim) -> bool:
        """Forget the suspect if this claim is it; return whether it was, so that others may run."""
        was_suspect = claim is self._suspect
        if was_suspect:
            self.clear()
        return was_suspect

    def clear(self) -> None:
        """Forget the suspect."""
        self._suspect, self._has_started = None, False
