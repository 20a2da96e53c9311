"""The store contract: everything that a runner asks of a store, of whatever kind.

Guarantees
  * `turn` makes one commit, or one for each pool. What concerns one pool happens entirely, or not
    at all.
  * An update of a claim names its fencing token. If the token is invalid (the job was taken over,
    or ended by hand), the update changes nothing, and is returned as refused.
  * A job whose submission has returned ends, whatever dies; only `delete` removes it before.
  * A process that leaves jobs in the queue wakes a hungry one that could run them. So a process
    need not look at the store before `wait` returns.

Assumptions
  * The store thread of a process calls everything, except `wake`, `reader`, `marks`, `taken_over`,
    `submit_directly`, `check_connection`, `insert_into` and `transaction`.
  * A process that has joined either leaves or dies; the store finds out about its death by itself.

`turn` is the one hot call: one transaction, or one script. To hand back, retry, end and report
progress are all updates of a claim, and news come back with the same call.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple, Protocol

from oddjob.durable.record import (
    Attempt,
    Capacity,
    Claim,
    Entry,
    Member,
    Record,
    State,
    Submit,
    Submitted,
    Turn,
    Update,
)
from oddjob.schedule.clock import clock

SIZE_OF_RECORD: Final = 250  # bytes, roughly, that a store takes for a job without data


class Evicted(Exception):
    """Another process has taken this one for dead: its claims are lost, and it has to join again.

    `turn` raises this, and so may all other calls that change something; nothing has happened then.
    """


class Filter(NamedTuple):
    """Which jobs `StoreReader.records` returns; None: that field does not matter.

    Times are in seconds since the epoch.
    """

    state: State | None = None
    name: str | None = None
    key: str | None = None
    error: str | None = None  # a part of `Record.error`
    since: float | None = None  # submitted at this time or later
    before: float | None = None  # submitted before this time
    ended_before: float | None = None


def no_id(job: object) -> ValueError:
    """Return the error about a `before_id` that is not the id of a job in any case."""
    return ValueError(f"before_id must be the id of a job in this store, not {str(job)!r}")


class Marks(Protocol):
    """The begun marks of this process; any thread.

    They survive the death of the process, for the one that takes its claims over, and cost no
    transaction.
    """

    def mark(self, place: int, claim: Claim) -> None:
        """Mark a claim as begun.

        Each running job has a place of its own, from 0 on. A store may ignore high places.
        """

    def unmark(self, place: int) -> None:
        """Remove the mark in a place."""


class StoreReader(Protocol):
    """The read-only half of a store; any thread. It shows a recent state, a page at a time."""

    def records(
        self, pool: str, which: Filter, before_id: Any = None, limit: int = 100
    ) -> list[Record]:
        """Return a page of jobs, the newest first.

        Args:
            pool: the name of the pool.
            which: the jobs to return.
            before_id: return jobs that were submitted before this job, which may be deleted; None:
                return the first page.
            limit: the size of a page.

        Raises:
            ValueError: `before_id` has not the form of an id.
        """
        ...

    def record(self, job: Any) -> Record | None:
        """Return the record of the job with this id, or with this ``str`` of an id; else None."""
        ...

    def attempts(self, job: Any) -> list[Attempt]:
        """Return the attempts of a job that have failed, the first one first."""
        ...

    def counts(self, pool: str, most: int | None = None) -> dict[State, int]:
        """Return how many jobs of a pool are in each state.

        With `most`, a count above it may be returned as ``most + 1``.
        """
        ...

    def pools(self) -> dict[str, bool]:
        """Return the names of the pools that have had jobs, and whether each is paused."""
        ...

    def entries(self, pool: str) -> list[Entry]:
        """Return the recurring entries of a pool."""
        ...

    def members(self) -> list[Member]:
        """Return the processes that have joined."""
        ...

    def steps(self, job: Any) -> dict[str, bytes]:
        """Return the values of the steps that a job has taken."""
        ...

    def submits_of(self, jobs: Sequence[Any]) -> dict[Any, Submit]:
        """Return submits that would store jobs again, with no delay, and no process waiting.

        Jobs that do not exist, are linked to other jobs, or have steps, are left out.
        """
        ...

    def members_of(self, batch: Any, before_id: Any = None, limit: int = 100) -> list[Record]:
        """Return a page of the members of a batch, as `records` does."""
        ...

    def pause_reason(self, pool: str) -> str:
        """Return why a pool is paused; "" if it is not, or nobody has said."""
        ...

    # Stores may override the following, to answer without reading all records.

    def oldest_waiting(self, pool: str) -> float | None:
        """Return when the oldest queued job of a pool was submitted; None if none is queued."""
        oldest = None
        for record in self._all_records(pool, State.QUEUED):  # the newest first
            oldest = record.created
        return oldest

    def ended_since(self, pool: str, since: float) -> dict[State, int]:
        """Return how many of the kept records ended since a time, by their state."""
        return {
            state: sum((each.finished or 0.0) >= since for each in self._all_records(pool, state))
            for state in State
            if state.has_ended
        }

    def _all_records(self, pool: str, state: State) -> Iterator[Record]:
        last_id = None
        while page := self.records(pool, Filter(state), last_id):
            yield from page
            last_id = page[-1].id

    def ended_by_period(
        self, pool: str, since: float, period: float, number: int
    ) -> dict[State, list[int]]:
        """Return how many jobs ended in each of `number` periods of that many seconds."""
        starts = [since + period * n for n in range(number + 1)]
        later = [self.ended_since(pool, start) for start in starts]
        return {
            state: [max(0, a[state] - b[state]) for a, b in pairwise(later)] for state in later[0]
        }

    def obstacles(self, job: Any) -> list[str]:  # noqa: ARG002  (it may know of none)
        """Return what keeps a job waiting, apart from jobs before it in the queue; for people."""
        return []

    def server(self) -> dict[str, str]:
        """Return what the server of the store reports about itself, and its `time`."""
        return {}


class OpenTransaction(Protocol):
    """A transaction of a running job in the file of the store, committed with the job's outcome.

    The job's thread calls everything, except `rollback`, which is for any thread, and `wake_peers`,
    which is for the store thread. A second `commit` or `rollback` does nothing.
    """

    @property
    def is_open(self) -> bool:
        """Whether it has begun and not ended."""
        ...

    def begin(self) -> Any:
        """Begin; return the connection.

        Raises:
            JobLost: the job was taken over, or the transaction has ended already.
            StoreUnusable: the transaction could not begin.
        """

    def save_step(self, name: str, value: bytes) -> None:
        """Save the value of a step of the job, as a part of the transaction."""

    def commit(self, update: Update) -> bool:
        """Commit with the job's outcome; return False if the token was invalid.

        Raises:
            StoreFull: nothing has happened.
            Exception: nothing has happened, as what the job has written cannot be committed.
        """
        ...

    def rollback(self) -> None:
        """Undo what the job has written."""

    def wake_peers(self) -> None:
        """Wake the processes that the end of the job concerns; to be called after the commit."""


class Store(Protocol):
    """One process's access to a store."""

    @property
    def marks(self) -> Marks:
        """The begun marks of this process."""
        ...

    @property
    def reader(self) -> StoreReader:
        """The half of the store that any thread may use."""
        ...

    def join(self, pools: Mapping[str, Iterable[str]], workers: int) -> None:
        """Register this process, and take over the claims of dead processes.

        Args:
            pools: the pools that this process consumes, each with the names of the functions that
                it knows; empty if it only submits.
            workers: how many jobs this process runs at most at once.

        Raises:
            StoreUnusable: the store cannot be used.
        """

    def learn(self, pool: str, functions: Iterable[str], workers: int) -> None:
        """Consume another pool, or more functions of a pool; with `workers` more jobs at once."""

    def forget(self, pool: str) -> None:
        """Stop consuming a pool, of which this process holds no claims."""

    def leave(self) -> None:
        """Unregister this process, and hand back the claims that it still holds."""

    def close(self) -> None:
        """Close everything that is open."""

    def turn(
        self,
        updates: Sequence[Update],
        submits: Sequence[Submit],
        capacity: Mapping[str, Capacity],
    ) -> Turn:
        """Update claims, store jobs, queue jobs that are due, claim jobs, and read the news.

        A store that has room for the updates, but not for the submits of a pool, says so in
        `Submitted.error`.

        Args:
            updates: updates of claims of this process.
            submits: new jobs.
            capacity: for each pool that this process consumes, also for one that takes no jobs
                now: otherwise this process would be woken for new jobs in place of others.

        Raises:
            Evicted: this process is not registered any more; nothing has happened.
            StoreFull: nothing has happened.
            StoreUnusable: the submits are not stored; or, if a server has stopped answering, it is
                not known whether they are. The caller gives the updates again in the next turn.
        """
        ...

    def submit_directly(self, submits: Sequence[Submit]) -> list[Submitted] | None:  # noqa: ARG002
        """Store jobs of one pool that no handle of this process waits for; any thread.

        Returns None if nothing has happened, as the store cannot do this, or not now: then the jobs
        have to be given to `turn`.

        Raises:
            StoreFull: nothing has happened.
            StoreUnusable: it is not known whether they are stored.
        """
        return None

    def now(self) -> float:
        """Return the time by the clock of the store, in seconds since the epoch."""
        return clock.wall()

    @property
    def taken_over(self) -> int:
        """How many jobs of dead processes this one has put back; any thread."""
        return self._taken_over

    _taken_over: int = 0

    def takeover(self, process: Any) -> int:
        """Put back the jobs of a dead process; return how many. A second call puts back none.

        A crash is charged to the jobs that had begun. A job fails after `MAX_CRASHES`. Before that
        it has a last attempt as a suspect, alone in its process, so that no other job is charged.
        """
        ...

    def try_write(self) -> None:
        """Commit without a change, to find out whether the store can be written.

        Raises:
            StoreFull, StoreUnusable: it cannot.
        """

    def watch(self, job: Any) -> Record | None:
        """Return a job's record; if it has not ended, this process gets news of its end."""
        ...

    def cancel(self, jobs: Iterable[Any]) -> int:
        """Cancel waiting jobs, and ask the owners of running ones to stop; return how many."""
        ...

    def retry(self, jobs: Iterable[Any]) -> int:
        """Queue failed and cancelled jobs again, and scheduled ones at once; return how many."""
        ...

    def reschedule(self, delays: Mapping[Any, float]) -> int:
        """Change when scheduled jobs are due, in seconds from now; return how many.

        Jobs that wait for other jobs are left as they are.
        """
        ...

    def delete(self, jobs: Iterable[Any]) -> int:
        """Delete jobs that are not running; return how many."""
        ...

    def ask_to_end(self, process: Any) -> bool:
        """Leave news for a process to end; return False if it runs no jobs, or is gone.

        The ``str`` of the id of a process will do, too.
        """
        ...

    def pause(self, pool: str, *, is_paused: bool, reason: str = "") -> None:
        """Stop all processes from claiming jobs of a pool, or let them claim again."""

    def save_step(self, claim: Claim, name: str, value: bytes) -> bool:
        """Save the value of a step of a running job; return False if the token is invalid."""
        ...

    def check_connection(self, connection: Any) -> None:
        """Raise `TypeError` or `ValueError` if `insert_into` cannot use this; any thread."""

    def insert_into(
        self, connection: Any, submits: Sequence[Submit], handles: Sequence[Any]
    ) -> list[Submitted]:
        """Store jobs in the transaction of a user's connection; in the thread of the connection.

        A later turn says of each handle whether that transaction was committed: `Turn.inserted`.

        Raises:
            QueueFull, RuntimeError: no job was stored.
            Exception: whatever the connection raises; no job was stored.
        """
        ...

    def transaction(self, claim: Claim) -> OpenTransaction:
        """Return a transaction that has not begun, for a running job; in the thread of the job."""
        ...

    def put_entry(self, entry: Entry) -> None:
        """Declare a recurring entry.

        An entry that exists keeps its tick, unless its rule changes. Even then it does not go back
        to a tick that it has had.
        """

    def fire_entry(
        self,
        entry: Entry,
        next_tick: float,
        submits: Sequence[Submit],
        *,
        missed: int = 0,
        overlaps: bool = True,
    ) -> list[Submitted] | None:
        """Submit the jobs of an entry that is due, and move it to its next tick, in one commit.

        Unless the entry `overlaps`, nothing is submitted while jobs of the entry have not ended,
        and one more tick is counted as missed. Returns None if nothing has happened, as another
        process has moved the entry, or it is paused or deleted.

        Raises:
            StoreFull, StoreUnusable: nothing has happened.
        """
        ...

    def pause_entry(self, pool: str, name: str, *, is_paused: bool) -> bool:
        """Stop an entry from firing, or let it fire again; return False if there is none."""
        ...

    def delete_entry(self, pool: str, name: str) -> bool:
        """Delete an entry; return False if there is none."""
        ...

    def purge(
        self, pool: str, keep_succeeded: int, failed_before: float, keep_bytes: float, budget: int
    ) -> int:
        """Delete at most `budget` old jobs; return how many.

        Deleted are succeeded jobs except the newest `keep_succeeded`, and failed and cancelled jobs
        that ended before `failed_before`. If there are none, the oldest jobs of each of these
        states are deleted until they take at most `keep_bytes`: their payloads, outcomes and
        errors, and `SIZE_OF_RECORD` each. This is a rough bound: a store may estimate the bytes
        from some of the jobs, and may do so only now and then if counting takes long.
        """
        ...

    def wait(self, timeout: float | None) -> list[Any]:
        """Sleep until woken, or for `timeout` seconds; return the processes that have died."""
        ...

    def wake(self) -> None:
        """End this process's current `wait`, or its next one; any thread."""
