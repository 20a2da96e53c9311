"""Settling: how a job comes to its end, or goes back to the queue.

A job is *settled* when its outcome is set, and has *ended* when its call has been let go of and its
callbacks have run as well. The two are apart where callbacks, which are the user's and may take any
time, have to wait: for the watchdog to end other jobs, or for a queue to be cancelled.

==============================  ================================================================
`settle`                        set the outcome, and wake those who wait
`end`                           settle, let go of the call, run the callbacks
`finish_failed`                 what is left to do for a failed job: report it, let go of its call,
                                run its callbacks
`end_failed`                    settle, `finish_failed`, and fail the serial jobs behind
`refuse`, `withdraw`            fail, or cancel, a job that has not started
``settle_…``                    the same, or a timeout; the callbacks are left to the caller
==============================  ================================================================

These are functions, not methods, so that ``dir(job)`` shows users only what is theirs. The three
races that a lock-free start makes possible are described in `oddjob.runtime.shared_state`.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from oddjob.callables import call_all, describe
from oddjob.errors import JobTimeout, PredecessorFailed
from oddjob.log import log, run_in_thread
from oddjob.runtime.job_state import CANCELLED, ENDED, FAILED, QUEUED, RUNNING, Failure, JobState
from oddjob.runtime.shared_state import JobDetails
from oddjob.schedule.clock import clock
from oddjob.threads import ServiceThread

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore
    from oddjob.runtime.job import Job


def settle(job: "Job[Any]", state: JobState, outcome: Any) -> bool:
    """Settle a job under its lock (race 3); return False if it had ended."""
    shared = job._shared or job._ensure_shared()
    report = _unseen_report(job) if state is FAILED else None
    with shared.lock:
        if shared.state in ENDED:
            return False
        if report is not None:
            outcome.report = report
        if job._details is not None:
            job._details.finished = clock.monotonic()
        job._outcome = outcome
        job._fast_state = shared.state = state
        shared.announce(job)
    return True


def end(job: "Job[Any]", state: JobState, outcome: Any) -> bool:
    """Settle a job, let go of its call and run its callbacks; return False if it had ended."""
    if not settle(job, state, outcome):
        return False
    release_call(job)
    shared = job._shared
    if shared is not None and shared.callbacks is not None:
        shared.run_callbacks(job)
    return True


def end_failed(
    job: "Job[Any]", error: BaseException, behind: "Sequence[Job[Any]]", core: "PoolCore"
) -> bool:
    """End a job as failed, and after it the jobs `behind` it; return False if it had ended."""
    if not settle(job, FAILED, Failure(error)):
        return False
    try:
        finish_failed(job, core)  # first: a group cancels its jobs
    finally:
        refused = refuse_behind(job, error, behind, core)
        call_all(partial(finish_failed, each, core) for each in refused)
    return True


def finish_failed(job: "Job[Any]", core: "PoolCore") -> None:
    """End a job that is settled as failed; report it if nobody waits for it."""
    try:
        if job._policy.is_detached:
            job._outcome.is_seen = True
            # A copy: the thread of a job that has timed out may still be in its context.
            context = copy_context() if job._context is None else job._context.copy()
            context.run(core.report_failure, job, job._outcome.error)
    finally:
        release_call(job)
        run_callbacks(job)


def report_failure(
    core: "PoolCore", job: "Job[Any]", error: BaseException, *, is_unseen: bool
) -> None:
    """Log the failure of a job that nobody waits for, or looks at, and call ``on_error``."""
    what = "job %s of pool %s failed" + ", and nobody has looked at that" * is_unseen
    log(logging.ERROR, what, job.name, core.label, error=error)
    if core.options.on_error is not None:
        try:
            core.options.on_error(job, error)
        except Exception as second:
            what = "on_error of pool %s raised, for job %s"
            log(logging.ERROR, what, core.label, job.name, error=second)


def _unseen_report(job: "Job[Any]") -> Callable[[Failure], None] | None:
    """Return what reports the failure of a job once that is collected; None: others report it."""
    policy, details = job._policy, job._ensure_details()
    if policy.is_detached or details.claim is not None:
        return None
    new: Any = type(job)
    # The report must not keep the job alive, so it is given a copy, without the call.
    make_copy = partial(new, None, (), None, None, policy, job._queued_at, job._key)
    return partial(_report_unseen, make_copy, job.name, details)


def _report_unseen(
    make_copy: "Callable[[], Job[Any]]", name: str, details: JobDetails, failure: Failure
) -> None:
    """Report a failure for a copy of a job that has been collected."""
    if isinstance(failure.error, CancelledError):
        return  # it was asked to stop, and has
    failure.is_seen = True
    job = make_copy()
    job._name, job._details, job._outcome, job._fast_state = name, details, failure, FAILED
    report = partial(job._policy.host.report_failure, job, failure.error, is_unseen=True)
    if isinstance(threading.current_thread(), ServiceThread):
        run_in_thread(report, f"{job._policy.host.label}-callbacks")
    else:
        report()


def release_call(job: "Job[Any]") -> None:
    """Let go of what must not live as long as the future; keep the name of the function."""
    if job._details is not None:
        job._details.steps = job._details.links = None
    fn = job._fn
    if fn is not None:
        if job._name is None:
            job._name = describe(fn)
        job._fn = job._args = job._kwargs = job._context = None


def settle_timed_out(
    job: "Job[Any]", error: JobTimeout, number: int, watchdog: object, core: "PoolCore"
) -> "list[Job[Any]] | None":
    """End an attempt whose time is up, by the watchdog; return None if it is over.

    Returns the jobs that have ended: none if this one is queued again, else it, with those that
    end because of it. Their callbacks, and the reports of detached jobs' failures, are left to
    `finish_failed`: they are the user's, and the watchdog has no time.
    """
    details, shared = job._ensure_details(), job._ensure_shared()
    if not details.conclude(shared, number, watchdog):
        return None
    if job._policy.settlement.failed(job, error) is not None:
        core.metrics.count("retried")
        return []
    core.metrics.count("timed_out")
    behind = jobs_behind(job, core)
    settle(job, FAILED, Failure(error))
    cancelled = shared.run_quick_callbacks(job)
    refused = refuse_behind(job, error, behind, core)
    core.give_back(job)
    return [*cancelled, job, *refused]


def jobs_behind(job: "Job[Any]", core: "PoolCore") -> "Sequence[Job[Any]]":
    """Return the queued jobs that are to fail if this one does: serial ones, of its key.

    Ask before the failure can be seen: a job whose submitter has seen it may run.
    """
    if not job._policy.is_serial or core.dispatcher.limited is None:
        return ()
    return core.dispatcher.limited.jobs_behind(job) or ()


def refuse_behind(
    failed: "Job[Any]", error: BaseException, behind: "Sequence[Job[Any]]", core: "PoolCore"
) -> "list[Job[Any]]":
    """Fail what `jobs_behind` has returned; return those jobs whose callbacks are to run now."""
    refused: list[Job[Any]] = []
    for job in behind:
        failure = PredecessorFailed(f"job {failed.name}, before it in line {job.key!r}, failed")
        failure.__cause__ = error
        if settle_refused(job, failure, core):
            refused.append(job)
    return refused


def refuse(job: "Job[Any]", error: BaseException, core: "PoolCore") -> None:
    """Fail a queued job that is not going to run; see `settle_refused`."""
    if settle_refused(job, error, core):
        finish_failed(job, core)


def settle_refused(
    job: "Job[Any]", error: BaseException, core: "PoolCore", counted_as: str = "refused"
) -> bool:
    """Fail a queued job that is not going to run, and leave `finish_failed` to the caller.

    Returns whether this call has done so; twice does no harm. One that a thread has claimed to run
    it is left alone. `counted_as` is what `PoolStats` counts it as.
    """
    shared = job._ensure_shared()
    try:
        if not shared.claim_queued(core):
            return False
        job._fast_state = RUNNING
        core.metrics.count(counted_as)
        return settle(job, FAILED, Failure(error))
    except BaseException:  # an asynchronous one: no other thread would end the job
        if shared.owner is core:
            settle(job, FAILED, Failure(error))
        raise
    finally:
        if shared.owner is core:
            core.give_back(job)  # it may have kept its turn


def settle_cancelled(job: "Job[Any]", *, is_counted: bool = True) -> bool:
    """Cancel a job that has not started, and leave its callbacks to the caller.

    Returns whether this call has done so. An asynchronous exception (Ctrl-C) that comes
    too late to prevent the cancellation does not leave it half done.
    """
    shared, policy = job._ensure_shared(), job._policy
    if not policy.is_plain and shared.state is QUEUED and not policy.settlement.cancelled(job):
        return False
    try:
        with shared.lock:
            if shared.state is not QUEUED:
                shared.cancel_requested |= shared.state is RUNNING
                return False
            if job._details is not None:
                job._details.finished = clock.monotonic()
            job._fast_state = shared.state = CANCELLED
            shared.announce(job)
        _leave_queue(job, is_counted=is_counted)
    except BaseException:
        if job._fast_state is CANCELLED:  # whatever has been done may be done again
            with shared.lock:
                shared.announce(job, again=True)
            _leave_queue(job, is_counted=False)
        raise
    return True


def settle_or_interrupt(job: "Job[Any]") -> bool:
    """Do what `settle_cancelled` does; of a job that runs, cancel the coroutine."""
    is_cancelled = settle_cancelled(job)
    if not is_cancelled and job._local_state is RUNNING:
        job._policy.host.interrupt(job)
    return is_cancelled


def _leave_queue(job: "Job[Any]", *, is_counted: bool) -> None:
    release_call(job)
    job._policy.host.job_cancelled(job, is_counted=is_counted)


def withdraw(job: "Job[Any]") -> bool:
    """Cancel a job that its pool has refused, and that may have been queued all the same.

    Returns whether this call has done so.
    """
    was_queued = settle_cancelled(job, is_counted=False)
    if was_queued:
        run_callbacks(job)
    return was_queued


def reopen(job: "Job[Any]") -> bool:
    """Let a job be queued again after a failed attempt; return False if it is not to be."""
    shared = job._ensure_shared()
    with shared.lock:
        if shared.state is not RUNNING or shared.cancel_requested:
            return False
        job._fast_state = shared.state = QUEUED
        shared.owner = None
        return True


def run_callbacks(job: "Job[Any]") -> None:
    """Run the callbacks of a job that has ended."""
    job._ensure_shared().run_callbacks(job)


def was_stopped(job: "Job[Any]", error: BaseException | None) -> bool:
    """Return whether a job that ends with this was asked to stop while it ran, and has."""
    return isinstance(error, CancelledError) and job.cancel_requested


def failure_of(job: "Job[Any]") -> Failure | None:
    """Return how a job failed, without looking at it; None if it has not."""
    return job._outcome if job._local_state is FAILED else None
