"""Watchdog: ends the jobs whose time is up, and has their threads replaced.

A thread cannot be stopped from outside. One that is stuck in a job past its timeout is therefore
*quarantined*: the job ends with `JobTimeout`, which has the stack of the thread, the worker loses
its place to a new one, and leaves when, and if, it comes back. There may be ``max_abandoned`` of
them. A further one keeps its place, and the pool is *degraded* until one has come back.

Guarantees: an attempt ends once, by its timeout or by its thread; see `JobDetails.conclude`.
Locking: that of `PoolState` guards the runs. `watch` and `unwatch` are called by the threads that
run jobs, everything else by the supervisor.
"""

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from math import inf
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from oddjob.errors import JobTimeout
from oddjob.log import log, run_in_thread
from oddjob.runtime import inline
from oddjob.runtime.execution import expire, finish_expired
from oddjob.runtime.job import Job
from oddjob.runtime.settling import release_call
from oddjob.runtime.slot import Slot
from oddjob.schedule.clock import clock
from oddjob.tracebacks import coroutine_stack, stack_of, thread_frames

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


class WatchedRun:
    """One attempt of a job with a timeout."""

    __slots__ = ("attempt", "deadline", "holds_place", "is_interrupted", "job", "slot")

    def __init__(self, job: Job[Any], attempt: int, deadline: float, slot: Slot) -> None:
        self.job: Final = job
        self.attempt: Final = attempt
        self.deadline: Final = deadline  # steady seconds
        self.slot: Final = slot
        self.is_interrupted = False  # its coroutine was cancelled
        self.holds_place = False  # it is stuck, and there are too many quarantined threads


class Watchdog:
    """Watches the runs of one pool; there are hardly more of them than workers."""

    def __init__(self, core: "PoolCore") -> None:
        self._core: Final = core
        self._lock: Final = core.state.lock
        self._running: Final[set[WatchedRun]] = set()
        self._overdue: Final[
            dict[WatchedRun, None]
        ] = {}  # in order; their threads are not quarantined
        self._look_at = inf  # when the supervisor means to look, in steady seconds
        self._reports: Final[deque[Callable[[], None]]] = deque()  # on runs whose time was up
        self._was_degraded = False

    def watch(self, job: Job[Any], attempt: int, slot: Slot) -> WatchedRun | None:
        """Watch an attempt that the calling thread is about to run."""
        timeout = job._policy.timeout
        if timeout is None or (slot.is_guest and inline.is_on()):
            return None
        run = WatchedRun(job, attempt, clock.steady() + timeout, slot)
        job._add_details().deadline = run.deadline
        with self._lock:
            self._running.add(run)
            is_sooner = run.deadline < self._look_at
            self._look_at = min(self._look_at, run.deadline)
        if is_sooner:
            self._core.supervisor.notify()
        return run

    def unwatch(self, run: WatchedRun) -> None:
        """Note that an attempt is over."""
        with self._lock:
            self._running.discard(run)
            self._overdue.pop(run, None)
        if run.holds_place:
            self._core.supervisor.notify()

    def next_look(self) -> float:
        """Return when the next timeout strikes, in steady seconds."""
        # A run that has returned does not put it off: that would mean a look for each.
        return self._look_at

    def end_overdue(self) -> None:
        """End jobs whose time is up.

        That is quick, and reports nothing yet; call it again between things that take longer.
        """
        now = clock.steady()
        if self._look_at > now:
            return
        with self._lock:
            overdue = sorted(
                (run for run in self._running if run.deadline <= now),
                key=lambda run: run.deadline,
            )
        frames = thread_frames() if overdue else {}
        for run in overdue:
            self._expire(run, frames.get(run.slot.ident))
        frames.clear()  # they refer to the locals of every thread
        with self._lock:
            for run in overdue:
                if run in self._running:
                    self._running.discard(run)
                    self._overdue[run] = None
            self._look_at = min((run.deadline for run in self._running), default=inf)

    def _expire(self, run: WatchedRun, frame: FrameType | None) -> None:
        # The stack is taken before the job is ended, and so while it ran.
        job, core = run.job, self._core
        runner = run.slot.coroutines.find(job)
        stack = [] if runner is None else coroutine_stack(runner.coroutine)
        error = JobTimeout(
            f"job {job.name} of pool {core.label} ran for more than {job.timeout:g} s",
            stack or stack_of(frame),
        )
        if expire(job, error, run.attempt, self, core):
            if job.done():  # else it is retried
                for each in (*job._watch().run_quick_callbacks(job), job):
                    self._reports.append(partial(self._finish, each))
            worker = core.workers.find(run.slot)
            name = None if worker is None else worker.thread.name
            self._reports.append(partial(self._report_timeout, job, name, error))

    def quarantine_stuck(self) -> None:
        """Have the threads replaced that are stuck in overdue jobs, and cancel coroutines."""
        core = self._core
        for run in list(self._overdue):
            worker = core.workers.find(run.slot)  # None: it is quarantined, or a guest
            with self._lock:
                is_stuck = run in self._overdue and run.job in run.slot.jobs()
                run.holds_place = False
                if is_stuck and worker is not None:
                    run.holds_place = not core.workers.quarantine(worker)
                if not run.holds_place:
                    self._overdue.pop(run, None)
            if is_stuck and not run.is_interrupted:
                run.is_interrupted = True
                runner = run.slot.coroutines.find(run.job)
                if runner is not None:
                    runner.cancel(run.job)

    def is_degraded(self) -> bool:
        """Return whether stuck threads take up places of workers."""
        return any(run.holds_place for run in list(self._overdue))

    def holds_overdue_job(self, slot: Slot) -> bool:
        """Return whether a thread that is in an overdue job keeps its place, at least for now."""
        return any(run.slot is slot for run in list(self._overdue))

    def report(self) -> None:
        """Run the callbacks of jobs that have timed out, in other threads; log and notify."""
        while self._reports:
            self._reports.popleft()()
            self.end_overdue()
        self._report_state()

    def _finish(self, job: Job[Any]) -> None:
        if not (job._watch().callbacks or job._policy.is_detached):
            release_call(job)
            return
        thread = run_in_thread(partial(self._run_callbacks, job), f"{self._core.label}-callbacks")
        if thread is not None:
            self._core.workers.await_at_end(thread)

    def _run_callbacks(self, job: Job[Any]) -> None:
        self._core.ending.mark_own_thread()
        finish_expired(job, self._core)

    def _report_timeout(self, job: Job[Any], worker: str | None, error: JobTimeout) -> None:
        log(logging.WARNING, "%s", error)
        self._core.events.notify("job_timed_out", worker=worker, job=job, error=error)

    def _report_state(self) -> None:
        core = self._core
        is_degraded, was_degraded = self.is_degraded(), self._was_degraded
        self._was_degraded = is_degraded
        if is_degraded and not was_degraded:
            what = "pool %s is degraded: stuck threads take up places of its workers"
            log(logging.ERROR, what, core.label)
            core.events.notify("pool_degraded")
        elif was_degraded and not is_degraded and core.state.closed_because is None:
            log(logging.INFO, "pool %s has all its workers again", core.label)
            core.events.notify("pool_recovered")
