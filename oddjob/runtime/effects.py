"""Effects: what a job does that must not happen twice, however often the job is tried.

The value of a *step* is saved under its name: a later attempt of the job gets the value instead of
running the step. A stored job saves it in the store, so this holds for an attempt in another
process, too; any other job saves it in itself. A *transaction* is the store's: what the job writes
in it is committed together with the job's outcome.

Guarantees: a value that a step has returned to the job is saved. A step whose process dies after
its effect, and before it is saved, runs again; a transaction leaves nothing behind then.
"""

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

from oddjob.callables import is_async
from oddjob.option_checks import as_name
from oddjob.runtime.job_state import RUNNING

if TYPE_CHECKING:
    import sqlite3

    from oddjob.runtime.job import Job
    from oddjob.runtime.job_host import StoredSettlement
    from oddjob.runtime.job_state import Progress

_MISSING: Final = object()


def report(job: "Job[Any]", progress: "Progress") -> None:
    """Do what `Job.report` says."""
    _check_running(job)
    job._ensure_details().progress = progress
    job._policy.settlement.progressed(job)


def run_step(
    job: "Job[Any]", name: str, fn: Callable[..., Any], args: Any, kwargs: dict[str, Any]
) -> Any:
    """Do what `Job.step` says."""
    _check_running(job)
    as_name("the name of a step", name)
    if is_async(fn):
        return _run_in_loop(job, name, fn, args, kwargs)
    try:
        value = _find(job, name)
        if value is _MISSING:
            value = fn(*args, **kwargs)
            _save(job, name, value)
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
    try:
        value = _find(job, name)
        if value is _MISSING:
            value = await fn(*args, **kwargs)
            _save(job, name, value)  # without another thread: the loop is this job's alone
        return value
    finally:
        del job


def begin_transaction(job: "Job[Any]") -> "AbstractContextManager[sqlite3.Connection]":
    """Do what `Job.transaction` says."""
    _check_running(job)
    if job._ensure_details().claim is None:
        raise RuntimeError(
            f"transaction() is for jobs that come from a store in a file, and {job.name} does not: "
            'Pool("name", store="sqlite:///jobs.db")'
        )
    return _stored(job).transaction(job)


def _check_running(job: "Job[Any]") -> None:
    if job.state is not RUNNING:
        raise RuntimeError(f"this is for the job itself, while it runs, as current_job(): {job!r}")


def _find(job: "Job[Any]", name: str) -> Any:
    details = job._ensure_details()
    if details.claim is not None:
        return _stored(job).find_step(job, name, _MISSING)
    return _MISSING if details.steps is None else details.steps.get(name, _MISSING)


def _save(job: "Job[Any]", name: str, value: Any) -> None:
    details = job._ensure_details()
    if details.claim is not None:
        _stored(job).save_step(job, name, value)
        return
    job._ensure_shared()  # so that the end, even of a plain job, lets go of the values
    if details.steps is None:
        details.steps = {}
    details.steps[name] = value


def _stored(job: "Job[Any]") -> "StoredSettlement":
    settlement: Any = job._policy.settlement
    return settlement  # type: ignore[no-any-return]  # jobs with a claim have such a one
