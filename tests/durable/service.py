"""A program with a durable pool, for tests: ``python -m tests.durable.service KIND URL LOG``.

Kinds: ``consume`` runs what there is for ever; ``feed`` submits jobs for ever, and writes the ids
of those that are stored; ``serve SECONDS`` runs jobs until it gets a signal, and drains.
A line of the log is a single write: it is there, or it is not.
"""

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import oddjob

POOL = "work"
_log = -1
_again = [sys.executable, "-m", "tests.durable.service"]


def note(*words: Any) -> None:
    os.write(_log, (" ".join(map(str, words)) + "\n").encode())


def job_id() -> str:
    job = oddjob.current_job()
    assert job is not None
    return job.id


def work(seconds: float = 0.0) -> int:
    """Say which job runs in which process."""
    note(job_id(), os.getpid())
    time.sleep(seconds)
    return os.getpid()


def hold(gate: str) -> int:
    """Run until there is a file."""
    note(job_id(), os.getpid())
    while not Path(gate).exists():
        time.sleep(0.01)
    return os.getpid()


def hold_the_gil(pipe: str) -> int:
    """Run in C, where no other thread of the process can run, until the pipe is opened."""
    note(job_id(), os.getpid())
    ctypes.PyDLL(None).open(pipe.encode(), os.O_RDONLY)
    return os.getpid()


def poison() -> None:
    note(job_id(), os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)


def restart_in_place() -> list[int | str | None]:
    """Become another program, which has the same pid, once."""
    note(job_id(), os.getpid())
    if "RESTARTED" not in os.environ:
        os.execve(_again[0], [*_again, *sys.argv[1:]], {**os.environ, "RESTARTED": "1"})
    return [os.getpid(), os.environ.get("RESTARTED")]


def leave_a_child(gate: str) -> int:
    """Fork a process that outlives this one; then wait until there is a file."""
    child = os.fork()
    if not child:
        os.close(1)  # whose end the test waits for
        time.sleep(60)
        os._exit(0)
    note(job_id(), os.getpid(), child)
    while not Path(gate).exists():
        time.sleep(0.01)
    return os.getpid()


def main(kind: str, url: str, log: str, *rest: str) -> None:
    global _log  # noqa: PLW0603  (of this program)
    if "ODDJOB_LEASE" in os.environ:
        from oddjob.durable.redis.store import RedisStore

        lease = float(os.environ["ODDJOB_LEASE"])
        RedisStore.__init__.__kwdefaults__ = {"directory": None, "lease": lease}
    _log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    pool = oddjob.Pool(POOL, 4, store=url, consume=kind != "feed", keep_succeeded=10**6)
    print("ready", flush=True)  # noqa: T201  (to the test)
    if kind == "feed":
        while True:
            with suppress(oddjob.StoreUnusable):  # nobody hears of what it may have stored
                note(*(job.id for job in pool.submit_many(work, [0.0] * 8)))
            time.sleep(0.002)
    if kind == "serve":
        oddjob.run_forever(timeout=float(rest[0]))
        print("drained", flush=True)  # noqa: T201
        return
    signal.pause()


if __name__ == "__main__":
    # Jobs run in the module of that name, which is another one than the program.
    from tests.durable import service  # noqa: PLW0406

    service.main(*sys.argv[1:])
