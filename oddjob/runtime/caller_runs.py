"""Caller runs: with ``when_full="caller_runs"``, the submitting thread runs a job that has no room.

The thread is a guest: it has a slot for the job, which it leaves when that has ended.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from oddjob.runtime.execution import rescue_slot
from oddjob.runtime.in_place import claim_into
from oddjob.runtime.job import Job
from oddjob.runtime.job_state import FAILED, QUEUED
from oddjob.runtime.limited_queue import LimitedQueue
from oddjob.runtime.slot import Slot
from oddjob.runtime.stand_in import run_in_slot

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


def run_in_caller(core: "PoolCore", job: Job[Any]) -> bool:
    """Run a job for which there is no room, after the jobs of its key that must run before it.

    Returns:
        False if a limit keeps the job from starting: it is in no queue then. Otherwise it has run,
        was cancelled, or is queued for a retry.
    """
    limited = core.dispatcher.limited
    if limited is None:
        with guest_slot(core) as slot:
            slot.job = job
            run_in_slot(slot)
    elif not _run_limited(core, job, limited):
        return False
    pass_on_interrupt(job)
    return True


def pass_on_interrupt(job: Job[Any]) -> None:
    """Raise the KeyboardInterrupt with which a job has failed here: it was meant for the thread."""
    if job._local_state is FAILED and isinstance(job._outcome.error, KeyboardInterrupt):
        job.result()


def _run_limited(core: "PoolCore", job: Job[Any], limited: LimitedQueue) -> bool:
    """Run a job in a pool with keys and limits; returns as `run_in_caller` does."""
    limited.inbox.append(job)  # so that it is claimed like any waiting job
    latest = None
    while job._local_state is QUEUED and latest is not job:
        with guest_slot(core) as slot:
            if not claim_into(core, job, slot):
                if not limited.withdraw(job):  # this signal handler interrupted the lock's holder
                    limited.post_ended(job)
                return job._local_state is not QUEUED
            latest = slot.job
            run_in_slot(slot)
    return True


@contextmanager
def guest_slot(core: "PoolCore") -> Iterator[Slot]:
    """Make a slot for the calling thread, which need not be a worker."""
    metrics = core.metrics.open()
    slot = Slot(core, metrics, is_guest=True)
    try:
        yield slot
    except BaseException as error:
        rescue_slot(slot, error)
        raise
    finally:
        slot.coroutines.close()
        core.metrics.close(metrics)
