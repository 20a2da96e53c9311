"""In place: a worker whose job waits for another job runs that itself if no other worker will.

So jobs may wait for jobs of their own pool, however small it is. While a worker is free, the
waiting one sleeps. If none is free, it takes a queued job: the one that its own job waits for, or
one on which that depends (a predecessor, a member of a batch). It does so with a free worker as
well if the queued job needs what the waiting jobs hold. For example, jobs of one key wait for each
other: no free worker may start the second one before the first has ended.

A waiting worker looks again when one of these may have changed: a worker has taken a job (it may
have been the last free one) or has left, a timer has fired, a job whose predecessors have ended was
queued.

The job runs in a slot *nested* in the worker's own. A thread that waits with ``result`` runs it
itself. One that waits with ``await`` has a loop to run, on whose tasks the job may depend, so a
stand-in runs the job: see `awaiting` and `stand_in`. Jobs in a store are claimed like any other
job; while a worker waits for one, another worker may take its place: see `Lending`.

Guarantees: a worker runs one job in place at a time. It takes no other job from the queue before
that one has ended, even if its own job has stopped waiting.
"""

import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from math import inf
from typing import TYPE_CHECKING, Any

from oddjob.locks import Wakeup
from oddjob.runtime.execution import leave_nested
from oddjob.runtime.job import Job
from oddjob.runtime.job_state import QUEUED, RUNNING
from oddjob.runtime.links import unended_predecessors, with_predecessors
from oddjob.runtime.slot import Slot, jobs_here
from oddjob.runtime.stand_in import begin_in_slot
from oddjob.schedule.clock import clock

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


def wait_in_place(job: Job[Any], slot: Slot, deadline: float) -> bool:
    """Wait for a job in the slot of a worker, and run in place what no other worker will run.

    Returns:
        Whether the job has ended. If not, the time is up (`deadline` is in steady seconds), or
        nothing is left to run in place: the caller waits like any other thread.
    """
    core, shared, wakeup = slot.core, job._ensure_shared(), Wakeup()
    shared.add_sleeper(wakeup)
    core.in_place_wakeups[wakeup.set] = None
    try:
        with lend_place(job, slot):
            while may_run_in_place(job, core) and clock.steady() < deadline:
                if not _run_next(job, slot):
                    wakeup.wait(deadline)
            return job.done() or (_is_in_store_of(core, job) and shared.wait(deadline))
    finally:
        core.in_place_wakeups.pop(wakeup.set, None)
        shared.remove_sleeper(wakeup)
        del job, shared  # see `execution`: a job that runs in here may fail


def run_if_no_worker_will(job: Job[Any]) -> bool:
    """Run a queued job in place if no worker will; return whether it has ended.

    A worker waits, as in `wait_in_place`; any other thread returns at once.
    """
    return job.done() or job._policy.core.run_where_awaited(job, inf)


def may_run_in_place(job: Job[Any], core: "PoolCore") -> bool:
    """Return whether a job, or one on which it depends, may have to run on a worker that waits."""
    if job.done():
        return False
    if unended_predecessors(job):
        return True
    # A job that another thread runs, and that will not be retried, can only be waited for.
    may_be_queued = job._local_state is not RUNNING or job._policy.retry is not None
    return may_be_queued and _is_in_memory_of(core, job)


def lend_place(job: Job[Any], slot: Slot) -> AbstractContextManager[None]:
    """Let another worker take the place of a waiting one if it waits for a job in the store."""
    core = slot.core
    if any(_is_in_store_of(core, each) for each in with_predecessors(job)):
        return core.store.lending.one()  # type: ignore[no-any-return]
    return nullcontext()


def _is_in_memory_of(core: "PoolCore", job: Job[Any]) -> bool:
    return job._policy.core is core and not job._policy.is_durable


def _is_in_store_of(core: "PoolCore", job: Job[Any]) -> bool:
    return job._policy.core is core and job._policy.is_durable


def _run_next(job: Job[Any], outer: Slot) -> bool:
    """Run a job, or one on which it depends, in a slot nested in `outer` if no worker will.

    Returns whether a job was run, or a stand-in was started for it.
    """
    slot = open_nested(outer)
    if slot is None:
        return False
    try:
        if not claim_next([job], slot):
            return False
        begin_in_slot(slot)
        return True
    finally:
        if slot.stand_in is None:
            leave_nested(outer, sys.exc_info()[1])
        del job


def open_nested(outer: Slot) -> Slot | None:
    """Return a new slot nested in `outer`; None while a stand-in runs a job in the former one."""
    former = outer.nested
    if former is not None:
        if former.stand_in is not None:
            return None
        leave_nested(outer)  # at the recursion limit, it could not be left earlier
    slot = outer.nested = Slot(outer.core, outer.metrics, outer)
    return slot


def claim_next(jobs: Iterable[Job[Any]], slot: Slot) -> bool:
    """Claim one of `jobs`, or one on which they depend, for a slot if no worker will take it."""
    core, stack = slot.core, jobs_here()
    is_any_free = core.workers.available() > 0
    if is_any_free and core.dispatcher.limited is None:
        return False
    return any(
        each._local_state is QUEUED
        and _is_in_memory_of(core, each)
        and (not is_any_free or _is_held_up_by(stack, each))
        and claim_into(core, each, slot)
        for job in jobs
        for each in with_predecessors(job)
    )


def _is_held_up_by(stack: list[Job[Any]], job: Job[Any]) -> bool:
    """Return whether `job` may have to wait for what the jobs in `stack` hold."""
    limits = [limit for limit in job._policy.limits if limit.limits_running_jobs]
    return any(
        (job._key is not None and each._key == job._key)
        or any(limit in each._policy.limits for limit in limits)
        for each in stack
    )


def claim_into(core: "PoolCore", job: Job[Any], slot: Slot) -> bool:
    """Move a job, or one of its key that must run before it, from the queue into a slot.

    Returns False if neither may start now.
    """
    limited = core.dispatcher.limited
    if limited is not None:
        return limited.claim(job, jobs_here(), slot) is not None
    shared = job._ensure_shared()
    slot.job = job  # first: once it is claimed, only this thread can end it
    try:
        if shared.claim_queued(slot):
            core.dispatcher.remove(job)
    finally:
        if shared.owner is not slot:  # it is still in the queue, or another thread has it
            slot.job = None
    return slot.job is job
