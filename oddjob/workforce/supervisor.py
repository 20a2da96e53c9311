"""Supervisor: notices that a worker has gone, and sees to it that the pool keeps its capacity.

One thread per pool, started with the first worker. It sleeps until a letter reaches it: each
worker's last act is to send one. A crash costs the pool one worker for as long as it takes to
start a thread. More than ``max_restarts`` crashes within ``max_seconds`` retire all workers (each
finishes the job in its hands, and its place is filled when it has gone, so that never more than
``pool_size`` jobs run at once); more than ``max_restarts`` such restarts within ``max_seconds``
(one is always allowed) break the pool. The limits, and their names, are an Erlang supervisor's.
"""

import logging
import threading
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Final, NamedTuple

from oddjob.job import Job
from oddjob.log import say_whatever_comes
from oddjob.schedule.clock import clock
from oddjob.settling import settle_all
from oddjob.workforce.roster import Roster, is_interpreters_end
from oddjob.workforce.warden import Warden
from oddjob.workforce.worker import Worker, start_safely

__all__ = ["RestartLimit", "Supervisor", "SupervisorInfo"]

_FIRST_RETRY: Final = 0.01
_SLOWEST_RETRY: Final = 5.0


class SupervisorInfo(NamedTuple):
    """What a supervisor watches over, and what it has seen so far."""

    name: str
    ident: int | None
    is_alive: bool
    max_restarts: int
    max_seconds: float
    crashes: int
    pool_restarts: int


