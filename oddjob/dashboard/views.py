"""Views: what each page shows, as data: templates make HTML of it, and ``/api`` is it.

Times are dates, and nothing is said of how long ago they are: so what has not changed is the same
data, and need not be sent again.
"""

import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from heapq import merge
from itertools import islice
from typing import Any, Final, NamedTuple, cast, get_args

from oddjob import __version__
from oddjob.dashboard.look import MINUTES, Look, Place, first_minute, reference
from oddjob.dashboard.payload import text_of
from oddjob.dashboard.request import HttpError, Request
from oddjob.keys import decode_key
from oddjob.operations.findings import findings
from oddjob.operations.memory import MemoryOperations
from oddjob.operations.pool_operations import PoolOperations
from oddjob.operations.presentation import attempts_json, entry_json, job_json, runner_json
from oddjob.operations.sources import AnyRecord
from oddjob.operations.stores import StoreOperations
from oddjob.runtime.watchers import JobState

STATES: Final = cast("tuple[JobState, ...]", get_args(JobState))
_MOST: Final = 100_000  # jobs that are counted
_FEW: Final = 10  # rows of a list beside others
_SAMPLE: Final = 500  # jobs whose durations are looked at
_LIMITS: Final = ("max_queue", "when_full", "rate", "key_limit", "timeout", "retries",
                  "priority_aging")  # fmt: skip
_LISTED: Final = 1000  # scheduled jobs that are sorted by their times

Data = dict[str, Any]


class JobFilter(NamedTuple):
    """Which jobs are meant; "": whichever."""

    state: JobState | str = ""
    pool: str = ""
    name: str = ""
    key: str = ""
    error: str = ""
    q: str = ""


class Chosen(NamedTuple):
    """A job, and the pool that it is in."""

    place: Place
    job: AnyRecord


def filter_of(request: Request) -> JobFilter:
    """Return which jobs a page or form is about."""
    which = JobFilter(*(request.get(name) for name in JobFilter._fields))
    if which.state and which.state not in STATES:
        raise HttpError(400, f"There is no state {which.state!r}: {', '.join(STATES)}.")
    return which


def chosen_jobs(look: Look, which: JobFilter, before: str = "") -> Iterator[Chosen]:
    """Iterate over jobs, the newest first; at most `scan_limit` are looked at for a text."""
    number, last, until = _start_of(before)
    found = [
        _jobs_of(place, which, last if place.number == number else None, until)
        for place in look.places(which.pool)
    ]
    jobs = merge(*found, key=_age_of)
    if not which.q:
        return jobs
    text = which.q.casefold()
    return (
        each
        for each in islice(jobs, look.scan_limit)
        if text
        in f"{each.job.id} {each.job.name} {each.job.function} {each.job.key} "
        f"{each.job.error or ''}".casefold()
    )


def _start_of(before: str) -> tuple[int | None, str | None, datetime | None]:
    """Return after which job of which source a page begins, and when that was submitted."""
    if not before:
        return None, None, None
    moment, _, wanted = before.partition("-")
    number, _, id_ = wanted.rpartition("~")
    try:
        return int(number or 0), id_, datetime.fromtimestamp(int(moment) / 1e6, UTC)
    except (ValueError, OverflowError, OSError):
        raise HttpError(400, "There is no such page.") from None


def _jobs_of(
    place: Place, which: JobFilter, last: str | None, until: datetime | None
) -> Iterator[Chosen]:
    pool = cast("PoolOperations", place.pool)  # the other kind takes the same
    key = which.key
    records = pool.records(
        state=cast("JobState", which.state) or None,
        name=which.name or None,
        key=decode_key(f"={key}" if key.startswith("(") else key) if key else None,
        error=which.error or None,
        before=None if last and not isinstance(place.pool, MemoryOperations) else until,
        before_id=last,
    )
    return (Chosen(place, each) for each in records)


def _age_of(chosen: Chosen) -> float:
    created = chosen.job.created
    return 0.0 if created is None else -created.timestamp()


def _cursor_of(chosen: Chosen) -> str:
    created = chosen.job.created or datetime.now(UTC)
    return f"{int(created.timestamp() * 1e6)}-{reference(chosen.place.number, chosen.job.id)}"


def job_data(chosen: Chosen) -> Data:
    """Return a job as lists show it."""
    place, job = chosen
    return job_json(job) | {
        "ref": reference(place.number, job.id), "pool_ref": place.reference,
        "function": job.function, "crashes": job.crashes, "error_line": job.error,
    }  # fmt: skip


# Pages.


def overview(look: Look, _rest: str) -> Data:
    """Show all pools, what has ended in the last hour, and what failed last."""
    places = [*look.places()]
    listed = [_pool_data(look, each) for each in places]
    ended = {state: [0] * MINUTES for state in ("succeeded", "failed")}
    for each in places:
        for state, counts in _ended(look, each).items():
            ended[state] = [a + b for a, b in zip(ended[state], counts, strict=True)]
    oldest = [each["oldest_waiting_at"] for each in listed if each["oldest_waiting_at"]]
    return {
        "counts": {state: sum(each["counts"][state] for each in listed) for state in STATES},
        "oldest_waiting_at": min(oldest, default=None),
        "ended": _chart_data(ended, places),
        "pools": listed,
        "failures": [*map(job_data, islice(chosen_jobs(look, JobFilter("failed")), 5))],
    }


