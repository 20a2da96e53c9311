"""Columns: a job in columns for people, and as JSON for programs."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

from oddjob.operations import Record
from oddjob.operations.phrases import ago, lasting
from oddjob.operations.presentation import attempts_json, facts_of, job_json
from oddjob.runtime.job_state import Progress

_AS_THEY_ARE: Final = ("id", "state", "name", "pool", "function", "attempt", "crashes", "priority",
                       "key")  # fmt: skip
COLUMNS: Final[dict[str, Callable[[Record], object]]] = {
    **{name: attrgetter(name) for name in _AS_THEY_ARE},
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
    names = ("function", "crashes", "runner", "entry", "batch", "kind", "waited", "ran")
    return job_json(job) | facts_of(job, *names) | {"attempts": attempts_json(job)}


def progress_of(progress: Progress | None) -> str:
    """Return what a job has reported, as text."""
    if progress is None:
        return "-"
    done = f"{progress.done:g}" + ("" if progress.total is None else f"/{progress.total:g}")
    share = "" if progress.fraction is None else f" ({progress.fraction:.0%})"
    return f"{done}{share} {progress.note or ''}".strip()
