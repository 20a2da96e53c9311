"""House rules: layers, sizes of files, words, public names, docstrings, the cost of an import."""

import ast
import json
import re
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

import oddjob
import oddjob.testing

PACKAGE = Path(oddjob.__file__).parent
TESTS = Path(__file__).parents[1]

# Lowest first. A module may import modules of lower layers, and those before it in its own.
# What is `ABOVE` them is loaded by programs that use a store.
LAYERS = {
    "vocabulary": """
        oddjob.runtime oddjob.schedule
        compat errors threads log schedule.clock schedule.local_time locks
        callables hints quantities keys rate retry signing tracebacks
    """,
    "configuration, clocks and limits": """
        events schedule.cron schedule.triggers schedule.scheduler
        runtime.limits option_checks options
    """,
    "job": """
        runtime.job_state runtime.links runtime.shared_state runtime.settling runtime.settlement
        runtime.policy runtime.middleware runtime.metrics runtime.coroutines runtime.slot
        runtime.effects runtime.future runtime.job
        runtime.new_jobs runtime.stored_job
    """,
    "queues": """
        runtime.ready_order runtime.fair_turns runtime.key_lines runtime.limit_gate
        runtime.limited_queue runtime.dispatcher schedule.timer
    """,
    "workers": """
        runtime.execution runtime.reasons runtime.worker runtime.stand_in runtime.in_place
        runtime.event_loops runtime.awaiting runtime.caller_runs runtime.lifecycle runtime.inline
        runtime.pool_ending runtime.worker_set runtime.supervisor runtime.watchdog
        runtime.backpressure runtime.dependencies runtime.intake runtime.core
    """,
    "what users hold": """
        mapping workflow scheduled group function decorator submitter view stored_jobs dumping
        thread_pool
    """,
    "names and entry points": """
        settings registry daemon verbs testing.fake_clock testing testing.pytest_plugin oddjob
    """,
}
ABOVE = {
    "stores": """
        oddjob.durable oddjob.durable.sqlite oddjob.durable.redis
        durable.record durable.store durable.trouble durable.lock_file durable.peers
        durable.local_peers
        durable.sqlite.schema durable.sqlite.partitions durable.sqlite.notifier
        durable.sqlite.key_slots durable.sqlite.turns durable.sqlite.dependencies
        durable.sqlite.members
        durable.sqlite.fork_guard durable.sqlite.location durable.sqlite.work
        durable.sqlite.job_actions durable.sqlite.entries
        durable.sqlite.database durable.sqlite.transactions
        durable.sqlite.reader durable.sqlite.store
        durable.redis.location durable.redis.script durable.redis.topology durable.redis.connection
        durable.redis.packing durable.redis.access
        durable.redis.membership durable.redis.wakeups
        durable.redis.calls durable.redis.direct_submits durable.redis.links
        durable.redis.newest durable.redis.reader durable.redis.store
        testing.store_suite testing.store_contract testing.store_operations testing.store_workflows
        testing.store_turns
    """,
    "runner": """
        durable.callbacks durable.due_alarm durable.progress durable.suspect
        durable.operation durable.reports durable.expectations durable.known_functions
        durable.retention durable.spare_claims durable.begun_marks
        durable.runner durable.plain_options durable.serializers durable.codec durable.stores
    """,
    "durable pools": """
        durable.definitions durable.unique durable.rules durable.atomic_submit durable.claimed_jobs
        durable.submissions durable.job_handle durable.lending durable.full_queue durable.live_jobs
        durable.timers durable.recurring durable.async_submit durable.pool_store
    """,
    "operations": """
        operations.phrases operations.access operations.record operations.recurring
        operations.pool_operations
        operations.reasons operations.stores operations.copying operations operations.application
        operations.findings operations.memory_operations operations.sources operations.presentation
    """,
    "dashboard": """
        dashboard.request dashboard.payload dashboard.guard dashboard.chart dashboard.context
        dashboard.search dashboard.views
        dashboard.actions dashboard.routes dashboard.adapters
        dashboard.adapters.asgi dashboard.adapters.wsgi dashboard.adapters.django
        dashboard.application dashboard dashboard.server
    """,
    "command": """
        cli.command cli.output cli.columns cli.filters cli.overview cli.jobs cli.actions
        cli.recurring cli.submit cli.processes cli.worker cli.maintenance cli.dashboard cli.torture
        cli.program cli
        oddjob.__main__
    """,
    "guests": """
        contrib contrib.anyio contrib.asgi contrib.flask contrib.logs contrib.opentelemetry
        contrib.prometheus contrib.sentry
        contrib.django.compat contrib.django.running contrib.django.stored contrib.django.backend
        contrib.django contrib.django.apps contrib.django.management
        contrib.django.management.commands contrib.django.management.commands.oddjob
        contrib.django.management.commands.oddjob_worker contrib.django.queues
    """,
}

