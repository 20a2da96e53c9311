"""Effects that happen once, although processes are killed at any moment: they are counted.

``ODDJOB_STRESS_ROUNDS`` makes for more kills, and more processes.
"""

import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import oddjob
from oddjob.durable.record import MAX_CRASHES
from tests.durable import effect_jobs
from tests.long import IS_LONG, TIMEOUT

WAIT = 60.0
ROOT = Path(__file__).parents[2]
KILLS = 200 if IS_LONG else 5  # in each test

pytestmark = pytest.mark.timeout(TIMEOUT)

Process = subprocess.Popen[str]
Start = Callable[..., Process]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.db"
    oddjob.Pool("first", 1, store=f"sqlite:///{path}", consume=False).shutdown()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE effect (value)")
        connection.execute("CREATE TABLE orders (value)")
    return path


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """Start a process, and wait until it has opened its pool."""
    processes: list[Process] = []

    def start(kind: str, *rest: str) -> Process:
        command = [sys.executable, "-m", "tests.durable.effect_member", kind, str(path), *rest]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        processes.append(process)
        assert read(process) == "ready"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def read(process: Process) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def query(path: Path, sql: str) -> list[tuple[int, ...]]:
    with closing(sqlite3.connect(path, timeout=WAIT)) as connection:
        return connection.execute(sql).fetchall()


def kill_at_random(
    start: Start, kinds: list[str], is_enough: Callable[[], object] = lambda: True
) -> set[int]:
    """Kill processes of these kinds, and replace each of them; return the pids of the dead.

    Those that do not work are ended when that `is_enough`.
    """
    dice = random.Random(len(kinds))
    processes = [start(kind) for kind in kinds]
    dead = set()
    for _ in range(KILLS):
        time.sleep(dice.uniform(0.02, 0.15))
        place = dice.randrange(len(kinds))
        processes[place].kill()
        processes[place].wait()
        dead.add(processes[place].pid)
        processes[place] = start(kinds[place])
    wait_until(is_enough)
    for kind, process in zip(kinds, processes, strict=True):
        if kind != "work":
            process.kill()
            process.wait()
    return dead


def wait_for_all(path: Path) -> None:
    wait_until(lambda: not query(path, "SELECT 1 FROM job WHERE state < 4 LIMIT 1"))


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def killed_too_often(path: Path) -> int:
    """Return how many jobs have failed, each of them because three processes died with it."""
    crashes = [each for (each,) in query(path, "SELECT crashes FROM job WHERE state != 4")]
    assert set(crashes) <= {MAX_CRASHES}
    assert len(crashes) <= max(1, KILLS // 10)
    return len(crashes)


def test_each_order_has_its_effect_exactly_once(path: Path, start: Start) -> None:
    """Orders and their jobs are submitted in one transaction, effects and outcomes committed so."""

    def orders() -> list[int]:
        return [value for (value,) in query(path, "SELECT value FROM orders")]

    kill_at_random(start, ["work", "work", "order"], lambda: len(orders()) > 30)
    wait_for_all(path)
    effects = Counter(value for (value,) in query(path, "SELECT value FROM effect"))
    assert set(effects) <= set(orders())
    assert len(orders()) - len(effects) == killed_too_often(path)
    assert set(effects.values()) == {1}
    ended = query(path, "SELECT count(*) FROM job")
    assert ended == [(len(orders()),)]


def test_a_step_runs_again_only_if_its_process_died(path: Path, start: Start) -> None:
    """And its value, once it was returned, is the same ever after."""
    log = path.with_name("steps.log")
    count = 400 if IS_LONG else 80
    with oddjob.Pool("effects", 1, store=f"sqlite:///{path}", consume=False) as pool:
        for value in range(count):
            pool.perform(effect_jobs.log_steps, str(log), value)
        dead = kill_at_random(start, ["work", "work"])
        wait_for_all(path)
    runs: defaultdict[str, list[str]] = defaultdict(list)
    seen: defaultdict[str, set[str]] = defaultdict(set)
    for line in log.read_text().splitlines():
        what, value_of_step, name, found = line.split()
        place = f"{value_of_step} {name}"
        if what == "ran":
            runs[place].append(found)
        else:
            seen[place].add(found)
    assert len(seen) >= 2 * (count - killed_too_often(path))
    for place, values in seen.items():
        assert values == {runs[place][-1]}, "its value was not kept, or it ran again without need"
        assert {int(each.partition("-")[0]) for each in runs[place][:-1]} <= dead


def test_a_unique_job_is_one_that_was_committed(path: Path, start: Start) -> None:
    """Although half of the processes that submit it at once undo that (fault 24)."""
    pairs = 8 if IS_LONG else 2
    kept = [start("once", ("plain", "commit")[n % 2]) for n in range(pairs)]
    undone = [start("once", "rollback") for _ in range(pairs)]
    for process in (*undone, *kept):
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ids = [read(process) for process in kept]
    rows = query(path, "SELECT id FROM job")
    assert rows == [(int(ids[0]),)]
    assert set(ids) == {ids[0]}, "they have not got the same job"
    [read(process) for process in undone]
    assert [read(process) for process in undone] == ["lost"] * pairs
    with oddjob.Pool("effects", 1, store=f"sqlite:///{path}") as pool:
        pool.job(effect_jobs.note)
        results = {int(read(process)) for process in kept}
    assert len(results) == 1
    assert results <= {process.pid for process in kept}


def test_a_unique_job_that_is_rolled_back_leaves_its_key_free(path: Path) -> None:
    """The next one is a job of its own."""
    with oddjob.Pool("effects", 1, store=f"sqlite:///{path}") as pool:
        view = pool.options(unique="key")
        with closing(sqlite3.connect(path)) as connection:
            undone = view.using(connection).submit(effect_jobs.note, 1)
            connection.rollback()
        assert view.submit(effect_jobs.note, 2).result(WAIT) == 2
        assert isinstance(undone.exception(WAIT), oddjob.JobLost)
