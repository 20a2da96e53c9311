"""What workers are given by an agenda, step by step: no threads, and so no chance."""

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from contextvars import copy_context
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oddjob import Rate
from oddjob.job import Job
from oddjob.limited import with_key
from oddjob.settings import PoolOptions
from oddjob.settling import snapshot
from oddjob.states import RUNNING, SUCCEEDED
from oddjob.terms import Terms
from oddjob.workforce import lanes, queue
from oddjob.workforce.agenda import Agenda
from oddjob.workforce.express import Express
from oddjob.workforce.lanes import OpenLane
from oddjob.workforce.queue import JobQueue
from oddjob.workforce.race import Race
from oddjob.workforce.tally import Tally

CREW: Any = SimpleNamespace(name=None, count=lambda _: None, note_loss=lambda _: None)
PLAIN = Terms.of_pool(PoolOptions())


class Scene:
    """An agenda, two workers, and what they have been given."""

    def __init__(self) -> None:
        self.tallies = [Tally(), Tally()]
        for number, tally in enumerate(self.tallies):
            tally.thread = number
        self.queue = JobQueue()
        self.agenda: Agenda = self.queue.organise(None, lambda: self.tallies, lambda: None)
        self.terms = {
            "plain": PLAIN,
            "urgent": PLAIN.but(priority=1),
            "free": PLAIN.but(rate=Rate(10**6, burst=10**5)),
            "rival": PLAIN.but(max_concurrency=100),
            "keyed": PLAIN.but(key=lambda number: number % 3),
            "urgent keyed": PLAIN.but(key=lambda number: number % 3, priority=1),
            "keyed rival": PLAIN.but(key=lambda number: number % 3, max_concurrency=100),
            "keyed pair": PLAIN.but(key=lambda number: number % 3, key_limit=2),
            "urgent pair": PLAIN.but(key=lambda number: number % 3, key_limit=2, priority=1),
            "own key": PLAIN.but(key=lambda number: f"of {number}"),
        }
        self.kinds = {name: terms.kinds()[0] for name, terms in self.terms.items()}
        self.numbers = count()
        self.order: dict[Job[Any], int] = {}
        self.waiting: list[Job[Any]] = []
        self.given: list[Job[Any]] = []
        self.in_hand: dict[int, Job[Any]] = {}
        self.in_place: list[Job[Any]] = []
        self.seen: list[Express] = []

    @property
    def race(self) -> Race:
        return self.agenda._race

    def arrive(self, kind: str, number: int) -> None:
        """So many jobs come."""
        for _ in range(number):
            call = (next(self.numbers),)
            job = self.kinds[kind](abs, call, None, copy_context(), CREW, None, time.monotonic())
            self.order[job] = call[0]
            self.queue.jobs.append(job)
            self.waiting.append(job)

    def take(self, worker: int) -> None:
        """A worker asks for a job, and so has done with the one before."""
        former = self.in_hand.pop(worker, None)
        if former is not None:
            former._outcome, former._raw = None, SUCCEEDED
        job = self.agenda.take(self.tallies[worker])
        if job is None:
            self.tallies[worker].offered = None  # as a worker does that goes idle
        else:
            self.give(job, worker)
            assert self.tallies[worker].offered is job
        if self.race.express is not None:
            self.seen.append(self.race.express)

    def give(self, job: Job[Any], worker: int | None = None) -> None:
        if job.cancelled():
            return  # its worker finds out, and asks for the next one
        self.waiting.remove(job)
        self.given.append(job)
        if worker is not None:
            self.in_hand[worker] = job
            job._raw = RUNNING
        running = [*self.in_hand.values(), *self.in_place]
        if job.key is not None:
            assert [each.key for each in running].count(job.key) <= job.key_limit

    def be_late(self) -> None:
        """A third worker, that read some time ago how to take jobs quickly, does so only now."""
        if self.seen:
            express = self.seen.pop()
            late = Tally()
            late.thread = len(self.tallies)
            try:
                if express.allowed is not None:
                    express.allowed.pop()
                late.offered = express.take()
            except IndexError:
                pass
            else:
                self.tallies.append(late)
                self.give(late.offered, late.thread)

    def take_all(self) -> None:
        """Every worker asks for a job, and has settled what it had."""
        for worker in range(len(self.tallies)):
            self.take(worker)

    def remove(self, place: int) -> None:
        """A job is taken out."""
        if self.waiting:
            job = self.waiting.pop(place % len(self.waiting))
            assert self.agenda.remove(job)

    def drop(self) -> None:
        """Somebody makes room."""
        job = self.agenda.pop_oldest()
        if job is not None and not job.cancelled():
            self.waiting.remove(job)

    def cancel(self, place: int) -> None:
        """A job that waits is cancelled."""
        if self.waiting:
            job = self.waiting.pop(place % len(self.waiting))
            assert job.cancel()
            self.agenda.note_cancelled(job)
            self.agenda.release(job)

    def wait(self, place: int) -> None:
        """A thread waits for a job, and runs it, or one that comes before it, where it waits."""
        if self.waiting:
            job = self.waiting[place % len(self.waiting)]
            turn = self.agenda.turn_of(job, [], lambda _: None)
            if turn.job is not None:
                self.in_place.append(turn.job)
                self.give(turn.job)

    def leave_place(self) -> None:
        """It is through with that."""
        if self.in_place:
            job = self.in_place.pop()
            job.set_result(None)
            self.agenda.release(job)

    def tear(self) -> None:
        """Somebody was interrupted."""
        self.agenda._torn = True

    def check(self) -> None:
        assert len(self.agenda) >= len(self.waiting)  # cancelled ones may not be cleared away yet
        assert set(self.agenda.pending()) == set(self.waiting)


