"""Faults that queues of ours had once: order that was lost, and interruptions that cost something.

An exception that strikes a worker in `LimitedQueue.take` is tried at every moment at which the
interpreter can raise one; see `tests.strikes`.
"""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from oddjob import Pool, Rate
from oddjob.runtime.job import Job
from oddjob.runtime.limits import ConcurrencyLimit, RateLimiter
from oddjob.runtime.settling import reopen
from oddjob.runtime.slot import Slot
from tests.hang import Hang
from tests.lone_queue import LoneQueue, start
from tests.strikes import Striker, Struck

WAIT = 10.0


@contextmanager
def busy(pool: Any) -> Iterator[None]:
    """Keep the one worker of a pool busy for the length of the block."""
    hang = Hang()
    pool.submit(hang)
    hang.wait_until_it_hangs()
    yield
    hang.gate.set()


# Order.


@pytest.mark.parametrize("options", [{"key": "k"}, {"key": "k", "serial": True}])
def test_an_older_job_of_a_key_at_its_limit_is_not_overtaken_by_a_younger_one(
    options: dict[str, Any],
) -> None:
    """Once the key is free, the older job is the first of those that may start."""
    order: list[str] = []
    with Pool(1) as pool:
        keyed = pool.options(**options)
        with busy(keyed):
            jobs = [
                keyed.submit(order.append, "old, held up by its key"),
                pool.submit(order.append, "young"),
            ]
        for job in jobs:
            job.result(WAIT)
    assert order == ["old, held up by its key", "young"]


@pytest.mark.parametrize("keys", [1, 3, 7])
@pytest.mark.parametrize("options", [{}, {"key_limit": 2}, {"priority": 1}])
def test_a_batch_over_several_keys_starts_in_order(keys: int, options: dict[str, Any]) -> None:
    order: list[int] = []
    with Pool(1) as pool:
        view = pool.options(key=lambda number: number % keys, **options)
        with busy(pool):
            jobs = view.submit_many(order.append, range(20))
        for job in jobs:
            job.result(WAIT)
    assert order == list(range(20))


def test_a_cancelled_job_of_a_key_does_not_hold_up_those_behind_it() -> None:
    """Its view had a lower `key_limit` than theirs."""
    lone = LoneQueue()
    narrow, wide = lone.policy(key_limit=1), lone.policy(key_limit=3)
    jobs = [lone.submit(policy, key="k") for policy in (wide, wide, narrow, wide)]
    slots = [lone.new_slot() for _ in jobs]
    assert lone.queue.take(slots[0]) is jobs[0]
    assert jobs[2].cancel()
    assert lone.queue.take(slots[1]) is jobs[1]
    assert lone.queue.take(slots[2]) is jobs[3]


def test_a_job_that_was_held_up_by_a_limit_goes_before_a_younger_one() -> None:
    order: list[str] = []
    with Pool(1) as pool:
        limited = pool.options(max_concurrency=1)
        with busy(limited):
            jobs = [
                limited.submit(order.append, "old, held up by its limit"),
                pool.options(name="other").submit(order.append, "young"),
            ]
        for job in jobs:
            job.result(WAIT)
    assert order == ["old, held up by its limit", "young"]


# Interruptions.


KINDS: dict[str, Callable[[], dict[str, Any]]] = {
    "priority": dict,
    "key": dict,
    "key_limit": lambda: {"key_limit": 2},
    "serial": lambda: {"serial": True},
    "concurrency": lambda: {"limits": [ConcurrencyLimit(2)]},
    "rate": lambda: {"limits": [RateLimiter(Rate(1000))]},
    "evenly spaced rate": lambda: {"limits": [RateLimiter(Rate(1000, burst=1))]},
}
USE_KEYS = {"key", "key_limit", "serial"}

cannot_trace = pytest.mark.skipif(
    sys.version_info[:2] == (3, 12),
    reason="CPython 3.12 crashes if instructions are traced that other threads are executing",
)


