"""Track: what stops the jobs that are in the race, and what lets them go on.

The first jobs of all lanes race in a heap. What a limit stops leaves the race with its lane, and
waits in another heap before that limit; when it opens, the first of those that wait there is back
in the race. So a job is looked at when a limit has moved that it has to pass, and not else.

Why no lane waits before an open limit: a limit that opens calls one lane, `_call_next`. That lane
passes it, or is stopped by another limit, or its job is gone; in each case the limit is asked
again, and calls the next if it is still open.
"""

from collections.abc import Collection
from heapq import heappop, heappush
from typing import Any

from oddjob.job import Job
from oddjob.limits import Gate
from oddjob.workforce.express import Express
from oddjob.workforce.field import Field
from oddjob.workforce.lanes import Entry, Hold, KeyLane, Lane

__all__ = ["Track"]


class Track(Field):
    """The lanes that are in the race, and the limits that stop others.

    Locking: none of its own; the agenda's lock. ``express`` may be read without.
    """

    def __init__(self, ageing: float | None) -> None:
        super().__init__(ageing)
        self.ready: list[Entry] = []
        self.due: list[tuple[float, int, Gate | Job[Any]]] = []
        self.express: Express | None = None
        self.has_moved = False  # a lane has entered the race since somebody looked

    def obstacle(
        self, lane: Lane, job: Job[Any], now: float, ours: Collection[object] = ()
    ) -> Gate | Lane | None:
        """What stops a job; nothing of `ours` does."""
        is_full = isinstance(lane, KeyLane) and (
            lane.inside >= job.key_limit or lane.ahead is not None
        )
        if is_full and job not in self.holders and lane not in ours:
            return lane
        for gate in job.line.gates:
            if gate.owner is not self:
                gate.begin_anew(self)
                self._gates.add(gate)
            if gate.opens > now and gate not in ours:
                return gate
        return None

    def hold(
        self, lane: KeyLane | None, job: Job[Any], gates: tuple[Gate, ...], now: float
    ) -> Hold:
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
        self._call_all(gates, now)
        return (lane, gates, tickets)

    def leave(self, hold: Hold, now: float, *, keeps_turn: bool = False) -> None:
        """Count a job no longer that has held this; the caller sees to it that this is once."""
        lane, gates, tickets = hold
        if gates:
            for gate, ticket in zip(gates, tickets):  # noqa: B905  (one each)
                gate.leave(ticket, now)
                if gate.waiting:
                    self._call_next(gate, now)
        if lane is not None and not keeps_turn:
            lane.inside -= 1
            if not lane.jobs:
                self.forget_if_unused(lane)
            elif lane.entry is None:
                self._enter(lane, lane.jobs[0])

    def forfeit(self, job: Job[Any], now: float) -> None:
        """Take back the key that a job has claimed, if it has."""
        lane = self.take_key_from(job) if job.can_claim else None
        if lane is not None:
            self.leave((lane, (), ()), now)

    def _stop(self, lane: Lane, job: Job[Any], obstacle: Gate | Lane, now: float) -> None:
        """Take a lane out of the race until that limit opens."""
        lane.entry = None
        first = lane.first
        if first is None:
            self.forget_if_unused(lane)
        elif isinstance(obstacle, Gate):
            lane.entry = entry = self._entry(lane, first)
            heappush(obstacle.waiting, entry)
        self._call_all(job.line.gates, now)

    def _call_all(self, gates: tuple[Gate, ...], now: float) -> None:
        for gate in gates:
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
            if lane.entry is not entry:
                continue
            lane.entry = None
            first = lane.first
            if first is None:
                self.forget_if_unused(lane)
                continue
            entry = self._entry(lane, first)
            if not (gate.waiting and gate.waiting[0] < entry):
                self._enter(lane, first)
                return
            lane.entry = entry  # its place was that of a job that has gone
            heappush(gate.waiting, entry)

    # Inside.

    def _entry(self, lane: Lane, first: Job[Any]) -> Entry:
        return (*self._rank(first), lane.number, lane)

    def _enter(self, lane: Lane, first: Job[Any]) -> None:
        self.has_moved = True
        self.express = None
        lane.entry = entry = self._entry(lane, first)
        heappush(self.ready, entry)
