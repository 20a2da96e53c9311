"""Keys of `fair_by` take turns in a pool with a store; what a store does is in its contract."""

from pathlib import Path
from typing import Any

import pytest

from oddjob import Pool, StoreUnusable
from oddjob.durable.record import Capacity
from oddjob.durable.redis.location import Location
from oddjob.durable.redis.store import RedisStore
from tests.hang import until
from tests.redis_server import RedisServer

ORDER: list[str] = []


def note(customer: str, number: int) -> None:
    """Note a call."""
    ORDER.append(f"{customer} {number}")


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    ORDER.clear()
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/pool.db"
    return str(request.getfixturevalue("redis_url"))


@pytest.mark.parametrize("is_of_pool", [True, False])
def test_a_pool_with_a_store_takes_turns(url: str, *, is_of_pool: bool) -> None:
    """Or a view of it. Jobs are claimed many at a time, and run in the order of their turns."""
    options: Any = {"fair_by": lambda customer, _: customer, "fair_weights": {"gold": 2}}
    of_pool, of_view = (options, {}) if is_of_pool else ({}, options)
    with Pool("shop", 1, store=url, consume=False, **of_pool) as pool:
        view = pool.options(**of_view)
        for number in range(4):
            view.perform(note, "big", number)
        for customer in ("gold", "gold", "small"):
            view.perform(note, customer, 9)
    with Pool("shop", 1, store=url) as pool:
        pool.job(note)
        until(lambda: len(ORDER) == 7)
    assert ORDER == ["gold 9", "big 0", "gold 9", "small 9", "big 1", "big 2", "big 3"]


def test_a_pool_of_a_newer_version_is_refused(redis_url: str, redis_server: RedisServer) -> None:
    """By a process that has not known so, too; it would not find the jobs, or misread them."""
    store = RedisStore(Location(redis_url))
    store.join({"shop": ["note"]}, 1)
    meta = store._location.pool_key("shop", "meta")
    with Pool("shop", 1, store=redis_url, consume=False, fair_by=1) as pool:
        pool.submit(note, "fair", 1)
    store.turn([], [], {"shop": Capacity(1, 1)})
    (field,) = [each for each in redis_server.ask("HKEYS", meta) if each.endswith(b"\0format")]
    with pytest.raises(ValueError, match="too many values"):  # as versions before formats read it
        _function, _limiters = field[1:].decode().split("\0")
    redis_server.ask("HINCRBY", meta, field, 1)
    redis_server.ask("HINCRBY", meta, "partition", 1)
    for look in (
        lambda: store.turn([], [], {"shop": Capacity(1, 1)}),
        lambda: Pool("shop", 1, store=redis_url, consume=False).submit(note, "fair", 1),
    ):
        with pytest.raises(StoreUnusable, match=r"'shop' has jobs of a newer version.*Update it"):
            look()
    store.leave()
    store.close()
