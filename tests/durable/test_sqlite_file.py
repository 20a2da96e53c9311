"""The file of a SQLite store: what is refused, how it is written, and what forks do to it."""

import os
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oddjob.durable.peers import _boot
from oddjob.durable.record import Capacity, Dependency, Partition, Reference, State, Submit, Update
from oddjob.durable.sqlite import location, schema
from oddjob.durable.sqlite.store import SqliteStore
from oddjob.durable.store import Filter
from oddjob.errors import StoreFull, StoreUnsafe, StoreUnusable

ROOT = str(Path(__file__).parents[2])
PARTITION = Partition("pool", "function")
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
    turn = store.turn([], [Submit(PARTITION, payload) for _ in range(count)], {})
    return [each.id for each in turn.submitted]


# Files that are no stores, and places that are not fit for one.


def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    joined(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE oddjob_schema SET version = {schema.VERSION + 1}")
    connection.close()
    with pytest.raises(StoreUnusable, match="newer version"):
        SqliteStore(str(path))


def test_a_file_of_the_first_version_is_migrated(path: Path) -> None:
    """Its jobs run, and others can wait for them."""
    with sqlite3.connect(path) as connection:
        connection.executescript(
            f"{schema.CREATE.partition(schema.MIGRATIONS[1])[0]}"
            "PRAGMA application_id = 0x6F646A62; PRAGMA user_version = 1"
        )
        connection.executescript(
            "INSERT INTO partition (pool, function, limiters) VALUES ('pool', 'function', '');"
            "INSERT INTO job (partition, pool, state, priority, created, name, payload)"
            " VALUES (1, 'pool', 1, 0, 0, '', '')"
        )
    connection.close()
    store = joined(path)
    after = (Dependency(Reference(1)),)
    (job,) = store.turn([], [Submit(PARTITION, b"", after=after)], {}).submitted
    (claim,) = store.turn([], [], {PARTITION.pool: Capacity(9, 9)}).claims
    update = Update(claim, State.SUCCEEDED)
    (claim,) = store.turn([update], [], {PARTITION.pool: Capacity(9, 9)}).claims
    assert claim.id == job.id
    store.leave()
    store.close()


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreUnusable, match="no SQLite database"):
        SqliteStore(str(path))


def test_a_directory_that_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(StoreUnusable, match="does its directory exist"):
        SqliteStore(str(path.parent / "none" / "jobs.db"))


@pytest.mark.parametrize("kind", ["nfs4", "virtiofs", "9p", "cifs"])
def test_a_network_file_system_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Locks do not reach everywhere there, and the file would be corrupted (fault 7)."""
    monkeypatch.setattr(location, "_file_system_of", lambda _: kind)
    with pytest.raises(StoreUnsafe, match=rf"{kind}.*named volume.*Redis"):
        SqliteStore(str(path))
    assert list(path.parent.iterdir()) == []
    store = SqliteStore(str(path), allow_network_filesystem=True)
    store.close()


def test_the_kind_of_a_file_system_is_that_of_the_nearest_mount(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also behind a symbolic link, and with a space in its name."""
    mounts = r"""22 1 8:1 / / rw - ext4 /dev/a rw
23 22 0:5 / /far\040away rw,noexec - nfs4 server:/ rw
24 23 8:2 / /far\040away/near rw - ext4 /dev/b rw"""
    monkeypatch.setattr(Path, "read_text", lambda _: mounts)
    kinds = {"/": "ext4", "/far away": "nfs4", "/far away/x": "nfs4", "/far away/near/x": "ext4"}
    assert {place: location._file_system_of(Path(place)) for place in kinds} == kinds
    asked: list[Path] = []
    monkeypatch.setattr(location, "_file_system_of", lambda place: asked.append(place) or "")
    (path.parent / "real").mkdir()
    (path.parent / "link").symlink_to("real")
    location.check_file_system(str(path.parent / "link" / "jobs.db"))
    assert asked == [path.parent.resolve() / "real"]


# Forks.

FORK = """
import gc, os, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.durable.test_sqlite_file import joined, submit
path = Path({path!r})
store = joined(path)
ids = submit(store, 3)
for turn in range({rounds}):
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
    open(path).close()  # gives up this process's locks
    ids += submit(store, 10)
os._exit(0)
"""


def test_a_forked_child_leaves_the_inherited_connection_alone(path: Path) -> None:
    """Its end would delete the parent's write-ahead log (fault 6)."""
    rounds = 50 if "ODDJOB_STRESS_ROUNDS" in os.environ else 5
    code = FORK.format(root=ROOT, path=str(path), rounds=rounds)
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)
    store = joined(path)
    jobs = 3 + rounds * 10 + rounds // 2
    assert len(store.reader.records("pool", Filter(), limit=10_000)) == jobs
    assert store._execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store.leave()
    store.close()


FORK_WHILE_BUSY = """
import os, signal, sqlite3, sys, threading
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.durable.test_sqlite_file import joined, submit
path = Path({path!r})
store = joined(path, is_durable=False)
is_over = threading.Event()
def work():
    while not is_over.is_set():
        submit(store, 50, b"x" * 3000)
thread = threading.Thread(target=work)
thread.start()
for _ in range({rounds}):
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # it is ended if it hangs
        sqlite3.connect(":memory:").execute("SELECT * FROM sqlite_schema").fetchall()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
is_over.set()
thread.join()
os._exit(0)
"""


