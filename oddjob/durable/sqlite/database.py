"""Database: the file of a store, its one writing connection, transactions and checkpoints.

Guarantees
  * The only write transaction is BEGIN IMMEDIATE, in the writer's turn. Where it fails, all of it
    is undone, and the error is `StoreFull` or `StoreUnusable`.
  * A checkpoint happens in the writer's turn only, so no commit of ours runs beside one of ours.
    (Connections of users and other programs make their own, which is safe from SQLite 3.51.3 on.)
  * The write-ahead log stays small, and the file shrinks after many jobs were deleted.
  * A file of another program gets our tables beside its own, or is left as it was: where one of
    our names is taken.
  * Readers fetch a page on a connection of their own, and hold no snapshot.
  * No thread is inside SQLite while the process forks, and no connection is open but those of
    jobs' own transactions. The child does not close one that it inherits: with the parent's locks
    out of its sight, SQLite would delete the write-ahead log that the parent goes on writing.

Assumes that one thread writes. Nobody else opens the files of the database in this process:
closing any descriptor of them would give up all of SQLite's locks.
"""

import logging
import random
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

from oddjob.durable.peers import Peers
from oddjob.durable.sqlite import schema
from oddjob.durable.sqlite.fork_guard import in_sqlite
from oddjob.durable.sqlite.location import StoreFiles, check_is_ours, code_of, translated
from oddjob.durable.trouble import HoldUp
from oddjob.errors import StoreFull, StoreUnusable
from oddjob.locks import after_fork_in_child
from oddjob.log import log
from oddjob.schedule.clock import clock

# Sizes of the write-ahead log, in bytes.
_IDLE_WAL: Final = 4 << 20  # written by this process: a checkpoint when it is idle
_MIN_WAL: Final = 16 << 20  # that it keeps: to append to a short file takes twice as long
_BUSY_WAL: Final = 20 << 20  # more than that: a checkpoint at once
_HUGE_WAL: Final = 64 << 20  # users hear of it
_BYTES_OF_COMMIT: Final = 6 * 4096  # roughly; and of each changed row
_BYTES_OF_CHANGE: Final = 400
_LONGEST_WAIT: Final = 60.0  # seconds, for the end of a foreign transaction
_SYNC: Final = {True: "PRAGMA synchronous = FULL", False: "PRAGMA synchronous = NORMAL"}
_CHECKPOINT_PAUSE: Final = 1.0  # seconds, after a reader was in the way
_FREE_PAGES: Final = 256  # that the file keeps at least, and a quarter of all: it grows again
_SLICE: Final = 100  # pages that one transaction gives back: a few milliseconds
_PAGE: Final = 4096  # bytes
_INCREMENTAL: Final = 2  # as auto_vacuum
_WHO_HOLDS_UP: Final = "this process or another program has an open transaction"
_FOREIGN_PAUSE: Final = (0.005, 0.05)  # seconds, after a foreign transaction was in the way


