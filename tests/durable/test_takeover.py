"""Jobs of a process that dies, restarts in place, or only seems to be dead."""

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oddjob import Pool
from oddjob.durable.record import MAX_CRASHES, Capacity, State
from oddjob.durable.stores import parse_url
from tests.durable import jobs, service
from tests.durable.conftest import WAIT, Start

Lines = Callable[[int], list[list[str]]]


@pytest.fixture
def url(any_url: str) -> str:
    return any_url


@pytest.fixture
def submitter(url: str) -> Iterator[Pool]:
    with Pool(service.POOL, store=url, consume=False) as pool:
        yield pool


def open_gate(folder: Path) -> None:
    (folder / "gate").touch()


def test_jobs_of_a_killed_process_run_elsewhere_at_once(
    submitter: Pool, serve: Start, lines: Lines, tmp_path: Path
) -> None:
    """Also while a child that it has forked lives on, which has all of its open files."""
    job = submitter.submit(service.leave_a_child, f"{tmp_path}/gate")
    serve()
    ((_, pid, child),) = lines(1)
    other = serve()
    os.kill(int(pid), signal.SIGKILL)
    killed = time.monotonic()
    try:
        assert int(lines(2)[1][1]) == other.pid
        print(f"runs elsewhere {time.monotonic() - killed:.3f} s after the kill")  # noqa: T201
        open_gate(tmp_path)
        assert job.result(WAIT) == other.pid
    finally:
        os.kill(int(child), signal.SIGKILL)
        os.kill(int(lines(2)[1][2]), signal.SIGKILL)


def test_a_process_that_restarts_with_the_same_pid_is_another_one(
    submitter: Pool, serve: Start
) -> None:
    """In a container it always has pid 1; its orphans would look alive (fault 18)."""
    job = submitter.submit(service.restart_in_place)
    first = serve()
    assert job.result(WAIT) == [first.pid, "1"]


def test_a_stopped_process_that_was_taken_for_dead_changes_nothing_afterwards(
    submitter: Pool, serve: Start, lines: Lines, tmp_path: Path
) -> None:
    """Its late outcome is refused, and its limit is not counted twice (fault 15)."""
    view = submitter.options(max_concurrency=1)
    job = view.submit(service.hold, f"{tmp_path}/gate")
    stopped = serve()
    assert int(lines(1)[0][1]) == stopped.pid
    stopped.send_signal(signal.SIGSTOP)
    other = serve()
    runner = submitter._core.store.open()
    (member,) = runner.call(
        lambda store: [each.id for each in store.reader.members() if each.pid == stopped.pid]
    )
    assert runner.call(lambda store: store.takeover(member)) == 1
    assert int(lines(2)[1][1]) == other.pid
    open_gate(tmp_path)
    assert job.result(WAIT) == other.pid
    stopped.send_signal(signal.SIGCONT)
    later = [view.submit(service.work) for _ in range(20)]
    assert {each.result(WAIT) for each in later} <= {stopped.pid, other.pid}
    record = runner.call(lambda store: store.reader.record(job.id))
    assert (record.state, record.crashes) == (State.SUCCEEDED, 1)
    if (tmp_path / "jobs.db").exists():
        with sqlite3.connect(f"file:{tmp_path}/jobs.db?mode=ro", uri=True) as connection:
            assert connection.execute("SELECT running FROM limiter").fetchall() == [(0,)]
        connection.close()
    other.kill()  # the one that has joined again is a member like any other
    assert submitter.submit(service.work).result(WAIT) == stopped.pid


def test_a_submitter_that_was_taken_for_dead_hears_of_its_jobs(
    submitter: Pool, serve: Start, lines: Lines, tmp_path: Path
) -> None:
    """Those that have ended meanwhile, and those that end later."""
    early = submitter.submit(service.work)
    late = submitter.submit(service.hold, f"{tmp_path}/gate")
    runner = submitter._core.store.open()
    mine = runner.call(lambda store: [each.id for each in store.reader.members()])
    runner.call(lambda store: [store.takeover(each) for each in mine])
    server = serve()
    assert early.result(WAIT) == server.pid
    lines(2)
    open_gate(tmp_path)
    assert late.result(WAIT) == server.pid


def test_beside_a_suspect_that_waits_for_a_job_of_its_own_only_one_job_runs(url: str) -> None:
    """It may have to: the one that is waited for is behind it."""
    jobs.gate.clear()
    name = "tests.durable.jobs:nest"
    with Pool("durable", store=url, consume=False) as pool:
        suspect = pool.submit(jobs.nest, 1)
        runner, dying = pool._core.store.open(), parse_url(url).open()
        for _ in range(MAX_CRASHES - 1):
            dying.join({"durable": [name]}, 1)
            (claim,) = dying.turn([], [], {"durable": Capacity(1, 1)}).claims
            dying.marks.mark(0, claim)
            dead = max(each.id for each in dying.reader.members())
            assert runner.call(lambda store, dead=dead: store.takeover(dead)) == 1
        dying.close()
        pool.perform_many(jobs.hang_for, range(5))
    while jobs.entered.acquire(blocking=False):
        pass  # of tests before
    with Pool("durable", 2, store=url) as pool:
        jobs.pools[:] = [pool]
        assert jobs.entered.acquire(timeout=WAIT)
        runner = pool._core.store.open()
        for _ in range(6):
            runner.call(lambda _store: None)  # in a turn
        assert not jobs.entered.acquire(blocking=False)
        assert pool.stats().running == 2
        jobs.gate.set()
        assert pool.find(suspect.id).result(WAIT) == 1
