"""Where a store may be, and whether its files are still those that were opened."""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from oddjob.durable.local_peers import LocalPeers
from oddjob.durable.lock_file import Identity, identity_of, status_of
from oddjob.durable.peers import FilePeers, Peers
from oddjob.durable.sqlite import schema
from oddjob.durable.sqlite.fork_guard import in_sqlite
from oddjob.errors import StoreFull, StoreUnsafe, StoreUnusable

# Where SQLite's locks and shared memory may reach no other machine, or no other container.
_NETWORK_FILE_SYSTEMS: Final = (
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "ceph", "afs", "lustre", "gfs2"),
    *("fuse.sshfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.gcsfuse", "fuse.osxfs"),
    *("fuse.grpcfuse", "fakeowner"),
)


def open_peers(path: str, *, allow_network_filesystem: bool) -> Peers:
    """Return the peers of a database: those of the directory beside it, which is made if needed.

    Raises:
        StoreUnsafe: the database is on a network file system, as far as Linux says so.
        StoreUnusable: the directory cannot be used.
    """
    if path == ":memory:":
        return LocalPeers()
    if not allow_network_filesystem:
        check_file_system(path)
    if Path(path).is_dir():
        raise StoreUnusable(f"{path} is a directory: give the path of a file, such as one in it")
    directory = Path(f"{path}-oddjob")
    if not directory.exists():  # a file that is refused is left without one
        _check_content(path)
    try:
        directory.mkdir(exist_ok=True)
        for each in (path, f"{path}-wal", f"{path}-shm", directory, directory / "lock"):
            _check_writable(Path(each))
        return FilePeers(directory)
    except StoreUnusable:
        raise
    except OSError as error:
        raise StoreUnusable(
            f"{path} cannot be opened: does its directory exist, and may this process write there? "
            f"({error})"
        ) from error


def _check_writable(file: Path) -> None:
    """Refuse a file of another user's, of which SQLite would say less.

    Raises:
        StoreUnusable: this process may not write it.
    """
    if file.exists() and not os.access(file, os.R_OK | os.W_OK):
        status = file.stat()
        raise StoreUnusable(
            f"{file} is not writable: it belongs to user {status.st_uid} (group {status.st_gid}) "
            f"with mode {status.st_mode & 0o777:04o}, and this process runs as user {os.getuid()}. "
            "All users of a store need to read and write the database and the files beside it"
        )


def check_file_system(path: str) -> None:
    """Raise `StoreUnsafe`, which says what to do, if a file is on a network file system."""
    kind = _file_system_of(Path(path).resolve().parent)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise StoreUnsafe(
            f"{path} is on a network file system ({kind}), where locks cannot be relied on: put it "
            "on a local disk (in a container: a named volume), or use Redis"
        )


def _file_system_of(directory: Path) -> str:
    """Return the kind of file system that a directory is on; empty where that is not known."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    kinds: dict[str, str] = {}
    for mount in mounts:
        before, _, after = mount.partition(" - ")
        place = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), before.split()[4])
        kinds[place] = after.split()[0]  # a later mount hides an earlier one
    places = map(str, (directory, *directory.parents))
    return next((kinds[place] for place in places if place in kinds), "")


def version_at(path: Path) -> int | None:
    """Return the version of the tables in a file; None if there is no store, or no file.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    if not path.exists():
        return None
    with _looking_at(path) as connection:
        return schema.version_in(connection)


@contextmanager
def _looking_at(path: Path) -> Iterator[sqlite3.Connection]:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with in_sqlite, closing(sqlite3.connect(uri, uri=True)) as connection:
        yield connection


