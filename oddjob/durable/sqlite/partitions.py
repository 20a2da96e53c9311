"""Partitions: which of a pool's jobs may be claimed at present, and how many of them.

A partition holds the jobs of one function under the same limiters. Limiters count in the database,
so they hold for all processes together. Partitions are never deleted, so what is known of them is
kept.
"""

import sqlite3
from collections.abc import Callable
from math import inf
from typing import Any, Final, NamedTuple

from oddjob.durable.record import Limiter, Partition

Execute = Callable[..., sqlite3.Cursor]

_EPSILON: Final = 1e-9  # of a token: sums of fractions are not exact


class KnownPartition(NamedTuple):
    """A partition as it is stored; of its limiters, the names."""

    id: int
    pool: str
    function: str
    limiters: tuple[str, ...]


class PartitionTable:
    """The partitions of a store, as far as this process has met them."""

    def __init__(self) -> None:
        self._ids: Final[dict[Partition, int]] = {}
        self._known: Final[dict[int, KnownPartition]] = {}
        self.newest: int = 0  # the highest id of those
        # Pools with new partitions, from which their consumers may be able to claim.
        self.new_in: Final[set[str]] = set()

    def forget(self) -> None:
        """Read everything again: a transaction that has stored partitions was undone."""
        self.newest = 0
        self.new_in.clear()
        self._ids.clear()
        self._known.clear()

    def id_of(self, execute: Execute, partition: Partition) -> int:
        """Return the id of a partition, which is stored if it is new, and its limiters with it."""
        known = self._ids.get(partition)
        if known is not None:
            return known
        names = "\n".join(limiter.name for limiter in partition.limiters)
        place = (partition.pool, partition.function, names)
        execute("INSERT OR IGNORE INTO pool (name) VALUES (?)", (partition.pool,))
        for limiter in partition.limiters:
            execute(_PUT_LIMITER, (partition.pool, *limiter))
        if execute(_PUT_PARTITION, place).rowcount:
            self.new_in.add(partition.pool)
        found = execute(f"{_SELECT} WHERE pool = ? AND function = ? AND limiters = ?", place)
        self._ids[partition] = self._add(found.fetchone()).id
        return self._ids[partition]

    def get(self, execute: Execute, partition: int) -> KnownPartition:
        """Return the partition with an id."""
        if partition not in self._known:
            self._add(execute(f"{_SELECT} WHERE id = ?", (partition,)).fetchone())
        return self._known[partition]

    def sharing(self, execute: Execute, partition: KnownPartition) -> set[int]:
        """Return the partitions that have a limiter in common with one."""
        if not partition.limiters:
            return set()
        rows = execute(f"{_SELECT} WHERE pool = ? AND limiters != ''", (partition.pool,)).fetchall()
        mine = set(partition.limiters)
        return {each.id for each in map(self._add, rows) if not mine.isdisjoint(each.limiters)}

    def _add(self, row: tuple[Any, ...]) -> KnownPartition:
        partition_id, pool, function, names = row
        known = KnownPartition(
            partition_id, pool, function, tuple(names.split("\n")) if names else ()
        )
        self._known[partition_id] = known
        self.newest = max(self.newest, partition_id)
        return known


