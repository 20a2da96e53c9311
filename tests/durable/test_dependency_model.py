"""Jobs that wait for others, and batches, in any order of events, compared with a model.

The model knows two rules, and applies them until nothing changes: a job that waits goes by the ends
of those that it waits for, and a batch by the ends of its members.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oddjob.durable.record import (
    Capacity,
    Claim,
    Dependency,
    Partition,
    Reference,
    State,
    Submit,
    Update,
)
from oddjob.durable.redis.location import Location
from oddjob.durable.redis.store import RedisStore
from oddjob.durable.sqlite.store import SqliteStore
from oddjob.durable.store import Filter, Store
from oddjob.runtime.links import Condition
from tests.long import TIMEOUT, examples

pytestmark = pytest.mark.timeout(TIMEOUT)

CONDITIONS = [Condition.IF_SUCCEEDED, Condition.IF_FAILED, Condition.ENDED]
ALL = Capacity(1000, 1000)
LEFT = (State.QUEUED, State.RUNNING)


@dataclass
class Job:
    """A job of the model."""

    id: Any = None
    state: State = State.SCHEDULED
    after: dict[int, Condition] = field(default_factory=dict)  # what is not met
    batch: int | None = None
    members: list[int] | None = None  # of a batch
    claim: Claim | None = None

    @property
    def is_callback(self) -> bool:
        return any(each is not Condition.SUCCESS for each in self.after.values())


class Model:
    """Jobs by the order in which they were submitted."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def settle(self) -> None:
        """Apply the rules until nothing changes."""
        while any([self._changes(job) for job in self.jobs]):  # noqa: C419  (all of them)
            pass

    def _changes(self, job: Job) -> bool:
        before = job.state, len(job.after)
        if job.members is not None:
            if job.state is State.SCHEDULED:
                self._end_batch(job)
            return before != (job.state, len(job.after))
        for place, condition in list(job.after.items()):
            end = self.jobs[place].state
            if not end.has_ended:
                continue
            if condition.is_met(end.label):
                del job.after[place]
            elif not job.state.has_ended:
                fails = condition.passes_on(end.label)
                job.state = State.FAILED if fails else State.CANCELLED
        if job.state is State.SCHEDULED and not job.after:
            job.state = State.QUEUED
        return before != (job.state, len(job.after))

    def _end_batch(self, job: Job) -> None:
        states = [self.jobs[each].state for each in job.members or ()]
        if all(each.has_ended for each in states):
            worst = State.CANCELLED if State.CANCELLED in states else State.SUCCEEDED
            job.state = State.FAILED if State.FAILED in states else worst

    def retry(self, place: int) -> None:
        """Queue a job again, and let those wait again that have ended because of it."""
        job = self.jobs[place]
        if job.members is not None:
            ends = State.FAILED, State.CANCELLED  # before any of them is retried
            for member in [each for each in job.members if self.jobs[each].state in ends]:
                self.retry(member)
        elif job.state not in (State.FAILED, State.CANCELLED) or self._is_blocked(job):
            return
        else:
            job.state = State.SCHEDULED
            self._resume(place)

    def _is_blocked(self, job: Job) -> bool:
        return any(self.jobs[each].state.has_ended for each in job.after)

    def _resume(self, place: int) -> None:
        batch = self.jobs[place].batch
        if batch is not None and self.jobs[batch].state.has_ended:
            self.jobs[batch].state = State.SCHEDULED
            self._resume(batch)
        for waiter, job in enumerate(self.jobs):
            if place in job.after and job.state.has_ended and not self._is_blocked(job):
                job.state = State.SCHEDULED
                self._resume(waiter)


