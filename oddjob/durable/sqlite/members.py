"""Members: the rows of the processes that have joined, and of what they run.

Each function is part of a transaction of its caller.
"""

import os
from collections.abc import Iterable

from oddjob.durable.record import host_name
from oddjob.durable.sqlite.partitions import Execute

_ADD = "INSERT INTO process (host, pid, place, joined, version) VALUES (?, ?, ?, ?, ?) RETURNING id"
_NOT_STRANDED = "UPDATE partition SET stranded = NULL WHERE pool = ? AND function = ?"
_LEARN = "INSERT OR IGNORE INTO known (pool, function, process) VALUES (?, ?, ?)"


def add(execute: Execute, now: float, place: str) -> int:
    """Add this process, whose peers find it at `place`; return its number. See `Peers.place`."""
    from oddjob import __version__  # not before: the package imports this module

    values = (host_name(), os.getpid(), place, now, __version__)
    ((number,),) = execute(_ADD, values).fetchall()
    return int(number)


def learn(execute: Execute, process: int | None, pool: str, functions: Iterable[str]) -> None:
    """Note that a process runs jobs of these functions of a pool."""
    if not execute("SELECT 1 FROM consumer WHERE pool = ?", (pool,)).fetchone():
        execute("UPDATE partition SET stranded = NULL WHERE pool = ?", (pool,))
    execute("INSERT OR IGNORE INTO consumer (pool, process) VALUES (?, ?)", (pool, process))
    for function in functions:
        execute(_NOT_STRANDED, (pool, function))
        execute(_LEARN, (pool, function, process))


def forget(execute: Execute, process: int | None, pool: str) -> None:
    """Note that a process runs no more jobs of a pool."""
    for table in ("consumer", "known"):
        execute(f"DELETE FROM {table} WHERE pool = ? AND process = ?", (pool, process))  # noqa: S608


def remove(execute: Execute, process: int) -> bool:
    """Remove a process and all that is about it; return False if that has been done before."""
    for table in ("consumer", "known", "news", "watch", "room"):
        execute(f"DELETE FROM {table} WHERE process = ?", (process,))  # noqa: S608
    return bool(execute("DELETE FROM process WHERE id = ?", (process,)).rowcount)
