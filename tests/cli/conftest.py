"""A store with jobs, and ways to call the command: in this process, and in one of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from oddjob import Pool
from oddjob.cli.program import oddjob
from tests.durable import jobs

ROOT = Path(__file__).parents[2]
Run = Callable[..., Result]


@pytest.fixture(params=["sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store that is not there yet; a parameter for each kind of store."""
    assert request.param == "sqlite"
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
def pool(url: str) -> Iterator[Pool]:
    """A pool that only submits: nothing happens to its jobs by itself."""
    with Pool("mail", 2, store=url, consume=False) as pool:
        yield pool


@pytest.fixture
def running(url: str) -> Iterator[Pool]:
    """A pool that runs its jobs."""
    jobs.gate.clear()
    with Pool("mail", 2, store=url) as pool:
        yield pool
        jobs.gate.set()


@pytest.fixture
def run(url: str) -> Run:
    """Call the command on the store; it has to end with that exit code."""

    def run(*args: str, exit_code: int = 0, store: str | None = url, **how: Any) -> Result:
        words = [*args] if store is None else ["--store", store, *args]
        result = CliRunner().invoke(oddjob, words, catch_exceptions=False, **how)
        assert result.exit_code == exit_code, result.output
        return result

    return run


@pytest.fixture
def read(run: Run) -> Callable[..., Any]:
    """Call the command with ``--json``; return what it has printed."""

    def read(*args: str, **how: Any) -> Any:
        return json.loads(run(*args, "--json", **how).stdout)

    return read


@contextmanager
def start(*args: str, url: str | None = None, **how: Any) -> "Iterator[subprocess.Popen[str]]":
    """Call the command in a process of its own, where programs of these tests can be imported."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if url is not None:
        environment["ODDJOB_STORE"] = environment["SHOP_STORE"] = url
    how.setdefault("env", environment)
    how.setdefault("stdin", subprocess.DEVNULL)
    command = [sys.executable, "-W", "error", "-m", "oddjob", *args]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def call(*args: str, url: str | None = None, exit_code: int = 0, **how: Any) -> tuple[str, str]:
    """Do the same, and wait for its end; return what it has printed to stdout and stderr."""
    with start(*args, url=url, **how) as process:
        out, err = process.communicate(timeout=50)
    assert process.returncode == exit_code, out + err
    return out, err


def eventually(condition: Callable[[], object]) -> None:
    """Wait for what other processes are about to do, and nothing announces."""
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
