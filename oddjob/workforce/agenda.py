"""Agenda: which job is next, in a pool where that is more than a matter of arrival.

The queue of a pool that knows no priorities, keys, limits or retries is a deque, and workers pop
it. The first job that needs more turns the pool's queue into an agenda, for good. Jobs then still
arrive in a deque, without a lock; but workers ask the agenda for the next one. It sorts what has
arrived into lanes, and lets these race; see `oddjob.workforce.race`.

A job that is handed to a worker is known as ``offered`` before it leaves its lane: a worker that
dies in between has it, or it waits still.
"""

from collections import deque
from collections.abc import Callable, Collection
from math import inf
from typing import Any

from oddjob.job import Job
from oddjob.schedule.clock import clock
from oddjob.states import PENDING
from oddjob.workforce.desk import Desk
from oddjob.workforce.lanes import Hold, Taker
from oddjob.workforce.turns import Turn, turn_of

__all__ = ["Agenda"]


class Agenda(Desk):
    """The jobs of a pool that wait, in the order in which they may start.

    Locking: the desk's. A worker that finds the lock taken does not wait for it: with jobs that
    take no time, workers would stand in line for the lock, and change places at every job. It goes
    idle, and whoever had the lock looks, after he has released it, whether there is something for
    those who are idle. (The worker enters the list of the idle, then looks at the lock; the other
    one releases the lock, then looks at the list: one of them sees the other.)
    """

    # For workers.

    def take(self, taker: Taker) -> Job[Any] | None:
        """The next job that may start, for that worker; None if there is none now."""
        race = self._race
        express = race.express
        former = taker.offered
        owes = taker.hold is not None or (
            former is not None and former.can_claim and not former.give_back(race.claims)
        )
        has_news = owes or self._inbox or self._former_inbox or self._returns
        if express is not None and not has_news and express.is_valid():
            try:
                if express.allowed is not None:
                    express.allowed.pop()
                # Taken by a loop, and so never taken without being known as offered.
                for taker.offered in iter(express.take, None):
                    break
            except IndexError:  # there are no more of them
                pass
            else:
                taker.returned = None
                if self._idle:
                    self._spread_news()
                elif self._line:
                    self._let_in()
                return taker.offered
        job = self._take_in_turn(taker, owes)
        if self._alarm_is_new or self._idle or self._bystanders:
            self._spread_news()
        elif self._line:
            self._let_in()
        return job

    def _take_in_turn(self, taker: Taker, owes: bool) -> Job[Any] | None:
        # Taken by a loop: nothing can interrupt between taking the lock and seeing it released.
        for _ in iter(self._try_lock, False):  # noqa: FBT003  (what it returns)
            try:
                self._owner = taker.thread
                self._begin()
                now = self._catch_up()
                if owes:
                    self._settle(taker, taker.hold, taker.offered, now)
                job = self._race.next(taker, now)
                if job is None:
                    taker.offered = None
                self._finish()
                return job
            finally:
                self._owner = None
                self._lock.release()
        if owes:
            self._returns.append((taker, taker.hold, taker.offered))
        taker.offered = None
        return None

    def release(self, job: Job[Any]) -> None:
        """Count a job no longer against limits; twice does no harm."""
        self._do(self._release, job)

    def tend(self) -> None:
        """Take note of what has arrived."""
        self._do(self._pending)

    def _release(self, is_ours: bool, job: Job[Any]) -> None:
        hold = self._drop_hold(job)
        if is_ours:
            now = self._catch_up()
            if hold is not None:
                self._race.leave(hold, now)
            self._race.forfeit(job, now)

    def dismiss(self, taker: Taker) -> None:
        """Take note that one has gone."""
        self._do(self._dismiss, taker)

    def _dismiss(self, is_ours: bool, taker: Taker) -> None:
        self._race.has_moved = True  # perhaps it has, and he was to tell
        if is_ours:
            self._settle(taker, taker.hold, taker.offered, self._catch_up())
        else:
            taker.hold = None

    def _drop_hold(self, job: Job[Any]) -> Hold | None:
        """Let a job hold nothing any more; returns what it did."""
        for taker in self._takers():
            if taker.offered is job and taker.hold is not None:
                hold, taker.hold = taker.hold, None
                return hold
        return self._race.holders.pop(job, None)

    def put_off(self, job: Job[Any], until: float) -> bool:
        """Take a job back that has failed and is to be tried again; false if it has ended.

        Its key stays taken if it is to be tried before the next one of that key.
        """
        return self._do(self._put_off, job, until)

    def _put_off(self, is_ours: bool, job: Job[Any], until: float) -> bool:
        race = self._race
        hold = self._drop_hold(job)
        if hold is not None:
            keeps_turn = job.is_serial
            if keeps_turn:
                race.holders[job] = (hold[0], (), ())
            if is_ours:
                race.leave(hold, clock.monotonic(), keeps_turn=keeps_turn)
        race.put_off(job, until)
        has_it = job.reopen()
        if not has_it:
            del race.delayed[job]
            kept = race.holders.pop(job, None)
            if is_ours and kept is not None:
                race.leave(kept, clock.monotonic())
        return has_it

    # For threads that wait for a job, and may run it where they wait.

    def turn_of(
        self,
        job: Job[Any],
        stack: Collection[Job[Any]],
        begin: Callable[[Job[Any]], object],
        *,
        is_queued: bool = True,
    ) -> Turn:
        """What the calling thread may do for that job.

        `stack` are the jobs that it is running: what they count against counts for them all.
        `begin` is told which job is about to be claimed. A job that is not queued comes behind all
        others of its key.
        """
        return self._do(self._turn_of, job, stack, begin, is_queued)

    def _turn_of(self, is_ours: bool, *question: Any) -> Turn:
        return (
            turn_of(self._race, self._takers(), self._catch_up(), *question) if is_ours else Turn()
        )

    def stand_by(self, ring: Callable[[], object]) -> None:
        """Have something called whenever a job may start and no worker is idle."""
        self._bystanders[ring] = None

    def stand_by_no_more(self, ring: Callable[[], object]) -> None:
        """Have it called no more."""
        self._bystanders.pop(ring, None)

    def is_promising(self) -> bool:
        """Whether a worker that asks now may be given a job."""
        return not self._lock.locked() and self._has_news()

    def is_waiting(self, job: Job[Any]) -> bool:
        """Whether a job is still to be handed out."""
        return self._do(self._is_waiting, job)

    def _is_waiting(self, is_ours: bool, job: Job[Any]) -> bool:
        if is_ours:
            self._catch_up()
        return self._race.waits(job)

    def __len__(self) -> int:
        """How many wait, those included that wait to be tried again."""
        arriving = len(self._inbox) + len(self._former_inbox) + (self._arriving is not None)
        return arriving + len(self._race)

    def count(self) -> int:
        """How many wait that have not ended."""
        return self._do(self._count)

    def _count(self, is_ours: bool) -> int:
        if is_ours:
            self._catch_up()
        return sum(not job.done() for job in self._race.jobs())

    def load(self, takers: Collection[Taker]) -> int:
        """How many jobs wait, or are in the hands of those; it can only be less by then."""

        def count(_: bool) -> int:
            waiting = len(self)  # first: one that is taken between the two is counted twice
            in_hand = [taker.offered for taker in takers]
            return waiting + sum(job is not None and not job.done() for job in in_hand)

        return self._do(count)

    def pending(self) -> list[Job[Any]]:
        """A snapshot of those that wait, in the order in which they will start if nothing stops."""
        return [job for job in self._do(self._pending) if job.state is PENDING]

    def _pending(self, is_ours: bool) -> list[Job[Any]]:
        if is_ours:
            self._catch_up()
        return self._race.in_order()

    def ready(self) -> list[Job[Any]]:
        """Jobs of which one, at least, can start now; none if none can."""
        return self._do(self._ready)

    def _ready(self, is_ours: bool) -> list[Job[Any]]:
        if is_ours:
            self._catch_up()
        firsts = [entry[3].first for entry in self._race.ready if entry[3].entry is entry]
        return [job for job in firsts if job is not None]

    def line_behind(self, job: Job[Any]) -> list[Job[Any]]:
        """Those that wait for a job of their key to succeed."""
        return self._do(self._line_behind, job)

    def _line_behind(self, is_ours: bool, job: Job[Any]) -> list[Job[Any]]:
        if is_ours:
            self._catch_up()
        return [each for each in self._race.jobs_behind(job) if each.is_serial and each is not job]

    # Changes from outside.

    def remove(self, job: Job[Any]) -> bool:
        """Take out a job; false if it does not wait."""
        return self._do(self._remove, job)

    def _remove(self, is_ours: bool, job: Job[Any]) -> bool:
        return is_ours and self._race.remove(job, self._catch_up())

    def note_cancelled(self, job: Job[Any]) -> None:
        """Be told that a job has been cancelled."""
        if self._is_bounded:
            self.remove(job)  # there is room now
        else:
            self._do(self._note_cancelled, job)

    def _note_cancelled(self, is_ours: bool, job: Job[Any]) -> None:
        if is_ours:
            self._race.note_cancelled(job, self._catch_up())

    def pop_oldest(self) -> Job[Any] | None:
        """Take out the job that has waited longest, of the least urgent; None if none waits."""
        return self._do(self._pop_oldest)

    def _pop_oldest(self, is_ours: bool) -> Job[Any] | None:
        if not is_ours:
            return None
        now = self._catch_up()
        oldest = self._race.oldest()
        while oldest is not None and not self._race.drop(oldest, now):  # a worker was quicker
            oldest = self._race.oldest()
        return oldest

    def move_all(self, there: deque[Job[Any]]) -> None:
        """Move everything that waits to the end of another queue."""
        self._do(self._move_all, there)

    def _move_all(self, is_ours: bool, there: deque[Job[Any]]) -> None:
        if not is_ours:
            return
        now = self._catch_up()
        for job in self._race.in_order():
            self._arriving = job
            if self._race.drop(job, now):  # else a worker was quicker
                there.append(job)
            self._arriving = None

    def ring_alarm(self) -> None:
        """Let back what has waited for this time; for the supervisor.

        And tell what somebody was to tell who was interrupted: see `Desk`.
        """
        if self.alarm <= clock.monotonic():
            self._do(self._ring_alarm)
        else:
            self._spread_news()

    def _ring_alarm(self, is_ours: bool) -> None:
        if is_ours:
            self._catch_up()
            self.alarm = inf
