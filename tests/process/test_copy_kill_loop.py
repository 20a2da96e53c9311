"""``kill -9`` of what copies a live pool to another store, at random instants."""

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import oddjob
from oddjob.operations import StoreOperations
from tests.durable import copied
from tests.long import TIMEOUT

ROOT = Path(__file__).parents[2]
WAIT = 60.0
KILLS = 2 * int(os.environ.get("ODDJOB_STRESS_ROUNDS", "0")) or 4

pytestmark = pytest.mark.timeout(TIMEOUT)

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    processes: list[subprocess.Popen[str]] = []

    def start(kind: str, *urls: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "tests.durable.copied", kind, f"{tmp_path}/{kind}", *urls]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def be_ready(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


@pytest.mark.parametrize("way", ["to redis", "from redis"])
def test_a_live_pool_is_moved_however_often_the_copy_is_killed(
    way: str, start: Start, tmp_path: Path, redis_url: str
) -> None:
    """While jobs are submitted to the source, and run in both: each one runs once."""
    file_url = f"sqlite:///{tmp_path}/jobs.db"
    source, target = (file_url, redis_url) if way == "to redis" else (redis_url, file_url)
    others = [start("feed", source), start("consume", source), start("consume", target)]
    for each in others:
        be_ready(each)
    for _ in range(KILLS):
        copy = start("copy", source, target)
        be_ready(copy)
        time.sleep(random.uniform(0.0, 0.2))
        assert copy.poll() is None
        copy.kill()
        copy.wait()
    others[0].kill()
    others[0].wait()
    deadline = time.monotonic() + WAIT
    while not (report := oddjob.copy_store(source, target)).is_complete:
        assert time.monotonic() < deadline, report
    for url in (target, source):
        with StoreOperations(url) as store:
            pool = store.pool(copied.POOL)
            assert not pool.is_paused
            while any((counts := pool.counts())[each] for each in ("queued", "running")):
                assert time.monotonic() < deadline, counts
                time.sleep(0.02)
            assert counts["failed"] == counts["cancelled"] == counts["scheduled"] == 0
    fed = {int(line) for line in (tmp_path / "feed").read_text().split()}
    runs = Counter(map(int, (tmp_path / "consume").read_text().split()))
    del runs[-1]
    print(f"{len(fed)} acknowledged, {len(runs)} have run")  # noqa: T201
    assert fed <= runs.keys()
    assert {number for number, count in runs.items() if count > 1} == set()
