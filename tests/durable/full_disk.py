"""A program that runs out of disk space, on a small disk of its own: see test_full_disk.py.

``python -c "from tests.durable.full_disk import main; main()" DIRECTORY``, as the root of a mount
namespace of its own.
"""

import logging
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import oddjob
from oddjob.errors import StoreFull

NO_MOUNT = 77  # exit status
WAIT = 30.0

runs: list[int] = []
entered = threading.Semaphore(0)
gate = threading.Event()


def work(number: int, size: int) -> bytes:
    """Run until there is no space for the result."""
    runs.append(number)
    entered.release()
    gate.wait(WAIT)
    return b"y" * size


def note(number: int, _payload: bytes = b"") -> int:
    runs.append(number)
    return number


class Lines(logging.Handler):
    """What is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.has_come = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.has_come.set()


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as ballast:
        for size in (65536, 4096, 512):
            try:
                while ballast.write(b"x" * size):
                    pass
            except OSError:
                continue


def main() -> None:
    directory = Path(sys.argv[1])
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(directory)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        sys.exit(NO_MOUNT)
    log = Lines()
    logging.getLogger("oddjob").addHandler(log)
    pool = oddjob.Pool("small", 2, store=f"sqlite:///{directory}/jobs.db")
    running = [pool.submit(work, number, 300_000) for number in range(2)]
    for _ in running:
        assert entered.acquire(timeout=WAIT)
    fill(directory / "ballast")
    accepted = []
    refused = 0
    for number in range(2, 40):
        try:
            accepted.append(pool.submit(note, number, b"x" * 50_000))
        except StoreFull as error:
            assert "no space left" in str(error)
            refused += 1
    assert refused > 20
    gate.set()
    assert log.has_come.wait(WAIT)
    for number in range(40, 60):  # turns that cannot store the outcomes either
        with suppress(StoreFull):
            accepted.append(pool.submit(note, number, b"x" * 50_000))
    assert not any(job.done() for job in running)
    (directory / "ballast").unlink()
    assert pool.submit(note, 99).result(WAIT) == 99
    assert [len(job.result(WAIT)) for job in running] == [300_000] * 2
    assert sorted(job.result(WAIT) for job in accepted) == sorted(set(runs) - {0, 1, 99})
    assert len(runs) == len(set(runs)) == len(accepted) + 3, runs
    pool.shutdown()
    assert len(log.lines) == 2, log.lines
    assert "will go on trying" in log.lines[0]
    assert "can be used again" in log.lines[1]
