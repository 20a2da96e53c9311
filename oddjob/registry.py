"""Registry: names → pools. It knows nothing of what a pool is."""

import threading
from typing import Generic, TypeVar

from oddjob.errors import PoolClosed, PoolNameTaken, PoolNotFound

__all__ = ["Registry"]

P = TypeVar("P")


class Registry(Generic[P]):
    """The live pools by name. A pool is held until it is taken off the list.

    Locking: ``_lock`` guards both fields; nothing is called while it is held.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._pools: dict[str, P] = {}
        self._former: set[str] = set()

    def remake_lock(self) -> None:
        """Make the lock anew, in a forked child."""
        self._lock = threading.RLock()

    def add(self, name: str, pool: P) -> None:
        """List a pool.

        Raises:
            PoolNameTaken: a live pool has that name.
        """
        with self._lock:
            taken = name in self._pools
            if not taken:
                self._pools[name] = pool
                self._former.discard(name)
        if taken:
            raise PoolNameTaken(
                f"there is a live pool {name!r}; shut it down first, or choose another name"
            )

    def remove(self, name: str, pool: P) -> None:
        """Take a pool off the list, if it is the one of that name."""
        with self._lock:
            if self._pools.get(name) is pool:
                del self._pools[name]
                self._former.add(name)

    def get(self, name: str) -> P | None:
        """The live pool of that name, if there is one."""
        with self._lock:
            return self._pools.get(name)

    def never_had(self, name: str) -> bool:
        """Whether no pool has, or had, that name."""
        with self._lock:
            return name not in self._pools and name not in self._former

    def find(self, name: str) -> P:
        """The live pool of that name.

        Raises:
            PoolClosed: there was one, and it has been shut down.
            PoolNotFound: there never was; the message lists the names there are.
        """
        with self._lock:
            if name in self._pools:
                return self._pools[name]
            known = sorted(self._pools)
            was_known = name in self._former
        if was_known:
            raise PoolClosed(f"cannot schedule new futures after shutdown: pool {name!r} is closed")
        listed = ", ".join(map(repr, known)) if known else "none yet"
        raise PoolNotFound(f"no pool named {name!r}; the pools are: {listed}")

    def all(self) -> dict[str, P]:
        """A snapshot of the live pools by name, in the order in which they were made."""
        with self._lock:
            return dict(self._pools)

    def clear(self) -> list[P]:
        """Take every pool off the list and forget that there were any; returns them."""
        with self._lock:
            pools = list(self._pools.values())
            self._pools.clear()
            self._former.clear()
            return pools

    def forget_former(self, name: str) -> None:
        """Forget that there was a pool of that name."""
        with self._lock:
            self._former.discard(name)