COMMON = ["plain", "urgent", "free", "rival", "keyed", "urgent keyed", "keyed rival", "own key"]
OF_FEW_KEYS = ["keyed", "keyed", "keyed pair", "urgent keyed", "urgent pair"]


def acts(kinds: list[str], most: int) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """What may happen, one thing after the other, up to so many jobs arriving at once."""
    return st.lists(
        st.one_of(
            st.tuples(st.just("arrive"), st.sampled_from(kinds), st.integers(1, most)),
            st.tuples(st.just("take"), st.integers(0, 1)),
            st.tuples(st.just("take"), st.integers(0, 1)),
            st.tuples(st.just("be_late")),
            st.tuples(st.just("remove"), st.integers(0, 50)),
            st.tuples(st.just("drop")),
            st.tuples(st.just("cancel"), st.integers(0, 50)),
            st.tuples(st.just("wait"), st.integers(0, 50)),
            st.tuples(st.just("leave_place")),
            st.tuples(st.just("tear")),
            st.tuples(st.just("check")),
        ),
        max_size=80,
    )


TORN_BEHIND_THE_FIRST: list[tuple[Any, ...]] = [
    ("arrive", "keyed", 3),
    ("arrive", "urgent pair", 1),
    ("check",),
    ("tear",),
    ("take", 0),
]
CANCELLED_AND_THE_KEY_TAKEN_SINCE: list[tuple[Any, ...]] = [
    ("arrive", "own key", 5),
    ("arrive", "keyed", 1),
    ("check",),
    ("cancel", 5),
    ("arrive", "own key", 2),
    ("arrive", "keyed", 1),
    *[("take", 0)] * 6,  # the last of them is the one that was cancelled
    *[("take", 1)] * 3,  # and this the one that has its key now
    ("take", 0),
    ("arrive", "own key", 2),
    ("arrive", "keyed", 1),
    *[("take", 0)] * 3,
]


