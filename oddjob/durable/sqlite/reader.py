"""SqliteReader: what people see of a store. Each look is a page, on a connection of its own."""

import json
import re
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

from oddjob.compat import override
from oddjob.durable.record import (
    Attempt,
    Entry,
    Limiter,
    Member,
    Partition,
    Record,
    State,
    Submit,
)
from oddjob.durable.sqlite import schema
from oddjob.durable.sqlite.database import Database
from oddjob.durable.sqlite.entries import entry_of
from oddjob.durable.store import Filter, StoreReader, no_id
from oddjob.schedule.clock import clock


class SqliteReader(StoreReader):
    """The read-only half of a `SqliteStore`; any thread may use it."""

    def __init__(self, database: Database) -> None:
        self._database: Final = database

    @override
    def records(
        self, pool: str, which: Filter, before_id: Any = None, limit: int = 100
    ) -> list[Record]:
        if before_id is not None and not _ID.fullmatch(str(before_id)):
            raise no_id(before_id)
        values = {"pool": pool, "before_id": before_id, "limit": limit, **which._asdict()}
        where = ["job.pool = :pool"]
        where += [condition for name, condition in _CONDITIONS.items() if values[name] is not None]
        with self._database.reading() as connection:
            where.append(_in_state(connection, pool, which.state))
            query = f"{schema.RECORD} WHERE {' AND '.join(where)} ORDER BY job.id DESC LIMIT :limit"
            return [record_of(row) for row in connection.execute(query, values).fetchall()]

    @override
    def members_of(self, batch: Any, before_id: Any = None, limit: int = 100) -> list[Record]:
        query = f"""{schema.RECORD} WHERE job.batch = ? AND (? IS NULL OR job.id < ?)
                    ORDER BY job.id DESC LIMIT ?"""
        with self._database.reading() as connection:
            rows = connection.execute(query, (batch, before_id, before_id, limit)).fetchall()
        return [record_of(row) for row in rows]

    @override
    def record(self, job: Any) -> Record | None:
        with self._database.reading() as connection:
            row = connection.execute(f"{schema.RECORD} WHERE job.id = ?", (job,)).fetchone()
        return None if row is None else record_of(row)

    @override
    def submits_of(self, jobs: Sequence[Any]) -> dict[Any, Submit]:
        with self._database.reading() as connection:
            rows = connection.execute(_SUBMITS, (json.dumps(jobs),)).fetchall()
            places = {(pool, name) for _, pool, _, names, *_ in rows for name in names.split("\n")}
            limiters = {
                place: Limiter(*found)
                for place in places
                if (found := connection.execute(_LIMITER, place).fetchone()) is not None
            }
        submits = {}
        for job, pool, function, names, payload, name, priority, key, *how, meta, entry in rows:
            key_limit, is_serial, unique, fair_key, fair_step = how
            shared = tuple(limiters[pool, each] for each in names.split("\n") if each)
            submits[job] = Submit(
                Partition(pool, function, shared), payload, name, priority, None, key, key_limit,
                bool(is_serial), unique, meta, wants_outcome=False, entry=entry,
                fair_key=None if fair_step is None else fair_key, fair_step=fair_step or 1.0,
            )  # fmt: skip
        return submits

    @override
    def attempts(self, job: Any) -> list[Attempt]:
        query = """SELECT number, started, finished, process, traceback FROM attempt
                   WHERE job = ? ORDER BY number"""
        with self._database.reading() as connection:
            return [Attempt(*row) for row in connection.execute(query, (job,)).fetchall()]

    @override
    def counts(self, pool: str, most: int | None = None) -> dict[State, int]:
        limit = -1 if most is None else most + 1  # -1: none
        counts = ", ".join(
            f"(SELECT count(*) FROM (SELECT 1 FROM ({jobs}) LIMIT :limit))"  # noqa: S608
            for jobs in schema.JOBS_IN_STATE
        )
        with self._database.reading() as connection:  # one statement: no job is counted twice
            row = connection.execute(f"SELECT {counts}", {"pool": pool, "limit": limit}).fetchone()
        found = dict(zip(State, row, strict=True))
        found[State.QUEUED] += found.pop(State.PARKED)
        return found

    @override
    def pools(self) -> dict[str, bool]:
        with self._database.reading() as connection:
            rows = connection.execute("SELECT name, paused FROM pool ORDER BY name").fetchall()
        return {name: bool(is_paused) for name, is_paused in rows}

    @override
    def pause_reason(self, pool: str) -> str:
        query = "SELECT paused FROM pool WHERE name = ?"
        with self._database.reading() as connection:
            (paused,) = connection.execute(query, (pool,)).fetchone() or (0,)
        return paused.decode() if isinstance(paused, bytes) else ""

    @override
    def entries(self, pool: str) -> list[Entry]:
        with self._database.reading() as connection:
            return [entry_of(row) for row in connection.execute(schema.ENTRIES, (pool,))]

    @override
    def members(self) -> list[Member]:
        query = """SELECT id, host, pid, joined, version,
                   (SELECT json_group_array(pool) FROM consumer WHERE process = id) FROM process"""
        with self._database.reading() as connection:
            rows = connection.execute(query).fetchall()
        return [
            Member(process, host, pid, joined, version, tuple(json.loads(pools)))
            for process, host, pid, joined, version, pools in rows
        ]

    @override
    def steps(self, job: Any) -> dict[str, bytes]:
        with self._database.reading() as connection:
            return dict(connection.execute("SELECT name, value FROM step WHERE job = ?", (job,)))

    @override
    def oldest_waiting(self, pool: str) -> float | None:
        with self._database.reading() as connection:
            return connection.execute(_OLDEST_WAITING, {"pool": pool}).fetchone()[0]  # type: ignore[no-any-return]

    @override
    def ended_since(self, pool: str, since: float) -> dict[State, int]:
        ends = [each for each in State if each.has_ended]
        with self._database.reading() as connection:
            rows = [
                connection.execute(_ENDED, (pool, int(each), since)).fetchone() for each in ends
            ]
        return {state: count for state, (count,) in zip(ends, rows, strict=True)}

    @override
    def ended_by_period(
        self, pool: str, since: float, period: float, number: int
    ) -> dict[State, list[int]]:
        found = {each: [0] * number for each in State if each.has_ended}
        with self._database.reading() as connection:
            for state, counts in found.items():
                values = (since, period, pool, int(state), since, since + period * number)
                for place, count in connection.execute(_ENDED_BY_PERIOD, values):
                    counts[place] = count
        return found

    @override
    def obstacles(self, job: Any) -> list[str]:
        with self._database.reading() as connection:
            place = connection.execute(_PLACE, (job,)).fetchone()
            if place is None:
                return []
            pool, function, names, has_consumer, is_known = place
            rows = [
                connection.execute(_USE_OF_LIMITER, (clock.wall(), pool, name)).fetchone()
                for name in names.split("\n")
                if name
            ]
            others = connection.execute(_AWAITED, (job,)).fetchall()
            counts = connection.execute(_PENDING, (job,)).fetchone()
        found = [f"it waits for job {n}, which is {State(state).label}" for n, state in others]
        if counts is not None:
            found.append("it waits for {} of its {} jobs".format(*counts))
        if has_consumer and not is_known:
            found.append(f"no process of pool {pool!r} has imported {function}")
        for name, most, running, starts, period, started in rows:
            if most is not None and running >= most:
                found.append(f"its limit is used up ({name}): {running} of {most} run")
            if starts is not None and started >= starts:
                found.append(f"its rate is used up ({name}): {started} started in {period:g} s")
        return found


