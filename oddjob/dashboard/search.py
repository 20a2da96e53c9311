"""Search: which jobs a page or a form is about, the newest first, a page at a time.

A page begins after a *cursor*: when its job was submitted, and that job's reference. Jobs in memory
that wait for a timer have not been submitted; they come first.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from heapq import merge
from itertools import islice
from math import inf
from operator import attrgetter
from typing import Final, NamedTuple, cast, get_args

from oddjob.dashboard.context import Context, Found, Place
from oddjob.dashboard.request import HttpError, Request
from oddjob.operations.memory_operations import MemoryOperations
from oddjob.operations.phrases import read_key
from oddjob.operations.pool_operations import PoolOperations
from oddjob.runtime.job_state import JobState

STATES: Final = cast("tuple[JobState, ...]", get_args(JobState))


class JobFilter(NamedTuple):
    """Which jobs are meant; "": whichever."""

    state: JobState | str = ""
    pool: str = ""
    name: str = ""
    key: str = ""
    error: str = ""
    q: str = ""


class _Start(NamedTuple):
    """Where a page begins: after which job of which source, and when that was submitted."""

    source: int
    job: str
    moment: datetime | None


def filter_of(request: Request) -> JobFilter:
    """Return which jobs a page or form is about."""
    which = JobFilter(*(request.get(name) for name in JobFilter._fields))
    if which.state and which.state not in STATES:
        raise HttpError(400, f"There is no state {which.state!r}: {', '.join(STATES)}.")
    return which


def find_jobs(context: Context, which: JobFilter, cursor: str = "") -> Iterator[Found]:
    """Iterate over jobs, the newest first; at most `scan_limit` are looked at for a text."""
    start = _start_of(cursor) if cursor else None
    found = [_jobs_of(place, which, start) for place in context.places(which.pool)]
    jobs = merge(*found, key=attrgetter("order"))
    if not which.q:
        return jobs
    text = which.q.casefold()
    return (
        each
        for each in islice(jobs, context.scan_limit)
        if text
        in f"{each.job.id} {each.job.name} {each.job.function} {each.job.key} "
        f"{each.job.error or ''}".casefold()
    )


def cursor_of(found: Found) -> str:
    """Return where the page after a job begins."""
    moment = "" if found.order[1] else str(round(-found.order[0] * 1e6))
    return f"{moment}-{found.reference}"


def _start_of(cursor: str) -> _Start:
    text, _, wanted = cursor.partition("-")
    number, _, id_ = wanted.rpartition("~")
    try:
        moment = datetime.fromtimestamp(int(text) / 1e6, UTC) if text else None
        return _Start(int(number or 0), id_, moment)
    except (ValueError, OverflowError, OSError):
        raise HttpError(400, "There is no such page.") from None


def _jobs_of(place: Place, which: JobFilter, start: _Start | None) -> Iterator[Found]:
    pool = cast("PoolOperations", place.pool)  # `MemoryOperations` has the same arguments
    before, before_id = None, None
    if start is None:
        pass
    elif isinstance(place.pool, MemoryOperations):  # which falls back on the time if it has ended
        before, before_id = start.moment, start.job
    elif start.source == place.number:  # a store lists the jobs of all its pools by their ids
        before_id = start.job
    else:
        before = start.moment
    records = pool.records(
        state=cast("JobState", which.state) or None,
        name=which.name or None,
        key=read_key(which.key) if which.key else None,
        error=which.error or None,
        before=before,
        before_id=before_id,
    )
    order = (-inf, "")
    try:
        for each in records:
            # `merge` needs a list in order, which a queue in memory with priorities is not: a job
            # that is newer than the one before it is placed as if it was as old.
            created = each.created
            order = max(order, (-inf, each.id) if created is None else (-created.timestamp(), ""))
            yield Found(place, each, order)
    except ValueError:
        if before_id is None:
            raise
        raise HttpError(400, "There is no such page.") from None
