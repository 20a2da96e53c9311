"""RedisReader: what people see of a store, on a connection of its own.

A page may take several calls, and a filter that few jobs fit looks at all of them; other threads
that read wait meanwhile. Calls are short, so no process of the store does.
"""

import struct
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from math import ceil, inf
from typing import Any, Final

from oddjob.compat import override
from oddjob.durable.record import Attempt, Entry, Member, Partition, Record, State, Submit
from oddjob.durable.redis.access import partitions_of
from oddjob.durable.redis.connection import Connection, info_of, pairs_of
from oddjob.durable.redis.location import Location
from oddjob.durable.redis.membership import Members
from oddjob.durable.redis.newest import FILLERS, INDEXES, STATE_SHARE, Newest, all_ids
from oddjob.durable.redis.packing import (
    created_at,
    fair_key_of,
    key_limit_of,
    record_of,
    split_id,
    unpack_attempts,
    unpack_entry,
    unpack_names,
    unpack_record,
)
from oddjob.durable.redis.script import Script
from oddjob.durable.store import Filter, StoreReader, no_id
from oddjob.errors import StoreUnusable

_PAGE: Final = 200  # records
_GROUPS: Final = 8  # in which members of a batch are stored, up to 25 in each
_DIGITS: Final = 16

_RECORDS: Final = Script("records")
_ENTRIES: Final = Script("entries")


