"""Rates of stored jobs: they allow what those of jobs in memory do, for all processes together."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from oddjob import Pool, Rate
from oddjob.durable.record import Limiter, Partition
from oddjob.durable.sqlite import schema
from oddjob.durable.sqlite.partitions import Allowance, Execute, PartitionTable
from oddjob.durable.submissions import LimiterNames
from oddjob.testing import FakeClock
from tests.durable import jobs
from tests.long import examples
from tests.unit.test_rate import any_rate, assert_no_window_is_overfull, batches, expected_starts


@settings(max_examples=examples(160))
@given(any_rate, batches)
def test_stored_jobs_start_as_soon_as_their_rate_allows_and_no_sooner(
    rate: Rate, batches: list[tuple[float, int]]
) -> None:
    """A process claims what it may, and comes back when the store says that it may claim more."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(schema.CREATE)
        arrivals, starts = claim_all(connection.execute, rate, batches)
    assert starts == pytest.approx(expected_starts(arrivals, rate), abs=1e-3)
    assert_no_window_is_overfull(starts, rate)


def claim_all(
    execute: Execute, rate: Rate, batches: list[tuple[float, int]]
) -> tuple[list[float], list[float]]:
    """Claim all jobs of these batches; return when each was queued, and when it was claimed."""
    partitions = PartitionTable()
    number = partitions.id_of(execute, Partition("pool", "f", (Limiter("rate", None, *rate),)))
    partition = partitions.get(execute, number)
    now, waiting = 1e9, 0
    arrivals: list[float] = []
    starts: list[float] = []

    def claim() -> float:
        """Claim what the rate allows; return when it allows the next one."""
        nonlocal waiting
        allowance = Allowance(execute, "pool", now)
        while waiting and allowance.of(partition) >= 1:
            allowance.take(partition)
            starts.append(now - 1e9)
            waiting -= 1
        allowance.store()
        following = Allowance(execute, "pool", now)
        return now + (0.0 if following.of(partition) >= 1 else following.opens_in(partition))

    for pause, count in [*batches, (1000, 0)]:
        arrival = now + pause * rate.per
        looks = 0
        while waiting and (opens_at := claim()) <= arrival:
            now = max(opens_at, now + 1e-6)  # as finely as the clock of a machine goes
            looks += 1
            assert looks < 1000
        now = arrival
        waiting += count
        arrivals += [now - 1e9] * count
        claim()
    return arrivals, starts


def test_a_hundred_a_minute_start_at_once_and_the_next_hundred_a_minute_later(
    tmp_path: Path,
) -> None:
    jobs.runs.clear()
    store = f"sqlite:///{tmp_path}/jobs.db"
    with FakeClock() as clock, Pool("durable", 2, rate="100/minute", store=store) as pool:
        pool.perform_many(jobs.note, range(250))
        for expected in (100, 200, 250):
            clock.advance(0)
            assert len(jobs.runs) == expected
            clock.advance(59.9)
            assert len(jobs.runs) == expected
            clock.advance(0.1)


def test_a_burst_of_one_spaces_stored_jobs_evenly(tmp_path: Path) -> None:
    jobs.runs.clear()
    store = f"sqlite:///{tmp_path}/jobs.db"
    with FakeClock() as clock, Pool("durable", 2, store=store) as pool:
        pool.options(rate=Rate(6, per=60, burst=1)).perform_many(jobs.note, range(4))
        for expected in (1, 2, 3, 4):
            clock.advance(0)
            assert len(jobs.runs) == expected
            clock.advance(10)


def test_a_slow_commit_does_not_bring_starts_closer_than_the_rate_allows() -> None:
    """Claims are counted before the commit, and begin after it."""
    names = LimiterNames()
    with Pool("memory", 1) as pool:
        policy: Any = pool.options(rate=Rate(100, per=60))._policy
        (limiter,) = names.of(policy)
        assert (limiter.starts, limiter.burst) == (100, 100)
        assert 60.2 < limiter.period < 60.5
