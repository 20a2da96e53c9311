"""A pool that is copied, for tests: ``python -m tests.durable.copied KIND LOG URL [TARGET]``.

Kinds: ``consume`` runs what there is for ever; ``feed`` submits numbers for ever, and writes those
that are stored; ``copy`` moves the pool to another store again and again.
A line of the log is a single write: it is there, or it is not.
"""

import os
import signal
import sys
import time

import oddjob

POOL = "work"
_log = -1


def work(number: int) -> None:
    """Say that a job has run."""
    os.write(_log, f"{number}\n".encode())
    time.sleep(0.002)


def main(kind: str, log: str, *urls: str) -> None:
    global _log  # noqa: PLW0603  (of this program)
    _log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    if kind == "copy":
        print("ready", flush=True)  # noqa: T201  (to the test)
        while True:
            oddjob.copy_store(*urls)
    pool = oddjob.Pool(POOL, 2, store=urls[0], consume=kind == "consume")
    pool.submit(work, -1)
    print("ready", flush=True)  # noqa: T201
    number = 0
    while kind == "feed":
        some = range(number, number := number + 10)
        pool.submit_many(work, some)
        os.write(_log, "".join(f"{each}\n" for each in some).encode())
        time.sleep(0.005)
    signal.pause()


if __name__ == "__main__":
    # Jobs run in the module of that name, which is another one than the program.
    from tests.durable import copied  # noqa: PLW0406

    copied.main(*sys.argv[1:])