class RedisReader(StoreReader):
    """The read-only half of a `RedisStore`.

    Thread safety: any thread may use it; ``_lock`` is held while the server answers.
    """

    def __init__(self, location: Location) -> None:
        self._location: Final = location
        self._connection: Final = Connection(location)
        self._members: Final = Members(location, self._connection)
        self._lock: Final = threading.Lock()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    @override
    def server(self) -> dict[str, str]:
        with self._lock:
            found = info_of(self._connection.ask("INFO"))
            found["time"] = f"{self._connection.time():.6f}"
            with suppress(StoreUnusable):  # many who run servers for others forbid it
                if answer := self._connection.ask("CONFIG", "GET", "appendfsync"):
                    found["appendfsync"] = answer[1].decode()
        return found

    @override
    def records(
        self, pool: str, which: Filter, before_id: Any = None, limit: int = 100
    ) -> list[Record]:
        place, since = split_id(before_id), _id_at(0.0 if which.since is None else which.since)
        if place is None and before_id is not None:
            raise no_id(before_id)
        last = _id_at(inf if which.before is None else which.before)
        last = last if place is None else min(last, place[1])
        found: list[Record] = []
        count = limit
        with self._lock:
            while len(found) < limit:
                newest = Newest(self._location, self._connection, pool, since, last, count)
                ids = newest.find(which.state)
                for at in range(0, len(ids), _PAGE):
                    page = self._read(pool, ids[at : at + _PAGE])
                    found += [each for each in page if _fits(each, which)]
                    if len(found) >= limit:
                        break
                if len(ids) < count:
                    break
                last, count = ids[-1], 10 * count
        return found[:limit]

    def _read(self, pool: str, numbers: Iterable[bytes]) -> list[Record]:
        keys = self._location.pool_keys(pool)
        rows = self._connection.run(_RECORDS, keys, self._location.channels, *numbers)
        if not rows:
            return []
        functions = {number: each.function for number, each in self._partitions(pool).items()}
        return [record_of(pool, row, functions) for row in rows]

    def _partitions(self, pool: str) -> dict[int, Partition]:
        meta = self._connection.ask("HGETALL", self._location.pool_key(pool, "meta"))
        return partitions_of(pool, pairs_of(meta))

    @override
    def record(self, job: Any) -> Record | None:
        place = split_id(job)
        if place is None:
            return None
        with self._lock:
            return next(iter(self._read(place[0], [place[1]])), None)

    @override
    def members_of(self, batch: Any, before_id: Any = None, limit: int = 100) -> list[Record]:
        pool, number = split_id(batch) or ("", b"")
        last = b"\xff" if before_id is None else (split_id(before_id) or ("", b""))[1]
        key, from_ = self._location.pool_key(pool, "holders"), b"b" + number
        found: list[Record] = []
        with self._lock:
            while len(found) < limit:
                page = self._connection.ask(
                    "ZREVRANGEBYLEX", key, b"(" + from_ + last, b"[" + from_, "LIMIT", 0, _GROUPS
                )
                ids = [each for group in page for each in reversed(_ids_in(group, len(from_)))]
                found += self._read(pool, [each for each in ids if each < last])
                if len(page) < _GROUPS:
                    break
                last = ids[-1]
        return found[:limit]

    @override
    def obstacles(self, job: Any) -> list[str]:
        with self._lock:
            key, number, packed = self._extra(job, b"d")
            pool, packed = str(job).rpartition(":")[0], packed or b""
            awaited = _ids_in(packed, step=_DIGITS + 1)
            others = self._read(pool, awaited[:5]) if awaited else []
            counts = self._connection.ask("HGET", key, b"B" + number)
            limits = self._obstacles_of_partition(pool, number)
        found = [f"it waits for job {each.id}, which is {each.state.label}" for each in others]
        if counts is not None:
            total, pending = struct.unpack_from("<II", counts)
            found.append(f"it waits for {pending} of its {total} jobs")
        return found + limits

    def _obstacles_of_partition(self, pool: str, number: bytes) -> list[str]:
        ask, key_of = self._connection.ask, partial(self._location.pool_key, pool)
        record = ask("HGET", key_of("job"), number)
        if record is None:
            return []
        partitions = self._partitions(pool)
        mine = partitions[unpack_record(record)[0]]
        found = []
        members = pairs_of(ask("HGETALL", key_of("members")))
        consumers = {process for process, partitions in members.items() if partitions}
        known = [each.split(b"\0") for each in ask("ZRANGE", key_of("known"), 0, -1)]
        knowing = {process for function, process in known if function.decode() == mine.function}
        if consumers and not consumers & knowing:
            found.append(f"no process of pool {pool!r} has imported {mine.function}")
        for name, most, starts, period, _ in mine.limiters:
            if most is not None:
                running = sum(
                    ask("ZCOUNT", key_of("busy"), each, each)
                    for each, other in partitions.items()
                    if any(limiter.name == name for limiter in other.limiters)
                )
                if running >= most:
                    found.append(f"its limit is used up ({name}): {running} of {most} run")
            if starts is not None:
                since = int(self._connection.time()) - period
                started = ask("ZCOUNT", key_of(f"starts:{name}"), since, "+inf")
                if started >= starts:
                    found.append(f"its rate is used up ({name}): {started} started in {period:g} s")
        return found

    @override
    def submits_of(self, jobs: Sequence[Any]) -> dict[Any, Submit]:
        by_pool: dict[str, dict[bytes, Any]] = {}
        for job in jobs:
            if (place := split_id(job)) is not None:
                by_pool.setdefault(place[0], {})[place[1]] = job
        with self._lock:
            return {
                job: submit
                for pool, numbers in by_pool.items()
                for job, submit in self._submits_of(pool, numbers).items()
            }

    def _submits_of(self, pool: str, jobs: dict[bytes, Any]) -> dict[Any, Submit]:
        key_of = self._location.pool_key
        records = self._connection.ask("HMGET", key_of(pool, "job"), *jobs)
        fields = [kind + number for number in jobs for kind in (b"d", b"w", b"n")]
        links = self._connection.ask("HMGET", key_of(pool, "extra"), *fields)
        partitions, submits = self._partitions(pool), {}
        for at, (job, record) in enumerate(zip(jobs.values(), records, strict=True)):
            if record is None or any(links[3 * at : 3 * at + 3]):
                continue
            (number, priority, _, is_serial, key, unique, entry, name, meta, payload, _,
             is_linked) = unpack_record(record)  # fmt: skip
            if not is_linked:
                fair_key, fair_step = fair_key_of(record)
                submits[job] = Submit(
                    partitions[number], payload, name, priority, None, key, key_limit_of(record),
                    is_serial, unique, meta, wants_outcome=False, entry=entry,
                    fair_key=fair_key, fair_step=fair_step,
                )  # fmt: skip
        return submits

    def _extra(self, job: Any, kind: bytes) -> tuple[bytes, bytes, bytes | None]:
        """Return the key where there is more of a job, its number, and what is there of a kind."""
        pool, number = split_id(job) or ("", b"")
        key = self._location.pool_key(pool, "extra")
        return key, number, self._connection.ask("HGET", key, kind + number)

    @override
    def attempts(self, job: Any) -> list[Attempt]:
        with self._lock:
            return unpack_attempts(self._extra(job, b"a")[2])

    @override
    def steps(self, job: Any) -> dict[str, bytes]:
        with self._lock:
            key, number, packed = self._extra(job, b"n")
            names = unpack_names(packed)
            if not names:
                return {}
            values = self._connection.ask("HMGET", key, *[b"s" + number + name for name in names])
        found = zip(names, values, strict=True)
        return {name.decode(): value for name, value in found if value is not None}

    @override
    def counts(self, pool: str, most: int | None = None) -> dict[State, int]:
        counts: dict[State, int] = {}
        with self._lock:
            for state in State:
                if state.has_ended:
                    key = self._location.pool_key(pool, "ended")
                    scores = (state * STATE_SHARE, (state + 1) * STATE_SHARE - 1)
                    counts[state] = self._connection.ask("ZCOUNT", key, *scores)
                elif state is not State.PARKED:
                    counts[state] = 0
                    for index in INDEXES[state]:
                        size = self._connection.ask("ZCARD", self._location.pool_key(pool, index))
                        counts[state] += max(0, size - FILLERS.get(index, 0))
        return counts

    @override
    def pools(self) -> dict[str, bool]:
        with self._lock:
            names = sorted(
                name.decode()
                for name in self._connection.ask("HKEYS", self._location.store_keys().all[3])
            )
            return {
                name: bool(
                    self._connection.ask("HEXISTS", self._location.pool_key(name, "meta"), "paused")
                )
                for name in names
            }

    @override
    def pause_reason(self, pool: str) -> str:
        with self._lock:
            found = self._connection.ask("HGET", self._location.pool_key(pool, "meta"), "paused")
        return "" if found in (None, b"1") else found.decode()  # 1: a former version has written it

    @override
    def entries(self, pool: str) -> list[Entry]:
        keys = self._location.pool_keys(pool)
        with self._lock:
            rows = self._connection.run(_ENTRIES, keys, self._location.channels)
            partitions = self._partitions(pool) if rows else {}
        return sorted(
            (unpack_entry(row, partitions[int(row[1])]) for row in rows),
            key=lambda each: each.name,
        )

    @override
    def oldest_waiting(self, pool: str) -> float | None:
        key_of = partial(self._location.pool_key, pool)
        with self._lock:
            in_turns = self._connection.ask("EXISTS", key_of("turns"))
            oldest = set[bytes]() if in_turns else self._first_of_each_score(key_of("queue"))
            for index in ("queue", "parked") if in_turns else ("parked",):
                for page in all_ids(self._connection, key_of(index)):
                    oldest = {min(oldest.union(page))} if page else oldest
        return created_at(min(oldest)) if oldest else None

    def _first_of_each_score(self, queue: bytes) -> set[bytes]:
        """Return the oldest job of each partition and priority; not if jobs take turns."""
        firsts, last = set[bytes](), "-inf"
        while found := self._connection.ask(
            "ZRANGEBYSCORE", queue, last, "+inf", "WITHSCORES", "LIMIT", 0, 1
        ):
            firsts.add(found[0])
            last = f"({float(found[1]):.0f}"
        return firsts

    @override
    def ended_since(self, pool: str, since: float) -> dict[State, int]:
        key = self._location.pool_key(pool, "ended")
        at = min(max(0, int(since * 1000)), STATE_SHARE - 1)
        with self._lock:
            return {
                state: self._connection.ask(
                    "ZCOUNT", key, state * STATE_SHARE + at, (state + 1) * STATE_SHARE - 1
                )
                for state in State
                if state.has_ended
            }

    @override
    def members(self) -> list[Member]:
        with self._lock:
            return self._members.records()


def _ids_in(packed: bytes, at: int = 0, *, step: int = _DIGITS) -> list[bytes]:
    """Return the ids that follow each other in a text, from a place on."""
    return [packed[start : start + _DIGITS] for start in range(at, len(packed), step)]


def _id_at(seconds: float) -> bytes:
    """Return the lowest id of a job that was submitted at that time or later."""
    return b"%016d" % ceil(max(0.0, min(seconds * 1e6, 10**_DIGITS - 1)))


def _fits(record: Record, which: Filter) -> bool:
    """Return whether a record is one of those, as to what its id does not say."""
    if which.state is not None:
        is_queued = which.state is State.QUEUED and record.state is State.PARKED
        if record.state is not which.state and not is_queued:
            return False
    return (
        which.name in (None, record.name)
        and which.key in (None, record.key)
        and (which.error is None or which.error in (record.error or ""))
        and (which.ended_before is None
             or (record.finished is not None and record.finished < which.ended_before))
    )  # fmt: skip
