"""Findings: what may be wrong with a store, and what to do about it.

Guarantees: nothing is changed, though it is tried whether the store can be written; and nothing is
unpickled. What cannot be found out is left out.
"""

import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from shutil import disk_usage
from typing import Final, Literal, NamedTuple

from oddjob import __version__
from oddjob.durable.sqlite import schema
from oddjob.durable.sqlite.location import version_at
from oddjob.errors import StoreUnusable
from oddjob.operations.application import find_function
from oddjob.operations.phrases import counted
from oddjob.operations.record import Record
from oddjob.operations.stores import StoreOperations, file_of, min_replicas_of
from oddjob.schedule.clock import clock

_LITTLE_SPACE: Final = 1 << 30  # bytes
_NO_SPACE: Final = 100 << 20
_SAMPLE: Final = 1000  # jobs whose functions are looked for
_LONG: Final = 3600.0  # seconds
_CLOCKS_DIFFER: Final = 2.0  # seconds
_NEARLY_FULL: Final = 0.9
_PICKLE: Final = b"\x80\x05"  # what an unsigned pickle begins with


class Finding(NamedTuple):
    """Something that was looked at: how it is, and what to do if it is not well."""

    status: Literal["ok", "warn", "fail"]
    what: str
    advice: str = ""


class Schema(NamedTuple):
    """The version of a store's schema, and the one that this library makes of it."""

    found: int
    known: int


def schema_of(url: str) -> Schema | None:
    """Return the version of a store's schema, without opening it; None if it is no file.

    Raises:
        StoreUnusable: there is none, or it is not ours.
    """
    file = file_of(url)
    if file is None:
        return None
    if not file.exists():
        raise StoreUnusable(f"there is no store {file}")
    try:
        version = version_at(file)
    except sqlite3.Error as error:
        raise StoreUnusable(f"{file} cannot be read: {error}") from error
    if version is None:
        raise StoreUnusable(f"there is no store {file}: it is a database of another program")
    return Schema(version, schema.VERSION)


def findings(
    url: str, *, imports: bool = True, opened: StoreOperations | None = None
) -> Iterator[Finding]:
    """Look at a store, and at what uses it.

    Args:
        url: as for ``Pool(store=…)``.
        opened: the store, if it is open already; it stays open.
        imports: whether functions of waiting jobs are imported, to see if that can be done here.
    """
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("ok", f"oddjob {__version__}, Python {python}, SQLite {sqlite3.sqlite_version}")
    try:
        found, file = schema_of(url), file_of(url)
        if found is not None and file is not None:
            what = f"the store has schema {found.found}; this version knows {found.known}"
            yield Finding("ok", what)
            yield from _of_file(file)
        with StoreOperations(url) if opened is None else nullcontext(opened) as store:
            yield _of_writing(store)
            server = store.server()
            if server:
                yield from _of_server(server)
                if wanted := min_replicas_of(url):
                    yield _of_replicas(server, wanted)
            yield from _of_pools(store, imports=imports, is_server=bool(server))
    except (StoreUnusable, OSError) as error:
        yield Finding("fail", str(error))


def _of_writing(store: StoreOperations) -> Finding:
    try:
        store.try_write()
    except OSError as error:
        return Finding("fail", f"the store cannot be written: {error}")
    return Finding("ok", "the store can be written")


def _of_file(file: Path) -> Iterator[Finding]:
    free = disk_usage(file.parent).free
    status: Literal["ok", "warn", "fail"] = "ok"
    if free < _LITTLE_SPACE:
        status = "warn" if free >= _NO_SPACE else "fail"
    yield Finding(status, f"{free / (1 << 30):,.1f} GiB of space are free for it",
                  "make room: without it no job can be stored")  # fmt: skip
    mode = file.stat().st_mode & 0o777
    if mode & 0o002:
        yield Finding("fail", f"every user of the machine may write it ({mode:o})",
                      f"chmod o-rw {file}: they could run code in your processes")  # fmt: skip
    elif mode & 0o004:
        yield Finding("warn", f"every user of the machine may read it ({mode:o})",
                      f"chmod o-rw {file}: it has the arguments of jobs")  # fmt: skip
    else:
        yield Finding("ok", f"other users cannot read it ({mode:o})")
    wal = Path(f"{file}-wal")
    size = wal.stat().st_size if wal.exists() else 0
    if size > 64 << 20:
        yield Finding("warn", f"its write-ahead log has {size >> 20} MiB",
                      "end what holds a transaction on it open")  # fmt: skip


