"""Reasons: why a job is in its state, and what it waits for, in sentences for people.

They are found by a few short looks, one after the other, so the job may have gone on meanwhile.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from oddjob.durable.record import State
from oddjob.durable.store import Filter
from oddjob.operations.access import StoreAccess
from oddjob.operations.phrases import counted, lasting
from oddjob.operations.record import Record, stored_id, stored_key
from oddjob.schedule.clock import clock

_LOOKED_AT: Final = 1000  # members of a batch or chain, of which
_NAMED: Final = 3  # are named that have failed


def reasons_of(record: Record, access: StoreAccess) -> list[str]:
    """Return why a job is in its state, the most important reason first."""
    found = {"scheduled": _scheduled, "queued": _queued, "running": _running}
    reasons = list(found.get(record.state, _ended)(record, access))
    return reasons or ["nothing is in the way: it starts as soon as a worker is free"]


def _ended(record: Record, _access: StoreAccess) -> Iterator[str]:
    was = "was " if record.state == "cancelled" else ""
    after = f" after {counted(record.attempt, 'attempt')}" if record.attempt else ""
    yield f"it {was}{record.state}{after}"
    if record.kind != "job":
        members = islice(record.members(), _LOOKED_AT)
        failed = (each for each in members if each.state == "failed" and each.attempt)
        for member in islice(failed, _NAMED):
            yield f"job {member.id} ({member.name}) failed: {member.error}"
    if record.error is not None:
        yield record.error
    if record.crashes:
        yield f"{counted(record.crashes, 'process')} died while running it"
    if record.state == "failed":
        yield f"it is not tried again by itself: oddjob retry {record.id}"


def _scheduled(record: Record, access: StoreAccess) -> Iterator[str]:
    left = 0.0 if record.run_at is None else record.run_at.timestamp() - clock.wall()
    others = access.reader.obstacles(stored_id(record)) if record.run_at is None else []
    if others:
        yield from others
    elif record.attempt:
        yield f"attempt {record.attempt} failed ({record.error}); the next one is due {_in(left)}"
    else:
        yield f"it is due {_in(left)}"
    if left <= 0:
        yield from _pool(record, access)


def _running(record: Record, access: StoreAccess) -> Iterator[str]:
    owners = {each.id: each for each in access.runners()}
    owner = owners.get(record.runner or "")
    if owner is None:
        yield "the process that ran it is gone: another one takes the job over"
    else:
        yield f"process {owner.pid} on {owner.host} runs it, or has claimed it to run it next"
    if record.attempt:
        yield f"{counted(record.attempt, 'attempt')} failed before; the last one: {record.error}"


def _queued(record: Record, access: StoreAccess) -> Iterator[str]:
    yield from _pool(record, access)
    key = stored_key(record)
    if key is not None:
        holders = access.reader.records(record.pool, Filter(State.RUNNING, key=key), limit=5)
        if holders:
            yield f"it waits for job {holders[0].id}, which has the same key ({record.key})"
    yield from access.reader.obstacles(stored_id(record))
    counts = access.reader.counts(record.pool)
    others, running = counts[State.QUEUED] - 1, counts[State.RUNNING]
    if others > 0 or running:
        yield f"in its pool: {others:,} more waiting, {running:,} running"


def _pool(record: Record, access: StoreAccess) -> Iterator[str]:
    if access.reader.pools().get(record.pool):
        reason = access.reader.pause_reason(record.pool)
        why = reason and f" ({reason})"
        yield f"pool {record.pool!r} is paused{why}: oddjob resume {record.pool}"
    elif not any(record.pool in each.pools for each in access.runners()):
        yield f"no process runs jobs of pool {record.pool!r}: start a worker"


def _in(seconds: float) -> str:
    return f"in {lasting(seconds)}" if seconds > 0 else "now"
