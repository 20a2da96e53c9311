"""Views: what each page shows, as data: templates make HTML of it, and ``/api`` is it.

Times are dates, and nothing is said of how long ago they are: so what has not changed is the same
data, and need not be sent again.
"""

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from oddjob import __version__
from oddjob.dashboard.chart import MINUTES, first_minute
from oddjob.dashboard.context import Context, Found, Place, reference
from oddjob.dashboard.payload import text_of
from oddjob.dashboard.request import HttpError
from oddjob.dashboard.search import STATES, JobFilter, cursor_of, filter_of, find_jobs
from oddjob.durable.record import host_name
from oddjob.operations.findings import findings
from oddjob.operations.memory_operations import MemoryOperations
from oddjob.operations.presentation import attempts_json, entry_json, job_json, runner_json
from oddjob.operations.sources import AnyRecord
from oddjob.operations.stores import StoreOperations
from oddjob.runtime.job_state import JobState

MOST: Final = 100_000  # jobs of a pool that are counted; one more stands for any number above
_FEW: Final = 10  # rows of a list beside others
_SAMPLE: Final = 500  # jobs whose durations are looked at
_LIMITS: Final = ("max_queue", "when_full", "rate", "key_limit", "timeout", "retries",
                  "priority_aging")  # fmt: skip
_LISTED: Final = 1000  # scheduled jobs that are sorted by their times

Data = dict[str, Any]


def job_data(found: Found) -> Data:
    """Return a job as lists show it."""
    job = found.job
    return job_json(job) | {
        "ref": found.reference, "pool_ref": found.place.reference,
        "function": job.function, "crashes": job.crashes, "error_line": job.error,
    }  # fmt: skip


# Pages.


def overview(context: Context, _rest: str) -> Data:
    """Show all pools, what has ended in the last hour, and what failed last."""
    places = [*context.places()]
    listed = [_pool_data(context, each) for each in places]
    ended = {state: [0] * MINUTES for state in ("succeeded", "failed")}
    for each in places:
        for state, counts in _ended(context, each).items():
            ended[state] = [a + b for a, b in zip(ended[state], counts, strict=True)]
    oldest = [each["oldest_waiting_at"] for each in listed if each["oldest_waiting_at"]]
    return {
        "counts": total_of(each["counts"] for each in listed),
        "oldest_waiting_at": min(oldest, default=None),
        "ended": _chart_data(ended, places),
        "pools": listed,
        "failures": [*map(job_data, islice(find_jobs(context, JobFilter("failed")), 5))],
    }


def jobs(context: Context, _rest: str) -> Data:
    """Show a page of the jobs that match a filter."""
    which = filter_of(context.request)
    places = [*context.places(which.pool)]
    before = context.request.get("before")

    def find() -> tuple[list[Data], str | None]:
        found = [*islice(find_jobs(context, which, before), context.page_size + 1)]
        page = found[: context.page_size]
        return [*map(job_data, page)], cursor_of(page[-1]) if len(found) > len(page) else None

    # To look for a text can take long, so that is not done at each refresh.
    listed, rest = context.cache.answer(("q", which, before), find) if which.q else find()
    return {
        "filter": which._asdict(),
        "counts": total_of(_answers_of(context, each)["counts"] for each in places),
        "pools": [{"ref": each.reference, "name": each.pool.name} for each in context.places()],
        "jobs": listed,
        "next": rest,
        "looked_at": context.scan_limit if which.q else None,  # at most
    }


def job(context: Context, rest: str) -> Data:
    """Show all that is known of a job."""
    found = context.job(rest)
    record, source = found.job, found.place.source
    has_result = record.state == "succeeded" and record.outcome is not None
    return {
        "job": job_data(found),
        "source": source.label,
        "arguments": _arguments_of(context, record),
        "result": text_of(record.outcome or b"", is_call=False) if has_result else None,
        "entry": record.entry, "runner": record.runner,
        "reasons": source.why(record),  # type: ignore[arg-type]  # it is the source's own
        "attempts": attempts_json(record),
        "stack": _stack_of(context, found),
    }  # fmt: skip


def errors(context: Context, _rest: str) -> Data:
    """Show failed jobs, by the class of their error and their function."""
    return context.cache.answer("errors", lambda: _grouped(context))


