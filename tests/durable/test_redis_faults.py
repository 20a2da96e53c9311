"""Faults of a Redis server and of the way to it: each is met with a server of the test's own."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from oddjob import Pool, PoolClosed, StoreFull, StoreUnusable
from oddjob.durable import trouble
from oddjob.durable.record import Capacity, Claim, Partition, State, Submit, Update
from oddjob.durable.redis import connection, membership, newest, wakeups
from oddjob.durable.redis.access import Caller
from oddjob.durable.redis.location import Location
from oddjob.durable.redis.store import RedisStore
from oddjob.durable.store import Evicted, Filter
from oddjob.errors import JobLost, StoreUnsafe
from oddjob.operations.findings import findings
from oddjob.schedule.clock import clock
from oddjob.testing import FakeClock
from tests.durable import jobs
from tests.durable.conftest import WAIT, have_left
from tests.hang import until
from tests.redis_clock import follow_clock
from tests.redis_proxy import RedisProxy
from tests.redis_server import RedisServer, free_port

PARTITION = Partition("pool", "function")
ALL = Capacity(100, 100)
GONE, BACK = "cannot be used at present", "can be used again"


@pytest.fixture(autouse=True)
def meeting_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    jobs.gate.clear()
    jobs.runs.clear()


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server that a test may stop; what it acknowledges is on the disk."""
    server = RedisServer("--appendonly", "yes", "--appendfsync", "always")
    yield server
    until(have_left)
    server.close()


@pytest.fixture
def proxy(redis_server: RedisServer, redis_url: str, tmp_path: Path) -> Iterator[RedisProxy]:
    proxy = RedisProxy(redis_server.socket, tmp_path)
    yield proxy
    until(have_left)
    proxy.close()


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_PATIENCE", 0.2)
    monkeypatch.setattr(connection, "_SOCKET_TIMEOUT", 0.3)
    monkeypatch.setattr(wakeups, "_PING_AFTER", 0.3)
    monkeypatch.setattr(wakeups, "_PATIENCE", 0.3)


def times(caplog: pytest.LogCaptureFixture, what: str) -> int:
    return sum(what in record.getMessage() for record in caplog.records)


# The connection.


def test_replies_that_are_cut_off_lose_no_job_and_run_none_twice(proxy: RedisProxy) -> None:
    """Of submits, claims, outcomes and wake-ups (fault 31)."""
    with Pool("durable", 2, store=proxy.url) as pool:
        submitted = []
        for n in range(300):
            proxy.cuts = n % 5 == 0
            submitted.append(pool.submit(jobs.note, n))
        assert [job.result(WAIT) for job in submitted] == list(range(300))
        assert sorted(jobs.runs) == list(range(300))
        assert proxy.was_cut > 30


