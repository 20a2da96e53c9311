"""README and guides are a contract: their Python runs, and what they name exists.

Each block of Python is a program of its own. A block that continues the one before it has the
comment ``<!-- continues -->`` on the line above its fence, and shares that block's names.
"""

import inspect
import pydoc
import re
import sys
import types
from pathlib import Path
from typing import NamedTuple

import pytest

import oddjob
import oddjob.operations
from oddjob.options import PoolOptions

ROOT = Path(__file__).parents[2]
GUIDES = ROOT / "examples" / "guides"
PAGES = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted(GUIDES.glob("*.md"))]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
README = TEXTS[ROOT / "README.md"]
LONGEST_README = 250  # lines
# What the guides show: libraries to migrate from, and frameworks.
PEERS = {"apscheduler", "celery", "fastapi", "flask", "huey", "opentelemetry", "prometheus_client"}
BLOCK = re.compile(r"^(<!-- continues -->\n)?```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FEWEST = 6  # programs in the README; if there are fewer, the pattern no longer finds them

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
    """Blocks that share their names, each moved down to its line on the page."""

    page: Path
    heading: str
    line: int
    blocks: list[str]

    def __str__(self) -> str:
        return f"{self.page.name}, {self.heading}, line {self.line}"


def programs(page: Path, text: str) -> list[Program]:
    """Return the programs in a text, in order."""
    found: list[Program] = []
    for match in BLOCK.finditer(text):
        above = text[: match.start(2)]
        code = "\n" * above.count("\n") + match[2]
        if match[1]:
            found[-1].blocks.append(code)
        else:
            headings = re.findall(r"^#+ (.*)$", above, re.MULTILINE)
            found.append(Program(page, headings[-1], above.count("\n") + 1, [code]))
    return found


PROGRAMS = [program for page, text in TEXTS.items() for program in programs(page, text)]


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_every_program_in_the_readme_and_the_guides_runs(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is the main program, as it is when you run it: durable jobs look for it there."""
    for peer in PEERS.intersection(
        re.findall(r"^(?:from|import) (\w+)", "".join(program.blocks), re.MULTILINE)
    ):
        pytest.importorskip(peer, reason=f"{peer} is not installed")
    monkeypatch.chdir(tmp_path)
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    try:
        for block in program.blocks:
            exec(compile(block, str(program.page), "exec"), vars(main))
    finally:
        assert oddjob.shutdown_all(10)


def test_no_block_of_python_is_missed() -> None:
    """Otherwise the test above could pass by running nothing."""
    assert len(programs(Path("README.md"), README)) >= FEWEST
    for page, text in TEXTS.items():
        found = sum(len(program.blocks) for program in programs(page, text))
        assert found == text.count("```python"), page


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
    found = programs(Path("page.md"), text)
    assert [(program.heading, len(program.blocks)) for program in found] == [("One", 2), ("Two", 1)]
    assert found[1].line == text.splitlines().index("third = 3") + 1


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= LONGEST_README


def test_every_make_target_in_the_readme_exists() -> None:
    named = set(re.findall(r"`make ([\w-]+)`", README))
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def anchors(text: str) -> set[str]:
    """Return the names by which a link reaches the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", TEXTS[page]):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(TEXTS[target]), link


def test_the_index_leads_to_every_guide_and_every_example() -> None:
    index = TEXTS[ROOT / "examples" / "README.md"]
    links = set(re.findall(r"\]\(([^)#]+)\)", index))
    here = ROOT / "examples"
    assert links >= {str(each.relative_to(here)) for each in GUIDES.glob("*.md")}
    assert links >= {each.name for each in here.glob("*.py")}


@pytest.mark.parametrize("option", PoolOptions._fields)
def test_every_option_is_in_the_settings_table_with_its_default(option: str) -> None:
    text = TEXTS[GUIDES / "configuration.md"]
    default = PoolOptions._field_defaults[option]
    row = re.search(rf"^\| `{option}` \| (.*?) \| (.*?) \|", text, re.MULTILINE)
    assert row is not None
    if default is not None and default != "":  # these two are described in words
        shown = default.__name__ if isinstance(default, type) else repr(default)
        assert row[2] == f"`{shown}`"


def test_every_error_is_in_the_table_of_errors_with_its_parents() -> None:
    text = TEXTS[GUIDES / "failure-modes.md"]
    rows = dict(re.findall(r"^\| `(\w+)` \| `(?:\w+\.)?(\w+)` \|", text, re.MULTILINE))
    errors = {
        name: value
        for name, value in vars(oddjob).items()
        if isinstance(value, type) and issubclass(value, oddjob.OddJobError)
    }
    assert {"OddJobError", *rows} == set(errors)
    for name, parent in rows.items():
        assert parent in {each.__name__ for each in errors[name].__mro__[1:]}


def test_the_measured_figures_have_their_place() -> None:
    text = TEXTS[GUIDES / "benchmarks.md"]
    assert re.search(r"^<!-- figures -->\n(.*\n)*?<!-- /figures -->$", text, re.MULTILINE)


def test_the_figures_of_the_readme_are_those_of_the_benchmarks() -> None:
    def figures(text: str) -> set[tuple[str, ...]]:
        """Return the two times of each row, and the lowest and highest ratio."""
        return set(re.findall(r"\| ([\d.]+ µs) \| ([\d.]+ µs) \| \*\*", text))

    assert figures(README)
    assert figures(README) <= figures(TEXTS[GUIDES / "benchmarks.md"])


def test_every_failure_mode_is_shown_by_a_test() -> None:
    text = TEXTS[GUIDES / "failure-modes.md"]
    table = text.partition("## Cause and effect\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.*?) \| .* \|$", table, re.MULTILINE)
    assert rows[1:] == list(SHOWN_BY)
    for shown_by in SHOWN_BY.values():
        file, name = shown_by.split("::")
        source = (ROOT / "tests" / file).read_text("utf-8")
        assert f"\ndef {name}(" in source, f"{file} has no {name}"


# The reference is the docstrings.


def public_members(cls: type) -> dict[str, object]:
    """Return what a class of ours, or its bases of ours, offer under a public name."""
    ours = [each for each in cls.__mro__ if each.__module__.startswith("oddjob")]
    return {
        name: inspect.getattr_static(cls, name)
        for each in ours
        for name in vars(each)
        if not name.startswith("_")
    }


def is_field(cls: type, member: str) -> bool:
    """Return whether a member is a field, or a key of a dict: its class explains it."""
    return member in getattr(cls, "_fields", ()) or member in getattr(cls, "__annotations__", {})


PUBLIC = [
    (module, name)
    for module in (oddjob, oddjob.operations, oddjob.testing)
    for name in module.__all__
]


@pytest.mark.parametrize(
    ("module", "name"), PUBLIC, ids=lambda part: getattr(part, "__name__", part)
)
def test_every_public_name_has_a_docstring_and_so_have_its_members(
    module: types.ModuleType, name: str
) -> None:
    value = getattr(module, name)
    assert value.__doc__, name
    if isinstance(value, type):
        for member, what in public_members(value).items():
            if not is_field(value, member):
                assert inspect.getdoc(getattr(value, member, what)), f"{name}.{member}"
        for field in getattr(value, "_fields", getattr(value, "__dataclass_fields__", ())):
            assert field.startswith("_") or re.search(rf"\b{field}: |`{field}`", value.__doc__), (
                f"{name}.{field}"
            )


def test_help_shows_every_public_name() -> None:
    shown = pydoc.render_doc(oddjob, renderer=pydoc.plaintext)
    for name in oddjob.__all__:
        assert re.search(rf"\b{name}\b", shown), name