def _grouped(context: Context) -> Data:
    groups: dict[tuple[str, str, str], Data] = {}
    seen = 0
    for each in islice(find_jobs(context, JobFilter("failed")), context.scan_limit):
        seen += 1
        kind, _, message = (each.job.error or "unknown").partition(": ")
        group = groups.setdefault((each.place.reference, each.job.function, kind), {
            "type": kind, "name": each.job.name, "function": each.job.function,
            "pool": each.job.pool, "pool_ref": each.place.reference, "count": 0,
            "message": message, "first_at": each.job.finished, "last_at": each.job.finished,
            "latest": each.reference,
        })  # fmt: skip
        group["count"] += 1
        group["first_at"] = min(group["first_at"], each.job.finished)
        if each.job.finished > group["last_at"]:
            group["last_at"] = each.job.finished
            group["latest"] = each.reference
    found = sorted(groups.values(), key=lambda each: -each["count"])
    return {"groups": found, "seen": seen, "is_capped": seen >= context.scan_limit}


def pools(context: Context, _rest: str) -> Data:
    """Show all pools."""
    return {"pools": [_pool_data(context, each) for each in context.places()]}


def pool(context: Context, rest: str) -> Data:
    """Show one pool: what runs, what waits, and its limits."""
    place = context.place(rest)
    local = context.sources.local_pool(place.source, place.pool.name)
    data: Data = {
        "pool": _pool_data(context, place),
        "ended": _chart_data(_ended(context, place), [place]),
        "running": _some(place, "running"),
        "queued": _some(place, "queued"),
        "durations": context.cache.answer(
            ("durations", place.reference), lambda: _durations_of(place)
        ),
        "workers": [],
        "limits": {},
        "crashes": 0,
    }
    if local is None:
        return data
    options, workers = local.configuration, context.sources.workers_of(local)
    limits = {name: value for name in _LIMITS if (value := getattr(options, name)) is not None}
    return data | {
        "workers": [
            {"name": each.name, "since": each.since,
             "state": "stuck" if each.job and each.job.done() else each.state,
             "job": each.job and each.job.name, "stack": each.stack()}
            for each in workers
        ],
        "limits": {"pool_size": local.pool_size} | {name: str(limits[name]) for name in limits},
        "crashes": local.stats().crashes,
    }  # fmt: skip


def scheduled(context: Context, _rest: str) -> Data:
    """Show the jobs that wait for their time, the next one first."""
    found = [*islice(find_jobs(context, JobFilter("scheduled")), _LISTED + 1)]
    is_capped = len(found) > _LISTED
    later = datetime.max.replace(tzinfo=UTC)
    found.sort(key=lambda each: each.job.run_at or later)
    return {"jobs": [*map(job_data, found[: 2 * context.page_size])], "is_capped": is_capped,
            "more": max(0, len(found) - 2 * context.page_size)}  # fmt: skip


def recurring(context: Context, _rest: str) -> Data:
    """Show the recurring entries, and when they fire next."""
    found = []
    for place in context.places():
        for entry in place.pool.recurring():
            data = entry_json(entry) | {
                "ref": entry.id, "pool_ref": place.reference, "last_state": None, "last_ref": None,
                "upcoming": entry.upcoming(5),
                "clock_changes": context.cache.answer(
                    ("clocks", place.reference, entry.rule), entry.clock_changes
                ),
            }  # fmt: skip
            if entry.last_job is not None:
                data["last_ref"] = reference(place.number, entry.last_job)
                try:
                    data["last_state"] = context.job(data["last_ref"]).job.state
                except HttpError:  # its record is gone
                    data["last_ref"] = None
            found.append(data)
    return {"entries": found}


def runners(context: Context, _rest: str) -> Data:
    """Show the processes that use the stores, and how many jobs each has in hand."""
    me, found = (host_name(), os.getpid()), []
    running = [
        (place.number, each.runner)
        for place in context.places()
        for each in place.pool.records(state="running", limit=_LISTED)
    ]
    for number, source in context.found.items():
        found += [
            runner_json(each) | {
                "ref": reference(number, each.id), "store": source.label,
                "jobs": running.count((number, each.id)), "is_this": (each.host, each.pid) == me,
            }
            for each in source.runners()
        ]  # fmt: skip
    return {"runners": found}


