"""Work: what one transaction does to jobs, and whom that concerns.

Every change of a job passes through here, so that what follows from it is written once: the next
job of its key moves up, its limiters count, and the `Notifier` hears of it.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from math import inf
from typing import Any, Final

from oddjob.durable.record import (
    MAX_CRASHES,
    Capacity,
    Claim,
    Partition,
    State,
    Submit,
    Submitted,
    Update,
)
from oddjob.durable.sqlite import schema
from oddjob.durable.sqlite.dependencies import Dependencies
from oddjob.durable.sqlite.key_slots import KeySlots
from oddjob.durable.sqlite.notifier import Notifier
from oddjob.durable.sqlite.partitions import Allowance, KnownPartition, PartitionTable, release
from oddjob.durable.sqlite.turns import Turns, claim_order
from oddjob.keys import decode_key

Row = tuple[Any, ...]
_Uniques = dict[tuple[str, bytes], tuple[int, int | None, int]]  # id, origin and state of jobs

_QUEUED: Final = int(State.QUEUED)


class Work:
    """One transaction."""

    def __init__(
        self, connection: sqlite3.Connection, partitions: PartitionTable, me: int | None, now: float
    ) -> None:
        self.execute: Final = connection.execute
        self._many: Final = connection.executemany
        self.keys: Final = KeySlots(connection.execute)
        self._partitions: Final = partitions
        self._me: Final = me  # the number of this process
        self.now: Final = now
        self.notifier: Final = Notifier(connection.execute, partitions, me)
        self.to_wake: Final = self.notifier.to_wake
        self.turns: Final = Turns(connection.execute)
        self.dependencies: Final = Dependencies(
            connection.execute, self.notifier, self.keys, self.turns, now
        )
        self.opens_in: float = inf  # seconds, until a rate allows a job that it has held up

    # New jobs.

    def insert(  # noqa: C901  (all that may become of a submit, in one pass over thousands)
        self, submits: Sequence[Submit], above: int = 0
    ) -> list[Submitted]:
        """Store new jobs, with ids above that, but for those that are there, or find no room."""
        execute = self.execute
        job: int = max(above, execute(schema.LAST_ID).fetchone()[0])
        submitted: list[Submitted] = []
        rows: list[Row] = []
        uniques: _Uniques = {}
        stored: dict[str, int] = {}  # by pool: jobs that waited before
        queued, waiting = self.notifier.queued, self.notifier.waiting
        partition_of: Partition | None = None
        pool, partition = "", 0
        for each in submits:
            if each.partition is not partition_of:
                partition_of, pool = each.partition, each.partition.pool
                partition = self._partitions.id_of(execute, partition_of)
            origin = self._me if each.wants_outcome else None
            if each.unique is not None:
                twin = self._twin(each, partition, origin, uniques, rows)
                if twin is not None:
                    submitted.append(twin)
                    continue
            if each.max_queue is not None and not self._has_room(
                pool, each.max_queue, stored, rows
            ):
                submitted.append(Submitted(None, is_new=False))
                continue
            job += 1
            state, due, slot, batch, waits = _QUEUED, None, None, None, False
            if each.is_linked:
                batch, waits = self.dependencies.add(job, each, submitted)
            if waits:
                state = int(State.SCHEDULED)
            elif each.delay is not None and each.delay > 0:
                state, due = int(State.SCHEDULED), self.now + each.delay
                self.notifier.alarm(partition, due)
            elif each.key is not None:
                slot = self.keys.take(pool, each.key, each.key_limit)
                state = int(State.PARKED) if slot is None else _QUEUED
            if each.unique is not None:
                uniques[(pool, each.unique)] = (job, origin, state)
            if state == _QUEUED:
                queued[partition] += 1
            fair, step = each.fair_key, None if each.fair_key is None else each.fair_step
            is_due = state != State.SCHEDULED
            turn = self.turns.give(pool, each.priority, fair, step, is_due=is_due)
            fair = "" if fair is None and turn is not None else fair
            waiting[pool] += 1
            submitted.append(Submitted(job, is_new=True))
            row: Row = (
                job, partition, pool, state, each.priority, due, origin, each.key, each.key_limit,
                slot, each.is_serial, each.unique, each.entry, self.now, _storable(each.name),
                each.meta, each.payload, batch, fair, step, turn,
            )  # fmt: skip
            rows.append(row)
        self._many(schema.INSERT, rows)
        self.dependencies.added()
        return submitted

    def _twin(
        self, submit: Submit, partition: int, origin: int | None, new: _Uniques, rows: list[Row]
    ) -> Submitted | None:
        """Return the unfinished job that is as unique; None: the submit is a job of its own.

        `new` and `rows` are the jobs that are not stored yet.
        """
        place = (submit.partition.pool, submit.unique or b"")
        twin = new.get(place) or self.execute(schema.FIND_UNIQUE, place).fetchone()
        if twin is None:
            return None
        job, its_origin, state = twin
        if submit.replaces:
            self._many(schema.INSERT, rows)  # it may be one of them
            rows.clear()
            if self.execute(schema.LET_UNIQUE_GO, (job,)).rowcount:
                return None
            due = self.now + (submit.delay or 0.0) if submit.replaces_time else None
            name, key = _storable(submit.name), submit.key
            row = (name, submit.meta, submit.payload, due, job, partition, key)
            if self.execute(schema.REPLACE, row).rowcount and due is not None:
                self.notifier.alarm(partition, due)
        if origin not in (None, its_origin):
            self.notifier.watch(job)
        return Submitted(job, is_new=False, is_delayed=state == State.SCHEDULED)

    def _has_room(self, pool: str, most: int, stored: dict[str, int], new: Sequence[Row]) -> bool:
        """Return whether one more job may wait; `new` are those that are not stored yet."""
        if pool not in stored:
            statement = "SELECT waiting FROM pool WHERE name = ?"
            (waiting,) = self.execute(statement, (pool,)).fetchone()
            if waiting is None:  # nobody has asked before
                self.execute(_COUNT_WAITING, (pool,))
                self.notifier.waiting[pool] = sum(row[2] == pool for row in new)
                (waiting,) = self.execute(statement, (pool,)).fetchone()
            stored[pool] = waiting
        if stored[pool] + self.notifier.waiting[pool] < most:
            return True
        want = "INSERT OR IGNORE INTO room (pool, process) VALUES (?, ?)"
        self.execute(want, (pool, self._me))
        return False

    def promote(self) -> None:
        """Queue, or park, the scheduled jobs that are due."""
        for job, partition, pool, key, limit, held in self.execute(
            schema.DUE, (self.now,)
        ).fetchall():
            state, slot = State.QUEUED, held
            if key is not None and slot is None:
                slot = self.keys.take(pool, key, limit)
                state = State.QUEUED if slot is not None else State.PARKED
            self.turns.give_again(job)
            self.execute(schema.OPEN, (int(state), slot, job))
            self.notifier.queued[partition] += state is State.QUEUED

    # Claims.

    def claim(
        self, pool: str, partitions: Sequence[KnownPartition], capacity: Capacity
    ) -> list[Claim]:
        """Claim jobs of these partitions for this process, in the order in which they start."""
        if self._is_paused(pool):
            return []
        if capacity.limit == 0:
            # Nothing can be claimed, but others may wait for `opens_in` of these.
            partitions = [partition for partition in partitions if partition.limiters]
        if len(partitions) == 1 and not partitions[0].limiters:
            values = (self._me, self.now, partitions[0].id, capacity.limit)
            rows = self.execute(schema.CLAIM, values).fetchall()
        else:
            rows = self._claim_from_many(pool, partitions, capacity)
        rows.sort(key=claim_order)  # RETURNING has no order
        self.turns.start(pool, [(row[0], row[-1]) for row in rows])
        self.notifier.waiting[pool] -= len(rows)
        return [self._claim_of(row) for row in rows]

    def _is_paused(self, pool: str) -> bool:
        row = self.execute("SELECT paused FROM pool WHERE name = ?", (pool,)).fetchone()
        return row is not None and bool(row[0])

    def _claim_from_many(
        self, pool: str, partitions: Sequence[KnownPartition], capacity: Capacity
    ) -> list[Row]:
        allowance = Allowance(self.execute, pool, self.now)
        heads: list[tuple[tuple[Any, ...], int, KnownPartition]] = []
        for partition in partitions:
            most = capacity.idle if allowance.is_rated(partition) else capacity.limit
            most = int(min(most, allowance.of(partition)))
            if most > 0:
                found = self.execute(schema.HEADS, (partition.id, most))
                heads += [(claim_order(row), row[1], partition) for row in found]
        heads.sort(key=lambda head: head[0])
        taken: list[int] = []
        for _, job, partition in heads:
            if len(taken) == capacity.limit:
                break
            is_spare = len(taken) >= capacity.idle
            if allowance.of(partition) >= 1 and not (is_spare and allowance.is_rated(partition)):
                allowance.take(partition)
                taken.append(job)
        allowance.store()
        for partition in partitions:
            if allowance.is_rated(partition) and self.notifier.has_queued(partition.id):
                self.opens_in = min(self.opens_in, allowance.opens_in(partition) or inf)
        values = (self._me, self.now, json.dumps(taken))
        return self.execute(schema.CLAIM_THESE, values).fetchall()

    def _claim_of(self, row: Row) -> Claim:
        (priority, job, token, partition, payload, meta, name,
         attempt, crashes, key, serial, origin, batch, _) = row  # fmt: skip
        known = self._partitions.get(self.execute, partition)
        return Claim(
            job, token, partition, known.pool, known.function, payload, meta, name, priority,
            attempt, crashes, key, bool(serial), origin, crashes >= MAX_CRASHES - 1, batch=batch,
        )  # fmt: skip

    # What becomes of claims.

    def update(self, updates: Sequence[Update]) -> list[Update]:
        """Update claims; return the updates that are refused."""
        refused: list[Update] = []
        is_watched, are_waiting = self.notifier.is_watched()
        # Progress first: the job may end in the same turn.
        for each in sorted(updates, key=lambda each: each.state is not State.RUNNING):
            claim, state = each.claim, each.state
            if not self._write(each):
                refused.append(each)
                continue
            if state is State.RUNNING:
                continue
            self._follow_up(each)
            if not state.has_ended:
                continue
            if is_watched or claim.origin not in (None, self._me):
                outcome, error = each.outcome, each.error
                self.notifier.tell(
                    claim.id, state, outcome, error, claim.origin, except_for=self._me
                )
            if are_waiting or claim.batch is not None:
                self.dependencies.note(claim.id, state, claim.batch, each.outcome)
        if any(each.state in (State.QUEUED, State.SCHEDULED) for each in updates):
            self._cancel_stopped()
        self.dependencies.follow()
        self._release()
        return refused

    def _write(self, update: Update) -> bool:
        """Write one update; return False if its token is not valid."""
        claim, state = update.claim, update.state
        fence = (claim.id, claim.token)
        if state is State.RUNNING:
            return bool(self.execute(schema.PROGRESS, (update.outcome, *fence)).rowcount)
        if state is State.SUCCEEDED and not update.is_kept:
            return bool(self.execute(schema.FORGET, fence).rowcount)
        finished = self.now if state.has_ended else None
        due = self.now + update.delay if state is State.SCHEDULED else None
        is_tried = state is not State.QUEUED
        frees_key = state.has_ended or (is_tried and not claim.is_serial)
        row = (int(state), due, update.outcome, _storable(update.error), update.started, finished,
               is_tried, frees_key, *fence)  # fmt: skip
        return bool(self.execute(schema.UPDATE, row).rowcount)

    def _follow_up(self, update: Update) -> None:
        """Count a claim that has ended, and let the next jobs of its key move up."""
        claim, state = update.claim, update.state
        self.notifier.released[claim.partition] += 1
        if state is State.QUEUED:
            self.notifier.queued[claim.partition] += 1
        if state in (State.QUEUED, State.SCHEDULED):
            self.notifier.waiting[claim.pool] += 1
        if state is State.SCHEDULED:
            self.notifier.alarm(claim.partition, self.now + update.delay)
        if update.traceback is not None:
            self._add_attempt(update)
        if claim.key is not None and state is not State.QUEUED:
            self._key_freed(claim.pool, claim.key, state, claim.id)

    def _add_attempt(self, update: Update) -> None:
        claim, why = update.claim, _storable(update.traceback)
        self.execute(
            "INSERT OR REPLACE INTO attempt (job, number, started, finished, process, traceback) "
            "VALUES (?, ?, ?, ?, (SELECT host || ':' || pid FROM process WHERE id = ?), ?)",
            (claim.id, claim.attempt + 1, update.started, self.now, self._me, why),
        )

    def put_back(self, process: int, begun: set[tuple[int, int]]) -> int:
        """Queue the claims of a process again; charge a crash to those that had begun."""
        rows = self.execute(schema.RUNNING, (process,)).fetchall()
        for job, token, partition, pool, key, _, before, origin, batch in rows:
            state, error = State.QUEUED, None
            crashes = before + ((job, token) in begun)
            if crashes > before and crashes >= MAX_CRASHES:
                state = State.FAILED
                error = f"JobLost: {crashes} processes died while they ran this job"
            has_failed = state is State.FAILED
            finished = self.now if has_failed else None
            self.execute(
                schema.TAKE_OVER, (int(state), crashes, finished, error, has_failed, job, token)
            )
            self.notifier.released[partition] += 1
            if has_failed:
                self._tell(job, state, error, origin, batch)
                if key is not None:
                    self._key_freed(pool, key, state, job)
            else:
                self.notifier.queued[partition] += 1
                self.notifier.waiting[pool] += 1
        self._cancel_stopped()
        self.dependencies.follow()
        self._release()
        return len(rows)

    def _tell(
        self, job: int, state: State, error: str | None, origin: int | None, batch: int | None
    ) -> None:
        """Note the end of a job that no process has run to its end."""
        self.notifier.tell(job, state, None, error, origin)
        self.dependencies.note(job, state, batch)

    def _release(self) -> None:
        for partition, count in self.notifier.released.items():
            release(self.execute, self._partitions.get(self.execute, partition), count)

    def _key_freed(self, pool: str, key: str, state: State, job: int) -> None:
        """Let the next jobs of a key move up; fail serial ones behind one that has failed."""
        if state is State.FAILED:
            error = self.dependencies.error_behind(job, f"before it in line {decode_key(key)!r}")
            failed = self.execute(schema.FAIL_SERIAL, (self.now, error, pool, key, job))
            for behind, origin, batch in failed.fetchall():
                self.notifier.waiting[pool] -= 1
                self._tell(behind, State.FAILED, error, origin, batch)
        for partition in self.keys.move_up(pool, key):
            self.notifier.queued[partition] += 1

    def fail_unknown(self, partitions: Iterable[int], after: float) -> float:
        """Fail jobs of these partitions that waited `after` seconds without a process for them.

        Returns when to look again. A partition notes since when no process knows its function.
        """
        look = inf
        for partition, since in self.execute(
            schema.STRANDED, (json.dumps(list(partitions)),)
        ).fetchall():
            if since is None:
                self.execute(
                    "UPDATE partition SET stranded = ? WHERE id = ?", (self.now, partition)
                )
            due = (self.now if since is None else since) + after
            while due <= self.now:
                ((created,),) = self.execute(schema.OLDEST, (partition,)).fetchall()
                due = inf if created is None else created + after
                if due <= self.now:
                    self._fail_unknown(partition, after)
            look = min(look, due)
        return look

    def _fail_unknown(self, partition: int, after: float) -> None:
        _, pool, function, _ = self._partitions.get(self.execute, partition)
        error = (
            f"UnknownFunction: for {after:g} s, no process that runs jobs of pool {pool!r} has "
            f"known {function}: start one that imports its module, and retry the job"
        )
        values = (self.now, error, partition, self.now - after)
        for job, key, origin, batch in self.execute(schema.FAIL_UNKNOWN, values).fetchall():
            self.notifier.waiting[pool] -= 1
            self._tell(job, State.FAILED, error, origin, batch)
            if key is not None:
                self._key_freed(pool, key, State.FAILED, job)
        self.dependencies.follow()

    # By hand.

    def cancel_one(self, job: int) -> bool:
        """Cancel a job that waits, or ask for the end of one that runs; not of a batch."""
        brief = schema.brief_of(self.execute, job)
        if brief is None or brief.state.has_ended:
            return False
        if brief.state is State.RUNNING:
            self.execute(schema.STOP, (job,))
            self.notifier.ask_to_stop(job, brief.owner)
            return True
        self.execute(
            "UPDATE job SET state = 6, finished = ?, due = NULL, key_slot = NULL WHERE id = ?",
            (self.now, job),
        )
        self.notifier.waiting[brief.pool] -= 1
        self._tell(job, State.CANCELLED, None, brief.origin, brief.batch)
        if brief.key is not None:
            self._key_freed(brief.pool, brief.key, State.CANCELLED, job)
        return True

    def _cancel_stopped(self) -> None:
        """Cancel what was asked to stop while it ran, and would run once more."""
        for (job,) in self.execute(schema.STOPPED).fetchall():
            self.cancel_one(job)

    def erase(self, jobs: Iterable[int]) -> None:
        """Delete the rows of jobs that have ended."""
        self.execute(schema.ERASE, (json.dumps(list(jobs)),))


def _storable(text: str | None) -> str | None:
    """Return a text that SQLite takes: names of files may have bytes that are no characters."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


_COUNT_WAITING: Final = """
UPDATE pool SET waiting = (SELECT count(*) FROM job
                           WHERE pool = pool.name AND state IN (0, 1, 3)) WHERE name = ?"""
