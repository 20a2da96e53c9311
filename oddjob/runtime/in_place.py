"""In place: a worker whose job waits for a queued job of its own pool runs that one, too.

Jobs may wait for jobs of their own pool, however small that is: when no worker is free to take the
job from the queue, the waiting one runs it, in a slot nested in its own. While one is free, it
waits, and looks again whenever a worker has taken a job (so it notices when the last free one has
become busy), and whenever a timer has fired.

A thread that waits with `result` runs the job itself. One that awaits has a loop to run, whose
tasks the job may depend on, so another thread stands in for it: see `AwaitedJobs`.

A job that is held up by what the waiting jobs themselves hold (their key, a full limit) can be run
by no other worker, and runs in place whether one is free or not.

Guarantees: a worker runs one job in place at a time. It takes no other one from the queue before
that one has ended, even if its own job has given up waiting.
"""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from graphlib import TopologicalSorter
from math import inf
from typing import TYPE_CHECKING, Any, Final

from oddjob.callables import is_async
from oddjob.locks import Wakeup
from oddjob.runtime.coroutines import CoroutineRunner, is_loop_running
from oddjob.runtime.execution import execute, leave_nested, rescue_slot
from oddjob.runtime.job import Job
from oddjob.runtime.job_state import QUEUED, RUNNING
from oddjob.runtime.slot import Slot, bind_thread, jobs_here, occupied, slot_of, slots_here
from oddjob.schedule.clock import clock
from oddjob.threads import JobThread

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


def wait_in_place(core: "PoolCore", job: Job[Any], slot: Slot, deadline: float) -> bool:
    """Wait for a job in the slot of a worker of its pool, and run it if no other worker will.

    Returns whether the job has ended by `deadline`, in steady seconds. If not, as the time is up or
    another worker runs it, the caller waits for it as any thread.
    """
    wakeup, shared = Wakeup(), job._ensure_shared()
    shared.add_sleeper(wakeup)
    core.in_place_wakeups[wakeup.set] = None
    try:
        while not job.done():
            if _run_if_it_must(core, job, slot):
                continue
            if not _may_be_queued(job):
                return False  # another thread runs it, for the last time: there is only to wait
            wakeup.wait(deadline)
            if deadline <= clock.steady():
                return False
    finally:
        core.in_place_wakeups.pop(wakeup.set, None)
        shared.remove_sleeper(wakeup)
        del job, shared  # see `execution`: a job that is run in here may fail
    return True


def awaited_by(job: Job[Any]) -> list[Job[Any]]:
    """Return the jobs that have to end before one that waits for them, the first ones first."""
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


def _may_be_queued(job: Job[Any]) -> bool:
    """Return whether a job that has not ended is queued, or may be again."""
    return job._local_state is not RUNNING or job._policy.retry is not None


def _run_if_it_must(core: "PoolCore", job: Job[Any], outer: Slot) -> bool:
    """Run a queued job, or one that has to go before it, if no other worker will.

    Returns whether one was run.
    """
    slot = _nest(outer)
    if slot is None:
        return False
    try:
        if not _claim_if_it_must_run(core, job, slot):
            return False
        _begin_in_slot(slot)
        return True
    finally:
        if slot.stand_in is None:
            leave_nested(outer, sys.exc_info()[1])
        del job


def _nest(outer: Slot) -> Slot | None:
    """Return a new slot nested in one; None if a stand-in runs a job in such a one."""
    former = outer.nested
    if former is not None:
        if former.stand_in is not None:
            return None
        leave_nested(outer)  # it was left at the recursion limit
    slot = outer.nested = Slot(outer.core, outer.metrics, outer)
    return slot


def _claim_if_it_must_run(core: "PoolCore", job: Job[Any], slot: Slot) -> bool:
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
    """Take a job, or one that has to go before it, from the queue into a slot; False: none may."""
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


def run_in_slot(slot: Slot) -> None:
    """Run the job in a slot, in the calling thread if it can, and return when that is done."""
    _begin_in_slot(slot)
    if slot.stand_in is not None:
        slot.stand_in.join()


def _begin_in_slot(slot: Slot) -> None:
    """Run the job in a slot, or start a stand-in that does.

    A coroutine needs an event loop; where one is running already, a stand-in runs it. It may be
    past a timeout and go on, so who waits for the job does not wait for its thread.
    """
    job = slot.job
    try:
        if is_loop_running() and job is not None and is_async(job._fn):
            start_stand_in(slot, partial(_run_here, slot))
        else:
            with occupied(slot):
                _run_here(slot)
    finally:
        del job


