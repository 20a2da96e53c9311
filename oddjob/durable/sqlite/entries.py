"""StoredEntries: the recurring entries of a store; each tick of one is fired once.

To fire an entry is to move it on from the tick with which it was read. Of several processes that
have read the same tick, one finds it there.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from oddjob.durable.record import Entry, Limiter, Partition, Submit, Submitted
from oddjob.durable.sqlite import schema
from oddjob.durable.sqlite.partitions import Execute, PartitionTable
from oddjob.durable.sqlite.work import Work


class StoredEntries:
    """The entries, for use in the transactions of one process."""

    def __init__(self, execute: Execute, partitions: PartitionTable) -> None:
        self._execute: Final = execute
        self._partitions: Final = partitions

    def put(self, work: Work, entry: Entry) -> None:
        """Declare an entry."""
        partition = self._partitions.id_of(self._execute, entry.partition)
        place = (entry.partition.pool, entry.name)
        self._execute(schema.PUT_ENTRY, (*place, partition, entry.rule, entry.tick, entry.payload))
        work.notifier.wake_consumers(entry.partition.pool)

    def fire(
        self,
        work: Work,
        entry: Entry,
        next_tick: float,
        submits: Sequence[Submit],
        *,
        missed: int,
        overlaps: bool,
    ) -> list[Submitted] | None:
        """Submit the jobs of an entry and move it on; None: another process has done so."""
        place = (entry.partition.pool, entry.name)
        is_busy = not overlaps and self._execute(schema.ANY_OF_ENTRY, place).fetchone()
        if is_busy and submits:
            submits, missed = [], missed + 1
        move = (next_tick, missed, *place, entry.tick)
        if not self._execute(schema.MOVE_ENTRY, move).rowcount:
            return None
        submitted = work.insert(submits)
        if submitted:
            self._execute(schema.NOTE_FIRED, (submitted[-1].id, *place))
        work.notifier.finish()
        return submitted

    def pause(self, work: Work, pool: str, name: str, *, is_paused: bool) -> bool:
        """Pause an entry, or let it go on; return False if there is none."""
        work.notifier.wake_consumers(pool)
        pause = "UPDATE entry SET paused = ? WHERE pool = ? AND name = ?"
        return bool(self._execute(pause, (is_paused, pool, name)).rowcount)

    def delete(self, work: Work, pool: str, name: str) -> bool:
        """Forget an entry; return False if there is none."""
        work.notifier.wake_consumers(pool)
        delete = "DELETE FROM entry WHERE pool = ? AND name = ?"
        return bool(self._execute(delete, (pool, name)).rowcount)

    def due(self, process: int | None, now: float) -> list[Entry]:
        """Return the entries that are due, of functions that a process knows."""
        rows = self._execute(schema.DUE_ENTRIES, (process, now)).fetchall()
        return [entry_of(row) for row in rows]

    def next_tick(self, process: int | None, now: float) -> float | None:
        """Return when the next one is due."""
        row = self._execute(schema.NEXT_ENTRY, (process, now)).fetchone()
        return None if row is None else float(row[0])


def entry_of(row: tuple[Any, ...]) -> Entry:
    """Return the entry of a row that `schema` selects."""
    name, pool, function, names, of_pool, rule, tick, payload, paused, *rest = row
    limiters: tuple[Limiter, ...] = ()
    if names:
        known = {each[0]: Limiter(*each) for each in json.loads(of_pool)}
        limiters = tuple(known[each] for each in names.split("\n"))
    partition = Partition(pool, function, limiters)
    return Entry(name, partition, rule, tick, payload, bool(paused), *rest)
