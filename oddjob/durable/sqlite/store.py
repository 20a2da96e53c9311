"""SqliteStore: the store contract on one SQLite file.

A call is one transaction. `Database` begins and commits it in the writer's turn, `Work` makes the
changes to jobs, and its `Notifier` finds out which processes they concern. These are woken through
`Peers` after the commit.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import inf
from typing import Any, Final

from oddjob.compat import override
from oddjob.durable.peers import Peers
from oddjob.durable.record import (
    Capacity,
    Claim,
    Entry,
    Record,
    State,
    Submit,
    Submitted,
    Turn,
    Update,
)
from oddjob.durable.sqlite import job_actions, members, schema
from oddjob.durable.sqlite.database import Database
from oddjob.durable.sqlite.entries import StoredEntries
from oddjob.durable.sqlite.location import open_peers
from oddjob.durable.sqlite.partitions import KnownPartition, PartitionTable
from oddjob.durable.sqlite.reader import SqliteReader, record_of
from oddjob.durable.sqlite.transactions import (
    JobTransaction,
    Receipt,
    check_connection,
    insert_into,
    read_receipts,
)
from oddjob.durable.sqlite.work import Work
from oddjob.durable.store import Evicted, Marks, OpenTransaction, Store, StoreReader
from oddjob.errors import StoreFull, StoreUnusable
from oddjob.schedule.clock import clock

_LONGEST_SLEEP: Final = 86400.0  # seconds: system calls take no more than some weeks


class SqliteStore(Store):
    """One process's access to the file.

    Args:
        path: the file; it is made if there is none. ``":memory:"``: there is no file.
        is_durable: whether what is acknowledged survives a loss of power, and not only of the
            process.
        allow_network_filesystem: use the file although it is on one, whose locks are not to be
            relied on.
        peers: the other processes; for tests.
    """

    def __init__(
        self,
        path: str,
        *,
        is_durable: bool = True,
        allow_network_filesystem: bool = False,
        peers: Peers | None = None,
    ) -> None:
        peers = peers or open_peers(path, allow_network_filesystem=allow_network_filesystem)
        self._peers: Final = peers
        try:
            self._database: Final = Database(path, peers, is_durable=is_durable)
        except BaseException:
            peers.close()
            raise
        self._execute: Final = self._database.execute
        self._reader: Final = SqliteReader(self._database)
        self._partitions: Final = PartitionTable()
        self._entries: Final = StoredEntries(self._execute, self._partitions)
        self._excess: Final = job_actions.Excess()
        self._me: int | None = None
        self._pools: dict[str, list[KnownPartition]] = {}  # that this process consumes
        self._foreign: dict[str, list[int]] = {}  # partitions whose functions it does not know
        self._published: dict[str, tuple[bool, bool]] = {}  # by pool: hungry, has spare claims
        self._newest_process = self._newest_partition = 0  # ids, as far as this process knows
        self._receipts: Final[deque[Receipt]] = deque()  # other threads append

    @contextmanager
    def _work(self, *, is_synced: bool) -> Iterator[Work]:
        """Do the work of one transaction, then wake those whom it concerns."""
        try:
            with self._database.transaction(is_synced=is_synced):
                work = Work(self._database.connection, self._partitions, self._me, clock.wall())
                yield work
        except BaseException:
            self._partitions.forget()
            self._newest_partition = -1  # the next turn finds them again
            raise
        for process in work.to_wake - {self._me}:
            self._peers.send(process)
        work.notifier.log_unheard()

    @property
    @override
    def marks(self) -> Marks:
        return self._peers

    @property
    @override
    def reader(self) -> StoreReader:
        return self._reader

    @override
    def wake(self) -> None:
        self._peers.wake()

    # Membership.

    @override
    def join(self, pools: Mapping[str, Iterable[str]], workers: int) -> None:
        try:
            with self._work(is_synced=False) as work:
                me = members.add(self._execute, work.now, self._peers.place)
                self._peers.enter(me)  # before anybody can see the row
                self._me = me
                self._pools.clear()
                for pool, functions in pools.items():
                    self._learn(pool, functions)
                others = self._others()
                work.to_wake.update(each for each, _, _ in others)  # to watch this process
        except BaseException:
            self._me = None
            self._peers.leave()  # another process gets this number
            raise
        self._newest_process = self._newest_partition = 0
        self._meet_peers(others)

    @override
    def learn(self, pool: str, functions: Iterable[str], workers: int) -> None:
        with self._work(is_synced=False):
            self._learn(pool, functions)
        self._newest_partition = 0  # so the next turn looks at all of them

    def _learn(self, pool: str, functions: Iterable[str]) -> None:
        self._pools.setdefault(pool, [])
        self._published.pop(pool, None)
        members.learn(self._execute, self._me, pool, functions)

    @override
    def forget(self, pool: str) -> None:
        with self._work(is_synced=False) as work:
            members.forget(self._execute, self._me, pool)
            # This process may have been woken in place of another one.
            work.notifier.wake_consumers(pool)
        self._pools.pop(pool, None)
        self._published.pop(pool, None)

    def _others(self) -> list[tuple[int, int, str]]:
        """Return number, pid and place of all other processes."""
        query = "SELECT id, pid, place FROM process WHERE id != ?"
        return self._execute(query, (self._me,)).fetchall()

    def _meet_peers(self, others: list[tuple[int, int, str]]) -> None:
        """Watch processes that are new; take over those that are dead already."""
        watched = self._peers.watched()
        for gone in watched - {process for process, _, _ in others}:
            self._peers.unwatch(gone)
        for process, pid, place in others:
            if process not in watched:
                self._peers.watch(process, pid, place)
                if self._peers.is_dead(process):
                    self.takeover(process)

    @override
    def leave(self) -> None:
        if self._me is not None:
            self.takeover(self._me)
            self._me = None
        self._peers.leave()

    @override
    def close(self) -> None:
        self._database.close()
        self._peers.close()

    @override
    def takeover(self, process: Any) -> int:
        is_other = process != self._me
        begun = self._peers.marks_of(process) if is_other else set()
        with self._work(is_synced=True) as work:
            gone = members.remove(self._execute, process)
            count = work.put_back(process, begun) if gone else 0
            work.notifier.finish()
            if gone:
                # That process may have been the one that would have looked at the right time.
                work.to_wake.update(each for (each,) in self._execute("SELECT id FROM process"))
            if gone and is_other:
                work.to_wake.add(process)  # it may be alive after all, and is to join again
                self._peers.wake()  # this one may have been waiting for these jobs
        if is_other:
            self._taken_over += count
            self._peers.unwatch(process)  # also if another process was faster
        return count

    # The hot call.

    @override
    def turn(
        self,
        updates: Sequence[Update],
        submits: Sequence[Submit],
        capacity: Mapping[str, Capacity],
    ) -> Turn:
        # After a power loss, a job that was handed back is queued anyway, and progress is old.
        slight = (State.QUEUED, State.RUNNING)
        is_synced = bool(submits) or any(each.state not in slight for each in updates)
        with self._work(is_synced=is_synced) as work:
            turn = Turn(work.now)
            row = self._execute(schema.NEWEST, (self._me, self._me, self._me)).fetchone()
            newest_process, newest_partition, is_member, has_news, wants_room, has_turns = row
            work.turns.is_used = bool(has_turns)
            if not is_member:
                raise Evicted
            if updates:
                turn.refused = work.update(updates)
            if submits:
                turn.submitted = work.insert(submits)
                newest_partition = max(newest_partition, self._partitions.newest)
                wants_room = wants_room or any(each.id is None for each in turn.submitted)
            if newest_partition != self._newest_partition:
                turn.unknown = self._find_partitions()
            is_known = newest_process in (self._newest_process, self._me)
            others = [] if is_known else self._others()
            if capacity:
                work.promote()
            published = self._claim(work, turn, capacity)
            marks = set[bytes]()
            if has_news or self._me in work.notifier.to_wake:  # it may have ended jobs of its own
                turn.news, marks = work.notifier.read_news()
            receipts = list(self._receipts)  # of transactions that have ended: see `transactions`
            turn.inserted = read_receipts(receipts, marks, work)
            if wants_room:
                full = self._execute("SELECT pool FROM room WHERE process = ?", (self._me,))
                turn.full = frozenset(pool for (pool,) in full.fetchall())
            self._look_ahead(work, turn, capacity)
        for _ in receipts:
            self._receipts.popleft()
        self._published.update(published)
        self._newest_partition = newest_partition
        with suppress(StoreFull, StoreUnusable):  # the next turn tries again
            if not is_known:
                self._meet_peers(others)
            self._newest_process = newest_process
        return turn

    def _claim(
        self, work: Work, turn: Turn, capacity: Mapping[str, Capacity]
    ) -> dict[str, tuple[bool, bool]]:
        """Claim jobs, and let others have what is left; return what is published of each pool."""
        published: dict[str, tuple[bool, bool]] = {}
        mine, left = list[KnownPartition](), list[KnownPartition]()
        for pool, room in capacity.items():
            partitions = self._pools[pool]
            claims = work.claim(pool, partitions, room)
            turn.claims += claims
            mine += partitions
            if len(claims) >= room.idle:
                left += partitions
            state = (len(claims) < room.idle, room.has_spare or len(claims) > room.idle)
            if state != self._published.get(pool):
                self._publish(work, pool, *state)
            published[pool] = state
            foreign = self._foreign.get(pool)
            if foreign and room.unknown_after < inf:
                look = work.fail_unknown(foreign, room.unknown_after)
                work.opens_in = min(work.opens_in, look - work.now)
        turn.hungry_peers = work.notifier.finish(mine, left)
        return published

    def _find_partitions(self) -> list[tuple[str, str]]:
        """Find the partitions that this process may claim from; return functions that it lacks."""
        unknown: set[tuple[str, str]] = set()
        for pool, partitions in self._pools.items():
            rows = self._execute(schema.MY_PARTITIONS, (self._me, pool)).fetchall()
            known = [number for number, _, is_known in rows if is_known]
            partitions[:] = [self._partitions.get(self._execute, number) for number in known]
            unknown.update((pool, function) for _, function, is_known in rows if not is_known)
            self._foreign[pool] = [number for number, _, is_known in rows if not is_known]
        return sorted(unknown)

    def _publish(self, work: Work, pool: str, is_hungry: bool, has_spare: bool) -> None:
        self._execute(
            "UPDATE consumer SET hungry = ?, ahead = ? WHERE pool = ? AND process = ?",
            (is_hungry, has_spare, pool, self._me),
        )
        if is_hungry:  # those that have claims to spare may hand them back
            rows = self._execute("SELECT process FROM consumer WHERE pool = ? AND ahead", (pool,))
            work.to_wake.update(process for (process,) in rows)

    def _look_ahead(self, work: Work, turn: Turn, capacity: Mapping[str, Capacity]) -> None:
        """Find the recurring entries that are due, and when to look again."""
        if not capacity:
            return
        due = min(work.notifier.next_due(), work.now + work.opens_in)
        entries = self._entries.due(self._me, work.now)
        turn.entries = [each for each in entries if each.partition.pool in capacity]
        tick = self._entries.next_tick(self._me, work.now)
        if tick is not None:
            due = min(due, tick)
        turn.next_look = None if due == inf else max(0.0, due - work.now)

    # By hand.

    @override
    def try_write(self) -> None:
        with self._work(is_synced=True):
            self._execute("UPDATE process SET joined = joined WHERE id = ?", (self._me,))

    @override
    def watch(self, job: Any) -> Record | None:
        with self._work(is_synced=False) as work:
            row = self._execute(f"{schema.RECORD} WHERE job.id = ?", (job,)).fetchone()
            record = None if row is None else record_of(row)
            if record is not None and not record.state.has_ended:
                work.notifier.watch(job)
        return record

    @override
    def cancel(self, jobs: Iterable[Any]) -> int:
        return self._change(jobs, job_actions.cancel)

    @override
    def retry(self, jobs: Iterable[Any]) -> int:
        return self._change(jobs, job_actions.retry)

    @override
    def reschedule(self, delays: Mapping[Any, float]) -> int:
        return self._change(
            delays, lambda work, job: job_actions.reschedule(work, job, delays[job])
        )

    @override
    def delete(self, jobs: Iterable[Any]) -> int:
        self._database.note_deleted()
        return self._change(jobs, job_actions.delete)

    def _change(self, jobs: Iterable[Any], change: Callable[[Work, int], bool]) -> int:
        with self._work(is_synced=True) as work:
            count = sum(change(work, job) for job in jobs)
            work.dependencies.follow()
            work.notifier.finish()
        self._peers.wake()  # this process may be hungry itself
        return count

    @override
    def ask_to_end(self, process: Any) -> bool:
        with self._work(is_synced=False) as work:
            return work.notifier.ask_to_end(process)

    @override
    def pause(self, pool: str, *, is_paused: bool, reason: str = "") -> None:
        with self._work(is_synced=True) as work:
            self._execute(
                "INSERT INTO pool (name, paused) VALUES (?, ?) "
                "ON CONFLICT DO UPDATE SET paused = excluded.paused",
                (pool, (reason.encode() or 1) if is_paused else 0),
            )
            work.notifier.wake_consumers(pool)
        self._peers.wake()

    @override
    def save_step(self, claim: Claim, name: str, value: bytes) -> bool:
        with self._work(is_synced=True):
            saved = self._execute(schema.SAVE_STEP, (name, value, claim.id, claim.token))
            return bool(saved.rowcount)

    # Transactions that are shared with users.

    @override
    def check_connection(self, connection: Any) -> None:
        check_connection(connection, self._database.path)

    @override
    def insert_into(
        self, connection: Any, submits: Sequence[Submit], handles: Sequence[Any]
    ) -> list[Submitted]:
        submitted, receipt = insert_into(connection, self._me, submits, handles)
        self._receipts.append(receipt)
        return submitted

    @override
    def transaction(self, claim: Claim) -> OpenTransaction:
        return JobTransaction(self._database, claim, self._me, self._peers.send)

    # Recurring entries.

    @override
    def put_entry(self, entry: Entry) -> None:
        with self._work(is_synced=True) as work:
            self._entries.put(work, entry)

    @override
    def fire_entry(
        self,
        entry: Entry,
        next_tick: float,
        submits: Sequence[Submit],
        *,
        missed: int = 0,
        overlaps: bool = True,
    ) -> list[Submitted] | None:
        with self._work(is_synced=True) as work:
            return self._entries.fire(
                work, entry, next_tick, submits, missed=missed, overlaps=overlaps
            )

    @override
    def pause_entry(self, pool: str, name: str, *, is_paused: bool) -> bool:
        with self._work(is_synced=True) as work:
            return self._entries.pause(work, pool, name, is_paused=is_paused)

    @override
    def delete_entry(self, pool: str, name: str) -> bool:
        with self._work(is_synced=True) as work:
            return self._entries.delete(work, pool, name)

    @override
    def purge(
        self, pool: str, keep_succeeded: int, failed_before: float, keep_bytes: float, budget: int
    ) -> int:
        with self._work(is_synced=False) as work:
            old = job_actions.old(work, pool, keep_succeeded, failed_before, budget)
            work.erase(jobs := old or self._excess.find(work, pool, keep_bytes, budget))
        self._database.note_deleted()
        return len(jobs)

    @override
    def wait(self, timeout: float | None) -> list[Any]:
        limits = [timeout, self._database.tidy(), _LONGEST_SLEEP]
        timeout = min(each for each in limits if each is not None)
        return [each for each in self._peers.wait(timeout) if self._peers.is_dead(each)]