class RestartLimit:
    """Counts events, and tells when more than `limit` fell within any `seconds`.

    Locking: none; one supervisor's thread uses it.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._recent: deque[float] = deque()

    def exceeded_at(self, now: float) -> bool:
        """Count an event at `now` (monotonic seconds); true if it is one too many."""
        recent = self._recent
        recent.append(now)
        while recent[0] < now - self._seconds:
            recent.popleft()
        if len(recent) <= self._limit:
            return False
        recent.clear()
        return True


class Supervisor:
    """Watches over the workers on one roster.

    Locking: ``thread`` is written under the roster's lock. Its own thread alone touches the other
    fields; others write to the roster's ``letters``: a worker that has gone, or None for "look
    around".
    """

    def __init__(
        self,
        roster: Roster,
        max_restarts: int,
        max_seconds: float,
        close_if_abandoned: Callable[[], None],
        bury: Callable[[], None],
    ) -> None:
        self._roster = roster
        self._crashes = RestartLimit(max_restarts, max_seconds)
        # Even where every crash is one too many, the first is met by a restart and not by the end.
        self._pool_restarts = RestartLimit(max(1, max_restarts), max_seconds)
        self._warden = Warden(roster)
        self._tell = roster.herald.tell
        self._close_if_abandoned = close_if_abandoned
        self._bury = bury
        self._stuck_since: float | None = None
        self._crash_count = 0
        self._pool_restart_count = 0
        self._limits = max_restarts, max_seconds
        self._letter: Worker | None = None
        self._tried: Worker | None = None
        self._retry_delay: float | None = None
        self._name = f"{roster.label}-supervisor"
        self._interruption: BaseException | None = None
        self._arrival = allocate_lock()
        self._arrival.acquire()
        self.thread: threading.Thread | None = None

    @property
    def info(self) -> SupervisorInfo:
        """A snapshot for people."""
        return SupervisorInfo(
            self._name,
            None if self.thread is None else self.thread.ident,
            self.thread is not None and self.thread.is_alive(),
            *self._limits,
            self._crash_count,
            self._pool_restart_count,
        )

    def start(self) -> None:
        """Start the thread; the caller holds the roster's lock. Raises what that raises."""
        self.thread = threading.Thread(target=self._supervise, name=self._name, daemon=True)
        try:
            start_safely(self.thread, self._arrival)
        except BaseException:
            self.thread = None
            raise

    def _supervise(self) -> None:
        """The thread's life. Nothing that is thrown at it may cost the pool its supervisor.

        What is thrown is caught close by and looked at in the next round; a second one that
        strikes before that comes to the outer handler.
        """
        while True:
            try:
                while True:
                    try:
                        self._begin()
                        self._serve()
                    except BaseException as error:
                        self._interruption = error
                    else:
                        return
            except BaseException as error:
                self._interruption = error

    def _begin(self) -> None:
        """Take up again, once, what an interruption has cut short."""
        if self._arrival.locked():
            self._arrival.release()
        error, self._interruption = self._interruption, None
        if error is not None:
            if self._tried is self._letter:
                self._letter = None
            self._tried = self._letter
            self._say(logging.ERROR, "the supervisor of pool %s was interrupted", error)

    def _serve(self) -> None:
        roster = self._roster
        roster.supervise()
        with roster.lock:
            # Its start may have been interrupted after the thread was made: then it is not it.
            if self.thread is not threading.current_thread():
                return
        while True:
            if self._letter is not None:
                self._attend(self._letter)
                self._letter = None
            settle_all(roster.refused, self._refuse)
            self._close_if_abandoned()
            self._warden.end_what_is_due()
            roster.queue.ring_alarm()
            self._warden.make_room()
            self._fill_vacancies()
            roster.send_home()
            self._warden.report()
            self._tell_of_replacements()
            if roster.is_deserted():
                self._bury()
                del self._bury, self._close_if_abandoned  # they hold the one that holds this
                return
            roster.letters.wait(self._patience())
            with suppress(IndexError):
                # Taken by a loop: nothing can interrupt between taking a letter and keeping it.
                for letter in iter(roster.letters.inbox.popleft, ()):
                    self._letter = letter
                    break

    def _patience(self) -> float | None:
        """For how long to wait for a letter, in seconds; None for ever."""
        times = [self._retry_delay, self._warden.patience()]
        alarm = self._roster.queue.alarm
        if alarm != inf:
            times.append(max(0.0, alarm - clock.monotonic()))
        known = [min(each, threading.TIMEOUT_MAX) for each in times if each is not None]
        return min(known, default=None)

    def _tell_of_replacements(self) -> None:
        replaced = self._roster.replaced
        while replaced:
            self._tell("replace", worker=replaced.popleft())

    def _attend(self, worker: Worker) -> None:
        """See to what a gone worker left behind."""
        crash = worker.crash
        is_staff = self._roster.discharge(worker) or worker is self._tried
        if crash is not None:
            worker.rescue_jobs(crash)
        if self._roster.queue.agenda is not None:
            self._roster.queue.agenda.dismiss(worker.tally)
        self._roster.ledger.close(worker.tally)
        job = worker.job
        worker.forget()
        if crash is not None and is_staff:
            self._meet(crash, worker, job)

    def _meet(self, crash: BaseException, worker: Worker, job: Job[object] | None) -> None:
        """Do what the restart limits say."""
        name = worker.thread.name
        self._crash_count += 1
        now = self._time_of(worker)
        if not self._crashes.exceeded_at(now):
            self._fill_vacancies()
            what = "pool %s: worker %s crashed and was replaced"
            self._say(logging.WARNING, what, crash, name)
            self._tell("crash", worker=name, job=job, error=crash)
        elif not self._pool_restarts.exceeded_at(now):
            self._pool_restart_count += 1
            self._roster.retire_all()
            self._fill_vacancies()
            what = "pool %s has too many crashes: all workers are replaced"
            self._say(logging.ERROR, what, crash)
            self._tell("crash", worker=name, job=job, error=crash)
            self._tell("pool_restart", error=crash)
        else:
            self._roster.give_up(crash)
            self._say(logging.CRITICAL, "pool %s is broken: its workers kept crashing", crash)
            self._tell("crash", worker=name, job=job, error=crash)
            self._tell("broken", error=crash)

    def _time_of(self, crashed: Worker) -> float:
        """When a worker crashed, for the limits.

        While every initializer fails, and no worker at all gets to work, time stands still:
        however slowly they fail, the pool has to give up in the end.
        """
        if crashed.began or any(worker.began for worker in self._roster.staff()):
            self._stuck_since = None
            return clock.steady()
        if self._stuck_since is None:
            self._stuck_since = clock.steady()
        return self._stuck_since

    def _say(self, level: int, message: str, error: BaseException, *details: object) -> None:
        say_whatever_comes(level, message, self._roster.label, *details, error=error)

    def _refuse(self, job: Job[object]) -> None:
        # Whatever its callbacks raise is no matter of the supervisor's.
        with suppress(BaseException):
            job.refuse(self._roster.breakdown())

    def _fill_vacancies(self) -> None:
        """Start what workers are missing; if that fails, try again with growing delays."""
        try:
            for _ in range(self._roster.vacancies()):
                self._roster.hire()
                self._warden.end_what_is_due()
        except Exception as error:
            if is_interpreters_end(error):
                # What is queued now would never run: do it here, unless somebody else is at it.
                if self._roster.closed is not None and not self._roster.staff():
                    self._roster.stand_in()
                return
            first = self._retry_delay is None
            self._retry_delay = min((self._retry_delay or _FIRST_RETRY / 2) * 2, _SLOWEST_RETRY)
            if first:
                self._say(
                    logging.ERROR,
                    "no thread could be started for pool %s, will go on trying",
                    error,
                )
        else:
            self._retry_delay = None
