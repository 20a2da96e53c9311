"""Warden: ends the jobs that have run for too long, and has their threads replaced.

A thread cannot be stopped from outside. One that is stuck in a job whose time is up is therefore
*abandoned*: the job ends with `JobTimeout`, the thread gives up its place to a new one, and leaves
when, and if, it comes back. There may be ``max_abandoned`` such threads. A further one keeps its
place, and the pool is *degraded*, until one has come back. (A pool that has been closed is past
such care: its queue has to be run.)
"""

import logging
import threading
from math import inf
from time import monotonic
from types import FrameType
from typing import Any, NamedTuple

from oddjob.errors import JobTimeout
from oddjob.log import say
from oddjob.timed import TimedJob
from oddjob.traces import frames_of_threads, where_a_coroutine_stands, where_it_stands
from oddjob.workforce.deadlines import Watch
from oddjob.workforce.roster import Roster

__all__ = ["Warden"]


class _Expired(NamedTuple):
    job: TimedJob[Any]
    worker: str | None
    error: JobTimeout


class Warden:
    """The part of a supervisor that looks after hung jobs.

    Locking: none; the supervisor's thread alone uses it.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._expired: list[_Expired] = []
        self._was_degraded = False
        self._has_more = False  # is due, and not yet made room for

    def patience(self) -> float | None:
        """For how many seconds there is nothing to do; None for ever."""
        if self._has_more:
            return 0.0
        next_one = self._roster.deadlines.next
        return None if next_one == inf else max(0.0, next_one - monotonic())

    def end_what_is_due(self) -> None:
        """End jobs whose time is up; quick, and nobody is told yet.

        To be called again between any two things that take longer.
        """
        roster = self._roster
        if roster.deadlines.next <= monotonic():
            with roster.lock:
                due = roster.deadlines.take_due(monotonic())
            self._has_more = True
            frames = frames_of_threads()
            for watch in due:
                self._expire(watch, frames.get(watch.thread))

    def make_room(self) -> None:
        """Give up the threads that are stuck, so that they are replaced."""
        self._has_more = False
        for watch in list(self._roster.deadlines.stuck):
            self._roster.abandon(watch)

    def _expire(self, watch: Watch, frame: FrameType | None) -> None:
        # What is seen of the thread is seen before the job is ended, and so while it ran.
        job = watch.job
        coroutine = None if watch.loop is None else watch.loop.coroutine
        error = JobTimeout(
            f"job {job.name} of pool {self._roster.label} ran for more than {job.timeout:g} s",
            where_a_coroutine_stands(coroutine) or where_it_stands(frame),
        )
        if job.expire(error):
            worker = None if watch.worker is None else watch.worker.thread.name
            self._expired.append(_Expired(job, worker, error))

    def report(self) -> None:
        """Tell everybody whose time was up."""
        expired, self._expired = self._expired, []
        roster = self._roster
        for job, worker, error in expired:
            say(logging.WARNING, "%s", error)
            roster.herald.tell("timeout", worker=worker, job=job, error=error)
            self.end_what_is_due()
        followed = [job for job, _, _ in expired if job.has_followers()]
        if followed:
            self._in_a_thread_of_their_own(followed)
        self._report_state()

    def _report_state(self) -> None:
        roster = self._roster
        degraded = roster.deadlines.is_short_of_places()
        if degraded and not self._was_degraded:
            what = "pool %s is degraded: stuck threads take up places of its workers"
            say(logging.ERROR, what, roster.label)
            roster.herald.tell("degraded")
        elif self._was_degraded and not degraded:
            say(logging.INFO, "pool %s has all its workers again", roster.label)
            roster.herald.tell("recovered")
        self._was_degraded = degraded

    def _in_a_thread_of_their_own(self, jobs: list[TimedJob[Any]]) -> None:
        """Run callbacks, which may take any time, where they do not hold up the supervisor."""
        thread = threading.Thread(
            target=self._follow_up,
            args=(jobs,),
            name=f"{self._roster.label}-callbacks",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:  # no thread to be had
            self._follow_up(jobs)
        else:
            self._roster.see_off(thread)

    def _follow_up(self, jobs: list[TimedJob[Any]]) -> None:
        for job in jobs:
            try:
                job.follow_up()
            except BaseException as error:
                say(logging.ERROR, "exception calling callback for %r", job, error=error)
