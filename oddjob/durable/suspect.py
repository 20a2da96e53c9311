"""SuspectGuard: the last attempt of a job that may have killed processes runs alone.

When a process dies, the store charges a crash to all jobs that had begun in it, as nobody knows
which of them has killed it. A job that the next crash would fail is a *suspect*: no other stored
job of the process runs beside it, so it is charged for no crash of another one, and no other one
for its own. There is one exception: while it waits for jobs of its own pool, stored jobs of that
pool run one at a time, as the one that it waits for may be any of them.
"""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final

from oddjob.durable.record import Claim

if TYPE_CHECKING:
    from oddjob.durable.pool_store import PoolStore


class SuspectGuard:
    """At most one suspect, which waits until nothing else runs, and then runs.

    Thread safety: the store thread alone uses it.
    """

    def __init__(self, hand_back: Callable[[Claim], object]) -> None:
        self._hand_back: Final = hand_back
        self._suspect: Claim | None = None
        self._has_started = False

    @property
    def is_there(self) -> bool:
        """Whether nothing else may be claimed."""
        return self._suspect is not None

    def admit(self, claims: Sequence[Claim], pools: Collection["PoolStore"]) -> list[Claim]:
        """Return those of the claims that may start now, or the suspect once it is alone."""
        admitted = list(claims)
        if self._suspect is None and claims:
            self._suspect = next((each for each in claims if each.is_suspect), None)
            if self._suspect is not None:
                for claim in claims:
                    if claim is not self._suspect:
                        self._hand_back(claim)
                for pool in pools:
                    pool.claimed.hand_back()
                admitted = []
        suspect = self._suspect
        if suspect is None or self._has_started:
            return admitted
        its_pool = next((pool for pool in pools if pool.name == suspect.pool), None)
        if its_pool is None or its_pool.hands_back:
            self._hand_back(suspect)
        elif not any(pool.claimed.held for pool in pools):
            self._has_started = True
            admitted.append(suspect)
        return admitted

    def settled(self, claim: Claim) -> bool:
        """Note what has become of a claim; return whether it was the suspect: others may run."""
        was_suspect = claim is self._suspect
        if was_suspect:
            self.clear()
        return was_suspect

    def clear(self) -> None:
        """Forget the suspect."""
        self._suspect, self._has_started = None, False
