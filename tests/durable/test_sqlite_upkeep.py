"""The file of a SQLite store over time: its log, its free pages, a full disk, and clocks."""

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from math import inf
from pathlib import Path

import pytest

from oddjob.durable.record import (
    Capacity,
    Claim,
    Limiter,
    Partition,
    Reference,
    State,
    Submit,
    Update,
)
from oddjob.durable.sqlite import database, reader
from oddjob.durable.sqlite.store import SqliteStore
from oddjob.durable.store import Filter
from oddjob.errors import StoreFull, StoreUnusable
from oddjob.schedule.clock import clock
from tests.durable.local_peers import LocalHub
from tests.durable.statements import PeersWithTurn, StatementLog

WAIT = 30.0
PARTITION = Partition("pool", "function")
ALL = {"pool": Capacity(10_000, 10_000)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def peers() -> PeersWithTurn:
    return PeersWithTurn(LocalHub())


@pytest.fixture
def store(path: Path, peers: PeersWithTurn) -> Iterator[SqliteStore]:
    store = SqliteStore(str(path), peers=peers)
    store.join({"pool": ["function"]}, 4)
    yield store
    store.leave()
    store.close()


def submit(
    store: SqliteStore, count: int = 1, payload: bytes = b"", partition: Partition = PARTITION
) -> list[int]:
    turn = store.turn([], [Submit(partition, payload) for _ in range(count)], {})
    return [each.id for each in turn.submitted]


def claim(store: SqliteStore) -> list[Claim]:
    return store.turn([], [], ALL).claims


def settle(store: SqliteStore, claims: list[Claim], state: State = State.SUCCEEDED) -> None:
    assert not store.turn([Update(each, state) for each in claims], [], {}).refused


# The write-ahead log.


@pytest.fixture
def small_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if hundreds of kilobytes were many megabytes."""
    monkeypatch.setattr(database, "_IDLE_WAL", 50_000)
    monkeypatch.setattr(database, "_MIN_WAL", 200_000)
    monkeypatch.setattr(database, "_BUSY_WAL", 400_000)
    monkeypatch.setattr(database, "_HUGE_WAL", 2_000_000)
    monkeypatch.setattr(database, "_CHECKPOINT_PAUSE", 0.01)


def size_of_log(path: Path) -> int:
    return path.with_name("jobs.db-wal").stat().st_size


def test_the_log_stays_small_however_large_the_jobs_are(
    small_logs: None, store: SqliteStore, path: Path, peers: PeersWithTurn
) -> None:
    """Also while people read page after page; and no commit runs beside a checkpoint (fault 4)."""
    log = StatementLog(store, peers)
    newest = submit(store)[0]
    for _ in range(50):
        submit(store, 2, b"x" * 20_000)
        page = store.reader.records("pool", Filter(), before_id=newest, limit=1)
        newest = page[-1].id if page else newest + 100
        assert size_of_log(path) < 600_000
    assert sum("wal_checkpoint" in each.text for each in log.statements) > 2
    log.check()


def test_to_store_a_job_takes_seven_statements_and_one_commit(
    store: SqliteStore, peers: PeersWithTurn
) -> None:
    """One thread that submits jobs one by one waits for all of them."""
    submit(store)  # the partition is known from now on
    log = StatementLog(store, peers)
    submit(store)
    assert len(log.statements) == 7
    assert [each.verb for each in log.statements].count("COMMIT") == 1
    log.check()


def test_the_log_is_emptied_while_there_is_nothing_to_do(
    small_logs: None, store: SqliteStore, path: Path
) -> None:
    submit(store, 10, b"x" * 10_000)
    assert path.stat().st_size < 50_000
    store.wait(0.0)
    assert path.stat().st_size > 100_000


def test_a_forgotten_reader_is_named_and_the_log_shrinks_after_it(
    small_logs: None, store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its snapshot keeps the log from being emptied; no restart is needed afterwards (fault 3)."""
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM job").fetchone()
    deadline = clock.monotonic() + WAIT
    while not caplog.records:
        assert clock.monotonic() < deadline
        submit(store, 1, b"x" * 100_000)
    submit(store, 5, b"x" * 100_000)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"log of {path} has grown to" in record.getMessage()
    assert size_of_log(path) > 2_000_000
    store.wait(3600)  # it does not sleep as long as the log is large
    reader.close()
    while size_of_log(path) > 400_000:
        assert clock.monotonic() < deadline
        store.wait(0.01)
    assert len(caplog.records) == 1


def test_no_connection_checkpoints_by_itself(store: SqliteStore) -> None:
    """A checkpoint beside a commit can corrupt the file in SQLite before 3.51.3 (fault 4)."""
    assert store._execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
    assert store._execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with store._database.reading() as connection, pytest.raises(sqlite3.OperationalError):
        connection.execute("CREATE TABLE theirs (x)")  # readers write nothing


def test_on_macos_a_commit_reaches_the_disk(
    path: Path, peers: PeersWithTurn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, fsync does not (fault 14)."""
    monkeypatch.setattr(database.sys, "platform", "darwin")
    store = SqliteStore(str(path), peers=peers)
    assert store._execute("PRAGMA fullfsync").fetchone() == (1,)
    assert store._execute("PRAGMA checkpoint_fullfsync").fetchone() == (1,)
    store.close()


# Other writers, and free pages.


def test_a_foreign_writer_is_waited_for(store: SqliteStore, path: Path) -> None:
    """No user sees "database is locked" (fault 2)."""
    foreign = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    foreign.execute("BEGIN IMMEDIATE")
    threading.Timer(0.2, foreign.execute, ["COMMIT"]).start()
    assert submit(store)
    foreign.close()


def test_the_file_shrinks_after_many_jobs_were_deleted(
    small_logs: None, store: SqliteStore, path: Path, peers: PeersWithTurn
) -> None:
    """In slices, for VACUUM would stop everybody, and need the space once more (fault 9)."""
    for _ in range(2):
        submit(store, 1000, b"x" * 2000)
        settle(store, claim(store))
    store.wait(0.0)
    before = path.stat().st_size
    log = StatementLog(store, peers)
    free: list[int] = []
    while purged := store.purge("pool", 100, 0.0, inf, 500):
        assert purged <= 500
    while store._database.tidy() == 0.0:  # there is more to do
        free.append(store._execute("PRAGMA freelist_count").fetchone()[0])
    slices = [earlier - later for earlier, later in pairwise(free)]
    assert 0 < max(slices) <= 100
    assert path.stat().st_size < before / 3
    assert len(store.reader.records("pool", Filter(), limit=1000)) == 100
    log.check_transactions()


def test_a_batch_that_is_gone_leaves_nothing_though_a_member_is_added_to_it(
    store: SqliteStore, path: Path
) -> None:
    ((batch, _, _, _),) = store.turn([], [Submit(PARTITION, b"", is_batch=True)], {}).submitted
    assert store.delete([batch]) == 1
    store.turn([], [Submit(PARTITION, b"", batch=Reference(batch))], {})
    assert store._execute("SELECT count(*) FROM batch").fetchone() == (0,)


# What people ask for again and again.


def test_to_count_jobs_and_to_find_a_few_of_them_looks_at_no_others(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dashboard asks each second, and there may be a million."""
    monkeypatch.setattr(reader, "_FEW", 50)
    submit(store, 300)
    settle(store, claim(store))
    submit(store, 20)
    failed, *others = claim(store)
    settle(store, [failed], State.FAILED)
    settle(store, others[:2], State.CANCELLED)
    running = [each.id for each in others[2:]]
    store.turn([], [Submit(PARTITION, b"", delay=100.0), Submit(PARTITION, b"", key="a")], {})
    submit(store, 3, partition=Partition("other", "function"))
    few: dict[State, list[int]] = {
        State.SCHEDULED: [321],
        State.QUEUED: [322],
        State.RUNNING: running[::-1],
        State.FAILED: [failed.id],
        State.CANCELLED: [others[1].id, others[0].id],
    }
    with counted_steps(store, monkeypatch) as steps:
        counts = store.reader.counts("pool")
        assert counts == {State.SUCCEEDED: 300, **{each: len(few[each]) for each in few}}
        assert steps.pop() < 3500
        for state, ids in few.items():
            found = store.reader.records("pool", Filter(state=state))
            assert [each.id for each in found] == ids
            assert steps.pop() < 2000, state
    page = store.reader.records("pool", Filter(state=State.SUCCEEDED), before_id=201, limit=100)
    assert [each.id for each in page] == list(range(200, 100, -1))


@contextmanager
def counted_steps(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count the steps of SQLite's machine in each look of a reader."""
    steps: list[int] = []
    reading = store._database.reading

    @contextmanager
    def counting() -> Iterator[sqlite3.Connection]:
        taken = 0

        def count() -> None:
            nonlocal taken
            taken += 10

        with reading() as connection:
            connection.set_progress_handler(count, 10)
            yield connection
            steps.append(taken)

    with monkeypatch.context() as patches:
        patches.setattr(store._database, "reading", counting)
        yield steps


# A full disk. (test_full_disk.py has a real one.)


@pytest.fixture
def almost_full(store: SqliteStore) -> Iterator[None]:
    submit(store)
    (pages,) = store._execute("PRAGMA page_count").fetchone()
    store._execute(f"PRAGMA max_page_count = {pages + 1}")
    yield
    store._execute("PRAGMA max_page_count = 1000000")


def test_a_full_disk_refuses_new_jobs_and_leaves_nothing(
    store: SqliteStore, almost_full: None
) -> None:
    """And those that run can still end (fault 8)."""
    claims = claim(store)
    with pytest.raises(StoreFull, match="no space left"):
        submit(store, 100, b"x" * 1000)
    assert len(store.reader.records("pool", Filter())) == 1
    settle(store, claims)
    store._execute("PRAGMA max_page_count = 1000000")
    assert submit(store)


def test_a_refused_turn_leaves_nothing_in_memory(
    store: SqliteStore, path: Path, peers: PeersWithTurn, almost_full: None
) -> None:
    """The function and the limit that it has brought are not there; others may get their places."""
    limited = Partition("pool", "function", (Limiter("two", max_running=2),))
    with pytest.raises(StoreFull):
        store.turn([], [Submit(limited, b"x" * 100_000)], ALL)
    assert len(claim(store)) == 1
    store._execute("PRAGMA max_page_count = 1000000")
    other = SqliteStore(str(path), peers=PeersWithTurn(peers.hub))
    other.join({}, 0)
    submit(other, partition=Partition("pool", "unknown"))
    assert claim(store) == []
    submit(store, 3, partition=limited)
    assert len(claim(store)) == 2
    other.leave()
    other.close()


def test_a_turn_that_is_committed_raises_nothing(
    store: SqliteStore, path: Path, peers: PeersWithTurn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead process that cannot be taken over yet is not forgotten."""
    other = SqliteStore(str(path), peers=PeersWithTurn(peers.hub))
    other.join({}, 0)
    other._peers.leave()  # it dies

    def takeover(process: int) -> int:
        raise StoreFull("no space left")

    with monkeypatch.context() as patches:
        patches.setattr(store, "takeover", takeover)
        assert len(submit(store)) == 1
    assert len(store.reader.members()) == 2
    assert [store.takeover(process) for process in store.wait(0.0)] == [0]
    assert len(store.reader.members()) == 1
    other.close()


def test_a_turn_that_is_committed_returns_its_claims_though_sqlite_fails_after_it(
    store: SqliteStore, path: Path, peers: PeersWithTurn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has joined, a fork closes the connection, and the file cannot be opened."""
    jobs = submit(store)
    other = SqliteStore(str(path), peers=PeersWithTurn(peers.hub))
    other.join({}, 0)

    def connect(*_: object, **_options: object) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    with monkeypatch.context() as patches:
        unlock = peers.unlock

        def unlock_and_fork() -> None:
            unlock()
            store._database.close_idle()
            patches.setattr(sqlite3, "connect", connect)

        patches.setattr(peers, "unlock", unlock_and_fork)
        claims = claim(store)
    assert [each.id for each in claims] == jobs
    other.leave()
    other.close()


def test_nothing_is_stored_in_a_file_that_was_deleted(path: Path) -> None:
    """Those who come later make a new one, and would not find it."""
    store = SqliteStore(str(path))
    store.join({}, 0)
    submit(store)
    for each in path.parent.glob("jobs.db*"):
        if each.is_file():
            each.unlink()
    with pytest.raises(StoreUnusable, match="was deleted, or replaced by another file"):
        submit(store)
    store.close()


# What SQLite does not take.


def test_a_file_name_in_an_error_need_not_be_text(store: SqliteStore) -> None:
    """Nor does it stop the jobs that are settled with it."""
    jobs = submit(store, 2)
    error = "OSError: no file " + os.fsdecode(b"\xff")
    first, second = claim(store)
    update = Update(first, State.FAILED, error=error, traceback=error)
    store.turn([update, Update(second, State.SUCCEEDED)], [], {})
    records = store.reader.records("pool", Filter())
    assert [(each.id, each.error) for each in records] == [
        (jobs[1], None),
        (jobs[0], r"OSError: no file \udcff"),
    ]


# Clocks.


def test_a_rate_goes_on_after_the_clock_was_set_back(store: SqliteStore) -> None:
    """By an hour: the next jobs start a period later, and not an hour later."""
    now = 1_000_000.0
    clock.replace(lambda: now, lambda: now)
    try:
        partition = Partition(
            "pool", "function", (Limiter("rate", starts=2, period=10.0, burst=2),)
        )
        submit(store, 6, partition=partition)
        assert len(claim(store)) == 2
        now -= 3600.0
        turn = store.turn([], [], ALL)
        assert turn.claims == []
        assert turn.next_look == pytest.approx(10.0)
        now += 10.0
        assert len(claim(store)) == 2
        assert len(claim(store)) == 0
    finally:
        clock.restore()
