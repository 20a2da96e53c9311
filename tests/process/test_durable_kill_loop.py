"""``kill -9`` at random instants, of programs that use durable pools: no committed job is lost.

On Redis, the server is killed as well, and comes back with its files.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from oddjob import Pool
from oddjob.durable.record import MAX_CRASHES
from oddjob.operations import Record, StoreOperations
from tests.durable import service
from tests.long import TIMEOUT
from tests.redis_server import RedisServer

WAIT = 30.0
ROOT = Path(__file__).parents[2]
KILLS = 10 * int(os.environ.get("ODDJOB_STRESS_ROUNDS", "0")) or 6
CONSUMERS = 3

pytestmark = pytest.mark.timeout(TIMEOUT)

Start = Callable[[str], "subprocess.Popen[str]"]


class Stored(NamedTuple):
    """A store, and its server, if it has one that can be killed."""

    url: str
    server: RedisServer | None


@pytest.fixture(params=["sqlite", "redis"])
def stored(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stored]:
    if request.param == "sqlite":
        yield Stored(f"sqlite:///{tmp_path}/jobs.db", None)
        return
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    server = RedisServer("--appendonly", "yes", "--appendfsync", "always")
    yield Stored(server.url, server)
    server.close()


@pytest.fixture
def start(stored: Stored, tmp_path: Path) -> Iterator[Start]:
    processes: list[subprocess.Popen[str]] = []

    def start(kind: str) -> "subprocess.Popen[str]":
        log = tmp_path / ("fed" if kind == "feed" else "runs")
        command = [sys.executable, "-m", "tests.durable.service", kind, stored.url, str(log)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def keep_killing(
    victims: list[tuple[str, "subprocess.Popen[str]"]], start: Start, server: RedisServer | None
) -> Counter[str]:
    """Kill one at a random instant, some before they are ready, and start it again; many times."""
    dice = random.Random(KILLS)
    killed: Counter[str] = Counter()
    for number in range(KILLS):
        if server is not None and number % 3 == 1:
            time.sleep(dice.uniform(0.0, 0.2))
            server.kill()
            server.start()
            killed["server"] += 1
            continue
        place = dice.randrange(len(victims))
        kind, process = victims[place]
        if dice.random() < 0.8:
            assert process.stdout is not None
            process.stdout.readline()  # it is ready
        time.sleep(dice.uniform(0.0, 0.2))
        process.kill()
        process.wait()
        killed[kind] += 1
        victims[place] = kind, start(kind)
    return killed


def test_every_committed_job_ends_however_many_processes_are_killed(
    start: Start, stored: Stored, tmp_path: Path
) -> None:
    """And every run of it but the last was in a process that died (fault 19)."""
    victims = [(kind, start(kind)) for kind in ["consume"] * CONSUMERS + ["feed"]]
    killed = keep_killing(victims, start, stored.server)
    deadline = time.monotonic() + WAIT
    fed = tmp_path / "fed"
    while not fed.exists() or len(fed.read_text().split()) <= 10:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    feeders = [process for kind, process in victims if kind == "feed"]
    for feeder in feeders:
        feeder.kill()
        feeder.wait()
    records = wait_for_the_end(stored.url)
    alive = {process.pid for _, process in victims if process.poll() is None}
    runs: defaultdict[str, list[int]] = defaultdict(list)
    for line in (tmp_path / "runs").read_text().splitlines():
        job, pid = line.split()
        runs[job].append(int(pid))
    acknowledged = fed.read_text().split()
    again = sum(len(pids) - 1 for pids in runs.values())
    crashes = sum(record.crashes for record in records.values())
    lost = len([job for job in acknowledged if job not in records])
    what = f"killed {dict(killed)}: {len(records)} jobs, {len(acknowledged)} of them acknowledged; "
    print(what + f"{lost} lost, {again} runs again, {crashes} charged")  # noqa: T201
    assert {record.state for record in records.values()} == {"succeeded"}
    for job in acknowledged:
        assert job in records, "it was acknowledged, and is not there"
    for job, pids in runs.items():
        assert alive.isdisjoint(pids[:-1]), f"job {job} has run again without need: {pids}, {alive}"
        assert records[job].crashes < MAX_CRASHES


def wait_for_the_end(url: str) -> dict[str, Record]:
    deadline = time.monotonic() + WAIT
    with StoreOperations(url) as store:
        pool = store.pool(service.POOL)
        while any((counts := pool.counts())[each] for each in ("scheduled", "queued", "running")):
            assert time.monotonic() < deadline, counts
            time.sleep(0.05)
        return {record.id: record for record in pool.records()}


def test_a_job_that_kills_its_process_fails_alone(start: Start, stored: Stored) -> None:
    """After exactly three deaths; none of its 256 neighbors fails (fault 20)."""
    with Pool(service.POOL, store=stored.url, consume=False) as pool:
        neighbors = pool.submit_many(service.work, [0.0] * 128)
        poison = pool.submit(service.poison)
        neighbors += pool.submit_many(service.work, [0.0] * 128)
        deaths = 0
        while not poison.done():
            process = start("consume")
            while not poison.done() and process.poll() is None:
                time.sleep(0.01)
            if process.poll() is not None:
                assert process.returncode == -signal.SIGKILL
                deaths += 1
        assert deaths == MAX_CRASHES
        with pytest.raises(Exception, match="3 processes died while they ran this job"):
            poison.result()
        start("consume")
        assert all(job.exception(WAIT) is None for job in neighbors)
    records = wait_for_the_end(stored.url)
    assert records[poison.id].state == "failed"
    assert records[poison.id].crashes == MAX_CRASHES
    charged = Counter(records[job.id].crashes for job in neighbors)
    print(f"neighbors charged with so many deaths: {dict(charged)}")  # noqa: T201
    assert max(charged) < MAX_CRASHES
