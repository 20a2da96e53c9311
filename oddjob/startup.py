"""Startup: pools by name, made from settings or on first use, and their common end."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypedDict, Unpack

from oddjob.errors import PoolNameTaken, PoolNotFound, SettingsError
from oddjob.events import OnEvent
from oddjob.fork import ProcessLock
from oddjob.pool import Pool, registry, use_defaults
from oddjob.rate import Rate
from oddjob.schedule.clock import clock
from oddjob.settings import (
    CrashOn,
    Delays,
    Exceptions,
    OnError,
    Plan,
    PoolOptions,
    WhenFull,
    read_settings,
)

__all__ = ["configure", "pool", "pools", "shutdown_all", "start_pool"]


class _Startup(ProcessLock):
    """What has been configured.

    Locking: ``lock`` guards ``plan``. Pools are made while it is held, which takes the registry's
    lock and starts no thread, so that two threads cannot make the same ones; they are closed, which
    takes theirs, when it is released.
    """

    plan: Plan | None = None


_startup: Final = _Startup()


def configure(settings: Mapping[str, Any]) -> None:
    """Make the pools that a settings dict describes, or none of them.

    Call it once, at start-up. Called again with settings that mean the same it does nothing, so
    modules that are imported twice do no harm; from several threads, one of them configures and
    the others compare.

    Args:
        settings: ``default_pool`` is the name of the default pool (``"job"``; False for none);
            ``extra_pools`` is a list of names and of ``{name: options}``, or one such mapping;
            any other key is an option of `Pool` and the default for all pools made from now on.

    Raises:
        SettingsError: a key or value is not understood (the message names its path), or
            different settings are in force: call `shutdown_all` first.
        PoolNameTaken: a pool of one of the names was made before, with other options.

    Thread safety: may be called from any thread.
    """
    plan = read_settings(settings)
    made: dict[str, Pool] = {}
    try:
        with _startup.lock:
            if _startup.plan == plan:
                return
            if _startup.plan is not None:
                raise SettingsError(
                    "other settings are in force already; call oddjob.shutdown_all() first"
                )
            wanted = [
                (name, options) for name, options in plan.pools.items() if _is_new(name, options)
            ]
            for name, options in wanted:
                made[name] = Pool.from_options(name, options)
            use_defaults(plan.defaults)
            _startup.plan = plan
            made.clear()
    finally:
        # Somebody else was quicker with one of the names, or Ctrl-C struck: all or nothing.
        for name, each in made.items():
            each.shutdown(wait=False)
            registry.forget_former(name)


def _is_new(name: str, options: PoolOptions) -> bool:
    there = registry.get(name)
    if there is not None and there.configuration != options:
        raise PoolNameTaken(
            f"there is a live pool {name!r} with other options: {there!r}; "
            "configure() belongs before the first use of a pool"
        )
    return there is None


class PoolArguments(TypedDict, total=False):
    """The keyword arguments of `Pool`."""

    pool_size: int
    max_workers: int
    max_restarts: int
    max_seconds: float
    initializer: Callable[..., object]
    initargs: tuple[Any, ...]
    thread_name_prefix: str
    on_error: OnError
    crash_on: CrashOn
    timeout: float
    max_abandoned: int
    exit_timeout: float
    on_event: OnEvent
    max_queue: int
    when_full: WhenFull
    submit_timeout: float
    rate: Rate | str
    key_limit: int
    ageing: float
    retries: int
    backoff: Delays
    retry_on: Exceptions
    give_up_on: Exceptions


def start_pool(name: str, **options: Unpack[PoolArguments]) -> Pool:
    """Make a named pool; what `options` do not say is taken from `configure`.

    Takes the options of `Pool` and raises what it raises.
    """
    return Pool(name, **options)


def pool(name: "str | Pool | None" = None) -> Pool:
    """The live pool of that name; without one, the default pool.

    The default pool, ``"job"`` with 5 workers, is made on its first use unless `configure` said
    otherwise. A `Pool` is handed back as it is.

    Raises:
        PoolNotFound: no pool has that name, or there is no default pool.
        PoolClosed: the pool of that name has been shut down.
    """
    if isinstance(name, Pool):
        return name
    if name is not None and not isinstance(name, str):
        raise TypeError(f"a pool is named by a string or is a Pool, not {name!r}")
    if name is not None and (there := registry.get(name)) is not None:
        return there
    with _startup.lock:
        plan = _startup.plan or Plan()
        if name is None:
            if plan.default_pool is None:
                raise PoolNotFound("there is no default pool: the settings say default_pool: False")
            name = plan.default_pool
        if _startup.plan is None and name == plan.default_pool and registry.never_had(name):
            try:
                return Pool.from_options(name, plan.defaults)
            except PoolNameTaken:  # somebody has made it by hand at this very moment
                pass
        return registry.find(name)


def pools() -> dict[str, Pool]:
    """A snapshot of the named pools by name, in the order in which they were made."""
    return registry.all()


def shutdown_all(timeout: float | None = None) -> bool:
    """Shut all named pools down, finish what is queued, and forget the configuration.

    Args:
        timeout: the longest wait for all of them together, in seconds; None waits without limit.
            Pools that were not done by then go on finishing their queues.

    Returns whether all had finished in time. Afterwards `configure` may be called again.

    Blocks until the last job has run, or the time is up.
    """
    deadline = None if timeout is None else clock.steady() + timeout
    with _startup.lock:
        ending = registry.clear()
        _startup.plan = None
        use_defaults(PoolOptions())
    for each in ending:
        each.shutdown(wait=False)
    finished = True
    for each in ending:
        left = None if deadline is None else max(0.0, deadline - clock.steady())
        finished = each.join(left) and finished
    return finished
