"""Timers that are paused, run by hand, spread by jitter, or given as a text."""

import threading
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

import oddjob
from oddjob import Pool
from oddjob.schedule.scheduler import scheduler
from oddjob.testing import FakeClock

WAIT = 10.0
START = datetime(2030, 1, 1, tzinfo=UTC)


def test_a_paused_timer_does_not_fire_and_makes_up_for_one_firing_at_most() -> None:
    with FakeClock() as clock, Pool("work", 2) as pool:
        timer = pool.every(10).perform(int)
        clock.advance(10)
        assert timer.pause()
        assert not timer.pause()
        assert (timer.next, timer.remaining(), timer.cancelled) == (None, False, False)
        assert "paused" in repr(timer)
        clock.advance(35)
        assert timer.fired == 1
        assert timer.resume()
        assert not timer.resume()
        clock.advance(0)
        assert (timer.fired, timer.missed, timer.remaining()) == (2, 2, 5.0)
        timer.cancel()
        assert not timer.pause()
        assert not timer.resume()


def test_a_paused_timer_that_fires_once_keeps_its_job_until_it_is_resumed() -> None:
    with FakeClock() as clock, Pool("work", 2) as pool:
        job = pool.after(5).submit(int, "7")
        (timer,) = pool.timers()
        assert timer.pause()
        clock.advance(60)
        assert job.state == "scheduled"
        assert timer.resume()
        clock.advance(0)
        assert job.result(WAIT) == 7
        assert pool.timers() == []


def test_a_paused_timer_ends_when_it_or_its_job_is_cancelled() -> None:
    with FakeClock(), Pool("work", 2) as pool:
        jobs = [pool.after(5).submit(int) for _ in range(2)]
        first, second = pool.timers()
        assert first.pause()
        assert second.pause()
        assert first.cancel() == 0.0
        assert jobs[1].cancel()
        assert jobs[0].cancelled()
        assert (first.cancelled, second.cancelled, pool.timers()) == (True, True, [])


def test_a_paused_timer_does_not_keep_the_process() -> None:
    with FakeClock(), Pool("work", 2) as pool:
        timer = pool.every(5, daemon=False).perform(int)
        assert timer.pause()
        assert scheduler._keepers == set()
        assert timer.resume()
        assert scheduler._keepers == {timer}
        timer.cancel()


def test_a_timer_can_be_run_now() -> None:
    with FakeClock() as clock, Pool("work", 2) as pool:
        once, recurring = pool.after(60).submit(int), pool.every(10).submit(int)
        _, timer = pool.timers()
        recurring.pause()
        assert recurring.run_now()
        assert recurring.jobs[0].result(WAIT) == 0
        assert recurring.resume()
        assert (recurring.fired, recurring.remaining()) == (1, 10.0)
        assert timer.run_now()
        assert once.result(WAIT) == 0
        assert not timer.run_now()
        clock.advance(120)
        assert timer.fired == 1
        recurring.cancel()
        assert not recurring.run_now()


def test_a_timer_that_is_run_now_does_not_overlap_itself() -> None:
    gate = threading.Event()
    with FakeClock(), Pool("work", 2) as pool:
        timer = pool.every(10).submit(gate.wait, WAIT)
        assert timer.run_now()
        assert not timer.run_now()
        assert (timer.fired, timer.missed) == (1, 1)
        gate.set()
        timer.cancel()


def test_the_timers_of_a_pool_are_listed_with_the_next_one_first() -> None:
    with FakeClock() as clock, Pool("work", 2) as pool:
        assert oddjob.timers("work") == []
        slow, fast = pool.every(60).perform(int), pool.after(5).perform(int)
        assert oddjob.timers("work") == pool.timers() == [fast, slow]
        clock.advance(5)
        assert pool.timers() == [slow]
    assert pool.timers() == []


def test_jitter_delays_each_firing_at_random_and_keeps_the_phase() -> None:
    with FakeClock() as clock, Pool("work", 2) as pool:
        timer = pool.every(10, jitter=timedelta(seconds=4), overlap=True).perform(int)
        start, delays = clock.now(), []
        for number in range(1, 30):
            delays.append((timer.fires_at - start).total_seconds() - 10 * number)
            clock.advance(timer.remaining())
            assert timer.fired == number
        assert 0 <= min(delays) < max(delays) <= 4
        assert timer.missed == 0
        timer.cancel()


def test_jitter_longer_than_a_minute_leaves_no_cron_firing_out() -> None:
    pytest.importorskip("cronsim")
    with FakeClock(START) as clock, Pool("work", 2) as pool:
        timer = pool.cron("0 3 * * *", tz="UTC", jitter=3600, catch_up=False).perform(int)
        for day in range(1, 6):
            assert timer.next is not None
            assert time(3) <= timer.next.time() <= time(4)
            clock.advance(timer.remaining())
            assert (timer.fired, timer.missed) == (day, 0)
        timer.cancel()


@pytest.mark.parametrize("jitter", [-1, 10, float("inf"), "1"])
def test_jitter_that_cannot_be_is_refused(jitter: Any) -> None:
    with Pool() as pool, pytest.raises((TypeError, ValueError), match="jitter"):
        pool.every(10, jitter=jitter)


def test_times_can_be_given_as_text() -> None:
    pytest.importorskip("cronsim")
    with FakeClock(START), Pool("work", 2) as pool:
        at = pool.at("2030-01-01 03:00+00:00").perform(int)
        assert at.fires_at == START + timedelta(hours=3)
        assert pool.at("03:00").perform(int).fires_at.astimezone().strftime("%H:%M") == "03:00"
        daily = pool.daily("03:30", tz="UTC").perform(int)
        assert daily.fires_at == START + timedelta(hours=3, minutes=30)
        own_zone = pool.daily(time(4, tzinfo=UTC), jitter=60).perform(int)
        assert own_zone.fires_at - START >= timedelta(hours=4)
        function = pool.job(int)
        for text in ("05:00", "5:00"):
            found = function.daily(text, tz="UTC").perform().fires_at
            assert found == START + timedelta(hours=5)


def test_a_text_without_a_colon_is_a_date() -> None:
    with FakeClock(START), Pool("work", 2) as pool:
        assert pool.at("20300131").perform(int).fires_at.astimezone().day == 31
        with pytest.raises(ValueError, match="at must be a time such as"):
            pool.at("2030-01")


def test_a_daily_time_with_a_zone_takes_no_other_one() -> None:
    pytest.importorskip("cronsim")
    with Pool() as pool, pytest.raises(ValueError, match="tz is given twice"):
        pool.daily(time(3, tzinfo=UTC), tz="Europe/Paris")


@pytest.mark.parametrize("when", ["25:00", "soon", "03:00:30", 3, None, START])
def test_a_daily_time_that_is_none_is_refused(when: Any) -> None:
    with Pool() as pool, pytest.raises((TypeError, ValueError), match=r"^daily .* time of day in"):
        pool.daily(when)


def test_a_decorated_function_recurs_with_jitter() -> None:
    with FakeClock() as clock, Pool("work", 2) as pool:

        @pool.job(every=10, jitter=5)
        def tick() -> None: ...

        assert tick.timer is not None
        clock.advance(15)
        assert tick.timer.fired == 1
        tick.timer.cancel()
