"""Rates: how many jobs may start within how much time."""

import math
import time
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddjob import Pool, Rate
from oddjob.rate import as_rate
from oddjob.runtime.limits import RateLimiter
from oddjob.testing import FakeClock
from tests.long import examples

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
        ("100/ms", Rate(100, per=0.001)),
        ("2 per 5 HOURS", Rate(2, per=18_000)),
    ],
)
def test_a_rate_can_be_written_as_people_say_it(text: str, rate: Rate) -> None:
    """A settings file holds text."""
    assert Rate.parse(text) == as_rate("rate", text) == rate


@pytest.mark.parametrize(
    "text",
    ["", "fast", "100", "/s", "-1/s", "1.5/s", "1/parsec", "1//s", "5/hs", "5/ss", "5/ds", "5/mss"],
)
def test_any_other_text_is_refused_with_examples_and_the_units(text: str) -> None:
    with pytest.raises(ValueError, match=r"written like '100/minute'.* the units are ms, s, sec"):
        Rate.parse(text)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"limit": 0}, ValueError, "limit must be greater than 0"),
        ({"limit": 1.5}, TypeError, "limit must be a whole number"),
        ({"limit": 5, "per": 0}, ValueError, "per must be greater than 0 and finite"),
        ({"limit": 5, "per": math.inf}, ValueError, "per must be greater than 0 and finite"),
        ({"limit": 5, "per": math.nan}, ValueError, "per must be greater than 0 and finite"),
        ({"limit": 5, "per": "s"}, TypeError, "per must be a number of seconds"),
        ({"limit": 5, "per": 10**400}, ValueError, "per is too large"),
        ({"limit": 5, "burst": 0}, ValueError, "burst must be from 1 to its limit, 5"),
        ({"limit": 5, "burst": 6}, ValueError, "burst must be from 1 to its limit, 5"),
        ({"limit": 5, "burst": True}, TypeError, "burst must be a whole number"),
    ],
)
def test_a_bad_rate_is_refused_with_what_is_wrong(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Rate(**arguments)


class Number:
    """A number of another library, such as NumPy's."""

    def __index__(self) -> int:
        return 5


def test_a_rate_takes_a_timedelta_and_numbers_of_other_libraries() -> None:
    assert Rate(Number(), per=timedelta(minutes=1)) == Rate(5, per=60.0)  # type: ignore[arg-type]  # an int, more or less
    with pytest.raises(TypeError, match="must be a Rate or a text"):
        as_rate("rate", 5)


def test_all_of_a_rate_may_start_at_once_unless_its_burst_is_smaller() -> None:
    assert Rate(100, per=60).burst == 100
    with FakeClock() as clock, Pool(None, 2) as pool:
        starts: list[float] = []
        view = pool.options(rate=Rate(5, per=60))
        even = pool.options(rate=Rate(5, per=60, burst=1))
        view.perform_many(lambda _: starts.append(clock.now().timestamp()), range(5))
        evenly = even.submit_many(abs, range(5))
        clock.advance(0)
        assert len(starts) == 5
        assert [job.done() for job in evenly] == [True, False, False, False, False]
        clock.advance(60)
        assert all(job.done() for job in evenly)


def test_a_hundred_a_minute_start_at_once_and_the_next_hundred_a_minute_later() -> None:
    starts: list[float] = []
    with FakeClock() as clock, Pool(None, 2, rate="100/minute") as pool:
        pool.perform_many(lambda _: starts.append(0), range(250))
        for expected in (100, 200, 250):
            clock.advance(0)
            assert len(starts) == expected
            clock.advance(59.999)
            assert len(starts) == expected
            clock.advance(0.001)


def expected_starts(arrivals: list[float], rate: Rate) -> list[float]:
    """Return when jobs start that start as soon as their rate allows."""
    starts: list[float] = []
    full_at = -math.inf  # when the burst is saved up again
    for arrival in arrivals:
        start = max([arrival, *starts[-1:]])
        if len(starts) >= rate.limit:
            start = max(start, starts[-rate.limit] + rate.per)
        interval = rate.per / rate.limit
        start = max(start, full_at - (rate.burst - 1) * interval)
        full_at = max(start, full_at) + interval
        starts.append(start)
    return starts


# How long after the ones before some jobs are queued, in windows; and how many.
batches = st.lists(st.tuples(st.floats(0, 2), st.integers(1, 30)), min_size=1, max_size=6)
any_rate = st.builds(
    lambda limit, per, burst: Rate(limit, per, min(burst, limit)),
    st.integers(1, 20),
    st.sampled_from([0.5, 1.0, 60.0, 3600.0]),
    st.sampled_from([1, 2, 20]),
)


@settings(max_examples=examples(100))
@given(any_rate, batches)
def test_jobs_start_as_soon_as_their_rate_allows_and_no_sooner(
    rate: Rate, batches: list[tuple[float, int]]
) -> None:
    starts: list[float] = []
    arrivals: list[float] = []
    with FakeClock() as clock, Pool(None, 1) as pool:
        limited, now = pool.options(rate=rate), lambda: clock.now().timestamp()
        began = now()
        for pause, number in batches:
            clock.advance(pause * rate.per)
            arrivals += [now() - began] * number
            limited.perform_many(lambda _: starts.append(now() - began), range(number))
            clock.advance(0)
        clock.advance((len(arrivals) + 1) * rate.per)
    assert starts == pytest.approx(expected_starts(arrivals, rate), abs=1e-4)
    assert_no_window_is_overfull(starts, rate)


rates = st.builds(
    lambda limit, per, burst: Rate(limit, per, min(burst, limit)),
    st.integers(1, 12),
    st.floats(0.01, 100.0),
    st.integers(1, 12),
)
# Each job: how long after the one before it was queued, and how long its call takes.
arrivals = st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3)), min_size=1, max_size=60)


