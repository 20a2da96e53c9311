"""PoolAccess: what one process knows of one pool, and the packing of its turns.

The partitions of a pool are read when it is entered, and again when the server says that there are
new ones.
"""

import struct
from collections.abc import Iterable, Sequence
from math import inf
from typing import Any, Final, NamedTuple

from oddjob.durable.record import (
    MAX_CRASHES,
    Capacity,
    Claim,
    Partition,
    State,
    Submit,
    Submitted,
    Turn,
    Update,
)
from oddjob.durable.redis.connection import Call, pairs_of
from oddjob.durable.redis.location import Location
from oddjob.durable.redis.packing import (
    claim_flags,
    full_id,
    pack_bounds,
    pack_delays,
    pack_limiter,
    pack_submit,
    pack_updates,
    token_of,
    unpack_entry,
    unpack_limiter,
    unpack_news,
    unpack_record,
)
from oddjob.durable.redis.script import Script
from oddjob.errors import StoreUnusable

_CALLER: Final = struct.Struct("<8sdd")  # nonce, process, number of the call
_HEADER: Final = struct.Struct("<iiBIII")  # idle, limit, flags, newest partition, updates, submits
_CONSUMES, _HAS_SPARE, _ARE_LINKED = 1, 2, 4
_FORMAT: Final = 2  # of the keys of a pool, that this version reads; 2 is with turns
_FORMAT_FIELD: Final = b"l\0\0format"

_TURN: Final = Script("turn")
_TURN_WITH_SUBMITS: Final = Script("turn", needs_memory=True)
_SUBMIT: Final = Script("submit", needs_memory=True)


class Caller(NamedTuple):
    """A process, as the scripts know it."""

    nonce: bytes
    process: int

    def pack(self, number: int) -> bytes:
        """Pack this process and the number of a call."""
        return _CALLER.pack(self.nonce, self.process, number)


class Part(NamedTuple):
    """One pool's share of a turn."""

    pool: "PoolAccess"
    updates: list[Update]
    submits: list[Submit]
    links: bytes  # of the submits, if any of them is linked
    room: Capacity | None

    def without_submits(self) -> "Part":
        """Return what is left of it without the submits."""
        return self._replace(submits=[], links=b"")

    def refused(self, error: Exception) -> list[Submitted]:
        """Return the answer to submits that were not stored."""
        return [Submitted(None, is_new=False, error=error)] * len(self.submits)


