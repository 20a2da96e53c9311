"""Settling: how a job comes to its end, or goes back to the queue.

Functions rather than methods of `Job`, which shows users nothing that is not theirs. The three
races that a lock-free start makes possible are told in `oddjob.runtime.watchers`.
"""

from typing import TYPE_CHECKING, Any

from oddjob.callables import describe
from oddjob.runtime.watchers import CANCELLED, ENDED, FAILED, QUEUED, RUNNING, Failure, JobState

if TYPE_CHECKING:
    from oddjob.runtime.job import Job


def settle(job: "Job[Any]", state: JobState, outcome: Any) -> bool:
    """Settle a job under its lock (race 3); return False if it had ended."""
    watchers = job._watch()
    with watchers.lock:
        if watchers.state in ENDED:
            return False
        job._outcome = outcome
        job._fast_state = watchers.state = state
        watchers.announce(job)
    return True


def end(job: "Job[Any]", state: JobState, outcome: Any) -> bool:
    """Settle a job, let go of its call and run its callbacks; return False if it had ended."""
    if not settle(job, state, outcome):
        return False
    release_call(job)
    run_callbacks(job)
    return True


def release_call(job: "Job[Any]") -> None:
    """Let go of what must not live as long as the future; keep the name of the function."""
    fn = job._fn
    if fn is not None:
        if job._name is None:
            job._name = describe(fn)
        job._fn = job._args = job._kwargs = job._context = None


def cancel_quietly(job: "Job[Any]", *, is_counted: bool = True) -> bool:
    """Cancel a job that has not started, and leave its callbacks to the caller.

    Returns whether this call has done so. An interruption (Ctrl-C) that comes too late to prevent
    the cancellation does not leave it half done.
    """
    watchers, policy = job._watch(), job._policy
    if not policy.is_plain and watchers.state is QUEUED and not policy.settlement.cancelled(job):
        return False
    try:
        with watchers.lock:
            if watchers.state is not QUEUED:
                watchers.cancel_requested |= watchers.state is RUNNING
                return False
            job._fast_state = watchers.state = CANCELLED
            watchers.announce(job)
        _leave_queue(job, is_counted=is_counted)
    except BaseException:
        if job._fast_state is CANCELLED:  # whatever has been done may be done again
            with watchers.lock:
                watchers.announce(job)
            _leave_queue(job, is_counted=False)
        raise
    return True


def _leave_queue(job: "Job[Any]", *, is_counted: bool) -> None:
    release_call(job)
    job._policy.host.job_cancelled(job, is_counted=is_counted)


def withdraw(job: "Job[Any]") -> None:
    """Cancel a job that its pool has refused, and that may have been queued all the same."""
    if cancel_quietly(job, is_counted=False):
        run_callbacks(job)


def reopen(job: "Job[Any]") -> bool:
    """Let a job be queued again after a failed attempt; return False if it is not to be."""
    watchers = job._watch()
    with watchers.lock:
        if watchers.state is not RUNNING or watchers.cancel_requested:
            return False
        job._fast_state = watchers.state = QUEUED
        watchers.owner = None
        return True


def run_callbacks(job: "Job[Any]") -> None:
    """Run the callbacks of a job that has ended."""
    job._watch().run_callbacks(job)


def failure_of(job: "Job[Any]") -> Failure | None:
    """Return how a job failed, without looking at it; None if it has not."""
    return job._outcome if job.state is FAILED else None