class Walk:
    """A store, and the model of it."""

    def __init__(self, store: Store, draw: Any) -> None:
        self.store, self.draw, self.model = store, draw, Model()
        self.pool = f"pool-{os.urandom(6).hex()}"
        self.partition = Partition(self.pool, "function")
        store.learn(self.pool, ["function"], 4)

    def pick(self, *states: State) -> int | None:
        jobs = self.model.jobs
        found = [n for n, job in enumerate(jobs) if job.state in states]
        return self.draw(st.sampled_from(found)) if found else None

    def submit(self) -> None:
        """Submit a job that waits for some, a callback of a batch, or a batch; perhaps in one."""
        jobs = self.model.jobs
        batches = [n for n, each in enumerate(jobs) if each.members is not None]
        running = [n for n in batches if jobs[n].state is State.SCHEDULED]
        job = Job()
        kind = self.draw(st.sampled_from(["job", "job", "batch", *["callback"] * bool(batches)]))
        if kind == "batch":
            job.members = []
        elif kind == "callback":
            place = self.draw(st.sampled_from(batches))
            job.after = {place: self.draw(st.sampled_from(CONDITIONS))}
        else:
            plain = [n for n, e in enumerate(jobs) if e.members is None and not e.is_callback]
            others = self.draw(st.sets(st.sampled_from(plain), max_size=2)) if plain else set()
            job.after = dict.fromkeys(others, Condition.SUCCESS)
        if kind != "callback" and running and self.draw(st.booleans()):
            job.batch = self.draw(st.sampled_from(running))
        submits = [self.submit_of(job)]
        jobs.append(job)
        if job.batch is not None:
            self.add_member(job.batch)
        if kind == "batch":
            for distance in range(1, self.draw(st.integers(0, 3)) + 1):
                jobs.append(Job(batch=len(jobs) - distance))
                self.add_member(len(jobs) - 1 - distance)
                submits.append(Submit(self.partition, b"", batch=Reference(distance=distance)))
        answers = self.store.turn([], submits, {self.pool: Capacity(0, 0)}).submitted
        for each, answer in zip(jobs[-len(submits) :], answers, strict=True):
            each.id = answer.id

    def submit_of(self, job: Job) -> Submit:
        jobs = self.model.jobs
        return Submit(
            self.partition,
            b"",
            after=tuple(Dependency(Reference(jobs[n].id), how) for n, how in job.after.items()),
            batch=None if job.batch is None else Reference(jobs[job.batch].id),
            is_batch=job.members is not None,
        )

    def add_member(self, batch: int) -> None:
        members = self.model.jobs[batch].members
        assert members is not None
        members.append(len(self.model.jobs) - 1)

    def claim(self) -> None:
        turn = self.store.turn([], [], {self.pool: ALL})
        jobs = {job.id: job for job in self.model.jobs}
        expected = {each.id for each in self.model.jobs if each.state is State.QUEUED}
        assert {claim.id for claim in turn.claims} == expected
        for claim in turn.claims:
            jobs[claim.id].state, jobs[claim.id].claim = State.RUNNING, claim

    def end(self, state: State) -> None:
        place = self.pick(State.RUNNING)
        if place is not None:
            job = self.model.jobs[place]
            assert job.claim is not None
            turn = self.store.turn([Update(job.claim, state)], [], {self.pool: Capacity(0, 0)})
            assert turn.refused == []
            job.state = state

    def succeed(self) -> None:
        self.end(State.SUCCEEDED)

    def fail(self) -> None:
        self.end(State.FAILED)

    def retry(self) -> None:
        place = self.pick(State.FAILED, State.CANCELLED)
        if place is not None:
            self.store.retry([self.model.jobs[place].id])
            self.model.retry(place)

    def step(self) -> None:
        steps = [self.submit, self.submit, self.claim, self.succeed, self.fail, self.retry]
        self.draw(st.sampled_from(steps))()
        self.model.settle()
        self.check()

    def check(self) -> None:
        """Every record is as in the model, and every counter of a batch."""
        records = self.store.reader.records(self.pool, Filter(), limit=1000)
        found = {record.id: record for record in records}
        for job in self.model.jobs:
            record = found[job.id]
            assert record.state is job.state, (job, record)
            if job.members is not None:
                states = [self.model.jobs[each].state for each in job.members]
                done = sum(each.has_ended for each in states)
                assert record.progress == b"[%d,%d]" % (done, len(states))

    def finish(self) -> None:
        """All that is left can run, and everything ends."""
        while any(job.state in LEFT for job in self.model.jobs):
            self.claim()
            while any(job.state is State.RUNNING for job in self.model.jobs):
                self.succeed()
                self.model.settle()
        self.check()
        assert all(job.state.has_ended for job in self.model.jobs)


@contextmanager
def joined(store: Store) -> Iterator[Store]:
    store.join({}, 0)
    yield store
    store.leave()
    store.close()


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    if request.param == "redis":
        location = Location(request.getfixturevalue("redis_url"))
        with joined(RedisStore(location)) as store:
            yield store
    else:
        with joined(SqliteStore(":memory:")) as store:
            yield store


@settings(
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_jobs_go_by_the_ends_of_others_in_any_order_of_events(
    store: Store, data: st.DataObject
) -> None:
    walk = Walk(store, data.draw)
    for _ in range(data.draw(st.integers(5, 30))):
        walk.step()
    walk.finish()
