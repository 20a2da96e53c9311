"""Newest: which jobs of a pool are a page of those in a state, without all ids of the pool.

An index has its jobs in another order than that of their ids, which are the times when they were
submitted. But queued jobs of one partition and priority are in order, unless they take turns. And
what ended before a job was submitted is older than it, so ended jobs are looked at from the latest
end on, down to there. Other jobs are all looked at, some thousand at a time.
"""

from collections.abc import Callable, Iterable, Iterator
from heapq import nlargest
from typing import Any, Final

from oddjob.durable.record import State
from oddjob.durable.redis.connection import Connection
from oddjob.durable.redis.location import Location
from oddjob.durable.redis.script import Script

STATE_SHARE: Final = 2**43  # of the scores in `ended`, for each state; the rest is milliseconds
FILLERS: Final = {"run": 1}  # members at the beginning of an index that are no jobs
_IDS_AT_ONCE: Final = 5000
_DIGITS: Final = 16
# By so much the server's clock may be set back, or be behind the ids of very many jobs at once.
_SLACK: Final = 10_000  # milliseconds

_NEWEST: Final = Script("newest")

# The indexes that have the jobs of a state.
INDEXES: Final[dict[State, tuple[str, ...]]] = {
    State.SCHEDULED: ("due",),
    State.QUEUED: ("queue", "parked"),
    State.PARKED: ("parked",),
    State.RUNNING: ("run",),
}


def all_ids(connection: Connection, key: bytes, first: int = 0) -> Iterator[list[bytes]]:
    """Yield the ids in an index, a page at a time; each is of a moment, but not of the same one."""
    at, page = first, [b""]
    while page:
        page = connection.ask("ZRANGE", key, at, at + _IDS_AT_ONCE - 1)
        yield [item[-_DIGITS:] for item in page]
        at += _IDS_AT_ONCE


class Newest:
    """The newest jobs in a state, or in all.

    Args:
        location: the server.
        connection: one to it.
        pool: of the jobs.
        since: the lowest id, of 16 digits.
        before: an id above all of them.
        count: how many there are to be at most.
    """

    def __init__(
        self,
        location: Location,
        connection: Connection,
        pool: str,
        since: bytes,
        before: bytes,
        count: int,
    ) -> None:
        self._connection: Final = connection
        self._keys: Final = location.pool_keys(pool)
        self._channels: Final = location.channels
        self._key_of: Final[Callable[[str], bytes]] = lambda name: location.pool_key(pool, name)
        self._lowest_wanted = since  # rises as newer ones are found
        self._before: Final = before
        self._count: Final = count
        self._ids = set[bytes]()

    def find(self, state: State | None) -> list[bytes]:
        """Return their ids, the newest one first."""
        states = State if state is None else (state,)
        for index in dict.fromkeys(index for each in states for index in INDEXES.get(each, ())):
            if index != "queue" or not self._add_queued():
                for page in all_ids(self._connection, self._key_of(index), FILLERS.get(index, 0)):
                    self._add(page)
        for each in states:
            if each.has_ended:
                self._add_ended(each)
        return nlargest(self._count, self._ids)

    def _add(self, ids: Iterable[bytes]) -> None:
        lowest, before = self._lowest_wanted, self._before
        self._ids.update(each for each in ids if lowest <= each < before)
        if len(self._ids) >= 2 * self._count:
            newest = nlargest(self._count, self._ids)
            self._ids, self._lowest_wanted = set(newest), newest[-1]

    def _add_queued(self) -> bool:
        """Add queued jobs; return False if they are too many, and all ids have to be looked at."""
        if self._count > _IDS_AT_ONCE:
            return False
        arguments = (self._channels, self._lowest_wanted, self._before, self._count)
        found, is_done = self._connection.run(_NEWEST, self._keys, *arguments)
        self._add(found)
        return bool(is_done)

    def _add_ended(self, state: State) -> None:
        first = state * STATE_SHARE
        last: Any = first + STATE_SHARE - 1
        seen = 0  # jobs of the score `last`, which are skipped
        while True:
            # What ended before the lowest wanted job was submitted is older than that as well.
            least = first + max(0, int(self._lowest_wanted) // 1000 - _SLACK)
            page = self._connection.ask(
                "ZREVRANGEBYSCORE", self._key_of("ended"), last, least, "WITHSCORES", "LIMIT", seen,
                _IDS_AT_ONCE,
            )  # fmt: skip
            ids, scores = page[::2], page[1::2]
            self._add(ids)
            if len(ids) < _IDS_AT_ONCE:
                return
            seen = scores.count(scores[-1]) + (seen if scores[-1] == last else 0)
            last = scores[-1]
