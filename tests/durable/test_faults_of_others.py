"""Faults of other job queues which this one must not have, by their numbers.

The numbers are those that tests elsewhere name, too, as "(fault 15)".
"""

import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from oddjob import Pool, StoreUnusable
from oddjob.durable.record import Capacity, Claim, Limiter, Partition, State, Submit, Update
from oddjob.durable.sqlite.store import SqliteStore
from tests.durable import jobs, service
from tests.durable.conftest import ROOT, WAIT, Start
from tests.durable.local_peers import LocalHub
from tests.durable.member import PARTITION
from tests.durable.statements import PeersWithTurn
from tests.hang import until

POOL = "pool"
ALL = Capacity(100, 100)
NONE = Capacity(0, 0)

Open = Callable[..., SqliteStore]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def member(path: Path) -> Iterator[Open]:
    """Join the store as one more process, all of which are this one."""
    hub, opened = LocalHub(), list[SqliteStore]()

    def member(*functions: str) -> SqliteStore:
        store = SqliteStore(str(path), peers=PeersWithTurn(hub))
        opened.append(store)
        store.join({POOL: functions or ("function",)}, 4)
        return store

    yield member
    for store in opened:
        store.leave()
        store.close()


def add(store: SqliteStore, *submits: Submit) -> list[int]:
    return [each.id for each in store.turn([], submits, {POOL: NONE}).submitted]


def claim(store: SqliteStore, capacity: Capacity = ALL) -> list[Claim]:
    return store.turn([], [], {POOL: capacity}).claims


def report(store: SqliteStore, claim: Claim, state: State) -> None:
    assert store.turn([Update(claim, state)], [], {POOL: NONE}).refused == []


def state_of(store: SqliteStore, job: int) -> State:
    record = store.reader.record(job)
    assert record is not None
    return record.state


# 16 ★: maintenance works on what it has read, and overwrites what has happened since.


