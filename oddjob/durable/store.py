"""The store contract: everything that a runner asks of a store, the same for each of them.

Guarantees
  * `turn` is one commit in each pool: all of it has happened when it returns, or none of it.
  * An update of a claim names its fencing token. A token that is not valid any more (the job was
    taken over, or ended by hand) changes nothing, and the update is reported as refused.
  * A job whose submission has returned ends, whatever dies; only `delete` removes it before.
  * A process that leaves jobs behind wakes a hungry one that could run them. So a store need not be
    looked at but when `wait` says so.

Assumptions
  * One thread of a process calls everything but `wake`, `reader`, `check_connection`,
    `insert_into` and `transaction`.
  * A process that has joined either leaves or dies: the store finds out about its death by itself.

There is one hot call, `turn`: one transaction, or one script. Handing back, retrying, finishing and
reporting progress are all updates of a claim, and news come back with the same call.
"""

from collections.abc import Iterable, Mapping, Sequence
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

SIZE_OF_RECORD: Final = 250  # bytes that a store takes for a job with no data, roughly


class Evicted(Exception):
    """Another process has taken this one for dead: its claims are lost. Join again.

    `turn` raises it, and so may all other calls that change something: then nothing has happened.
    """


class Filter(NamedTuple):
    """Which jobs `Store.records` returns; None: whichever."""

    state: State | None = None
    name: str | None = None
    key: str | None = None
    error: str | None = None  # contained in the line that says what went wrong
    since: float | None = None  # submitted at that time or later, in seconds since the epoch
    before: float | None = None  # submitted before that
    ended_before: float | None = None


def no_id(job: object) -> ValueError:
    """Return the error about a `before_id` that can be no job's."""
    return ValueError(f"before_id must be the id of a job in this store, not {str(job)!r}")


class StartedMarks(Protocol):
    """Which of the claimed jobs have begun, as those who take them over are to know.

    It survives the death of the process, and costs no transaction.
    """

    def mark(self, place: int, claim: Claim) -> None:
        """Note that the job in a place has begun.

        Each running job has a place of its own, from 0 on; there may be no room for high numbers.
        """

    def unmark(self, place: int) -> None:
        """Note that it has come to its end."""


