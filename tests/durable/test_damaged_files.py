"""Files beside the database that are removed while processes use them, and what is in their way."""

import logging
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from oddjob.durable import trouble
from oddjob.durable.peers import FilePeers
from oddjob.durable.record import Capacity, State, Submit
from oddjob.durable.sqlite import database, transactions
from oddjob.durable.sqlite.store import SqliteStore
from oddjob.errors import StoreUnsafe, StoreUnusable
from tests.durable.member import PARTITION
from tests.hang import until

ROOT = Path(__file__).parents[2]
WAIT = 30.0
ALL = {"pool": Capacity(100, 100)}

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def folder(path: Path) -> Path:
    return path.with_name("jobs.db-oddjob")


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """Start a process, and wait until it is ready."""
    processes: list[subprocess.Popen[str]] = []

    def start(*command: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        processes.append(process)
        assert read(process) == "ready\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = joined(path)
    yield store
    store.leave()
    store.close()


def joined(path: Path) -> SqliteStore:
    store = SqliteStore(str(path))
    store.join({"pool": ["function"]}, 4)
    return store


def member(start: Start, kind: str, path: Path) -> "subprocess.Popen[str]":
    return start("-m", "tests.durable.member", kind, str(path), "log")


def read(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def submit(store: SqliteStore, count: int = 1) -> None:
    store.turn([], [Submit(PARTITION, b"x" * 1000, wants_outcome=False)] * count, {})


def stored_in(path: Path) -> list[str]:
    """Return what another process finds: whether the file is intact; how many jobs there are."""
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
        "print(*c.execute('PRAGMA integrity_check').fetchone(), "
        "*c.execute('SELECT count(*) FROM job').fetchone())"
    )
    command = [sys.executable, "-c", script, str(path)]
    return subprocess.check_output(command, text=True).split()


# The folder beside the database.


@pytest.mark.parametrize("what", ["lock", "folder"])
def test_nobody_takes_a_living_process_for_dead_without_its_lock(
    store: SqliteStore, path: Path, folder: Path, start: Start, what: str
) -> None:
    """Nor does one that comes later; and its death is noticed as ever."""
    submit(store)
    holder = member(start, "hold", path)
    assert read(holder) == "1\n"
    store.turn([], [], ALL)  # it meets the holder
    if what == "lock":
        (folder / "lock").unlink()
    else:
        shutil.rmtree(folder)
    other = joined(path)
    for each in (store, other, store):
        assert each.turn([], [], ALL).claims == []
        each.wait(0.0)
    assert {each.id for each in other.reader.members()} == {1, 2, 3}
    assert not store._peers.is_dead(3)
    holder.kill()
    taken = 0
    while not taken:
        taken = sum(map(store.takeover, store.wait(WAIT)))
    assert len(store.turn([], [], ALL).claims) == 1
    other.leave()
    other.close()


@pytest.mark.skipif(sys.platform != "linux", reason="mailboxes are files there")
@pytest.mark.parametrize("what", ["sockets", "folder"])
def test_a_sleeping_process_is_woken_though_its_socket_is_gone(
    store: SqliteStore, path: Path, folder: Path, start: Start, what: str
) -> None:
    """And has one again then."""
    idle = member(start, "idle", path)
    while read(idle).split()[:2] != ["woken", "0"]:
        pass
    if what == "sockets":
        for each in folder.glob("*.sock"):
            each.unlink()
    else:
        shutil.rmtree(folder)
    submit(store)
    while read(idle).split()[:2] != ["woken", "1"]:
        pass
    assert sorted(each.name for each in folder.glob("*.sock")) == ["1.sock", "2.sock"]
    assert (folder / "lock").exists()


def test_what_had_begun_is_known_after_the_folder_was_removed(
    store: SqliteStore, folder: Path
) -> None:
    submit(store)
    (claim,) = store.turn([], [], ALL).claims
    store.marks.mark(0, claim)
    mode = folder.stat().st_mode
    shutil.rmtree(folder)
    submit(store)
    assert store._peers.marks_of(1) == {(claim.id, claim.token)}
    assert folder.stat().st_mode == mode


def test_a_folder_that_cannot_be_made_again_is_said_to_be_missing(
    store: SqliteStore, folder: Path
) -> None:
    shutil.rmtree(folder)
    folder.write_text("in its place")
    for _ in range(3):
        with pytest.raises(StoreUnusable, match=r"removed .* and cannot be made again"):
            submit(store)
    folder.unlink()
    submit(store)


# The write-ahead log.


def test_a_log_that_is_removed_is_noticed_and_saved_in_the_end(path: Path) -> None:
    """What it has is in no other file yet, and nobody who comes later would see it."""
    store = joined(path)
    submit(store, 10)
    for each in path.parent.glob("jobs.db-*"):  # as rm -rf jobs.db-*
        if each.is_dir():
            shutil.rmtree(each)
        else:
            each.unlink()
    with pytest.raises(StoreUnusable, match=r"jobs\.db-wal was deleted.* Restart all"):
        submit(store)
    with pytest.raises(StoreUnusable, match=r"jobs\.db-wal was deleted.* Restart all"):
        store.reader.counts("pool")
    store.close()
    assert stored_in(path) == ["ok", "10"]


def test_a_log_that_was_removed_is_not_written_over_what_others_have_done(path: Path) -> None:
    """It would spoil the file."""
    store = joined(path)
    submit(store, 10)
    store._database.tidy()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    submit(store, 10)
    for name in ("jobs.db-wal", "jobs.db-shm"):
        path.with_name(name).unlink()
    script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('DELETE FROM job')"
    script += "; c.execute('CREATE TABLE theirs AS SELECT 1 AS x'); c.commit(); c.close()"
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    with pytest.raises(StoreUnusable):
        submit(store)
    store.close()
    assert stored_in(path) == ["ok", "0"]


def test_a_process_does_not_join_as_one_that_is_alive(
    store: SqliteStore, path: Path, folder: Path, start: Start
) -> None:
    """Its number comes again where the database was restored from a backup, or has lost its log."""
    member(start, "idle", path)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM process WHERE id = 2")
        connection.execute("UPDATE sqlite_sequence SET seq = 1 WHERE name = 'process'")
    connection.close()
    other = SqliteStore(str(path))
    with pytest.raises(StoreUnsafe, match=r"restored.*stop all of them first"):
        other.join({}, 0)
    other.close()
    assert (folder / "2.sock").exists()
    assert not store._peers.is_dead(2)


def test_a_file_that_is_written_over_is_said_to_be_no_database(path: Path) -> None:
    """As by a copy to the wrong place; the path still leads to the same file."""
    store = joined(path)
    submit(store)
    store._database.close_idle()  # as a fork does
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(StoreUnusable, match="is no SQLite database"):
        submit(store)
    store.close()


def test_a_connection_that_was_opened_in_vain_is_not_kept(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would go on without what a connection is told, and make checkpoints of its own."""
    store._database.close_idle()  # as a fork does
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(database, "_LONGEST_WAIT", 0.1)
        with pytest.raises(StoreUnusable, match="has been locked"):
            submit(store)
    submit(store)
    assert store._execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)


def test_a_job_that_begins_a_transaction_makes_no_new_file_where_the_store_was(
    path: Path,
) -> None:
    """Processes that come later would take it for an empty store."""
    store = joined(path)
    submit(store)
    (claim,) = store.turn([], [], ALL).claims
    path.unlink()
    with pytest.raises(StoreUnusable, match="was deleted"):
        store.transaction(claim).begin()
    assert not path.exists()
    store.close()


def test_a_connection_of_a_job_that_cannot_be_opened_is_one_error(path: Path) -> None:
    """Not a second one, "ignored in __del__"."""
    with pytest.raises(sqlite3.OperationalError):
        sqlite3.connect(path / "no folder", factory=transactions._JobConnection)


def test_a_job_is_not_stored_in_a_transaction_while_this_process_is_taken_for_dead(
    store: SqliteStore, path: Path
) -> None:
    """It would be committed, and its submitter hear that it was not."""
    other = joined(path)
    other.takeover(1)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
        with pytest.raises(StoreUnusable, match="end the transaction, and try again"):
            store.insert_into(connection, [Submit(PARTITION, b"")], [])
    assert other.reader.counts("pool")[State.QUEUED] == 0
    other.leave()
    other.close()


# What is in the way of writers.


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble, "_UNUSUAL", 0.05)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]


def test_a_foreign_transaction_that_holds_up_writers_is_said_once(
    store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture, impatient: None
) -> None:
    """And its end; as that of a shell was left open."""
    foreign = sqlite3.connect(path, isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    writer = threading.Thread(target=submit, args=[store])
    writer.start()
    until(lambda: bool(said(caplog)))
    foreign.execute("ROLLBACK")
    foreign.close()
    writer.join()
    submit(store)
    assert said(caplog) == [
        f"{path} has waited for 0.05 s to be written: {database._WHO_HOLDS_UP}",
        f"{path} can be written again",
    ]


def test_a_writer_that_gives_up_does_not_say_that_it_could_write(
    store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture,
    impatient: None, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def now() -> float:
        return 1000.0 if said(caplog) else 0.0

    monkeypatch.setattr(database, "time", SimpleNamespace(monotonic=now, sleep=time.sleep))
    with closing(sqlite3.connect(path, isolation_level=None)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnusable, match="has been locked"):
            submit(store)
    assert len(said(caplog)) == 1


STOPPED = """
import sys, time
from pathlib import Path
from oddjob.durable.peers import FilePeers
peers = FilePeers(Path(sys.argv[1]))
peers.lock()
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody tells who has a lock")
def test_a_process_that_is_stopped_in_the_middle_of_writing_is_named(
    store: SqliteStore,
    path: Path,
    folder: Path,
    start: Start,
    caplog: pytest.LogCaptureFixture,
    impatient: None,
) -> None:
    stopped = start("-c", STOPPED, str(folder))
    stopped.send_signal(signal.SIGSTOP)
    writer = threading.Thread(target=submit, args=[store])
    writer.start()
    until(lambda: bool(said(caplog)))
    assert f"{path} has waited for 0.05 s to be written: process {stopped.pid} " in said(caplog)[0]
    stopped.kill()
    writer.join()
    until(lambda: len(said(caplog)) == 2)


def test_threads_that_wait_for_their_turn_get_it_though_files_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "jobs.db-oddjob"
    folder.mkdir()
    peers = FilePeers(folder)
    peers.enter(1)
    errors: list[BaseException] = []

    def write() -> None:
        try:
            peers.lock()
            peers.unlock()
        except BaseException as error:
            errors.append(error)

    peers.lock()
    threads = [threading.Thread(target=write) for _ in range(8)]
    for each in threads:
        each.start()
    until(lambda: len(peers._lock_file._hold_up._since) == len(threads))
    shutil.rmtree(folder)
    peers.unlock()
    for each in threads:
        each.join()
    peers.close()
    assert errors == []
