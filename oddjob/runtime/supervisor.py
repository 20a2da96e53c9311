"""Supervisor: restarts crashed workers within ``max_restarts`` in ``max_seconds``.

One thread per pool, started with the first worker. It sleeps until a worker has ended, the time of
a job is up, a job or limit of the queue becomes due, or another thread notifies it of a change.

A crash costs the pool one worker for as long as it takes to start a thread. More than
``max_restarts`` crashes within ``max_seconds`` replace all workers, each after its current job;
more than ``max_restarts`` such restarts within ``max_seconds`` break the pool (the first is always
allowed). The limits, and their names, are those of an Erlang/OTP supervisor. While no worker gets
past its initializer, all crashes count as simultaneous: however slowly the initializer fails, the
pool breaks in the end.

Guarantees: an exception that is raised in this thread is logged, and the thread continues.
Locking: only its own thread uses the fields, except for `exits`, to which workers append, and
`thread`, which is written once, under the lock of `PoolState`.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from oddjob.events import EventKind
from oddjob.locks import Wakeup
from oddjob.log import log
from oddjob.runtime import lifecycle
from oddjob.runtime.execution import rescue_slot
from oddjob.runtime.job import Job
from oddjob.runtime.pool_ending import AFTER_EXIT
from oddjob.runtime.worker import Worker
from oddjob.runtime.worker_set import is_interpreters_end
from oddjob.schedule.clock import clock
from oddjob.threads import ServiceThread

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore

_FIRST_DELAY: Final = 0.01  # seconds between the first attempts to start a thread
_LONGEST_DELAY: Final = 5.0  # seconds


class SupervisorInfo(NamedTuple):
    """The limits of a pool's supervisor, and what it has seen so far.

    Attributes:
        name: the name of its thread.
        ident: the identifier of its thread; None before the thread has started.
        is_alive: whether the thread runs; it starts with the first worker.
        max_restarts: crashes tolerated within `max_seconds`.
        max_seconds: the length of that period, in seconds.
        crashes: how many workers have crashed.
        pool_restarts: how often all workers were replaced.
    """

    name: str
    ident: int | None
    is_alive: bool
    max_restarts: int
    max_seconds: float
    crashes: int
    pool_restarts: int


class RestartLimit:
    """Counts events, and detects more than `limit` of them within `seconds`."""

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit, self._seconds = limit, seconds
        self._recent: Final[deque[float]] = deque()

    def is_exceeded_by(self, now: float) -> bool:
        """Count an event at `now`, in steady seconds; return whether it exceeds the limit."""
        recent = self._recent
        recent.append(now)
        while recent[0] < now - self._seconds:
            recent.popleft()
        if len(recent) <= self._limit:
            return False
        recent.clear()
        return True


class Supervisor:
    """Replaces the workers that a pool loses."""

    def __init__(self, core: "PoolCore") -> None:
        limit, seconds = core.options.max_restarts, core.options.max_seconds
        self._core: Final = core
        self._crash_limit: Final = RestartLimit(limit, seconds)
        # With max_restarts=0 every crash exceeds the limit; still, the first only restarts all
        # workers.
        self._restart_limit: Final = RestartLimit(max(1, limit), seconds)
        self._wakeup: Final = Wakeup()
        self.wake: Final[Callable[[], None]] = (
            self._wakeup.release
        )  # raises RuntimeError if it is awake
        self.notify: Final = self._wakeup.set
        self.exits: Final[deque[Worker]] = deque()  # workers that have ended
        self.needs_workers = False  # there may be waiting jobs without a worker; set by any thread
        self._name: Final = f"{core.label}-supervisor"
        self._stuck_since: float | None = None
        self._start_delay = 0.0  # seconds; 0: the latest start of a thread has not failed
        self._try_start_at = inf  # steady seconds; inf: no start is to be tried again
        self.crashes: int = 0
        self.pool_restarts: int = 0
        self.thread: threading.Thread | None = None

    @property
    def info(self) -> SupervisorInfo:
        """The state of the supervisor now."""
        thread, options = self.thread, self._core.options
        return SupervisorInfo(
            name=self._name,
            ident=None if thread is None else thread.ident,
            is_alive=thread is not None and thread.is_alive(),
            max_restarts=options.max_restarts,
            max_seconds=options.max_seconds,
            crashes=self.crashes,
            pool_restarts=self.pool_restarts,
        )

    def ensure_thread(self) -> None:
        """Start the thread, if there is none; the caller holds no lock, as in `start_one`.

        Several callers may start one at the same time. The first that runs, or whose start has
        returned, is the supervisor; the others end. So nobody relies on a start that may fail.

        Raises:
            Exception: no thread could be started.
        """
        if self.thread is None:
            thread = ServiceThread(self._run, self._name)
            if self.thread is None:  # a signal handler may have submitted meanwhile
                thread.start()
                self._adopt(thread)

    def _adopt(self, thread: threading.Thread) -> None:
        """Make `thread` the supervisor, unless there is one."""
        state = self._core.state
        with state.lock:
            if self.thread is None:
                if not lifecycle.begin_threads(self._core):
                    state.closed_because = state.closed_because or AFTER_EXIT
                self.thread = thread

    def _run(self) -> None:
        thread = threading.current_thread()
        self._core.ending.mark_own_thread()
        while self.thread is None or self.thread is thread:
            try:
                if self.thread is None:
                    self._adopt(thread)
                elif not self._run_once():
                    return
            except BaseException as error:
                self._log(logging.ERROR, "the supervisor of pool %s was interrupted", error)

    def _run_once(self) -> bool:
        """Do all that is due, then sleep; return False when the pool has ended."""
        core = self._core
        while self.exits:
            self._handle_exit(self.exits[0])
            self.exits.popleft()
        core.ending.close_if_collected()
        core.watchdog.end_overdue()
        queue_due, waiters_due = core.open_due(), core.backpressure.refuse_overdue()
        core.watchdog.quarantine_stuck()
        self._replace_missing()
        if core.is_finished():
            core.dispatcher.wake_all()  # so that workers leave that parked before the last job
        core.watchdog.report()
        while core.workers.replaced:
            core.events.notify("worker_replaced", worker=core.workers.replaced.popleft())
        if core.ending.is_deserted():
            core.ending.join_last_threads()
            return False
        due = min(clock.steady_time_of(queue_due), waiters_due)
        self._wakeup.wait(min(core.watchdog.next_look, due, self._try_start_at))
        return True

    def _handle_exit(self, worker: Worker) -> None:
        """Clean up after a worker that has ended, and replace it if it has crashed."""
        core, slot = self._core, worker.slot
        crash, job = slot.crash, slot.job
        had_place = core.workers.remove(worker)
        if crash is not None:
            rescue_slot(slot, crash)
        if job is not None and job.done():  # otherwise it belongs to another thread by now
            core.give_back(job)
        core.dispatcher.search_done()  # it may have been woken to search, and ended before
        core.wake_waiters()  # a thread that waits in place may have relied on this worker
        core.metrics.close(slot.metrics)
        slot.job = slot.crash = None
        if crash is not None and had_place:
            self._handle_crash(crash, worker, job)

    def _handle_crash(self, crash: BaseException, worker: Worker, job: Job[object] | None) -> None:
        """Replace one worker or all, or break the pool, as the restart limits demand."""
        core, name, now = self._core, worker.thread.name, self._crash_time(worker)
        self.crashes += 1
        pool_event: EventKind | None = None
        if not self._crash_limit.is_exceeded_by(now):
            level, message = logging.WARNING, "pool %s: worker %s crashed and was replaced"
        elif not self._restart_limit.is_exceeded_by(now):
            level, message = (
                logging.ERROR,
                "pool %s: too many crashes (%s): all workers are replaced",
            )
            pool_event = "pool_restarted"
            self.pool_restarts += 1
            core.workers.retire_all()
        else:
            level, message = logging.CRITICAL, "pool %s is broken: its workers kept crashing (%s)"
            pool_event = "pool_broken"
            core.ending.break_down(crash)
        self._replace_missing()
        self._log(level, message, crash, name)
        core.events.notify("worker_crashed", worker=name, job=job, error=crash)
        if pool_event is not None:
            core.events.notify(pool_event, error=crash)

    def _crash_time(self, crashed: Worker) -> float:
        """Return when a worker has crashed, in steady seconds, for the limits.

        While no worker gets past its initializer, that is the time of the first crash.
        """
        if any(worker.has_begun for worker in (crashed, *self._core.workers.all())):
            self._stuck_since = None
            return clock.steady()
        if self._stuck_since is None:
            self._stuck_since = clock.steady()
        return self._stuck_since

    def _replace_missing(self) -> None:
        """Start the missing workers; if that fails, try again after growing delays."""
        core = self._core
        if self._start_delay and clock.steady() < self._try_start_at:
            return
        try:
            for _ in range(core.workers.missing()):
                core.workers.start_one()
                core.watchdog.end_overdue()
        except Exception as error:
            if is_interpreters_end(error):
                # No thread can be started any more: run the queue here, unless a worker does.
                if core.state.closed_because is not None and not core.workers.all():
                    core.workers.serve_here()
                return
            if not self._start_delay:
                message = "no thread could be started for pool %s, will go on trying"
                self._log(logging.ERROR, message, error)
            self._start_delay = min(max(_FIRST_DELAY, self._start_delay * 2), _LONGEST_DELAY)
            self._try_start_at = clock.steady() + self._start_delay
        else:
            self._start_delay, self._try_start_at = 0.0, inf

    def _log(self, level: int, message: str, error: BaseException, *details: object) -> None:
        log(level, message, self._core.label, *details, error=error)
