"""How many jobs may start in how much time."""

import math
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddjob import Pool, Rate
from oddjob.limits import GRACE, Meter

WAIT = 10.0
# Seconds by which a job may look at the clock later than it was started, on a busy machine.
JITTER = 0.05


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/minute", Rate(100, per=60)),
        ("5/s", Rate(5)),
        ("3/10s", Rate(3, per=10)),
        ("10 per hour", Rate(10, per=3600)),
        ("1/day", Rate(1, per=86_400)),
        (" 7 / 2 minutes ", Rate(7, per=120)),
        ("20/0.5sec", Rate(20, per=0.5)),
    ],
)
def test_a_rate_can_be_written_as_people_say_it(text: str, rate: Rate) -> None:
    """A settings file holds text."""
    assert Rate.parse(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "100", "/s", "-1/s", "1.5/s", "1/parsec", "1//s"])
def test_what_is_no_rate_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="written like '100/minute'"):
        Rate.parse(text)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"limit": 0}, ValueError, "limit must be 1 or more"),
        ({"limit": 1.5}, TypeError, "limit must be a whole number"),
        ({"limit": 5, "per": 0}, ValueError, "per must be greater than 0 and finite"),
        ({"limit": 5, "per": math.inf}, ValueError, "per must be greater than 0 and finite"),
        ({"limit": 5, "per": math.nan}, ValueError, "per must be greater than 0 and finite"),
        ({"limit": 5, "per": "s"}, TypeError, "per must be a number of seconds"),
        ({"limit": 5, "burst": 0}, ValueError, "burst must be from 1 to its limit, 5"),
        ({"limit": 5, "burst": 6}, ValueError, "burst must be from 1 to its limit, 5"),
        ({"limit": 5, "burst": True}, TypeError, "burst must be a whole number"),
    ],
)
def test_a_rate_says_what_is_wrong_with_it(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Rate(**arguments)


rates = st.builds(
    lambda limit, per, burst: Rate(limit, per, min(burst, limit)),
    st.integers(1, 12),
    st.floats(0.01, 100.0),
    st.integers(1, 12),
)
# Each job: how long after the one before it was queued, and how long its call takes.
arrivals = st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3)), min_size=1, max_size=60)


@settings(deadline=None, max_examples=300)
@given(rates, arrivals, st.floats(0, 1))
def test_no_window_holds_more_starts_than_the_rate_allows(
    rate: Rate, jobs: list[tuple[float, float]], tardiness: float
) -> None:
    """Whatever comes when, and however late it is started: this is what is promised to an API."""
    meter = Meter(rate)
    meter.begin_anew(None)
    starts: list[float] = []
    ends: list[tuple[float, int]] = []
    now = 100.0
    queued_at = 100.0
    for pause, duration in jobs:
        queued_at += pause * rate.per / rate.limit
        opens = meter.opens
        now = max(now, queued_at, opens) + tardiness * 0.2 * rate.per
        for end, ticket in [each for each in ends if each[0] <= now]:
            meter.leave(ticket, end)
            ends.remove((end, ticket))
        now = max(now, meter.opens)
        ticket = meter.enter(now, queued_at)
        starts.append(now)
        ends.append((now + duration * rate.per, ticket))
    for first, start in enumerate(starts):
        inside = [each for each in starts[first:] if each < start + rate.per * (1 - 1e-9)]
        assert len(inside) <= rate.limit


generous = st.builds(
    lambda limit, per, burst: Rate(limit, per, min(burst, limit)),
    st.integers(8, 100),
    st.floats(0.05, 100.0),
    st.integers(8, 100),
)
# What is done one after the other: after what pause, as a part of the window; for how many starts
# is asked together (0: for one as ever); and which part of those that are allowed is used.
steps = st.lists(
    st.tuples(st.floats(0, 1.5), st.integers(0, 70), st.floats(0, 1)), min_size=1, max_size=40
)


@settings(deadline=None, max_examples=300)
@given(generous, steps)
def test_no_window_holds_more_starts_however_many_were_allowed_together(
    rate: Rate, steps: list[tuple[float, int, float]]
) -> None:
    """What was allowed and not used is no start, and costs none."""
    meter = Meter(rate)
    meter.begin_anew(None)
    starts: list[float] = []
    now = 100.0
    for pause, number, part in steps:
        now = max(now + pause * rate.per, meter.opens)
        before = meter.opens
        allowed = meter.allow(now, number)
        assert allowed <= number
        if allowed:
            used = round(part * allowed)
            last = now + part * GRACE
            starts += [last] * used
            meter.take_back(allowed, allowed - used, 2, last)
            assert used or meter.opens <= max(before, now)
            now = last
        else:
            meter.enter(now, now)
            starts.append(now)
    for first, start in enumerate(starts):
        inside = [each for each in starts[first:] if each < start + rate.per * (1 - 1e-9)]
        assert len(inside) <= rate.limit


