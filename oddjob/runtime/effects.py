"""Effects: what a job does that must not happen twice, however often the job is tried.

The value of a *step* is saved under its name: a later attempt of the job gets the value instead of
running the step. A stored job saves values in the store, so this also holds for an attempt in
another process; any other job saves them in itself: see `Settlement`. A *transaction* is the
store's: what the job writes in it is committed together with the job's outcome.

Guarantees: a value that a step has returned to the job is saved. A step during which the attempt
times out, or its process dies, runs again; what was written in a transaction is rolled back. An
attempt that has timed out begins no step, and reports nothing.
"""

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

from oddjob.callables import is_async
from oddjob.option_checks import as_name
from oddjob.quantities import as_number
from oddjob.runtime.job_state import RUNNING
from oddjob.runtime.slot import jobs_here

if TYPE_CHECKING:
    import sqlite3

    from oddjob.runtime.job import Job
    from oddjob.runtime.job_state import Progress

_MISSING: Final = object()


def report(job: "Job[Any]", progress: "Progress") -> None:
    """Publish what a running job reports of itself."""
    _check_running(job)
    as_number("done", progress.done)
    if progress.total is not None:
        as_number("total", progress.total)
    if not isinstance(progress.note, str | None):
        raise TypeError(f"note must be a string, not {progress.note!r}")
    job._ensure_details().progress = progress
    job._policy.settlement.progressed(job)


def run_step(
    job: "Job[Any]", name: str, fn: Callable[..., Any], args: Any, kwargs: dict[str, Any]
) -> Any:
    """Return the saved value of a step; without one, run the step and save what it returns."""
    _check_running(job)
    as_name("the name of a step", name)
    if is_async(fn):
        return _run_in_loop(job, name, fn, args, kwargs)
    settlement = job._policy.settlement
    try:
        value = settlement.find_step(job, name, _MISSING)
        if value is _MISSING:
            value = settlement.save_step(job, name, fn(*args, **kwargs))
        return value
    finally:
        del job  # see `execution`


async def _run_in_loop(
    job: "Job[Any]",
    name: str,
    fn: Callable[..., Coroutine[Any, Any, Any]],
    args: Any,
    kwargs: dict[str, Any],
) -> Any:
    settlement = job._policy.settlement
    try:
        value = settlement.find_step(job, name, _MISSING)
        if value is _MISSING:
            # The value is saved in this thread: no other job uses its loop.
            value = settlement.save_step(job, name, await fn(*args, **kwargs))
        return value
    finally:
        del job


def begin_transaction(job: "Job[Any]") -> "AbstractContextManager[sqlite3.Connection]":
    """Return the transaction in which a running job writes together with its outcome."""
    _check_running(job)
    return job._policy.settlement.transaction(job)


def _check_running(job: "Job[Any]") -> None:
    """Raise RuntimeError if a job is not running, or only in a late attempt in this thread."""
    if job.state is not RUNNING:
        raise RuntimeError(f"only a running job can do this, as current_job(): {job!r}")
    if job in jobs_here(are_late=True):
        raise RuntimeError(f"this attempt has timed out, so it should end: {job!r}")
