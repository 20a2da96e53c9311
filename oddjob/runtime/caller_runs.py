"""Caller runs: ``when_full="caller_runs"``, a job that runs in the thread that submits it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from oddjob.runtime.execution import rescue_slot
from oddjob.runtime.in_place import claim_into
from oddjob.runtime.job import Job
from oddjob.runtime.job_state import FAILED, QUEUED
from oddjob.runtime.slot import Slot
from oddjob.runtime.stand_in import run_in_slot

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


def run_in_caller(core: "PoolCore", job: Job[Any]) -> bool:
    """Run a job for which there is no room, and those of its key that have to go before it.

    Returns False if a limit stops the job: it is in no queue then. Otherwise it has run, was
    cancelled, or is to be retried, and in the queue for that.
    """
    limited, latest = core.dispatcher.limited, None
    if limited is not None:
        limited.inbox.append(job)  # for a moment: the limits are asked as for any job that waits
    while job._local_state is QUEUED and latest is not job:
        with guest_slot(core) as slot:
            if limited is None:
                slot.job = job
            elif not claim_into(core, job, slot):
                if not limited.withdraw(job):  # a signal handler, in the owner of the queue's lock
                    limited.post_ended(job)
                return job._local_state is not QUEUED
            latest = slot.job
            run_in_slot(slot)
    if job._local_state is FAILED and isinstance(job._outcome.error, KeyboardInterrupt):
        job.result()  # Ctrl-C was meant for this thread
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
