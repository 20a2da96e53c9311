"""KnownFunctions: which functions the store has been told that this process can run.

A process claims only jobs of functions that it knows: functions that were decorated or submitted
here, once their module is completely defined, and functions found in an imported module.
"""

from collections.abc import Iterable, KeysView, Mapping
from typing import TYPE_CHECKING, Final

from oddjob.durable.store import Store

if TYPE_CHECKING:
    from oddjob.durable.pool_store import PoolStore


class KnownFunctions:
    """The functions of all pools of a runner.

    Thread safety: the store thread alone uses it.
    """

    def __init__(self) -> None:
        self._known: Final[dict[str, set[str]]] = {}  # by pool: what the store has been told
        self._unknown: Final[set[tuple[str, str]]] = set()  # (pool, function that it lacks)
        self.wait_for_imports: bool = False  # whether some wait until their module is defined

    def pools(self) -> KeysView[str]:
        """Return the pools that the store was told to claim jobs for."""
        return self._known.keys()

    def note_unknown(self, functions: Iterable[tuple[str, str]]) -> None:
        """Note functions that stored jobs call; this process may import them yet."""
        self._unknown.update(functions)

    def forget(self, pool: str) -> bool:
        """Forget a pool; return whether the store has been told of it."""
        return self._known.pop(pool, None) is not None

    def clear(self) -> None:
        """Forget what the store has been told, so that it is told again."""
        self._known.clear()

    def tell_store(self, store: Store, pools: Mapping[str, "PoolStore"]) -> None:
        """Tell the store which functions the pools have come to know."""
        self.wait_for_imports = False
        for name, pool in pools.items():
            for function in [each for needed_by, each in self._unknown if needed_by == name]:
                if pool.look_for(function):  # it may have been imported meanwhile
                    self._unknown.discard((name, function))
            is_new = pool.consumes and name not in self._known
            known = self._known.get(name, set())
            if not is_new and len(pool.functions) == len(known):  # they only grow
                continue
            functions = pool.functions.copy()
            ready = [each for each in functions if each not in known and pool.is_ready(each)]
            if ready or is_new:
                store.learn(name, ready, 0)
                self._known[name] = known.union(ready)
            self.wait_for_imports |= len(known) + len(ready) < len(functions)
