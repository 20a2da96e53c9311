"""Transactions that the store shares with its users, who keep data of their own in its file.

`insert_into` stores jobs in a user's transaction, on the user's connection; `JobTransaction` gives
a running job a transaction, which is committed with the job's outcome.

How a process hears what has become of a user's transaction: the jobs are inserted with a *receipt*,
a piece of news for this very process. From then on the user's transaction holds SQLite's lock, so
the next write transaction of the process's own begins when that has ended. If it finds the receipt
there, the jobs are committed, and it wakes the peers that are hungry for them: those that were when
the jobs were inserted, as nobody could become hungry since. Else they were rolled back.

The id of a job that was rolled back is given to no other job: who was told it would see another's
job. SQLite does not remember an id whose INSERT was rolled back, so ids of jobs in users'
transactions start from the wall clock, in microseconds. They are above all that were rolled back
before; and ids that count on from a smaller one do not catch up with the clock, as less than one
job is stored in a microsecond.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from oddjob.compat import override
from oddjob.durable.record import Claim, Submit, Submitted, Update
from oddjob.durable.sqlite import schema
from oddjob.durable.sqlite.database import Database
from oddjob.durable.sqlite.location import translated
from oddjob.durable.sqlite.partitions import PartitionTable
from oddjob.durable.sqlite.work import Work
from oddjob.durable.store import OpenTransaction
from oddjob.errors import JobLost, QueueFull, StoreFull, StoreUnusable
from oddjob.log import run_in_thread
from oddjob.schedule.clock import clock

_DENIED: Final = "not authorized"  # what SQLite says
_ENDS_WITH_JOB: Final = "the transaction of a job is committed when the job has succeeded"


class Receipt(NamedTuple):
    """Of jobs that were stored in a user's transaction, for when that has ended."""

    mark: bytes
    handles: Sequence[Any]
    to_wake: frozenset[int]  # processes, if it was committed


def check_connection(connection: Any, path: str) -> None:
    """Check that a user's connection is one to the file of the store.

    Raises:
        TypeError: it is no connection of the standard library's ``sqlite3``.
        ValueError: it is one to another file.
    """
    if not isinstance(connection, sqlite3.Connection):
        raise TypeError(
            "using() takes a connection of the standard library's sqlite3 module, not "
            f"{type(connection).__module__}.{type(connection).__qualname__}"
        )
    with _plain_rows(connection):
        files = {name: file for _, name, file in connection.execute("PRAGMA database_list")}
    main = files["main"]
    if path == ":memory:" or not main or not Path(path).samefile(main):
        raise ValueError(
            f"using() takes a connection to the file of the pool's store, {path}, "
            f"not to {main or 'a database in memory'}"
        )


def insert_into(
    connection: sqlite3.Connection,
    me: int | None,
    submits: Sequence[Submit],
    handles: Sequence[Any],
) -> tuple[list[Submitted], Receipt]:
    """Store jobs in the transaction of a user's connection, which begins if there is none.

    Raises:
        QueueFull: there is no room for all of them, so that none was stored.
        RuntimeError: there is no transaction, and the connection begins none by itself.
        StoreUnusable: this process was taken over, and has not joined again.
        sqlite3.Error: whatever the connection raises.
    """
    mark = os.urandom(16)
    with _plain_rows(connection), _savepoint(connection):
        # This comes first: a transaction that begins with a read may not be able to write later.
        receipt = (0, schema.RECEIPT, mark, None, me)
        if not connection.execute(schema.ADD_NEWS, receipt).rowcount:
            raise StoreUnusable(
                "this process was taken for dead: end the transaction, and try again"
            )
        work = Work(connection, PartitionTable(), me, clock.wall())
        submitted = work.insert(submits, above=int(work.now * 1e6))
        if any(each.id is None for each in submitted):
            raise QueueFull(f"the queue holds {submits[0].max_queue} jobs, or would then")
        work.notifier.finish()
    return submitted, Receipt(mark, handles, frozenset(work.notifier.to_wake))


def read_receipts(
    receipts: Iterable[Receipt], marks: set[bytes], work: Work
) -> list[tuple[Any, bool]]:
    """Return of each handle whether its job was committed; wake those who may run it."""
    inserted: list[tuple[Any, bool]] = []
    for mark, handles, to_wake in receipts:
        is_committed = mark in marks
        inserted += [(handle, is_committed) for handle in handles]
        if is_committed:
            work.notifier.to_wake.update(to_wake)
    return inserted


@contextmanager
def _savepoint(connection: sqlite3.Connection) -> Iterator[None]:
    """Undo what is done in the block if it raises, and leave the rest of the transaction alone."""
    begins = not connection.in_transaction
    if begins:
        if connection.isolation_level is None or getattr(connection, "autocommit", -1) is True:
            raise RuntimeError(
                "using() needs a transaction, and this connection commits each statement by "
                'itself: begin with connection.execute("BEGIN IMMEDIATE")'
            )
        connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("SAVEPOINT oddjob")
        try:
            yield
        except BaseException:
            if connection.in_transaction:  # else SQLite has ended it, as if the disk is full
                connection.execute("ROLLBACK TO oddjob")
                connection.execute("RELEASE oddjob")
            raise
        connection.execute("RELEASE oddjob")
    except BaseException:
        if begins and connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _plain_rows(connection: sqlite3.Connection) -> Iterator[None]:
    """Have a user's connection return plain tuples and strings for a while."""
    factories = connection.row_factory, connection.text_factory
    connection.row_factory, connection.text_factory = None, str
    try:
        yield
    finally:
        connection.row_factory, connection.text_factory = factories


