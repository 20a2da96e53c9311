"""Turns: which job a thread that waits for one may run where it waits."""

from collections.abc import Callable, Collection, Iterable
from math import inf
from typing import Any, NamedTuple

from oddjob.job import Job
from oddjob.states import PENDING
from oddjob.workforce.lanes import Hold, KeyLane, Lane, OpenLane, Taker
from oddjob.workforce.race import Race

__all__ = ["Turn", "turn_of"]


class Turn(NamedTuple):
    """What a thread that waits for a job may do: run that one or another, wait, or nothing."""

    job: Job[Any] | None = None  # has been claimed for the calling thread
    look_again_at: float | None = None  # monotonic seconds; infinite: when somebody else is done


def turn_of(
    race: Race,
    takers: Iterable[Taker],
    now: float,
    job: Job[Any],
    stack: Collection[Job[Any]],
    begin: Callable[[Job[Any]], object],
    is_queued: bool,
) -> Turn:
    """What the calling thread may do for a job; see `Agenda.turn_of`. The caller holds its lock."""
    is_delayed = job in race.delayed
    if is_delayed or job.state is not PENDING or (is_queued and not race.waits(job)):
        return Turn(look_again_at=race.delayed[job] if is_delayed else None)
    lane = race.lane_of(job)
    first = job
    if isinstance(lane, KeyLane):
        waiting = _first_of(lane)
        if waiting is not None and not is_queued:
            return Turn(look_again_at=inf)
        first = waiting or job
        lane = race.lane_of(first)  # another, if it is the one ahead
    ours = _held(race, takers, stack)
    obstacle = race.obstacle(lane, first, now, ours)
    if obstacle is not None:
        race.forget_if_unused(lane)
        return Turn(look_again_at=inf if isinstance(obstacle, Lane) else obstacle.opens)
    begin(first)
    own = race.key_lane(first) if isinstance(lane, OpenLane) and first.key is not None else None
    if not first.claim_queued():
        race.forget_if_unused(own or lane)  # a worker was quicker
        return Turn()
    if own is not None:
        _take_ahead(race, own, first, lane)
        return Turn(first)
    gates = tuple([gate for gate in first.line.gates if gate not in ours])
    counting = lane if isinstance(lane, KeyLane) and lane not in ours else None
    if gates or counting is not None:
        race.holders[first] = race.hold(counting, first, gates, now)
    if is_queued:
        race.remove(first, now)
    return Turn(first)


def _take_ahead(race: Race, own: KeyLane, job: Job[Any], lane: OpenLane | KeyLane) -> None:
    """Take a job out of the lane in which it stood ahead of those of its key; it counts on."""
    race.holders[job] = own, (), ()
    own.ahead = None
    lane.remove(job)
    race.forget_if_unused(lane)


def _first_of(lane: KeyLane) -> Job[Any] | None:
    for job in (lane.ahead, *lane.snapshot()):
        if job is not None and job.state is PENDING:
            return job
    return None


def _held(race: Race, takers: Iterable[Taker], stack: Collection[Job[Any]]) -> set[object]:
    """What those jobs count against: it is no obstacle for what is run in their place."""
    holds: list[Hold] = [race.holders[each] for each in stack if each in race.holders]
    holds += [each.hold for each in takers if each.hold is not None and each.offered in stack]
    ours: set[object] = {lane for lane, _, _ in holds if lane is not None}
    ours.update(lane for each in stack if (lane := race.lane_behind(each)) is not None)
    return ours | {gate for _, gates, _ in holds for gate in gates if gate.counts_runs}