@pytest.mark.parametrize("event", ["complete", "cancel", "retry and claim"])
def test_what_happens_while_a_process_is_taken_over_is_not_undone(
    member: Open, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    owner, other, third = member(), member(), member()
    (job,) = add(owner, Submit(PARTITION, b"x"))
    (held,) = claim(owner)
    owner.marks.mark(0, held)
    marks_of = other._peers.marks_of

    def read_marks_late(process: int) -> set[tuple[int, int]]:
        begun = marks_of(process)
        if event == "complete":
            report(owner, held, State.SUCCEEDED)
        elif event == "cancel":
            assert other.cancel([job]) == 1
            report(owner, held, State.CANCELLED)
        else:
            report(owner, held, State.SCHEDULED)
            assert [each.id for each in claim(third)] == [job]
        return begun

    monkeypatch.setattr(other._peers, "marks_of", read_marks_late)
    assert other.takeover(owner._me) == 0
    expected = {"complete": State.SUCCEEDED, "cancel": State.CANCELLED}
    assert state_of(other, job) is expected.get(event, State.RUNNING)
    record = other.reader.record(job)
    assert record is not None
    assert (record.crashes, record.owner) == (0, third._me if event not in expected else None)


# 22: short jobs that a process has claimed wait behind long ones, while other processes idle.


def test_short_jobs_do_not_wait_behind_long_ones_of_their_process(
    url: str, serve: Start, lines: Callable[[int], list[list[str]]], tmp_path: Path
) -> None:
    with Pool(service.POOL, store=url, consume=False) as pool:
        busy = serve()
        (tmp_path / "open").touch()
        pool.submit(service.hold, f"{tmp_path}/open").result(WAIT)  # so it knows that function
        for job in pool.submit_many(service.work, [0.0] * 300):  # so it claims far ahead
            job.result(WAIT)
        pool.pause()
        long = pool.options(priority=1).submit_many(service.hold, [f"{tmp_path}/gate"] * 4)
        short = pool.submit_many(service.work, [0.0] * 100)
        pool.resume()
        lines(305)
        idle = serve()
        assert {job.result(WAIT) for job in short} == {idle.pid}
        assert [job.done() for job in long] == [False] * 4
        (tmp_path / "gate").touch()
        assert {job.result(WAIT) for job in long} == {busy.pid}


# 23 ★: jobs that may not run hide those behind them.


def test_a_job_runs_however_many_before_it_may_not(member: Open) -> None:
    """And to claim it costs no more than from an empty store."""
    store, count = member("function", "keyed", "full", "rated"), 2_000
    steps = 0

    def count_steps() -> None:
        nonlocal steps
        steps += 1

    def cost_of_claiming() -> int:
        nonlocal steps
        (job,) = add(store, Submit(PARTITION, b"x"))
        steps = 0
        store._database.connection.set_progress_handler(count_steps, 1)
        claims = claim(store, Capacity(1, 1))
        store._database.connection.set_progress_handler(None, 0)
        assert [each.id for each in claims] == [job]
        report(store, claims[0], State.SUCCEEDED)
        return steps

    partitions = [
        Partition(POOL, "keyed"),
        Partition(POOL, "full", (Limiter("full", max_running=1),)),
        Partition(POOL, "rated", (Limiter("rated", starts=1, period=1e6),)),
    ]
    add(store, *(Submit(partition, b"x", key="k", priority=1) for partition in partitions))
    assert len(claim(store, Capacity(1, 1))) == 1  # one holds the key…
    add(store, *(Submit(partition, b"x", priority=1) for partition in partitions[1:]))
    assert len(claim(store)) == 2  # …and these have no more room
    before = cost_of_claiming()
    assert before > 0
    add(
        store,
        *(
            Submit(partition, b"x", key="k", priority=1)
            for partition in partitions
            for _ in range(count)
        ),
    )
    add(
        store,
        *(
            Submit(partition, b"x", priority=1)
            for partition in partitions[1:]
            for _ in range(count)
        ),
    )
    add(store, *(Submit(Partition(POOL, "unknown"), b"x", priority=1) for _ in range(count)))
    add(store, *(Submit(PARTITION, b"x", delay=1e6, priority=1) for _ in range(count)))
    assert cost_of_claiming() < 2 * before


# 25 ★: a lock or permit outlives its job, or is lost when a process dies.


def kill_a_process_with_claims(path: Path, store: SqliteStore) -> None:
    """Have a process claim what there is, begin the first, and be killed; take it over."""
    command = [sys.executable, "-m", "tests.durable.member", "hold", str(path), "log"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert process.stdout.readline() == "1\n"
        add(store)  # a turn, in which the store meets that process
        process.kill()
        while not (dead := store.wait(WAIT)):
            pass
        assert [store.takeover(each) for each in dead] == [1]


def test_keys_and_permits_are_right_after_a_kill_and_after_each_change_by_hand(path: Path) -> None:
    store = SqliteStore(str(path))
    store.join({POOL: ["function"]}, 4)

    def submit(limit: int = 1, **what: Any) -> int:
        partition = Partition(POOL, "function", (Limiter("limiter", max_running=limit),))
        (job,) = add(store, Submit(partition, b"x", **what))
        return job

    def run_all() -> list[list[int]]:
        """Return which jobs run at the same time, one such list after the other."""
        order = []
        while claims := claim(store):
            order.append([each.id for each in claims])
            for each in claims:
                report(store, each, State.SUCCEEDED)
        return order

    first = submit(key="k", unique=b"u")
    second = submit(key="k")
    kill_a_process_with_claims(path, store)
    assert submit(unique=b"u") == first  # not lost with the process
    assert store.cancel([first]) == 1
    third = submit(unique=b"u")  # nor does it outlive its job; the second has the key now
    assert third not in (first, second)
    assert store.retry([first]) == 0  # the third is in its place
    assert store.delete([third]) == 1
    assert store.retry([first]) == 1
    assert run_all() == [[second], [first]]
    kept = [submit(key=key) for key in "kkl"]
    kill_a_process_with_claims(path, store)
    other = submit(2)  # the limit is another one from now on
    assert run_all() == [[kept[0], kept[2]], [kept[1], other]]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT running FROM limiter").fetchall() == [(0,)]
    store.leave()
    store.close()


# 28: a process that cannot reach its store, and is taken for dead, goes on as if nothing were.


@pytest.fixture
def pool(url: str) -> Iterator[Pool]:
    """A pool whose end does not wait for a job that is lost."""
    jobs.gate.clear()
    jobs.runs.clear()
    while jobs.entered.acquire(blocking=False):
        pass
    pool = Pool(POOL, 1, store=url)
    yield pool
    pool.drain(0)


def test_a_process_that_has_lost_its_store_stops_and_joins_again(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Both is logged once, however often it has tried."""
    tries: list[None] = []

    def fail(*_: Any) -> None:
        tries.append(None)
        raise StoreUnusable("it is away")

    job = pool.submit(jobs.stop_when_asked)
    until(lambda: job.progress is not None)
    runner = pool._core.store.open()
    me = runner.call(lambda store: store._me)
    with monkeypatch.context() as patch:
        patch.setattr(runner.store, "turn", fail)
        with pytest.raises(StoreUnusable):
            pool.submit(jobs.note, 1)
        for count in range(2, 6):
            runner.wake()
            until(lambda count=count: len(tries) >= count)
        assert runner.call(lambda store: store.takeover(me)) == 1
        assert jobs.runs == [job.id]
    until(lambda: jobs.runs == [job.id, job.id])  # the first run of it was asked to stop
    (member,) = pool.runners()
    assert member.id != str(me)
    assert not job.cancel()
    assert job.result(WAIT) == "cancel_requested: True"
    assert pool.submit(jobs.note, 1).result(WAIT) == 1
    said = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    for words in ("cannot be used at present", "can be used again", "was taken for dead"):
        assert len([each for each in said if words in each]) == 1, said


def test_a_run_whose_job_was_lost_does_not_end_the_next_one(pool: Pool) -> None:
    """It ends when its process has claimed the same job again."""
    job = pool.submit(jobs.hang)
    assert jobs.entered.acquire(timeout=WAIT)
    claims, runner = pool._core.store.claimed.held, pool._core.store.open()
    (lost,) = claims.values()
    me = runner.call(lambda store: store._me)
    assert runner.call(lambda store: store.takeover(me)) == 1
    until(lambda: claims and lost not in claims.values())
    jobs.gate.set()
    assert job.result(WAIT) == "late"
    assert jobs.entered.acquire(timeout=WAIT)


def test_a_job_that_fails_while_nobody_can_say_who_is_there_keeps_its_worker_and_its_error(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unusable(_reader: object) -> list[object]:
        raise StoreUnusable("gone")

    monkeypatch.setattr(type(pool._core.store.open().reader), "members", unusable)
    assert type(pool.submit(jobs.fail, "no").exception(WAIT)) is OSError
    assert pool.stats().crashes == 0


# 29 ★: a job holds the interpreter, so that its process cannot say that it lives.


def test_a_process_that_cannot_run_python_keeps_its_job(
    url: str, serve: Start, lines: Callable[[int], list[list[str]]], tmp_path: Path
) -> None:
    """What says that it lives is a lock of the kernel."""
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    with Pool(service.POOL, store=url, consume=False) as pool:
        job = pool.submit(service.hold_the_gil, pipe)
        holder = serve()
        lines(1)
        other = serve()  # which takes over what dead processes have left
        assert pool.submit(service.work).result(WAIT) == other.pid
        Path(pipe).write_text("go")
        assert job.result(WAIT) == holder.pid
        assert [line[0] for line in lines(2)].count(job.id) == 1
        assert pool.find(job.id).attempt == 1