@settings(max_examples=examples(300))
@given(rates, arrivals, st.floats(0, 1))
def test_no_window_holds_more_starts_than_the_rate_allows(
    rate: Rate, jobs: list[tuple[float, float]], tardiness: float
) -> None:
    """Whatever is queued when, and however late it is started: this is promised to an API."""
    limiter = RateLimiter(rate)
    starts: list[float] = []
    ends: list[tuple[float, int | None]] = []
    now = 100.0
    queued_at = 100.0
    for pause, duration in jobs:
        queued_at += pause * rate.per / rate.limit
        now = max(now, queued_at, limiter.opens_at) + tardiness * 0.2 * rate.per
        for end, ticket in [each for each in ends if each[0] <= now]:
            if ticket is not None:
                limiter.release(ticket, end)
            ends.remove((end, ticket))
        now = max(now, limiter.opens_at)
        ticket = limiter.acquire(now, queued_at)
        starts.append(now)
        ends.append((now + duration * rate.per, ticket))
    assert_no_window_is_overfull(starts, rate)


def assert_no_window_is_overfull(starts: list[float], rate: Rate) -> None:
    for first, start in enumerate(starts):
        inside = [each for each in starts[first:] if each < start + rate.per * (1 - 1e-6)]
        assert len(inside) <= rate.limit


# Rates that are not meant to be reached, more than 30,000 a second: a start has no ticket.
generous = st.builds(
    lambda limit, interval, burst: Rate(limit, limit * interval, min(burst, limit)),
    st.integers(8, 100),
    st.floats(1e-6, 3e-5),
    st.integers(8, 100),
)
# What happens one after the other: a pause, as a fraction of the window; so many starts at once.
steps = st.lists(st.tuples(st.floats(0, 1.5), st.integers(0, 70)), min_size=1, max_size=40)


@settings(max_examples=examples(300))
@given(generous, steps)
def test_no_window_holds_more_starts_of_a_rate_that_is_not_meant_to_be_reached(
    rate: Rate, steps: list[tuple[float, int]]
) -> None:
    limiter = RateLimiter(rate)
    starts: list[float] = []
    now = 100.0
    for pause, number in steps:
        now += pause * rate.per
        for _ in range(number):
            now = max(now, limiter.opens_at)
            assert limiter.acquire(now, now) is None
            starts.append(now)
    assert_no_window_is_overfull(starts, rate)


