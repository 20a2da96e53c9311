"""The README is a contract: its Python runs, and what it names exists.

Each block of Python is a program of its own. A block that continues the one before it has the
comment ``<!-- continues -->`` on the line above its fence, and shares that block's names.
"""

import re
import sys
import types
from pathlib import Path
from typing import NamedTuple

import pytest

import oddjob
from oddjob.options import PoolOptions

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^(<!-- continues -->\n)?```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FEWEST = 10  # programs; if there are fewer, the pattern above no longer finds them

# For each row of "Failure modes", by its first column, the test that shows it.
SHOWN_BY = {
    "a job raises an `Exception`": "unit/test_supervisor.py::test_a_failing_job_is_no_crash",
    "a job ends its thread: `sys.exit()`, `KeyboardInterrupt`, a `BaseException` of your own": (
        "unit/test_supervisor.py::test_a_crash_is_the_jobs_outcome_and_the_worker_is_replaced"
    ),
    "a worker is struck by an exception from outside, at whatever moment": (
        "stress/test_storm.py"
        "::test_exceptions_thrown_at_workers_cost_no_job_no_permit_and_no_worker"
    ),
    "Ctrl-C in the main thread": (
        "stress/test_interruptions.py::test_a_submission_may_be_interrupted_anywhere"
    ),
    "a done-callback raises": "contract/test_faults.py::test_a_pool_does_not_have_the_fault",
    "workers crash more often than `max_restarts` in `max_seconds`": (
        "unit/test_supervisor.py"
        "::test_too_many_crashes_replace_all_workers_and_keep_the_queue_in_order"
    ),
    "the new ones keep crashing too": (
        "unit/test_supervisor.py::test_a_pool_that_keeps_crashing_breaks_and_tells_why"
    ),
    "the initializer fails": (
        "unit/test_supervisor.py::test_an_initializer_that_fails_once_costs_nothing_but_time"
    ),
    "no thread can be started for a replacement": (
        "unit/test_supervisor.py::test_a_replacement_that_cannot_start_is_tried_again"
    ),
    "a job hangs past its `timeout`": (
        "unit/test_timeouts.py::test_a_job_that_runs_too_long_ends_and_its_worker_is_replaced"
    ),
    "more than `max_abandoned` threads are stuck": (
        "unit/test_timeouts.py"
        "::test_stuck_threads_beyond_the_cap_degrade_the_pool_until_one_comes_back"
    ),
    "a job hangs and has no timeout": (
        "process/test_exit.py::test_a_stuck_job_does_not_keep_the_process_past_the_exit_timeout"
    ),
    "the process forks": "process/test_fork.py::test_no_lock_is_inherited_locked",
    "a pre-fork server loads the pools, and uses them, before it forks": (
        "process/test_prefork.py::test_workers_of_a_pre_fork_server_use_pools_made_at_import"
    ),
    "the process ends": "process/test_exit.py::test_queued_jobs_finish_before_the_process_ends",
    "the process gets SIGTERM": (
        "process/test_exit.py::test_a_process_that_is_told_to_stop_drains_its_pools"
    ),
    "a pool is closed while timers wait": (
        "unit/test_timers.py::test_a_shutdown_cancels_the_timers_of_the_pool_and_drain_lists_them"
    ),
    "the process ends while timers wait": (
        "process/test_timers.py"
        "::test_timers_do_not_keep_a_process_alive_and_it_reports_those_that_never_fired"
    ),
    "only the main thread ends": (
        "process/test_timers.py"
        "::test_timers_that_end_with_the_main_thread_while_another_serves_on_are_reported"
    ),
    "nobody looks at a failed job": (
        "unit/test_unread_failures.py"
        "::test_a_failure_that_nobody_has_looked_at_is_logged_once_with_its_traceback"
    ),
    "a pool is full when a timer fires": (
        "unit/test_timers.py::test_a_full_pool_treats_the_jobs_of_timers_by_its_policy"
    ),
    "the wall clock is set": (
        "unit/test_timers.py::test_setting_the_wall_clock_fires_at_and_cron_but_not_after_and_every"
    ),
    "clocks change for summer": (
        "unit/test_clock_changes.py::test_a_daily_job_runs_exactly_once_every_day"
    ),
    "all of it at once": (
        "stress/test_chaos.py::test_chaos_costs_no_job_no_thread_and_no_capacity"
    ),
}


class Program(NamedTuple):
    """Blocks that share their names, each moved down to its line in the README."""

    heading: str
    line: int
    blocks: list[str]


def programs(text: str) -> list[Program]:
    """Return the programs in a text, in order."""
    found: list[Program] = []
    for match in BLOCK.finditer(text):
        above = text[: match.start(2)]
        code = "\n" * above.count("\n") + match[2]
        if match[1]:
            found[-1].blocks.append(code)
        else:
            headings = re.findall(r"^#+ (.*)$", above, re.MULTILINE)
            found.append(Program(headings[-1], above.count("\n") + 1, [code]))
    return found


def section(heading: str) -> str:
    """Return what stands between a heading of the second level and the next one."""
    found = re.search(rf"^## {re.escape(heading)}$(.*?)^## ", README, re.MULTILINE | re.DOTALL)
    assert found is not None, f"the README has no section {heading!r}"
    return found[1]


PROGRAMS = programs(README)
GUIDES = sorted((ROOT / "examples" / "guides").glob("*.md"))
IN_GUIDES = [program for guide in GUIDES for program in programs(guide.read_text("utf-8"))]


@pytest.mark.parametrize(
    "program", PROGRAMS + IN_GUIDES, ids=lambda program: f"{program.heading}, line {program.line}"
)
def test_every_program_in_the_readme_and_the_guides_runs(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is the main program, as it is when you run it: durable jobs look for it there."""
    monkeypatch.chdir(tmp_path)
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    try:
        for block in program.blocks:
            exec(compile(block, "README.md", "exec"), vars(main))
    finally:
        assert oddjob.shutdown_all(10)


def test_no_block_of_python_is_missed() -> None:
    """Otherwise the test above could pass by running nothing."""
    assert len(PROGRAMS) >= FEWEST
    assert sum(len(program.blocks) for program in PROGRAMS) == README.count("```python")
    assert len(GUIDES) >= 1
    for guide in GUIDES:
        text = guide.read_text("utf-8")
        found = sum(len(program.blocks) for program in programs(text))
        assert found == text.count("```python") > 0


