"""Race: which of the jobs that wait is next."""

from collections import Counter, deque
from collections.abc import Iterable
from heapq import heapify, heappop, heappush, heapreplace
from itertools import repeat
from math import inf
from typing import Any, Final

from oddjob.job import Job
from oddjob.limits import GRACE, Gate
from oddjob.schedule.clock import clock
from oddjob.states import PENDING
from oddjob.workforce.express import Express
from oddjob.workforce.lanes import Hold, KeyLane, OpenLane, Taker
from oddjob.workforce.track import Track

__all__ = ["Race"]

_AT_ONCE: Final = 64  # starts that a limit is asked to allow together


class Race(Track):
    """The lanes, in the order in which their first jobs may start.

    The facts, each written in one step: the jobs in the lanes, those ``delayed``, what the takers
    hold, what other jobs do (``holders``: they run in place, or have kept their turn), and who has
    claimed a key (``claims``, ``ahead``). All else follows from them, and `mend` makes it anew.

    Locking: none of its own; the agenda's lock. ``express`` may be read without.
    """

    # Into the race.

    def place(self, job: Job[Any]) -> None:
        """Put a job at the end of its lane."""
        key = job.key
        lane: Any
        if key is None or (
            job.can_claim and key not in self._keys and self.claims.setdefault(key, job) is job
        ):
            lane = self._lanes.get(job.line)
            if lane is None:
                lane = self.open_lane(job.line)
            lane.jobs.append(job)
        else:
            lane = self.key_lane(job)
            lane.add(job)
            self._keyed += 1
            if lane.ahead is not None:
                return
        if lane.entry is None:
            self._enter(lane, job)

    def put_off(self, job: Job[Any], until: float) -> None:
        """Have a job come back at that time."""
        self.delayed[job] = until
        heappush(self.due, (until, next(self._numbers), job))

    def open_due(self, now: float) -> None:
        """Let back what has waited for this time."""
        due = self.due
        while due and due[0][0] <= now:
            thing = heappop(due)[2]
            if isinstance(thing, Gate):
                thing.scheduled = inf
                self._call_next(thing, now)
            elif self.delayed.get(thing, inf) <= now:
                self._come_back(thing, now)

    def _come_back(self, job: Job[Any], now: float) -> None:
        if job.done():
            self.drop(job, now)
            return
        job.queued_at = now
        if job in self.holders:  # it has kept its turn
            lane = self.lane_of(job)
            lane.jobs.insert(0, job)
            self._keyed += 1
            self._enter(lane, job)
        else:
            self.place(job)
        del self.delayed[job]

    # Out of it.

    def next(self, taker: Taker, now: float) -> Job[Any] | None:
        """The job that is to start now; None if there is none now.

        It is known as offered before it leaves its lane.
        """
        ready = self.ready
        while ready:
            entry = ready[0]
            lane: Any = entry[3]
            if lane.entry is not entry:
                heappop(ready)
                continue
            job = (self._take_keyed if lane.is_keyed else self._take)(lane, taker, now)
            if job is not None:
                return job
        self._give_back_room()
        return None

    def _take(self, lane: OpenLane, taker: Taker, now: float) -> Job[Any] | None:
        """Take a job from the lane that is on top; if that cannot be, it is so no more."""
        jobs = lane.jobs
        gates: tuple[Gate, ...] = lane.ident.gates
        first = lane.first
        if first is None:
            self._retire(lane)
            self._call_all(gates, now)  # it may have been called because one had opened
            return None
        if (self._is_crowded or gates) and self._is_to_wait(lane, first, gates, now):
            return None
        try:
            # In one step, as others may do so without the lock.
            for taker.offered in iter(jobs.popleft, None):
                job = taker.offered
                break
        except IndexError:  # they have
            if jobs:  # no: it was thrown in
                raise
            return None
        taker.returned = None
        is_alone = len(self.ready) == 1 or not self._is_crowded
        if not jobs:
            self._retire(lane)
            is_alone = False
        elif is_alone and not gates:
            self.express = Express(jobs.popleft, until=self.due[0][0] if self.due else inf)
        if gates and not (is_alone and self._is_allowed_many(lane, gates, now)):
            taker.hold = self.hold(None, job, gates, now)
        return job

    def _is_to_wait(
        self, lane: OpenLane, job: Job[Any], gates: tuple[Gate, ...], now: float
    ) -> bool:
        """Whether the first job of the lane on top cannot start now; another may be on top then."""
        # Its place may still be that of one which went before: if that is in the way of another,
        # which is one of the two behind it, it is found anew.
        entry = lane.entry
        if self._is_crowded and entry is not None:
            is_close = any(rival[0] == entry[0] for rival in self.ready[1:3])
            if is_close and entry[:2] < self._rank(job):
                lane.entry = entry = self._entry(lane, job)
                heapreplace(self.ready, entry)
                return True
        if gates:
            obstacle = self.obstacle(lane, job, now)
            if job.state is not PENDING:  # else its worker will find out
                lane.remove(job)
                obstacle = gates[0]  # where it lines up anew
            if obstacle is not None:
                heappop(self.ready)
                self._stop(lane, job, obstacle, now)
                return True
        return False

    def _retire(self, lane: OpenLane) -> None:
        """Take the lane on top out of the race, as it is empty."""
        heappop(self.ready)
        lane.entry = None
        self.express = None
        self.forget_if_unused(lane)

    def _is_allowed_many(self, lane: OpenLane, gates: tuple[Gate, ...], now: float) -> bool:
        """Whether a job may start, and so may others, which are taken without the lock."""
        gate = gates[0]
        if len(gates) > 1 or gate.waiting:
            return False
        number = gate.allow(now, min(len(lane.jobs), _AT_ONCE))
        if number > 0:
            others = deque(repeat(None, number - 1))
            self.express = Express(lane.jobs.popleft, others, now + GRACE, gate, number)
        return number > 0

    def withdraw_express(self, hands: int) -> None:
        """Have workers come to the agenda again, of which there are so many."""
        express, self.express = self.express, None
        if express is None or express.gate is None or express.allowed is None:
            return
        left = 0
        try:
            while True:
                express.allowed.pop()
                left += 1
        except IndexError:
            express.gate.take_back(express.number, left, hands, clock.monotonic())

    def _take_keyed(self, lane: KeyLane, taker: Taker, now: float) -> Job[Any] | None:
        """Take a job from the lane that is on top; if that cannot be, it is so no more."""
        jobs = lane.jobs
        job = jobs[0]
        if job.state is not PENDING:  # else its worker will find out
            self.drop(job, now)
            return None
        gates = job.line.gates
        if gates or lane.inside:
            obstacle = self.obstacle(lane, job, now)
            if obstacle is not None:
                heappop(self.ready)
                self._stop(lane, job, obstacle, now)
                return None
        taker.offered = job
        taker.returned = None
        self._keyed -= 1
        del jobs[0]
        if jobs:  # the next one may be of another priority
            lane.entry = entry = self._entry(lane, jobs[0])
            heapreplace(self.ready, entry)
        else:
            heappop(self.ready)
            lane.entry = None
        if gates or self.holders:
            taker.hold = self.hold(lane, job, gates, now)
        else:
            lane.inside += 1
            taker.hold = (lane, (), ())
        return job

    def remove(self, job: Job[Any], now: float) -> bool:
        """Take out a job, wherever it stands; false if it does not wait."""
        if self.delayed.pop(job, None) is not None:
            return True
        key_lane = None if job.key is None else self._keys.get(job.key)
        if key_lane is None or not self._remove_keyed(key_lane, job, now):
            lane = self._lanes.get(job.line)
            if lane is None or not lane.remove(job):
                return False
            self.forfeit(job, now)
            self.forget_if_unused(lane)
        return True

    def _remove_keyed(self, lane: KeyLane, job: Job[Any], now: float) -> bool:
        is_first = bool(lane.jobs) and job is lane.jobs[0]
        has_it = lane.remove(job)
        self._keyed -= has_it
        if is_first:
            lane.entry = None
            if lane.jobs:
                self._enter(lane, lane.jobs[0])
            # It may have been called because a limit had opened: that is for another one then.
            self._call_all(job.line.gates, now)
        self.forget_if_unused(lane)
        return has_it

    def note_cancelled(self, job: Job[Any], now: float) -> None:
        """Be told that a job was cancelled: it is taken out at once, or in time with others."""
        lane = self._lanes.get(job.line)
        if lane is None or job.key in self._keys or job in self.delayed:
            self.remove(job, now)
            return
        for each in lane.note_cancelled():
            self.forfeit(each, now)  # it may have ended otherwise, and have its key still

    def drop(self, job: Job[Any], now: float) -> bool:
        """Take out a job that is not to be run; false if it does not wait.

        One that has ended counts against nothing any more, if whoever ended it has not said so.
        """
        has_it = self.remove(job, now)
        if job in self.holders and (has_it or job.done()):
            self.leave(self.holders.pop(job), now)
        return has_it

    def mend(self, takers: Iterable[Taker]) -> None:
        """Make anew what follows from the facts."""
        self.express = None
        for lane in self.lanes():
            lane.mend()
        for job in list(self.holders):
            if job.done():
                del self.holders[job]
        queued = {job for lane in self.lanes() for job in lane.snapshot()}
        for job in list(self.delayed):
            if job in queued or job.state is not PENDING:
                del self.delayed[job]
        self._recount([*self.holders.values(), *self._review(takers)])
        self.ready = []
        for lane in self.lanes():
            lane.entry = None
            first = lane.first
            if first is not None:
                self._enter(lane, first)
            self.forget_if_unused(lane)
        self.due = [(until, next(self._numbers), job) for job, until in self.delayed.items()]
        heapify(self.due)

    def _review(self, takers: Iterable[Taker]) -> list[Hold]:
        """See who has what in hand; returns what these hold."""
        in_key_lanes = {job for lane in list(self._keys.values()) for job in lane.jobs}
        has_a_key = set(self.claims.values())
        has_a_key.update(lane.ahead for lane in list(self._keys.values()) if lane.ahead is not None)
        # First: one that is over, and in nobody's hand afterwards, has been let out of it.
        over = {job for job in has_a_key if job.done() or job in self.holders}
        holds = []
        for taker in takers:
            if taker.offered in in_key_lanes:
                taker.offered = None  # it was not taken out
            over.discard(taker.offered)
            hold = taker.hold
            holds += [] if hold is None else [hold]
        for job in over:
            self.take_key_from(job)
        return holds

    def _recount(self, holds: Iterable[Hold]) -> None:
        for lane, _, _ in holds:
            if lane is not None:
                self._keys.setdefault(lane.ident, lane)
        insiders = Counter(each for hold in holds for each in (*hold[1], hold[0]))
        for gate in self._gates:
            gate.waiting = []
            gate.scheduled = inf
            gate.recount(insiders[gate])
        for keyed in list(self._keys.values()):
            keyed.inside = insiders[keyed] + (keyed.ahead is not None)
        self._keyed = sum([len(keyed.jobs) for keyed in list(self._keys.values())])
