"""Packing: how jobs, updates and outcomes become bytes that the scripts read, and back.

Ids that users see are ``pool:number``. The scripts know the number, of 16 digits.
"""

import json
import struct
from collections.abc import Sequence
from math import inf
from typing import Any, Final

from oddjob.durable.record import (
    Attempt,
    Entry,
    Limiter,
    News,
    Partition,
    Record,
    State,
    Submit,
    Update,
)

# The record of a job:
#   head                      `_RECORD`: partition, priority, origin, limit of the key, flags, and
#                             the sizes of key, unique value, entry, name and meta
#   key, unique value, entry, name, meta, payload
#   fair key, `_FAIR_END`     if it has `_IS_FAIR`; the second are the key's step and size
#   number of the batch       if it has `_IS_MEMBER`
_RECORD: Final = struct.Struct("<IidIBHHHHI")
_FAIR_END: Final = struct.Struct("<dH")
_IS_SERIAL, _IS_MEMBER, _IS_BATCH, _REPLACES, _REPLACES_TIME, _IS_FAIR = 1, 2, 4, 8, 16, 32  # flags

_UPDATE: Final = struct.Struct("<16sdBBddd")  # id, token, state, flags, origin, delay, started
# The flags of an update, by what the script has to do: look at the record; read more arguments; …
_LOOK, _READ_OUTCOME, _READ_ERROR, _READ_ATTEMPT = 1, 2, 4, 8
_FORGET, _FREE_LIMITERS, _COUNT_IN_BATCH, _READ_BATCH = 16, 32, 64, 128

_OUTCOME: Final = struct.Struct("<BddIII")  # state, finished, started, attempt, crashes, of error
_ATTEMPT: Final = struct.Struct("<dI")  # finished, size
_NEWS: Final = struct.Struct("<dBI")  # serial number, state, size of error
_CLAIM: Final = struct.Struct("<16sd")  # id, token
_LIMITER: Final = struct.Struct("<dddd")  # how many may run, starts, period, burst
_UNLIMITED: Final = 1e15  # as how many may run
_NEVER: Final = b"inf"  # as the time of a job that waits for others
_DIGITS: Final = 16
NO_ID: Final = b"0" * _DIGITS
_HIGHEST: Final = 2**31 - 1  # priority
_MOST_OF_KEY: Final = 2**32 - 1
_SHARE: Final = 2**32  # of the tokens, for each process


# Of a record: partition, priority, origin, whether it is serial, key, unique value, entry, name,
# meta, payload, number of its batch, and whether others may have to hear of its end. (A named tuple
# takes longer to make, and there is one for each claim.)
Unpacked = tuple[int, int, int | None, bool, str | None, bytes | None, str | None, str,
                 bytes | None, bytes, bytes | None, bool]  # fmt: skip


def token_of(process: int, call: int) -> int:
    """Return the token of the claims of a call."""
    return process * _SHARE + call % _SHARE


def owner_of(token: int) -> int:
    """Return the process that has made claims under a token."""
    return token // _SHARE


def full_id(pool: str, number: bytes) -> str:
    """Return the id of a job by its number."""
    return f"{pool}:{number.decode()}"


def split_id(job: Any) -> tuple[str, bytes] | None:
    """Return the pool and the number of a job; None if that is no id."""
    pool, _, number = str(job).rpartition(":")
    if not pool or len(number) != _DIGITS or not (number.isascii() and number.isdecimal()):
        return None
    return pool, number.encode()


def created_at(number: bytes) -> float:
    """Return when a job was submitted."""
    return int(number) / 1e6


def pack_submit(submit: Submit, partition: int, process: int) -> bytes:
    """Return the record of a new job."""
    key, unique, entry = _bytes(submit.key), submit.unique or b"", _bytes(submit.entry)
    name, meta = _bytes(submit.name), submit.meta or b""
    sizes, fair_key = (len(key), len(unique), len(entry), len(name)), _bytes(submit.fair_key)
    if max(*sizes, len(fair_key)) >= 2**16:
        raise ValueError("a key, unique value or name of a job may have 65,535 bytes in Redis")
    priority = max(-_HIGHEST, min(submit.priority, _HIGHEST)) if submit.priority else 0
    flags, fair, batch = int(submit.is_serial), b"", b""
    if submit.fair_key is not None:
        flags, fair = flags | _IS_FAIR, fair_key + _FAIR_END.pack(submit.fair_step, len(fair_key))
    if submit.is_linked:
        flags |= _IS_MEMBER if submit.batch is not None else 0
        flags |= _IS_BATCH if submit.is_batch else 0
        if submit.batch is not None:  # one of the same call: the script knows its number
            batch = (
                NO_ID if submit.batch.distance else (split_id(submit.batch.job) or ("", NO_ID))[1]
            )
    if submit.replaces:
        flags |= _REPLACES | (_REPLACES_TIME if submit.replaces_time else 0)
    head = _RECORD.pack(
        partition, priority, process if submit.wants_outcome else 0,
        min(submit.key_limit, _MOST_OF_KEY), flags, *sizes, len(meta),
    )  # fmt: skip
    return b"".join((head, key, unique, entry, name, meta, submit.payload, fair, batch))


