"""Workforce: everything of a pool that must outlive the object in the user's hands.

Worker threads and jobs hold the workforce, never the pool: so an anonymous pool that nobody can
reach is collected, and its workforce finishes the queue and goes home.
"""

import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Final

from oddjob import timer
from oddjob.errors import PoolClosed
from oddjob.job import Job
from oddjob.log import say
from oddjob.schedule.clock import clock
from oddjob.settings import PoolOptions
from oddjob.settling import settle_all
from oddjob.stats import PoolStats
from oddjob.timer import Timer
from oddjob.workforce import inline, lifecycle
from oddjob.workforce.arrivals import Arrivals
from oddjob.workforce.report import DrainReport
from oddjob.workforce.roster import AFTER_EXIT, AFTER_SHUTDOWN, Roster, is_interpreters_end
from oddjob.workforce.service import Service
from oddjob.workforce.supervisor import Supervisor, SupervisorInfo
from oddjob.workforce.survey import survey
from oddjob.workforce.worker import WorkerInfo

__all__ = ["Workforce", "look_around_everywhere", "workforces"]

_LISTED: Final = 10  # timers that a message names


class Workforce(Service):
    """One pool's queue, workers and supervisor.

    Locking: none of its own; the roster's lock guards the cold paths. ``accept`` takes no lock
    while the roster is steady.
    """

    __slots__ = (
        "__weakref__",
        "_admission",
        "_discarded",
        "_exit_by",
        "_supervisor",
    )

    def __init__(self, options: PoolOptions, name: str | None, label: str, pool: Any) -> None:
        self.name = name
        self._options = options
        self._born = -inf
        self._begin(label, pool)
        lifecycle.watch(self)

    def _begin(self, label: str, pool: Any) -> None:
        options = self._options
        self.roster = Roster(options, label)
        self._supervisor = Supervisor(
            self.roster,
            options.max_restarts,
            options.max_seconds,
            self._close_if_abandoned,
            self._bury,
        )
        self._admission = Arrivals(self.roster, options.when_full, options.submit_timeout)
        self._discarded = False
        self._exit_by: float | None = None
        letters = self.roster.letters
        # The callback may strike anywhere, so it only writes a letter; that needs no lock.
        self._pool = weakref.ref(pool, lambda _: letters.put(None))

    def begin_anew(self) -> None:
        """In a forked child: no threads, no jobs, no locks that somebody else holds."""
        pool = self._pool()
        former = self.roster
        self._born = clock.monotonic()
        for worker in former.workers:
            if worker is not None:
                worker.leaving = True  # the one that has forked must not take its parent's jobs
        if pool is not None:
            self._begin(former.label, pool)
            self.roster.herald.observer = former.herald.observer
            if former.queue.agenda is not None:
                self.roster.organise()
            if former.closed is not None:
                self.roster.close(former.closed)

    # Taking jobs in.

    def accept(self, job: Job[Any]) -> None:
        """Queue a job and see that somebody comes for it.

        Raises:
            PoolClosed, PoolBroken: the job has not been queued, or not any more.
            QueueFull: there was no room, or not in time.
            Exception: no thread could be started, and there is none; it has not been queued.
        """
        roster = self.roster
        queue = roster.queue
        try:
            if roster.steady:
                queue.jobs.append(job)
                if queue.idle:
                    queue.wake_one()
                if not roster.steady:
                    self._reconsider(job)
            elif roster.is_free and queue.idle:
                queue.jobs.append(job)
                if not (queue.wake_one() and roster.is_free):
                    self._reconsider(job)
            elif roster.bounded_door is not None and roster.bounded_door.enter_one(job):
                if not roster.is_open:
                    self._admission.see_that_it_is_open()
            else:
                self._admit([job])
        except BaseException:
            job.withdraw()  # interrupted, it may have been queued: whoever takes it drops it
            raise

    def accept_many(self, jobs: Sequence[Job[Any]]) -> None:
        """Queue jobs in one insertion, with nothing between them; raises like `accept`."""
        try:
            self._admit(jobs)
        except BaseException:
            for job in jobs:
                job.withdraw()
            raise

    async def accept_in_loop(self, job: Job[Any]) -> None:
        """Queue a job; waits for room without holding up the event loop. Raises like `accept`."""
        try:
            if self.roster.door is None or inline.is_on():
                self._admit([job])
            else:
                self._man_for([job])
                await self._admission.wait_in_loop([job])
        except BaseException:
            job.withdraw()
            raise

    def stand_by(self) -> None:
        """Have a worker, though there are no jobs yet; raises like `accept`."""
        self._man_for(())
        with self.roster.lock:
            if not self.roster.staff():
                self.roster.hire()

    def take_up(
        self, jobs: Sequence[Job[Any]], note: Callable[[Exception], object]
    ) -> Exception | None:
        """Queue jobs of a timer, without waiting; returns why they were not, and have ended so.

        If that turns out later, `note` is told.
        """
        try:
            if inline.is_on():
                self._admission.run_unattended(jobs)
                return None
            if self.roster.steady:
                self.roster.queue.jobs.extend(jobs)
                self.roster.queue.wake(len(jobs))
                return None if self.roster.is_open else self._admission.look_back(jobs)
            self._man_for(jobs)
            if self.roster.door is not None:
                return self._admission.enter_unattended(jobs, note)
        except Exception as error:
            self._admission.end(jobs, error)
            return error
        return None

    def _admit(self, jobs: Sequence[Job[Any]]) -> None:
        """The careful way in."""
        if inline.is_on():
            refusal = self.roster.refusal()
            if refusal is not None:
                raise refusal
            for job in jobs:
                self._admission.run_here(job)
            return
        door = self.roster.door
        if door is None or not (self.roster.is_open and self.roster.is_staffed):
            self._man_for(jobs)
        if door is not None:
            self._admission.pass_door(jobs)

    def _man_for(self, jobs: Sequence[Job[Any]]) -> None:
        """Make sure that somebody comes for them, and queue them where the queue has no bound."""
        roster = self.roster
        with roster.lock:
            begins = self._supervisor.thread is None
            if begins and roster.is_open and not lifecycle.enrol(self):
                roster.close(AFTER_EXIT)
            refusal = roster.refusal()
            if refusal is not None:
                raise refusal
            if begins:
                try:
                    self._supervisor.start()
                except BaseException:
                    lifecycle.strike_off(self)
                    raise
            failure = self._hire_for(len(jobs))
            if failure is not None and not roster.staff():
                if is_interpreters_end(failure):
                    raise PoolClosed(AFTER_EXIT) from failure
                raise failure
            if roster.door is None:
                roster.queue.jobs.extend(jobs)
        if roster.door is None:
            roster.queue.wake(len(jobs))
        self._report_understaffed(failure)

    def _reconsider(self, job: Job[Any]) -> None:
        """A job was queued without the lock, and things may have changed meanwhile.

        If the pool has closed, a job that is still queued may have missed the last worker: it is
        taken back. One that is no longer queued was accepted. If nobody could be woken for it,
        and there is a place for another worker, that is filled.
        """
        roster = self.roster
        failure = None
        with roster.lock:
            refusal = roster.refusal()
            if refusal is None and roster.queue.has_jobs():
                failure = self._hire_for(1)
        if refusal is not None and roster.queue.take_back(job):
            raise refusal
        self._report_understaffed(failure)

    def _hire_for(self, count: int) -> Exception | None:
        """Start as many workers as `count` jobs need that idle ones cannot take."""
        roster = self.roster
        try:
            for _ in range(min(count - len(roster.queue.idle), roster.places())):
                roster.hire()
        except Exception as failure:
            return failure
        return None

    def _report_understaffed(self, failure: Exception | None) -> None:
        if failure is not None and not is_interpreters_end(failure):
            label = self.roster.label
            say(logging.WARNING, "pool %s could not start another worker", label, error=failure)

    def restart(self) -> None:
        """Replace all workers, and revive the pool if it is broken."""
        roster = self.roster
        with roster.lock:
            was_broken = roster.closed is None and roster.broken is not None
            if was_broken:
                roster.revive()
            refusal = roster.refusal()
        if refusal is not None:
            raise refusal
        roster.retire_all()
        roster.letters.put(None)
        roster.herald.tell("recovered" if was_broken else "pool_restart")

    # The end.

    def close(self, *, cancel_queued: bool = False, wait: bool = True) -> None:
        """Take no more jobs; run or cancel those that are queued."""
        if cancel_queued and not wait:
            self._discarded = True
        self._close(AFTER_SHUTDOWN)
        if cancel_queued:
            self._cancel_queue()

    def drain(self, timeout: float | None) -> DrainReport:
        """Take no more jobs, run what is queued for `timeout` seconds, and cancel the rest."""
        if self.roster.is_house_here():
            raise RuntimeError(
                "a thread of a pool (a job, a callback, its on_event) cannot wait for the pool's "
                "own end; use shutdown(wait=False)"
            )
        timers = self._close(AFTER_SHUTDOWN)
        # First: a job that is taken between the two is seen twice, not never.
        queued = self.queued()
        jobs = [*self.in_hand(), *queued]
        cancelled: list[Job[Any]] = []
        has_ended = False
        try:
            has_ended = self.join(timeout)
        finally:  # the time is up, or the wait was interrupted
            if not has_ended:
                self._discarded = True
                cancelled = self._cancel_queue()
                jobs += self.in_hand()
        return DrainReport.of(list(dict.fromkeys(jobs)), cancelled, timers)

    def _cancel_queue(self) -> list[Job[Any]]:
        """Cancel what is queued; returns what was not cancelled before."""
        cancelled: list[Job[Any]] = []

        def cancel(job: Job[Any]) -> None:
            if job.call_off():
                cancelled.append(job)
                job.follow_up()

        queue = self.roster.queue
        if queue.agenda is None:
            settle_all(queue.jobs, cancel)
        if queue.agenda is not None:  # by now
            settle_all(deque(queue.pending()), cancel)
        return cancelled

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the last worker to be gone; false after `timeout` seconds.

        On a thread of the pool's own there is no waiting, and the answer is false.
        """
        thread = self._supervisor.thread
        if thread is None:
            return True
        if not self.roster.is_house_here():
            thread.join(None if timeout is None else min(timeout, threading.TIMEOUT_MAX))
        return not thread.is_alive()

    def close_at_exit(self) -> None:
        """Take no more jobs, because the interpreter ends."""
        self._close(AFTER_EXIT)
        patience = self._options.exit_timeout
        if patience is not None and patience != inf:
            self._exit_by = clock.steady() + patience

    def refusal(self) -> Exception | None:
        """Why the pool takes no jobs, as an exception to raise; None while it does."""
        return self.roster.refusal()

    def _close(self, why: str) -> list[Timer]:
        """Take no more jobs; returns the timers that were cancelled for that."""
        if self.roster.close(why):
            self.roster.herald.tell("closed")
        # Afterwards: one that is set in between finds the pool closed, and is refused.
        cancelled = timer.cancel_timers_of(self)
        if cancelled:
            what = "pool %s is closed: %d timers cancelled: %s"
            say(logging.INFO, what, self.label, len(cancelled), cancelled[:_LISTED])
        return cancelled

    def finish_at_exit(self) -> None:
        """Return when the queue has been run, or let go of, or the time for that is up."""
        if self._discarded:
            return
        left = None if self._exit_by is None else max(0.0, self._exit_by - clock.steady())
        if not self.join(left):
            queued, running = len(self.queued()), len(self.in_hand())
            self._cancel_queue()
            what = "pool %s: the time for its end is up: %d jobs cancelled, %d left running"
            say(logging.WARNING, what, self.roster.label, queued, running)

    def _close_if_abandoned(self) -> None:
        if self._pool() is None and self.roster.closed is None:
            self._close(AFTER_SHUTDOWN)

    def _bury(self) -> None:
        for thread in self.roster.threads():
            if thread is not threading.current_thread():  # it may have stood in
                thread.join()
        lifecycle.strike_off(self)

    # What there is to see.

    def workers(self) -> list[WorkerInfo]:
        """A snapshot of the workers."""
        return [worker.info for worker in self.roster.staff()]

    def supervisor(self) -> SupervisorInfo:
        """A snapshot of the supervisor."""
        return self._supervisor.info

    def stats(self) -> PoolStats:
        """A snapshot of what is being done and has been done."""
        return survey(self.roster, self._supervisor.info)

    def queued(self) -> list[Job[Any]]:
        """A snapshot of the queue, in the order in which the jobs will start."""
        return self.roster.queue.pending()

    def look_around(self) -> None:
        """Take note of what has changed outside."""
        self.roster.look_around()


def workforces() -> list[Workforce]:
    """Those that have threads."""
    return [each for each in lifecycle.members() if isinstance(each, Workforce)]


def look_around_everywhere() -> None:
    """Have every workforce take note of what has changed outside."""
    lifecycle.for_all(lambda mortal: mortal.look_around())
