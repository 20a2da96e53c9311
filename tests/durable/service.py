"""A program with a durable pool, for tests: ``python -m tests.durable.service KIND URL LOG``.

Kinds: ``consume`` runs what there is for ever; ``feed`` submits jobs for ever, and writes the ids of
those that are stored; ``hold`` consumes, and stops as a whole when told to on its standard input.
A line of the log is a single write: it is there, or it is not.
"""

import os
import signal
import sys
import time
from typing import Any

import oddjob

POOL = "work"
_log = -1


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


def poison() -> None:
    note(job_id(), os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)


def main(kind: str, url: str, log: str) -> None:
    global _log
    _log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    pool = oddjob.Pool(POOL, 4, store=url, consume=kind != "feed", keep_succeeded=10**6)
    print("ready", flush=True)
    if kind == "feed":
        while True:
            jobs = pool.submit_many(work, [0.0] * 8)
            note(*(job.id for job in jobs))
            time.sleep(0.002)
    signal.pause()


if __name__ == "__main__":
    from tests.durable import service  # functions are found by the name of their module

    service.main(*sys.argv[1:])
