"""``kill -9`` between any two links of chains: no link is lost, and none that has ended runs again.

``ODDJOB_STRESS_ROUNDS`` makes for more kills.
"""

import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import oddjob
from oddjob.durable.record import MAX_CRASHES
from tests.durable import workflow_member
from tests.long import IS_LONG, TIMEOUT

WAIT = 60.0
ROOT = Path(__file__).parents[2]
KILLS = 50 if IS_LONG else 2
CHAINS = 200 if IS_LONG else 30
LINKS = 4

pytestmark = pytest.mark.timeout(TIMEOUT)

Process = subprocess.Popen[str]


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
def start(url: str) -> Iterator[Callable[[], Process]]:
    processes: list[Process] = []

    def start() -> Process:
        command = [sys.executable, "-m", "tests.durable.workflow_member", url]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_no_link_is_lost_or_runs_again_after_its_end(
    url: str, start: Callable[[], Process], tmp_path: Path
) -> None:
    """A link runs again only if its process died in it; the call after all links is made once."""
    log = str(tmp_path / "log")
    dice = random.Random(KILLS)
    with oddjob.Pool("workflows", 1, store=url, consume=False) as pool:
        batches = [submit(pool, log, chain) for chain in range(CHAINS)]
        workers = [start() for _ in range(2)]
        dead = set()
        for _ in range(KILLS):
            time.sleep(dice.uniform(0.01, 0.1))
            place = dice.randrange(len(workers))
            workers[place].kill()
            workers[place].wait()
            dead.add(workers[place].pid)
            workers[place] = start()
        for batch in batches:
            batch.job.exception(WAIT)
        while pool.counts()["queued"] or pool.counts()["running"] or pool.counts()["scheduled"]:
            time.sleep(0.01)
        failed = {n for n, batch in enumerate(batches) if batch.state == "failed"}
        crashes = [each.crashes for each in pool.records(state="failed")]
    assert set(crashes) <= {0, MAX_CRASHES}
    assert len(failed) <= KILLS // MAX_CRASHES
    runs = read(log)
    for chain in range(CHAINS):
        check(runs[chain], dead, is_whole=chain not in failed)


def submit(pool: oddjob.Pool, log: str, chain: int) -> oddjob.Batch:
    link = pool.s(workflow_member.link, log, chain)
    with pool.batch(on_done=pool.s(workflow_member.note_end, log, chain)) as batch:
        batch.chain(pool.s(workflow_member.link, 0, log, chain), *[link] * (LINKS - 1))
    return batch


def read(log: str) -> dict[int, list[tuple[str, int]]]:
    """Return what has run, by chain, and in which process."""
    runs: defaultdict[int, list[tuple[str, int]]] = defaultdict(list)
    for line in Path(log).read_text().splitlines():
        chain, what, process = line.split()
        runs[int(chain)].append((what, int(process)))
    return runs


def check(runs: list[tuple[str, int]], dead: set[int], *, is_whole: bool) -> None:
    names = [*map(str, range(LINKS)), "end"]
    order = [names.index(what) for what, _ in runs]
    assert order == sorted(order), "a link ran after the next one had begun"
    if is_whole:
        assert set(order) == set(range(LINKS + 1)), "a link was lost"
    for (what, process), (following, _) in pairwise(runs):
        assert what != following or process in dead, "it ran again without need"
