"""Dependencies: *linked* jobs in memory, which wait for other jobs, or belong to a batch.

A linked job is ``scheduled``, like a job that waits for a timer. `JobDetails.waits_for` holds a
`_Predecessors` or `_Members` in place of the timer. That registers a callback on every job that the
linked job waits for, and counts down as they end.

Guarantees: a linked job is queued when its last predecessor has ended and the conditions of all are
met; otherwise it ends with the first predecessor whose condition is not met. A pool that is closed
still runs its linked jobs, like its queued ones.

Locking: each `_Predecessors` and `_Members` has a lock for its counters. No job is settled and no
user code is called under it.
"""

import threading
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from functools import partial
from graphlib import TopologicalSorter
from math import inf
from typing import TYPE_CHECKING, Any, Final

from oddjob.errors import BatchFailed, PredecessorFailed
from oddjob.keys import Key
from oddjob.runtime import inline
from oddjob.runtime.job import Job
from oddjob.runtime.job_state import CANCELLED, FAILED, SUCCEEDED, Failure, Progress
from oddjob.runtime.links import (
    Condition,
    Links,
    call_in_turn,
    own_turns,
    set_due,
    set_waiting,
    unended_predecessors,
    with_predecessors,
)
from oddjob.runtime.policy import JobPolicy
from oddjob.runtime.settling import end, finish_failed, refuse, settle_refused
from oddjob.schedule.clock import clock

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


def new_linked(
    policy: JobPolicy, fn: Callable[..., Any], args: Any, kwargs: Any, key: Key | None, links: Links
) -> Job[Any]:
    """Return a new linked job; it also waits for the jobs that its policy names."""
    job: Job[Any] = Job(fn, args, kwargs, copy_context(), policy, clock.monotonic(), key)
    if policy.is_prepared:
        policy.prepare(job)
    details = job._ensure_details()
    after = () if details.links is None else details.links.after
    details.links = links._replace(after=(*after, *links.after))
    return job


def accept_whole(jobs: Sequence[Job[Any]]) -> None:
    """Accept linked jobs, in memory or in a store: if one is refused, the others are cancelled.

    Raises:
        TypeError: some jobs are to be stored, and some are not.
        Exception: as `accept_linked`, or as the store if the jobs are to be stored.
    """
    if not jobs:
        return
    are_durable = {job._policy.is_durable for job in jobs}
    if inline.is_on() or are_durable == {False}:
        accept_linked(jobs)
    elif are_durable == {True}:
        jobs[0]._policy.core.store.accept_whole(jobs)
    else:
        raise TypeError("jobs that belong together must all be stored, or all be in memory")


def refuse_whole(jobs: Sequence[Job[Any]]) -> None:
    """Cancel jobs that were not accepted, so that no thread waits for them forever."""
    for job in jobs:
        if job._ensure_shared().claim_queued(jobs):  # else a worker of another pool has started it
            end(job, CANCELLED, None)


def batch_of(job: Job[Any]) -> Job[Any] | None:
    """Return the job that stands for the batch of a running job; None if it is in no batch."""
    details = job._ensure_details()
    if details.claim is None or details.claim.batch is None:
        return None if details.links is None else details.links.batch
    core = job._policy.core
    found: Job[Any] = Job(None, (), None, Context(), core.policy, clock.monotonic())  # type: ignore[arg-type]
    found._ensure_details().id = str(details.claim.batch)
    return found


def cancel_members(job: Job[Any]) -> None:
    """Cancel the members of a batch or chain, given the job that stands for it."""
    if job._policy.is_durable and not inline.is_on():
        job.cancel()  # the store cancels the members
    else:
        for other in awaited_by(job)[::-1]:  # the last ones first, as they wait for the others
            other.cancel()


def awaited_by(job: Job[Any]) -> list[Job[Any]]:
    """Return the unended jobs on which a job depends, each before those that wait for it."""
    awaited = {each: unended_predecessors(each) for each in with_predecessors(job)}
    return [each for each in TopologicalSorter(awaited).static_order() if each is not job]


def accept_linked(jobs: Sequence[Job[Any]]) -> None:
    """Accept linked jobs in memory. If one is refused, those that have not started are cancelled.

    Raises:
        PoolClosed, PoolBroken: a pool accepts no jobs.
        Exception: no thread could be started.
    """
    for job in jobs:
        job._policy.core.state.check_open()
    with own_turns():
        _accept_linked(jobs)


def _accept_linked(jobs: Sequence[Job[Any]]) -> None:
    runnable: dict[PoolCore, list[Job[Any]]] = {}
    batches: list[_Members] = []
    try:
        for job in jobs:
            links = _links_of(job)
            if links.batch is not None:
                _join_batch(job, links.batch)
            if links.is_batch:
                batches.append(_Members(job))
            elif links.after:
                _Predecessors(job._policy.core, job, links).begin()
            else:
                runnable.setdefault(job._policy.core, []).append(job)
        for core, some in runnable.items():
            _queue_jobs(core, some)
    except BaseException:
        for job in jobs:
            job.cancel()
        raise
    for batch in batches:
        batch.close()


def _join_batch(job: Job[Any], batch: Job[Any]) -> None:
    """Let a batch, given as the job that stands for it, wait for a job as well."""
    members: Any = batch._ensure_details().waits_for
    if members is not None:  # otherwise the batch has ended, as it was cancelled
        members.add(job)


def is_linked(jobs: Sequence[Job[Any]]) -> bool:
    """Return whether jobs that are submitted together are linked to others."""
    return bool(jobs) and jobs[0]._details is not None and jobs[0]._details.links is not None


