"""Jobs on Redis that nobody waits for: the thread that submits one stores it by itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from oddjob import Pool, StoreFull
from oddjob.durable.record import Capacity, Partition, Submit, Submitted
from oddjob.durable.redis.location import Location
from oddjob.durable.redis.store import RedisStore
from tests.durable import jobs
from tests.durable.conftest import WAIT
from tests.durable.test_redis_faults import have_left, wakeups_of
from tests.hang import until
from tests.redis_proxy import RedisProxy
from tests.redis_server import RedisServer

PARTITION = Partition("pool", "function")
JOB = Submit(PARTITION, b"", wants_outcome=False)
ALL = {"pool": Capacity(100, 100)}


@pytest.fixture(autouse=True)
def meeting_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def store(redis_url: str) -> Iterator[RedisStore]:
    """A store in which the partition is known."""
    store = RedisStore(Location(redis_url))
    store.join({"pool": ["function"]}, 1)
    assert store.submit_directly([JOB]) is None  # it is not known yet
    (first,) = store.turn([], [JOB], ALL).submitted
    assert first.is_new
    yield store
    store.leave()
    store.close()


def directly(store: RedisStore, *submits: Submit) -> list[Submitted]:
    submitted = store.submit_directly(submits)
    assert submitted is not None
    return submitted


def test_what_a_thread_stores_by_itself_is_claimed_in_order(store: RedisStore) -> None:
    ids = [each.id for _ in range(3) for each in directly(store, JOB, JOB)]
    assert [claim.id for claim in store.turn([], [], ALL).claims] == ids


def test_it_is_as_unique_as_any_other_job(store: RedisStore) -> None:
    unique = Submit(PARTITION, b"", unique=b"u", delay=60.0, wants_outcome=False)
    (first,), (second,) = directly(store, unique), directly(store, unique)
    assert (second.id, second.is_new, second.is_delayed) == (first.id, False, True)


def test_it_wakes_those_that_could_run_it(store: RedisStore, redis_server: RedisServer) -> None:
    """This process among them, and also for a job that is due earlier than all others."""
    store.turn([], [], ALL)  # it has found nothing
    woken = wakeups_of(store, redis_server)
    directly(store, JOB)
    assert woken.wait(WAIT)
    assert len(store.turn([], [], ALL).claims) == 1
    woken.clear()
    directly(store, Submit(PARTITION, b"", delay=60.0, wants_outcome=False))
    assert woken.wait(WAIT)
    look = store.turn([], [], ALL).next_look
    assert look is not None
    assert look <= 60.0


def test_the_store_thread_stores_what_cannot_be_stored_alone(store: RedisStore) -> None:
    """It waits for room, or another thread is at it: the jobs of many are stored in one call."""
    assert store.submit_directly([Submit(PARTITION, b"", max_queue=1)]) is None
    with store._direct._lock:
        assert store.submit_directly([JOB]) is None
    assert len(directly(store, JOB)) == 1


def test_a_process_that_was_taken_over_stores_nothing_alone(
    store: RedisStore, redis_url: str
) -> None:
    """Nor in a store that is a new one: it does not know the partition."""
    other = RedisStore(Location(redis_url))
    other.join({}, 0)
    assert store._membership.caller is not None
    other.takeover(store._membership.caller.process)
    assert store.submit_directly([JOB]) is None
    other.leave()
    other.close()


def test_replies_that_are_cut_off_store_no_such_job_twice(
    redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    proxy = RedisProxy(redis_server.socket, tmp_path)
    with Pool("durable", 2, store=proxy.url, consume=False) as pool:
        pool.perform(jobs.note, 0)
        for n in range(1, 61):
            proxy.cuts = n % 3 == 0
            pool.perform(jobs.note, n)
        assert [each.arguments()[0] for each in pool.records()] == [(60 - n,) for n in range(61)]
        assert proxy.was_cut > 10
    until(have_left)
    proxy.close()


def test_a_full_server_refuses_such_jobs(redis_server: RedisServer, redis_url: str) -> None:
    with Pool("durable", 2, store=redis_url, consume=False) as pool:
        pool.perform(jobs.note, 1)
        redis_server.ask("CONFIG", "SET", "maxmemory", "1")
        try:
            with pytest.raises(StoreFull, match="no memory left"):
                pool.perform(jobs.note, 2)
        finally:
            redis_server.ask("CONFIG", "SET", "maxmemory", "0")
        pool.perform(jobs.note, 3)
        assert [each.arguments()[0] for each in pool.records()] == [(3,), (1,)]