def test_a_block_runs_alone_unless_it_is_marked_as_continuing() -> None:
    text = """# One
```python
first = 1
```
<!-- continues -->
```python
second = first
```
# Two
```python
third = 3
```
"""
    assert [(program.heading, len(program.blocks)) for program in programs(text)] == [
        ("One", 2),
        ("Two", 1),
    ]
    assert programs(text)[1].line == text.splitlines().index("third = 3") + 1


def test_every_make_target_in_the_readme_exists() -> None:
    named = set(re.findall(r"`make ([\w-]+)`", README))
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert {"demo", "test", "bench"} <= named <= targets


def test_every_link_within_the_readme_leads_to_a_heading() -> None:
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors


@pytest.mark.parametrize("name", oddjob.__all__)
def test_every_public_name_is_in_the_readme(name: str) -> None:
    assert re.search(rf"\b{name}\b", README)


@pytest.mark.parametrize("option", PoolOptions._fields)
def test_every_option_is_in_the_settings_table_with_its_default(option: str) -> None:
    default = PoolOptions._field_defaults[option]
    row = re.search(rf"^\| `{option}` \| (.*?) \| (.*?) \|", README, re.MULTILINE)
    assert row is not None
    if default is not None and default != "":  # these two are described in words
        shown = default.__name__ if isinstance(default, type) else repr(default)
        assert row[2] == f"`{shown}`"


def test_the_measured_figures_have_their_place() -> None:
    assert re.search(r"^<!-- figures -->\n(.*\n)*?<!-- /figures -->$", README, re.MULTILINE)


def test_every_failure_mode_is_shown_by_a_test() -> None:
    rows = re.findall(r"^\| (.*?) \| .* \|$", section("Failure modes"), re.MULTILINE)
    assert rows[1:] == list(SHOWN_BY)
    for shown_by in SHOWN_BY.values():
        file, name = shown_by.split("::")
        source = (ROOT / "tests" / file).read_text("utf-8")
        assert f"\ndef {name}(" in source, f"{file} has no {name}"
