"""Urgent jobs go first."""

import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddjob import Pool
from tests.hang import Hang, until
from tests.long import examples

WAIT = 10.0


@pytest.fixture
def pool() -> Iterator[Pool]:
    """Its one worker is busy until `gate` is set."""
    with Pool("one", 1) as pool:
        yield pool


@pytest.fixture
def hang(pool: Pool) -> Iterator[Hang]:
    hang = Hang()
    pool.submit(hang)
    hang.wait_until_it_hangs()
    yield hang
    hang.gate.set()


def test_higher_goes_first_and_equals_in_order(pool: Pool, hang: Hang) -> None:
    order: list[tuple[int, int]] = []
    expected = []
    for number, priority in enumerate([0, 5, -3, 5, 0, 10**30, -(10**30), 5, 0, -3]):
        pool.options(priority=priority).submit(order.append, (priority, number))
        expected.append((priority, number))
    expected.sort(key=lambda each: (-each[0], each[1]))
    assert [job._args[0] for job in pool.queue()] == expected
    hang.gate.set()
    until(lambda: len(order) == len(expected))
    assert order == expected


def test_a_first_urgent_job_goes_before_what_was_queued_without_priorities(
    pool: Pool, hang: Hang
) -> None:
    """The pool did not know of priorities until then."""
    order: list[int] = []
    jobs = [pool.submit(order.append, number) for number in range(100)]
    urgent = pool.options(priority=1).submit(order.append, -1)
    lazy = pool.options(priority=-1).submit(order.append, 1000)
    assert pool.queue() == [urgent, *jobs, lazy]
    hang.gate.set()
    lazy.result(WAIT)
    assert order == [-1, *range(100), 1000]


def test_a_batch_stays_together_inside_its_level(pool: Pool, hang: Hang) -> None:
    order: list[int] = []
    pool.submit_many(order.append, range(3))
    pool.options(priority=1).submit_many(order.append, range(10, 13))
    last = pool.submit_many(order.append, range(20, 23))[-1]
    hang.gate.set()
    last.result(WAIT)
    assert order == [10, 11, 12, 0, 1, 2, 20, 21, 22]


def test_cancelled_jobs_leave_the_queue(pool: Pool, hang: Hang) -> None:
    urgent = pool.options(priority=1)
    jobs = [urgent.submit(abs, number) for number in range(5)]
    assert jobs[0].cancel()
    assert jobs[3].cancel()
    assert pool.queue() == [jobs[1], jobs[2], jobs[4]]
    assert jobs[1].cancel()
    assert pool.queue() == [jobs[2], jobs[4]]
    assert pool.stats().queued == 2
    assert len(pool._core.dispatcher) == 2, "the queue has let go of those that were cancelled"
    hang.gate.set()
    assert jobs[4].result(WAIT) == 4


def test_jobs_know_their_priority(pool: Pool) -> None:
    assert pool.submit(abs, 1).priority == 0
    assert pool.options(priority=7).submit(abs, 1).priority == 7
    decorated = pool.job(priority=3)(abs)
    assert decorated.submit(1).priority == 3
    assert decorated.options(priority=0).submit(1).priority == 0


def test_what_is_passed_over_gets_older_and_more_urgent() -> None:
    """With aging nothing waits for ever behind a stream of urgent jobs."""
    order: list[str] = []
    with Pool("aging", 1, priority_aging=0.02) as pool:
        hang = Hang()
        pool.submit(hang)
        hang.wait_until_it_hangs()
        pool.submit(order.append, "old")
        threading.Event().wait(0.1)
        pool.options(priority=2).submit(order.append, "late and a little urgent")
        pool.options(priority=500).submit(order.append, "late and very urgent")
        hang.gate.set()
    assert order == ["late and very urgent", "old", "late and a little urgent"]


@settings(max_examples=examples(30))
@given(st.lists(st.integers(-3, 3), max_size=60), st.lists(st.booleans(), max_size=60))
def test_any_sequence_of_submits_and_cancels_is_run_in_order(
    priorities: list[int], cancels: list[bool]
) -> None:
    order: list[tuple[int, int]] = []
    with Pool(None, 1) as pool:
        hang = Hang()
        pool.submit(hang)
        hang.wait_until_it_hangs()
        jobs = []
        for number, priority in enumerate(priorities):
            submit = pool.submit if priority == 0 else pool.options(priority=priority).submit
            jobs.append(submit(order.append, (priority, number)))
        kept = [(priority, number) for number, priority in enumerate(priorities)]
        for job, cancel in zip(jobs, cancels, strict=False):
            if cancel:
                number = jobs.index(job)
                kept.remove((priorities[number], number))
                assert job.cancel()
        hang.gate.set()
    assert order == sorted(kept, key=lambda each: (-each[0], each[1]))


@pytest.mark.usefixtures("tiny_switch_interval")
def test_a_pool_that_learns_of_priorities_under_way_loses_nothing() -> None:
    """The queue changes its nature while others submit to it, and workers take from it."""
    assert sys.getswitchinterval() < 0.001
    for _ in range(30):
        done: list[int] = []
        with Pool(None, 3) as pool:
            start = threading.Barrier(4)

            def submit(first: int, pool: Pool = pool, done: list[int] = done) -> None:
                start.wait(WAIT)  # noqa: B023  (it is used before the next round)
                for number in range(first, first + 50):
                    pool.submit(done.append, number)

            threads = [
                threading.Thread(target=submit, args=(each * 100,), daemon=True)
                for each in range(3)
            ]
            for thread in threads:
                thread.start()
            start.wait(WAIT)
            pool.options(priority=1).submit(done.append, -1)
            for thread in threads:
                thread.join(WAIT)
        assert sorted(done) == sorted([-1, *range(50), *range(100, 150), *range(200, 250)])


@pytest.mark.parametrize("priority", [10**400, -(10**400)])
def test_any_whole_number_is_a_priority_with_aging_too(priority: int) -> None:
    """A number too large for a float must not stop the pool."""
    with Pool(1, priority_aging=1.0) as pool:
        assert pool.options(priority=priority).submit(abs, -1).result(WAIT) == 1
        assert pool.submit(abs, -2).result(WAIT) == 2
