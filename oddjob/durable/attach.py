"""Attaching pools to stores: one runner for each store that this process uses."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from oddjob.durable.pool_store import PoolStore
from oddjob.durable.runner import Runner
from oddjob.durable.sqlite.store import SqliteStore
from oddjob.locks import ProcessLock
from oddjob.runtime.policy import JobPolicy

if TYPE_CHECKING:
    from oddjob.thread_pool import Pool


class _Runners(ProcessLock):
    def __init__(self) -> None:
        super().__init__()
        self.by_path: dict[str, tuple[Runner, SqliteStore]] = {}


_runners = _Runners()


def attach(pool: "Pool", path: str, **options: Any) -> PoolStore:
    """Have the jobs of a pool go to the store in that file."""
    real = str(Path(path).absolute())
    with _runners.lock:
        if real not in _runners.by_path:
            store = SqliteStore(real, **options)
            runner = Runner(store, path)
            runner.start()
            _runners.by_path[real] = runner, store
        runner, store = _runners.by_path[real]
    core = pool._core
    core.store = PoolStore(core, pool.name or core.label, runner, store.marks)
    core.settlement = core.store
    pool._policy = JobPolicy(core, pool._policy.settings)
    runner.attach(core.store)
    return core.store


def detach_all() -> None:
    """Close all stores; for tests."""
    with _runners.lock:
        for runner, store in _runners.by_path.values():
            runner.close()
            store.close()
        _runners.by_path.clear()