def jobs(look: Look, _rest: str) -> Data:
    """Show a page of the jobs that match a filter."""
    which = filter_of(look.request)
    places = [*look.places(which.pool)]
    counted = [_counts(look, each) for each in places]
    found = [*islice(chosen_jobs(look, which, look.request.get("before")), look.page_size + 1)]
    page = found[: look.page_size]
    return {
        "filter": which._asdict(),
        "counts": {state: sum(counts[state] for counts in counted) for state in STATES},
        "pools": [{"ref": each.reference, "name": each.pool.name} for each in look.places()],
        "jobs": [*map(job_data, page)],
        "next": _cursor_of(page[-1]) if len(found) > len(page) else None,
    }


def job(look: Look, rest: str) -> Data:
    """Show all that is known of a job."""
    number, source, record = look.job(rest)
    place = Place(number, source, source.pool(record.pool))
    has_result = record.state == "succeeded" and record.outcome is not None
    return {
        "job": job_data(Chosen(place, record)),
        "source": source.label,
        "arguments": _arguments_of(look, record),
        "result": text_of(record.outcome or b"", is_call=False) if has_result else None,
        "entry": record.entry, "runner": record.runner,
        "reasons": source.why(record),  # type: ignore[arg-type]  # it is the source's own
        "attempts": attempts_json(record),
        "stack": _stack_of(look, place, record),
    }  # fmt: skip


def errors(look: Look, _rest: str) -> Data:
    """Show failed jobs, by the class of their error and their function."""
    return look.memory.cached("errors", lambda: _grouped(look))


def _grouped(look: Look) -> Data:
    groups: dict[tuple[str, str, str], Data] = {}
    seen = 0
    for each in islice(chosen_jobs(look, JobFilter("failed")), look.scan_limit):
        seen += 1
        kind, _, message = (each.job.error or "unknown").partition(": ")
        group = groups.setdefault((each.place.reference, each.job.function, kind), {
            "type": kind, "name": each.job.name, "function": each.job.function,
            "pool": each.job.pool, "pool_ref": each.place.reference, "count": 0,
            "message": message, "first_at": None, "last_at": each.job.finished,
            "latest": reference(each.place.number, each.job.id),
        })  # fmt: skip
        group["count"] += 1
        group["first_at"] = each.job.finished
    found = sorted(groups.values(), key=lambda each: -each["count"])
    return {"groups": found, "seen": seen, "is_capped": seen >= look.scan_limit}


def pools(look: Look, _rest: str) -> Data:
    """Show all pools."""
    return {"pools": [_pool_data(look, each) for each in look.places()]}


def pool(look: Look, rest: str) -> Data:
    """Show one pool: what runs, what waits, and its limits."""
    place = look.place(rest)
    local = look.sources.local_pool(place.source, place.pool.name)
    data: Data = {
        "pool": _pool_data(look, place),
        "ended": _chart_data(_ended(look, place), [place]),
        "running": _some(place, "running"),
        "queued": _some(place, "queued"),
        "workers": [],
        "limits": {},
    }
    if local is None:
        key = "durations", place.reference
        return data | {"durations": look.memory.cached(key, lambda: _durations_of(place))}
    stats, options = local.stats(), local.configuration
    shown = {name: getattr(options, name) for name in _LIMITS}
    crashes = f"{stats.crashes} of workers, {stats.restarts} restarts, {stats.abandoned} stuck"
    return data | {
        "workers": [
            {"name": each.name, "state": each.state, "since": each.since,
             "job": each.job and each.job.name, "stack": each.stack()}
            for each in local.workers()
        ],
        "limits": {"pool_size": local.pool_size, "crashes": crashes}
        | {name: str(value) for name, value in shown.items() if value is not None},
        "durations": {"ran": stats.run_time._asdict(), "waited": stats.queue_wait._asdict()},
    }  # fmt: skip


def scheduled(look: Look, _rest: str) -> Data:
    """Show the jobs that wait for their time, the next one first."""
    found = [*islice(chosen_jobs(look, JobFilter("scheduled")), _LISTED + 1)]
    is_capped = len(found) > _LISTED
    later = datetime.max.replace(tzinfo=UTC)
    found.sort(key=lambda each: each.job.run_at or later)
    return {"jobs": [*map(job_data, found[: 2 * look.page_size])], "is_capped": is_capped,
            "more": max(0, len(found) - 2 * look.page_size)}  # fmt: skip


