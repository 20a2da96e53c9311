"""``torture``: kill processes that use a store on your own disk, and count what becomes of jobs.

It makes a store of its own beside yours (on Redis, a pool of its own), and removes it afterwards.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Final

import click

import oddjob
from oddjob.cli.command import Common, Failure, command, pass_common
from oddjob.cli.output import answer, facts, say
from oddjob.cli.processes import end_with_parent
from oddjob.operations import StoreOperations
from oddjob.operations.phrases import counted
from oddjob.operations.stores import file_of
from oddjob.runtime.job_state import JobState

_CONSUMERS: Final = 2
_PATIENCE: Final = 60.0  # seconds, for the jobs that are left at the end
_CLOSING: Final = 5.0
_BATCH: Final = 8
_READY: Final = 0.8  # the share of processes that are killed when they are at work
_LONGEST_LIFE: Final = 0.3  # seconds

_log = -1


def work(_number: int) -> None:
    """Say which job runs in which process, in one write: that is there, or it is not."""
    job = oddjob.current_job()
    os.write(_log, f"{'' if job is None else job.id} {os.getpid()}\n".encode())


def run(kind: str, url: str, pool_name: str, log: str) -> None:
    """Feed the pool, or run its jobs, until this process is killed."""
    global _log  # noqa: PLW0603  (of this process)
    _log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    pool = oddjob.Pool(pool_name, 4, store=url, consume=kind == "runs", keep_succeeded=10**6)
    end_with_parent(signal.SIGKILL)
    if kind == "fed":
        _feed(pool)
    click.echo("ready")
    while kind == "fed":
        _feed(pool)
        time.sleep(0.002)
    threading.Event().wait()


def _feed(pool: oddjob.Pool) -> None:
    jobs = pool.submit_many(work, range(_BATCH))
    os.write(_log, "".join(f"{job.id}\n" for job in jobs).encode())


@command()
@click.option("--kills", type=click.IntRange(1), default=20, show_default=True, metavar="N",
              help="How many processes are killed.")  # fmt: skip
@pass_common
def torture(common: Common, kills: int) -> None:
    """Kill processes on your disk, and count what becomes of their jobs.

    That is done in a new store beside the one of --store, which is not touched. Without --store it
    is in this folder.
    """
    file = file_of(common.url) if common.store or "ODDJOB_STORE" in os.environ else Path("x")
    folder = Path(tempfile.mkdtemp(prefix="oddjob-torture-", dir=file.parent if file else None))
    pool = f"torture-{folder.name[-8:]}"
    url = f"sqlite:///{folder.absolute()}/jobs.db" if file else common.url
    try:
        found = _torture(common, folder, url, pool, kills)
    finally:
        if file is None:
            with StoreOperations(url) as store:
                store.pool(pool).delete(store.pool(pool).records())
        deadline = time.monotonic() + _CLOSING
        while folder.exists() and time.monotonic() < deadline:  # a thread here closes the store
            shutil.rmtree(folder, ignore_errors=True)
    answer(common, found, facts((name.replace("_", " "), each) for name, each in found.items()))
    if found["lost"] or found["run_twice_without_a_crash"] or found["unfinished"]:
        raise Failure("jobs were lost, or run again without need")
    say(common, "No job was lost.")


def _torture(common: Common, folder: Path, url: str, pool: str, kills: int) -> dict[str, int]:
    def start(kind: str) -> "subprocess.Popen[bytes]":
        program = "import sys; from oddjob.cli import torture; torture.run(*sys.argv[1:])"
        command = [sys.executable, "-c", program, kind, url, pool, str(folder / kind)]
        return subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )

    say(common, f"Killing {counted(kills, 'process')}, one after the other, in {folder} ...")
    kinds = ["fed", *["runs"] * _CONSUMERS]
    processes = [start(kind) for kind in kinds]
    try:
        for number in range(kills):
            place = number % len(kinds)
            if number < len(kinds) or random.random() < _READY:  # noqa: S311
                _wait_until_ready(processes[place])
            time.sleep(random.uniform(0.0, _LONGEST_LIFE))  # noqa: S311
            _kill(processes[place])
            processes[place] = start(kinds[place])
        _kill(processes[0])
        with StoreOperations(url) as store:
            jobs, deadline = store.pool(pool), time.monotonic() + _PATIENCE
            while _unfinished(jobs.counts()) and time.monotonic() < deadline:
                time.sleep(0.1)
            unfinished = _unfinished(jobs.counts())
            crashes = {job.id: job.crashes for job in jobs.records()}
    finally:
        for process in processes:
            _kill(process)
    alive = {process.pid for process in processes}
    return _count(folder, crashes, alive) | {"unfinished": unfinished, "kills": kills}


def _wait_until_ready(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdout is not None  # noqa: S101
    process.stdout.readline()


def _kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    with process:  # closes its pipes, and waits for its end
        pass


def _unfinished(counts: dict[JobState, int]) -> int:
    return counts["scheduled"] + counts["queued"] + counts["running"]


def _count(folder: Path, crashes: dict[str, int], alive: set[int]) -> dict[str, int]:
    """Compare what was acknowledged, what has run, and what is stored."""
    acknowledged = (folder / "fed").read_text().split()
    runs: defaultdict[str, list[int]] = defaultdict(list)
    for line in (folder / "runs").read_text().splitlines():
        job, pid = line.split()
        runs[job].append(int(pid))
    return {
        "jobs": len(crashes),
        "acknowledged": len(acknowledged),
        "lost": sum(job not in crashes or job not in runs for job in acknowledged),
        "run_again_after_a_crash": sum(len(pids) - 1 for pids in runs.values()),
        "run_twice_without_a_crash": sum(not alive.isdisjoint(pids[:-1]) for pids in runs.values()),
        "charged_with_a_crash": sum(map(bool, crashes.values())),
    }