def test_a_connection_that_went_silent_is_given_up(
    proxy: RedisProxy, short_patience: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The process goes on with new ones; users hear of it once at most (fault 32)."""
    with Pool("durable", 1, store=proxy.url) as pool:
        assert pool.submit(jobs.note, 1).result(WAIT) == 1
        proxy.freeze()
        until(lambda: _submits(pool))
        assert pool.submit(jobs.note, 2).result(WAIT) == 2
        assert times(caplog, GONE) == times(caplog, BACK) <= 1


def wakeups_of(store: RedisStore, server: RedisServer) -> threading.Event:
    """Return what is set by the wake-ups that are still to come."""
    listener, woken = store._listener, threading.Event()
    assert listener is not None
    listener._wake = woken.set  # type: ignore[misc]
    server.ask("PUBLISH", listener._channel, "")  # after it, all former ones have come
    assert woken.wait(WAIT)
    woken.clear()
    return woken


def test_wake_ups_that_do_not_come_any_more_are_noticed(
    proxy: RedisProxy, redis_server: RedisServer, redis_url: str, short_patience: None
) -> None:
    """Their connection is asked for a sign of life, and replaced."""
    sleeper, other = RedisStore(Location(proxy.url)), RedisStore(Location(redis_url))
    for store in (sleeper, other):
        store.join({"pool": ["function"]}, 4)
    sleeper.turn([], [], {"pool": ALL})
    woken = wakeups_of(sleeper, redis_server)
    proxy.freeze()
    other.turn([], [Submit(PARTITION, b"")], {"pool": Capacity(0, 0)})
    assert woken.wait(WAIT)
    assert len(sleeper.turn([], [], {"pool": ALL}).claims) == 1
    for store in (sleeper, other):
        store.leave()
        store.close()


def _submits(pool: Pool) -> bool:
    try:
        pool.submit(jobs.note, 0)
    except StoreUnusable:
        return False
    return True


def test_a_wake_up_that_is_lost_with_its_connection_is_made_up_for(
    redis_server: RedisServer, redis_url: str
) -> None:
    """The process looks again when it listens again; here, the job comes before that."""
    sleeper, other = RedisStore(Location(redis_url)), RedisStore(Location(redis_url))
    for store in (sleeper, other):
        store.join({"pool": ["function"]}, 4)
    sleeper.turn([], [], {"pool": ALL})
    assert sleeper._listener is not None
    connection = sleeper._listener._connection
    connect, is_lost, has_job = connection.connect, threading.Event(), threading.Event()

    def connect_later() -> None:
        is_lost.set()
        assert has_job.wait(WAIT)
        connect()

    woken = wakeups_of(sleeper, redis_server)
    connection.connect = connect_later
    redis_server.ask("CLIENT", "KILL", "TYPE", "pubsub")
    assert is_lost.wait(WAIT)
    other.turn([], [Submit(PARTITION, b"")], {"pool": Capacity(0, 0)})
    has_job.set()
    assert woken.wait(WAIT)
    assert len(sleeper.turn([], [], {"pool": ALL}).claims) == 1
    for store in (sleeper, other):
        store.leave()
        store.close()


# The server.


def test_a_server_that_was_killed_comes_back_with_all_it_has_acknowledged(
    server: RedisServer, short_patience: None, caplog: pytest.LogCaptureFixture
) -> None:
    """What ended meanwhile is stored then, and runs once."""
    with Pool("durable", 2, store=server.url) as pool:
        running = pool.submit_many(jobs.hang_for, [0, 1])
        waiting = pool.submit_many(jobs.note, range(20))
        for _ in running:
            assert jobs.entered.acquire(timeout=WAIT)
        server.kill()
        jobs.gate.set()
        with pytest.raises(StoreUnusable, match="does not answer"):
            pool.submit(jobs.note, "lost")
        until(lambda: times(caplog, GONE) == 1)
        server.start()
        assert [job.result(WAIT) for job in running] == ["late", "late"]
        assert [job.result(WAIT) for job in waiting] == list(range(20))
        assert sorted(jobs.runs) == list(range(20))
        until(lambda: times(caplog, BACK) == 1)
        assert times(caplog, GONE) == 1


@pytest.mark.parametrize("cancels", [False, True])
def test_a_pool_ends_without_the_server_while_another_one_waits_for_it(
    server: RedisServer,
    short_patience: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    cancels: bool,
) -> None:
    """Jobs that callers hold end; in the store they live on, also what ended meanwhile."""
    monkeypatch.setattr(trouble, "_LONG", 0.0)
    with Pool("stays", 1, store=server.url) as stays:
        ends = Pool("ends", 1, store=server.url)
        begun = ends.submit(jobs.hang)
        assert jobs.entered.acquire(timeout=WAIT)
        waiting, scheduled = ends.submit(jobs.note, 1), ends.after(3600).submit(jobs.note, 2)
        server.kill()
        jobs.gate.set()
        ends.shutdown(cancel_futures=cancels, timeout=WAIT)
        for job in begun, waiting, scheduled:
            with pytest.raises(PoolClosed, match=f"job {job.id} lives on in the store if that co"):
                job.result(0)
        assert times(caplog, "could not be cancelled") <= cancels  # none if they had ended before
        server.start()
        assert stays.submit(jobs.note, 3).result(WAIT) == 3
        with Pool("ends", 1, store=server.url) as again:
            assert again.find(begun.id).result(WAIT) == "late"
            assert again.find(waiting.id).result(WAIT) == 1
            assert again.find(scheduled.id).state == "scheduled"


def test_what_was_not_sent_is_not_said_to_have_been_done(
    server: RedisServer, short_patience: None
) -> None:
    """A call may have been done when its answer was lost, and not when nobody took it."""
    with Pool("durable", 1, store=server.url) as pool:
        store = pool._core.store.open().store
        send = store._connection._raw.send_packed_command

        def send_last(*args: Any, **options: Any) -> None:
            send(*args, **options)
            server.kill()

        store._connection._raw.send_packed_command = send_last
        with pytest.raises(StoreUnusable, match="what it was asked last may have been done: "):
            pool.submit(jobs.note, 1)
        with pytest.raises(StoreUnusable, match=r"does not answer: .* connecting to") as caught:
            pool.submit(jobs.note, 2)
        assert "may have been done" not in str(caught.value)
        server.start()
    with pytest.raises(StoreUnusable, match=r"does not answer: .* connecting to"):
        Pool("durable", 1, store=f"redis://127.0.0.1:{free_port()}")


def test_a_server_that_comes_back_empty_is_a_new_store(
    server: RedisServer, short_patience: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The process joins it; jobs that it was running cannot be settled there."""
    with Pool("durable", 1, store=server.url) as pool:
        lost = pool.submit(jobs.hang)
        assert jobs.entered.acquire(timeout=WAIT)
        server.ask("FLUSHALL")
        until(lambda: times(caplog, "was taken for dead") or _submits(pool))
        jobs.gate.set()
        assert pool.submit(jobs.note, 1).result(WAIT) == 1
        assert lost.exception(WAIT) is not None


def test_scripts_that_the_server_has_forgotten_are_sent_again(
    redis_server: RedisServer, redis_url: str
) -> None:
    """In the middle of everything (fault 37)."""
    with Pool("durable", 2, store=redis_url) as pool:
        for n in range(20):
            redis_server.ask("SCRIPT", "FLUSH")
            assert pool.submit(jobs.note, n).result(WAIT) == n


def test_a_full_server_takes_outcomes_and_refuses_jobs(server: RedisServer) -> None:
    """Until there is room; jobs that it has can end (fault 35)."""
    with Pool("durable", 2, store=server.url) as pool:
        running = pool.submit_many(jobs.hang_for, [0, 1])
        waiting = pool.submit_many(jobs.note, range(50))
        for _ in running:
            assert jobs.entered.acquire(timeout=WAIT)
        server.ask("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreFull, match="no memory left"):
            pool.submit(jobs.note, "refused")
        jobs.gate.set()
        assert [job.result(WAIT) for job in running] == ["late", "late"]
        assert [job.result(WAIT) for job in waiting] == list(range(50))
        server.ask("CONFIG", "SET", "maxmemory", "0")
        assert pool.submit(jobs.note, "taken").result(WAIT) == "taken"
        assert "refused" not in jobs.runs


def test_a_server_that_would_delete_jobs_is_refused(server: RedisServer) -> None:
    """Unless the URL says that this is wanted (fault 36)."""
    server.ask("CONFIG", "SET", "maxmemory", "1gb")
    server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with pytest.raises(StoreUnsafe, match="maxmemory-policy is allkeys-lru"):
        Pool("durable", 1, store=server.url)
    with Pool("durable", 1, store=f"{server.url}?accept_eviction=1") as pool:
        assert pool.submit(jobs.note, 1).result(WAIT) == 1


def test_a_server_that_is_a_replica_for_a_while_is_waited_for(
    server: RedisServer, short_patience: None, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a failover: what it refuses is written when it is a master again (fault 39)."""
    with Pool("durable", 1, store=server.url) as pool:
        running = pool.submit(jobs.hang)
        assert jobs.entered.acquire(timeout=WAIT)
        server.ask("REPLICAOF", "127.0.0.1", "1")
        jobs.gate.set()
        with pytest.raises(StoreUnusable):
            pool.submit(jobs.note, "lost")
        server.ask("REPLICAOF", "NO", "ONE")
        assert running.result(WAIT) == "late"
        assert pool.submit(jobs.note, 1).result(WAIT) == 1
        assert times(caplog, GONE) == times(caplog, BACK) == 1


def test_a_server_that_comes_back_without_its_latest_data_leaves_no_job_behind(
    tmp_path: Path, short_patience: None
) -> None:
    """As after a failover to a replica that lags (fault 39), or a crash between two writes.

    Jobs whose ends it has lost run again; jobs that it has lost end for those who wait for them.
    """
    server = RedisServer()
    with Pool("durable", 2, store=server.url) as pool:
        running = pool.submit_many(jobs.hang_for, [0, 1])
        for _ in running:
            assert jobs.entered.acquire(timeout=WAIT)
        pool.pause()
        waiting = pool.submit_many(jobs.note, range(3))
        server.ask("SAVE")
        jobs.gate.set()
        assert [job.result(WAIT) for job in running] == ["late", "late"]
        lost = pool.submit(jobs.note, "lost")
        server.kill()
        server.start()
        pool.resume()
        assert [job.result(WAIT) for job in waiting] == [0, 1, 2]
        assert isinstance(lost.exception(WAIT), JobLost)
        until(lambda: pool.counts()["succeeded"] == 5)
        assert pool.counts()["running"] == 0
        assert pool.submit(jobs.note, "new").result(WAIT) == "new"
    until(have_left)
    server.close()


def test_functions_that_a_server_has_forgotten_are_not_taken_for_others(tmp_path: Path) -> None:
    """Jobs that are submitted as before run what they were submitted for."""
    server = RedisServer()
    consumer, *others = [member(server.url, tmp_path / name, 15.0) for name in "123"]
    consumer.learn("pool", ["first", "second"], 4)
    server.ask("SAVE")
    first, second = (Submit(Partition("pool", name), b"") for name in ("first", "second"))
    others[0].turn([], [first], {})
    server.kill()
    server.start()
    for store, submit in ((others[1], second), (others[0], first)):
        assert store.turn([], [submit], {}).next_look == 0
        store.turn([], [], {})  # this one finds out what the server lacks
    claims: list[Claim] = []
    until(lambda: claims.extend(consumer.turn([], [], {"pool": ALL}).claims) or len(claims) == 2)
    assert [claim.function for claim in claims] == ["second", "first"]
    for store in (consumer, *others):
        store.leave()
        store.close()
    server.close()


# Processes.


def member(url: str, directory: Path, lease: float = 0.3) -> RedisStore:
    """Return a member on a machine of its own, as others see it."""
    directory.mkdir(exist_ok=True)
    store = RedisStore(Location(url), directory=directory, lease=lease)
    store.join({"pool": ["function"]}, 4)
    return store


def are_still_joined(stores: list[RedisStore], joined: set[Caller]) -> None:
    """Check that no member was taken over, and had to join again; then close all."""
    for store in stores:
        store.turn([], [], {"pool": ALL})
    assert {store._membership.caller for store in stores} == joined
    for store in stores:
        store.leave()
        store.close()


def test_a_process_that_misses_its_lease_loses_its_jobs_and_joins_again(
    redis_url: str, tmp_path: Path
) -> None:
    """Another machine takes them over; a late outcome is refused."""
    paused, other = member(redis_url, tmp_path / "1"), member(redis_url, tmp_path / "2")
    paused.turn([], [Submit(PARTITION, b"")], {"pool": Capacity(0, 0)})
    (claim,) = paused.turn([], [], {"pool": ALL}).claims
    assert paused._membership._stop is not None
    paused._membership._stop.set()  # it does not renew its lease
    claims: list[Any] = []
    until(lambda: claims or claims.extend(other.turn([], [], {"pool": ALL}).claims))
    assert [(each.id, each.crashes) for each in claims] == [(claim.id, 1)]
    late = Update(claim, State.SUCCEEDED)
    with pytest.raises(Evicted):
        paused.turn([late], [], {"pool": ALL})
    paused.join({"pool": ["function"]}, 4)
    assert paused.turn([late], [], {"pool": Capacity(0, 0)}).refused == [late]
    assert other.turn([Update(claims[0], State.SUCCEEDED)], [], {"pool": ALL}).refused == []
    for store in (paused, other):
        store.leave()
        store.close()


def test_jobs_of_a_dead_process_are_found_though_the_leases_were_deleted(
    redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """By hand, say; those who live join again (fault 34)."""
    dead, other = member(redis_url, tmp_path / "1"), member(redis_url, tmp_path / "2")
    dead.turn([], [Submit(PARTITION, b"")], {"pool": Capacity(0, 0)})
    (claim,) = dead.turn([], [], {"pool": ALL}).claims
    assert dead._membership._stop is not None
    dead._membership._stop.set()
    redis_server.ask("DEL", dead._location.store_keys().all[2])
    until(lambda: other._membership.is_evicted)
    other.join({"pool": ["function"]}, 4)
    claims: list[Any] = []
    until(lambda: claims or claims.extend(other.turn([], [], {"pool": ALL}).claims))
    assert [(each.id, each.crashes) for each in claims] == [(claim.id, 1)]
    for store in (dead, other):
        store.leave()
        store.close()


class Rounds:
    """In place of the events that end leases: all processes renew theirs when the test says so."""

    def __init__(self, members: int) -> None:
        self._barrier = threading.Barrier(members + 1)

    def next(self) -> None:
        """Let all try once, and wait until they have."""
        for _ in range(2):
            self._barrier.wait(WAIT)

    def wait(self, _seconds: float) -> bool:
        with suppress(threading.BrokenBarrierError):
            for _ in range(2):
                self._barrier.wait()
        return self._barrier.broken

    def begin(self) -> None:
        self._barrier.wait(WAIT)

    def set(self) -> None:
        self._barrier.abort()


def test_nobody_is_taken_over_right_after_an_outage(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which was longer than the lease: all of them are expired then, and all come back."""
    follow_clock(monkeypatch)
    rounds = Rounds(3)
    monkeypatch.setattr(membership, "threading", SimpleNamespace(Event=lambda: rounds))
    with FakeClock() as time_of_server:
        stores = [member(server.url, tmp_path / name) for name in "123"]
        joined = {store._membership.caller for store in stores}
        rounds.begin()
        server.kill()
        rounds.next()  # in vain
        time_of_server.advance(hours=1)
        server.start()
        for _ in range(3):
            rounds.next()
        assert len(stores[0].reader.members()) == 3
        are_still_joined(stores, joined)


def test_an_idle_process_sends_next_to_nothing(redis_server: RedisServer, redis_url: str) -> None:
    """Fewer than two commands a second, whatever it waits for."""
    with Pool("durable", 4, store=redis_url) as pool:
        pool.after(3600).perform(jobs.note, 1)
        assert pool.submit(jobs.note, 1).result(WAIT) == 1
        deadline = time.monotonic() + WAIT
        sent = inf
        while sent > 2:  # until it is idle
            assert time.monotonic() < deadline
            before = _commands(redis_server)
            time.sleep(1.0)
            sent = _commands(redis_server) - before


def _commands(server: RedisServer) -> int:
    """Return how many commands of clients there were, but for those that ask this."""
    info = server.ask("INFO", "commandstats")
    return sum(info[f"cmdstat_{name}"]["calls"] for name in ("evalsha", "eval", "ping")
               if f"cmdstat_{name}" in info)  # fmt: skip


def test_a_process_with_very_many_claims_is_taken_over_in_portions(redis_url: str) -> None:
    """So that no script keeps the server from others for long (fault 40)."""
    dead, other = RedisStore(Location(redis_url)), RedisStore(Location(redis_url))
    for store in (dead, other):
        store.join({"pool": ["function"]}, 4)
    dead.turn([], [Submit(PARTITION, b"")] * 1050, {"pool": Capacity(0, 0)})
    for _ in range(3):
        dead.turn([], [], {"pool": Capacity(400, 400)})
    assert dead._membership.caller is not None
    assert other.takeover(dead._membership.caller.process) == 1050
    assert other.reader.counts("pool")[State.QUEUED] == 1050
    with pytest.raises(Evicted):
        dead.turn([], [], {"pool": ALL})
    for store in (other, dead):
        store.leave()
        store.close()


def test_jobs_behind_a_failed_serial_one_fail_in_portions(redis_url: str) -> None:
    """So that no script keeps the server from others for long, however many there are."""
    store = RedisStore(Location(redis_url))
    store.join({"pool": ["function"]}, 4)
    serial = Submit(PARTITION, b"", key="k", is_serial=True)
    (first,) = store.turn([], [serial], {"pool": Capacity(1, 1)}).claims
    store.turn([], [serial] * 1200, {})
    retried = store.turn([Update(first, State.FAILED)], [serial], {"pool": ALL})
    assert retried.claims == []
    assert retried.next_look == 0
    counts = store.reader.counts("pool")
    assert (counts[State.FAILED], counts[State.QUEUED]) == (501, 701)
    news, claims = list(retried.news), list[Claim]()
    while not claims:
        turn = store.turn([], [], {"pool": ALL})
        news, claims = news + turn.news, turn.claims
    assert [claim.id for claim in claims] == [each.id for each in retried.submitted]
    assert store.reader.counts("pool")[State.FAILED] == 1201
    assert {each.error for each in news if each.error is not None} == {
        f"PredecessorFailed: job {first.id}, before it in line 'k', failed"
    }
    assert store.reader.counts("pool")[State.QUEUED] == 0
    store.leave()
    store.close()


@pytest.mark.parametrize("shift", [3600, -3600])
def test_only_the_clock_of_the_server_counts(
    shift: int, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine whose clock is an hour off, no job is early or late, no process dead (41)."""
    monkeypatch.setattr(clock, "_wall", lambda: time.time() + shift)
    with Pool("durable", 1, store=redis_url, keep_failed="10 minutes") as pool:
        start = time.monotonic()
        later = pool.after(0.3).submit(jobs.note, "later")
        assert pool.submit(jobs.note, "now").result(WAIT) == "now"
        assert later.result(WAIT) == "later"
        assert time.monotonic() - start >= 0.3
        limited = pool.options(rate="2/minute")
        assert [limited.submit(jobs.note, n).result(WAIT) for n in range(2)] == [0, 1]
        assert limited.submit(jobs.note, 2).cancel()
    stores = [member(redis_url, tmp_path / name) for name in "12"]
    joined = {store._membership.caller for store in stores}
    threading.Event().wait(0.8)  # some beats of each
    are_still_joined(stores, joined)


@pytest.mark.parametrize("shift", [3600, -3600])
def test_the_first_tick_of_an_entry_is_by_the_clock_of_the_server(
    shift: int, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one that is behind it would fire at once, or for a date that is past."""
    monkeypatch.setattr(clock, "_wall", lambda: time.time() + shift)
    with Pool("durable", 1, store=redis_url, consume=False) as pool:
        start = time.time()
        pool.options(name="every").every(1800).perform(jobs.note, 1)
        pool.options(name="cron").cron("* * * * *", tz="UTC").perform(jobs.note, 2)
        entries = pool._core.store.reader.entries("durable")
        cron, every = [each.tick - start for each in entries]
        passed = time.time() - start
    assert 0 <= every - 1800 <= passed
    assert 0 < cron <= 60 + passed


@pytest.mark.parametrize("state", [State.QUEUED, State.FAILED])
def test_a_page_out_of_many_jobs_costs_what_one_out_of_few_does(
    state: State, redis_server: RedisServer, redis_url: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The server sends no ids of others, but for some thousand that have ended."""
    monkeypatch.setattr(newest, "_IDS_AT_ONCE", 100)
    monkeypatch.setattr(newest, "_SLACK", 0)
    store = member(redis_url, tmp_path)
    submits = [Submit(PARTITION, b"", priority=n % 3) for n in range(300)]

    def sent() -> int:
        return int(redis_server.ask("INFO", "stats")["total_net_output_bytes"])

    def add() -> None:
        turn = store.turn([], submits, {"pool": ALL if state is State.FAILED else Capacity(0, 0)})
        while turn.claims:
            updates = [Update(each, State.FAILED, error="no") for each in turn.claims]
            turn = store.turn(updates, [], {"pool": ALL})

    costs = []
    for count in 1, 20:
        for _ in range(count):
            add()
        before = sent()
        page = store.reader.records("pool", Filter(state), limit=20)
        assert len(page) == len(store.reader.records("pool", Filter(state), page[-1].id, 20)) == 20
        costs.append(sent() - before)
    assert costs[1] < 2 * costs[0], costs
    store.leave()
    store.close()


@pytest.mark.parametrize("levels", [200, 201])
def test_jobs_of_very_many_priorities_are_read_as_others(
    levels: int, redis_url: str, tmp_path: Path
) -> None:
    store = member(redis_url, tmp_path)
    submits = [Submit(PARTITION, b"", priority=n) for n in range(levels)]
    added = store.turn([], submits, {"pool": Capacity(0, 0)}).submitted
    page = store.reader.records("pool", Filter(State.QUEUED), added[-1].id, 3)
    assert [each.id for each in page] == [each.id for each in added[-2:-5:-1]]
    store.leave()
    store.close()


def test_no_command_looks_through_the_keys_of_other_programs(
    redis_server: RedisServer, redis_url: str
) -> None:
    """Of which a shared server may have millions (fault 42)."""
    redis_server.ask("CONFIG", "RESETSTAT")
    with Pool("durable", 2, store=redis_url, keep_succeeded=1) as pool:
        ended = pool.submit_many(jobs.note, range(5))
        assert [job.result(WAIT) for job in ended] == list(range(5))
        pool.options(key="k", unique=True).submit(jobs.note, 1).result(WAIT)
        pool.options(name="hourly").every(3600).perform(jobs.note, 1)
        pool.after(3600).submit(jobs.note, 1).cancel()
        pool.pause()
        pool.perform(jobs.note, 1)
        pool.counts()
        list(pool.records())
        assert all(each.status == "ok" or each.advice for each in findings(redis_url))
    sent = {name.removeprefix("cmdstat_") for name in redis_server.ask("INFO", "commandstats")}
    assert "evalsha" in sent
    assert sent.isdisjoint({"keys", "scan", "randomkey", "dbsize", "sort"})
