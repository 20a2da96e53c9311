"""Programs that restart with jobs in the store, and how functions are found by their names."""

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PROGRAM = """
import os, sys, time
import oddjob
pool = oddjob.Pool("work", 2, store=sys.argv[1], consume=sys.argv[2] != "first")

@pool.job
def task(value):
    return helper(value)

if sys.argv[2] == "first":
    for _ in range(20):
        task.perform(1)
    os._exit(0)
time.sleep(0.2)  # a worker would have come by now

def helper(value):
    return value + Constants.number

class Constants:
    number = 1

if sys.argv[2] == "result":
    print(task.submit(1).result(20))
else:
    while pool.counts()["succeeded"] < 21:
        time.sleep(0.01)
"""


def run(folder: Path, *command: str) -> str:
    outcome = subprocess.run(
        [sys.executable, *command],
        capture_output=True, text=True, timeout=30, check=False, cwd=folder,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert (outcome.returncode, outcome.stderr) == (0, "")
    return outcome.stdout


RUN_WHAT_IS_LEFT = """
import sys
import jobs
from oddjob import Pool
with Pool("work", 2, store="sqlite:///jobs.db", consume=sys.argv[1] == "second") as pool:
    if sys.argv[1] == "first":
        pool.perform_many(jobs.double, range(20))
if sys.argv[1] == "second":
    with Pool("work", store="sqlite:///jobs.db", consume=False) as pool:
        print(pool.counts()["succeeded"])
"""


def test_a_pool_that_is_closed_at_once_runs_what_an_earlier_program_has_left(
    tmp_path: Path,
) -> None:
    """It has submitted nothing, and learns by the jobs themselves which functions they need."""
    (tmp_path / "jobs.py").write_text("def double(number): return 2 * number")
    run(tmp_path, "-c", RUN_WHAT_IS_LEFT, "first")
    assert run(tmp_path, "-c", RUN_WHAT_IS_LEFT, "second") == "20\n"


LEAVE_MUCH = """
import oddjob
pool = oddjob.Pool("work", 2, store="sqlite:///jobs.db", consume=False)
pool.perform_many(print, ["x" * 10_000] * 1000)
{end}
"""


@pytest.mark.parametrize("end", ["pool.shutdown()", "pool.drain(5)", "pass"])
def test_the_last_process_leaves_all_jobs_in_the_file_itself(tmp_path: Path, end: str) -> None:
    """People copy that one, and not the write-ahead log beside it."""
    run(tmp_path, "-c", LEAVE_MUCH.format(end=end))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["jobs.db", "jobs.db-oddjob"]
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(tmp_path / "jobs.db", tmp_path / "elsewhere")
    assert states(tmp_path / "elsewhere") == "[(1, None, 1000)]"


def states(folder: Path) -> str:
    script = (
        "import sqlite3; c = sqlite3.connect('jobs.db'); "
        "print(c.execute('SELECT state, error, count(*) FROM job GROUP BY 1, 2').fetchall())"
    )
    return run(folder, "-c", script).strip()


def test_a_program_that_restarts_runs_its_jobs_when_it_is_completely_defined(
    tmp_path: Path,
) -> None:
    """Else they would miss what stands below their function; and it may wait at module level."""
    (tmp_path / "program.py").write_text(PROGRAM)
    url = "sqlite:///jobs.db"
    run(tmp_path, "program.py", url, "first")
    assert states(tmp_path) == "[(1, None, 20)]"
    assert run(tmp_path, "program.py", url, "result") == "2\n"
    run(tmp_path, "program.py", url, "rest")
    assert states(tmp_path) == "[(4, None, 21)]"


WORKER = """
import sys, time
import oddjob
import {module}
pool = oddjob.Pool("work", 2, store="sqlite:///jobs.db")
deadline = time.monotonic() + 20
while pool.counts()["succeeded"] < {count} and time.monotonic() < deadline:
    time.sleep(0.02)
print(pool.counts()["succeeded"])
"""

ENQUEUER = """
import oddjob

def task(value):
    return value

if __name__ == "__main__":
    pool = oddjob.Pool("work", store="sqlite:///jobs.db", consume=False)
    pool.perform_many(task, range(3))
"""


def test_functions_of_a_program_are_found_where_it_is_imported(tmp_path: Path) -> None:
    """Run as a file, as a module, or as a package, its functions have the names of the module."""
    (tmp_path / "tasks.py").write_text(ENQUEUER)
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").touch()
    (tmp_path / "package/tasks.py").write_text(ENQUEUER)
    (tmp_path / "package/__main__.py").write_text(
        "from package import tasks\nimport oddjob\n"
        "pool = oddjob.Pool('work', store='sqlite:///jobs.db', consume=False)\n"
        "pool.perform_many(tasks.task, range(3))\n"
    )
    (tmp_path / "program").mkdir()
    (tmp_path / "program/__main__.py").write_text(ENQUEUER)
    run(tmp_path, "tasks.py")
    run(tmp_path, "-m", "package.tasks")
    run(tmp_path, "-m", "package")
    run(tmp_path, "-m", "program")
    modules = "tasks, package.tasks, program.__main__"
    (tmp_path / "worker.py").write_text(WORKER.format(module=modules, count=12))
    assert run(tmp_path, "worker.py") == "12\n"


def test_a_module_that_is_imported_later_brings_its_functions(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(ENQUEUER)
    run(tmp_path, "tasks.py")
    late = WORKER.replace("import {module}\n", "").replace(
        "deadline =", "time.sleep(0.2)\nimport {module}\npool.perform({module}.task, 4)\ndeadline ="
    )
    (tmp_path / "worker.py").write_text(textwrap.dedent(late.format(module="tasks", count=4)))
    assert run(tmp_path, "worker.py") == "4\n"


STANDING = """
import os, sys
import oddjob, oddjob.durable.definitions

oddjob.durable.definitions._STANDSTILL = 0.1
pool = oddjob.Pool("work", 1, store="sqlite:///jobs.db", consume=sys.argv[1] == "worker")

@pool.job
def task():
    return "done"

if sys.argv[1] == "worker":
    print(pool.find(next(pool.records()).id).result(20))
else:
    def submit():
        task.perform()
    submit()
"""


def test_a_program_runs_jobs_while_it_stands_above_definitions_that_it_will_not_reach(
    tmp_path: Path,
) -> None:
    (tmp_path / "program.py").write_text(STANDING)
    run(tmp_path, "program.py", "submit")
    assert run(tmp_path, "program.py", "worker") == "done\n"
