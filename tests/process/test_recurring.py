"""Recurring entries of many processes, whose clocks differ, and which come and go."""

import os
import random
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from oddjob import Pool
from oddjob.durable.record import State
from oddjob.durable.sqlite.store import SqliteStore
from oddjob.durable.store import Filter
from tests.durable import jobs
from tests.durable.ticker import ENTRIES, PERIOD
from tests.long import IS_LONG, TIMEOUT
from tests.process.test_exit import assert_quiet, run

ROOT = Path(__file__).parents[2]
OFFSETS = [-2.0, -1.2, -0.4, 0.4, 1.2, 2.0]  # seconds
TICKS = 200 if IS_LONG else 50  # at least
LONG = int(os.environ.get("ODDJOB_STRESS_ROUNDS", "1"))
WAIT = 60.0

pytestmark = pytest.mark.timeout(TIMEOUT)


def start(path: Path, offset: float) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.durable.ticker", str(path), str(offset)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def end(process: "subprocess.Popen[bytes]", *, gently: bool) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    if not gently:
        process.kill()
    process.wait(WAIT)
    process.stdout.close()


def fired(path: Path) -> list[tuple[str, float]]:
    """Return the ticks of each entry that processes have fired."""
    log = Path(f"{path}-fired")
    lines = log.read_text().splitlines() if log.exists() else []
    return [(name, float(tick)) for name, tick in map(str.split, lines)]


def test_a_process_ends_and_leaves_its_scheduled_jobs_to_the_next_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    outcome = run(f"""
        from tests.durable import jobs
        pool = oddjob.Pool("left", 1, store={url!r})
        jobs_left = pool.after(0.2).submit_many(jobs.hang, []), pool.after(0.2).submit(jobs.note, 1)
        timer = pool.after(0.2).perform(jobs.hang)
        print(jobs_left[1].state, timer.fired)
    """)
    assert_quiet(outcome, "scheduled 0\n")
    jobs.gate.set()
    jobs.runs.clear()
    with Pool("left", 1, store=url) as pool:
        pool.job(jobs.note)
        pool.job(jobs.hang)
        assert jobs.entered.acquire(timeout=WAIT)
        assert jobs.runs == [1]


def test_a_forked_child_leaves_scheduled_jobs_to_its_parent(tmp_path: Path) -> None:
    outcome = run(f"""
        from tests.durable import jobs
        pool = oddjob.Pool("fork", 1, store="sqlite:///{tmp_path}/jobs.db")
        job = pool.after(0.5).submit(jobs.note, 1)
        timer = pool.every(3600).perform(jobs.note, 2)
        child = os.fork()
        if child == 0:
            try:
                job.result(10)
            except oddjob.JobLost:
                print("lost", timer.cancelled, timer.fired, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(job.result(30))
    """)
    assert (outcome.stdout, outcome.returncode) == ("lost False 0\n1\n", 0)


PROGRAM = """
import oddjob
pool = oddjob.Pool("beat", 1, store="sqlite:///beat.db")

@pool.job(every=0.05)
def beat():
    done.append(helper())
    with gate:
        gate.notify()

import threading, time
time.sleep(0.2)
done, gate = [], threading.Condition()

def helper():
    return "beat"

with gate:
    assert gate.wait_for(lambda: done, 10)
print(done[0])
"""


def test_a_program_that_begins_anew_fires_what_it_missed_once_it_is_defined(tmp_path: Path) -> None:
    """The entry is due while the program is still at its definitions."""
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    for _ in range(2):
        command = [sys.executable, str(file)]
        outcome = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=WAIT, check=False
        )
        assert_quiet(outcome, "beat\n")


def test_six_processes_with_clocks_that_differ_fire_each_tick_once(tmp_path: Path) -> None:
    """They declare the same entries, and restart at random (fault 26)."""
    path, chance = tmp_path / "jobs.db", random.Random(26)
    processes = [start(path, offset) for offset in OFFSETS]
    kills = 0
    deadline = time.monotonic() + WAIT * LONG
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        while len(fired(path)) < len(ENTRIES) * TICKS * LONG:
            assert time.monotonic() < deadline
            time.sleep(0.2)
            place, gently = chance.randrange(len(processes)), chance.random() < 0.5
            kills += not gently
            end(processes[place], gently=gently)
            processes[place] = start(path, OFFSETS[place])
    finally:
        for process in processes:
            end(process, gently=False)
        kills += len(processes)
    store = SqliteStore(str(path))
    try:
        ticks = fired(path)
        assert len(set(ticks)) == len(ticks)  # none fired twice
        for entry in store.reader.entries("ticker"):
            mine = sorted(tick for name, tick in ticks if name == entry.name)
            # A process may die when it has fired and not written its line.
            assert entry.fired - kills <= len(mine) <= entry.fired
            # Each tick has fired, or is counted as missed.
            count = (entry.tick - mine[0]) / PERIOD
            assert abs(entry.fired + entry.missed - count) < 0.1
            assert all(one < two for one, two in pairwise(mine))
        records = store.reader.records("ticker", Filter(), limit=1_000_000)
        jobs = Counter(record.entry for record in records)
        assert jobs == {entry.name: entry.fired for entry in store.reader.entries("ticker")}
        assert State.FAILED not in {record.state for record in records}
    finally:
        store.close()