def key_limit_of(record: bytes) -> int:
    """Return how many jobs of its key may run at once, as a record says."""
    limit: int = _RECORD.unpack_from(record)[3]
    return limit


def fair_key_of(record: bytes) -> tuple[str | None, float]:
    """Return the fair key of a record, None if there is none, and its step."""
    flags = _RECORD.unpack_from(record)[4]
    if not flags & _IS_FAIR:
        return None, 1.0
    end = len(record) - _FAIR_END.size - (_DIGITS if flags & _IS_MEMBER else 0)
    step, size = _FAIR_END.unpack_from(record, end)
    return record[end - size : end].decode(), step


def unpack_record(record: bytes) -> Unpacked:
    """Return the parts of a record."""
    head = _RECORD.unpack_from(record)
    partition, priority, origin, _, flags, key_end, unique, entry, name, meta = head
    unique_end = key_end + unique
    entry_end = unique_end + entry
    name_end = entry_end + name
    meta_end = name_end + meta
    text = record[_RECORD.size :]
    payload, batch = text[meta_end:], None
    if flags & _IS_MEMBER:
        payload, batch = payload[:-_DIGITS], payload[-_DIGITS:]
    if flags & _IS_FAIR:
        _, size = _FAIR_END.unpack(payload[-_FAIR_END.size :])
        payload = payload[: -_FAIR_END.size - size]
    return (
        partition, priority, int(origin) or None, bool(flags & _IS_SERIAL),
        text[:key_end].decode() if key_end else None,
        text[key_end:unique_end] if unique else None,
        text[unique_end:entry_end].decode() if entry else None,
        text[entry_end:name_end].decode(),
        text[name_end:meta_end] if meta else None,
        payload, batch, bool(flags & (_IS_MEMBER | _IS_BATCH)),
    )  # fmt: skip


def claim_flags(partition: Partition, *, has_names: bool) -> int:
    """Return the flags of all updates of a claim; they are kept as its `partition`."""
    return (_LOOK if has_names else 0) | (_FREE_LIMITERS if partition.limiters else 0)


def pack_updates(updates: Sequence[Update], about: str) -> tuple[bytes, list[bytes]]:
    """Return updates, and what follows them; `about` is what tracebacks of attempts say."""
    heads, after, batch = list[bytes](), list[bytes](), None
    pack = _UPDATE.pack
    for claim, state, outcome, error, delay, started, traceback, is_kept in updates:
        flags: int = claim.partition  # see `claim_flags`
        if outcome is not None:
            flags |= _READ_OUTCOME
            after.append(b"." + outcome)
        if error is not None:
            flags |= _READ_ERROR
            after.append(_bytes(error))
        if traceback is not None:
            flags |= _READ_ATTEMPT
            after.append(json.dumps((claim.attempt + 1, started, about, traceback)).encode())
        if not is_kept and state is State.SUCCEEDED:
            flags |= _FORGET
        if claim.batch is not None:
            flags |= _COUNT_IN_BATCH
            if claim.batch != batch:
                batch = claim.batch
                flags |= _READ_BATCH
                after.append(batch[-_DIGITS:].encode())
        number = claim.id[-_DIGITS:].encode()
        heads.append(
            pack(number, claim.token, state, flags, claim.origin or 0, delay, started or 0.0)
        )
    return b"".join(heads), after


def pack_delays(submits: Sequence[Submit], *, are_linked: bool = False) -> bytes:
    """Return the delays of submits, for ever if they wait for others; nothing if there are none."""
    if are_linked:
        delays = [inf if each.after or each.is_batch else each.delay for each in submits]
        return _pack_doubles(delays, 0.0)
    return _pack_doubles([each.delay for each in submits], 0.0)


