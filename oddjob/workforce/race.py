"""Race: which of the jobs that wait is next, and what stops the others.

The first jobs of all lanes race in a heap. What a limit stops leaves the race with its lane, and
waits in another heap before that limit; when it opens, the first of those that wait there is back
in the race. Whatever limits a job has to pass, it is so looked at when one of them has moved, and
at no other time.

Why no lane waits before an open limit: a limit that opens calls one lane, `_call_next`. That lane
passes it, or is stopped by another limit, or its job is gone; in each case the limit is asked
again, and calls the next if it is still open.
"""

from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from math import inf
from typing import Any, Final, Protocol
from weakref import WeakSet

from oddjob.job import Job
from oddjob.limits import Gate
from oddjob.states import PENDING
from oddjob.workforce.lanes import Entry, Hold, Lane

__all__ = ["Race", "Taker"]

_KEPT: Final = 64  # lanes that may be empty


class Taker(Protocol):
    """Who takes jobs.

    `offered` is the one it was given, `returned` one that was queued again; `hold` is what limits
    the one that it was given counts against, until it takes the next.
    """

    thread: int | None
    offered: Job[Any] | None
    returned: Job[Any] | None
    hold: Hold | None


class Race:
    """The jobs that wait, in lanes; those that are put off; and what counts against limits.

    The facts, each written in one step: the jobs in the lanes, those ``delayed``, what the takers
    hold, and what other jobs do (``holders``: they run in place, or have kept their turn). All else
    follows from them, and `mend` makes it anew.

    Locking: none of its own; the agenda's lock.
    """

    def __init__(self, ageing: float | None) -> None:
        self._ageing: Final = ageing
        self._numbers = count()
        self._lanes: dict[Any, Lane] = {}
        self._keys: dict[Any, Lane] = {}
        self.delayed: dict[Job[Any], float] = {}  # until when
        self.holders: dict[Job[Any], Hold] = {}
        self._gates: WeakSet[Gate] = WeakSet()
        self.ready: list[Entry] = []
        self.due: list[tuple[float, int, Gate | Job[Any]]] = []
        self.size = 0  # of all lanes together
        self._priorities: set[float] = set()
        # Whether two lanes may be equally urgent. Then it is a matter of arrival which is first.
        self._is_crowded = ageing is not None
        self.has_moved = False  # a lane has entered the race since somebody looked

    # Into the race.

    def place(self, job: Job[Any]) -> None:
        """Put a job at the end of its lane."""
        key = job.key
        lane = self._lanes.get(job.line) if key is None else self._keys.get(key)
        if lane is None:
            lane = self.lane_of(job)
        jobs = lane.jobs
        if type(jobs) is OrderedDict:
            jobs[job] = None
        else:
            lane.add(job)
        self.size += 1
        if lane.entry is None:
            self._enter(lane)

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

    def waits(self, job: Job[Any]) -> bool:
        """Whether a job is still to be handed out."""
        lane = self._lanes.get(job.line) if job.key is None else self._keys.get(job.key)
        return job in self.delayed or (lane is not None and job in lane.jobs)

    def jobs_behind(self, job: Job[Any]) -> list[Job[Any]]:
        """Those of its key that wait."""
        lane = self._keys.get(job.key)
        return [] if lane is None else list(lane.jobs)

    def lane_of(self, job: Job[Any]) -> Lane:
        """The lane that a job belongs to."""
        lanes, ident = (self._lanes, job.line) if job.key is None else (self._keys, job.key)
        lane = lanes.get(ident)
        if lane is None:
            lane = lanes[ident] = Lane(ident, next(self._numbers), is_keyed=job.key is not None)
            priority = job.line.priority
            self._is_crowded = self._is_crowded or lane.is_keyed or priority in self._priorities
            self._priorities.add(priority)
        return lane

    # Out of it.

    def next(self, taker: Taker, now: float) -> Job[Any] | None:  # noqa: C901, PLR0912  (for every job)
        """The job that is to start now; None if there is none now.

        It is known as offered before it leaves its lane.
        """
        ready = self.ready
        while ready:
            entry = ready[0]
            lane = entry[3]
            if lane.entry is not entry:
                heappop(ready)
                continue
            jobs = lane.jobs
            job = next(iter(jobs))
            # Its place may still be that of one which went before: if that is in another's way, it
            # is found anew. The next best is one of the two behind the first.
            if self._is_crowded and not lane.is_keyed and self._is_overtaken(entry, job):
                lane.entry = entry = self._entry(lane)
                heapreplace(ready, entry)
                continue
            gates = job.line.gates
            if lane.is_keyed or gates:
                if job.state is not PENDING:  # else its worker will find out
                    self.remove(job, now)
                    continue
                obstacle = self.obstacle(lane, job, now)
                if obstacle is not None:
                    heappop(ready)
                    self._stop(lane, job, obstacle, now)
                    continue
            taker.offered = job
            taker.returned = None
            self.size -= 1
            if type(jobs) is OrderedDict:
                del jobs[job]
            else:
                lane.remove(job)
            if not jobs:
                heappop(ready)
                lane.entry = None
                if not lane.is_keyed:  # whose job, from now on, counts
                    self.forget_if_unused(lane)
            elif lane.is_keyed:  # its next one may be of another priority
                lane.entry = entry = self._entry(lane)
                heapreplace(ready, entry)
            if lane.is_keyed:
                taker.hold = self.hold(lane, job, gates, now)
            elif gates:
                taker.hold = self.hold(None, job, gates, now)
            return job
        return None

    def _is_overtaken(self, entry: Entry, job: Job[Any]) -> bool:
        """Whether an entry's lane, whose first job now is that one, may no longer be the first."""
        urgency = entry[0]
        is_close = any(rival[0] == urgency for rival in self.ready[1:3])
        return is_close and entry[:2] < self._rank(job)

    def remove(self, job: Job[Any], now: float) -> bool:
        """Take out a job, wherever it stands; false if it does not wait."""
        if self.delayed.pop(job, None) is not None:
            return True
        lane = self.lane_of(job)
        has_it = job in lane.jobs
        if has_it:
            is_first = job is lane.first
            lane.remove(job)
            self.size -= 1
            if is_first:
                lane.entry = None
                if lane.jobs:
                    self._enter(lane)
                # It may have been called because a limit had opened: that is for another one then.
                self._call_all(job, now)
        self.forget_if_unused(lane)
        return has_it

    def obstacle(
        self, lane: Lane, job: Job[Any], now: float, ours: Collection[object] = ()
    ) -> Gate | Lane | None:
        """What stops a job; nothing of `ours` does."""
        is_full = lane.is_keyed and lane.inside >= job.key_limit
        if is_full and job not in self.holders and lane not in ours:
            return lane
        for gate in job.line.gates:
            if gate.owner is not self:
                gate.begin_anew(self)
                self._gates.add(gate)
            if gate.opens > now and gate not in ours:
                return gate
        return None

    def hold(self, lane: Lane | None, job: Job[Any], gates: tuple[Gate, ...], now: float) -> Hold:
        """Count a job against a key, if one is given, and limits, from now on."""
        if lane is not None:
            if self.holders and job in self.holders:
                del self.holders[job]  # it has kept its turn, and so is counted
            else:
                lane.inside += 1
        if not gates:
            return (lane, (), ())
        if len(gates) == 1:  # as it mostly is
            gate = gates[0]
            ticket = gate.enter(now, job.queued_at)
            if gate.waiting:
                self._call_next(gate, now)
            return (lane, gates, (ticket,))
        tickets = tuple([gate.enter(now, job.queued_at) for gate in gates])
        for gate in gates:
            if gate.waiting:
                self._call_next(gate, now)
        return (lane, gates, tickets)

    def leave(self, hold: Hold, now: float, *, keeps_turn: bool = False) -> None:
        """Count a job no longer that has held this; the caller sees to it that this is once."""
        lane, gates, tickets = hold
        for gate, ticket in zip(gates, tickets):  # noqa: B905  (one each)
            gate.leave(ticket, now)
            if gate.waiting:
                self._call_next(gate, now)
        if lane is not None and not keeps_turn:
            lane.inside -= 1
            if not lane.jobs:
                self.forget_if_unused(lane)
            elif lane.entry is None:
                self._enter(lane)

    # What there is.

    def lanes(self) -> list[Lane]:
        """All lanes."""
        return [*self._lanes.values(), *self._keys.values()]

    def in_order(self) -> list[Job[Any]]:
        """All jobs in the order in which they will start if nothing stops them."""
        found: list[tuple[float, float, Job[Any]]] = []
        for lane in self.lanes():
            rank = (-inf, -inf)
            for job in list(lane.jobs):
                rank = max(rank, self._rank(job))
                found.append((*rank, job))
        found += [(inf, until, job) for job, until in self.delayed.items()]
        found.sort(key=lambda each: each[:2])
        return [job for _, _, job in found]

    def oldest(self) -> Job[Any] | None:
        """The one that has waited longest, of those with the lowest priority."""
        firsts = [lane.first for lane in self.lanes() if lane.jobs] or list(self.delayed)
        return min(firsts, key=lambda job: (job.line.priority, job.queued_at), default=None)

    def mend(self, takers: Iterable[Taker]) -> None:
        """Make anew what follows from the facts."""
        for job in list(self.holders):
            if job.done():
                del self.holders[job]
        queued = {job for lane in self.lanes() for job in lane.jobs}
        for job in list(self.delayed):
            if job in queued or job.state is not PENDING:
                del self.delayed[job]
        holds = list(self.holders.values())
        for taker in takers:
            if taker.offered in queued:
                taker.offered = None  # it was not taken out
            hold = taker.hold
            holds += [] if hold is None else [hold]
        self._recount(holds)
        self.ready = []
        for lane in self.lanes():
            lane.entry = None
            if lane.jobs:
                self._enter(lane)
            else:
                self.forget_if_unused(lane)
        self.due = [(until, next(self._numbers), job) for job, until in self.delayed.items()]
        heapify(self.due)
        self.size = len(queued)

    # Inside.

    def _recount(self, holds: Iterable[Hold]) -> None:
        for lane, _, _ in holds:
            if lane is not None:
                self._keys.setdefault(lane.ident, lane)
        insiders = Counter(each for hold in holds for each in (*hold[1], hold[0]))
        for gate in self._gates:
            gate.waiting = []
            gate.scheduled = inf
            gate.recount(insiders[gate])
        for lane in self.lanes():
            lane.inside = insiders[lane]

    def _rank(self, job: Job[Any]) -> tuple[float, float]:
        priority = job.line.priority
        if self._ageing is None:
            return (-priority, job.queued_at)
        return (0, job.queued_at - priority * self._ageing)

    def _entry(self, lane: Lane) -> Entry:
        return (*self._rank(lane.first), lane.number, lane)

    def _enter(self, lane: Lane) -> None:
        self.has_moved = True
        lane.entry = entry = self._entry(lane)
        heappush(self.ready, entry)

    def _come_back(self, job: Job[Any], now: float) -> None:
        job.queued_at = now
        if job in self.holders:  # it has kept its turn
            lane = self.lane_of(job)
            lane.add_first(job)
            self.size += 1
            self._enter(lane)
        else:
            self.place(job)
        del self.delayed[job]

    def _stop(self, lane: Lane, job: Job[Any], obstacle: Gate | Lane, now: float) -> None:
        """Take a lane out of the race until that limit opens."""
        lane.entry = None
        if isinstance(obstacle, Gate):
            lane.entry = entry = self._entry(lane)
            heappush(obstacle.waiting, entry)
        self._call_all(job, now)

    def _call_all(self, job: Job[Any], now: float) -> None:
        for gate in job.line.gates:
            if gate.waiting and gate.owner is self:
                self._call_next(gate, now)

    def _call_next(self, gate: Gate, now: float) -> None:
        """If a limit is open, let the first that waits before it back into the race."""
        opens = gate.opens
        if opens > now:
            if opens < gate.scheduled:
                gate.scheduled = opens
                heappush(self.due, (opens, next(self._numbers), gate))
            return
        while gate.waiting:
            entry = heappop(gate.waiting)
            lane = entry[3]
            if lane.entry is entry:
                self._enter(lane)
                return

    def forget_if_unused(self, lane: Lane) -> None:
        """Keep no lane in which there is nothing."""
        if lane.jobs or lane.inside:
            return
        if lane.is_keyed:
            self._keys.pop(lane.ident, None)
        elif len(self._lanes) > _KEPT:
            self._lanes.pop(lane.ident, None)