class Scene:
    """A queue, and workers that take from it: two that have taken jobs, one that comes later."""

    def __init__(self, kind: str, aging: float | None) -> None:
        self.now = 1.0
        self.lone = LoneQueue(aging)
        limits, has_keys = KINDS[kind](), kind in USE_KEYS
        policies = [self.lone.policy(priority=number, **limits) for number in range(2)]
        self.jobs = [
            self.lone.new_job(policies[number % 2], self.now, number % 3 if has_keys else None)
            for number in range(9)
        ]
        self.ran: list[Job[Any]] = []
        self.first, self.struck, self.later = (self.lone.new_slot() for _ in range(3))

    def submit(self, jobs: list[Job[Any]]) -> None:
        self.lone.queue.inbox.extend(jobs)

    def take(self, slot: Slot) -> Job[Any] | None:
        self.now += 0.01
        slot.last_ended_at = self.now
        return self.lone.queue.take(slot)

    def run(self, job: Job[Any]) -> None:
        """Run a job from its start to its end."""
        assert job not in self.ran, "it was handed out twice"
        self.ran.append(job)
        if start(job):
            job.set_result(None)

    def prepare(self) -> None:
        """Have two jobs taken, one of which has ended; retry one, cancel one, and queue more."""
        self.submit(self.jobs[:6])
        running, ended = self.take(self.first), self.take(self.struck)
        assert running is not None
        start(running)
        if ended is not None:
            self.run(ended)
        self.submit(self.jobs[6:])
        self.jobs[7].cancel()
        assert reopen(running)
        self.first.job = None
        self.lone.queue.post_retry(running, self.now)

    def clean_up_after_the_struck(self) -> None:
        """End what is in the slot of the interrupted worker, as the supervisor does."""
        job = self.struck.job
        if job is not None:
            if job not in self.ran:
                self.run(job)
            self.lone.queue.post_ended(job)

    def run_the_rest(self) -> None:
        """Let one worker run all that is left."""
        for _ in range(100):
            job = self.take(self.later)
            if job is not None:
                self.run(job)
            elif not len(self.lone.queue):
                break
            else:
                self.later.job = None
        assert all(job.done() for job in self.jobs), "a job is lost"
        self.now += 10
        for _ in range(2):
            self.later.job = None
            self.take(self.later)
        assert self.lone.is_empty()


def interrupted_at(number: int, kind: str, aging: float | None, *, is_late: bool) -> str | None:
    """Interrupt a take at the moment of that number, and see that nothing is lost.

    Args:
        is_late: whether another worker takes a job before the interrupted one is cleaned up after.

    Returns:
        Where it was; None if the take was over before.
    """
    scene = Scene(kind, aging)
    scene.prepare()
    striker = Striker(number)
    was_raised = False
    sys.settrace(striker.trace)
    try:
        scene.take(scene.struck)
    except Struck:
        was_raised = True
    finally:
        sys.settrace(None)
    assert was_raised is (striker.where is not None), f"swallowed in {striker.where}"
    other = scene.take(scene.later) if is_late else None
    if other is not None:
        scene.run(other)
    scene.clean_up_after_the_struck()
    try:
        scene.run_the_rest()
    except AssertionError as error:
        error.add_note(f"interrupted in {striker.where}")
        raise
    return striker.where


def moments(interrupt: Callable[[int], str | None]) -> int:
    """Interrupt at the first moment, at the second, and so on; return how many there are."""
    gc.disable()  # no destructor takes part
    try:
        number = 0
        while interrupt(number) is not None:
            number += 1
    finally:
        gc.enable()
    return number


@cannot_trace
@pytest.mark.parametrize("is_late", [False, True], ids=["alone", "while another takes"])
@pytest.mark.parametrize("aging", [None, 1.0], ids=["", "aging"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_take_may_be_interrupted_anywhere(kind: str, aging: float | None, is_late: bool) -> None:
    """No job is lost or handed out twice, no permit is kept, and the interruption is not lost."""
    assert moments(lambda number: interrupted_at(number, kind, aging, is_late=is_late)) > 20