_ID: Final = re.compile("[0-9]{1,18}")
# Two short looks at indexes that hold the jobs in question and nothing else.
_OLDEST_WAITING: Final = """
SELECT min(created) FROM job WHERE id IN (
  (SELECT min(id) FROM job INDEXED BY job_queued
   WHERE state = 1 AND partition IN (SELECT id FROM partition WHERE pool = :pool)),
  (SELECT min(id) FROM job INDEXED BY job_parked WHERE state = 3 AND pool = :pool))"""
_ENDED: Final = """
SELECT count(*) FROM job INDEXED BY job_ended
WHERE pool = ? AND state = ? AND finished IS NOT NULL AND finished >= ?"""
_ENDED_BY_PERIOD: Final = """
SELECT CAST((finished - ?) / ? AS INT), count(*) FROM job INDEXED BY job_ended
WHERE pool = ? AND state = ? AND finished IS NOT NULL AND finished >= ? AND finished < ?
GROUP BY 1"""
_SUBMITS: Final = """
SELECT job.id, job.pool, function, limiters, payload, name, priority, key, key_limit, serial, uniq,
  fair, step, meta, entry
FROM job JOIN partition ON partition.id = job.partition
WHERE job.id IN (SELECT value FROM json_each(?)) AND job.batch IS NULL
  AND NOT EXISTS (SELECT 1 FROM batch WHERE batch.job = job.id)
  AND NOT EXISTS (SELECT 1 FROM dependency WHERE dependency.job = job.id)
  AND NOT EXISTS (SELECT 1 FROM dependency WHERE waiter = job.id)
  AND NOT EXISTS (SELECT 1 FROM step WHERE step.job = job.id)"""
