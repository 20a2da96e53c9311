"""SqliteReader: what people see of a store. Each look is a page, on a connection of its own."""

import json
from typing import Any, Final

from oddjob.compat import override
from oddjob.durable.record import Attempt, Entry, Member, Record, State
from oddjob.durable.sqlite import schema
from oddjob.durable.sqlite.database import Database
from oddjob.durable.sqlite.lanes import LaneTable
from oddjob.durable.store import Filter, StoreReader


class SqliteReader(StoreReader):
    """The read-only half of a `SqliteStore`; any thread may use it."""

    def __init__(self, database: Database) -> None:
        self._database: Final = database

    @override
    def records(
        self, pool: str, which: Filter, before: Any = None, limit: int = 100
    ) -> list[Record]:
        where, values = ["job.pool = ?"], [pool]
        conditions: list[tuple[str, Any]] = [
            ("job.id < ?", before),
            ("job.name = ?", which.name),
            ("key = ?", which.key),
            ("instr(error, ?)", which.error),
            ("created >= ?", which.since),
            ("created < ?", which.until),
            ("finished < ?", which.ended_before),
        ]
        if which.state is not None:
            states = (State.QUEUED, State.PARKED) if which.state is State.QUEUED else (which.state,)
            where.append(f"state IN ({', '.join(str(int(state)) for state in states)})")
        for condition, value in conditions:
            if value is not None:
                where.append(condition)
                values.append(value)
        query = f"{schema.RECORD} WHERE {' AND '.join(where)} ORDER BY job.id DESC LIMIT ?"
        with self._database.reading() as connection:
            return [
                record_of(row) for row in connection.execute(query, [*values, limit]).fetchall()
            ]

    @override
    def record(self, job: Any) -> Record | None:
        with self._database.reading() as connection:
            row = connection.execute(f"{schema.RECORD} WHERE job.id = ?", (job,)).fetchone()
        return None if row is None else record_of(row)

    @override
    def attempts(self, job: Any) -> list[Attempt]:
        query = """SELECT number, started, finished, process, traceback FROM attempt
                   WHERE job = ? ORDER BY number"""
        with self._database.reading() as connection:
            return [Attempt(*row) for row in connection.execute(query, (job,)).fetchall()]

    @override
    def counts(self, pool: str) -> dict[State, int]:
        query = "SELECT state, count(*) FROM job WHERE pool = ? GROUP BY state"
        with self._database.reading() as connection:
            found = dict(connection.execute(query, (pool,)).fetchall())
        found[State.QUEUED] = found.get(State.QUEUED, 0) + found.pop(State.PARKED, 0)
        return {state: found.get(state, 0) for state in State if state is not State.PARKED}

    @override
    def pools(self) -> dict[str, bool]:
        with self._database.reading() as connection:
            rows = connection.execute("SELECT name, paused FROM pool ORDER BY name").fetchall()
        return {name: bool(is_paused) for name, is_paused in rows}

    @override
    def entries(self, pool: str) -> list[Entry]:
        with self._database.reading() as connection:
            rows = connection.execute(
                f"{schema.ENTRY} WHERE pool = ? ORDER BY name", (pool,)
            ).fetchall()
            lanes = LaneTable()
            known = {row[1]: lanes.get(connection.execute, row[1]) for row in rows}
        return [
            Entry(name, known[lane].lane, rule, tick, payload, bool(paused), *rest)
            for name, lane, rule, tick, payload, paused, *rest in rows
        ]

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


def record_of(row: tuple[Any, ...]) -> Record:
    """Return the record of a row that `schema.RECORD` selects."""
    return Record(*row[:4], State(row[4]), *row[5:])  # type: ignore[call-arg]  # one for each field