@settings(deadline=None)
@given(rates, st.floats(0, 1000))
def test_a_pause_saves_up_the_burst_and_no_more(rate: Rate, pause: float) -> None:
    """Else a quiet night would let a flood through in the morning."""
    meter = Meter(rate)
    now = 100.0
    meter.enter(now, now)
    now += rate.per * 1.1 + pause + 1e-6
    at_once = 0
    while meter.opens <= now + 1e-9 * now and at_once < 100:
        meter.enter(now, now)
        at_once += 1
    assert at_once == rate.burst


def test_what_was_saved_up_is_spent_once() -> None:
    """Short jobs, of many workers: those that were allowed together, and those that were not."""
    starts: list[float] = []
    with Pool("api", 4, rate=Rate(300, per=1.0, burst=200)) as pool:
        for each in pool.submit_many(lambda _: starts.append(time.monotonic()), range(700)):
            each.result(WAIT)
    assert len(starts) == 700
    starts.sort()
    for first, later in zip(starts, starts[300:], strict=False):
        assert later - first > 1.0 - JITTER


def test_jobs_that_wait_for_their_rate_hold_up_nobody_else() -> None:
    """No thread sleeps with a worker in its hands."""
    with Pool("api", 1) as pool:
        slow = pool.options(rate=Rate(1, per=60.0))
        first, second = slow.submit(abs, 1), slow.submit(abs, 2)
        assert first.result(WAIT) == 1
        assert [pool.submit(abs, -each).result(WAIT) for each in range(20)] == list(range(20))
        assert second.state == "queued"
        assert second.cancel()


def test_a_rate_of_a_pool_and_one_of_a_function_both_hold() -> None:
    starts: list[tuple[str, float]] = []

    def start(what: str) -> None:
        starts.append((what, time.monotonic()))

    with Pool("api", 4, rate=Rate(40, per=0.4)) as pool:
        rare = pool.options(rate=Rate(10, per=0.4))
        jobs = [*rare.submit_many(start, ["rare"] * 20), *pool.submit_many(start, ["any"] * 40)]
        for job in jobs:
            job.result(WAIT)
    for limit, kinds in ((10, {"rare"}), (40, {"rare", "any"})):
        times = sorted(when for what, when in starts if what in kinds)
        for early, late in zip(times, times[limit:], strict=False):
            assert late - early >= 0.4 - JITTER


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_rate_holds_in_a_job_that_runs_in_place() -> None:
    """A worker that waits for a job of its own pool runs it: at the time at which it may start."""
    starts: list[float] = []

    def fan_out() -> int:
        jobs = [limited.submit(lambda: starts.append(time.monotonic())) for _ in range(5)]
        return len([job.result(WAIT) for job in jobs])

    with Pool("one", 1) as pool:
        limited = pool.options(rate=Rate(1, per=0.2))
        assert pool.submit(fan_out).result(WAIT) == 5
    assert all(late - early >= 0.2 - JITTER for early, late in pairwise(starts))


def test_a_decorated_function_has_its_rate_wherever_it_is_called_from() -> None:
    with Pool("api", 4) as pool:

        @pool.job(rate=Rate(2, per=0.2))
        def call(_: int) -> float:
            return time.monotonic()

        jobs = [call.submit(1), call.options(name="other").submit(2), *call.submit_many([3, 4])]
        times = sorted(job.result(WAIT) for job in jobs)
    assert all(late - early >= 0.2 - JITTER for early, late in zip(times, times[2:], strict=False))


def test_what_waits_for_its_rate_is_cancelled_by_a_shutdown_that_cancels() -> None:
    pool = Pool("api", 2, rate=Rate(1, per=3600.0))
    jobs = pool.submit_many(abs, [1, 2, 3])
    jobs[0].result(WAIT)
    pool.shutdown(cancel_futures=True)
    assert [job.cancelled() for job in jobs] == [False, True, True]


def test_a_shutdown_waits_for_what_waits_for_its_rate() -> None:
    """Accepted jobs are run."""
    with Pool("api", 2, rate=Rate(1, per=0.05)) as pool:
        jobs = pool.submit_many(abs, range(5))
    assert [job.result(0) for job in jobs] == list(range(5))


def test_a_start_counts_from_when_it_was_however_late_that_is_heard() -> None:
    """Else a long job would put off what comes after it by a second window."""
    meter = Meter(Rate(12, per=2.0, burst=12))
    meter.begin_anew(None)
    assert meter.allow(100.0, 10) == 10
    meter.take_back(10, 0, 1, 103.0)
    for _ in range(11):
        assert meter.opens <= 103.0
        meter.enter(103.0, 100.0)
