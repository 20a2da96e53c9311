"""Work: what one transaction does to jobs, and whom that concerns.

Every change of a job passes through here, so that what follows from it is written once: the next
job of its key moves up, its limiters count, those who wait for it get news, and a hungry process is
woken for what is left.

Why no wake-up is lost: ``hungry`` is a column. A process becomes hungry in the very transaction in
which it found nothing, so every later writer sees that, and it has seen what every earlier one has
written. A writer that dies between its commit and its wake-ups is noticed by all who watch it, and
each of them takes a turn.
"""

import json
import random
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from math import inf
from typing import Any, Final

from oddjob.durable.record import (
    MAX_CRASHES,
    Capacity,
    Claim,
    News,
    State,
    Submit,
    Submitted,
    Update,
)
from oddjob.durable.sqlite import schema
from oddjob.durable.sqlite.key_slots import KeySlots
from oddjob.durable.sqlite.lanes import Allowance, KnownLane, LaneTable, release

Row = tuple[Any, ...]


class Mismatch(Exception):
    """An update in a batch is refused: they have to be made one by one."""


class Work:
    """One transaction."""

    __slots__ = ("_alarms", "_execute", "_keys", "_lanes", "_many", "_me", "_ready", "_taken", "_waiting",
                 "now", "opens_in", "to_wake")  # fmt: skip

    def __init__(
        self, connection: sqlite3.Connection, lanes: LaneTable, me: int | None, now: float
    ) -> None:
        self._execute: Final = connection.execute
        self._many: Final = connection.executemany
        self._keys: Final = KeySlots(connection.execute)
        self._lanes: Final = lanes
        self._me: Final = me  # the number of this process
        self.now: Final = now
        self._ready: Final[Counter[int]] = Counter()  # by lane: jobs that may run now
        self._waiting: Final[Counter[str]] = Counter()  # by pool: change of what waits
        self._taken: Final[Counter[int]] = Counter()  # by lane: jobs that run no longer
        self._alarms: Final[dict[int, float]] = {}  # by lane: when the next one is due
        self.opens_in = inf  # seconds, until a rate allows a job that it has held up
        self.to_wake: Final[set[int]] = set()  # processes, after the commit

    # New jobs.

    def insert(self, submits: Sequence[Submit]) -> list[Submitted]:
        """Store new jobs, but for those that are there already, or find no room."""
        execute = self._execute
        found = execute(schema.LAST_ID).fetchone()
        job: int = found[0] if found else 0
        submitted: list[Submitted] = []
        rows: list[Row] = []
        uniques: dict[tuple[str, bytes], tuple[int, int | None]] = {}
        room: dict[str, int] = {}
        for each in submits:
            pool = each.lane.pool
            lane = self._lanes.id_of(execute, each.lane)
            origin = self._me if each.wants_outcome else None
            if each.unique is not None:
                place = (pool, each.unique)
                twin = uniques.get(place) or execute(schema.FIND_UNIQUE, place).fetchone()
                if twin is not None:
                    if origin not in (None, twin[1]):
                        self.watch(twin[0])
                    submitted.append(Submitted(twin[0], is_new=False))
                    continue
            if each.max_queue is not None and not self._has_room(pool, each.max_queue, room):
                submitted.append(Submitted(None, is_new=False))
                continue
            job += 1
            if each.unique is not None:
                uniques[(pool, each.unique)] = (job, origin)
            state, due, slot = State.QUEUED, None, None
            if each.delay is not None and each.delay > 0:
                state, due = State.SCHEDULED, self.now + each.delay
                self._alarm(lane, due)
            elif each.key is not None:
                slot = self._keys.take(pool, each.key, each.key_limit)
                state = State.PARKED if slot is None else State.QUEUED
            if state is State.QUEUED:
                self._ready[lane] += 1
            self._waiting[pool] += 1
            submitted.append(Submitted(job, is_new=True))
            rows.append(
                (
                    job,
                    lane,
                    pool,
                    int(state),
                    each.priority,
                    due,
                    origin,
                    each.key,
                    each.key_limit,
                    slot,
                    each.is_serial,
                    each.unique,
                    each.entry,
                    self.now,
                    each.name,
                    each.meta,
                    each.payload,
                )  # fmt: skip
            )
        self._many(schema.INSERT, rows)
        return submitted

    def _has_room(self, pool: str, most: int, room: dict[str, int]) -> bool:
        left = room.get(pool)
        if left is None:
            row = self._execute("SELECT waiting FROM pool WHERE name = ?", (pool,)).fetchone()
            left = most - row[0] - self._waiting[pool]
        room[pool] = left - 1
        if left > 0:
            return True
        want = "INSERT OR IGNORE INTO room (pool, process) VALUES (?, ?)"
        self._execute(want, (pool, self._me))
        return False

    def promote(self) -> None:
        """Queue, or park, the scheduled jobs that are due."""
        for job, lane, pool, key, limit, slot in self._execute(schema.DUE, (self.now,)).fetchall():
            state = State.QUEUED
            if key is not None and slot is None:
                slot = self._keys.take(pool, key, limit)
                state = State.QUEUED if slot is not None else State.PARKED
            self._execute(schema.OPEN, (int(state), slot, job))
            self._ready[lane] += state is State.QUEUED

    # Claims.

    def claim(self, pool: str, lanes: Sequence[KnownLane], capacity: Capacity) -> list[Claim]:
        """Claim jobs of these lanes for this process, in the order in which they are to start."""
        if self._is_paused(pool):
            return []
        if capacity.limit == 0:
            # But a rate that opens is to be seen: others may be waiting for it.
            lanes = [lane for lane in lanes if lane.limiters]
        if len(lanes) == 1 and not lanes[0].limiters:
            rows = self._execute(schema.CLAIM, (self._me, lanes[0].id, capacity.limit)).fetchall()
        else:
            rows = self._claim_from_many(pool, lanes, capacity)
        rows.sort(key=lambda row: (-row[0], row[1]))  # RETURNING has no order
        self._waiting[pool] -= len(rows)
        return [self._claim_of(row) for row in rows]

    def _is_paused(self, pool: str) -> bool:
        row = self._execute("SELECT paused FROM pool WHERE name = ?", (pool,)).fetchone()
        return row is not None and bool(row[0])

    def _claim_from_many(
        self, pool: str, lanes: Sequence[KnownLane], capacity: Capacity
    ) -> list[Row]:
        allowance = Allowance(self._execute, pool, self.now)
        heads: list[tuple[int, int, KnownLane]] = []
        for lane in lanes:
            most = capacity.idle if allowance.is_rated(lane) else capacity.limit
            most = int(min(most, allowance.of(lane)))
            if most > 0:
                found = self._execute(schema.HEADS, (lane.id, most))
                heads += [(-priority, job, lane) for priority, job in found]
        heads.sort(key=lambda head: head[:2])
        taken: list[int] = []
        for _, job, lane in heads:
            if len(taken) == capacity.limit:
                break
            if allowance.of(lane) >= 1:
                allowance.take(lane)
                taken.append(job)
        allowance.store()
        for lane in lanes:
            if allowance.is_rated(lane) and self._has_queued(lane.id):
                self.opens_in = min(self.opens_in, allowance.opens_in(lane) or inf)
        return self._execute(schema.CLAIM_THESE, (self._me, json.dumps(taken))).fetchall()

    def _claim_of(self, row: Row) -> Claim:
        priority, job, token, lane, payload, meta, name, attempt, crashes, key, serial, origin = row
        known = self._lanes.get(self._execute, lane)
        return Claim(
            job, token, lane, known.pool, known.function, payload, meta, name, priority,
            attempt, crashes, key, bool(serial), origin, crashes >= MAX_CRASHES - 1,
        )  # fmt: skip

    # What becomes of claims.

    def update(self, updates: Sequence[Update], *, one_by_one: bool) -> list[Update]:
        """Update claims; return the updates that are refused.

        Raises:
            Mismatch: some are, and have to be found out `one_by_one`.
        """
        refused = self._write(updates, one_by_one=one_by_one)
        are_refused = set(map(id, refused))
        is_watched = self._execute("SELECT 1 FROM watch LIMIT 1").fetchone() is not None
        for each in updates:
            if each.state is State.RUNNING or id(each) in are_refused:
                continue
            claim = each.claim
            self._taken[claim.lane] += 1
            if each.state is State.QUEUED:
                self._ready[claim.lane] += 1
            if each.state in (State.QUEUED, State.SCHEDULED):
                self._waiting[claim.pool] += 1
            if each.state is State.SCHEDULED:
                self._alarm(claim.lane, self.now + each.delay)
            if each.traceback is not None:
                self._add_attempt(each)
            if claim.key is not None and each.state is not State.QUEUED:
                self._key_freed(claim.pool, claim.key, each.state, claim.id)
            is_awaited = is_watched or claim.origin not in (None, self._me)
            if each.state.has_ended and is_awaited:
                self.tell(
                    claim.id, each.state, each.outcome, each.error, claim.origin, but=self._me
                )
        forgotten = [each.claim.id for each in updates if not each.is_kept]
        if forgotten and self._execute("SELECT 1 FROM step LIMIT 1").fetchone() is not None:
            self._execute(schema.FORGET_STEPS, (json.dumps(forgotten),))
        self._release()
        return refused

    def _write(self, updates: Sequence[Update], *, one_by_one: bool) -> list[Update]:
        batches: dict[str, list[tuple[Row, Update]]] = {}
        for each in updates:
            claim, state = each.claim, each.state
            row: Row
            fence = (claim.id, claim.token)
            if state is State.RUNNING:
                statement = schema.PROGRESS
                row = (each.outcome, *fence)
            elif state is State.SUCCEEDED and not each.is_kept:
                statement = schema.FORGET
                row = fence
            else:
                finished = self.now if state.has_ended else None
                due = self.now + each.delay if state is State.SCHEDULED else None
                statement = schema.UPDATE
                row = (int(state), due, each.outcome, each.error, each.started, finished,
                       state is not State.QUEUED, (state is not State.QUEUED and not claim.is_serial)
                       or state.has_ended, *fence)  # fmt: skip
            batches.setdefault(statement, []).append((row, each))
        refused: list[Update] = []
        for statement, batch in batches.items():
            if one_by_one:
                refused += [
                    each for row, each in batch if not self._execute(statement, row).rowcount
                ]
            else:
                rows = [row for row, _ in batch]
                if self._many(statement, rows).rowcount != len(rows):
                    raise Mismatch
        return refused

    def _add_attempt(self, update: Update) -> None:
        claim = update.claim
        self._execute(
            "INSERT OR REPLACE INTO attempt (job, number, started, finished, process, traceback) "
            "VALUES (?, ?, ?, ?, (SELECT host || ':' || pid FROM process WHERE id = ?), ?)",
            (claim.id, claim.attempt + 1, update.started, self.now, self._me, update.traceback),
        )

    def put_back(self, process: int, begun: set[tuple[int, int]]) -> int:
        """Queue the claims of a process again; charge a crash to those that had begun."""
        rows = self._execute(schema.RUNNING, (process,)).fetchall()
        for job, token, lane, pool, key, _, crashes, origin in rows:
            state, error = State.QUEUED, None
            if (job, token) in begun:
                crashes += 1
                if crashes >= MAX_CRASHES:
                    state = State.FAILED
                    error = f"JobLost: {crashes} processes died while they ran this job"
            has_failed = state is State.FAILED
            finished = self.now if has_failed else None
            self._execute(
                schema.TAKE_OVER, (int(state), crashes, finished, error, has_failed, job, token)
            )
            self._taken[lane] += 1
            if has_failed:
                self.tell(job, state, None, error, origin)
                if key is not None:
                    self._key_freed(pool, key, state, job)
            else:
                self._ready[lane] += 1
                self._waiting[pool] += 1
        self._release()
        return len(rows)

    def _release(self) -> None:
        for lane, count in self._taken.items():
            release(self._execute, self._lanes.get(self._execute, lane), count)

    def _key_freed(self, pool: str, key: str, state: State, job: int) -> None:
        """Let the next jobs of a key move up; fail serial ones behind one that has failed."""
        if state is State.FAILED:
            error = f"PredecessorFailed: job {job}, before it in line {key!r}, failed"
            failed = self._execute(schema.FAIL_SERIAL, (self.now, error, pool, key, job))
            for behind, origin in failed.fetchall():
                self._waiting[pool] -= 1
                self.tell(behind, State.FAILED, None, error, origin)
        self._ready.update(self._keys.move_up(pool, key))

    # By hand.

    def cancel(self, job: int) -> bool:
        """Cancel a job that waits, or ask for the end of one that runs."""
        row = self._execute(schema.BRIEF, (job,)).fetchone()
        if row is None or State(row[1]).has_ended:
            return False
        _, state, _, pool, key, owner, origin, _, _, _ = row
        if state == State.RUNNING:
            self._execute(schema.ADD_NEWS, (job, int(State.RUNNING), None, None, owner))
            self.to_wake.add(owner)
            return True
        self._execute(
            "UPDATE job SET state = 6, finished = ?, due = NULL, key_slot = NULL WHERE id = ?",
            (self.now, job),
        )
        self._waiting[pool] -= 1
        self.tell(job, State.CANCELLED, None, None, origin)
        if key is not None:
            self._key_freed(pool, key, State.QUEUED, job)
        return True

    def retry(self, job: int) -> bool:
        """Queue a job again that has failed or was cancelled; one that is scheduled, at once."""
        row = self._execute(schema.BRIEF, (job,)).fetchone()
        if row is None or row[1] not in (State.SCHEDULED, State.FAILED, State.CANCELLED):
            return False
        _, state, lane, pool, key, _, _, unique, limit, slot = row
        if State(state).has_ended:
            if self._execute(schema.FIND_UNIQUE, (pool, unique)).fetchone() is not None:
                return False  # another job has taken its place
            self._waiting[pool] += 1
        if key is not None and slot is None:  # a serial one has kept it
            slot = self._keys.take(pool, key, limit)
        is_parked = key is not None and slot is None
        self._execute(schema.RETRY, (int(State.PARKED if is_parked else State.QUEUED), slot, job))
        self._ready[lane] += not is_parked
        return True

    def delete(self, job: int) -> bool:
        """Delete a job that is not running."""
        row = self._execute(schema.BRIEF, (job,)).fetchone()
        if row is None or row[1] == State.RUNNING:
            return False
        if not State(row[1]).has_ended:
            self.cancel(job)
        self.erase([job])
        return True

    def erase(self, jobs: Iterable[int]) -> None:
        """Delete the rows of jobs that have ended."""
        ids = json.dumps(list(jobs))
        for table, column in (("job", "id"), ("attempt", "job"), ("step", "job")):
            inside = "(SELECT value FROM json_each(?))"
            self._execute(f"DELETE FROM {table} WHERE {column} IN {inside}", (ids,))  # noqa: S608

    # News and wake-ups.

    def watch(self, job: int) -> None:
        """Have this process get news of a job's end."""
        self._execute("INSERT OR IGNORE INTO watch (job, process) VALUES (?, ?)", (job, self._me))

    def tell(
        self,
        job: int,
        state: State,
        outcome: bytes | None,
        error: str | None,
        origin: int | None,
        *,
        but: int | None = None,
    ) -> None:
        """Leave the end of a job to the processes that wait for it, but for one that knows."""
        rows = self._execute("DELETE FROM watch WHERE job = ? RETURNING process", (job,)).fetchall()
        readers = {process for (process,) in rows}
        if origin is not None:
            readers.add(origin)
        for reader in readers - {but}:
            # None is added for a process that has gone.
            if self._execute(schema.ADD_NEWS, (job, int(state), outcome, error, reader)).rowcount:
                self.to_wake.add(reader)

    def read_news(self) -> tuple[list[News], set[bytes]]:
        """Take what has been left for this process: news, and the marks of receipts."""
        rows = self._execute(schema.READ_NEWS, (self._me,)).fetchall()
        marks = {outcome for _, state, outcome, _ in rows if state == schema.RECEIPT}
        return [
            News(job, State(state), outcome, error)
            for job, state, outcome, error in rows
            if state != schema.RECEIPT
        ], marks

    def _alarm(self, lane: int, due: float) -> None:
        self._alarms[lane] = min(due, self._alarms.get(lane, inf))

    def finish(self, mine: Iterable[KnownLane] = (), left: Iterable[KnownLane] = ()) -> bool:
        """Write the counters, and find out whom to wake; the last act of a transaction.

        Args:
            mine: the lanes from which this process has claimed what it could.
            left: those of them where it could not take all that may run.

        Returns:
            Whether another process is hungry for jobs of `mine`.
        """
        self._count()
        hungry = {lane.id: self._hungry_for(lane) for lane in mine}
        has_hungry_peers = any(hungry.values())
        due = self.next_due() if self._alarms else inf
        freed = set(self._taken)
        for lane_id in self._taken:
            freed |= self._lanes.sharing(self._execute, self._lanes.get(self._execute, lane_id))
        for lane_id in {*(lane.id for lane in left), *freed, *self._ready, *self._alarms}:
            if lane_id not in hungry:
                lane = self._lanes.get(self._execute, lane_id)
                hungry[lane_id] = self._hungry_for(lane)
                if self._alarms.get(lane_id, inf) <= due:  # they sleep until what was due before
                    self.to_wake.update(hungry[lane_id])
            peers = hungry[lane_id]
            if peers and self._has_queued(lane_id):
                wanted = min(len(peers), max(1, self._ready[lane_id]))
                self.to_wake.update(random.sample(sorted(peers), wanted))
        return has_hungry_peers

    def _has_queued(self, lane: int) -> bool:
        return self._execute(schema.ANY_QUEUED, (lane,)).fetchone() is not None

    def next_due(self) -> float:
        """Return when the next scheduled job is due, by the store's clock."""
        row = self._execute(schema.NEXT_DUE).fetchone()
        return inf if row is None else float(row[0])

    def _hungry_for(self, lane: KnownLane) -> set[int]:
        rows = self._execute(schema.HUNGRY, (lane.pool, lane.function))
        return {process for (process,) in rows} - {self._me or 0}

    def _count(self) -> None:
        for pool, change in self._waiting.items():
            if change:
                self._execute(
                    "UPDATE pool SET waiting = waiting + ? WHERE name = ?", (change, pool)
                )
            if change < 0:
                wanting = "DELETE FROM room WHERE pool = ? RETURNING process"
                self.to_wake.update(row[0] for row in self._execute(wanting, (pool,)).fetchall())
