"""Why a job has not ended, since when, and where its thread is: answers for people.

The fast path records nothing for these answers. Each is put together on request, from several reads
without a lock, so the job may have changed state in between.
"""

from datetime import datetime
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from oddjob.errors import describe_error, format_frames
from oddjob.runtime.job import Job
from oddjob.runtime.job_state import ENDED, FAILED, RUNNING
from oddjob.runtime.limit_gate import Obstacles
from oddjob.runtime.slot import Slot
from oddjob.schedule.clock import clock
from oddjob.tracebacks import coroutine_stack, stack_of, thread_frames

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


_NAMED: Final = 3  # jobs that a reason names


class JobTimes(NamedTuple):
    """When a job was queued, started and finished, as far as that is known."""

    queued: datetime | None
    started: datetime | None
    finished: datetime | None


def times_of(job: Job[Any]) -> JobTimes:
    """Return the times of a job, by the record of its store if it has one."""
    core, details = job._policy.core, job._details
    if _is_stored(job):
        times: JobTimes | None = core.store.live.times_of(job)
        if times is not None:
            return times
    started = None if details is None else details.started
    finished = None if details is None else details.finished
    slot = None if job.done() else _slot_of(job)
    if slot is not None:
        started = began_at(job, slot)
    is_queued = -inf < job._queued_at <= clock.monotonic()  # -inf: by the parent process
    return JobTimes(*map(_date_of, (job._queued_at if is_queued else None, started, finished)))


def began_at(job: Job[Any], slot: Slot) -> float:
    """Return when the job in a slot began, in monotonic seconds."""
    started = None if job._details is None else job._details.started
    return slot.last_ended_at if started is None else started


def stack_of_job(job: Job[Any]) -> str:
    """Return where a job is, formatted like a traceback; "" if no thread of its pool runs it.

    A job that has timed out has ended, and its thread may be in it still.
    """
    slot = _slot_with(job)
    if slot is None:
        return ""
    coroutine = slot.coroutines.coroutine_of(job)
    frames = [] if coroutine is None else coroutine_stack(coroutine)
    return format_frames(frames or stack_of(thread_frames().get(slot.ident)))


def known_id(job: Job[Any]) -> str | None:
    """Return the id of a job if it was ever read, else None: nobody can look the job up then."""
    return None if job._details is None else job._details.id


def reason_of(job: Job[Any]) -> str:
    """Return why a job has not ended, or how it has."""
    if job.done():
        if job.state is FAILED:
            return f"it has failed: {describe_error(job._outcome.error)}"
        return f"it has ended: {job.state}"
    if job._policy.is_durable:
        reason: str = job._policy.core.store.live.why(job)
        return reason
    return _reason_of_running(job) or _reason_of_waiting(job)


def _reason_of_running(job: Job[Any]) -> str | None:
    slot = _slot_of(job)
    if slot is not None:
        worker = job._policy.core.workers.find(slot)
        thread = "a thread that waits for it" if worker is None else worker.thread.name
        return f"it has run for {_since(began_at(job, slot))}, in {thread}"
    return "it runs, but on no worker of its pool" if job._local_state is RUNNING else None


def _reason_of_waiting(job: Job[Any]) -> str:
    core, timer = job._policy.core, None if job._details is None else job._details.waits_for
    if core.is_lost(job):
        return "it was pending when this process was forked, and belongs to the parent"
    if timer is not None and timer.others:
        waits = [each for each in timer.others if not each.done()]
        named = ", ".join(f"{each.name} ({each.state})" for each in waits[:_NAMED])
        count = "1 job" if len(waits) == 1 else f"{len(waits)} jobs"
        return f"it waits for {count}: {named}" + ", …" * (len(waits) > _NAMED)
    if timer is not None:
        date = timer.next
        return "its timer is paused" if date is None else f"it is scheduled for {date}"
    if core.workers.is_paused:
        return f"pool {core.label} is paused"
    found = None if core.dispatcher.limited is None else core.dispatcher.limited.obstacles(job)
    return (found and _obstacle(job, found)) or _no_worker(job, core)


def _obstacle(job: Job[Any], found: Obstacles) -> str | None:
    """Return what a job waits for besides a worker."""
    now = clock.monotonic()
    if found.delayed_until is not None:
        return f"it failed, and is tried again in {max(0.0, found.delayed_until - now):.1f} s"
    if found.holders:
        return f"its key {job.key!r} is held by {', '.join(map(_holder, found.holders))}"
    if found.is_behind:
        return f"it is behind other jobs of its key {job.key!r}"
    if not found.closed:
        return None
    limit = max(found.closed, key=lambda each: each.opens_at)
    if limit.opens_at == inf:
        return f"its max_concurrency={limit!r} is reached"
    return f"its rate, {limit!r}, lets no job start for {limit.opens_at - now:.1f} s"


def _holder(job: Job[Any]) -> str:
    slot = _slot_of(job)
    ran = "" if slot is None else f", which has run for {_since(began_at(job, slot))}"
    return f"job {job.name}{ran}"


def _no_worker(job: Job[Any], core: "PoolCore") -> str:
    try:
        before = core.dispatcher.waiting().index(job)
    except ValueError:
        return "it is not in the queue: there is no room, or it has just been taken"
    if core.workers.available():
        return "a worker is about to take it"
    return f"all workers are busy ({core.workers.size}); jobs before it: {before}"


def _slot_of(job: Job[Any]) -> Slot | None:
    """Return the slot in which a job runs, if it is one of a worker."""
    slot = None if job._local_state in ENDED else _slot_with(job)
    return None if slot is None or slot.is_late else slot


def _slot_with(job: Job[Any]) -> Slot | None:
    """Return the slot whose thread is in a job; a late attempt counts if there is no other."""
    slots = [each for each in job._policy.core.workers.slots() if each.job is job]
    return min(slots, key=lambda each: each.is_late, default=None)


def _is_stored(job: Job[Any]) -> bool:
    has_claim = job._details is not None and job._details.claim is not None
    return job._policy.is_durable or has_claim


def _date_of(moment: float | None) -> datetime | None:
    return None if moment is None else clock.date_of(moment)


def _since(moment: float) -> str:
    return f"{max(0.0, clock.monotonic() - moment):.1f} s"
