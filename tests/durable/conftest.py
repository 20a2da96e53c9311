"""Programs with durable pools, started by tests."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hang import until
from tests.redis_topologies import Replicated

ROOT = Path(__file__).parents[2]
WAIT = 30.0

Process = subprocess.Popen[str]
Start = Callable[..., Process]


def have_left() -> bool:
    """Return whether all pools have come to their end with their stores."""
    return not any(each.name.startswith("oddjob-store") for each in threading.enumerate())


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
def replicated() -> Iterator[Replicated]:
    """A Redis master with a replica and a sentinel."""
    replicated = Replicated()
    yield replicated
    until(have_left)
    replicated.close()


@pytest.fixture
def serve(url: str, tmp_path: Path) -> Iterator[Start]:
    """Start ``tests.durable.service``, and wait until it is ready."""
    processes: list[Process] = []

    def serve(kind: str = "consume", *rest: str) -> Process:
        command = [
            sys.executable,
            "-m",
            "tests.durable.service",
            kind,
            url,
            f"{tmp_path}/log",
            *rest,
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield serve
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def lines(tmp_path: Path) -> Callable[[int], list[list[str]]]:
    """Wait for so many lines in the log of services; return them."""

    def lines(count: int) -> list[list[str]]:
        deadline = time.monotonic() + WAIT
        log = tmp_path / "log"
        while True:
            found = log.read_text().splitlines() if log.exists() else []
            if len(found) >= count:
                return [line.split() for line in found]
            assert time.monotonic() < deadline, found
            time.sleep(0.005)

    return lines
