"""Columns: a job in columns for people, and as JSON for programs."""

from collections.abc import Callable
from typing import Any, Final

from oddjob.operations import Record
from oddjob.operations.phrases import ago, lasting
from oddjob.operations.presentation import attempts_json, job_json
from oddjob.runtime.job_state import Progress

COLUMNS: Final[dict[str, Callable[[Record], object]]] = {
    "id": lambda job: job.id,
    "state": lambda job: job.state,
    "name": lambda job: job.name,
    "pool": lambda job: job.pool,
    "function": lambda job: job.function,
    "attempt": lambda job: job.attempt,
    "crashes": lambda job: job.crashes,
    "priority": lambda job: job.priority,
    "key": lambda job: job.key,
    "due": lambda job: ago(job.run_at),
    "created": lambda job: ago(job.created),
    "started": lambda job: ago(job.started),
    "finished": lambda job: ago(job.finished),
    "waited": lambda job: lasting(job.waited),
    "ran": lambda job: lasting(job.ran),
    "progress": lambda job: progress_of(job.progress),
    "runner": lambda job: job.runner,
    "entry": lambda job: job.entry,
    "batch": lambda job: job.batch,
    "error": lambda job: job.error or "",
}

# What jobs are sorted by: what is asked for first comes first.
SORTS: Final[dict[str, Callable[[Record], Any]]] = {
    "created": lambda job: -job.created.timestamp(),
    "finished": lambda job: -(job.finished.timestamp() if job.finished else 0.0),
    "ran": lambda job: -(job.ran or 0.0),
    "waited": lambda job: -job.waited,
    "priority": lambda job: -job.priority,
    "name": lambda job: job.name,
}


def details_json(job: Record) -> dict[str, Any]:
    """Return a job as `show --json` prints it, but for its arguments."""
    return job_json(job) | {
        "function": job.function,
        "crashes": job.crashes,
        "runner": job.runner,
        "entry": job.entry,
        "batch": job.batch,
        "kind": job.kind,
        "waited": job.waited,
        "ran": job.ran,
        "attempts": attempts_json(job),
    }


def progress_of(progress: Progress | None) -> str:
    """Return what a job has reported, as text."""
    if progress is None:
        return "-"
    done = f"{progress.done:g}" + ("" if progress.total is None else f"/{progress.total:g}")
    share = "" if progress.fraction is None else f" ({progress.fraction:.0%})"
    return f"{done}{share} {progress.note or ''}".strip()
