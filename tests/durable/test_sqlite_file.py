"""The file of a SQLite store: what is refused, how it is written, and what forks do to it."""

import gc
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oddjob.durable.record import Capacity, Lane, State, Submit, Update
from oddjob.durable.sqlite import location, schema
from oddjob.durable.sqlite.store import SqliteStore
from oddjob.durable.store import Filter
from oddjob.errors import StoreFull, StoreUnsafe, StoreUnusable

LANE = Lane("pool", "function")
ALL = {"pool": Capacity(100, 100)}


def joined(path: Path, **options: Any) -> SqliteStore:
    store = SqliteStore(str(path), **options)
    store.join({"pool": ["function"]}, 4)
    return store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = joined(path)
    yield store
    store.leave()
    store.close()


def submit(store: SqliteStore, count: int = 1, payload: bytes = b"") -> list[int]:
    turn = store.turn([], [Submit(LANE, payload) for _ in range(count)], {})
    return [each.id for each in turn.submitted]


# Files that are no stores, and places that are not fit for one.


def test_a_database_of_another_program_is_refused_and_left_as_it_was(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreUnusable, match="another program"):
        SqliteStore(str(path))
    assert path.read_bytes() == before


def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    joined(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    with pytest.raises(StoreUnusable, match="newer version"):
        SqliteStore(str(path))


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreUnusable, match="no SQLite database"):
        SqliteStore(str(path))


def test_a_network_file_system_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(location, "_file_system_of", lambda _: "nfs4")
    with pytest.raises(StoreUnsafe, match=r"nfs4.*named volume"):
        SqliteStore(str(path))
    assert not path.exists()


def test_the_kind_of_a_file_system_is_that_of_the_nearest_mount() -> None:
    assert location._file_system_of(Path("/proc/self")) == "proc"
    assert location._file_system_of(Path("/dev/shm")) in ("tmpfs", "shm", "")


# Writing.


def test_every_write_is_an_immediate_transaction_in_the_writers_turn(path: Path) -> None:
    """A deferred one that reads first fails at once beside another writer (fault 1)."""
    store = joined(path)
    statements: list[str] = []
    store._database.connection.set_trace_callback(statements.append)
    (job, other) = submit(store, 2)
    (claim, _) = store.turn([], [], ALL).claims
    store.turn([Update(claim, State.FAILED)], [], ALL)
    store.retry([job])
    store.cancel([other])
    store.pause("pool", is_paused=True)
    store.purge("pool", 0, time.time(), 10)
    store.leave()
    begins = {each.strip().upper() for each in statements if "BEGIN" in each.upper()}
    assert begins == {"BEGIN IMMEDIATE"}
    is_open = False
    for statement in statements:
        word = statement.split()[0].upper()
        is_open = word == "BEGIN" or (is_open and word not in ("COMMIT", "ROLLBACK"))
        assert is_open or word in ("COMMIT", "ROLLBACK", "PRAGMA", "SELECT"), statement
    store.close()


def test_no_connection_checkpoints_by_itself(store: SqliteStore) -> None:
    """A checkpoint beside a commit can corrupt the file in SQLite before 3.51.3 (fault 4)."""
    assert store._execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
    assert store._execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_write_ahead_log_stays_small(store: SqliteStore, path: Path) -> None:
    for _ in range(100):
        submit(store, 200, b"x" * 1000)
        store.wait(0.0)
    assert path.with_name("jobs.db-wal").stat().st_size < 32 << 20


def test_a_foreign_writer_is_waited_for(store: SqliteStore, path: Path) -> None:
    """No user sees "database is locked" (fault 2)."""
    foreign = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    foreign.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, foreign.execute, ["COMMIT"]).start()
    assert submit(store)
    foreign.close()


def test_a_full_disk_refuses_new_jobs_and_leaves_nothing(store: SqliteStore) -> None:
    (job,) = submit(store)
    (claim,) = store.turn([], [], ALL).claims
    pages = store._execute("PRAGMA page_count").fetchone()[0]
    store._execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(StoreFull, match="no space left"):
        submit(store, 100, b"x" * 1000)
    store._execute("PRAGMA max_page_count = 1000000")
    assert [record.id for record in store.reader.records("pool", Filter())] == [job]
    assert not store.turn([Update(claim, State.SUCCEEDED)], [], ALL).refused
    assert submit(store)


HOT = [
    (name, text)
    for name, text in vars(schema).items()
    if name.isupper() and isinstance(text, str) and re.match(r"\s*(SELECT|UPDATE|DELETE)", text)
]


@pytest.mark.parametrize(("name", "statement"), HOT, ids=[name for name, _ in HOT])
def test_no_hot_statement_scans_or_sorts(store: SqliteStore, name: str, statement: str) -> None:
    """However many jobs there are that it does not want (faults 10 and 23)."""
    values = [0] * statement.count("?")
    plan = [row[3] for row in store._execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    if name in ("RECORD", "ENTRY"):  # their conditions are the caller's
        return
    for line in plan:
        small = ("json_each", "VIRTUAL TABLE", "sqlite_sequence", "CONSTANT ROW", "SCAN room")
        assert not line.startswith("SCAN") or any(each in line for each in small), plan
        assert "TEMP B-TREE" not in line, plan


# Forks.

FORK = """
import gc, os, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.durable.test_sqlite_file import joined, submit
path = Path({path!r})
store = joined(path)
ids = submit(store, 3)
for turn in range(5):
    child = os.fork()
    if child == 0:
        gc.collect()
        if turn % 2:
            other = joined(path)
            submit(other, 1)
            other.leave()
            other.close()
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    open(path).close()  # whoever does that gives up this process's locks
    ids += submit(store, 10)
os._exit(0)
"""


def test_a_forked_child_leaves_the_inherited_connection_alone(path: Path) -> None:
    """Its end would delete the parent's write-ahead log (fault 6)."""
    root = str(Path(__file__).parents[2])
    code = FORK.format(root=root, path=str(path))
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)
    gc.collect()
    store = joined(path)
    assert len(store.reader.records("pool", Filter(), limit=1000)) == 3 + 5 * 10 + 2
    assert store._execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store.leave()
    store.close()


OPENED = """
import sys
sys.path.insert(0, {root!r})
opened = []
sys.addaudithook(lambda name, args: opened.append(str(args[0])) if name == "open" else None)
from pathlib import Path
from tests.durable.test_sqlite_file import joined, submit, ALL
store = joined(Path({path!r}))
submit(store)
store.turn([], [], ALL)
store.reader.counts("pool")
store.leave()
store.close()
mine = [each for each in opened if each.endswith((".db", ".db-wal", ".db-shm"))]
assert mine == [], mine
"""


def test_nobody_but_sqlite_opens_its_files(path: Path) -> None:
    """To close any descriptor of them gives up all of SQLite's locks (fault 5)."""
    code = OPENED.format(root=str(Path(__file__).parents[2]), path=str(path))
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_file_that_is_not_writable_is_refused(path: Path) -> None:
    joined(path).close()
    path.chmod(0o444)
    with pytest.raises(StoreUnusable, match="not writable"):
        joined(path)
