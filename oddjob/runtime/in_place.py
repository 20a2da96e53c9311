"""In place: a worker whose job waits for a queued job of its own pool runs that job itself.

So jobs may wait for jobs of their own pool, however small it is. The waiting worker runs a queued
job if no other worker will: no worker is free to take it, or it needs what the waiting jobs
themselves hold (their key, a full limit). It runs in a slot nested in the worker's own. While a
worker is free, the waiting one sleeps. It looks again when a worker has taken a job, as that may
have been the last free one, and when a timer has fired.

This file has the thread that waits with `result`. One that waits with ``await`` has a loop to run,
on whose tasks the job may depend, so a stand-in runs the job: see `awaiting` and `stand_in`.

Guarantees: a worker runs one job in place at a time. It takes no other job from the queue before
that one has ended, even if its own job has stopped waiting.
"""

import sys
from graphlib import TopologicalSorter
from math import inf
from typing import TYPE_CHECKING, Any

from oddjob.locks import Wakeup
from oddjob.runtime.execution import leave_nested
from oddjob.runtime.job import Job
from oddjob.runtime.job_state import QUEUED, RUNNING
from oddjob.runtime.slot import Slot, jobs_here
from oddjob.runtime.stand_in import begin_in_slot
from oddjob.schedule.clock import clock

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


def wait_in_place(core: "PoolCore", job: Job[Any], slot: Slot, deadline: float) -> bool:
    """Wait for a job in the slot of a worker of its pool, and run it if no other worker will.

    Returns whether the job has ended by `deadline`, in steady seconds. If it has not, because the
    time is up or another worker runs it, the caller waits for it like any other thread.
    """
    wakeup, shared = Wakeup(), job._ensure_shared()
    shared.add_sleeper(wakeup)
    core.in_place_wakeups[wakeup.set] = None
    try:
        while not job.done():
            if _run_nested_if_no_worker_will(core, job, slot):
                continue
            if not may_be_queued(job):
                # Another thread runs it and it will not be retried, so it can only be waited for.
                return False
            wakeup.wait(deadline)
            if deadline <= clock.steady():
                return False
    finally:
        core.in_place_wakeups.pop(wakeup.set, None)
        shared.remove_sleeper(wakeup)
        del job, shared  # see `execution`: a job that runs in here may fail
    return True


def run_if_no_worker_will(job: Job[Any]) -> bool:
    """Run a queued job here if no worker will; return whether it has ended.

    A worker of the pool of the job waits, as in `wait_in_place`; any other thread returns at once.
    """
    return job.done() or job._policy.host.run_where_awaited(job, inf)


def awaited_by(job: Job[Any]) -> list[Job[Any]]:
    """Return the jobs that have to end before a job that waits for them, in order."""
    awaits: dict[Job[Any], list[Job[Any]]] = {}
    left = [job]
    while left:
        each = left.pop()
        if each not in awaits:
            timer = None if each._details is None else each._details.waits_for
            others = () if timer is None else timer.others
            awaits[each] = [other for other in others if not other.done()]
            left += awaits[each]
    return [each for each in TopologicalSorter(awaits).static_order() if each is not job]


def may_be_queued(job: Job[Any]) -> bool:
    """Return whether a job that has not ended is queued, or may be queued again."""
    return job._local_state is not RUNNING or job._policy.retry is not None


def _run_nested_if_no_worker_will(core: "PoolCore", job: Job[Any], outer: Slot) -> bool:
    """Run a queued job, or the one that must run before it, in a slot nested in `outer`.

    Returns whether a job was run, or a stand-in was started for it.
    """
    slot = open_nested(outer)
    if slot is None:
        return False
    try:
        if not claim_if_no_worker_will(core, job, slot):
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


def claim_if_no_worker_will(core: "PoolCore", job: Job[Any], slot: Slot) -> bool:
    """Claim a job for a slot, as `claim_into` does, if it is queued and no worker will take it."""
    if job._local_state is not QUEUED:
        return False
    if core.workers.available() and not _is_held_up_by(jobs_here(), job):
        return False
    return claim_into(core, job, slot)


def _is_held_up_by(stack: list[Job[Any]], job: Job[Any]) -> bool:
    """Return whether `job` may have to wait for what the jobs in `stack` hold."""
    limits = [limit for limit in job._policy.limits if limit.limits_running_jobs]
    return any(
        (job._key is not None and each._key == job._key)
        or any(limit in each._policy.limits for limit in limits)
        for each in stack
    )


def claim_into(core: "PoolCore", job: Job[Any], slot: Slot) -> bool:
    """Move a job, or the one that must run before it, from the queue into a slot.

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