@settings(deadline=None)
@given(rates, st.floats(0, 1000))
def test_a_pause_saves_up_the_burst_and_no_more(rate: Rate, pause: float) -> None:
    """Otherwise a quiet night would let a flood through in the morning."""
    limiter = RateLimiter(rate)
    now = 100.0
    limiter.acquire(now, now)
    now += rate.per * 1.1 + 0.003 + pause  # longer than it is uncertain when the start was
    at_once = 0
    while limiter.opens_at <= now + 1e-9 * now and at_once < 100:
        limiter.acquire(now, now)
        at_once += 1
    assert at_once == rate.burst


def test_saved_up_starts_are_used_once() -> None:
    """Short jobs, on several workers: those counted together, and those counted one by one."""
    starts: list[float] = []
    with Pool("api", 4, rate=Rate(300, per=1.0, burst=200)) as pool:
        for each in pool.submit_many(lambda _: starts.append(time.monotonic()), range(700)):
            each.result(WAIT)
    assert len(starts) == 700
    starts.sort()
    for first, later in zip(starts, starts[300:], strict=False):
        assert later - first > 1.0 - JITTER


def test_jobs_that_wait_for_their_rate_hold_up_no_other() -> None:
    """No worker sleeps while it waits for a rate."""
    with Pool("api", 1) as pool:
        slow = pool.options(rate=Rate(1, per=60.0))
        first, second = slow.submit(abs, 1), slow.submit(abs, 2)
        assert first.result(WAIT) == 1
        assert [pool.submit(abs, -each).result(WAIT) for each in range(20)] == list(range(20))
        assert second.state == "queued"
        assert second.cancel()


def test_the_rate_of_a_pool_and_that_of_a_view_both_hold() -> None:
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


def test_a_rate_holds_for_jobs_that_run_in_place() -> None:
    """A worker that waits for a job of its own pool runs it when the rate allows."""
    starts: list[float] = []

    def fan_out() -> int:
        jobs = [limited.submit(lambda: starts.append(time.monotonic())) for _ in range(5)]
        return len([job.result(WAIT) for job in jobs])

    with Pool("one", 1) as pool:
        limited = pool.options(rate=Rate(1, per=0.2))
        assert pool.submit(fan_out).result(WAIT) == 5
    assert all(late - early >= 0.2 - JITTER for early, late in pairwise(starts))


def test_a_decorated_function_has_one_rate_for_all_its_calls() -> None:
    with Pool("api", 4) as pool:

        @pool.job(rate=Rate(2, per=0.2))
        def call(_: int) -> float:
            return time.monotonic()

        jobs = [call.submit(1), call.options(name="other").submit(2), *call.submit_many([3, 4])]
        times = sorted(job.result(WAIT) for job in jobs)
    assert all(late - early >= 0.2 - JITTER for early, late in zip(times, times[2:], strict=False))


def test_a_shutdown_that_cancels_cancels_jobs_that_wait_for_their_rate() -> None:
    pool = Pool("api", 2, rate=Rate(1, per=3600.0))
    jobs = pool.submit_many(abs, [1, 2, 3])
    jobs[0].result(WAIT)
    pool.shutdown(cancel_futures=True)
    assert [job.cancelled() for job in jobs] == [False, True, True]


def test_a_shutdown_waits_for_jobs_that_wait_for_their_rate() -> None:
    with Pool("api", 2, rate=Rate(1, per=0.05)) as pool:
        jobs = pool.submit_many(abs, range(5))
    assert [job.result(0) for job in jobs] == list(range(5))


def test_a_start_counts_from_the_end_of_a_short_call_at_the_latest() -> None:
    """Otherwise a call that is over would delay the next ones by more than a window."""
    limiter = RateLimiter(Rate(1, per=2.0))
    ticket = limiter.acquire(100.0, 100.0)
    assert ticket is not None
    assert limiter.opens_at > 102.0
    limiter.release(ticket, 100.001)
    assert limiter.opens_at == 102.001
