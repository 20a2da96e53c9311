"""StoredJobs: the methods that find stored jobs, and act on many of them at once."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from oddjob.hints import hinted
from oddjob.keys import Key
from oddjob.quantities import Seconds
from oddjob.runtime.job import Job
from oddjob.runtime.job_state import JobState
from oddjob.submitter import Submitter

if TYPE_CHECKING:
    from oddjob.operations import PoolOperations, Record, RecurringEntry, RunnerInfo


class StoredJobs(Submitter):
    """The methods of pools with a store. In a pool without one, each raises a ``TypeError``."""

    def find(self, job_id: str | Job[Any]) -> Job[Any]:
        """Return the job of that id, or a `Job`'s, in the pool's store, from wherever it came.

        The job is as live as what `submit` returns, in any process: its state, attempt and progress
        are current, its result arrives when the job ends, and `Job.cancel` reaches it wherever it
        runs. A job can be found as long as the store keeps its record. The end of the pool does not
        wait for it.

        Raises:
            JobNotFound: there is none.
            PoolClosed: the pool is closed; `oddjob.operations.StoreOperations` needs none.
            TypeError: the pool has no store.
        """
        return self._in_store().live.find(job_id)  # type: ignore[no-any-return]

    @hinted
    def records(
        self,
        *,
        state: JobState | Iterable[JobState] | None = None,
        name: str | None = None,
        key: Key | None = None,
        error: str | None = None,
        since: "datetime | Seconds | str | None" = None,
        before: "datetime | Seconds | str | Record | None" = None,
        before_id: str | None = None,
        limit: int | None = None,
    ) -> "Iterator[Record]":
        """Iterate over the jobs in the pool's store, the newest first.

        ::

            for record in pool.records(state="failed", since="2 hours"):
                print(record.id, record.name, record.error)

        They are read a page at a time, so they may change meanwhile. Each argument selects some of
        the jobs; those that all arguments select are returned.

        Args:
            state: jobs in this state, or in one of these states; see `Job.state`.
            name: jobs of this name.
            key: jobs of this key.
            error: jobs whose error contains this text, such as the name of an exception.
            since: jobs submitted at this ``datetime`` or later; or at most so long ago, in seconds
                or as a text such as ``"2 hours"``.
            before: jobs submitted before this time, or before this `Record`.
            before_id: jobs submitted before the job of this id, which may have been deleted.
            limit: the largest number of jobs to return.

        Raises:
            ValueError: an argument is wrong: a time, or a `before_id` that can be no job's.

        Returns:
            An iterator of `oddjob.operations.Record` objects: what the store knows of a job, with
            ``retry()``, ``cancel()`` and ``delete()``.
        """
        return self._operations().records(
            state=state, name=name, key=key, error=error, since=since, before=before,
            before_id=before_id, limit=limit,
        )  # fmt: skip

    def counts(self) -> dict[JobState, int]:
        """Return how many jobs in the pool's store are in each state."""
        return self._operations().counts()

    @hinted
    def retry_failed(
        self,
        *,
        name: str | None = None,
        key: Key | None = None,
        error: str | None = None,
        since: "datetime | Seconds | str | None" = None,
        before: "datetime | Seconds | str | Record | None" = None,
        before_id: str | None = None,
        limit: int | None = None,
    ) -> int:
        """Queue failed jobs again, as if they were new; return how many.

        The arguments select jobs as in `records`. They are committed a few hundred at a time. A
        `Job` that has failed stays failed, since a future ends once; `find` returns a new, pending
        one.
        """
        operations = self._operations()
        return operations.retry(
            operations.records(
                state="failed", name=name, key=key, error=error, since=since, before=before,
                before_id=before_id, limit=limit,
            )
        )  # fmt: skip

    def purge(self, states: JobState | Iterable[JobState], older_than: Seconds | str = 0.0) -> int:
        """Delete the records of jobs that have ended; return how many.

        Args:
            states: ``"succeeded"``, ``"failed"`` or ``"cancelled"``, or several of them.
            older_than: only those that ended longer ago, in seconds, or as a text such as
                ``"7 days"``.
        """
        return self._operations().purge(states, older_than)

    def recurring(self) -> "list[RecurringEntry]":
        """Return the recurring entries in the pool's store, by name; each can be run or paused."""
        return self._operations().recurring()

    def runners(self) -> "list[RunnerInfo]":
        """Return the processes that use the pool's store, with the pools of which they run jobs."""
        return self._operations().runners()

    def _in_store(self) -> Any:
        """Return what stands for the pool in its store."""
        store = self._core.store
        if store is None:
            raise TypeError(
                f'pool {self._core.label} has no store: give it store="sqlite:///jobs.db"'
            )
        return store

    def _operations(self) -> "PoolOperations":
        from oddjob.operations.access import StoreAccess
        from oddjob.operations.pool_operations import PoolOperations

        store = self._in_store()
        return PoolOperations(store.name, StoreAccess(store.runner, store.codec))
