"""PoolState: whether a pool takes jobs; PoolEnding: what closes, drains, breaks or revives it.

A pool is *closed* by its user, by the garbage collector or at exit: it takes no more jobs, and runs
those that are queued. It is *broken* by too many crashes: its queued jobs fail. It is *deserted*
once it is closed, with nothing left to do and no worker left: its supervisor joins its last threads
and ends, and `join` returns.

====================  ====================================================================
`close`               take no more jobs, cancel the timers
`shut_down`           `close`, and cancel the queued jobs if asked to
`begin_drain`         `close`, and leave stored jobs that have not started to other processes
`drain`               `begin_drain`, wait, cancel what is still queued
`close_at_exit`       `begin_drain`, as the process ends
`drain_at_exit`       wait for ``exit_timeout``, cancel what is still queued
`close_if_collected`  `close` an anonymous pool that was garbage-collected
`break_down`          take no more jobs, fail the queued ones, make all workers leave
`restart`             replace all workers, and revive a broken pool
====================  ====================================================================
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
    since a signal handler or destructor may submit while its thread holds it. No user code and no
    logging runs under it. The fields may be read without it: workers and submitters do so, and read
    them again after they have parked or queued a job.
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
        """Return the exception with which the pool refuses jobs; None if it takes them."""
        if self.closed_because is not None:
            closed = PoolClosed(self.closed_because)
            closed.add_note(f"pool: {self.label}")
            return closed
        return None if self.broken_by is None else self.breakdown()

    def check_open(self) -> None:
        """Raise the exception with which the pool refuses jobs, if it refuses them."""
        refusal = self.refusal()
        try:
            if refusal is not None:
                raise refusal
        finally:
            del refusal  # its traceback refers to this frame

    def breakdown(self) -> PoolBroken:
        """Return a new exception for the jobs of a broken pool; its cause is the last crash."""
        why = "its workers kept crashing; restart() revives it"
        broken = PoolBroken(f"pool {self.label} is broken: {why}")
        broken.__cause__ = self.broken_by
        return broken


class DrainReport(NamedTuple):
    """What became of the jobs that were queued or running when a drain began.

    Attributes:
        finished: jobs that have succeeded or failed.
        cancelled: jobs that the drain has cancelled: they had not started when its time was up.
        running: jobs that were running then; the drain no longer waits for them.
        timers: timers that the drain has cancelled: they had not fired.

    A job that is cancelled in another way during the drain, as by `Job.cancel`, is in no list.
    """

    finished: list[Job[Any]]
    cancelled: list[Job[Any]]
    running: list[Job[Any]]
    timers: list[Timer]


class PoolEnding:
    """The end of one pool: it closes, drains, breaks and revives it."""

    def __init__(self, core: "PoolCore") -> None:
        self._core: Final = core
        self._is_abandoned = False  # the end of the process does not wait for its running jobs
        self._exit_deadline = inf  # steady seconds
        self._calling_thread: Final = threading.local()
        # Set by the supervisor at its end. (Its thread does not do: before CPython 3.13, a thread
        # counts as ended once Ctrl-C has interrupted a `join` of it.)
        self._is_over: Final = threading.Event()

    def shut_down(self, *, cancel_queued: bool, will_wait: bool) -> None:
        """Take no more jobs; run those that are queued, or cancel them.

        With `cancel_queued` and without `will_wait`, not even the end of the process waits for the
        running jobs.
        """
        if cancel_queued and not will_wait:
            self._is_abandoned = True
        self.close(AFTER_SHUTDOWN)
        if cancel_queued:
            if self._core.store is not None:
                self._core.store.cancel_all()
            self._cancel_queue()

    def close(self, why: str, *, hands_back: bool = False) -> list[Timer]:
        """Take no more jobs; return the timers that this has cancelled.

        Args:
            why: the message for refused jobs.
            hands_back: whether jobs of a store that have not started are left to other processes.
        """
        core = self._core
        with core.state.lock:
            is_first = core.state.closed_because is None
            if is_first:
                core.state.closed_because = why
            core.intake.refresh()
        if core.store is not None:
            core.store.close(hands_back=hands_back)
        core.backpressure.turn_away()
        with suppress(Exception):  # if no thread can be started, the supervisor runs the queue
            core.workers.resume()
        core.dispatcher.wake_all()
        core.supervisor.notify()
        if is_first:
            core.events.notify("pool_closed")
        # After the state has changed: a timer that is set from now on is refused.
        timers = cancel_timers(core)
        if timers:
            message = "pool %s is closed; timers cancelled (%d): %s"
            log(logging.INFO, message, core.label, len(timers), timers[:_LISTED])
        return timers

    def begin_drain(self) -> list[Timer]:
        """Take no more jobs, and start none of a store; return the timers that this cancels."""
        return self.close(AFTER_SHUTDOWN, hands_back=True)

    def drain(self, timeout: float | None) -> DrainReport:
        """Take no more jobs, run queued jobs for `timeout` seconds, and cancel the rest."""
        core = self._core
        if self.is_own_thread():
            raise RuntimeError(
                "a thread of a pool (a job, a callback, its on_event) cannot wait for the pool's "
                "own end; use shutdown(wait=False)"
            )
        timers = self.begin_drain()
        queued = core.dispatcher.waiting()  # first: a job that starts meanwhile is not missed
        jobs = [*core.running(), *queued]
        cancelled: list[Job[Any]] = []
        has_ended = False
        try:
            has_ended = self.join(timeout)
        finally:
            if not has_ended:  # the time is up, or the wait was interrupted
                self._is_abandoned = True
                cancelled = self._cancel_queue()
                self._abandon_stored()
                jobs += core.running()
        known = dict.fromkeys(jobs)
        finished = [job for job in known if job.done() and not job.cancelled()]
        running = [job for job in known if not job.done()]
        return DrainReport(finished, cancelled, running, timers)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the last thread has ended; return False after `timeout` seconds.

        A thread of the pool itself does not wait: it gets False.
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
        return self._is_over.is_set()

    def close_at_exit(self) -> list[Timer]:
        """Take no more jobs, since the process ends; return the timers that this has cancelled."""
        timeout = self._core.options.exit_timeout
        if timeout is not None:
            self._exit_deadline = clock.steady() + timeout
        return self.close(AFTER_EXIT, hands_back=True)

    def drain_at_exit(self) -> None:
        """Wait until all jobs have ended; after ``exit_timeout``, cancel those that are queued."""
        core = self._core
        if self._is_abandoned:
            self._abandon_stored()
            return
        if not self.join(max(0.0, self._exit_deadline - clock.steady())):
            queued, running = len(core.dispatcher.waiting()), len(core.running())
            message = "pool %s: the time for its end is up; jobs: %d cancelled, %d left running"
            log(logging.WARNING, message, core.label, queued, running)
            self._cancel_queue()
            self._abandon_stored()

    def _abandon_stored(self) -> None:
        if self._core.store is not None:
            self._core.store.abandon()

    def break_down(self, cause: BaseException) -> None:
        """Break the pool: take no more jobs, fail those that are queued, make all workers leave."""
        core = self._core
        with core.state.lock:
            core.state.broken_by = cause
            core.intake.refresh()
        if core.store is not None:
            core.store.break_down()  # its jobs are left to other processes
        jobs = core.dispatcher.waiting()
        for job in jobs:
            core.dispatcher.remove(job)
            try:
                refuse(job, core.state.breakdown(), core)
            except BaseException as error:  # the other jobs must end as well
                log(logging.ERROR, "a callback of job %s raised", job.name, error=error)
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
        """Mark the calling thread as one for which the end of the pool waits."""
        self._calling_thread.is_own = True

    def is_own_thread(self) -> bool:
        """Return whether the pool's end waits for the calling thread.

        It does for workers, the supervisor, and threads that run callbacks.
        """
        return getattr(self._calling_thread, "is_own", False) or slot_of(self._core) is not None

    def close_if_collected(self) -> None:
        """Close the pool if it was anonymous and has been garbage-collected."""
        if self._core.pool is None and self._core.state.closed_because is None:
            self.close(AFTER_SHUTDOWN)

    def is_deserted(self) -> bool:
        """Return whether the pool is closed, with nothing left to do and no worker left."""
        core = self._core
        with core.state.lock:
            if core.state.closed_because is None or core.workers.all() or core.running():
                return False
            return core.state.broken_by is not None or core.is_finished()

    def join_last_threads(self) -> None:
        """Wait for the last threads, then let `join` return, and the process end."""
        for thread in self._core.workers.threads():
            if thread is not threading.current_thread():
                thread.join()
        lifecycle.end_threads(self._core)
        self._is_over.set()

    def _cancel_queue(self) -> list[Job[Any]]:
        """Cancel all queued jobs; return those that this has cancelled.

        An exception of a callback is raised once all jobs are cancelled.
        """
        cancelled = [job for job in self._core.dispatcher.waiting() if settle_cancelled(job)]
        call_all(partial(run_callbacks, job) for job in cancelled)
        return cancelled