def _queue_jobs(core: "PoolCore", jobs: list[Job[Any]]) -> None:
    if inline.is_on():
        for job in jobs:
            inline.run_inline(core, job)
    else:
        core.intake.run_claimed(jobs)
        if core.in_place_wakeups:
            core.wake_waiters()  # a thread that waits for one of the jobs may run it


class _Predecessors:
    """The predecessors of a job, which is queued when all of their conditions are met."""

    __slots__ = ("_core", "_is_over", "_job", "_links", "_lock", "_remaining", "_value")

    next = None  # there is no date: see `WaitsFor`

    def __init__(self, core: "PoolCore", job: Job[Any], links: Links) -> None:
        self._core: Final = core
        self._job: Final = job
        self._links: Final = links
        self._lock: Final = threading.RLock()
        self._remaining = len(links.after)
        self._is_over = False  # the job waits no longer
        self._value: tuple[Any, ...] = ()

    @property
    def others(self) -> list[Job[Any]]:
        """The predecessors."""
        return [other for other, _ in self._links.after]

    def begin(self) -> None:
        """Let the job wait; queue it at once if all predecessors have ended."""
        set_waiting(self._job, self)
        self._core.dispatcher.waiting_for_jobs[self._job] = None
        for other, condition in self._links.after:
            other.add_done_callback(partial(self._other_ended, condition))

    def job_cancelled(self, _job: Job[Any]) -> None:
        """Stop waiting, as the job was cancelled."""
        set_due(self._job, inf)
        self._unregister()

    def _other_ended(self, condition: Condition, other: Any) -> None:
        call_in_turn(partial(self._pass_on, condition, other))

    def _pass_on(self, condition: Condition, other: Any) -> None:
        state = other._local_state
        if not condition.is_met(state):
            self._fail_or_cancel(other, is_failed=condition.passes_on(state))
            return
        if condition is Condition.VALUE:
            self._value = (other._outcome,)
        with self._lock:
            self._remaining -= 1
            is_last = self._remaining == 0
        if is_last and not self._is_over:
            self._queue_job()

    def _fail_or_cancel(self, other: Job[Any], *, is_failed: bool) -> None:
        """End the job, as the condition of a predecessor is not met."""
        if not is_failed:
            self._job.cancel()
            return
        error = PredecessorFailed(f"job {other.name}, which it waits for, failed")
        error.__cause__ = other._outcome.error
        if settle_refused(self._job, error, self._core):
            # The predecessor's failure is already reported; do not report this one as unseen.
            self._job._outcome.is_seen = True
            set_due(self._job, inf)
            finish_failed(self._job, self._core)
        self._unregister()

    def _queue_job(self) -> None:
        job, core = self._job, self._core
        try:
            args = job._args
            if job.done() or args is None:
                return
            if self._value:
                job._args = (*self._value, *args)
            set_due(job, clock.monotonic())
            if core.state.broken_by is not None:
                refuse(job, core.state.breakdown(), core)
            elif inline.is_on():
                inline.run_fired(core, [job])  # what it raised would be lost in this callback
            else:
                _queue_jobs(core, [job])
        except Exception as error:
            refuse(job, error, core)
        finally:
            self._unregister()

    def _unregister(self) -> None:
        self._is_over = True
        self._core.dispatcher.waiting_for_jobs.pop(self._job, None)
        if self._core.state.closed_because is not None:  # the end of the pool may wait for this job
            self._core.supervisor.notify()
            self._core.dispatcher.wake_all()


class _Members:
    """The members of a batch, for which the job that stands for the batch waits."""

    __slots__ = ("_counts", "_is_open", "_job", "_lock", "_pending")

    next = None  # there is no date: see `WaitsFor`

    def __init__(self, job: Job[Any]) -> None:
        self._job: Final = job
        self._lock: Final = threading.RLock()
        self._pending: Final[dict[Job[Any], None]] = {}
        self._counts: Final = dict.fromkeys((SUCCEEDED, FAILED, CANCELLED), 0)
        self._is_open = True  # its submitter is still adding members
        set_waiting(job, self)

    @property
    def others(self) -> list[Job[Any]]:
        """The members that have not ended."""
        with self._lock:
            return list(self._pending)

    def add(self, job: Job[Any]) -> None:
        """Add a member."""
        with self._lock:
            self._pending[job] = None
            self._report_progress()
        job.add_done_callback(self._member_ended)

    def close(self) -> None:
        """Note that the submitter has added all members."""
        self._is_open = False
        self._end_if_over()

    def job_cancelled(self, _job: Job[Any]) -> None:
        """Cancel the members, as the job was cancelled."""
        set_due(self._job, inf)
        for other in self.others:
            other.cancel()

    def _member_ended(self, job: Any) -> None:
        with self._lock:
            self._pending.pop(job, None)
            self._counts[job._local_state] += 1
            self._report_progress()
        call_in_turn(self._end_if_over)

    def _report_progress(self) -> None:
        done = sum(self._counts.values())
        self._job._ensure_details().progress = Progress(done, done + len(self._pending))

    def _end_if_over(self) -> None:
        with self._lock:  # else the last member may have left `_pending`, and not be counted yet
            if self._pending or self._is_open:
                return
            failed, total = self._counts[FAILED], sum(self._counts.values())
        if failed:
            failure = Failure(BatchFailed(f"{failed} of {total} jobs failed"))
            failure.is_seen = True  # the failures of the members are already reported
            end(self._job, FAILED, failure)
        elif self._counts[CANCELLED]:
            self._job.cancel()
        else:
            end(self._job, SUCCEEDED, None)
        set_due(self._job, inf)


def _links_of(job: Job[Any]) -> Links:
    details = job._details
    return Links() if details is None else details.links or Links()
