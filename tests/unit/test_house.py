"""The house: imports point one way, files are short, public names are known and explained."""

import ast
import json
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import oddjob

PACKAGE = Path(oddjob.__file__).parent

# Lowest first. A module may import those above it in this list, and nothing else of the package.
LAYERS = [
    "oddjob.errors",
    "oddjob.schedule",
    "oddjob.schedule.clock",
    "oddjob.schedule.local",
    "oddjob.schedule.cron",
    "oddjob.schedule.plans",
    "oddjob.bell",
    "oddjob.fork",
    "oddjob.roll",
    "oddjob.marks",
    "oddjob.log",
    "oddjob.aside",
    "oddjob.schedule.scheduler",
    "oddjob.schedule.fake",
    "oddjob.events",
    "oddjob.states",
    "oddjob.settling",
    "oddjob.rate",
    "oddjob.retry",
    "oddjob.keys",
    "oddjob.limits",
    "oddjob.rules",
    "oddjob.headway",
    "oddjob.monitor",
    "oddjob.callables",
    "oddjob.traces",
    "oddjob.crew",
    "oddjob.work",
    "oddjob.bridge",
    "oddjob.job",
    "oddjob.current",
    "oddjob.bar",
    "oddjob.fire_and_forget",
    "oddjob.timer",
    "oddjob.limited",
    "oddjob.managed",
    "oddjob.settings",
    "oddjob.later",
    "oddjob.stats",
    "oddjob.terms",
    "oddjob.registry",
    "oddjob.function",
    "oddjob.group",
    "oddjob.results",
    "oddjob.workforce",
    "oddjob.workforce.lifecycle",
    "oddjob.workforce.inline",
    "oddjob.workforce.durations",
    "oddjob.workforce.lanes",
    "oddjob.workforce.tally",
    "oddjob.workforce.letters",
    "oddjob.workforce.loop",
    "oddjob.workforce.express",
    "oddjob.workforce.field",
    "oddjob.workforce.track",
    "oddjob.workforce.race",
    "oddjob.workforce.turns",
    "oddjob.workforce.desk",
    "oddjob.workforce.agenda",
    "oddjob.workforce.queue",
    "oddjob.workforce.door",
    "oddjob.workforce.worker",
    "oddjob.workforce.deadlines",
    "oddjob.workforce.report",
    "oddjob.workforce.roster",
    "oddjob.workforce.warden",
    "oddjob.workforce.supervisor",
    "oddjob.workforce.survey",
    "oddjob.workforce.admission",
    "oddjob.workforce.arrivals",
    "oddjob.workforce.service",
    "oddjob.workforce.workforce",
    "oddjob.intake",
    "oddjob.submitter",
    "oddjob.pool",
    "oddjob.startup",
    "oddjob.verbs",
    "oddjob.testing",
    "oddjob",
    "oddjob.pytest_plugin",
]

# The bridge needs asyncio, which only those load who await a job.
LAZY = "oddjob.bridge"

PUBLIC = [
    "Backoff",
    "ClockChange",
    "CronExplanation",
    "DrainReport",
    "Durations",
    "GroupClosed",
    "Job",
    "JobDropped",
    "JobFunction",
    "JobGroup",
    "JobLost",
    "JobTimeout",
    "Later",
    "OddJobError",
    "Pool",
    "PoolBroken",
    "PoolClosed",
    "PoolEvent",
    "PoolNameTaken",
    "PoolNotFound",
    "PoolStats",
    "PredecessorFailed",
    "Progress",
    "QueueFull",
    "Rate",
    "Regularly",
    "SettingsError",
    "SupervisorInfo",
    "Timer",
    "WorkerInfo",
    "async_perform",
    "async_perform_many",
    "await_",
    "await_many",
    "cancel_timer",
    "configure",
    "current_job",
    "explain_cron",
    "perform",
    "perform_after",
    "perform_at",
    "perform_many",
    "perform_many_after",
    "perform_many_at",
    "perform_this",
    "pool",
    "pools",
    "progress",
    "queue",
    "read_timer",
    "shutdown_all",
    "start_pool",
    "supervisor",
    "workers",
]


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}
EVERY_MODULE = pytest.mark.parametrize("module", FILES)


def imports(module: str) -> Iterator[tuple[str, bool]]:
    """The modules of the package that one imports anywhere, and whether inside a function."""
    tree = TREES[module]
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: imports are written in full"
            source = node.module or ""
            full = [f"{source}.{alias.name}" for alias in node.names]
            names = [name if name in FILES else source for name in full]
        else:
            continue
        for name in names:
            if name.partition(".")[0] == "oddjob":
                yield name, id(node) in inside


def test_every_module_has_its_place_in_the_layers() -> None:
    """A newcomer reads the list from the top and meets nothing that has not been explained."""
    assert sorted(LAYERS) == sorted(FILES)
    assert len(set(LAYERS)) == len(LAYERS)


