"""Pools that live as long as an ASGI application: FastAPI, Starlette, Litestar.

Guarantees: the pools take jobs before the first request, and are drained after the last one.
Assumes: the server runs the lifespan in asyncio, as uvicorn and hypercorn do.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import oddjob
from oddjob.log import log
from oddjob.quantities import Seconds, as_patience
from oddjob.registry import registry

Lifespan = Callable[[Any], AbstractAsyncContextManager[dict[str, oddjob.Pool | None]]]


def lifespan(
    pool_or_settings: oddjob.Pool | Mapping[str, Any], *, drain: Seconds = 8.0
) -> Lifespan:
    """Return a lifespan for ``FastAPI(lifespan=…)``, Starlette, or Litestar's ``lifespan=[…]``.

    The pool is ``request.state.oddjob`` in FastAPI and Starlette, and ``app.state.oddjob``
    everywhere.

    Args:
        pool_or_settings: a pool; or a settings dict for `oddjob.configure`, whose default pool that
            is then (None if the settings say that there is none), and the others are
            ``oddjob.pool(name)``: all named pools of the process end with the application. One that
            starts a second time, as in tests, gets a new pool with the same options in place of one
            that was drained.
        drain: how long queued and running jobs may go on when the application ends, in seconds, 0
            or more. What has not begun by then is cancelled, or stays in the pool's store.

    Raises:
        TypeError, ValueError: at once, if an argument is of no use; `oddjob.SettingsError` and
            `oddjob.PoolNameTaken` when the application starts.
    """
    as_patience("drain", drain)
    if not isinstance(pool_or_settings, oddjob.Pool | Mapping):
        raise TypeError(f"lifespan() takes a Pool or a settings dict, not {pool_or_settings!r}")

    @asynccontextmanager
    async def run(app: Any) -> AsyncIterator[dict[str, oddjob.Pool | None]]:
        pool: oddjob.Pool | None
        if isinstance(pool_or_settings, oddjob.Pool):
            given = pool = _open(pool_or_settings)
        else:
            given = None
            oddjob.configure(pool_or_settings)
            is_without = pool_or_settings.get("default_pool") is False
            pool = None if is_without else oddjob.pool()
        app.state.oddjob = pool
        try:
            yield {"oddjob": pool}
        finally:
            if given is not None:
                await _drain(given, drain)
            else:
                await asyncio.gather(*(_drain(each, drain) for each in oddjob.pools().values()))
                oddjob.shutdown_all(0)  # forgets the settings: the application may start again

    return run


def _open(pool: oddjob.Pool) -> oddjob.Pool:
    if pool.state != "closed":
        return pool
    defaults, options = registry.plan.defaults._asdict(), pool.configuration._asdict()
    given = {name: value for name, value in options.items() if value != defaults[name]}
    return oddjob.Pool(pool.name, **given)


async def _drain(pool: oddjob.Pool, seconds: Seconds) -> None:
    report = await pool.adrain(seconds)
    what = (
        "pool %s drained; jobs: %d finished, %d cancelled, %d still running; timers cancelled: %d"
    )
    numbers = [len(jobs_or_timers) for jobs_or_timers in report]
    log(logging.INFO, what, pool.name, *numbers)