def check_is_ours(path: str, connection: sqlite3.Connection) -> tuple[int | None, set[str]]:
    """Return the version of the store in a database, and the names that others have in it.

    Without a store, the version is None.

    Raises:
        StoreUnusable: no store of this version can be there.
        sqlite3.Error: it cannot be read.
    """
    version = schema.version_in(connection)
    if version is None:
        query = "SELECT lower(name) FROM sqlite_schema"
        others = {name for (name,) in connection.execute(query)}
        if taken := sorted(others & schema.names()):
            raise StoreUnusable(
                f"{path} is a database of another program, which has names that a store "
                f"needs ({', '.join(taken)}): choose another file"
            )
        return None, others
    if version > schema.VERSION:
        raise StoreUnusable(
            f"{path} was written by a newer version of oddjob (its schema is {version}, this "
            f"version knows {schema.VERSION}): update oddjob"
        )
    return version, set()


def _check_content(path: str) -> None:
    """Refuse a file, if there is one, that cannot be a store."""
    try:
        if Path(path).exists():
            with _looking_at(Path(path)) as connection:
                check_is_ours(path, connection)
    except sqlite3.Error as error:
        if code_of(error) == sqlite3.SQLITE_NOTADB:
            raise translated(path, error) from error  # others may pass


def translated(path: str, error: sqlite3.Error) -> Exception:
    """Return what to raise for an error of SQLite's."""
    if code_of(error) == sqlite3.SQLITE_FULL:
        return StoreFull(f"no space left for {path}")
    what = {
        sqlite3.SQLITE_NOTADB: "is no SQLite database",
        sqlite3.SQLITE_CORRUPT: "is damaged: restore it from a backup",
        sqlite3.SQLITE_READONLY: "is not writable",
        sqlite3.SQLITE_CANTOPEN: "cannot be opened: does its directory exist, and may this process "
        "write there?",
    }.get(code_of(error), f"cannot be used: {error}")
    return StoreUnusable(f"{path} {what}")


def code_of(error: Exception) -> int:
    """Return the primary code of an error of SQLite's."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


class StoreFiles:
    """A database and its write-ahead log; no files for one in memory.

    Either may be deleted, or replaced, while it is in use (``rm jobs.db-*``, a restored backup).
    SQLite does not notice: it goes on with files that nobody else can find.

    Thread safety: any thread may call `check`; the rest belongs to the thread that writes.
    """

    def __init__(self, path: str) -> None:
        self._is_in_memory: Final = path == ":memory:"
        self._path: Final = path
        self._log: Final = f"{path}-wal"
        self._database_id: Identity | None = None
        self._log_id: Identity | None = None
        self._modified = (
            0  # when the database was, by a checkpoint, at the latest check; nanoseconds
        )

    def note_opened(self) -> None:
        """Note that these are the files, when the first query has opened the log."""
        self._database_id = self._database_id or identity_of(self._path)
        self._log_id = identity_of(self._log)

    def check(self, *, with_log: bool) -> None:
        """Check that the paths still lead to the files that are open; `with_log`: the log, too.

        Raises:
            StoreUnusable: they do not.
        """
        if self._is_in_memory:
            return
        wrong = None
        database_id, written = status_of(self._path)
        if database_id != self._database_id:
            wrong = self._path
        elif with_log and identity_of(self._log) != self._log_id:
            wrong = self._log
        if wrong is not None:
            raise StoreUnusable(
                f"{wrong} was deleted, or replaced by another file, while it was in use: what was "
                "in it is lost to other processes. Restart all processes that use it"
            )
        self._modified = written

    def may_be_closed(self) -> bool:
        """Return whether it is safe to close the last connection, which writes back the log.

        Not if the log was deleted, and others, who do not know of it, may have written since.
        """
        if self._is_in_memory:
            return True
        database_id, written = status_of(self._path)
        log_id = identity_of(self._log)
        is_untouched = log_id is None and written == self._modified
        return database_id == self._database_id and (log_id == self._log_id or is_untouched)

    def log_size(self) -> int:
        """Return how large the log is, in bytes; 0 without one."""
        try:  # opens nothing; jobs may be so large that it is asked after each commit
            return 0 if self._is_in_memory else os.stat(self._log).st_size  # noqa: PTH116
        except OSError:
            return 0
