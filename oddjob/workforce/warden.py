"""Warden: ends the jobs that have run for too long, and has their threads replaced.

A thread cannot be stopped from outside. One that is stuck in a job whose time is up is therefore
*abandoned*: the job ends with `JobTimeout`, the thread gives up its place to a new one, and leaves
when, and if, it comes back. There may be ``max_abandoned`` such threads. A further one keeps its
place, and the pool is *degraded*, until one has come back. (A pool that has been closed is past
such care: its queue has to be run.)
"""

import logging
from collections import deque
from functools import partial
from math import inf
from types import FrameType
from typing import Any, NamedTuple

from oddjob.aside import in_a_thread_of_its_own
from oddjob.errors import JobTimeout
from oddjob.job import Job
from oddjob.log import say_whatever_comes
from oddjob.managed import ManagedJob
from oddjob.schedule.clock import clock
from oddjob.traces import frames_of_threads, where_a_coroutine_stands, where_it_stands
from oddjob.workforce.deadlines import Watch
from oddjob.workforce.roster import Roster

__all__ = ["Warden"]


class _Expired(NamedTuple):
    job: ManagedJob[Any]
    worker: str | None
    error: JobTimeout


class Warden:
    """The part of a supervisor that looks after hung jobs.

    Locking: none; the supervisor's thread alone uses it.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._expired: deque[_Expired] = deque()
        self._to_follow: deque[Job[Any]] = deque()  # have callbacks that are still to be run
        self._was_degraded = False
        self._has_more = False  # is due, and not yet made room for

    def patience(self) -> float | None:
        """For how many seconds there is nothing to do; None for ever."""
        if self._has_more:
            return 0.0
        with self._roster.lock:
            next_one = self._roster.deadlines.look_ahead()
        return None if next_one == inf else max(0.0, next_one - clock.steady())

    def end_what_is_due(self) -> None:
        """End jobs whose time is up; quick, and nobody is told yet.

        To be called again between any two things that take longer.
        """
        roster = self._roster
        if roster.deadlines.next <= clock.steady():
            with roster.lock:
                due = roster.deadlines.due(clock.steady())
            self._has_more = self._has_more or bool(due)
            frames = frames_of_threads() if due else {}
            for watch in due:
                self._expire(watch, frames.get(watch.thread))
            with roster.lock:
                roster.deadlines.settled(due)

    def make_room(self) -> None:
        """Give up the threads that are stuck, so that they are replaced."""
        self._has_more = False
        for watch in list(self._roster.deadlines.stuck):
            self._roster.abandon(watch)

    def _expire(self, watch: Watch, frame: FrameType | None) -> None:
        # What is seen of the thread is seen before the job is ended, and so while it ran.
        job, worker = watch.job, watch.worker
        loop = None if worker is None else worker.loop_of(job)
        places = [] if loop is None else where_a_coroutine_stands(loop.coroutine)
        error = JobTimeout(
            f"job {job.name} of pool {self._roster.label} ran for more than {job.timeout:g} s",
            places or where_it_stands(frame),
        )
        if job.expire(error, watch.attempt):
            name = None if worker is None else worker.thread.name
            self._expired.append(_Expired(job, name, error))
            if job.done():  # else it is to be tried again
                self._to_follow += job.call_prompt()
                self._to_follow.append(job)

    def report(self) -> None:
        """Tell everybody whose time was up."""
        roster = self._roster
        while self._to_follow:
            job = self._to_follow[0]
            if job.has_followers():
                name = f"{roster.label}-callbacks"
                thread = in_a_thread_of_its_own(partial(self._follow_up, job), name)
                if thread is not None:
                    roster.see_off(thread)
            self._to_follow.popleft()
            self.end_what_is_due()
        while self._expired:
            expired = self._expired.popleft()
            say_whatever_comes(logging.WARNING, "%s", expired.error)
            roster.herald.tell(
                "timeout", worker=expired.worker, job=expired.job, error=expired.error
            )
            self.end_what_is_due()
        self._report_state()

    def _report_state(self) -> None:
        roster = self._roster
        degraded = roster.deadlines.is_short_of_places()
        was_degraded, self._was_degraded = self._was_degraded, degraded
        if degraded and not was_degraded:
            what = "pool %s is degraded: stuck threads take up places of its workers"
            say_whatever_comes(logging.ERROR, what, roster.label)
            roster.herald.tell("degraded")
        elif was_degraded and not degraded and roster.closed is None:
            say_whatever_comes(logging.INFO, "pool %s has all its workers again", roster.label)
            roster.herald.tell("recovered")

    def _follow_up(self, job: Job[Any]) -> None:
        self._roster.belong()
        job.follow_up()