class StoreReader(Protocol):
    """What people see of a store: a moment ago, a page at a time, from any thread."""

    def records(
        self, pool: str, which: Filter, before_id: Any = None, limit: int = 100
    ) -> list[Record]:
        """Return a page of jobs, the newest first, submitted before the job `before_id`.

        That one may be gone.

        Raises:
            ValueError: it can be the id of no job.
        """
        ...

    def record(self, job: Any) -> Record | None:
        """Return the record of one job; None if there is none.

        People give an id as a text, the ``str`` of what the store calls it; that finds it, too.
        """
        ...

    def attempts(self, job: Any) -> list[Attempt]:
        """Return the attempts of a job that have failed, the first one first."""
        ...

    def counts(self, pool: str, most: int | None = None) -> dict[State, int]:
        """Return how many jobs of a pool are in each state.

        With `most`, more than that in a state may be counted as one more than that.
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
        """Return what would submit jobs once more, without a delay, and with no process waiting.

        Those are left out that there are not, that have to do with other jobs, or that have steps.
        """
        ...

    def members_of(self, batch: Any, before_id: Any = None, limit: int = 100) -> list[Record]:
        """Return a page of the members of a batch, as `records` does."""
        ...

    def pause_reason(self, pool: str) -> str:
        """Return why a pool is paused; "" if it is not, or nobody has said."""
        ...

    # What follows may be left as it is. A store that can answer without reading records, should.

    def oldest_waiting(self, pool: str) -> float | None:
        """Return when the first of the queued jobs of a pool was submitted; None: none waits."""
        oldest = None
        while page := self.records(pool, Filter(State.QUEUED), oldest and oldest.id):
            oldest = page[-1]
        return None if oldest is None else oldest.created

    def ended_since(self, pool: str, since: float) -> dict[State, int]:
        """Return how many jobs have ended since then in each way, of those that are kept."""
        found, last = dict.fromkeys((each for each in State if each.has_ended), 0), None
        for state in found:
            while page := self.records(pool, Filter(state), last and last.id):
                last = page[-1]
                found[state] += sum((each.finished or 0.0) >= since for each in page)
            last = None
        return found

    def ended_by_period(
        self, pool: str, since: float, period: float, number: int
    ) -> dict[State, list[int]]:
        """Return how many jobs have ended in each of some periods of seconds, one after another."""
        starts = [since + period * n for n in range(number + 1)]
        later = [self.ended_since(pool, start) for start in starts]
        return {
            state: [max(0, a[state] - b[state]) for a, b in pairwise(later)] for state in later[0]
        }

    def obstacles(self, job: Any) -> list[str]:  # noqa: ARG002  (it may know of none)
        """Return what keeps a job waiting, besides others before it in the queue; for people."""
        return []

    def server(self) -> dict[str, str]:
        """Return what the server of the store says of itself, in its words, and its `time`."""
        return {}


class OpenTransaction(Protocol):
    """What a running job writes in the store's own file, and the job's outcome: one commit.

    The job's thread calls everything but `rollback`, which is for any thread, and `wake_peers`,
    which is the store thread's to call. To end it twice does no harm.
    """

    @property
    def is_open(self) -> bool:
        """Whether it has begun and not ended."""
        ...

    def begin(self) -> Any:
        """Begin; return the connection.

        Raises:
            JobLost: the job was taken over, or the transaction has ended already.
            StoreUnusable: there is no transaction.
        """

    def save_step(self, name: str, value: bytes) -> None:
        """Keep the value of a step of the job, if this is committed."""

    def commit(self, update: Update) -> bool:
        """Commit with the job's outcome; return False if the token was not valid any more.

        Raises:
            StoreFull: nothing has happened.
            Exception: nothing has happened, because of what the job has written.
        """
        ...

    def rollback(self) -> None:
        """Undo what the job has written."""

    def wake_peers(self) -> None:
        """Wake the processes which the end of the job concerns; after the commit."""


class Store(Protocol):
    """One process's access to a store."""

    @property
    def marks(self) -> StartedMarks:
        """Where this process notes what has begun."""
        ...

    @property
    def reader(self) -> StoreReader:
        """The half of the store that any thread may use."""
        ...

    def join(self, pools: Mapping[str, Iterable[str]], workers: int) -> None:
        """Register this process, and take over what dead ones have left.

        Args:
            pools: those that this process consumes, each with the names of the functions that
                it knows; empty if it only submits.
            workers: how many jobs it runs at most at once.

        Raises:
            StoreUnusable: the store cannot be used.
        """

    def learn(self, pool: str, functions: Iterable[str], workers: int) -> None:
        """Consume a pool, too, or know more functions of it; for `workers` more jobs at once."""

    def forget(self, pool: str) -> None:
        """Consume a pool no longer; there are no claims of it."""

    def leave(self) -> None:
        """Unregister; hand back the claims that are left."""

    def close(self) -> None:
        """Let go of everything that is open."""

    def turn(
        self,
        updates: Sequence[Update],
        submits: Sequence[Submit],
        capacity: Mapping[str, Capacity],
    ) -> Turn:
        """Update claims, store jobs, open what is due, claim jobs, and read the news: one commit.

        Args:
            updates: what has become of claims of this process.
            submits: new jobs.
            capacity: for each pool that this process consumes. One that is draining takes nothing,
                and says so, or it would be woken in place of others.

        A store may do so with one commit for each pool. If it has no room for the jobs of a pool,
        but for the updates, it says so in `Submitted.error`.

        Raises:
            Evicted: this process is not registered any more; nothing has happened.
            StoreFull: nothing has happened.
            StoreUnusable: the submits are not stored; or it is not known, as a server has stopped
                answering. The updates are to be given again, in the next turn.
        """
        ...

    def submit_directly(self, submits: Sequence[Submit]) -> list[Submitted] | None:  # noqa: ARG002
        """Store jobs of one pool whose ends nobody here waits for; any thread may call this.

        None: nothing has happened, they have to be given to `turn`. A store that cannot do it, or
        not now, always says so.

        Raises:
            StoreFull: nothing has happened.
            StoreUnusable: it is not known whether they are stored.
        """
        return None

    def now(self) -> float:
        """Return the time of the store, in seconds since the epoch: that of this machine."""
        return clock.wall()

    @property
    def taken_over(self) -> int:
        """How many jobs of dead processes it has put back; from any thread."""
        return self._taken_over

    _taken_over: int = 0

    def takeover(self, process: Any) -> int:
        """Put back the jobs of a dead process; return how many. Twice does no harm.

        A crash is charged to those that had begun. After `MAX_CRASHES` a job fails; its last try
        is as a suspect, alone in its process, so that no other is charged for its deeds.
        """
        ...

    def try_write(self) -> None:
        """Commit a change that changes nothing, to see whether the store can be written.

        Raises:
            StoreFull, StoreUnusable: it cannot.
        """

    def watch(self, job: Any) -> Record | None:
        """Return a job's record; if it has not ended, this process will have news of its end."""
        ...

    def cancel(self, jobs: Iterable[Any]) -> int:
        """Cancel jobs that wait, ask the owners of running ones to stop; return how many."""
        ...

    def retry(self, jobs: Iterable[Any]) -> int:
        """Queue failed and cancelled jobs again, and scheduled ones at once; return how many."""
        ...

    def reschedule(self, delays: Mapping[Any, float]) -> int:
        """Have scheduled jobs due after that many seconds from now; return how many.

        Those that wait for other jobs are left as they are.
        """
        ...

    def delete(self, jobs: Iterable[Any]) -> int:
        """Delete jobs that are not running; return how many."""
        ...

    def ask_to_end(self, process: Any) -> bool:
        """Leave a process news that it is to end; return False if it runs no jobs, or is gone.

        People give a process as a text, as they do a job.
        """
        ...

    def pause(self, pool: str, *, is_paused: bool, reason: str = "") -> None:
        """Have no process claim jobs of a pool, or all of them again."""

    def save_step(self, claim: Claim, name: str, value: bytes) -> bool:
        """Keep the value of a step of a running job; return False if the token is not valid."""
        ...

    def check_connection(self, connection: Any) -> None:
        """Raise `TypeError` or `ValueError` if `insert_into` cannot use a user's connection."""

    def insert_into(
        self, connection: Any, submits: Sequence[Submit], handles: Sequence[Any]
    ) -> list[Submitted]:
        """Store jobs in the transaction of a user's connection, in its thread.

        A later turn says of each handle whether that transaction was committed.

        Raises:
            QueueFull, RuntimeError: no job was stored.
            Exception: whatever the connection raises; no job was stored.
        """
        ...

    def transaction(self, claim: Claim) -> OpenTransaction:
        """Return a transaction for a running job, in its thread, which has not begun yet."""
        ...

    def put_entry(self, entry: Entry) -> None:
        """Declare a recurring entry.

        One that exists keeps its tick, unless its rule changes. Then it never goes back to a tick
        that it has had.
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

        Nothing is submitted, and one more tick is counted as missed, if jobs of the entry have not
        ended and it does not overlap with them. None: another process has moved it, or it is paused
        or gone; nothing has happened.

        Raises:
            StoreFull, StoreUnusable: nothing has happened.
        """
        ...

    def pause_entry(self, pool: str, name: str, *, is_paused: bool) -> bool:
        """Stop an entry from firing, or let it again; return False if there is none."""
        ...

    def delete_entry(self, pool: str, name: str) -> bool:
        """Forget an entry; return False if there is none."""
        ...

    def purge(
        self, pool: str, keep_succeeded: int, failed_before: float, keep_bytes: float, budget: int
    ) -> int:
        """Delete at most `budget` old jobs; return how many.

        Those are the succeeded ones but for the newest `keep_succeeded`, and the failed and
        cancelled ones that ended before that time. If there are none left, it is the oldest of each
        of these states beyond `keep_bytes`: of their payloads, outcomes and errors, and
        `SIZE_OF_RECORD` for each. The mean of some may stand for all, so that is a rough bound; and
        where to count them takes long, it may be looked at only now and then.
        """
        ...

    def wait(self, timeout: float | None) -> list[Any]:
        """Sleep until woken, or for `timeout` seconds; return the processes that have died."""
        ...

    def wake(self) -> None:
        """End this process's `wait`, now or the next one."""