def test_a_child_of_a_busy_process_can_use_sqlite(path: Path) -> None:
    """A mutex that another thread held at the fork would be locked in the child forever."""
    rounds = 500 if "ODDJOB_STRESS_ROUNDS" in os.environ else 20
    code = FORK_WHILE_BUSY.format(root=ROOT, path=str(path), rounds=rounds)
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


FORK_IN_USE = """
import os, sys, threading
sys.path.insert(0, {root!r})
from oddjob.durable.sqlite.fork_guard import in_sqlite
entered, leaving = threading.Event(), threading.Event()
order = []
def use():
    with in_sqlite:
        entered.set()
        leaving.wait()
        order.append("left")
thread = threading.Thread(target=use)
thread.start()
entered.wait()
os.register_at_fork(before=leaving.set)  # runs before the guard's
with in_sqlite:  # one's own does not count
    child = os.fork()
    order.append("forked")
    with in_sqlite:
        pass
if child == 0:
    with in_sqlite:
        os._exit(order != ["left", "forked"])
assert os.waitpid(child, 0)[1] == 0
thread.join()
with in_sqlite:
    os._exit(order != ["left", "forked"])
"""


def test_a_fork_waits_for_threads_that_use_sqlite() -> None:
    code = FORK_IN_USE.format(root=ROOT)
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


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
    code = OPENED.format(root=ROOT, path=str(path))
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


READ_ONLY = """
import fcntl, os, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.durable.test_sqlite_file import joined
from oddjob.errors import StoreUnusable
if os.getuid() == 0:  # who may write everywhere
    os.setuid(65534)
try:
    joined(Path({path!r}))
except StoreUnusable as error:
    print(error)
"""


@pytest.mark.parametrize(
    "name", ["jobs.db", "jobs.db-wal", "jobs.db-shm", "jobs.db-oddjob", "jobs.db-oddjob/lock"]
)
def test_a_file_that_may_not_be_written_is_named_with_its_mode(name: str) -> None:
    """As when two users of a machine share a store, whose files belong to one of them."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        store = joined(path / "jobs.db")
        for each in (path, *path.rglob("*")):
            each.chmod(0o777)
        (path / name).chmod(0o555)
        code = READ_ONLY.format(root=ROOT, path=str(path / "jobs.db"))
        said = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60)
        assert f"{path / name} is not writable: it belongs to user {os.getuid()}" in said
        assert "with mode 0555, and this process runs as user" in said
        (path / name).chmod(0o777)
        store.leave()
        store.close()


# Several members in one process.

IS_DEAD = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from oddjob.durable.peers import FilePeers
peers = FilePeers(Path({path!r} + "-oddjob"))
print([peers.is_dead(process) for process in (1, 2)])
"""


def test_a_file_may_have_two_names_in_one_process(path: Path) -> None:
    """What one of them closes leaves the other one's locks alone (fault 5)."""
    path.with_name("link.db-oddjob").symlink_to("jobs.db-oddjob")
    path.with_name("link.db").symlink_to("jobs.db")
    first, second = joined(path), joined(path.with_name("link.db"))
    assert not first._peers.is_dead(2)
    assert not second._peers.is_dead(1)
    first.leave()
    first.close()
    code = IS_DEAD.format(root=ROOT, path=str(path))
    output = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60)
    assert output == "[True, False]\n"
    assert submit(second)
    second.leave()
    second.close()


def test_a_number_may_come_again_after_a_loss_of_power(path: Path) -> None:
    """What is left of its files says nothing about the new process."""
    directory = path.with_name("jobs.db-oddjob")
    directory.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mailbox:
        mailbox.bind(str(directory / "1.sock"))
    marks = struct.pack("=qq", 1, 1) * 4096 + _boot()  # as if job 1 ran
    (directory / "1.started").write_bytes(marks)
    store = joined(path)
    (job,) = submit(store)
    (claim,) = store.turn([], [], ALL).claims
    assert ((job, claim.token), store._me) == ((1, 1), 1)
    assert store._peers.marks_of(1) == set()
    store.marks.mark(0, claim)
    assert store._peers.marks_of(1) == {(1, 1)}
    (directory / "1.started").write_bytes(marks[:-40] + b"of another boot".ljust(40))
    assert store._peers.marks_of(1) == set()
    store.leave()
    store.close()


def test_a_process_that_could_not_join_is_not_alive(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one gets its number, and would wait for its lock for ever."""
    store = joined(path)
    other = SqliteStore(str(path))

    def learn(pool: str, functions: object) -> None:
        raise StoreFull("no space left")

    monkeypatch.setattr(other, "_learn", learn)
    with pytest.raises(StoreFull):
        other.join({"pool": ["function"]}, 4)
    assert store._peers.is_dead(2)
    third = joined(path)
    assert {member.id for member in third.reader.members()} == {1, 2}
    for each in (third, store):
        each.leave()
    for each in (third, other, store):
        each.close()