def _of_server(server: dict[str, str]) -> Iterator[Finding]:
    """Look at what a server says of itself; others that speak its protocol may say less."""
    name = "Valkey" if "valkey_version" in server else "Redis"
    version = server.get("valkey_version", server.get("redis_version", "of an unknown version"))
    yield Finding("ok", f"the server is {name} {version}")
    used, most = int(server.get("used_memory", 0)), int(server.get("maxmemory", 0))
    policy = server.get("maxmemory_policy")
    if policy == "noeviction":
        yield Finding("ok", "it deletes nothing when its memory is full (maxmemory-policy)")
    elif policy is not None:
        yield Finding("fail" if most else "warn",
                      f"it deletes jobs when its memory is full (maxmemory-policy is {policy})",
                      "set it to noeviction, now and in redis.conf")  # fmt: skip
    if used > _NEARLY_FULL * most > 0:
        yield Finding("fail" if used > most else "warn",
                      f"{used / most:.0%} of its memory is used (maxmemory is {most:,} bytes)",
                      "make room: without it no job can be stored")  # fmt: skip
    synced = server.get("appendfsync")
    if server.get("aof_enabled") == "0":
        yield Finding("warn", "jobs since its last snapshot are lost when it ends (there is no "
                      "append-only file)", "set appendonly yes, now and in redis.conf")  # fmt: skip
    elif synced == "no":
        yield Finding("warn", "its latest jobs are lost when its machine loses power (appendfsync "
                      "is no)", "set it to everysec, or to always")  # fmt: skip
    elif synced is not None:
        lost = "nothing" if synced == "always" else "about a second of jobs"
        yield Finding("ok", f"{lost} is lost if its machine loses power (appendfsync is {synced})")
    ahead = clock.wall() - float(server["time"])
    if abs(ahead) > _CLOCKS_DIFFER:
        way = "ahead of" if ahead > 0 else "behind"
        yield Finding("warn", f"this machine's clock is {abs(ahead):,.0f} s {way} the server's",
                      "set both by NTP: at(…) goes by this machine's")  # fmt: skip
    else:
        yield Finding("ok", "its clock and this machine's agree")


def _of_replicas(server: dict[str, str], wanted: int) -> Finding:
    count = sum("state=online" in each for each in server.values())
    what = f"it has {counted(count, 'replica')}, and {wanted} {'is' if wanted == 1 else 'are'}"
    return Finding("ok" if count >= wanted else "fail", f"{what} to have what is acknowledged",
                   "start more of them, or have fewer as min_replicas of the URL")  # fmt: skip


def _of_pools(store: StoreOperations, *, imports: bool, is_server: bool) -> Iterator[Finding]:
    runners = store.runners()
    for name, pool in store.pools().items():
        counts = pool.counts()
        waiting, where = counts["queued"], f"pool {name}"
        if pool.is_paused:
            why = pool.pause_reason and f" ({pool.pause_reason})"
            yield Finding("warn", f"{where} is paused{why}; {counted(waiting)} waiting",
                          f"oddjob resume {name}")  # fmt: skip
        if waiting and not any(name in each.pools for each in runners):
            yield Finding("warn", f"{where}: {counted(waiting)} waiting, and no process runs any",
                          "oddjob worker MODULE")  # fmt: skip
        elif not pool.is_paused:
            yield Finding("ok", f"{where}: {waiting:,} waiting, {counts['running']:,} running")
        if failed := pool.ended_since(_LONG)["failed"]:
            yield Finding("warn", f"{where}: {counted(failed)} failed in the last hour",
                          f"oddjob list --pool {name} --state failed")  # fmt: skip
        for job in islice(pool.records(state="running"), _SAMPLE):
            if (job.ran or 0.0) > _LONG:
                yield Finding("warn", f"{where}: job {job.id} ({job.name}) has run for over an "
                              "hour", f"oddjob show {job.id}")  # fmt: skip
        waiting_jobs = list(islice(pool.records(state="queued"), _SAMPLE))
        yield from _of_waiting(where, waiting_jobs, imports=imports, is_server=is_server)


def _of_waiting(
    where: str, jobs: list[Record], *, imports: bool, is_server: bool
) -> Iterator[Finding]:
    if unsigned := is_server and sum(job.payload.startswith(_PICKLE) for job in jobs):
        yield Finding("fail", f"{where}: {counted(unsigned)} with unsigned pickle, which will fail "
                      "unread", "find out who writes to the server")  # fmt: skip
    for function, number in Counter(job.function for job in jobs if imports).items():
        try:
            find_function(function)
        except Exception as error:
            yield Finding("warn", f"{where}: {counted(number)} of {function}, which cannot "
                          f"be imported here ({error})",
                          "are you in the program's folder, and its environment?")  # fmt: skip