class Database:
    """A SQLite file that is a store."""

    def __init__(self, path: str, peers: Peers, *, is_durable: bool) -> None:
        self.path: Final = path
        self._files: Final = StoreFiles(path)
        self.is_in_memory: Final = path == ":memory:"
        self.peers: Final = peers
        self._is_durable: Final = is_durable
        self._is_full_sync: bool | None = None
        self._wal_bytes = 0  # written by this process since its last checkpoint
        self._no_checkpoint_before = 0.0
        self._is_held_up = False  # by a reader; and the log is large
        self._is_warned = False
        self._may_shrink = False
        self._hold_up: Final = HoldUp(path, lambda: _WHO_HOLDS_UP)
        self._connection: sqlite3.Connection | None = self._open()
        self._files.note_opened()
        _in_use.add(self)

    @property
    def connection(self) -> sqlite3.Connection:
        """The one that writes; only inside ``in_sqlite``, for a fork closes it."""
        if self._connection is None:
            # It is ours: only what a connection has to be told is told once more.
            connection = self._connect_again(isolation_level=None, cached_statements=256)
            try:
                self._configure(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
            self._files.note_opened()
        return self._connection

    def _connect_again(self, **options: Any) -> sqlite3.Connection:
        """Return a connection to the file, which is not made if it is gone."""
        uri = f"{Path(self.path).absolute().as_uri()}?mode=rw"
        connection: sqlite3.Connection = sqlite3.connect(
            uri, uri=True, check_same_thread=False, **options
        )
        return connection

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        """Execute a statement; only inside ``in_sqlite``."""
        return self.connection.execute(statement, values)

    def close_idle(self) -> None:
        """Close the connection, which is opened again when it is needed; not in a transaction."""
        connection = self._connection
        if connection is None or self.is_in_memory or connection.in_transaction:
            return
        if self._files.may_be_closed():
            self._connection = None
            connection.close()

    def _open(self) -> sqlite3.Connection:
        try:
            with self._turn():  # one process creates the tables, the others wait here
                connection = sqlite3.connect(
                    self.path, isolation_level=None, check_same_thread=False, cached_statements=256
                )
                try:
                    is_shared = self._prepare(connection)
                except BaseException:
                    connection.close()
                    raise
        except sqlite3.Error as error:
            raise translated(self.path, error) from error
        if is_shared:  # which may be a mistake
            what = "%s has tables of another program; a store was added to it, in WAL mode"
            log(logging.WARNING, what, self.path)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> bool:
        """Return whether tables were added to those of another program."""
        version, others = check_is_ours(self.path, connection)
        if version is None:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # if there are no tables
        connection.execute("PRAGMA journal_mode = WAL")
        if version != schema.VERSION:
            self._migrate(connection, version)
        self._configure(connection)
        return bool(others)

    def _configure(self, connection: sqlite3.Connection) -> None:
        for pragma in (
            "busy_timeout = 50",
            "cache_size = -16000",
            f"journal_size_limit = {_MIN_WAL}",
            "temp_store = MEMORY",
            "trusted_schema = OFF",
            "wal_autocheckpoint = 0",
            "synchronous = FULL",
        ):
            connection.execute(f"PRAGMA {pragma}")
        if sys.platform == "darwin":
            connection.execute("PRAGMA fullfsync = 1")
            connection.execute("PRAGMA checkpoint_fullfsync = 1")
        connection.execute("SELECT 1 FROM job LIMIT 0").fetchone()  # it opens the log

    def _migrate(self, connection: sqlite3.Connection, version: int | None) -> None:
        steps = [schema.CREATE]
        if version is not None:
            steps = [schema.MIGRATIONS[each] for each in range(version, schema.VERSION)]
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE; {';'.join(steps)};"
                f"{schema.SET_VERSION.format(schema.VERSION)}; COMMIT"
            )
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    # Transactions.

    def _check_files(self) -> None:
        """See `StoreFiles.check`; only inside ``in_sqlite``, for a fork closes the log."""
        self._files.check(with_log=self._connection is not None)

    def _take_turn(self) -> None:
        self.peers.lock()
        in_sqlite.__enter__()  # not before: another process may have the turn for long

    def _give_turn(self) -> None:
        in_sqlite.__exit__()
        self.peers.unlock()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        self._take_turn()
        try:
            yield
        finally:
            self._give_turn()

    @contextmanager
    def transaction(self, *, is_synced: bool) -> Iterator[None]:
        """Run one write transaction in the writer's turn.

        If it is synced, it survives a loss of power. One that is not is undone by that, unless a
        synced one has followed.

        Raises:
            StoreFull, StoreUnusable: SQLite failed; everything is undone.
        """
        is_full_sync = is_synced and self._is_durable
        pragma = None if is_full_sync is self._is_full_sync else _SYNC[is_full_sync]
        self._is_full_sync = None
        self.begin(None, pragma)
        self._is_full_sync = is_full_sync
        try:
            connection = self.connection
            changes = connection.total_changes
            try:
                yield
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            changes = connection.total_changes - changes
        except sqlite3.Error as error:
            if code_of(error) == sqlite3.SQLITE_FULL:  # there is space in the log, once it is empty
                self._wal_bytes = max(self._wal_bytes, _IDLE_WAL + 1)
            raise translated(self.path, error) from error
        finally:
            self._give_turn()
        self.count(changes)

    def count(self, changes: int) -> None:
        """Count the rows that a transaction has changed, for checkpoints."""
        if changes:
            self._wal_bytes += _BYTES_OF_COMMIT + _BYTES_OF_CHANGE * changes
            if self._files.log_size() > _BUSY_WAL:
                self._checkpoint()

    def connect(self, kind: type[sqlite3.Connection]) -> sqlite3.Connection:
        """Return another connection, for transactions that are synced.

        Raises:
            StoreUnusable: there is no file, or it cannot be opened.
        """
        if self.is_in_memory:
            raise StoreUnusable("memory: is no file, so users have no transactions in it")
        try:
            with in_sqlite:
                self._check_files()
                connection = self._connect_again(factory=kind)
                for pragma in ("busy_timeout = 50", "wal_autocheckpoint = 0", "fullfsync = 1"):
                    connection.execute(f"PRAGMA {pragma}")
                connection.execute(_SYNC[self._is_durable])
        except sqlite3.Error as error:
            raise translated(self.path, error) from error
        _of_jobs.add(connection)
        return connection

    def begin(self, connection: sqlite3.Connection | None, pragma: str | None = None) -> None:
        """Begin a write transaction in the writer's turn, for the caller to end and to give back.

        On the database's own connection (None), the caller is ``in_sqlite`` afterwards.

        Raises:
            StoreUnusable: SQLite failed, or another program does not end its transaction.
        """
        if self._has_begun(connection, pragma):
            return
        give_up_at = time.monotonic() + _LONGEST_WAIT
        with self._hold_up.waiting():
            while time.monotonic() < give_up_at:
                # A writer that is none of our processes: they are not to wait behind this one.
                time.sleep(random.uniform(*_FOREIGN_PAUSE))  # noqa: S311
                if self._has_begun(connection, pragma):
                    return
            raise StoreUnusable(
                f"{self.path} has been locked for {_LONGEST_WAIT:g} s by a transaction that is not "
                "the store's: has this thread begun one, and not ended it?"
            )

    def _has_begun(self, connection: sqlite3.Connection | None, pragma: str | None) -> bool:
        """Begin in the writer's turn; return False if a foreign transaction is in the way."""
        self._take_turn()
        try:
            self._check_files()
            used = self.connection if connection is None else connection
            if pragma is not None:  # possible outside of transactions only
                used.execute(pragma)
            used.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            self._give_turn()
            if code_of(error) != sqlite3.SQLITE_BUSY:
                raise translated(self.path, error) from error
            return False
        except BaseException:
            self._give_turn()
            raise
        if connection is not None:
            in_sqlite.__exit__()
        return True

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give a connection for one short look, in any thread."""
        if self.is_in_memory:
            with self._turn():
                yield self.connection
            return
        try:
            uri = f"{Path(self.path).absolute().as_uri()}?mode=ro"
            with in_sqlite:
                self._check_files()
                with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
                    yield connection
        except sqlite3.Error as error:
            raise translated(self.path, error) from error

    # Upkeep.

    def tidy(self) -> float | None:
        """Do a little of the upkeep that is due, if any.

        Returns:
            The seconds until there is more to do; None if there is not. Nothing is raised: an error
            of the store is met by those who have a use for it.
        """
        try:
            if self._may_shrink:
                self._shrink()
            if self._wal_bytes > _IDLE_WAL:
                self._checkpoint()
        except (sqlite3.Error, StoreFull, StoreUnusable):
            return None
        if self._may_shrink:
            return 0.0
        return _CHECKPOINT_PAUSE if self._is_held_up else None

    def note_deleted(self) -> None:
        """Have `tidy` look whether the file can shrink."""
        self._may_shrink = True

    def _shrink(self) -> None:
        with in_sqlite:
            (mode,), (pages,), (free,) = (
                self._ask(f"PRAGMA {each}")
                for each in ("auto_vacuum", "page_count", "freelist_count")
            )
        # Another program that came first has chosen whether its file can shrink.
        if mode != _INCREMENTAL or free < max(_FREE_PAGES, pages // 4):
            self._may_shrink = False
            return
        with self.transaction(is_synced=False):
            for _ in range(_SLICE):  # one by one: `execute` goes one step, which is one page
                self.execute("PRAGMA incremental_vacuum(1)")
        self._wal_bytes += _SLICE * _PAGE

    def _checkpoint(self) -> None:
        """Move what the write-ahead log holds into the file, so that the log begins anew.

        In the writer's turn, for a checkpoint beside a commit can corrupt the file in SQLite before
        3.51.3. A reader with an old snapshot is in its way: then it is tried again a second later.
        """
        if clock.monotonic() < self._no_checkpoint_before or self.is_in_memory:
            return
        is_huge = self._files.log_size() > _HUGE_WAL
        try:
            with self._turn():
                self._check_files()
                mode = "TRUNCATE" if is_huge else "RESTART"
                is_busy = bool(self._ask(f"PRAGMA wal_checkpoint({mode})")[0])
        except (sqlite3.Error, StoreUnusable):
            is_busy = True
        size = self._files.log_size()
        self._is_held_up = is_busy and size > _BUSY_WAL
        if not is_busy:
            self._wal_bytes = 0
            self._is_warned = False
            return
        self._no_checkpoint_before = clock.monotonic() + _CHECKPOINT_PAUSE
        if size > _HUGE_WAL and not self._is_warned:
            self._is_warned = True
            what = (
                "the write-ahead log of %s has grown to %d MB, and cannot be emptied: a reader "
                "(an open transaction, a forgotten cursor) holds an old snapshot"
            )
            log(logging.WARNING, what, self.path, size >> 20)

    def _ask(self, pragma: str) -> tuple[int, ...]:
        answer: tuple[int, ...] = self.execute(pragma).fetchone()
        return answer

    def close(self) -> None:
        """Close the connection; the last one of all processes empties the write-ahead log."""
        with self._turn():
            connection, self._connection = self._connection, None
            if connection is not None and self._files.may_be_closed():
                connection.close()
            elif connection is not None:
                _leave_open(connection)


_in_use: Final[WeakSet[Database]] = WeakSet()
_of_jobs: Final[WeakSet[sqlite3.Connection]] = WeakSet()  # a subclass, which can be in it


def _close_idle() -> None:
    for database in list(_in_use):
        database.close_idle()


in_sqlite.close_idle = _close_idle


def _leave_open(connection: object) -> None:
    import ctypes  # with one reference too many, a connection is never closed, not even at exit

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _keep_open_in_child() -> None:
    for connection in [*(database._connection for database in _in_use), *_of_jobs]:
        _leave_open(connection)


after_fork_in_child(_keep_open_in_child)