class PoolAccess:
    """One pool.

    Args:
        location: the server.
        name: of the pool.
        caller: this process.
        about: which process it is, for people.
    """

    def __init__(self, location: Location, name: str, caller: Caller, about: str) -> None:
        self.name: Final = name
        self.keys: Final = location.pool_keys(name, caller.process)
        self._location: Final = location
        self._caller: Final = caller
        self._about: Final = about
        self.consumes: bool = False
        self.newest_member: int = 0  # the counter of members
        self.held: Final[set[str]] = set()  # ids of jobs that this process has claimed
        self._functions: set[str] = set()  # that this process knows
        self._partitions: dict[int, Partition] = {}  # all, by number
        self._newest_partition = 0  # the counter of partitions, when these were read
        self._numbers: dict[Partition, int] = {}  # of those that this process has submitted jobs in
        self._packed_partitions: tuple[bytes, bytes] = (b"", b"")  # those that it claims from
        self._turn_keys = self.keys
        self.foreign: dict[int, str] = {}  # functions that it does not know, by partition
        self._has_new_foreign = False
        self.look_for_unknown: float = inf  # seconds, until jobs of them may have to fail

    # Partitions.

    def read_partitions(self, meta: Sequence[bytes]) -> None:
        """Note all partitions, from the hash that has them."""
        fields = pairs_of(meta)
        self._partitions = partitions_of(self.name, fields)
        self._newest_partition = int(fields.get(b"partition", 0))
        self._has_new_foreign = self.consumes
        self._sort_partitions()

    def learn(self, functions: Iterable[str]) -> None:
        """Note that this process runs jobs of the pool, of these functions among others."""
        self.consumes = True
        self._functions.update(functions)
        self._sort_partitions()

    def forget(self) -> None:
        """Note that it runs none."""
        self.consumes = False
        self._functions.clear()
        self._sort_partitions()

    def _sort_partitions(self) -> None:
        names: dict[str, int] = {}
        packed = []
        self.foreign = {}
        for number, partition in self._partitions.items():
            if partition.function not in self._functions:
                if self.consumes:
                    self.foreign[number] = partition.function
                continue
            places = [names.setdefault(each.name, len(names) + 1) for each in partition.limiters]
            packed.append(struct.pack(f"<IH{len(places)}H", number, len(places), *places))
        texts = [name.encode() for name in names]
        self._packed_partitions = (
            b"".join(packed),
            b"".join(len(text).to_bytes(2, "little") + text for text in texts),
        )
        self._turn_keys = self._location.pool_keys(self.name, self._caller.process, names)

    def unknown(self) -> list[tuple[str, str]]:
        """Return the functions, with their pool, that this process lacks; none if none is new."""
        is_new, self._has_new_foreign = self._has_new_foreign, False
        if not is_new:
            return []
        return sorted({(self.name, function) for function in self.foreign.values()})

    def new_partitions(self, submits: Sequence[Submit]) -> list[Partition]:
        """Return the partitions of submits that the server has to be asked about."""
        partitions = dict.fromkeys([each.partition for each in submits])
        return [partition for partition in partitions if partition not in self._numbers]

    def partition_arguments(self, partition: Partition) -> list[bytes]:
        """Return the arguments with which the server stores a partition."""
        names = "\n".join(each.name for each in partition.limiters)
        arguments = [partition.function.encode(), names.encode()]
        for each in partition.limiters:
            arguments += [each.name.encode(), pack_limiter(each)]
        return arguments

    def add_partition(self, partition: Partition, number: int) -> None:
        """Note the number of a partition."""
        self._numbers[partition] = number

    @property
    def submitted(self) -> list[Partition]:
        """Partitions that jobs were submitted in."""
        return list(self._numbers)

    @property
    def functions(self) -> list[str]:
        """Functions that this process knows."""
        return list(self._functions)

    # Turns.

    def call(self, number: int, part: Part) -> Call:
        """Return the call of a turn in this pool."""
        _, updates, submits, links, room = part
        idle, limit, flags = 0, 0, _ARE_LINKED if links else 0
        if room is not None and self.consumes:
            idle, limit = room.idle, room.limit
            flags |= _CONSUMES | (_HAS_SPARE if room.has_spare else 0)
        heads, after = pack_updates(updates, self._about)
        arguments = [
            self._location.channels,
            self._caller.pack(number),
            _HEADER.pack(idle, limit, flags, self._newest_partition, len(updates), len(submits)),
            heads,
            pack_delays(submits, are_linked=bool(links)),
            pack_bounds(submits),
            *self._packed_partitions,
            *self.records(submits),
            *([links] if links else ()),
            *after,
        ]
        script = _TURN_WITH_SUBMITS if submits else _TURN
        return Call(script, self._turn_keys, arguments, bool(updates or submits))

    def submit_call(self, number: int, submits: Sequence[Submit]) -> Call | None:
        """Return the call that stores jobs by itself; None if a partition is new.

        Any thread may call it, and `read_submitted`.
        """
        if any(each.partition not in self._numbers for each in submits):
            return None
        arguments = [
            self._location.channels,
            self._caller.pack(number),
            _HEADER.pack(0, 0, 0, 0, 0, len(submits)),
            *(b"", pack_delays(submits), b"", b"", b""),
            *self.records(submits),
        ]
        return Call(_SUBMIT, self.keys, arguments, is_for_replicas=True)

    def read_submitted(self, answer: Sequence[Any], count: int) -> list[Submitted]:
        """Return what has become of the jobs of such a call."""
        first, twins = answer
        return self._submitted(int(first), twins, [], count)

    def records(self, submits: Sequence[Submit]) -> list[bytes]:
        """Return the records of new jobs."""
        process, numbers = self._caller.process, self._numbers
        return [pack_submit(each, numbers[each.partition], process) for each in submits]

    def read(self, answer: Sequence[Any], part: Part, number: int, turn: Turn) -> list[Submitted]:
        """Add what the server has answered to a turn; return what has become of the submits."""
        (
            now, refused, first, twins, turned_away, claimed, records, tries, news, entries,
            look, hungry, wants_room, stranded, newest_member,
        ) = answer  # fmt: skip
        turn.now = float(now)
        turn.refused += [part.updates[n - 1] for n in refused]
        running = State.RUNNING
        self.held.difference_update([u.claim.id for u in part.updates if u.state is not running])
        claims = self._claims(claimed, token_of(self._caller.process, number), records, tries)
        self.held.update([each.id for each in claims])
        turn.claims += claims
        turn.news += [unpack_news(item, self.name) for item in news[::2]]
        turn.entries += [unpack_entry(row, self._partitions[int(row[1])]) for row in entries]
        if look:
            turn.next_look = min(inf if turn.next_look is None else turn.next_look, float(look))
        turn.hungry_peers |= bool(hungry)
        if wants_room:
            turn.full |= {self.name}
        self.newest_member = int(newest_member)
        self._note_stranded(stranded, part.room, turn.now)
        return self._submitted(int(first), twins, turned_away, len(part.submits))

    def _claims(
        self, jobs: Sequence[bytes], token: int, records: Sequence[bytes], tries: Sequence[Any]
    ) -> list[Claim]:
        partitions, name, claims = self._partitions, self.name, list[Claim]()
        for job, record, tried in zip(jobs, records, tries or [0] * len(jobs), strict=True):
            (number, priority, origin, is_serial, key, unique, entry, label, meta, payload, batch,
             _) = unpack_record(record)  # fmt: skip
            partition = partitions[number]
            attempt, crashes = divmod(int(tried), 1000) if tried else (0, 0)
            has_names = bool(key or unique or entry)
            claims.append(Claim(
                full_id(name, job), token, claim_flags(partition, has_names=has_names), name,
                partition.function, payload, meta, label, priority, attempt, crashes, key,
                is_serial, origin, crashes >= MAX_CRASHES - 1,
                batch=full_id(name, batch) if batch else None,
            ))  # fmt: skip
        return claims

    def _submitted(
        self, first: int, twins: Sequence[Any], turned_away: Sequence[int], count: int
    ) -> list[Submitted]:
        name = self.name
        if not twins and not turned_away:
            numbers = range(first, first + count)
            return [Submitted(f"{name}:{number:016d}", is_new=True) for number in numbers]
        found = {n: Submitted(None, is_new=False) for n in turned_away}
        for n, twin, is_delayed in zip(twins[::3], twins[1::3], twins[2::3], strict=True):
            job = full_id(name, twin)
            found[n] = Submitted(job, is_new=False, is_delayed=bool(is_delayed))
        for n in range(1, count + 1):
            if n not in found:
                found[n] = Submitted(f"{name}:{first:016d}", is_new=True)
                first += 1
        return [found[n] for n in range(1, count + 1)]

    def _note_stranded(self, stranded: Sequence[bytes], room: Capacity | None, now: float) -> None:
        self.look_for_unknown = inf
        if room is not None and room.unknown_after < inf and stranded:
            since = min(map(float, stranded[1::2]))
            self.look_for_unknown = max(0.0, since + room.unknown_after - now)


def partitions_of(pool: str, fields: dict[bytes, bytes]) -> dict[int, Partition]:
    """Return the partitions of a pool by their numbers, from the hash that has them.

    Raises:
        StoreUnusable: a newer version of OddJob has stored what this one cannot read.
    """
    found = int(fields.get(_FORMAT_FIELD, 1))
    if found > _FORMAT:
        raise StoreUnusable(
            f"pool {pool!r} has jobs of a newer version of OddJob: their format is {found}, this "
            f"version reads formats up to {_FORMAT}. Update it"
        )
    partitions = {}
    for field, number in fields.items():
        if field.startswith(b"l") and field.find(b"\0") > 1:
            function, names = field[1:].decode().split("\0")
            limiters = [
                unpack_limiter(name, fields[f"d{name}".encode()])
                for name in names.split("\n")
                if name
            ]
            partitions[int(number)] = Partition(pool, function, tuple(limiters))
    return partitions
