"""Settling: ending a job, or returning it to the queue.

A job is *settled* when its outcome is set. It has *ended* when, after that, its call was released
and its callbacks have run. Callbacks are user code and may take any time, so some callers settle
first and run them afterwards: the watchdog, which has to end other jobs, and the cancellation of a
whole queue.

==============================  ================================================================
`settle`                        set the outcome, and wake the waiting threads
`end`                           settle, release the call, run the callbacks
`finish_failed`                 the rest for a job settled as failed: report it, release its call,
                                run its callbacks
`end_failed`                    settle as failed, `finish_failed`, fail the serial jobs behind it
`settle_timed_out`              settle as failed, for the watchdog; `finish_failed` is to follow
`settle_refused`                settle an unstarted job as failed; `finish_failed` is to follow
`settle_cancelled`              settle an unstarted job as cancelled; `run_callbacks` is to follow
`settle_or_interrupt`           `settle_cancelled`, or cancel the coroutine of a running job
`interrupt`                     cancel the coroutine of a running job
`refuse`                        `settle_refused`, then `finish_failed`
`withdraw`                      `settle_cancelled`, not counted, then `run_callbacks`
`reopen`                        return a job to the queue after a failed attempt
==============================  ================================================================

They are functions, not methods, as most of them act on a job and its pool alike. The races that a
lock-free start makes possible are described in `oddjob.runtime.shared_state`.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

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
    from oddjob.runtime.slot import Slot

_FAILED: Final = "job %s of pool %s failed"
_UNSEEN: Final = "job %s of pool %s failed, and nobody has looked at that"


def settle(job: "Job[Any]", state: JobState, outcome: Any) -> bool:
    """Settle a job under its lock (race 3); return False if it had ended before."""
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
    """Settle a job, release its call and run its callbacks; return False if it had ended before."""
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
    """End a job as failed, then the jobs `behind` it; return False if it had ended before."""
    if not settle(job, FAILED, Failure(error)):
        return False
    try:
        finish_failed(job, core)  # first: a callback of a group may cancel the jobs behind
    finally:
        refused = refuse_behind(job, error, behind, core)
        call_all(partial(finish_failed, each, core) for each in refused)
    return True


def finish_failed(job: "Job[Any]", core: "PoolCore") -> None:
    """Finish a job that is settled as failed; report the failure if no caller holds the job."""
    try:
        if job._policy.is_detached:
            job._outcome.is_seen = True
            # A copy: the thread of a job that has timed out may still use the context.
            context = copy_context() if job._context is None else job._context.copy()
            context.run(core.report_failure, job, job._outcome.error)
    finally:
        release_call(job)
        run_callbacks(job)


def report_failure(
    core: "PoolCore", job: "Job[Any]", error: BaseException, *, is_unseen: bool
) -> None:
    """Log a failure that no caller waits for, or has looked at, and call ``on_error``."""
    message = _UNSEEN if is_unseen else _FAILED
    if isinstance(error, PredecessorFailed):  # its cause is reported once, for the job that failed
        log(logging.ERROR, f"{message}: %s", job.name, core.label, error)
    else:
        log(logging.ERROR, message, job.name, core.label, error=error)
    if core.options.on_error is not None:
        try:
            core.options.on_error(job, error)
        except Exception as second:
            message = "on_error of pool %s raised, for job %s"
            log(logging.ERROR, message, core.label, job.name, error=second)


def _unseen_report(job: "Job[Any]") -> Callable[[Failure], None] | None:
    """Return a function that reports the failure of a job when the job is collected unseen.

    None: the failure is reported in another way, at once or by the process that holds the job.
    """
    details = job._ensure_details()
    if job._policy.is_detached or details.claim is not None:
        return None
    return partial(_report_unseen, _copier_of(job), job.name, details)


def _copier_of(job: "Job[Any]") -> "Callable[[], Job[Any]]":
    """Return a function that makes a copy of a job without its call; it does not keep the job."""
    new: Any = type(job)
    policy, queued_at, key = job._policy, job._queued_at, job._key
    return partial(new, None, (), None, None, policy=policy, queued_at=queued_at, key=key)


def _report_unseen(
    make_copy: "Callable[[], Job[Any]]", name: str, details: JobDetails, failure: Failure
) -> None:
    """Report the failure of a job that has been collected, for a copy of it."""
    if isinstance(failure.error, CancelledError):
        return  # the job has stopped as requested
    failure.is_seen = True
    job = make_copy()
    job._name, job._details, job._outcome, job._fast_state = name, details, failure, FAILED
    report = partial(job._policy.core.report_failure, job, failure.error, is_unseen=True)
    if isinstance(threading.current_thread(), ServiceThread):
        run_in_thread(report, f"{job._policy.core.label}-callbacks")
    else:
        report()


def release_call(job: "Job[Any]") -> None:
    """Release the call of a job, which must not live as long as its future; keep its name."""
    if job._details is not None:
        job._details.steps = job._details.links = None
    fn = job._fn
    if fn is not None:
        if job._name is None:
            job._name = describe(fn)
        job._fn = job._args = job._kwargs = job._context = None


def settle_timed_out(
    job: "Job[Any]", error: JobTimeout, number: int, slot: "Slot", core: "PoolCore"
) -> "list[Job[Any]] | None":
    """Settle an attempt whose time is up; called by the watchdog, which runs no user code.

    From then on the attempt is late: what the job holds is given back here, or by the next attempt.

    Returns:
        The jobs that were settled, for `finish_failed`: this one and those that end because of it;
        none if this one is queued again. None if the attempt was over.
    """
    details, shared = job._ensure_details(), job._ensure_shared()
    with shared.lock:
        if not details.conclude(shared, number, core.watchdog):
            return None
        slot.is_late = True
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
    """Return the queued jobs that are to fail if this one does: the serial ones of its key.

    Call this before the failure can be seen: a job that is submitted after that may run.
    """
    if not job._policy.is_serial or core.dispatcher.limited is None:
        return ()
    return core.dispatcher.limited.jobs_behind(job) or ()


def refuse_behind(
    failed: "Job[Any]", error: BaseException, behind: "Sequence[Job[Any]]", core: "PoolCore"
) -> "list[Job[Any]]":
    """Fail the jobs `behind`; return those that this call has settled, for `finish_failed`."""
    refused: list[Job[Any]] = []
    for job in behind:
        failure = PredecessorFailed(f"job {failed.name}, before it in line {job.key!r}, failed")
        failure.__cause__ = error
        if settle_refused(job, failure, core):
            refused.append(job)
    return refused


def refuse(job: "Job[Any]", error: BaseException, core: "PoolCore") -> None:
    """Fail a queued job that is not going to run, and finish it; see `settle_refused`."""
    if settle_refused(job, error, core):
        finish_failed(job, core)


def settle_refused(
    job: "Job[Any]", error: BaseException, core: "PoolCore", counted_as: str = "refused"
) -> bool:
    """Settle a queued job that is not going to run as failed; the caller calls `finish_failed`.

    Idempotent. A job that a thread has claimed to run it is not changed.

    Returns:
        Whether this call has settled the job; it is counted under `counted_as` in `PoolStats`.
    """
    shared = job._ensure_shared()
    try:
        if not shared.claim_queued(core):
            return False
        job._fast_state = RUNNING
        core.metrics.count(counted_as)
        return settle(job, FAILED, Failure(error))
    except BaseException:  # an asynchronous exception; no other thread would end the job
        if shared.owner is core:
            settle(job, FAILED, Failure(error))
        raise
    finally:
        if shared.owner is core:
            core.give_back(job)  # it may hold the place of its key


def settle_cancelled(job: "Job[Any]", *, is_counted: bool = True) -> bool:
    """Settle a job that has not started as cancelled; the caller runs its callbacks.

    If an asynchronous exception (Ctrl-C) comes too late to prevent that, it is completed.

    Returns:
        Whether this call has settled the job. A running job is asked to stop instead.
    """
    shared, policy = job._ensure_shared(), job._policy
    if not policy.is_plain and shared.state is QUEUED and not policy.settlement.cancelled(job):
        return False
    try:
        with shared.lock:
            if shared.state is not QUEUED:
                if shared.state is RUNNING:
                    shared.cancel_requested = True
                return False
            if job._details is not None:
                job._details.finished = clock.monotonic()
            job._fast_state = shared.state = CANCELLED
            shared.announce(job)
        _leave_queue(job, is_counted=is_counted)
    except BaseException:
        if job._fast_state is CANCELLED:  # repeat everything after that: all of it is idempotent
            with shared.lock:
                shared.announce(job, again=True)
            _leave_queue(job, is_counted=False)
        raise
    return True


def settle_or_interrupt(job: "Job[Any]") -> bool:
    """Settle a job as cancelled, or else cancel its coroutine; see `settle_cancelled`."""
    is_cancelled = settle_cancelled(job)
    interrupt(job)
    return is_cancelled


def interrupt(job: "Job[Any]") -> None:
    """Cancel the coroutine of a job if it is running."""
    if job._local_state is RUNNING:
        job._policy.core.interrupt(job)


def _leave_queue(job: "Job[Any]", *, is_counted: bool) -> None:
    release_call(job)
    job._policy.core.job_cancelled(job, is_counted=is_counted)


def withdraw(job: "Job[Any]") -> bool:
    """Cancel a job that its pool has refused, but that may have been queued before.

    Returns:
        Whether this call has cancelled it.
    """
    was_queued = settle_cancelled(job, is_counted=False)
    if was_queued:
        run_callbacks(job)
    return was_queued


def reopen(job: "Job[Any]") -> bool:
    """Return a job to the queued state after a failed attempt; False if it was asked to stop."""
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
    """Return whether a job ends with `error` because it has stopped as requested."""
    return isinstance(error, CancelledError) and job.cancel_requested


def failure_of(job: "Job[Any]") -> Failure | None:
    """Return the failure of a job without marking it as seen; None if it has not failed."""
    return job._outcome if job._local_state is FAILED else None
