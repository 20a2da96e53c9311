"""Random walks through `LimitedQueue`, compared with a model that is too simple to be wrong.

The model keeps lists of jobs and looks through all of them. Before each take it knows which job
must start: the first, by priority and arrival, of those that no key and no limit holds up. A walk
submits, takes, finishes, retries, cancels, drops and claims jobs, lets time pass, and pretends
that a thread was interrupted in the middle of the queue. At the end every job has ended, and no
index of the queue has anything left in it.

``ODDJOB_STRESS_ROUNDS`` sets the number of blocks of walks; ``make stress`` runs more of them. To
repeat a walk that has failed, call ``Walk(seed).run()``.
"""

import os
import random
from collections.abc import Iterator
from itertools import count
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest

from oddjob import Rate
from oddjob.runtime import limited_queue
from oddjob.runtime.job import Job
from oddjob.runtime.limits import ConcurrencyLimit, Limit, RateLimiter
from oddjob.runtime.policy import JobPolicy
from oddjob.runtime.settling import reopen
from oddjob.runtime.slot import Slot
from tests.lone_queue import LoneQueue, start
from tests.long import IS_LONG

BLOCKS = range(int(os.environ.get("ODDJOB_STRESS_ROUNDS", "1")))
WALKS_IN_BLOCK = 100 if IS_LONG else 50
STEPS = 300