class Allowance:
    """How many jobs the limiters of a pool allow to start now, in one transaction."""

    def __init__(self, execute: Execute, pool: str, now: float) -> None:
        self._execute: Final = execute
        self._pool: Final = pool
        self._now: Final = now
        self._left: Final[dict[str, float]] = {}  # by the names of limiters
        self._rates: Final[dict[str, Limiter]] = {}
        self._taken: Final[dict[str, int]] = {}

    def of(self, partition: KnownPartition) -> float:
        """Return how many jobs of a partition may start."""
        return min((self._of_limiter(name) for name in partition.limiters), default=inf)

    def is_rated(self, partition: KnownPartition) -> bool:
        """Return whether a rate limits the partition: its jobs start when they are claimed."""
        self.of(partition)
        return any(name in self._rates for name in partition.limiters)

    def take(self, partition: KnownPartition) -> None:
        """Count a job of the partition that starts."""
        for name in partition.limiters:
            self._left[name] -= 1
            self._taken[name] = self._taken.get(name, 0) + 1

    def store(self) -> None:
        """Write down what was taken."""
        for name, taken in self._taken.items():
            place = (self._pool, name)
            self._execute(_COUNT, (taken, *place))
            if name in self._rates:
                self._execute(_ADD_START, (*place, self._now, taken))
                self._execute(_SET_TOKENS, (self._tokens(name) - taken, self._now, *place))

    def opens_in(self, partition: KnownPartition) -> float:
        """Return the seconds until all rates of a partition allow a start; 0 if they do."""
        rates = [name for name in partition.limiters if name in self._rates]
        return max((self._rate_left(name)[1] for name in rates), default=0.0)

    def _of_limiter(self, name: str) -> float:
        left = self._left.get(name)
        if left is None:
            row = self._execute(_LIMITER, (self._pool, name)).fetchone()
            limiter, running = Limiter(*row[:-1]), row[-1]
            left = inf if limiter.max_running is None else limiter.max_running - running
            if limiter.starts is not None:
                self._rates[name] = limiter
                left = min(left, self._rate_left(name)[0])
            self._left[name] = left = max(0, left)
        return left

    def _rate_left(self, name: str) -> tuple[float, float]:
        """Return how many starts a rate allows now, and the seconds until it allows one.

        In no window of a period there are more than `starts` of them, and each of them costs a
        token: there are up to `burst`, and `starts` new ones in a period.
        """
        limiter = self._rates[name]
        most = limiter.starts or 0
        begin = self._now - limiter.period
        self._follow_clock(name)
        self._execute(_FORGET_STARTS, (self._pool, name, begin))
        first, number = self._execute(_STARTS, (self._pool, name)).fetchone()
        left = most - number
        tokens = self._tokens(name)
        opens_in = max(
            0.0 if left > 0 else first - begin,
            0.0 if tokens >= 1 - _EPSILON else (1 - tokens) * limiter.period / most,
        )
        return min(left, int(tokens + _EPSILON)), opens_in

    def _follow_clock(self, name: str) -> None:
        """Take starts that are yet to come for ones of this moment: the clock was set back."""
        place = (self._pool, name)
        rows = self._execute(_FORGET_FUTURE, (*place, self._now)).fetchall()
        if rows:
            self._execute(_ADD_START, (*place, self._now, sum(number for (number,) in rows)))
            self._execute(_REFILL_FROM, (self._now, *place, self._now))

    def _tokens(self, name: str) -> float:
        limiter = self._rates[name]
        row: tuple[float | None, float] = self._execute(_TOKENS, (self._pool, name)).fetchone()
        tokens, filled = row
        if tokens is None:
            return limiter.burst
        new = max(0.0, self._now - filled) * (limiter.starts or 0) / limiter.period
        return min(limiter.burst, tokens + new)


def release(execute: Execute, partition: KnownPartition, count: int) -> None:
    """Count jobs of a partition that do not run any more."""
    for name in partition.limiters:
        execute(_COUNT, (-count, partition.pool, name))


_PUT_PARTITION: Final = (
    "INSERT OR IGNORE INTO partition (pool, function, limiters) VALUES (?, ?, ?)"
)
_SELECT: Final = "SELECT id, pool, function, limiters FROM partition"
_LIMITER: Final = """
SELECT name, max_running, starts, period, burst, running FROM limiter WHERE pool = ? AND name = ?"""
_PUT_LIMITER: Final = """
INSERT INTO limiter (pool, name, max_running, starts, period, burst) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET max_running = excluded.max_running, starts = excluded.starts,
  period = excluded.period, burst = excluded.burst"""
_COUNT: Final = "UPDATE limiter SET running = running + ? WHERE pool = ? AND name = ?"
_TOKENS: Final = "SELECT tokens, filled FROM limiter WHERE pool = ? AND name = ?"
_SET_TOKENS: Final = "UPDATE limiter SET tokens = ?, filled = ? WHERE pool = ? AND name = ?"
_STARTS: Final = """
SELECT min(at), coalesce(sum(number), 0) FROM start WHERE pool = ? AND limiter = ?"""
_ADD_START: Final = """
INSERT INTO start (pool, limiter, at, number) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET number = number + excluded.number"""
_FORGET_FUTURE: Final = """
DELETE FROM start WHERE pool = ? AND limiter = ? AND at > ? RETURNING number"""
_REFILL_FROM: Final = """
UPDATE limiter SET filled = ? WHERE pool = ? AND name = ? AND filled > ?"""
_FORGET_STARTS: Final = "DELETE FROM start WHERE pool = ? AND limiter = ? AND at <= ?"
