"""A process that runs jobs of chains: ``python -m tests.durable.workflow_member URL``."""

import os
import sys
import time

import oddjob


def link(number: int, log: str, chain: int) -> int:
    """Be killed before, in, or after it; write a line as soon as it runs."""
    write(log, f"{chain} {number} {os.getpid()}")
    time.sleep(0.005)
    return number + 1


def note_end(log: str, chain: int) -> None:
    write(log, f"{chain} end {os.getpid()}")


def write(log: str, line: str) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{line}\n".encode())
    os.close(file)


def main(url: str) -> None:
    pool = oddjob.Pool("workflows", 3, store=url)
    pool.job(link)
    pool.job(note_end)
    print("ready", flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
