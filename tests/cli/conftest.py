"""A store with jobs, and ways to call the command: in this process, and in one of its own."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner, Result

from oddjob import Pool
from oddjob.cli.program import oddjob
from tests.durable import jobs

ROOT = Path(__file__).parents[2]
Run = Callable[..., Result]


on_a_file = pytest.mark.parametrize("any_url", ["sqlite"], indirect=True)


@pytest.fixture
def url(any_url: str) -> str:
    """The URL of a store that is not there yet, of each kind."""
    return any_url


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
    """Call the command on the store; it has to end with that exit code, if it is not None."""

    def run(*args: str, exit_code: int | None = 0, store: str | None = url, **how: Any) -> Result:
        words = [*args] if store is None else ["--store", store, *args]
        result = CliRunner().invoke(oddjob, words, catch_exceptions=False, **how)
        logging.getLogger("oddjob").setLevel(logging.NOTSET)  # as it was
        assert exit_code in (None, result.exit_code), result.output
        return result

    return run


@pytest.fixture
def read(run: Run) -> Callable[..., Any]:
    """Call the command with ``--json``; return what it has printed."""

    def read(*args: str, **how: Any) -> Any:
        return json.loads(run(*args, "--json", **how).stdout)

    return read


def environment(url: str | None = None, **more: str) -> dict[str, str]:
    """Return an environment in which programs of these tests can be imported."""
    found = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    if url is not None:
        found["ODDJOB_STORE"] = found["SHOP_STORE"] = url
    return found


@contextmanager
def start(*args: str, url: str, cwd: Path = ROOT) -> "Iterator[subprocess.Popen[str]]":
    """Call the command in a process of its own, which ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "oddjob", *args],
        cwd=cwd,
        env=environment(url),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class Called(NamedTuple):
    """What a call of the command has printed."""

    out: str
    err: str


Call = Callable[..., Called]


@pytest.fixture(scope="session")
def forks() -> "Iterator[subprocess.Popen[str]]":
    """A process that calls the command in children; see `forks`."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.cli.forks"],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def call(forks: "subprocess.Popen[str]", url: str, tmp_path_factory: Any) -> Call:
    """Call the command in a process of its own; it has to end with that exit code."""
    folder = tmp_path_factory.mktemp("called")

    def call(
        *args: str, exit_code: int = 0, cwd: Path = ROOT, env: dict[str, str] | None = None
    ) -> Called:
        assert forks.stdin is not None
        assert forks.stdout is not None
        files = {name: str(folder / name) for name in ("out", "err")}
        wanted = {"args": args, "cwd": str(cwd), "env": env or environment(url), **files}
        forks.stdin.write(json.dumps(wanted) + "\n")
        forks.stdin.flush()
        code = int(forks.stdout.readline())
        called = Called(*(Path(file).read_text("utf-8") for file in files.values()))
        assert code == exit_code, called.out + called.err
        return called

    return call


def eventually(condition: Callable[[], object]) -> None:
    """Wait for what other processes are about to do, and nothing announces."""
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