@settings(deadline=None, max_examples=500)
@example(TORN_BEHIND_THE_FIRST)
@example(CANCELLED_AND_THE_KEY_TAKEN_SINCE)
@given(st.one_of(acts(COMMON, 30), acts(OF_FEW_KEYS, 3)))
def test_each_job_is_given_once_whoever_is_late(acts: list[tuple[Any, ...]]) -> None:
    """In the end nothing is left, neither of jobs nor of what they held."""
    scene = Scene()
    for name, *arguments in acts:
        getattr(scene, name)(*arguments)
    scene.check()
    while scene.in_place:
        scene.leave_place()
    while len(scene.agenda):
        before = len(scene.agenda)
        scene.take_all()
        assert len(scene.agenda) < before
    assert not scene.waiting
    assert len(set(scene.given)) == len(scene.given)
    scene.take_all()
    assert all(tally.hold is None for tally in scene.tallies)
    assert not scene.race._keys
    assert not scene.race.claims
    for key in range(3):  # one after the other, in the order in which they came
        numbers = [scene.order[job] for job in scene.given if job.key == key]
        assert numbers == sorted(numbers)
    ceiling: Any = scene.terms["rival"].max_concurrency
    assert ceiling._inside == 0


def test_what_is_urgent_goes_before_those_that_are_taken_quickly() -> None:
    scene = Scene()
    scene.arrive("plain", 10)
    scene.take(0)
    assert scene.race.express is not None
    scene.take(1)
    scene.arrive("urgent", 1)
    scene.take(0)
    assert scene.given[-1].priority == 1
    scene.take(0)
    assert [job.priority for job in scene.given] == [0, 0, 1, 0]


def test_starts_that_were_allowed_together_are_withdrawn_when_another_lane_comes() -> None:
    """Those that did not happen can be had again."""
    scene = Scene()
    scene.arrive("free", 40)
    scene.take(0)
    express = scene.race.express
    assert express is not None
    assert express.number == 39
    scene.take(1)
    meter: Any = scene.terms["free"].rate
    assert meter._started == 39
    scene.arrive("rival", 1)
    scene.take(0)
    assert not express.allowed
    assert meter._started == 3


def test_starts_that_were_allowed_together_do_not_outlive_their_time() -> None:
    """Else a pause would be followed by more starts than the rate allows."""
    scene = Scene()
    scene.arrive("free", 40)
    scene.take(0)
    express = scene.race.express
    assert express is not None
    scene.race.express = express._replace(until=time.monotonic())
    scene.take(0)
    assert not express.allowed
    assert len(scene.given) == 2


def test_starts_that_were_allowed_together_are_had_again_whatever_was_interrupted() -> None:
    """An hour's worth of them could be lost to a destructor that cancels a job."""
    scene = Scene()
    scene.arrive("free", 40)
    scene.take(0)
    scene.tear()
    scene.arrive("rival", 1)
    scene.take(0)
    meter: Any = scene.terms["free"].rate
    assert meter._started == 2


def test_no_lane_is_kept_for_a_job_that_was_never_there() -> None:
    """Each view of a pool has a lane of its own, and some are made for one job."""
    scene = Scene()
    for priority in range(1000):
        kind = PLAIN.but(priority=priority).kinds()[0]
        job = kind(abs, (1,), None, copy_context(), CREW, None, time.monotonic())
        assert not scene.agenda.remove(job)
    assert len(list(scene.race.lanes())) == 0


def test_a_job_that_arrives_is_not_queued_again_when_somebody_has_taken_it_already() -> None:
    """A worker that takes jobs quickly may be there before it is known that the job has arrived."""
    scene = Scene()
    scene.arrive("plain", 3)
    scene.take(0)
    late = scene.waiting[0]
    express = scene.race.express
    assert express is not None
    scene.agenda._arriving = late
    scene.tear()
    scene.tallies[1].offered = express.take()
    assert scene.tallies[1].offered is late
    scene.give(late)
    scene.agenda.tend()
    scene.check()


