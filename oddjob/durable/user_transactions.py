"""UserTransactions: transactions in which users write to the file of a store, beside its jobs.

In one, on a connection of the user's own, jobs are submitted; in the other, which a running job is
given, it writes its effects. The store thread hears of both when they have ended.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from oddjob.durable.callbacks import guard
from oddjob.durable.consumer import Handle
from oddjob.durable.record import Claim, Submit, Submitted, Update
from oddjob.durable.store import OpenTransaction, Store

if TYPE_CHECKING:
    from oddjob.durable.runner import Runner


class UserTransactions:
    """The transactions of users of one store.

    Thread safety: everything here is called in the thread of the transaction.
    """

    def __init__(self, runner: "Runner", store: Store) -> None:
        self._runner: Final = runner
        self._store: Final = store

    def check_connection(self, connection: Any) -> None:
        """Raise `TypeError` or `ValueError` if a user's connection is not one to this store."""
        self._store.check_connection(connection)

    def insert_into(
        self, connection: Any, submits: Sequence[Submit], handles: Sequence[Handle]
    ) -> Sequence[Submitted]:
        """Store jobs in the transaction of a user's connection; see `Store.insert_into`.

        The store thread sees to the rest when that has ended, for which it waits: until then
        nobody else could write.
        """
        submitted = self._store.insert_into(connection, submits, handles)
        self._store.wake()
        return submitted

    def begin(self, claim: Claim) -> OpenTransaction:
        """Return a transaction for a running job, in its thread."""
        return self._store.transaction(claim)

    def committed(
        self, update: Update | None, transaction: OpenTransaction, forget: Callable[[], object]
    ) -> None:
        """Note that a job's own transaction has ended; do not wait.

        Args:
            update: the outcome that was committed, which is announced; None: the token was stale.
            transaction: of the job.
            forget: called first, in the store thread.
        """

        def announce(_store: Store) -> None:
            forget()
            if update is not None:
                guard(transaction.wake_peers)
                self._runner.note_end(update)

        self._runner.post(announce)


def is_in_transaction(connection: Any) -> bool:
    """Return whether a user's connection, if there is one, has begun a transaction."""
    try:
        return connection is not None and bool(connection.in_transaction)
    except Exception:  # it was closed
        return False