def recurring(look: Look, _rest: str) -> Data:
    """Show the recurring entries, and when they fire next."""
    found = []
    for place in look.places():
        for entry in place.pool.recurring():
            data = entry_json(entry) | {
                "ref": entry.id, "pool_ref": place.reference, "last_state": None, "last_ref": None,
                "upcoming": entry.upcoming(5),
                "clock_changes": look.memory.cached(
                    ("clocks", place.reference, entry.rule), entry.clock_changes
                ),
            }  # fmt: skip
            if entry.last_job is not None:
                data["last_ref"] = reference(place.number, entry.last_job)
                try:
                    data["last_state"] = look.job(data["last_ref"])[2].state
                except HttpError:  # its record is gone
                    data["last_ref"] = None
            found.append(data)
    return {"entries": found}


def runners(look: Look, _rest: str) -> Data:
    """Show the processes that use the stores, and how many jobs each has in hand."""
    me, found = (socket.gethostname(), os.getpid()), []
    running = [
        (place.number, each.runner)
        for place in look.places()
        for each in place.pool.records(state="running", limit=_LISTED)
    ]
    for number, source in look.found.items():
        found += [
            runner_json(each) | {"store": source.label, "jobs": running.count((number, each.id)),
                                 "is_this": (each.host, each.pid) == me}
            for each in source.runners()
        ]  # fmt: skip
    return {"runners": found}


def about(look: Look, _rest: str) -> Data:
    """Show versions, and what ``oddjob doctor`` finds."""
    stores = [each for each in look.found.values() if isinstance(each, StoreOperations)]
    process = f"{socket.gethostname()}:{os.getpid()}"
    found = [{"label": each.label, "findings": _findings_of(look, each)} for each in stores]
    return {"version": __version__, "process": process, "sources": found,
            "has_memory": len(stores) < len(look.found)}  # fmt: skip


# Parts of pages.


def _findings_of(look: Look, store: StoreOperations) -> list[Data]:
    def find() -> list[Data]:
        return [each._asdict() for each in findings(store.url, imports=False, opened=store)]

    return look.memory.cached(("findings", store.label), find)


def _counts(look: Look, place: Place) -> dict[JobState, int]:
    if isinstance(place.pool, MemoryOperations):
        return place.pool.counts()
    return look.memory.cached(("counts", place.reference), lambda: place.pool.counts(_MOST))


def _ended(look: Look, place: Place) -> dict[str, list[int]]:
    pool = place.pool
    if isinstance(pool, MemoryOperations):
        return look.memory.ended_in_memory(pool)
    since = datetime.fromtimestamp(first_minute(), UTC)
    ended = look.memory.cached(
        ("ended", place.reference), lambda: pool.ended_by_period(since, 60.0, MINUTES)
    )
    return {"succeeded": ended["succeeded"], "failed": ended["failed"]}


def _chart_data(ended: dict[str, list[int]], places: list[Place]) -> Data:
    in_memory = any(isinstance(each.pool, MemoryOperations) for each in places)
    since = datetime.fromtimestamp(first_minute(), UTC)
    return {"since": since, "period": 60.0, "in_memory": in_memory, **ended}


def _pool_data(look: Look, place: Place) -> Data:
    local = look.sources.local_pool(place.source, place.pool.name)
    in_memory = isinstance(place.pool, MemoryOperations)
    runners = [each.id for each in place.source.runners() if place.pool.name in each.pools]
    state = ("running" if runners else "stopped") if local is None else str(local.state)
    oldest = look.memory.cached(("oldest", place.reference), place.pool.oldest_waiting)
    return {
        "ref": place.reference, "name": place.pool.name, "source": place.source.label,
        "state": "paused" if place.pool.is_paused else state, "is_paused": place.pool.is_paused,
        "in_memory": in_memory, "runners": None if in_memory else len(runners),
        "size": local and local.pool_size, "oldest_waiting_at": oldest,
        "counts": dict(_counts(look, place)),
    }  # fmt: skip


def _some(place: Place, state: JobState) -> list[Data]:
    found = place.pool.records(state=state, limit=_FEW)
    return [job_data(Chosen(place, each)) for each in found]


def _durations_of(place: Place) -> Data:
    """Return how long the latest jobs have run, and how long they had waited."""
    records = place.pool.records(state="succeeded", limit=_SAMPLE)
    times = [(each.created, each.started, each.finished) for each in records]
    known = [(c, s, f) for c, s, f in times if c and s and f]
    waited = sorted((started - created).total_seconds() for created, started, _ in known)
    ran = sorted((finished - started).total_seconds() for _, started, finished in known)
    return {"waited": _summary(waited), "ran": _summary(ran)}


def _summary(values: list[float]) -> Data:
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    last = len(values) - 1
    found = {name: values[round(share * last)] if values else 0.0 for name, share in shares.items()}
    return found | {"count": len(values)}


def _arguments_of(look: Look, record: AnyRecord) -> str | None:
    if look.format_arguments is not None:
        return look.format_arguments(record)
    return text_of(record.payload, is_call=True) if record.payload else None


def _stack_of(look: Look, place: Place, record: AnyRecord) -> str | None:
    """Return where a job is now that runs in this process."""
    local = look.sources.local_pool(place.source, place.pool.name)
    workers = [] if local is None or record.state != "running" else local.workers()
    return next((each.stack() for each in workers if each.job and each.job.id == record.id), None)