@EVERY_MODULE
def test_imports_point_one_way(module: str) -> None:
    """A circle of imports would make every file need every other to be understood."""
    lower = LAYERS[: LAYERS.index(module)]
    for imported, lazily in imports(module):
        assert imported in lower, f"{module} must not import {imported}"
        assert lazily or imported != LAZY, "asyncio would be loaded by everybody"


def test_the_imports_that_are_checked_are_those_that_there_are() -> None:
    """The test above would be happy with a reader of imports that sees none."""
    assert {("oddjob.work", False), ("oddjob.bridge", True)} <= set(imports("oddjob.job"))
    assert ("oddjob.workforce.lifecycle", False) in set(imports("oddjob.workforce.workforce"))
    assert sum(1 for module in FILES for _ in imports(module)) > 2 * len(FILES)


@EVERY_MODULE
def test_a_file_can_be_read_in_one_sitting(module: str) -> None:
    """400 lines at most; beyond that it is two subjects."""
    assert len(FILES[module].read_text("utf-8").splitlines()) <= 400


def test_the_public_names_are_these() -> None:
    """A name that vanishes breaks programs; one that slips in has to be kept for ever."""
    assert oddjob.__all__ == PUBLIC == sorted(PUBLIC)
    there = {
        name
        for name, value in vars(oddjob).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert there == set(PUBLIC)


@EVERY_MODULE
def test_what_a_module_says_it_offers_exists(module: str) -> None:
    """`from oddjob.job import *` would fail on a name that does not, and so do editors."""
    exported = [
        ast.literal_eval(node.value)
        for node in TREES[module].body
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
    ]
    if module in ("oddjob.schedule", "oddjob.workforce"):
        assert exported == []
        return
    (names,) = exported
    __import__(module)
    offered = vars(sys.modules[module])
    assert [name for name in names if name not in offered] == []
    assert [name for name in names if name.startswith("_")] == []


def test_the_package_says_that_it_is_typed() -> None:
    """Without the marker a type checker takes everything for Any, and says nothing."""
    assert (PACKAGE / "py.typed").is_file()


AFTER_IMPORT = """
import sys, threading
before = set(sys.modules)
sys.path.insert(0, sys.argv[1])
import oddjob
import json
print(json.dumps({
    "threads": [thread.name for thread in threading.enumerate()],
    "modules": sorted(set(sys.modules) - before),
    "pools": list(oddjob.pools()),
    "file": oddjob.__file__,
}))
"""


@pytest.fixture(scope="module")
def after_import(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What there is in a process that has done nothing but import the package."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", AFTER_IMPORT, str(PACKAGE.parent)],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    said: dict[str, object] = json.loads(done.stdout)
    assert said["file"] == str(PACKAGE / "__init__.py")
    return said


def test_importing_starts_no_thread_and_makes_no_pool(after_import: dict[str, object]) -> None:
    """A library that is imported by a command-line tool must not be felt there."""
    assert after_import["threads"] == ["MainThread"]
    assert after_import["pools"] == []


@pytest.mark.parametrize(
    "heavy",
    [
        "asyncio",
        "ctypes",
        "dataclasses",
        "difflib",
        "inspect",
        "multiprocessing",
        "oddjob.bridge",
        "pathlib",
        "socket",
        "subprocess",
        "typing_extensions",
        "zoneinfo",
    ],
)
def test_importing_does_not_load_what_most_programs_do_not_need(
    heavy: str, after_import: dict[str, object]
) -> None:
    """Start-up time is paid by everybody, every time."""
    modules = after_import["modules"]
    assert isinstance(modules, list)
    assert "oddjob.pool" in modules
    assert [name for name in modules if name == heavy or name.startswith(f"{heavy}.")] == []


Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def public_definitions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Definition]]:
    """Public classes, functions and methods, and those of public classes."""
    for node in body:
        if not isinstance(node, Definition) or node.name.startswith("_"):
            continue
        decorators = {ast.unparse(each).rpartition(".")[2] for each in node.decorator_list}
        if decorators & {"overload", "setter"}:
            continue
        yield prefix + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from public_definitions(node.body, f"{prefix}{node.name}.")


@EVERY_MODULE
def test_every_public_class_and_function_says_what_it_does(module: str) -> None:
    """Each begins with a line that an editor can show by itself."""
    tree = TREES[module]
    assert ast.get_docstring(tree), f"{module} has no docstring"
    found = list(public_definitions(tree.body))
    silent = [name for name, node in found if not (ast.get_docstring(node) or "").strip()]
    assert silent == []


def test_the_definitions_that_are_checked_are_those_that_there_are() -> None:
    """The test above would be happy with a reader of definitions that sees none."""
    found = {name for name, _ in public_definitions(TREES["oddjob.pool"].body)}
    assert {"Pool", "Pool.shutdown", "Pool.name", "use_defaults"} <= found
    assert "Submitter.map" in dict(public_definitions(TREES["oddjob.submitter"].body))
