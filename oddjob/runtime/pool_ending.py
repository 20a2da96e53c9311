"""PoolState: whether a pool takes jobs; PoolEnding: how it comes to its end, or is revived.

A pool is *closed* by its user (`shut_down`, `drain`), by the garbage collector or at exit: it takes
no more jobs, and runs those that are queued. It is *broken* by too many crashes: those that are
queued fail, and `restart` revives it. When it is *deserted* (closed, with nothing to do and no
worker left), its supervisor finishes it and ends; `join` waits for that.
"""

import logging
import threading
from contextlib import suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from oddjob.callables import call_all
from oddjob.errors import PoolBroken, PoolClosed
from oddjob.log import log
from oddjob.runtime import lifecycle
from oddjob.runtime.job import Job
from oddjob.runtime.settling import refuse, run_callbacks, settle_cancelled
from oddjob.runtime.slot import slot_of
from oddjob.schedule.clock import clock
from oddjob.schedule.timer import Timer, cancel_timers

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore

AFTER_SHUTDOWN: Final = "cannot schedule new futures after shutdown"
AFTER_EXIT: Final = "cannot schedule new futures after interpreter shutdown"
_LISTED: Final = 10  # timers that a message names


class PoolState:
    """Whether a pool takes jobs: it is open, closed or broken.

    Locking: ``lock`` guards the fields, and those of `WorkerSet` and `Watchdog`. It is reentrant,
    since a signal handler or destructor may submit while its thread holds it. Nothing of the
    user's is called under it and nothing is logged. The fields may be read without it; workers and
    submitters do so, and look again after they have parked, or queued.
    """

    __slots__ = ("broken_by", "closed_because", "label", "lock")

    def __init__(self, label: str) -> None:
        self.label: Final = label
        self.lock: Final = threading.RLock()
        self.closed_because: str | None = None
        self.broken_by: BaseException | None = None

    @property
    def is_open(self) -> bool:
        """Whether the pool takes jobs."""
        return self.closed_because is None and self.broken_by is None

    def refusal(self) -> Exception | None:
        """Return why the pool takes no jobs, as an exception to raise; None if it does."""
        if self.closed_because is not None:
            closed = PoolClosed(self.closed_because)
            closed.add_note(f"pool: {self.label}")
            return closed
        return None if self.broken_by is None else self.breakdown()

    def check_open(self) -> None:
        """Raise why the pool takes no jobs, if it takes none."""
        refusal = self.refusal()
        try:
            if refusal is not None:
                raise refusal
        finally:
            del refusal  # its traceback refers to this frame

    def breakdown(self) -> PoolBroken:
        """Return what broke the pool, as an exception to raise or to settle a job with."""
        broken = PoolBroken(f"pool {self.label} is broken: its workers kept crashing")
        broken.__cause__ = self.broken_by
        return broken


class DrainReport(NamedTuple):
    """What became of the jobs that were queued or running when a drain began.

    Attributes:
        finished: jobs that have succeeded or failed.
        cancelled: jobs that had not started when the time was up.
        running: jobs that had not ended by then, and are not waited for.
        timers: timers that had not fired, and were cancelled.
    """

    finished: list[Job[Any]]
    cancelled: list[Job[Any]]
    running: list[Job[Any]]
    timers: list[Timer]


