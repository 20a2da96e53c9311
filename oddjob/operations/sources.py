"""Sources: the pools of this process, and stores, under one roof.

A source is a store, or all pools of this process that have none. Each keeps its number, which is
never given to another one, as long as the `Sources` are used.

Thread safety: ``_lock`` guards the list of sources; nothing is called under it.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final, cast

from oddjob.errors import JobNotFound
from oddjob.operations.access import Change, RunnerInfo
from oddjob.operations.memory_operations import MemoryOperations, MemoryRecord
from oddjob.operations.pool_operations import PoolOperations
from oddjob.operations.record import Record
from oddjob.operations.stores import StoreOperations, label_of
from oddjob.runtime import lifecycle
from oddjob.runtime.middleware import label_of_pool
from oddjob.runtime.worker import WorkerInfo
from oddjob.thread_pool import Pool

AnyPool = PoolOperations | MemoryOperations
AnyRecord = Record | MemoryRecord


class MemoryPools:
    """The pools of this process that have no store; see `StoreOperations`."""

    label: Final = "this process"

    def __init__(self, pools: Callable[[], Iterable[Pool]]) -> None:
        self._pools: Final = pools

    def pools(self) -> dict[str, AnyPool]:
        """Return the pools by name, and those without one by what they are called in the log."""
        named = {label_of_pool(each): each for each in self._pools()}
        return {name: MemoryOperations(name, named[name]) for name in sorted(named)}

    def pool(self, name: str) -> AnyPool:
        """Return the operations on one pool; raise `KeyError` if there is none."""
        return self.pools()[name]

    def record(self, job: object) -> MemoryRecord:
        """Return a job of any of the pools; raise `JobNotFound` if there is none."""
        for pool in self.pools().values():
            try:
                return cast("MemoryRecord", pool.record(job))
            except JobNotFound:
                continue
        raise JobNotFound(f"there is no job {job}: in memory, what has ended is gone")

    def why(self, record: MemoryRecord) -> list[str]:
        """Return why a job has not ended."""
        return record.why()

    def runners(self) -> list[RunnerInfo]:
        """Return nothing: runners belong to stores."""
        return []

    def change(self, how: Change, records: Iterable[MemoryRecord]) -> int:
        """Change jobs, as methods of theirs do; return how many."""
        return sum(getattr(each, how)() for each in records)

    def drain(self, _runner: str) -> bool:
        """Ask nobody to end, as there are none; return False."""
        return False


Source = MemoryPools | StoreOperations


class Sources:
    """What there is to show.

    Args:
        wanted: ``"all"``: all pools of this process, and the stores that they use; or the URL of a
            store, which is opened when it is first looked at, or a pool, or several of them.
        hidden: names of pools that are not shown.

    Raises:
        ValueError: a URL is wrong.
    """

    def __init__(
        self, wanted: str | Pool | Iterable[str | Pool] = "all", hidden: Iterable[str] = ()
    ) -> None:
        given = [wanted] if isinstance(wanted, str | Pool) else [*wanted]
        self._wants_all: Final = "all" in given
        self._pools: Final = [each for each in given if isinstance(each, Pool)]
        self._hidden: Final = frozenset(hidden)
        self._lock: Final = threading.Lock()
        self._found: Final[list[Source]] = []
        self._stores: Final[dict[str, StoreOperations]] = {}
        self._memory: Final = MemoryPools(self._in_memory)
        self._urls: Final = [each for each in given if isinstance(each, str) and each != "all"]
        for url in self._urls:
            label_of(url)

    def all(self) -> list[tuple[int, Source]]:
        """Return the sources that there are now, each with its number.

        Raises:
            StoreUnusable: a store cannot be opened.
        """
        found: list[Source] = [self._open(url) for url in self._urls]
        if self._in_memory():
            found.append(self._memory)
        local = [(each.configuration.store, each) for each in self.local_pools()]
        found += [self._open(url, pool) for url, pool in local if isinstance(url, str) and url]
        with self._lock:
            for each in found:
                if each not in self._found:
                    self._found.append(each)
            return [(n, each) for n, each in enumerate(self._found) if each in found]

    def local_pool(self, source: Source, name: str) -> Pool | None:
        """Return the pool of this process that has that name in a source; None: there is none."""
        if isinstance(source, MemoryPools):
            found = source.pools().get(name)
            return found.pool if isinstance(found, MemoryOperations) else None
        for core in lifecycle.known_cores():
            store = core.options.store
            if core.name == name and store and label_of(store) == source.label:
                return cast("Pool | None", core.pool)
        return None

    @staticmethod
    def workers_of(pool: Pool) -> list[WorkerInfo]:
        """Return the workers of a pool, and those that are stuck in jobs which have timed out."""
        alive = [core.workers.all_alive() for core in lifecycle.known_cores() if core.pool is pool]
        return [each.info for workers in alive for each in workers]

    def local_pools(self) -> Iterator[Pool]:
        """Yield the pools of this process that are shown."""
        for core in lifecycle.known_cores() if self._wants_all else ():
            pool = core.pool
            if pool is not None and core.name not in self._hidden and pool.state != "closed":
                yield pool
        yield from self._pools

    def _in_memory(self) -> list[Pool]:
        return [each for each in self.local_pools() if not each.configuration.store]

    def _open(self, url: str, pool: Pool | None = None) -> StoreOperations:
        label = label_of(url)
        if label not in self._stores:
            keys = None if pool is None else pool.configuration.signing_keys
            return self._stores.setdefault(label, StoreOperations(url, keys))
        return self._stores[label]

    def close(self) -> None:
        """Let go of the stores."""
        for each in self._stores.values():
            each.close()