def test_a_key_is_not_kept_by_a_job_that_somebody_ended_who_was_interrupted() -> None:
    """He was to give it back."""
    scene = Scene()
    scene.arrive("own key", 2)
    lone, first = scene.waiting
    scene.agenda.tend()
    kind: Any = scene.kinds["own key"]
    second = with_key(
        kind.args[0], first.key, abs, (1,), None, copy_context(), CREW, None, time.monotonic()
    )
    scene.queue.jobs.append(second)
    scene.agenda.tend()
    assert (scene.race.claims, scene.race.lane_behind(first)) == (
        {lone.key: lone},
        scene.race._keys[first.key],
    )
    for job in (lone, first):
        scene.race._lanes[job.line].remove(job)
        job._outcome, job._raw = None, SUCCEEDED
    scene.tear()
    assert scene.agenda.take(scene.tallies[0]) is second
    assert not scene.race.claims


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_who_is_late_while_cancelled_jobs_are_cleared_away_takes_the_next_one(
    is_interrupted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nobody else is given that, nor does the clearing change the order of the others."""
    scene = Scene()
    scene.arrive("plain", 8)
    scene.take(0)
    scene.take(1)

    def have_somebody_late(jobs: Any) -> list[Job[Any]]:
        found = snapshot(jobs)
        scene.be_late()
        return found

    def strike(lane: OpenLane) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(lanes, "snapshot", have_somebody_late)
    if is_interrupted:
        monkeypatch.setattr(OpenLane, "_leave_out_what_was_taken", strike)
    with suppress(KeyboardInterrupt):
        for place in (2, 2, 2, 2):
            scene.cancel(place)
    monkeypatch.undo()
    assert len(scene.given) == 3
    scene.take_all()
    assert not scene.waiting
    assert [scene.order[job] for job in scene.given] == [0, 1, 2, 3]


def late_scene() -> tuple[Scene, Job[Any]]:
    """Three jobs with keys of their own, one of them taken; the next is for who is late."""
    scene = Scene()
    scene.arrive("own key", 3)
    scene.take(0)
    return scene, scene.waiting[0]


def test_who_is_late_while_somebody_mends_keeps_the_key_of_his_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene, job = late_scene()

    def mend(takers: Iterable[Tally], mend: Any = scene.race.mend) -> None:
        def look() -> Iterator[Tally]:
            scene.be_late()  # the lanes have been looked at
            yield from takers

        mend(look())

    monkeypatch.setattr(scene.race, "mend", mend)
    scene.tear()
    scene.agenda.tend()
    assert scene.tallies[2].offered is job
    assert scene.race.claims[job.key] is job
    scene.take_all()
    assert len(scene.given) == 3
    assert job.key not in scene.race.claims


def test_who_is_late_while_somebody_looks_for_a_lost_job_takes_it_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene, job = late_scene()

    def waits(job: Job[Any], waits: Any = scene.race.waits) -> bool:
        scene.be_late()
        return bool(waits(job))

    monkeypatch.setattr(scene.race, "waits", waits)
    scene.agenda._arriving = job
    scene.tear()
    scene.agenda.tend()
    scene.take_all()
    assert not scene.waiting
    assert len(set(scene.given)) == len(scene.given) == 3


def test_who_is_late_while_somebody_takes_his_job_in_place_leaves_no_lane(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene, job = late_scene()

    def obstacle(*question: Any, obstacle: Any = scene.race.obstacle) -> Any:
        scene.be_late()
        scene.take(2)  # and through with it
        return obstacle(*question)

    monkeypatch.setattr(scene.race, "obstacle", obstacle)
    turn = scene.agenda.turn_of(job, [], lambda _: None)
    assert turn.job is None
    assert not scene.race._keys


def test_nobody_waits_for_a_job_that_was_cancelled_before_it_was_queued() -> None:
    """As a timer's may be: it claims its key when it comes, and nobody has told of its end."""
    scene = Scene()
    scene.arrive("keyed", 1)
    assert scene.waiting.pop().cancel()
    scene.arrive("own key", 2)
    scene.arrive("keyed", 1)
    scene.agenda.tend()
    behind = scene.waiting[-1]
    assert behind.key == 0
    assert scene.race._keys[0].ahead is None
    scene.take_all()
    scene.take_all()
    assert behind in scene.given


def test_a_signal_handler_may_be_quicker_in_having_a_queue_put_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It submits the first job with a key while another is about to be; its job is not lost."""
    waiting = JobQueue()
    found: list[Agenda] = []

    def race(ageing: float | None) -> Race:
        monkeypatch.undo()
        found.append(waiting.organise(None, list, lambda: None))
        return Race(ageing)

    monkeypatch.setattr(queue, "Race", race)
    assert waiting.organise(None, list, lambda: None) is found[0] is waiting.agenda
