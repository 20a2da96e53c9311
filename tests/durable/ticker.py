"""A process that declares recurring entries, for tests: ``python -m tests.durable.ticker``.

Arguments: the store's file, and by how many seconds the process's clock is wrong. Each firing is a
line of ``FILE-fired``: entry and tick; each run of a job one of ``FILE-runs``. It ends with its
standard input.
"""

import os
import sys
import time
from typing import Any

from oddjob import Pool
from oddjob.durable.record import Entry
from oddjob.durable.sqlite.store import SqliteStore
from oddjob.schedule.clock import clock

PERIOD = 0.01
ENTRIES = ["one", "two"]
path = sys.argv[1] if len(sys.argv) > 1 else ""


def write(name: str, line: str) -> None:
    log = os.open(f"{path}-{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(log, f"{line}\n".encode())  # a single write: it is there, or it is not
    os.close(log)


def beat(name: str) -> None:
    write("runs", name)
    time.sleep(0.001)


class LoggingStore(SqliteStore):
    def fire_entry(self, entry: Entry, *args: Any, **options: Any) -> Any:
        submitted = super().fire_entry(entry, *args, **options)
        if submitted:
            write("fired", f"{entry.name} {entry.tick!r}")
        return submitted


def main(offset: float) -> None:
    from oddjob.durable import stores

    stores.SqliteStore = LoggingStore  # type: ignore[misc]
    clock.replace(clock.monotonic, lambda: time.time() + offset)
    pool = Pool("ticker", 2, store=f"sqlite:///{path}?durability=normal", keep_succeeded=100_000)
    for name in ENTRIES:
        pool.options(name=name).every(PERIOD, overlap=True).perform(beat, name)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(float(sys.argv[2]))
