"""Processes that use a Redis store: what is known of them, and how they are numbered."""

import os
from pathlib import Path

import pytest

from oddjob.durable.record import Capacity, State, Submit, Update
from oddjob.durable.redis import script
from oddjob.durable.redis.location import Location
from oddjob.durable.redis.store import RedisStore
from oddjob.durable.store import Evicted
from tests.durable.test_redis_faults import ALL, PARTITION, member
from tests.redis_server import RedisServer


@pytest.mark.parametrize("lease", [5.0, 60.0])
def test_when_a_process_was_heard_of_last_is_known_whatever_its_lease(
    redis_url: str, tmp_path: Path, lease: float
) -> None:
    store = member(redis_url, tmp_path, lease)
    (found,) = store.reader.members()
    assert found.seen is not None
    assert found.joined <= found.seen <= store.now()
    store.leave()
    store.close()


def test_processes_without_users_of_the_system_meet_by_their_leases(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows."""
    monkeypatch.delattr(os, "getuid")
    store = RedisStore(Location(redis_url))
    store.join({"pool": ["function"]}, 4)
    assert len(store.reader.members()) == 1
    store.leave()
    store.close()


def test_numbers_of_processes_begin_anew_before_tokens_are_inexact(
    redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """After two million: a script that joins once a second has drawn as many in 24 days."""
    first = member(redis_url, tmp_path / "1")
    redis_server.ask("HSET", first._location.store_keys().all[0], "process", 2**21 - 2)
    last, other = (member(redis_url, tmp_path / name) for name in "23")
    assert [each.id for each in first.reader.members()] == [1, 2, 2**21 - 1]
    last.turn([], [Submit(PARTITION, b"")], {"pool": Capacity(0, 0)})
    (claim,) = last.turn([], [], {"pool": ALL}).claims
    again = last.turn([Update(claim, State.QUEUED)], [], {"pool": ALL}).claims
    assert last.turn([Update(claim, State.SUCCEEDED)], [], {"pool": ALL}).refused
    assert not last.turn([Update(again[0], State.SUCCEEDED)], [], {"pool": ALL}).refused
    for store in (first, last, other):
        store.leave()
        store.close()


def test_a_process_may_make_any_number_of_calls(redis_url: str, tmp_path: Path) -> None:
    """Four billion take a busy one some weeks; tokens of others begin there."""
    store, other = member(redis_url, tmp_path / "1", 15.0), member(redis_url, tmp_path / "2", 15.0)
    store._calls._number = 2**32 - 3
    for _ in range(4):
        store.turn([], [Submit(PARTITION, b"")], {"pool": Capacity(0, 0)})
        claims = store.turn([], [], {"pool": ALL}).claims
        assert len(claims) == 1
        assert not store.turn([Update(claims[0], State.SUCCEEDED)], [], {"pool": ALL}).refused
    for each in (store, other):
        each.leave()
        each.close()


def test_an_old_server_that_was_emptied_gets_an_id_of_its_own(
    redis_server: RedisServer, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By which its processes meet, and those of no other store."""
    monkeypatch.setattr(script, "_SPEAKS_FLAGS", 99)
    store = member(redis_url, tmp_path, lease=15.0)
    redis_server.ask("FLUSHALL")
    with pytest.raises(Evicted):
        store.try_write()
    store.join({}, 0)
    assert len(store._membership._store_id) == 32
    store.leave()
    store.close()