class _JobConnection(sqlite3.Connection):
    """A connection whose transaction the job cannot end."""

    @override
    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        try:
            return super().execute(sql, parameters)
        except sqlite3.DatabaseError as error:
            if str(error) != _DENIED:
                raise
            what = f"{_ENDS_WITH_JOB}: to begin or end it, or go on after its end, is {_DENIED}"
            raise sqlite3.DatabaseError(what) from error

    @override
    def commit(self) -> NoReturn:
        raise RuntimeError(f"{_ENDS_WITH_JOB}: do not call commit()")

    @override
    def rollback(self) -> NoReturn:
        raise RuntimeError(f"{_ENDS_WITH_JOB}: raise an exception instead of calling rollback()")

    def __del__(self) -> None:
        with suppress(sqlite3.ProgrammingError):  # it could not be opened
            self.close()  # of a job that has timed out, when that lets go of it at last


class JobTransaction(OpenTransaction):
    """See `OpenTransaction`.

    It holds the writer's turn as long as it is open. Nobody could write beside it anyway; so they
    wait in line, and need not try again and again.

    Locking: ``_lock`` makes it one step to end: the watchdog may do that while the job is running.
    """

    def __init__(
        self, database: Database, claim: Claim, me: int | None, send: Callable[[int], object]
    ) -> None:
        self._database: Final = database
        self._claim: Final = claim
        self._me: Final = me
        self._send: Final = send
        self._thread: Final = threading.get_ident()
        self._lock: Final = threading.Lock()
        self._connection: sqlite3.Connection | None = None  # while it is open
        self._is_over = False
        self._to_wake: set[int] = set()
        self._changes = 0

    @property
    @override
    def is_open(self) -> bool:
        return self._connection is not None

    @override
    def begin(self) -> sqlite3.Connection:
        connection = self._database.connect(_JobConnection)
        try:
            self._database.begin(connection)
        except BaseException:
            connection.close()
            raise
        try:
            self._check_claim(connection)
            connection.set_authorizer(self._authorize)
            self._open(connection)
        except BaseException:
            self._undo(connection)
            connection.close()
            raise
        return connection

    def _open(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if self._is_over:  # while it waited for its turn
                raise JobLost(f"the time of job {self._claim.id} is up")
            self._connection = connection

    def _check_claim(self, connection: sqlite3.Connection) -> None:
        fence = (self._claim.id, self._claim.token)
        if connection.execute(schema.IS_CLAIMED, fence).fetchone() is None:
            raise JobLost(f"job {self._claim.id} was taken over: this attempt of it should end")

    def _authorize(self, action: int, name: str | None, *_: object) -> int:
        """Let the job do everything but end the transaction; after its end, nothing more."""
        is_rollback = action == sqlite3.SQLITE_TRANSACTION and name == "ROLLBACK"
        is_allowed = is_rollback if self._is_over else action != sqlite3.SQLITE_TRANSACTION
        return sqlite3.SQLITE_OK if is_allowed else sqlite3.SQLITE_DENY

    @override
    def save_step(self, name: str, value: bytes) -> None:
        assert self._connection is not None  # noqa: S101  (as its caller has found)
        claim = self._claim
        self._connection.execute(schema.SAVE_STEP, (name, value, claim.id, claim.token))

    @override
    def commit(self, update: Update) -> bool:
        connection = self._end()
        if connection is None:
            return False
        try:
            connection.set_authorizer(None)
            connection.row_factory, connection.text_factory = None, str
            work = Work(connection, PartitionTable(), self._me, clock.wall())
            if work.update([update]):
                return False
            work.notifier.finish()
            connection.execute("COMMIT")
            self._to_wake, self._changes = work.notifier.to_wake, connection.total_changes
        except sqlite3.Error as error:
            raised = translated(self._database.path, error)
            if isinstance(raised, StoreFull):
                raise raised from error
            raise
        finally:
            self._undo(connection)  # unless it was committed
            connection.close()
        return True

    @override
    def rollback(self) -> None:
        connection = self._end()
        if connection is None:
            return
        if threading.get_ident() == self._thread:
            self._undo(connection)
            connection.close()
        else:  # the job is running, and may be in the middle of a long statement
            run_in_thread(partial(self._undo, connection), "oddjob-rollback")

    def _undo(self, connection: sqlite3.Connection) -> None:
        # (To close it would not be enough: a cursor that the job has left open keeps it alive.)
        with suppress(sqlite3.Error):  # the job has closed it
            connection.execute("ROLLBACK")
        self._database.peers.unlock()

    @override
    def wake_peers(self) -> None:
        for process in self._to_wake - {self._me}:
            self._send(process)
        self._database.count(self._changes)

    def _end(self) -> sqlite3.Connection | None:
        """Return the connection if the transaction is open, for the caller alone to end it."""
        with self._lock:
            connection, self._connection = self._connection, None
            self._is_over = True
            return connection
