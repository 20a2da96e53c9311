"""Presentation: jobs, entries and processes as JSON has them.

The keys of JSON are never renamed.
"""

from datetime import UTC, datetime
from typing import Any

from oddjob.operations.access import RunnerInfo
from oddjob.operations.memory_operations import MemoryEntry, MemoryRecord
from oddjob.operations.record import Record
from oddjob.operations.recurring import RecurringEntry


def job_json(job: Record | MemoryRecord) -> dict[str, Any]:
    """Return a job as `list --json` prints it."""
    kind, _, message = (job.error or "").partition(": ")
    return {
        "id": job.id,
        "name": job.name,
        "pool": job.pool,
        "state": job.state,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "priority": job.priority,
        "key": job.key,
        "run_at": job.run_at,
        "created_at": job.created,
        "started_at": job.started,
        "finished_at": job.finished,
        "error": None if job.error is None else {"type": kind, "message": message},
        "progress": None if job.progress is None else job.progress._asdict(),
    }


def attempts_json(job: Record | MemoryRecord) -> list[dict[str, Any]]:
    """Return the failed attempts of a job."""
    return [
        {
            "number": each.number,
            "started_at": each.started,
            "finished_at": each.finished,
            "process": each.process,
            "traceback": each.traceback,
        }
        for each in job.attempts()
    ]


def entry_json(entry: RecurringEntry | MemoryEntry) -> dict[str, Any]:
    """Return a recurring entry as `recurring list --json` prints it."""
    return {
        "name": entry.name,
        "pool": entry.pool,
        "function": entry.function,
        "rule": entry.rule,
        "is_paused": entry.is_paused,
        "next_run_at": entry.next_run,
        "last_run_at": entry.last_run,
        "last_job": entry.last_job,
    }


def runner_json(runner: RunnerInfo) -> dict[str, Any]:
    """Return a process as `status --json` prints it."""
    fields = runner._asdict()
    times = {"joined_at": fields.pop("joined"), "seen_at": fields.pop("seen")}
    return fields | times | {"pools": list(runner.pools)}


def as_json(value: object) -> str:
    """Return what JSON has no word for: times in UTC, and anything else as text."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return str(value)