def about(context: Context, _rest: str) -> Data:
    """Show versions, and what ``oddjob doctor`` finds."""
    stores = [each for each in context.found.values() if isinstance(each, StoreOperations)]
    process = f"{host_name()}:{os.getpid()}"
    found = [{"label": each.label, "findings": _findings_of(context, each)} for each in stores]
    return {"version": __version__, "process": process, "sources": found,
            "has_memory": len(stores) < len(context.found)}  # fmt: skip


# Parts of pages.


def _findings_of(context: Context, store: StoreOperations) -> list[Data]:
    def find() -> list[Data]:
        return [each._asdict() for each in findings(store.url, imports=False, opened=store)]

    return context.cache.answer(("findings", store.label), find)


def _answers_of(context: Context, place: Place) -> Data:
    """Return what a pool says of itself; it is asked seldom: see `Cache`."""

    def ask() -> Data:
        pool = place.pool
        return {
            "is_paused": pool.is_paused, "pause_reason": pool.pause_reason,
            "oldest_waiting_at": pool.oldest_waiting(), "counts": pool.counts(MOST),
        }  # fmt: skip

    return context.cache.answer(("pool", place.reference), ask)


def total_of(counts: Iterable[dict[JobState, int]]) -> dict[JobState, int]:
    """Return counts of several pools together; if one of them stands for more, so do they."""
    found = [*counts]
    columns: dict[JobState, list[int]] = {
        state: [each[state] for each in found] for state in STATES
    }
    return {state: MOST + 1 if MOST + 1 in each else sum(each) for state, each in columns.items()}


def _ended(context: Context, place: Place) -> dict[str, list[int]]:
    pool = place.pool
    if isinstance(pool, MemoryOperations):
        return context.history.ended(pool)
    since = datetime.fromtimestamp(first_minute(), UTC)
    ended = context.cache.answer(
        ("ended", place.reference), lambda: pool.ended_by_period(since, 60.0, MINUTES)
    )
    return {"succeeded": ended["succeeded"], "failed": ended["failed"]}


def _chart_data(ended: dict[str, list[int]], places: list[Place]) -> Data:
    in_memory = any(isinstance(each.pool, MemoryOperations) for each in places)
    since = datetime.fromtimestamp(first_minute(), UTC)
    return {"since": since, "period": 60.0, "in_memory": in_memory, **ended}


def _pool_data(context: Context, place: Place) -> Data:
    local = context.sources.local_pool(place.source, place.pool.name)
    in_memory = isinstance(place.pool, MemoryOperations)
    runners = context.cache.answer(("runners", place.number), place.source.runners)
    count = sum(place.pool.name in each.pools for each in runners)
    state = "running" if local is None else str(local.state)
    if state == "running" and not (in_memory or count):
        state = "stopped"
    answers = _answers_of(context, place)
    return answers | {
        "ref": place.reference, "name": place.pool.name, "source": place.source.label,
        "state": "paused" if answers["is_paused"] else state, "in_memory": in_memory,
        "runners": None if in_memory else count, "size": local and local.pool_size,
    }  # fmt: skip


def _some(place: Place, state: JobState) -> list[Data]:
    found = place.pool.records(state=state, limit=_FEW)
    return [job_data(Found(place, each)) for each in found]


def _durations_of(place: Place) -> Data:
    """Return how long the latest jobs have run, and how long they had waited."""
    if isinstance(place.pool, MemoryOperations):
        stats = place.pool.pool.stats()
        return {"ran": stats.run_time._asdict(), "waited": stats.queue_wait._asdict()}
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


def _arguments_of(context: Context, record: AnyRecord) -> str | None:
    if context.format_arguments is not None:
        return context.format_arguments(record)
    return text_of(record.payload, is_call=True) if record.payload else None


def _stack_of(context: Context, found: Found) -> str | None:
    """Return where a job is now that runs in this process."""
    local = context.sources.local_pool(found.place.source, found.job.pool)
    workers = [] if local is None or found.job.state != "running" else local.workers()
    here = [each for each in workers if each.job and each.job.id == found.job.id]
    return here[0].stack() if here else None