# Imports that point up, inside a function: they load what few programs need.
LAZY_IMPORTS = {
    ("oddjob.runtime.job", "oddjob.runtime.reasons"),
    ("oddjob.cli.worker", "oddjob.contrib.prometheus"),
    ("oddjob.dashboard.application", "oddjob.contrib.prometheus"),
    ("oddjob.durable.live_jobs", "oddjob.operations.access"),
    ("oddjob.durable.live_jobs", "oddjob.operations.reasons"),
    ("oddjob.durable.live_jobs", "oddjob.operations.record"),
    ("oddjob.runtime.core", "oddjob.durable.pool_store"),
    ("oddjob.scheduled", "oddjob.durable.timers"),
    ("oddjob.durable.sqlite.members", "oddjob"),
    ("oddjob.durable.redis.membership", "oddjob"),
    ("oddjob.verbs", "oddjob.operations.copying"),
    ("oddjob.stored_jobs", "oddjob.operations.access"),
    ("oddjob.stored_jobs", "oddjob.operations.pool_operations"),
}

PUBLIC = [
    *(
        "Backoff",
        "Batch",
        "BatchFailed",
        "Call",
        "Chain",
        "ClockChange",
        "CronExplanation",
        "Delayed",
        "DrainReport",
        "Durations",
    ),
    *("GroupClosed", "Job", "JobDropped", "JobFunction", "JobGroup", "JobLost"),
    *("JobNotFound", "JobOptions", "JobTimeout", "Middleware", "OddJobError"),
    *("PayloadError", "Pool", "PoolArguments", "PoolBroken", "PoolClosed", "PoolEvent"),
    *("PoolNameTaken", "PoolNotFound", "PoolSettings", "PoolStats", "PredecessorFailed"),
    *("Progress", "QueueFull", "Rate", "Recurring", "Settings", "SettingsError"),
    *("StoreFull", "StoreUnsafe", "StoreUnusable", "SupervisorInfo", "Timer"),
    *("UnknownFunction", "WorkerInfo", "async_perform", "async_perform_many", "await_"),
    *(
        "await_many",
        "cancel_timer",
        "configure",
        "copy_store",
        "current_batch",
        "current_job",
        "dump",
    ),
    *("dump_on_signal", "explain_cron", "perform"),
    *("perform_after", "perform_at", "perform_many", "perform_many_after"),
    *("perform_many_at", "perform_this", "pool", "pools", "progress", "queue", "read_timer"),
    *("run_forever", "shutdown_all", "start_pool", "supervisor", "timers", "workers"),
]

USED_BY_NAME = {
    "oddjob",
    "oddjob.dashboard",
    "oddjob.operations",
    "oddjob.testing",
}  # packages for users

NAMES_OF_JOB = [
    *("add_done_callback", "attempt", "cancel", "cancel_requested", "cancelled", "deadline"),
    *("done", "exception", "finished_at", "id", "is_inline", "key", "name", "pool", "priority"),
    *("progress", "queued_at", "report", "result", "running", "set_exception", "set_result"),
    *("set_running_or_notify_cancel", "started_at", "state", "step", "submitted_by", "timeout"),
    *("transaction", "why"),
]

NAMES_OF_POOL = [
    *("adrain", "after", "ashutdown", "asubmit", "at", "batch", "chain", "configuration"),
    *("counts", "cron"),
    "daily",
    *("drain", "dump", "every", "find"),
    *(
        "group",
        "histograms",
        "job",
        "join",
        "map",
        "name",
        "on_event",
        "options",
        "pause",
        "perform",
    ),
    *("perform_many", "pool_size", "purge", "queue", "records", "recurring", "resize"),
    *("restart", "resume"),
    *(
        "retry_failed",
        "runners",
        "s",
        "shutdown",
        "starmap",
        "state",
        "stats",
        "submit",
        "submit_many",
    ),
    *("supervisor", "timers", "using", "workers"),
]

