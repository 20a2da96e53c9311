"""Inline mode, which is made for tests: every job runs in the thread that submits it.

See `oddjob.testing.inline`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from oddjob.locks import ProcessLock
from oddjob.log import run_in_thread
from oddjob.runtime.caller_runs import guest_slot
from oddjob.runtime.job import Job
from oddjob.runtime.job_state import FAILED, QUEUED
from oddjob.runtime.stand_in import run_in_slot
from oddjob.schedule.scheduler import scheduler

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


# The active blocks of inline mode, the innermost last: of each, the jobs that have failed in it.
# `_lock` guards changes; nothing is called under it.
_blocks: Final[list[list[Job[Any]]]] = []
_lock: Final = ProcessLock()


def is_on() -> bool:
    """Return whether inline mode is on."""
    return bool(_blocks)


def begin() -> None:
    """Begin a block of inline mode."""
    with _lock.lock:
        _blocks.append([])


def end() -> list[Job[Any]]:
    """End the block; return the jobs that failed in it, and that nobody has looked at."""
    with _lock.lock:
        failed = _blocks.pop()
    return [job for job in failed if not job._outcome.is_seen]


def run_inline(core: "PoolCore", job: Job[Any]) -> None:
    """Run a job, and its retries, in inline mode.

    Raises:
        BaseException: what a detached job has raised.
    """
    _run_in_new_slot(core, job)
    if job._local_state is FAILED:
        if job._policy.is_detached:
            job.result()  # raises it: no caller will ask for it
        _note_failure(job)


def run_fired(core: "PoolCore", jobs: Sequence[Job[Any]]) -> None:
    """Run the jobs of a timer in inline mode, but not in the thread that all timers share."""

    def run_all() -> None:
        for job in jobs:
            _run_in_new_slot(core, job)
            if job._local_state is FAILED:
                job._outcome.is_seen = False  # that of a detached job was logged, no more
                _note_failure(job)

    if scheduler.is_current_thread():
        run_in_thread(run_all, f"{core.label}-callbacks")
    else:
        run_all()


def _note_failure(job: Job[Any]) -> None:
    """Have the end of the block raise what a job has raised, unless it is looked at before."""
    with _lock.lock:
        if _blocks:
            _blocks[-1].append(job)


def _run_in_new_slot(core: "PoolCore", job: Job[Any]) -> None:
    """Run a job; in inline mode, its retries as well."""
    with guest_slot(core) as slot:
        slot.job = job
        run_in_slot(slot)
        while job._local_state is QUEUED and is_on():
            slot.job = job
            run_in_slot(slot)
