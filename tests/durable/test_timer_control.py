"""Timers of pools with a store that are paused, run by hand, or spread by jitter."""

from collections.abc import Iterator

import pytest

from oddjob import Pool
from oddjob.durable.rules import Rule, decode_rule, encode_rule
from oddjob.schedule.triggers import CronTrigger, EveryTrigger
from oddjob.testing import FakeClock
from tests.durable import jobs
from tests.hang import until


@pytest.fixture(autouse=True)
def no_runs() -> None:
    jobs.runs.clear()


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    with FakeClock() as clock:
        yield clock


@pytest.fixture
def pool(clock: FakeClock) -> Iterator[Pool]:
    with Pool("durable", 2, store="memory:") as pool:
        yield pool


def test_a_recurring_timer_is_paused_in_the_store(pool: Pool, clock: FakeClock) -> None:
    timer = pool.every(60).perform(jobs.note, 1)
    assert timer.pause()
    assert not timer.pause()
    (entry,) = pool.recurring()
    assert entry.is_paused
    assert timer.remaining() is False
    clock.advance(600)
    assert (timer.fired, jobs.runs) == (0, [])
    assert timer.resume()
    assert not timer.resume()
    until(lambda: jobs.runs == [1])
    timer.cancel()
    assert not timer.pause()


def test_timers_of_stored_jobs_can_be_run_now(pool: Pool) -> None:
    once, timer = pool.after(60).perform(jobs.note, 1), pool.every(60).perform(jobs.note, 2)
    assert once.run_now()
    until(lambda: jobs.runs == [1])
    assert not once.run_now()
    assert timer.run_now()
    until(lambda: jobs.runs == [1, 2])
    timer.cancel()
    assert not timer.run_now()
    with pytest.raises(RuntimeError, match="cannot be paused"):
        once.pause()
    assert not once.resume()


def test_a_pool_lists_the_timers_of_the_recurring_entries_in_its_store(pool: Pool) -> None:
    assert pool.timers() == []
    declared = pool.every(60, jitter=5).perform(jobs.note, 1)
    (timer,) = pool.timers()
    assert timer.next == declared.next
    assert timer.cancel()
    assert declared.cancelled
    assert pool.timers() == []


def test_jitter_delays_the_jobs_of_a_recurring_entry(pool: Pool, clock: FakeClock) -> None:
    timer = pool.every(60, jitter=50).perform(jobs.note, 1)
    for number in range(1, 6):
        clock.advance(60 if number == 1 else 10)
        assert timer.fired == number
        (job,) = pool.records(state="scheduled")
        assert job.run_at is not None
        clock.advance(50)
        until(lambda count=number: pool.counts().get("succeeded") == count)
    timer.cancel()


def test_a_rule_keeps_its_jitter_and_one_without_is_stored_as_ever() -> None:
    for trigger in (EveryTrigger(60, 5), CronTrigger("0 3 * * *", "UTC", jitter=5)):
        found = decode_rule(encode_rule(Rule(trigger, overlaps=False)))
        assert found is not None
        assert found.trigger.jitter == 5
    assert (
        encode_rule(Rule(EveryTrigger(60), overlaps=False)) == b'{"every": 60.0, "overlap": false}'
    )
