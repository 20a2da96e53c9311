"""What all tests have in common: no thread and no pool is left behind, and how they are spread.

With ``pytest -n`` the tests are spread over several processes, one by one. Tests of one *group*
run in one process, one after the other: those that start processes of their own, load the machine,
or share a fixture that takes long.
"""

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import oddjob
from tests.long import examples
from tests.redis_server import RedisServer

pytest_plugins = ["pytester"]

# Started in the background by a shell (`make test &`), a process ignores Ctrl-C, and so would those
# that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(  # a busy machine is no failure
    "oddjob",
    deadline=None,
    max_examples=examples(100),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("oddjob")

GROUPED_BY_FOLDER = {"bench", "process"}
GROUPED_BY_FILE = {"stress"}
GROUPED_FILES = {"test_typing.py", "test_redis_topologies.py"}


def group_of(nodeid: str) -> str:
    """Return the group of a test; most tests are a group of their own."""
    path = PurePosixPath(nodeid.partition("::")[0])
    if path.parent.name in GROUPED_BY_FOLDER:
        return str(path.parent)
    if path.parent.name in GROUPED_BY_FILE or path.name in GROUPED_FILES:
        return str(path)
    return nodeid


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, which need not be there
def pytest_xdist_auto_num_workers() -> int:
    """Run two processes on each core: many tests wait for other processes, disks and timers."""
    affinity = getattr(os, "sched_getaffinity", None)
    return 2 * (len(affinity(0)) if affinity else os.cpu_count() or 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Spread the tests by their groups.

    The marks of ``--dist loadgroup`` would say the same, but pytest-xdist 3.8 does not find them
    with pytest 9.2, which keeps the identifiers of tests elsewhere.
    """
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return GroupScheduling(config, log)


def pytest_collection_finish() -> None:
    """Keep what there is before the first test out of each `gc.collect()`: 100 ms become 5."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    """A test that leaves a pool running, or a thread, fails."""
    before = set(threading.enumerate())
    yield
    assert oddjob.shutdown_all(10), "named pools did not finish in 10 seconds"
    # A thread that logs something in a destructor when it has all but ended is listed once more,
    # under another name, and stays in that list.
    alive = sys._current_frames()
    left = [each for each in threading.enumerate() if each not in before and each.ident in alive]
    if left:
        gc.collect()  # anonymous pools that only a cycle holds
    for thread in left:
        thread.join(10)
    assert [thread.name for thread in left if thread.is_alive()] == []


@pytest.fixture
def tiny_switch_interval() -> Iterator[None]:
    """Let the interpreter switch threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis server for all tests of one process, which are not to stop it."""
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def redis_url(redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty store on that server; its processes meet in the test's directory."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    redis_server.ask("FLUSHALL")
    return redis_server.url


@pytest.fixture(params=["sqlite", "redis"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store of each kind."""
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return f"sqlite:///{tmp_path}/jobs.db"