_LIMITER: Final = """
SELECT name, max_running, starts, period, burst FROM limiter WHERE pool = ? AND name = ?"""
_PLACE: Final = """
SELECT job.pool, function, limiters, EXISTS (SELECT 1 FROM consumer WHERE pool = job.pool),
  EXISTS (SELECT 1 FROM known WHERE known.pool = job.pool AND known.function = partition.function)
FROM job JOIN partition ON partition.id = job.partition WHERE job.id = ?"""
_AWAITED: Final = """
SELECT job.id, state FROM dependency JOIN job ON job.id = dependency.job
WHERE waiter = ? ORDER BY job.id LIMIT 5"""
_PENDING: Final = "SELECT pending, total FROM batch WHERE job = ?"
_USE_OF_LIMITER: Final = """
SELECT name, max_running, running, starts, period,
  (SELECT coalesce(sum(number), 0) FROM start
   WHERE start.pool = limiter.pool AND start.limiter = limiter.name AND at > ? - period)
FROM limiter WHERE pool = ? AND name = ?"""


_FEW: Final = 10_000  # jobs: to sort them takes less time than to look through all others
_CONDITIONS: Final = {
    "before_id": "job.id < :before_id",
    "name": "job.name = :name",
    "key": "key = :key",
    "error": "instr(error, :error)",
    "since": "created >= :since",
    "before": "created < :before",
    "ended_before": "finished < :ended_before",
}


def _in_state(connection: sqlite3.Connection, pool: str, state: State | None) -> str:
    """Return a condition on the state of jobs, by the indexes of states where few are in it."""
    states: Iterable[State] = State if state is None else (state,)
    if state is State.QUEUED:
        states = (State.QUEUED, State.PARKED)
    jobs = " UNION ALL ".join(schema.JOBS_IN_STATE[each] for each in states)
    few = f"SELECT count(*) FROM (SELECT 1 FROM ({jobs}) LIMIT {_FEW})"  # noqa: S608
    if connection.execute(few, {"pool": pool}).fetchone()[0] < _FEW:
        return f"job.id IN ({jobs})"
    return f"state IN ({', '.join(str(int(each)) for each in states)})"


def record_of(row: tuple[Any, ...]) -> Record:
    """Return the record of a row that `schema.RECORD` selects."""
    return Record(*row[:4], State(row[4]), *row[5:])  # type: ignore[call-arg]  # one for each field
