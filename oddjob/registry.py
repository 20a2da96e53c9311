"""Registry: the pools by name, what ``configure`` has said of them, and the default pool.

Guarantees: a name has at most one live pool. A named pool lives until it is shut down. What is
kept of pools that were shut down does not grow.
"""

from collections.abc import Mapping
from typing import Any, Final, Unpack

from oddjob.errors import PoolClosed, PoolNameTaken, PoolNotFound, SettingsError
from oddjob.hints import refuse_unknown
from oddjob.locks import ProcessLock
from oddjob.option_checks import as_name
from oddjob.options import POOL_CHECKS, PoolArguments
from oddjob.quantities import Seconds, as_patience
from oddjob.schedule.clock import clock
from oddjob.settings import Plan, Settings, read_settings
from oddjob.thread_pool import Pool

_NO_PLAN: Final = Plan()  # in force while nothing has been configured
_REMEMBERED: Final = 1_000  # names of pools that were shut down


class Registry(ProcessLock):
    """The live pools by name, and the settings in force.

    Locking: ``lock`` guards all fields. Pools are made under it, so that two threads cannot make
    the same one; that starts no thread. They are shut down after it has been released.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pools: dict[str, Pool] = {}
        self.plan: Plan = _NO_PLAN
        self._closed: dict[str, None] = {}  # names of former pools, in the order of their ends

    def add(self, name: str, pool: Pool) -> None:
        """Register a pool; raise `PoolNameTaken` if a live pool has that name."""
        with self.lock:
            if name in self.pools:
                raise PoolNameTaken(
                    f"there is a live pool {name!r}; shut it down first, or choose another name. "
                    "If its module is run and imported, and so executed twice, use "
                    "start_pool(name, exist_ok=True)"
                )
            self.pools[name] = pool
            self._closed.pop(name, None)

    def remove(self, name: str | None, pool: Pool) -> None:
        """Take a pool out, if it is the one of that name."""
        with self.lock:
            if name is None or self.pools.get(name) is not pool:
                return
            del self.pools[name]
            self._closed[name] = None
            if len(self._closed) > _REMEMBERED:
                # The default pool's is kept: it must not be made again on its next use.
                oldest = (each for each in self._closed if each != self.plan.default_pool)
                del self._closed[next(oldest)]

    def find(self, name: str | None) -> Pool:
        """Do what `pool` says."""
        with self.lock:
            default = self.plan.default_pool
            name = default if name is None else name
            if name is None:
                raise PoolNotFound("there is no default pool: the settings say default_pool: False")
            if name in self.pools:
                return self.pools[name]
            if name in self._closed:
                raise PoolClosed(
                    f"cannot schedule new futures after shutdown: pool {name!r} is closed"
                )
            if name == default and self.plan is _NO_PLAN:
                return Pool._from_options(name, self.plan.defaults)
            known = ", ".join(map(repr, sorted(self.pools))) or "none yet"
            raise PoolNotFound(f"no pool named {name!r}; the pools are: {known}")

    def forget(self, made: list[Pool]) -> None:
        """Forget the settings, and the pools that were made for them."""
        with self.lock:
            self.plan = _NO_PLAN
            for each in made:
                if self.pools.get(each.name or "") is each:
                    del self.pools[each.name or ""]

    def clear(self) -> list[Pool]:
        """Forget all names and settings; return the pools."""
        with self.lock:
            pools = list(self.pools.values())
            self.pools.clear()
            self._closed.clear()
            self.plan = _NO_PLAN
            return pools


registry: Final = Registry()
Pool._registry = registry


def configure(settings: Mapping[str, Any] | None = None, **keywords: Unpack[Settings]) -> None:
    """Create the pools that a settings dict describes, or none of them.

    Call it once, at start-up. Calling it again with settings that mean the same does nothing.

    Args:
        settings: ``default_pool`` is the name of the default pool (``"job"`` by default; False:
            there is none); ``extra_pools`` is a list of names and of ``{name: options}``, or one
            such mapping; any other key is an option of `Pool`, and the default for all pools made
            from now on. Type checkers know it as `oddjob.Settings`.
        **keywords: the same by keywords: ``configure(default_pool="work", pool_size=10)``. What is
            in both is taken from here.

    Raises:
        SettingsError: a key or value is not understood (the message names its path), or
            different settings are in force: call `shutdown_all` first.
        PoolNameTaken: a live pool has one of the names and other options.
    """
    plan = read_settings({} if settings is None else settings, keywords)
    with registry.lock:
        if registry.plan is not _NO_PLAN:
            if registry.plan == plan:
                return
            raise SettingsError(
                "other settings are in force already; call oddjob.shutdown_all() first"
            )
        for name, options in plan.pools.items():
            former = registry.pools.get(name)
            if former is not None and former.configuration != options:
                raise PoolNameTaken(
                    f"there is a live pool {name!r} with other options: {former!r}; "
                    "configure() belongs before the first use of a pool"
                )
        made = [
            Pool._from_options(name, options)
            for name, options in plan.pools.items()
            if name not in registry.pools
        ]
        registry.plan = plan
    try:
        for each in made:
            each._open_store()
    except BaseException:
        registry.forget(made)
        for each in made:
            each.shutdown(wait=False)
        raise


def start_pool(
    name: str, *, exist_ok: bool = False, replace: bool = False, **options: Unpack[PoolArguments]
) -> Pool:
    """Create a named pool, with defaults from `configure`.

    Args:
        name: the pool's name.
        exist_ok: if there is a live pool of that name with the same options, return it.
        replace: if there is a live pool of that name, shut it down first. It finishes its queue
            while the new one takes over its name. With `exist_ok` as well, only a pool that has
            other options is replaced.
        **options: as in `Pool`.

    Raises:
        PoolNameTaken: a live pool has that name (and other options, with `exist_ok`).
        TypeError, ValueError: as `Pool` does.
    """
    as_name("name", name)
    refuse_unknown("start_pool", options, (*POOL_CHECKS, "max_workers", "exist_ok", "replace"))
    wanted = registry.plan.defaults.replace(**options)
    with registry.lock:
        former = registry.pools.get(name)
        if former is not None and exist_ok:
            if former.configuration == wanted:
                return former
            if not replace:
                raise PoolNameTaken(
                    f"there is a live pool {name!r} with other options; replace=True shuts it down"
                )
        if former is not None and replace:
            registry.remove(name, former)
        pool = Pool._from_options(name, wanted)
    if former is not None:
        former.shutdown(wait=False)
    pool._open_store()
    return pool


def pool(name: str | Pool | None = None) -> Pool:
    """Return the live pool of that name; without a name, the default pool.

    The default pool, ``"job"`` with 5 workers, is created on first use unless `configure` says
    otherwise. A `Pool` is returned as it is.

    Raises:
        PoolNotFound: no pool has that name, or there is no default pool.
        PoolClosed: the pool of that name has been shut down.
    """
    if isinstance(name, Pool):
        return name
    if name is not None and not isinstance(name, str):
        raise TypeError(f"a pool is given by its name or as a Pool, not {name!r}")
    return registry.find(name)


def pools() -> dict[str, Pool]:
    """Return the live named pools by name, in the order in which they were created."""
    with registry.lock:
        return dict(registry.pools)


def shutdown_all(timeout: Seconds | None = None) -> bool:
    """Shut down all named pools, finish their queued jobs, and forget the configuration.

    Afterwards `configure` may be called again. Anonymous pools are left alone.

    Args:
        timeout: the longest wait for all pools together, in seconds; None or ``math.inf``: no
            limit. Pools that are not done by then go on.

    Returns:
        Whether all pools have ended in time.
    """
    deadline = clock.steady() + as_patience("timeout", timeout)
    ending = registry.clear()
    for each in ending:
        each.shutdown(wait=False)
    finished = [each.join(max(0.0, deadline - clock.steady())) for each in ending]
    return all(finished)
