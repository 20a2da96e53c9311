"""Turns: the order of jobs whose keys take turns, as the option `fair_by` says, in one transaction.

It is that of `runtime.fair_turns`: a job has its turn from when it is queued or parked, in a column
by which the index of queued jobs is sorted. A row of ``fair_level`` has the latest turn that has
started, of a priority in a pool that has had such jobs. The last turn of a key is that of its
waiting jobs, in an index. So nothing has to be deleted, and a claim reads no more than before.

Parked jobs are queued in the order of their `key_slots`; their turns count from then on.
"""

from collections.abc import Sequence
from typing import Any, Final

from oddjob.durable.sqlite.partitions import Execute


class Turns:
    """The turns of all keys that a transaction has to do with."""

    def __init__(self, execute: Execute) -> None:
        self._execute: Final = execute
        # Turns of the latest starts, by pool and priority; None: there are no turns.
        self._latest: Final[dict[tuple[str, int], float | None]] = {}
        self._last: Final[dict[tuple[str, int, str], float]] = {}  # of waiting jobs, by key
        self.is_used: bool | None = None  # whether there are turns at all; None: look

    def give(
        self, pool: str, priority: int, key: str | None, step: float | None, *, is_due: bool = True
    ) -> float | None:
        """Return the turn of a job that begins to wait; None: there are no turns, or not yet.

        `step` is one divided by the weight of the key. Both are None if the job has no `fair_by`. A
        job that is not due is given its turn when it is.
        """
        if key is None and not self._look():
            return None
        latest = self._level_of(pool, priority, is_fair=key is not None)
        if latest is None or not is_due:
            return None
        place = (pool, priority, key or "")
        last = self._last.get(place)
        if last is None:
            row = self._execute(_LAST_OF_KEY, place).fetchone()
            last = latest if row is None else row[0]
        self._last[place] = turn = max(last, latest) + (step or 1.0)
        return turn

    def give_again(self, job: int) -> None:
        """Give a turn to a job that will be queued or parked at once; it may have had one."""
        if self._look():
            pool, priority, key, step = self._execute(_OF_JOB, (job,)).fetchone()
            turn = self.give(pool, priority, key, step)
            self._execute(_SET, (key if turn is None else key or "", turn, job))

    def _level_of(self, pool: str, priority: int, *, is_fair: bool) -> float | None:
        """Return the latest turn of a level, which a fair job makes; None: there is none."""
        level = (pool, priority)
        if level not in self._latest:
            row = self._execute(_LATEST, level).fetchone()
            self._latest[level] = None if row is None else row[0]
        if self._latest[level] is None and is_fair:
            self._execute(_ADD_LEVEL, level)
            self.is_used = True
            self._latest[level] = 0.0
        return self._latest[level]

    def _look(self) -> bool:
        if self.is_used is None:
            self.is_used = self._execute("SELECT 1 FROM fair_level LIMIT 1").fetchone() is not None
        return self.is_used

    def start(self, pool: str, rows: Sequence[tuple[int, float | None]]) -> None:
        """Note the priorities and turns of jobs that start."""
        latest: dict[int, float] = {}
        for priority, turn in rows:
            if turn is not None:
                latest[priority] = max(turn, latest.get(priority, 0.0))
        for priority, turn in latest.items():
            self._execute(_START, (turn, pool, priority))
            self._latest.pop((pool, priority), None)
            self._last.clear()


_LATEST: Final = "SELECT latest FROM fair_level WHERE pool = ? AND priority = ?"
_ADD_LEVEL: Final = "INSERT INTO fair_level (pool, priority, latest) VALUES (?, ?, 0)"
_START: Final = """
UPDATE fair_level SET latest = max(latest, ?) WHERE pool = ? AND priority = ?"""
_LAST_OF_KEY: Final = """
SELECT turn FROM job INDEXED BY job_fair
WHERE pool = ? AND priority = ? AND fair = ? AND turn NOT NULL AND state IN (1, 3)
ORDER BY turn DESC LIMIT 1"""
_OF_JOB: Final = "SELECT pool, priority, fair, step FROM job WHERE id = ?"
_SET: Final = "UPDATE job SET fair = ?, turn = ? WHERE id = ?"


def claim_order(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return by what rows of (priority, id, …, turn) are sorted: priority, then turn, then id."""
    return (-row[0], row[-1] or 0.0, row[1])