def pack_bounds(submits: Sequence[Submit]) -> bytes:
    """Return the bounds of the queue for submits; nothing if there are none."""
    return _pack_doubles([each.max_queue for each in submits], -1.0)


def _pack_doubles(values: Sequence[float | None], default: float) -> bytes:
    if values.count(None) == len(values):
        return b""
    doubles = [default if each is None else each for each in values]
    return struct.pack(f"<{len(values)}d", *doubles)


def pack_begun(marks: set[tuple[int, int]]) -> bytes:
    """Return the claims that a dead process had begun."""
    return b"".join(_CLAIM.pack(b"%016d" % job, token) for job, token in marks)


def unpack_news(item: bytes, pool: str) -> News:
    """Return a piece of news."""
    _, state, size = _NEWS.unpack_from(item)
    number, error, outcome = _split(item, _NEWS.size, _DIGITS, size)
    return News(None if number == NO_ID else full_id(pool, number), State(state),
                outcome[1:] if outcome else None, error.decode() if error else None)  # fmt: skip


def record_of(pool: str, row: Sequence[Any], functions: dict[int, str]) -> Record:
    """Return the record of a job, from what the script `records` says of it."""
    number, state, packed, tried, due, token, claimed, ended, progress = row
    (partition, priority, _, _, key, unique, entry, name, meta, payload, batch,
     _) = unpack_record(packed)  # fmt: skip
    attempt, crashes = divmod(int(tried), 1000)
    finished = started = error = outcome = None
    if ended:
        _, at, began, tries, deaths, size = _OUTCOME.unpack_from(ended)
        text, result = _split(ended, _OUTCOME.size, size)
        error, outcome = text.decode() if text else None, result[1:] if result else None
        started = began or None
        if State(state).has_ended:
            finished, attempt, crashes = at, tries, deaths
    if claimed:
        started = float(claimed)
    return Record(
        full_id(pool, number), pool, functions.get(partition, "?"), name, State(state), priority,
        attempt, crashes, float(due) if due and due != _NEVER else None, key, unique, entry,
        owner_of(int(token)) if token else None, created_at(number), started, finished, error,
        progress[1:] if progress else None, meta, payload, outcome,
        full_id(pool, batch) if batch else None,
    )  # fmt: skip


def unpack_attempts(packed: bytes | None) -> list[Attempt]:
    """Return the attempts of a job that have failed."""
    attempts, at, packed = {}, 0, packed or b""
    while at < len(packed):
        finished, size = _ATTEMPT.unpack_from(packed, at)
        at += _ATTEMPT.size + size
        number, started, process, trace = json.loads(packed[at - size : at])
        attempts[number] = Attempt(number, started, finished, process, trace)
    return [attempts[number] for number in sorted(attempts)]


def unpack_names(packed: bytes | None) -> list[bytes]:
    """Return the names of steps."""
    names, at, packed = [], 0, packed or b""
    while at < len(packed):
        size = int.from_bytes(packed[at : at + 2], "little")
        names.append(packed[at + 2 : at + 2 + size])
        at += 2 + size
    return names


def unpack_limiter(name: str, packed: bytes) -> Limiter:
    """Return a limiter, from what is stored of it."""
    most, starts, period, burst = _LIMITER.unpack(packed)
    is_bounded = most < _UNLIMITED
    return Limiter(name, int(most) if is_bounded else None, int(starts) or None, period, int(burst))


def pack_limiter(limiter: Limiter) -> bytes:
    """Return what is stored of a limiter."""
    most = _UNLIMITED if limiter.max_running is None else limiter.max_running
    return _LIMITER.pack(most, limiter.starts or 0, limiter.period, limiter.burst)


def unpack_entry(row: Sequence[bytes], partition: Partition) -> Entry:
    """Return a recurring entry of a partition, from what a script says of it."""
    name, _, rule, tick, payload, paused, fired, missed, last_tick, last_job = row
    return Entry(
        name.decode(), partition, rule, float(tick), payload, paused == b"1", int(fired),
        int(missed), float(last_tick) if last_tick else None,
        full_id(partition.pool, last_job) if last_job else None,
    )  # fmt: skip


def _bytes(text: str | None) -> bytes:
    return text.encode("utf-8", "backslashreplace") if text else b""


def _split(text: bytes, at: int, *sizes: int) -> list[bytes]:
    parts = []
    for size in sizes:
        parts.append(text[at : at + size])
        at += size
    return [*parts, text[at:]]