class PoolEnding:
    """What closes, drains, breaks, revives and finishes one pool."""

    def __init__(self, core: "PoolCore") -> None:
        self._core: Final = core
        self._skips_exit = False  # the end of the process does not wait for what is running
        self._exit_deadline = inf  # steady seconds
        self._own_threads: Final = threading.local()
        # Before CPython 3.13, a thread counts as ended once Ctrl-C has interrupted a `join` of it.
        self._is_over: Final = threading.Event()

    def shut_down(self, *, cancel_queued: bool, will_wait: bool) -> None:
        """Take no more jobs; run those that are queued, or cancel them.

        If `will_wait` is false as well, not even the end of the process waits for the others.
        """
        if cancel_queued and not will_wait:
            self._skips_exit = True
        self.close(AFTER_SHUTDOWN)
        if cancel_queued:
            if self._core.store is not None:
                self._core.store.cancel_all()
            self._cancel_queue()

    def close(self, why: str) -> list[Timer]:
        """Take no more jobs; return the timers that were cancelled for that."""
        core = self._core
        with core.state.lock:
            is_first = core.state.closed_because is None
            if is_first:
                core.state.closed_because = why
            core.intake.refresh()
        if core.store is not None:
            core.store.close(hands_back=why is AFTER_EXIT)
        core.backpressure.turn_away()
        with suppress(Exception):  # where no thread can be started, the supervisor runs the queue
            core.workers.resume()
        core.dispatcher.wake_all()
        core.supervisor.notify()
        if is_first:
            core.events.notify("pool_closed")
        # Afterwards: a timer that is set in between finds the pool closed, and is refused.
        timers = cancel_timers(core)
        if timers:
            what = "pool %s is closed: %d timers cancelled: %s"
            log(logging.INFO, what, core.label, len(timers), timers[:_LISTED])
        return timers

    def begin_drain(self) -> list[Timer]:
        """Take no more jobs, and begin none of a store; return the timers that were cancelled."""
        timers = self.close(AFTER_SHUTDOWN)
        if self._core.store is not None:
            # Other processes, or the next one, will run them.
            self._core.store.close(hands_back=True)
        return timers

    def drain(self, timeout: float | None) -> DrainReport:
        """Take no more jobs, run what is queued for `timeout` seconds, and cancel the rest."""
        core = self._core
        if self.is_own_thread():
            raise RuntimeError(
                "a thread of a pool (a job, a callback, its on_event) cannot wait for the pool's "
                "own end; use shutdown(wait=False)"
            )
        timers = self.begin_drain()
        queued = core.dispatcher.waiting()  # first: so a job that starts meanwhile is not missed
        jobs = [*core.running(), *queued]
        cancelled: list[Job[Any]] = []
        has_ended = False
        try:
            has_ended = self.join(timeout)
        finally:  # the time is up, or the wait was interrupted
            if not has_ended:
                self._skips_exit = True
                cancelled = self._cancel_queue()
                self._abandon_stored()
                jobs += core.running()
        known = dict.fromkeys(jobs)
        finished = [job for job in known if job.done() and not job.cancelled()]
        running = [job for job in known if not job.done()]
        return DrainReport(finished, cancelled, running, timers)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the last thread has ended; return False after `timeout` seconds.

        On a thread of the pool's own there is no waiting, and the answer is False.
        """
        deadline = inf if timeout is None else clock.steady() + timeout
        is_own, store = self.is_own_thread(), self._core.store
        if store is not None and not store.join(0.0 if is_own else deadline):
            return False
        thread = self._core.supervisor.thread
        if thread is None:
            return True
        if not is_own:
            left = None if deadline == inf else max(0.0, deadline - clock.steady())
            if self._is_over.wait(None if left is None else min(left, threading.TIMEOUT_MAX)):
                thread.join()
        return not thread.is_alive()

    def close_at_exit(self) -> list[Timer]:
        """Take no more jobs, since the process ends; return the timers that were cancelled."""
        timeout = self._core.options.exit_timeout
        if timeout is not None:
            self._exit_deadline = clock.steady() + timeout
        return self.close(AFTER_EXIT)

    def finish_at_exit(self) -> None:
        """Wait until the queue has been run; when the time for that is up, cancel the rest."""
        core = self._core
        if self._skips_exit:
            self._abandon_stored()
            return
        if not self.join(max(0.0, self._exit_deadline - clock.steady())):
            queued, running = len(core.dispatcher.waiting()), len(core.running())
            what = "pool %s: the time for its end is up: %d jobs cancelled, %d left running"
            log(logging.WARNING, what, core.label, queued, running)
            self._cancel_queue()
            self._abandon_stored()

    def _abandon_stored(self) -> None:
        if self._core.store is not None:
            self._core.store.abandon()

    def break_down(self, cause: BaseException) -> None:
        """Become broken: take no more jobs, fail those that wait, and let all workers leave."""
        core = self._core
        with core.state.lock:
            core.state.broken_by = cause
            core.intake.refresh()
        if core.store is not None:
            core.store.break_down()  # other processes may have more luck
        jobs = core.dispatcher.waiting()
        for job in jobs:
            core.dispatcher.remove(job)
            with suppress(BaseException):  # of a callback
                refuse(job, core.state.breakdown(), core)
        if core.dispatcher.limited is not None:
            core.dispatcher.limited.tidy()
        core.backpressure.turn_away()
        core.workers.retire_all()

    def restart(self) -> None:
        """Replace all workers, each after its job; revive the pool if it is broken.

        Raises:
            PoolClosed: the pool has been closed.
        """
        core, state = self._core, self._core.state
        with state.lock:
            was_broken = state.closed_because is None and state.broken_by is not None
            if was_broken:
                state.broken_by = None
                core.intake.refresh()
            state.check_open()
        core.workers.retire_all()
        core.supervisor.notify()
        core.events.notify("pool_recovered" if was_broken else "pool_restarted")

    def mark_own_thread(self) -> None:
        """Remember that the end of the pool has to wait for the calling thread."""
        self._own_threads.is_own = True

    def is_own_thread(self) -> bool:
        """Return whether the calling thread is one that the pool's end waits for, as workers."""
        return getattr(self._own_threads, "is_own", False) or slot_of(self._core) is not None

    def close_if_collected(self) -> None:
        """Close the pool if it was anonymous, and has been garbage-collected."""
        if self._core.pool is None and self._core.state.closed_because is None:
            self.close(AFTER_SHUTDOWN)

    def is_deserted(self) -> bool:
        """Return whether the pool is closed, with nothing left to do, and no thread to do it."""
        core = self._core
        with core.state.lock:
            is_needed = core.state.broken_by is None and not core.is_finished()
            is_busy = core.workers.all() or core.running()
            return core.state.closed_because is not None and not (is_needed or is_busy)

    def finish(self) -> None:
        """Wait for the last threads, and forget the pool."""
        for thread in self._core.workers.threads():
            if thread is not threading.current_thread():
                thread.join()
        lifecycle.end_threads(self._core)
        self._is_over.set()

    def _cancel_queue(self) -> list[Job[Any]]:
        """Cancel what is queued; return what was not cancelled before.

        What a callback raises is raised when all of them are cancelled.
        """
        cancelled = [job for job in self._core.dispatcher.waiting() if settle_cancelled(job)]
        call_all(partial(run_callbacks, job) for job in cancelled)
        return cancelled
