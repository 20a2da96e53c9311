"""What workers are given by an agenda, step by step: no threads, and so no chance."""

import time
from contextvars import copy_context
from itertools import count
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from oddjob import Rate
from oddjob.job import Job
from oddjob.settings import PoolOptions
from oddjob.terms import Terms
from oddjob.workforce.agenda import Agenda
from oddjob.workforce.express import Express
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
        }
        self.kinds = {name: terms.kinds()[0] for name, terms in self.terms.items()}
        self.numbers = count()
        self.waiting: list[Job[Any]] = []
        self.given: list[Job[Any]] = []
        self.seen: list[Express] = []

    @property
    def race(self) -> Race:
        return self.agenda._race

    def arrive(self, kind: str, number: int) -> None:
        """So many jobs come."""
        for _ in range(number):
            call = (next(self.numbers),)
            job = self.kinds[kind](abs, call, None, copy_context(), CREW, None, time.monotonic())
            self.queue.jobs.append(job)
            self.waiting.append(job)

    def take(self, worker: int) -> None:
        """A worker asks for a job."""
        job = self.agenda.take(self.tallies[worker])
        if job is not None:
            self.give(job)
            assert self.tallies[worker].offered is job
        if self.race.express is not None:
            self.seen.append(self.race.express)

    def give(self, job: Job[Any]) -> None:
        self.waiting.remove(job)
        self.given.append(job)

    def be_late(self) -> None:
        """A worker that has read some time ago how to take jobs quickly does so only now."""
        if self.seen:
            express = self.seen.pop()
            try:
                if express.allowed is not None:
                    express.allowed.pop()
                self.give(express.take())
            except IndexError:
                pass

    def remove(self, place: int) -> None:
        """A job is taken out."""
        if self.waiting:
            job = self.waiting.pop(place % len(self.waiting))
            assert self.agenda.remove(job)

    def drop(self) -> None:
        """Somebody makes room."""
        job = self.agenda.pop_oldest()
        if job is not None:
            self.waiting.remove(job)

    def tear(self) -> None:
        """Somebody was interrupted."""
        self.agenda._torn = True

    def check(self) -> None:
        assert len(self.agenda) == len(self.waiting)
        assert set(self.agenda.pending()) == set(self.waiting)


kinds = st.sampled_from(["plain", "urgent", "free", "rival", "keyed"])
acts = st.one_of(
    st.tuples(st.just("arrive"), kinds, st.integers(1, 30)),
    st.tuples(st.just("take"), st.integers(0, 1)),
    st.tuples(st.just("take"), st.integers(0, 1)),
    st.tuples(st.just("be_late")),
    st.tuples(st.just("remove"), st.integers(0, 50)),
    st.tuples(st.just("drop")),
    st.tuples(st.just("tear")),
    st.tuples(st.just("check")),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(acts, max_size=60))
def test_each_job_is_given_once_whoever_is_late(acts: list[tuple[Any, ...]]) -> None:
    """In the end nothing is left, neither of jobs nor of what they held."""
    scene = Scene()
    for name, *arguments in acts:
        getattr(scene, name)(*arguments)
    scene.check()
    while scene.waiting:
        before = len(scene.waiting)
        scene.take(0)
        scene.take(1)
        assert len(scene.waiting) < before
    assert len(scene.agenda) == 0
    assert len(set(scene.given)) == len(scene.given)
    for worker in (0, 1):
        scene.take(worker)
        assert scene.tallies[worker].hold is None
    assert not scene.race._keys
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
