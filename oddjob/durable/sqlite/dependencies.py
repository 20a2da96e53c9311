"""Dependencies: what the end of a job, or its retry, means to jobs that wait for it; in SQLite.

A job that waits has a row in ``dependency`` for each job that it waits for and that has not ended
as it needs. The transaction in which a job ends deletes the rows that are met, and opens jobs that
have none left. A row that cannot be met stays: its waiter ends, and waits again when the other job
is retried. The row of a job that is gone stands for nothing.

A *batch* is a job without a call, whose members have it in their column ``batch``. How many of them
have not ended is counted in its row of the table ``batch``, once for all that a transaction ends.

All of this is a loop, not a recursion: a chain may have any number of jobs.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from oddjob.durable.record import (
    Reference,
    State,
    Submit,
    Submitted,
    batch_error,
    predecessor_error,
    step_of_value,
)
from oddjob.durable.sqlite import schema
from oddjob.durable.sqlite.key_slots import KeySlots
from oddjob.durable.sqlite.notifier import Notifier
from oddjob.durable.sqlite.partitions import Execute
from oddjob.durable.sqlite.turns import Turns
from oddjob.runtime.links import Condition


class _End(NamedTuple):
    """How a job has ended."""

    state: State
    outcome: bytes | None
    batch: int | None


class Dependencies:
    """The jobs that wait for others, in one transaction."""

    def __init__(
        self, execute: Execute, notifier: Notifier, keys: KeySlots, turns: Turns, now: float
    ) -> None:
        self._execute: Final = execute
        self._notifier: Final = notifier
        self._keys: Final = keys
        self._turns: Final = turns
        self._now: Final = now
        self._ended: dict[int, _End] = {}  # jobs whose ends are to be followed up
        self._new_members: Final[defaultdict[int, int]] = defaultdict(int)  # by batch

    # New jobs.

    def add(
        self, job: int, submit: Submit, submitted: Sequence[Submitted]
    ) -> tuple[int | None, bool]:
        """Note what a new job has to do with others; return its batch, and whether it waits."""
        batch = None if submit.batch is None else _resolved(submit.batch, submitted)
        if batch is not None:
            self._new_members[batch] += 1
        if submit.is_batch:
            self._new_members[job] += 0
        waits = submit.is_batch
        for other, condition in submit.after:
            number = _resolved(other, submitted)
            if other.distance == 0:
                row = self._execute(_STATE, (number,)).fetchone()
                if row is None:  # it has ended long ago
                    continue
                state = State(row[0])
                if state.has_ended and condition.is_met(state.label):
                    continue
                if state.has_ended:
                    self._ended[number] = _End(state, None, None)
            self._execute(_ADD, (number, job, int(condition)))
            waits = True
        return batch, waits

    def added(self) -> None:
        """Count the new members, once all jobs are stored; end what waits for something over."""
        for batch, count in self._new_members.items():
            self._execute(_ADD_MEMBERS, (count, count, batch))
            self._end_if_over(batch)
        self._new_members.clear()
        self.follow()

    # Ends.

    def note(self, job: int, state: State, batch: int | None, outcome: bytes | None = None) -> None:
        """Note that a job has ended, for `follow`."""
        self._ended[job] = _End(state, outcome, batch)

    def follow(self) -> None:
        """Do what follows from all ends that were noted."""
        while self._ended:
            ended, self._ended = self._ended, {}
            self._count(ended)
            rows = self._execute(_WAITERS, (json.dumps(list(ended)),)).fetchall()
            opened: dict[int, None] = {}
            for job, waiter, number, state, batch in rows:
                end, condition = ended[job], Condition(number)
                if condition.is_met(end.state.label):
                    self._execute(_MEET, (job, waiter))
                    if condition is Condition.VALUE:
                        value = (waiter, step_of_value(job), end.outcome or b"")
                        self._execute(_GIVE, value)
                    opened[waiter] = None
                elif not State(state).has_ended:
                    fails = condition.passes_on(end.state.label)
                    how = State.FAILED if fails else State.CANCELLED
                    error = self.error_behind(job, "which it waits for") if fails else None
                    self._end(waiter, how, error, batch)
            for waiter in opened:
                self._open(waiter)

    def error_behind(self, job: int, relation: str) -> str:
        """Return the error of jobs to which one that has failed has this relation."""
        (name,) = self._execute(schema.NAME, (job,)).fetchone() or ("",)
        return predecessor_error(job, name, relation)

    def _open(self, job: int) -> None:
        """Queue, or park, a job that has nothing left to wait for."""
        brief = schema.brief_of(self._execute, job)
        if brief is None or not brief.is_waiting:
            return
        if self._execute(_ANY_LEFT, (job,)).fetchone() is not None:
            return
        state, slot = State.QUEUED, brief.key_slot
        if brief.key is not None:
            slot = self._keys.take(brief.pool, brief.key, brief.key_limit)
            state = State.PARKED if slot is None else State.QUEUED
        self._turns.give_again(job)
        self._execute(schema.OPEN, (int(state), slot, job))
        self._notifier.queued[brief.partition] += state is State.QUEUED

    def _end(self, job: int, state: State, error: str | None, batch: int | None) -> None:
        """End a job that waits for others, or for its members."""
        if self._ended.get(job) is not None:
            return
        error = error if state is State.FAILED else None
        row = self._execute(_END, (int(state), self._now, error, job)).fetchone()
        if row is None:
            return
        pool, origin = row
        self._notifier.waiting[pool] -= 1
        self._notifier.tell(job, state, None, error, origin)
        self._ended[job] = _End(state, None, batch)

    def _count(self, ended: dict[int, _End]) -> None:
        counts: dict[int, list[int]] = {}
        for state, _, batch in ended.values():
            if batch is not None:
                count = counts.setdefault(batch, [0, 0, 0])
                count[0] += 1
                count[1] += state is State.FAILED
                count[2] += state is State.CANCELLED
        for batch, count in counts.items():
            self._execute(_COUNT, (*count, batch))
            self._end_if_over(batch)

    def _end_if_over(self, batch: int) -> None:
        row = self._execute(_BATCH, (batch,)).fetchone()
        if row is None or row[1] > 0:
            return
        total, _, failed, cancelled, parent = row
        state = State.FAILED if failed else State.CANCELLED if cancelled else State.SUCCEEDED
        self._end(batch, state, batch_error(failed, total), parent)

    # By hand.

    def members(self, batch: int) -> list[tuple[int, State]]:
        """Return the members of a batch, the latest first, and their states; none if it is none."""
        rows = self._execute(_MEMBERS, (batch,)).fetchall()
        return [(job, State(state)) for job, state in rows]

    def is_batch(self, job: int) -> bool:
        """Return whether a job stands for a batch."""
        return self._execute(_BATCH, (job,)).fetchone() is not None

    def wait_again(self, job: int, state: State, batch: int | None) -> bool | None:
        """Let a job that has ended wait again for what it waited for; return whether it does.

        None: there is nothing left that it waits for. False: something of it has ended as well.
        """
        if self._execute(_ANY_LEFT, (job,)).fetchone() is None:
            return None
        if self._execute(_ANY_OVER, (job,)).fetchone() is not None:
            return False
        return self._reopen(job, state, batch)

    def resumed(self, job: int, state: State, batch: int | None) -> None:
        """Note that a job which had ended in a state has not any more."""
        resumed = [(job, state, batch)]
        while resumed:
            job, state, batch = resumed.pop()
            if batch is not None:
                is_failed = state is State.FAILED
                self._execute(_COUNT, (-1, -is_failed, is_failed - 1, batch))
                resumed += self._reopened(_ENDED_BATCH, batch)
            resumed += self._reopened(_ENDED_WAITERS, job)

    def _reopened(self, statement: str, number: int) -> list[tuple[int, State, int | None]]:
        rows = self._execute(statement, (number,)).fetchall()
        found = [(job, State(state), batch) for job, state, batch in rows]
        return [each for each in found if self._reopen(*each, is_alone=False)]

    def _reopen(self, job: int, state: State, batch: int | None, *, is_alone: bool = True) -> bool:
        brief = schema.brief_of(self._execute, job)
        if brief is None:
            return False
        if self._execute(schema.FIND_UNIQUE, (brief.pool, brief.unique)).fetchone() is not None:
            return False  # another job has taken its place
        self._execute(_REOPEN, (job,))
        self._notifier.waiting[brief.pool] += 1
        if is_alone:
            self.resumed(job, state, batch)
        return True


def _resolved(other: Reference, submitted: Sequence[Submitted]) -> Any:
    return submitted[-other.distance].id if other.distance else int(other.job)


_STATE: Final = "SELECT state FROM job WHERE id = ?"
_ADD: Final = "INSERT OR REPLACE INTO dependency (job, waiter, condition) VALUES (?, ?, ?)"
_ADD_MEMBERS: Final = """
INSERT INTO batch (job, total, pending, failed, cancelled)
SELECT id, ?, ?, 0, 0 FROM job WHERE id = ?
ON CONFLICT DO UPDATE SET total = total + excluded.total, pending = pending + excluded.pending"""
_WAITERS: Final = """
SELECT dependency.job, waiter, condition, state, batch
FROM dependency JOIN job ON job.id = waiter
WHERE dependency.job IN (SELECT value FROM json_each(?))"""
_MEET: Final = "DELETE FROM dependency WHERE job = ? AND waiter = ?"
_GIVE: Final = "INSERT OR REPLACE INTO step (job, name, value) VALUES (?, ?, ?)"
_ANY_LEFT: Final = """
SELECT 1 FROM dependency JOIN job ON job.id = dependency.job WHERE waiter = ? LIMIT 1"""
_ANY_OVER: Final = """
SELECT 1 FROM dependency JOIN job ON job.id = dependency.job
WHERE waiter = ? AND state > 3 LIMIT 1"""
_END: Final = """
UPDATE job SET state = ?, finished = ?, error = ? WHERE id = ? AND state = 0 AND due IS NULL
RETURNING pool, origin"""
_COUNT: Final = """
UPDATE batch SET pending = pending - ?, failed = failed + ?, cancelled = cancelled + ?
WHERE job = ?"""
_BATCH: Final = """
SELECT total, pending, failed, cancelled, job.batch FROM batch JOIN job ON job.id = batch.job
WHERE batch.job = ?"""
_MEMBERS: Final = """
SELECT id, state FROM job INDEXED BY job_batch WHERE batch = ? ORDER BY id DESC"""
_ENDED_BATCH: Final = "SELECT id, state, batch FROM job WHERE id = ? AND state > 3"
_ENDED_WAITERS: Final = """
SELECT id, state, batch FROM job WHERE state > 3 AND id IN
  (SELECT waiter FROM dependency WHERE dependency.job = ?) AND NOT EXISTS
  (SELECT 1 FROM dependency JOIN job AS other ON other.id = dependency.job
   WHERE dependency.waiter = job.id AND other.state > 3)"""
_REOPEN: Final = """
UPDATE job SET state = 0, due = NULL, attempt = 0, crashes = 0, finished = NULL, outcome = NULL,
  error = NULL, stop = 0, origin = NULL WHERE id = ?"""
