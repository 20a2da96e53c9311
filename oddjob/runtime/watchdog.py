"""Watchdog: ends the jobs whose time is up, and has their threads replaced.

A thread cannot be stopped from outside. So a worker that is stuck in a job past its timeout is
*quarantined*: the job ends with `JobTimeout`, which has the stack of the thread; the worker loses
its place to a new one, and leaves if its job ever returns. At most ``max_abandoned`` workers are
quarantined. A further stuck worker keeps its place, and the pool is *degraded* until a stuck job
returns.

Guarantees: an attempt ends once, by its timeout or by its thread; see `JobDetails.conclude`.
Locking: the lock of `PoolState` guards the runs; a thread that only reads them copies them with
``list``. The threads that run jobs call `watch` and `unwatch`, the supervisor everything else.
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
from oddjob.runtime.job import Job
from oddjob.runtime.settling import finish_failed, release_call, settle_timed_out
from oddjob.runtime.slot import Slot
from oddjob.schedule.clock import clock
from oddjob.tracebacks import coroutine_stack, stack_of, thread_frames

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


class WatchedRun:
    """One attempt of a job with a timeout."""

    def __init__(self, job: Job[Any], attempt: int, deadline: float, slot: Slot) -> None:
        self.job: Final = job
        self.attempt: Final = attempt
        self.deadline: Final = deadline  # steady seconds
        self.slot: Final = slot
        self.is_overdue = False  # its time is up, and `_expire` has run for it
        self.is_interrupted = False  # its coroutine was cancelled
        self.holds_place = False  # its stuck worker keeps its place: too many are quarantined


class Watchdog:
    """Watches the attempts of one pool; there are hardly more of them than workers."""

    def __init__(self, core: "PoolCore") -> None:
        self._core: Final = core
        self._lock: Final = core.state.lock
        # The attempts that have not returned and whose threads are not quarantined.
        self._runs: Final[dict[WatchedRun, None]] = {}
        # When the next timeout is reached, in steady seconds. It may be too early: an attempt that
        # returns does not change it, since that would take a look at all others.
        self.next_look: float = inf
        self._reports: Final[deque[Callable[[], None]]] = deque()  # on overdue attempts
        self._was_degraded = False

    def watch(self, job: Job[Any], attempt: int, slot: Slot) -> WatchedRun | None:
        """Watch an attempt that the calling thread is about to run."""
        timeout = job._policy.timeout
        if timeout is None or (slot.is_guest and inline.is_on()):
            return None
        run = WatchedRun(job, attempt, clock.steady() + timeout, slot)
        job._ensure_details().deadline = run.deadline
        with self._lock:
            self._runs[run] = None
            is_sooner = run.deadline < self.next_look
            self.next_look = min(self.next_look, run.deadline)
        if is_sooner:
            self._core.supervisor.notify()
        return run

    def unwatch(self, run: WatchedRun) -> None:
        """Stop watching an attempt that is over."""
        with self._lock:
            self._runs.pop(run, None)
        if run.holds_place:
            self._core.supervisor.notify()

    def end_overdue(self) -> None:
        """End the jobs whose time is up, quickly; `report` runs user code for them later."""
        now = clock.steady()
        if self.next_look > now:
            return
        with self._lock:
            overdue = [run for run in self._runs if run.deadline <= now and not run.is_overdue]
        overdue.sort(key=lambda run: run.deadline)
        frames = thread_frames() if overdue else {}
        for run in overdue:
            self._expire(run, frames.get(run.slot.ident))
        frames.clear()  # they refer to the locals of every thread
        with self._lock:
            for run in overdue:
                run.is_overdue = True
            in_time = (run.deadline for run in self._runs if not run.is_overdue)
            self.next_look = min(in_time, default=inf)

    def _expire(self, run: WatchedRun, frame: FrameType | None) -> None:
        # The stack was taken before the job ends, and so while it was running.
        job, core = run.job, self._core
        coroutine = run.slot.coroutines.coroutine_of(job)
        stack = [] if coroutine is None else coroutine_stack(coroutine)
        error = JobTimeout(
            f"job {job.name} of pool {core.label} ran for more than {job.timeout:g} s",
            stack or stack_of(frame),
        )
        ended = settle_timed_out(job, error, run.attempt, run.slot, core)
        if ended is not None:
            self._reports.extend(partial(self._finish, each) for each in ended)
            worker = core.workers.find(run.slot)
            name = None if worker is None else worker.thread.name
            self._reports.append(partial(self._report_timeout, job, name, error))

    def quarantine_stuck(self) -> None:
        """Quarantine the workers that are stuck in overdue jobs, and cancel coroutines."""
        core = self._core
        for run in self._overdue():
            worker = core.workers.find(run.slot)  # None: it has left, or the slot is a guest's
            with self._lock:
                is_stuck = run in self._runs and run.slot.job is run.job
                keeps_place = False
                if is_stuck and worker is not None:
                    keeps_place = not core.workers.quarantine(worker)
                run.holds_place = keeps_place
                if not keeps_place:
                    self._runs.pop(run, None)
            if is_stuck and not run.is_interrupted:
                run.is_interrupted = True
                run.slot.coroutines.cancel(run.job)

    def is_degraded(self) -> bool:
        """Return whether stuck workers keep their places."""
        return any(run.holds_place for run in self._overdue())

    def holds_overdue_job(self, slot: Slot) -> bool:
        """Return whether a thread is in an overdue job and is not quarantined, or not yet."""
        return any(run.slot in slot.with_nested() for run in self._overdue())

    def _overdue(self) -> list[WatchedRun]:
        return [run for run in list(self._runs) if run.is_overdue]

    def report(self) -> None:
        """Run the callbacks of jobs that have timed out, in other threads; log and notify.

        Log handlers and ``on_event`` may be slow. So `end_overdue` runs after each report, and a
        timeout is delayed by one of them at most.
        """
        while self._reports:
            self._reports.popleft()()
            self.end_overdue()
        is_degraded, was_degraded = self.is_degraded(), self._was_degraded
        self._was_degraded = is_degraded
        if is_degraded and not was_degraded:
            message = "pool %s is degraded: stuck threads take up places of its workers"
            log(logging.ERROR, message, self._core.label)
            self._core.events.notify("pool_degraded")
        elif was_degraded and not is_degraded and self._core.state.closed_because is None:
            log(logging.INFO, "pool %s has all its workers again", self._core.label)
            self._core.events.notify("pool_recovered")

    def _finish(self, job: Job[Any]) -> None:
        core = self._core
        if not (job._ensure_shared().callbacks or job._policy.is_detached):
            release_call(job)
            return

        def finish() -> None:
            core.ending.mark_own_thread()
            finish_failed(job, core)

        thread = run_in_thread(finish, f"{core.label}-callbacks")
        if thread is not None:
            core.workers.join_at_end(thread)

    def _report_timeout(self, job: Job[Any], worker: str | None, error: JobTimeout) -> None:
        log(logging.WARNING, "%s", error)
        self._core.events.notify("job_timed_out", worker=worker, job=job, error=error)
