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
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from oddjob.durable.record import Capacity, State
from oddjob.durable.sqlite.store import SqliteStore
from oddjob.durable.store import Filter
from tests.durable.power import Disk
from tests.durable.tracer import Call, Tracer

ROOT = Path(__file__).parents[2]
IS_LONG = "ODDJOB_STRESS_ROUNDS" in os.environ
ROUNDS = 100 if IS_LONG else 15
LOSSES = 3000 if IS_LONG else 150

pytestmark = [
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="system calls are recorded on Linux only"
    ),
    pytest.mark.timeout(300 if IS_LONG else 60),
]


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

    def __init__(self) -> None:
        self.stored: set[int] = set()
        self.ended: set[int] = set()
        self.deleted: set[int] = set()

    def read(self, calls: Sequence[Call]) -> None:
        for call in calls:
            if call.name == "write" and call.path.startswith("pipe:"):
                verb, *jobs = call.data.decode().split()
                getattr(self, verb).update(map(int, jobs))


def instants(calls: Sequence[Call], count: int, dice: random.Random) -> list[int]:
    """Return how many calls were made when the power was lost: at random, or near an answer."""
    answers = [number for number, call in enumerate(calls) if call.name == "write"]
    near = [number + dice.randrange(2) for number in dice.choices(answers, k=count // 3)]
    return sorted(near + [dice.randrange(len(calls) + 1) for _ in range(count - len(near))])


class Loss(NamedTuple):
    instant: int
    path: Path  # of the store that is left
    promises: Promises


def losses(path: Path, calls: Sequence[Call], count: int, seed: int) -> Iterator[Loss]:
    """Replay the calls, and lose power now and then; yield each time what is left."""
    dice = random.Random(seed)
    disk, promises, done = Disk(path.parent), Promises(), 0
    for instant in instants(calls, count, dice):
        disk.replay(calls[done:instant])
        promises.read(calls[done:instant])
        done = instant
        with tempfile.TemporaryDirectory(dir=path.parents[1]) as directory:
            disk.write_what_is_left(Path(directory), dice)
            if promises.stored:
                yield Loss(instant, Path(directory) / path.name, promises)


def states_after(loss: Loss) -> dict[int, State]:
    """Open a store whose power was lost, and return the states of its jobs."""
    with closing(sqlite3.connect(loss.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found = connection.execute("SELECT id, state FROM job").fetchall()
    return {job: State(state) for job, state in found}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "store" / "jobs.db"
    path.parent.mkdir()
    return path


def test_what_was_acknowledged_survives_a_loss_of_power(path: Path) -> None:
    calls = record(path, "full")
    assert sum(call.name in ("fsync", "fdatasync") for call in calls) > 2 * ROUNDS
    for loss in losses(path, calls, LOSSES, seed=0):
        states = states_after(loss)
        soon = Promises()  # what was committed, and was about to be acknowledged
        soon.read(calls[loss.instant : loss.instant + 200])
        gone = loss.promises.deleted | soon.deleted
        assert loss.promises.stored - gone <= states.keys(), loss.instant
        for job in loss.promises.ended & states.keys():
            assert states[job] is State.SUCCEEDED, (loss.instant, job)


def test_without_syncs_the_last_jobs_may_be_lost_and_the_file_is_in_order(path: Path) -> None:
    """What is there is what was there at some earlier time."""
    calls = record(path, "normal")
    everything = Promises()
    everything.read(calls)
    lost = 0
    for loss in losses(path, calls, LOSSES, seed=0):
        states = states_after(loss)
        newest = max(states, default=0)
        older = {job for job in everything.stored if job <= newest}
        assert older - everything.deleted <= states.keys()
        lost += max(loss.promises.stored) > newest
    assert lost, "nothing was lost: no power is lost in this test"


def test_a_store_goes_on_after_a_loss_of_power(path: Path) -> None:
    """No process is left that runs its jobs, so the next one runs all of them."""
    for loss in losses(path, record(path, "full"), 10, seed=1):
        store = SqliteStore(str(loss.path))
        store.join({"pool": ["function"]}, 4)
        claims = store.turn([], [], {"pool": Capacity(1000, 1000)}).claims
        records = store.reader.records("pool", Filter(), limit=10_000)
        assert {claim.id for claim in claims} == {
            each.id for each in records if not each.state.has_ended
        }
        assert len(store.reader.members()) == 1
        store.leave()
        store.close()