# Metaphors of former versions, and words that leave out who does what.
FORBIDDEN_WORDS = {
    *("ageing", "agenda", "aside", "bell", "bells", "bury", "bystander", "crew", "desk", "door"),
    *("entrant", "errand", "errands", "express", "forfeit", "forsake", "headway", "herald"),
    *("hire", "hired", "hires", "knock", "lane", "lanes", "ledger", "letter", "letters", "mend"),
    *("mended", "mends", "regularly", "roll", "roster", "somebody", "spoilt", "survey"),
    *("tallies", "tally", "warden", "whoever", "workforce"),
}
FORBIDDEN_PHRASES = [
    r"\bbe told (of|that|what|when)\b",
    r"\bgive_up_on\b",
    r"\bhave it not\b",
    r"\bno `?`?Exception",  # "what is no Exception"
    r"\bput_off\b",
    r"\bsee[ _]off\b",
    r"\bso many seconds\b",
    r"\bLater\b(?=[(\[,.:)])",  # the former class
    r"\.queued\(\)",
]

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def in_full(name: str) -> str:
    return name if name.startswith("oddjob") else f"oddjob.{name}"


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}
BELOW = [in_full(name) for names in LAYERS.values() for name in names.split()]
IN_ORDER = BELOW + [in_full(name) for names in ABOVE.values() for name in names.split()]
EVERY_MODULE = pytest.mark.parametrize("module", FILES)


# Layers.


class Import(NamedTuple):
    """A module that another one imports."""

    name: str
    is_lazy: bool  # inside a function
    is_for_types: bool  # under TYPE_CHECKING: it is never loaded


def imports(module: str) -> list[Import]:
    """Return the modules of the package that one imports anywhere."""
    return [each for each in _imports(TREES[module]) if each.name.split(".")[0] == "oddjob"]


def _imports(
    node: ast.AST, *, is_lazy: bool = False, is_for_types: bool = False
) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(each.name, is_lazy, is_for_types) for each in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: imports are written in full"
            source = child.module or ""
            for each in child.names:
                full = f"{source}.{each.name}"
                yield Import(full if full in FILES else source, is_lazy, is_for_types)
        else:
            yield from _imports(
                child,
                is_lazy=is_lazy
                or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda),
                is_for_types=is_for_types
                or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)),
            )


def test_there_are_seven_layers_below_stores_and_every_module_is_in_one() -> None:
    assert len(LAYERS) == 7
    assert sorted(IN_ORDER) == sorted(FILES)


@EVERY_MODULE
def test_imports_point_one_way(module: str) -> None:
    """In a circle of imports you would need every file to understand any of them."""
    lower = IN_ORDER[: IN_ORDER.index(module)]
    for each in imports(module):
        is_exempt = each.is_lazy and (module, each.name) in LAZY_IMPORTS
        if not each.is_for_types and not is_exempt:
            assert each.name in lower, f"{module} must not import {each.name}"


def test_the_imports_that_are_checked_are_all_that_there_are() -> None:
    """The test above would pass if `imports` found none."""
    assert Import("oddjob.keys", is_lazy=False, is_for_types=False) in imports("oddjob.runtime.job")
    found = [each for module in FILES for each in imports(module)]
    assert any(each.is_lazy for each in found)
    assert any(each.is_for_types for each in found)
    assert len(found) > 2 * len(FILES)


# Files.


def test_modules_are_few() -> None:
    """Not counting what makes a folder a package."""
    modules = {name for name, path in FILES.items() if path.name != "__init__.py"}
    for_people = {name for name in modules if name.startswith(("oddjob.operations", "oddjob.cli"))}
    guests = {name for name in modules if name.startswith("oddjob.contrib")}
    dashboard = {name for name in modules if name.startswith("oddjob.dashboard")}
    assert len(modules & {*BELOW}) <= 79
    assert len(modules - {*BELOW} - for_people - guests - dashboard) <= 72
    assert len(for_people) <= 28
    assert len(dashboard) <= 14


@EVERY_MODULE
def test_a_file_can_be_read_in_one_sitting(module: str) -> None:
    """More than 450 lines are two ideas; fewer than 30 are not a file."""
    lines = len(FILES[module].read_text("utf-8").splitlines())
    assert lines <= 450
    assert lines >= 30 or FILES[module].name in ("__init__.py", "__main__.py", "pytest_plugin.py")


