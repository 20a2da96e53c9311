"""Presentation: jobs, entries and processes as JSON has them.

The keys of JSON are never renamed.
"""

from datetime import UTC, datetime
from typing import Any, Final

from oddjob.operations.access import RunnerInfo
from oddjob.operations.memory_operations import MemoryEntry, MemoryRecord
from oddjob.operations.record import FailedAttempt, Record
from oddjob.operations.recurring import RecurringEntry

_TIMES: Final = ("created", "started", "finished", "joined", "seen", "last_run", "next_run")


def facts_of(thing: object, *names: str) -> dict[str, Any]:
    """Return some attributes of a thing; keys of times end in ``_at``."""
    return {f"{name}_at" if name in _TIMES else name: getattr(thing, name) for name in names}


def job_json(job: Record | MemoryRecord) -> dict[str, Any]:
    """Return a job as `list --json` prints it."""
    kind, _, message = (job.error or "").partition(": ")
    return facts_of(
        job, "id", "name", "pool", "state", "attempt", "max_attempts", "priority", "key", "run_at",
        "created", "started", "finished",
    ) | {
        "error": None if job.error is None else {"type": kind, "message": message},
        "progress": None if job.progress is None else job.progress._asdict(),
    }  # fmt: skip


def attempts_json(job: Record | MemoryRecord) -> list[dict[str, Any]]:
    """Return the failed attempts of a job."""
    return [facts_of(each, *FailedAttempt._fields) for each in job.attempts()]


def entry_json(entry: RecurringEntry | MemoryEntry) -> dict[str, Any]:
    """Return a recurring entry as `recurring list --json` prints it."""
    names = ("name", "pool", "function", "rule", "is_paused", "next_run", "last_run", "last_job")
    return facts_of(entry, *names)


def runner_json(runner: RunnerInfo) -> dict[str, Any]:
    """Return a process as `status --json` prints it."""
    return facts_of(runner, *RunnerInfo._fields)


def as_json(value: object) -> str:
    """Return what JSON has no word for: times in UTC, and anything else as text."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return str(value)