def _run_here(slot: Slot) -> None:
    job, began = slot.job, clock.monotonic()
    assert job is not None  # noqa: S101
    try:
        queued_at = job._queued_at
        if execute(job, slot):
            slot.metrics.measure(clock.monotonic() - began, began - queued_at)
        leave_nested(slot)
        if slot.job is not None:  # else it is queued again
            slot.core.give_back(job)
            slot.job = None
    finally:
        del job


def start_stand_in(slot: Slot, body: Callable[[], None]) -> None:
    """Have a new thread stand in for the calling one: it calls `body`, to run jobs in this slot.

    If no thread can be started (the process has none left, or is about to end), the calling one
    does that itself, and its event loop stands still meanwhile.
    """
    core = slot.core
    slot.coroutines, slot.metrics, slot.is_inline = CoroutineRunner(), core.metrics.open(), False
    serve = partial(_serve, slot, body, [*slots_here(), slot])
    slot.stand_in = JobThread(target=serve, name=f"{core.label}-stand-in")
    try:
        slot.stand_in.start()
    except BaseException as failure:
        slot.stand_in = None  # after Ctrl-C it may come all the same: it finds no job then
        if not isinstance(failure, Exception):
            raise
        with occupied(slot):
            _serve(slot, body)


def _serve(slot: Slot, body: Callable[[], None], to_bind: Sequence[Slot] = ()) -> None:
    """Run jobs in a slot. A new thread binds all slots of the one for which it stands in."""
    core, outer = slot.core, slot.outer
    try:
        if to_bind:
            slot.ident = threading.get_ident()
            bind_thread(*to_bind)
            # For a worker only: in no other thread (``caller_runs``) has the initializer run.
            if core.options.initializer is not None and slot_of(core) is not None:
                core.options.initializer(*core.options.initargs)
        body()
    except BaseException as crash:
        slot.crash = crash
        rescue_slot(slot, crash)
    finally:
        slot.coroutines.close()
        core.metrics.close(slot.metrics)
        if outer is not None:
            outer.crash = outer.crash or slot.crash
            outer.nested = None
        core.wake_waiters()


class AwaitedJobs:
    """The jobs that the tasks of a worker's event loop await; it runs them if no worker will.

    They run in a thread beside the loop, one at a time. It is started when there is one to run,
    and ends when there is none.

    Locking: none. `awaiting` and `_look` are called by the thread of the loop, `_wake` by any.
    """

    def __init__(self, slot: Slot, post: Callable[[Callable[[], object]], object]) -> None:
        self._slot: Final = slot  # of the thread that runs the loop
        self._post: Final = post  # has the loop call something
        self._awaited: Final[dict[object, Job[Any]]] = {}
        self._is_posted = False

    @contextmanager
    def awaiting(self, job: Job[Any]) -> Iterator[None]:
        """Have a job run, if it must be, while a task awaits it."""
        key, in_place_wakeups = object(), self._slot.core.in_place_wakeups
        self._awaited[key] = job
        in_place_wakeups[self._wake] = None
        try:
            self._wake()  # not at once: other tasks may be about to await jobs as well
            yield
        finally:
            del self._awaited[key], job
            if not self._awaited:
                in_place_wakeups.pop(self._wake, None)

    def is_needed(self) -> bool:
        """Return whether a task awaits a job."""
        return bool(self._awaited)

    def _wake(self) -> None:
        """Have the thread of the loop look whether a job must be run."""
        if not self._is_posted:
            self._is_posted = True
            self._post(self._look)

    def _look(self) -> None:
        self._is_posted = False
        core, outer = self._slot.core, self._slot
        if not any(map(_may_be_queued, self._awaited.values())):
            # In a long chain, each job that starts would wake all loops before it.
            core.in_place_wakeups.pop(self._wake, None)
            return
        if core.dispatcher.limited is None and core.workers.available():
            return
        slot = _nest(outer)
        if slot is None:
            return  # the thread looks itself when it is through with its job
        if self._claim_one(slot):
            start_stand_in(slot, partial(self._run, slot))
        else:
            outer.nested = None

    def _claim_one(self, slot: Slot) -> bool:
        """Claim an awaited job that must be run, if there is one; the first that may."""
        for job in self._awaited.copy().values():
            if _claim_if_it_must_run(slot.core, job, slot):
                return True
        return False

    def _run(self, slot: Slot) -> None:
        """Run the job in a slot, and then those awaited, as long as there are any to run."""
        _run_here(slot)
        while slot.crash is None and self._claim_one(slot):
            _run_here(slot)


def run_if_no_worker_will(job: Job[Any]) -> bool:
    """Run a queued job here, if no other worker will; return whether it has ended."""
    return job.done() or job._policy.host.run_where_awaited(job, inf)
