"""A loss of power at any instant: what was acknowledged is there, and the file is in order.

A process works with a store while its system calls are recorded. Then the disk is replayed up to a
random one of them, what was not synced is lost at random, and the store is opened.
"""

import errno
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from oddjob.durable.record import Capacity, State
from oddjob.durable.sqlite.store import SqliteStore
from oddjob.durable.store import Filter
from tests.durable.power import Disk
from tests.durable.tracer import Call, Tracer

ROOT = Path(__file__).parents[2]
IS_LONG = "ODDJOB_STRESS_ROUNDS" in os.environ
ROUNDS = 100 if IS_LONG else 15
LOSSES = 2000 if IS_LONG else 150

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="system calls are recorded on Linux only"
)


def record(path: Path, durability: str) -> list[Call]:
    """Return the system calls of a process that works with a store."""
    command = [sys.executable, "-m", "tests.durable.power_workload"]
    process = subprocess.Popen(
        [*command, str(path), durability, str(ROUNDS)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        tracer = Tracer(process.pid)
    except OSError as error:
        process.kill()
        if error.errno == errno.EPERM:
            pytest.fail("this machine forbids ptrace: a loss of power cannot be replayed here")
        raise
    process.stdin.write("go\n")
    process.stdin.close()
    calls = list(tracer.calls())
    process.returncode = tracer.exit_status
    process.stdout.close()
    assert process.returncode == 0
    return calls


class Promises:
    """What a process was told until the power was lost."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.stored: set[int] = set()
        self.ended: set[int] = set()
        self.deleted: set[int] = set()
        for call in calls:
            if call.name == "write" and call.path.startswith("pipe:"):
                for line in call.data.decode().splitlines():
                    verb, *jobs = line.split()
                    getattr(self, verb).update(map(int, jobs))


def states_after_loss(path: Path) -> dict[int, State]:
    """Open a store whose power was lost, and return the states of its jobs."""
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found = connection.execute("SELECT id, state FROM job").fetchall()
    connection.close()
    return {job: State(state) for job, state in found}


def lose_power(calls: Sequence[Call], path: Path, directory: Path, dice: random.Random) -> Path:
    """Replay some calls on a disk whose power is lost after them; return the path of the store."""
    directory.mkdir()
    disk = Disk(path.parent)
    disk.replay(calls)
    disk.write_what_is_left(directory, dice)
    return directory / path.name


def instants(calls: Sequence[Call], dice: random.Random) -> list[int]:
    """Return numbers of calls: random ones, and those around each line that was written."""
    lines = [number for number, call in enumerate(calls) if call.name == "write"]
    near = [
        number + dice.randrange(2) for number in dice.sample(lines, min(len(lines), LOSSES // 3))
    ]
    return near + [dice.randrange(len(calls) + 1) for _ in range(LOSSES - len(near))]


def test_what_was_acknowledged_survives_a_loss_of_power(tmp_path: Path) -> None:
    path = tmp_path / "store" / "jobs.db"
    path.parent.mkdir()
    calls = record(path, "full")
    assert sum(call.name in ("fsync", "fdatasync") for call in calls) > 2 * ROUNDS
    dice = random.Random(0)
    for number, instant in enumerate(instants(calls, dice)):
        copy = lose_power(calls[:instant], path, tmp_path / f"{number}", dice)
        promised = Promises(calls[:instant])
        if not promised.stored and not copy.exists():
            continue
        states = states_after_loss(copy) if promised.stored else {}
        missing = promised.stored - promised.deleted - states.keys()
        soon_deleted = Promises(calls[: instant + 200]).deleted  # it was about to be acknowledged
        assert missing <= soon_deleted, (instant, missing)
        for job in promised.ended & states.keys():
            assert states[job] is State.SUCCEEDED, (instant, job)


def test_without_syncs_the_last_jobs_may_be_lost_and_the_file_is_in_order(tmp_path: Path) -> None:
    """What is there is what was there at some earlier time."""
    path = tmp_path / "store" / "jobs.db"
    path.parent.mkdir()
    calls = record(path, "normal")
    dice = random.Random(0)
    lost = 0
    for number, instant in enumerate(instants(calls, dice)):
        copy = lose_power(calls[:instant], path, tmp_path / f"{number}", dice)
        promised = Promises(calls[:instant])
        if promised.stored:
            states = states_after_loss(copy)
            newest = max(states, default=0)
            everything = Promises(calls)
            older = {job for job in everything.stored if job <= newest}
            assert older - everything.deleted <= states.keys()
            lost += max(promised.stored) > newest
    assert lost, "nothing was lost: the power is not lost in this test"


def test_a_store_goes_on_after_a_loss_of_power(tmp_path: Path) -> None:
    """No process is left that runs its jobs, so the next one runs all of them."""
    path = tmp_path / "store" / "jobs.db"
    path.parent.mkdir()
    calls = record(path, "full")
    dice = random.Random(1)
    for number in range(10):
        instant = dice.randrange(len(calls) // 2, len(calls))
        copy = lose_power(calls[:instant], path, tmp_path / f"{number}", dice)
        store = SqliteStore(str(copy))
        store.join({"pool": ["function"]}, 4)
        claims = store.turn([], [], {"pool": Capacity(1000, 1000)}).claims
        records = store.reader.records("pool", Filter(), limit=10_000)
        assert {claim.id for claim in claims} == {
            each.id for each in records if not each.state.has_ended
        }
        assert len(store.reader.members()) == 1
        store.leave()
        store.close()
