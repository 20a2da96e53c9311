"""In place: a worker that waits for a queued job of its own pool runs it.

Jobs may wait for jobs of their own pool, however small that is: when no worker is free to take the
job from the queue, the waiting one runs it inside the job that waits. While one is free, it sleeps
as a *standby*: it looks again whenever a worker has taken a job, so it notices when the last free
one has become busy, and whenever a timer has fired.

A job that is held up by what the waiting jobs themselves hold (their key, a full limit) can be run
by no other worker, and runs in place whether one is free or not.
"""

import sys
from typing import TYPE_CHECKING, Any

from oddjob.locks import Wakeup
from oddjob.runtime.execution import Ending, execute, rescue
from oddjob.runtime.job import Job
from oddjob.runtime.slot import Slot, jobs_here, occupied
from oddjob.runtime.watchers import QUEUED, RUNNING
from oddjob.schedule.clock import clock

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


def wait_in_place(core: "PoolCore", job: Job[Any], slot: Slot, deadline: float) -> bool:
    """Wait for a job in the slot of a worker of its pool, and run it if no other worker will.

    Returns whether the job has ended by `deadline`, in steady seconds. If not, the caller waits for
    it as any thread.
    """
    wakeup, watchers = Wakeup(), job._watch()
    watchers.add_sleeper(wakeup.lock)
    core.standbys[wakeup.set] = None
    try:
        while not job.done():
            if run_if_it_must(core, job, slot):
                continue
            if job.state is RUNNING and job._policy.retry is None:
                return False  # no use for this thread: the job will not be queued again
            wakeup.wait(deadline)
            if deadline <= clock.steady():
                return False
    finally:
        core.standbys.pop(wakeup.set, None)
        watchers.remove_sleeper(wakeup.lock)
        del job, watchers  # see `execution`: a job that is run in here may fail
    return True


def run_if_it_must(core: "PoolCore", job: Job[Any], slot: Slot) -> bool:
    """Run a queued job, or one that has to go before it, if no other worker will.

    Returns whether one was run.
    """
    depth = len(slot.nested)
    try:
        if not _claim(core, job, slot):
            return False
        began, queued_at = clock.monotonic(), slot.nested[-1]._queued_at
        with occupied(slot):
            ending = execute(slot.nested[-1], slot)
        if ending is not Ending.SKIPPED:
            slot.metrics.measure(clock.monotonic() - began, began - queued_at)
        return True
    finally:
        _leave_nested(core, slot, depth)
        del job


def _claim(core: "PoolCore", job: Job[Any], slot: Slot) -> bool:
    """Take the job to run out of the queue, if there is one: it is nested in the slot then."""
    if job.state is not QUEUED:
        return False
    stack = jobs_here()
    if core.workers.free() and not _is_held_up_by(stack, job):
        return False
    limited = core.dispatcher.limited
    if limited is not None:
        return limited.claim(job, stack, slot) is not None
    slot.nested.append(job)  # first: once it is claimed, only this thread can end it
    if job._watch().claim_queued(slot):
        core.dispatcher.remove(job)
        return True
    slot.nested.pop()
    return False


def _is_held_up_by(stack: list[Job[Any]], job: Job[Any]) -> bool:
    """Return whether `job` may have to wait for what the jobs in `stack` hold."""
    limits = [limit for limit in job._policy.limits if limit.limits_running_jobs]
    return any(
        (job._key is not None and each._key == job._key)
        or any(limit in each._policy.limits for limit in limits)
        for each in stack
    )


def _leave_nested(core: "PoolCore", slot: Slot, depth: int) -> None:
    """Take the job out of the slot; end it if the exception that is on its way interrupted it.

    At the recursion limit this may fail; then it is done further up, or by the worker.
    """
    while len(slot.nested) > depth:
        job = slot.nested[-1]
        # Else it is still in the FIFO queue, and is left to its worker.
        if core.dispatcher.limited is not None or job._watch().owner is slot:
            if not job.done():
                crash = sys.exc_info()[1]
                rescue(job, slot, crash or RuntimeError(f"{job.name} was interrupted"))
            core.give_back(job)
        slot.nested.pop()
