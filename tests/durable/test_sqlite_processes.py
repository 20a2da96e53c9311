"""Many processes on one file: who is woken, who is dead, and what becomes of the jobs."""

import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oddjob.durable.record import MAX_CRASHES, Capacity, State, Submit
from oddjob.durable.sqlite.store import SqliteStore
from oddjob.durable.store import Filter
from tests.durable.member import PARTITION, POISON
from tests.long import IS_LONG, TIMEOUT

WAIT = 30.0
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(TIMEOUT)

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """Start a process that uses the store, and wait until it has joined."""
    processes: list[subprocess.Popen[str]] = []

    def start(
        kind: str, name: str = "log", *rest: str, is_ready: bool = True
    ) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "tests.durable.member", kind, str(path), name, *rest]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        processes.append(process)
        if is_ready:
            assert read(process) == "ready\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(str(path))
    store.join({"pool": ["function"]}, 4)
    yield store
    store.leave()
    store.close()


def read(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def submit(store: SqliteStore, count: int, payload: bytes = b"x") -> list[int]:
    jobs = [Submit(PARTITION, payload, wants_outcome=False) for _ in range(count)]
    return [each.id for each in store.turn([], jobs, {}).submitted]


def test_a_dead_process_is_taken_over_at_once(store: SqliteStore, start: Start) -> None:
    """Its death is an event: nobody looks for it (faults 17 and 18)."""
    jobs = submit(store, 3)
    holder = start("hold")
    assert read(holder) == "3\n"
    assert store.turn([], [], {"pool": Capacity(100, 100)}).claims == []
    holder.kill()
    began = time.monotonic()
    dead: list[int] = []
    while not dead:
        dead = store.wait(WAIT)
        assert time.monotonic() - began < WAIT
    assert [store.takeover(process) for process in dead] == [3]
    claims = store.turn([], [], {"pool": Capacity(100, 100)}).claims
    assert [claim.id for claim in claims] == jobs
    assert [claim.crashes for claim in claims] == [1, 0, 0]


def test_a_stopped_process_keeps_its_jobs(store: SqliteStore, start: Start) -> None:
    """It may go on at any time: only its death gives them to others (fault 15)."""
    submit(store, 1)
    holder = start("hold")
    assert read(holder) == "1\n"
    holder.send_signal(signal.SIGSTOP)
    store.turn([], [], {"pool": Capacity(1, 1)})
    assert store.wait(0.3) == []
    holder.send_signal(signal.SIGCONT)


def test_jobs_of_a_process_that_died_while_nobody_was_there(path: Path, start: Start) -> None:
    """The next one that joins takes them over."""
    store = SqliteStore(str(path))
    store.join({}, 0)
    submit(store, 2)
    store.leave()
    store.close()
    holder = start("hold")
    assert read(holder) == "2\n"
    holder.kill()
    holder.wait()
    store = SqliteStore(str(path))
    store.join({"pool": ["function"]}, 4)
    assert len(store.turn([], [], {"pool": Capacity(9, 9)}).claims) == 2
    store.leave()
    store.close()


def test_a_job_starts_in_another_process_at_once(store: SqliteStore, start: Start) -> None:
    """And that process sleeps without a look at the clock until then (faults 12 and 13)."""
    idle = start("idle")
    assert read(idle).startswith("woken")
    switches = -1
    while switches != (switches := context_switches(idle.pid)):  # until it sleeps for a second
        time.sleep(1.0)
    submit(store, 1)
    assert read(idle).split()[1] == "1"


def context_switches(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", status)))


def test_no_writer_starves_and_none_hears_of_locks(path: Path, start: Start) -> None:
    """Beside a foreign writer, too, which holds the file for a while (fault 2).

    All go on until each one has written so often. One that starved would never come to that; one
    that is told that the file is locked ends.
    """
    times, hold = ("3000", 7.0) if IS_LONG else ("30", 0.3)
    writers = [start("write", f"w{n}", times, is_ready=False) for n in range(8)]
    for writer in writers:
        assert read(writer) == "ready\n"
    for writer in writers:  # all at once
        tell(writer, "go")
    foreign = sqlite3.connect(path, isolation_level=None)
    foreign.execute("PRAGMA busy_timeout = 60000")
    for _ in range(2):
        foreign.execute("BEGIN IMMEDIATE")
        time.sleep(hold)
        foreign.execute("COMMIT")
    foreign.close()
    assert [read(writer) for writer in writers] == ["written\n"] * 8
    for writer in writers:
        tell(writer, "enough")
    counts = [int(read(writer)) for writer in writers]
    print(f"written by the time that each has written {times} times: {counts}")  # noqa: T201


def tell(process: "subprocess.Popen[str]", what: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{what}\n")
    process.stdin.flush()


def test_two_processes_hear_of_a_death_and_both_sleep_again(
    path: Path, store: SqliteStore, start: Start
) -> None:
    """Only one of them has something to do; the other one must not hear of it for ever."""
    other = SqliteStore(str(path))  # it shares a process with the first, which makes no difference
    other.join({"pool": ["function"]}, 4)
    for each in (store, other):
        each.turn([], [], {"pool": Capacity(1, 1)})
    holder = start("idle")
    for each in (store, other):
        each.turn([], [], {"pool": Capacity(1, 1)})
    holder.kill()
    holder.wait()
    for each in (store, other):
        dead: list[int] = []
        while not dead:  # there may be wake-ups before
            dead = each.wait(WAIT)
        assert [each.takeover(process) for process in dead] == [0]
    for each in (store, other):
        assert [each.wait(0.0) for _ in range(3)][-1] == []
    other.leave()
    other.close()


def test_a_process_that_is_killed_loses_no_job(path: Path, start: Start) -> None:
    """Every job ends, and every run of it but the last was in a process that died (fault 19)."""
    kills = 200 if IS_LONG else 8
    dice = random.Random(kills)
    store = SqliteStore(str(path))
    store.join({}, 0)
    poison = submit(store, 1, POISON)
    consumers = [start("consume") for _ in range(3)]
    feeders = [start("feed", "fed")]
    for _ in range(kills):
        time.sleep(dice.uniform(0.0, 0.1))
        place = dice.randrange(4)
        group, kind, log = (feeders, "feed", "fed") if place == 3 else (consumers, "consume", "log")
        victim = group[place % 3]
        victim.kill()
        victim.wait()
        group[place % 3] = start(kind, log)
    deadline = time.monotonic() + WAIT
    while len(acknowledged(path)) <= 100:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for feeder in feeders:
        feeder.kill()
        feeder.wait()
    while any(store.reader.counts("pool")[state] for state in (State.QUEUED, State.RUNNING)):
        assert time.monotonic() < deadline, store.reader.counts("pool")
        time.sleep(0.05)
    alive = {consumer.pid for consumer in consumers if consumer.poll() is None}
    for consumer in consumers:
        consumer.kill()
    check_all_runs(store, path, set(poison), alive)
    store.leave()
    store.close()


def acknowledged(path: Path) -> list[int]:
    return [int(each) for each in path.with_name("jobs.db-fed").read_text().split()]


def check_all_runs(store: SqliteStore, path: Path, poison: set[int], alive: set[int]) -> None:
    records = {each.id: each for each in store.reader.records("pool", Filter(), limit=10**7)}
    assert all(records[job].state is State.SUCCEEDED for job in acknowledged(path))
    runs: defaultdict[int, list[int]] = defaultdict(list)
    for line in path.with_name("jobs.db-log").read_text().splitlines():
        job, pid = map(int, line.split())
        runs[job].append(pid)
    for job in acknowledged(path):
        assert runs[job], "it is said to have succeeded, and has never run"
        assert alive.isdisjoint(runs[job][:-1]), "it has run again without need"
        assert records[job].crashes < MAX_CRASHES
    for job in poison:
        assert records[job].state is State.FAILED
        assert records[job].crashes == MAX_CRASHES
        assert "JobLost" in str(records[job].error)


def test_the_neighbors_of_a_poison_job_are_not_charged(store: SqliteStore, start: Start) -> None:
    """It is one of 256, and kills each process that runs it (fault 20)."""
    jobs = submit(store, 128)
    poison = submit(store, 1, POISON)
    jobs += submit(store, 127)

    def keep_one_alive() -> None:
        while not is_over.is_set():
            consumer = start("consume")
            while consumer.poll() is None and not is_over.is_set():
                time.sleep(0.01)

    is_over = threading.Event()
    nurse = threading.Thread(target=keep_one_alive)
    nurse.start()
    deadline = time.monotonic() + WAIT
    try:
        while any(store.reader.counts("pool")[state] for state in (State.QUEUED, State.RUNNING)):
            assert time.monotonic() < deadline
            for process in store.wait(0.05):
                store.takeover(process)
    finally:
        is_over.set()
        nurse.join()
    records = {each.id: each for each in store.reader.records("pool", Filter(), limit=1000)}
    assert records[poison[0]].state is State.FAILED
    assert records[poison[0]].crashes == MAX_CRASHES
    assert {records[job].state for job in jobs} == {State.SUCCEEDED}
    assert {records[job].crashes for job in jobs} == {0}