class Walk:
    """One random walk."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 100.0
        self.aging = self.random.choice([None, None, 0.5])
        self.is_fair = self.aging is None and self.random.random() < 0.5
        self.lone = LoneQueue(self.aging)
        self.queue = self.lone.queue
        self.jobs: list[Job[Any]] = []
        self.slots = [self.lone.new_slot() for _ in range(4)]
        burst = self.random.choice([1, 3, 5])
        self.concurrency = [ConcurrencyLimit(2), ConcurrencyLimit(1)]
        self.rate = RateLimiter(Rate(5, per=1.0, burst=burst))
        self.policies = [self.new_policy() for _ in range(6)]
        # The model.
        self.next_number = count().__next__
        self.arriving: list[Job[Any]] = []
        self.waiting: dict[Job[Any], int] = {}  # with their numbers, in the order of arrival
        self.delayed: dict[Job[Any], float] = {}  # until when
        self.keeps_turn: set[Job[Any]] = set()  # serial jobs between two attempts
        self.running: dict[Job[Any], Slot] = {}
        self.starts: list[float] = []  # that the rate counts

    def new_policy(self) -> JobPolicy:
        chance = self.random
        is_serial = chance.random() < 0.3
        fair_by = chance.choice([None, "x", "y"]) if self.is_fair else None
        return self.lone.policy(
            fair_by=fair_by,
            fair_weights=None if fair_by is None else {"x": chance.choice([0.5, 1, 3])},
            priority=chance.randrange(3),
            serial=is_serial,
            key_limit=1 if is_serial else chance.choice([1, 2]),
            limits=filter(
                None,
                [
                    chance.choice([None, None, *self.concurrency]),
                    chance.choice([None, None, self.rate]),
                ],
            ),
        )

    def run(self) -> None:
        """Take all steps, then end everything."""
        actions = {
            self.submit: 35,
            self.take: 30,
            self.finish: 20,
            self.cancel: 6,
            self.claim: 4,
            self.drop_oldest: 1,
            self.let_time_pass: 4,
            self.tear: 3,
        }
        for action in self.random.choices([*actions], [*actions.values()], k=STEPS):
            action()
        self.end()

    # What happens.

    def submit(self) -> None:
        policy = self.random.choice(self.policies)
        keys = ["wide"] if policy.key_limit == 2 else ["a", "b"]  # the jobs of a key have one limit
        key = self.random.choice(keys if policy.is_serial else [None, *keys])
        job = self.lone.submit(policy, self.now, key)
        self.jobs.append(job)
        self.arriving.append(job)

    def take(self) -> None:
        """A worker takes a job, and gives back its former one in the same call, or before that."""
        slot = self.random.choice(self.slots)
        if slot.job in self.running:
            return
        if self.random.random() < 0.5:
            self.take_the_first(slot)
            return
        slot.last_ended_at = self.now
        job = self.queue.take(slot)
        self.read_mail()
        if job is None:
            slot.job = None
        if job is not None:
            assert self.may_start(job, is_rate_known=False)
            self.begin(job, slot)

    def take_the_first(self, slot: Slot) -> None:
        """Take a job when the queue knows all there is to know: it must be the right one."""
        self.tell_everything()
        expected = min(filter(self.may_start, self.waiting), key=self.rank, default=None)
        assert expected is None or self.queue.has_work(), "no worker would be woken"
        slot.job, slot.last_ended_at = None, self.now
        job = self.queue.take(slot)
        assert job is expected
        if job is None:
            self.check_alarm()
        else:
            self.begin(job, slot)

    def begin(self, job: Job[Any], slot: Slot) -> None:
        """Start a job that a slot has taken or claimed; or find that it was just cancelled."""
        assert job not in self.running
        assert slot.job is job
        del self.waiting[job]
        self.keeps_turn.discard(job)
        if self.rate in job._policy.limits:
            self.starts.append(self.now)
        if self.random.random() < 0.02:
            assert job.cancel()
        if start(job):
            self.running[job] = slot
        else:
            self.leave(job, slot)

    def finish(self) -> None:
        """The innermost job of a slot returns, or fails, or is to be tried again."""
        innermost = [job for job, slot in self.running.items() if slot.nested is None]
        if not innermost:
            return
        job = self.random.choice(innermost)
        slot = self.running.pop(job)
        chance = self.random.random()
        if chance < 0.3 and reopen(job):
            slot.job = None
            self.unnest(slot)
            self.delayed[job] = self.now + self.random.choice([0.0, self.random.uniform(0, 3)])
            if job._policy.is_serial:
                self.keeps_turn.add(job)
            self.queue.post_retry(job, self.delayed[job])
            return
        job.set_result(None)
        if chance > 0.9 and job._policy.is_serial:
            self.fail_those_behind(job)
        self.leave(job, slot)

    def leave(self, job: Job[Any], slot: Slot) -> None:
        if slot.outer is not None:
            slot.job = None
            self.unnest(slot)
            self.queue.post_ended(job)

    def unnest(self, slot: Slot) -> None:
        if slot.outer is not None:
            slot.outer.nested = None

    def fail_those_behind(self, job: Job[Any]) -> None:
        """Cancel the serial jobs that wait for one to succeed."""
        was_torn = self.queue._is_torn
        behind = [*(self.queue.jobs_behind(job) or ())]
        self.read_mail()
        expected = [
            each
            for each in self.waiting
            if each._key == job._key and each._policy.is_serial and each not in self.keeps_turn
        ]
        if was_torn:  # a rebuilt index knows nothing of a job that has ended
            expected = [each for each in expected if each in behind]
        assert behind == expected
        for each in behind:
            self.cancel_one(each)

    def cancel(self) -> None:
        queued = [job for job in self.jobs if job.state == "queued"]
        if queued:
            self.cancel_one(self.random.choice(queued))
        elif self.running:
            assert not self.random.choice([*self.running]).cancel()

    def cancel_one(self, job: Job[Any]) -> None:
        assert job.cancel()
        self.forget(job)

    def forget(self, job: Job[Any]) -> None:
        self.waiting.pop(job, None)
        self.delayed.pop(job, None)
        self.keeps_turn.discard(job)
        if job in self.arriving:
            self.arriving.remove(job)

    def claim(self) -> None:
        """A running job waits for a queued one, which may then run in its place."""
        queued = [job for job in self.jobs if job.state == "queued"]
        if not queued or not self.running:
            return
        worker = outermost(self.random.choice([*self.running.values()]))
        job = self.random.choice(queued)
        self.tell_everything()
        stack, outer = worker.jobs(), worker.with_nested()[-1]
        slot = outer.nested = Slot(outer.core, outer.metrics, outer)
        expected = self.first_to_run(job, stack)
        assert self.queue.claim(job, stack, slot) is expected
        if expected is not None:
            self.begin(expected, slot)
        else:
            self.unnest(slot)

    def drop_oldest(self) -> None:
        """The job that has waited longest, of the least urgent, makes room for another."""
        self.tell_everything()
        candidates = self.waiting or self.delayed
        expected = min(candidates, key=lambda job: job.priority, default=None)
        assert self.queue.pop_oldest() is expected
        if expected is not None:
            self.cancel_one(expected)

    def let_time_pass(self, seconds: float = 0.5) -> None:
        self.now += self.random.uniform(0, seconds)

    def tear(self) -> None:
        """A thread was interrupted in the middle of a change."""
        self.queue._is_torn = True

    # What the model knows.

    def tell_everything(self) -> None:
        """Let the queue, and the model, know of all that has happened."""
        for slot in self.slots:
            if slot.job is not None and slot.job.done():
                self.queue.post_ended(slot.job)
        self.queue.tidy()
        self.read_mail()
        assert len(self.queue) == len(self.waiting) + len(self.delayed)
        assert {*self.queue.waiting()} == {*self.waiting, *self.delayed}

    def read_mail(self) -> None:
        """Number what has arrived, and what is due again, as the queue does at each call."""
        for job in self.arriving:
            self.waiting[job] = self.next_number()
        self.arriving.clear()
        due = [job for job, until in self.delayed.items() if until <= self.now]
        for job in sorted(due, key=self.delayed.__getitem__):
            del self.delayed[job]
            self.waiting[job] = self.next_number()

    def rank(self, job: Job[Any]) -> tuple[float, ...]:
        """Return the place of a job among those that may start: the lowest is first."""
        if self.queue._turns is not None:  # what these are is for `test_fair_turns` to know
            return -job.priority, *job._number[:2]
        if self.aging is None:
            return -job.priority, self.waiting[job]
        return job._queued_at - job.priority * self.aging, self.waiting[job]

    def may_start(self, job: Job[Any], *, is_rate_known: bool = True) -> bool:
        """Return whether neither the key of a job nor a limit holds it up."""
        if self.first_of_key(job, []) is not job:
            return False
        return all(
            self.is_open(limit)
            for limit in job._policy.limits
            if is_rate_known or limit is not self.rate
        )

    def first_of_key(self, job: Job[Any], stack: list[Job[Any]]) -> Job[Any] | None:
        """Return the waiting job of the same key that has to be next; None: none may start."""
        key = job._key
        if key is None or job in self.keeps_turn:
            return job
        first = next(
            each for each in self.waiting if each._key == key and each not in self.keeps_turn
        )
        running = sum(each._key == key for each in (*self.running, *self.keeps_turn))
        held = sum(each._key == key for each in stack)
        return first if running - held < first._policy.key_limit else None

    def first_to_run(self, job: Job[Any], stack: list[Job[Any]]) -> Job[Any] | None:
        """Return which job may run where the jobs in `stack` wait for `job`."""
        if job not in self.waiting:
            return None
        first = self.first_of_key(job, stack)
        held = {limit for each in stack for limit in each._policy.limits if limit != self.rate}
        if first is None or not all(
            limit in held or self.is_open(limit) for limit in first._policy.limits
        ):
            return None
        return first

    def is_open(self, limit: Limit) -> bool:
        """Return whether a limit lets a job pass. (Jobs nested in one slot count once.)"""
        if limit is self.rate:
            return limit.opens_at <= self.now
        slots = {
            outermost(slot) for job, slot in self.running.items() if limit in job._policy.limits
        }
        assert isinstance(limit, ConcurrencyLimit)
        return len(slots) < limit.limit

    def check_alarm(self) -> None:
        """Whatever will be due, the supervisor looks in time."""
        times = [*self.delayed.values()]
        if any(
            self.rate in job._policy.limits and self.may_start(job, is_rate_known=False)
            for job in self.waiting
        ):
            times.append(self.rate.opens_at)
        assert self.queue.next_due() <= min(times, default=inf)

    # The end.

    def end(self) -> None:
        """Run what is left, and find nothing afterwards."""
        for _ in range(100 * len(self.jobs)):
            for slot in self.slots:
                if slot.job not in self.running:
                    self.take_the_first(slot)
            for job in [*self.running]:
                slot = self.running[job]
                if slot.nested is None:
                    del self.running[job]
                    job.set_result(None)
                    self.leave(job, slot)
            if all(job.done() for job in self.jobs):
                break
            self.now += 0.21
        assert all(job.done() for job in self.jobs), "a job is lost"
        self.now += 10
        self.take_the_first(self.slots[0])
        self.take_the_first(self.slots[0])
        assert self.lone.is_empty()
        windows = zip(self.starts, self.starts[self.rate.rate.limit :], strict=False)
        assert all(later - earlier >= self.rate.rate.per - 1e-9 for earlier, later in windows)


def outermost(slot: Slot) -> Slot:
    return slot if slot.outer is None else outermost(slot.outer)


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Walk]]:
    """Let the queue's clock be that of the latest walk."""
    walks: list[Walk] = []
    clock = SimpleNamespace(monotonic=lambda: walks[-1].now if walks else 0.0)
    monkeypatch.setattr(limited_queue, "clock", clock)
    return walks


@pytest.mark.parametrize("block", BLOCKS)
def test_the_queue_does_what_a_simple_model_does(block: int, walks: list[Walk]) -> None:
    """Order, limits and keys hold; every job starts once at a time, and ends."""
    for seed in range(block * WALKS_IN_BLOCK, (block + 1) * WALKS_IN_BLOCK):
        walks[:] = [Walk(seed)]
        try:
            walks[0].run()
        except BaseException as error:
            error.add_note(f"in the walk with seed {seed}")
            raise