def test_no_submodule_hides_a_public_name() -> None:
    """`oddjob.pool` would be the function or the module, depending on what was imported before."""
    submodules = {path.stem for path in chain(PACKAGE.glob("*.py"), PACKAGE.glob("*/"))}
    assert submodules.isdisjoint({*PUBLIC, "job"})


def test_the_package_says_that_it_is_typed() -> None:
    """Without the marker a type checker takes everything for Any, and reports nothing."""
    assert (PACKAGE / "py.typed").is_file()


# Words.


TEXTS = {
    str(path.relative_to(PACKAGE.parent)): path
    for path in chain(PACKAGE.rglob("*.py"), TESTS.rglob("*.py"))
    if path != Path(__file__)
}


def words(text: str) -> set[str]:
    """Return the words of a text, and those that its identifiers are made of."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", text)}


@pytest.mark.parametrize("file", TEXTS)
def test_the_words_are_those_of_the_field(file: str) -> None:
    """A reader knows the terms of the field, and has not met metaphors of our own."""
    text = TEXTS[file].read_text("utf-8")
    found = sorted(words(text) & FORBIDDEN_WORDS)
    found += [match[0] for each in FORBIDDEN_PHRASES for match in re.finditer(each, text)]
    assert found == []


def test_words_are_found_wherever_they_are() -> None:
    assert words("JobDesk.see_off(the_roster)  # HTTPDoor") == {
        *("job", "desk", "see", "off", "the", "roster", "http", "door")
    }


# Public names.


def test_the_public_names_are_these() -> None:
    """A name that vanishes breaks programs; one that slips in has to be kept forever."""
    assert oddjob.__all__ == PUBLIC == sorted(PUBLIC)
    there = {
        name
        for name, value in vars(oddjob).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert there == set(PUBLIC)


@pytest.mark.parametrize(
    ("cls", "names"), [(oddjob.Job, NAMES_OF_JOB), (oddjob.Pool, NAMES_OF_POOL)]
)
def test_a_public_class_shows_no_internals(cls: type, names: list[str]) -> None:
    # (CPython 3.14 has two public names in `ThreadPoolExecutor` that are not for its users.)
    inherited = {"BROKEN", "prepare_context"} & set(dir(ThreadPoolExecutor))
    assert sorted({name for name in dir(cls) if not name.startswith("_")} - inherited) == names


@EVERY_MODULE
def test_only_packages_for_users_list_their_names(module: str) -> None:
    """Everything else is internal, and exports nothing."""
    assigned = {
        target.id
        for node in TREES[module].body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert ("__all__" in assigned) == (module in USED_BY_NAME)


# Private attributes.


OF_NAMED_TUPLES = {"_asdict", "_field_defaults", "_fields", "_make", "_replace"}
OF_THE_STANDARD_LIBRARY = {"_current_frames", "_getframe", "_is_gil_enabled"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def private_names(tree: ast.Module) -> Iterator[str]:
    """Yield the private attributes that the classes of a module define."""
    for cls in ast.walk(tree):
        if not isinstance(cls, ast.ClassDef):
            continue
        for node in ast.walk(cls):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                    yield node.attr
            elif isinstance(node, ast.AnnAssign | ast.Assign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                yield from (each.id for each in targets if isinstance(each, ast.Name))


@cache
def names_of_folder(folder: Path) -> set[str]:
    """Return the private attributes that are defined in a folder."""
    trees = [TREES[name] for name, path in FILES.items() if path.parent == folder]
    return {name for tree in trees for name in private_names(tree) if is_private(name)}


@EVERY_MODULE
def test_private_attributes_are_read_in_their_own_folder_only(module: str) -> None:
    """What other folders may use has a public name."""
    allowed = names_of_folder(FILES[module].parent) | OF_NAMED_TUPLES | OF_THE_STANDARD_LIBRARY
    foreign = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Attribute)
        and is_private(node.attr)
        and node.attr not in allowed
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    ]
    assert foreign == []


# Docstrings.


def public_definitions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Definition]]:
    """Yield public classes, functions and methods, and those of public classes.

    What overrides a method has its docstring from there.
    """
    for node in body:
        if not isinstance(node, Definition) or node.name.startswith("_"):
            continue
        decorators = {ast.unparse(each).rpartition(".")[2] for each in node.decorator_list}
        if decorators & {"overload", "setter", "override"}:
            continue
        yield prefix + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from public_definitions(node.body, f"{prefix}{node.name}.")


@EVERY_MODULE
def test_every_public_class_and_function_says_what_it_does(module: str) -> None:
    """Each begins with a line that an editor can show by itself."""
    tree = TREES[module]
    assert ast.get_docstring(tree), f"{module} has no docstring"
    for name, node in public_definitions(tree.body):
        summary = (ast.get_docstring(node) or "").partition("\n")[0]
        assert summary, f"{name} has no docstring"
        assert summary.endswith((".", ":")), f"the docstring of {name} begins with no sentence"


def test_help_explains_every_public_name() -> None:
    """`help(oddjob.Pool)` is the reference. Plain attributes are explained by their class."""
    for name in PUBLIC:
        value = getattr(oddjob, name)
        if not isinstance(value, type):
            assert value.__doc__, name
            continue
        for attribute in vars(value):
            if not attribute.startswith("_"):
                is_explained = getattr(value, attribute).__doc__ or attribute in value.__doc__
                assert is_explained, f"{name}.{attribute}"


def test_the_definitions_that_are_checked_are_all_that_there_are() -> None:
    """The tests above would pass if `public_definitions` found none."""
    found = {name for name, _ in public_definitions(TREES["oddjob.thread_pool"].body)}
    assert {"Pool", "Pool.drain", "Pool.name"} <= found
    assert "Submitter.options" in dict(public_definitions(TREES["oddjob.submitter"].body))


# What an import costs.


AFTER_IMPORT = """
import sys
before = set(sys.modules)
sys.path.insert(0, sys.argv[1])
import time
start = time.process_time()
import oddjob
took = time.process_time() - start
import json, threading
print(json.dumps({
    "threads": [thread.name for thread in threading.enumerate()],
    "modules": sorted(set(sys.modules) - before),
    "pools": list(oddjob.pools()),
    "file": oddjob.__file__,
    "seconds": took,
}))
"""


class AfterImport(NamedTuple):
    """What there is in a process that has done nothing but import the package."""

    threads: list[str]
    modules: list[str]
    pools: list[str]
    file: str
    seconds: float


def import_elsewhere(folder: Path) -> AfterImport:
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", AFTER_IMPORT, str(PACKAGE.parent)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = AfterImport(**json.loads(done.stdout))
    assert found.file == str(PACKAGE / "__init__.py")
    return found


@pytest.fixture(scope="module")
def after_import(tmp_path_factory: pytest.TempPathFactory) -> AfterImport:
    return import_elsewhere(tmp_path_factory.mktemp("elsewhere"))


def test_importing_starts_no_thread_and_makes_no_pool(after_import: AfterImport) -> None:
    """A command-line tool that imports the library must not notice it."""
    assert after_import.threads == ["MainThread"]
    assert after_import.pools == []


HEAVY = [
    *("asyncio", "cronsim", "ctypes", "dataclasses", "difflib", "inspect", "multiprocessing"),
    *("pathlib", "socket", "subprocess", "typing_extensions", "zoneinfo"),
    *(
        "click",
        "jinja2",
        "rich",
        "oddjob.cli",
        "oddjob.dashboard",
        "oddjob.durable",
        "oddjob.operations",
    ),
    *("oddjob.runtime.awaiting", "oddjob.runtime.event_loops", "oddjob.testing.pytest_plugin"),
]
# What the standard library's own executor loads: `traceback`, in CPython 3.14.
UNAVOIDABLE = {"dataclasses", "inspect"} if sys.version_info >= (3, 14) else set[str]()
UNAVOIDABLE |= {"pathlib"} if sys.version_info >= (3, 15) else set()


@pytest.mark.parametrize("heavy", sorted({*HEAVY} - UNAVOIDABLE))
def test_importing_does_not_load_what_most_programs_do_not_need(
    heavy: str, after_import: AfterImport
) -> None:
    """Every program pays for it, every time it starts."""
    assert "oddjob.thread_pool" in after_import.modules
    assert [
        name for name in after_import.modules if name == heavy or name.startswith(f"{heavy}.")
    ] == []


def test_importing_loads_nothing_of_stores(after_import: AfterImport) -> None:
    """Most programs have none."""
    assert [name for name in after_import.modules if name in IN_ORDER and name not in BELOW] == []
    assert "sqlite3" not in after_import.modules


def test_importing_takes_no_time_to_speak_of(tmp_path: Path) -> None:
    """The promise is 50 ms; what is asserted leaves room for a machine that is busy."""
    deadline = time.monotonic() + 20
    while import_elsewhere(tmp_path).seconds > 0.25:
        assert time.monotonic() < deadline
