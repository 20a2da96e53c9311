"""Clocks that move when they are told to: FakeClock and freezegun."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from freezegun import freeze_time

import oddjob
from oddjob import Backoff, Pool, Rate
from oddjob.schedule.clock import clock as the_clock
from oddjob.testing import FakeClock, inline
from tests.hang import Hang, until

WAIT = 10.0
START = datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_time_stands_still_until_it_is_advanced() -> None:
    with FakeClock(START) as clock:
        assert clock.now() == START
        clock.advance(90, minutes=1, hours=1, days=1)
        assert clock.now() == START + timedelta(days=1, hours=1, minutes=2, seconds=30)
        assert "2026-05-02T13:02:30" in repr(clock)
        with pytest.raises(ValueError, match=r"use set_wall\(\)"):
            clock.advance(-1)
        for bad in (float("nan"), float("inf")):
            with pytest.raises(ValueError, match="a finite number"):
                clock.advance(bad)
        with pytest.raises(RuntimeError, match="there can be only one"), FakeClock():
            pass
    with pytest.raises(RuntimeError, match="in its block"):
        clock.advance(1)
    with pytest.raises(RuntimeError, match="in its block"):
        clock.set_wall(START)
    assert FakeClock().now() == datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("is_inline", [True, False])
def test_what_is_due_happens_in_order_and_has_ended_before_time_goes_on(is_inline: bool) -> None:
    """A job that is due at noon sees noon, not the end of the day."""
    seen: list[tuple[str, int]] = []

    def look(name: str) -> None:
        seen.append((name, clock.now().hour))

    def set_another(name: str) -> None:
        look(name)
        second.after(1800).perform(look, "set by it")

    with FakeClock(START) as clock, Pool("first", 3) as first, Pool("second", 2) as second:
        first.cron("0 * * * *", tz="UTC").perform(look, "cron")
        second.every(7200).perform(set_another, "every")
        first.after(1.5 * 3600).perform(look, "after")
        if is_inline:
            with inline():
                clock.advance(hours=3)
        else:
            clock.advance(hours=3)
    assert seen == [
        ("cron", 13), ("after", 13), ("every", 14), ("cron", 14), ("set by it", 14), ("cron", 15),
    ]  # fmt: skip


def test_retries_happen_after_their_delay() -> None:
    attempts: list[float] = []

    def fail() -> None:
        attempts.append((clock.now() - START).total_seconds())
        raise OSError

    with FakeClock(START) as clock, Pool(None, 1) as pool:
        job = pool.options(retries=3, backoff=Backoff(60, 2, jitter=0)).submit(fail)
        clock.advance(0)
        assert attempts == [0]
        clock.advance(hours=1)
        assert attempts == [0, 60, 180, 420]
        assert isinstance(job.exception(0), OSError)


def test_rates_let_jobs_start_as_time_goes_on() -> None:
    starts: list[float] = []
    with FakeClock(START) as clock, Pool(None, 3) as pool:
        view = pool.options(rate=Rate(10, per=60, burst=1))
        jobs = [
            view.submit(lambda: starts.append((clock.now() - START).total_seconds()))
            for _ in range(10)
        ]
        clock.advance(30)
        assert 5 <= len(starts) <= 6
        clock.advance(30)
        assert all(job.done() for job in jobs)
    assert starts == [pytest.approx(6 * number, abs=0.2) for number in range(10)]


def test_a_rate_lets_all_its_jobs_start_at_once_and_the_next_ones_after_the_window() -> None:
    starts: list[float] = []
    with FakeClock(START) as clock, Pool(None, 3, rate="10/minute") as pool:
        pool.perform_many(lambda _: starts.append(clock.now().timestamp()), range(25))
        clock.advance(59)
        assert len(starts) == 10
        clock.advance(2)
        assert len(starts) == 20
        clock.advance(minutes=1)
    assert len(starts) == 25


def test_a_job_that_hangs_holds_up_the_clock_for_its_patience_and_only_once() -> None:
    hang = Hang()
    with FakeClock(START, patience=0.05) as clock, Pool(None, 2) as pool:
        pool.submit(hang)
        beat = pool.every(1).perform(int)
        began = time.monotonic()
        clock.advance(20)
        assert time.monotonic() - began < WAIT
        assert beat.fired == 20
        beat.cancel()
        hang.gate.set()


def test_after_a_fake_clock_everything_goes_on_and_no_time_goes_back() -> None:
    """A rate limiter that had to wait for a made-up hour would never open again."""
    with Pool("api", 1) as pool:
        limited = pool.options(rate=Rate(1, per=0.01))
        with FakeClock(START) as clock:
            before = the_clock.monotonic()
            limited.submit(int).result(WAIT)
            late = pool.after(3600.05).submit(int)
            clock.advance(hours=1)
            limited.submit(int).result(WAIT)
        assert the_clock.monotonic() >= before + 3600
        assert limited.submit(int).result(WAIT) == 0
        assert late.result(WAIT) == 0
        assert pool.after(0.01).submit(int).result(WAIT) == 0
        assert abs(the_clock.wall() - time.time()) < WAIT
        stats = pool.stats()
    assert (stats.succeeded, stats.queue_wait.max < 3700) == (5, True)


def test_timers_that_were_set_before_a_fake_clock_go_by_it_and_outlive_it() -> None:
    with Pool(None, 1) as pool:
        first, second = pool.after(3600).submit(int), pool.after(7200).submit(int)
        with FakeClock() as clock:
            clock.advance(hours=1)
            assert first.result(0) == 0
            assert second.state == "scheduled"
        assert second.cancel()


CRONTAB = [
    f"{number % 60} {hours} * * *" if number % 3 else f"*/{5 + number % 20} * * * *"
    for number, hours in enumerate(["*", "1", "2,14", "*/6", "8-18"] * 10)
]


def test_a_day_of_a_crontab_can_be_simulated() -> None:
    """Fifty entries: every few minutes, every hour, once a day."""
    assert len(CRONTAB) == 50
    ran: list[int] = []
    with inline(), FakeClock(START) as clock, Pool("crontab", 4) as pool:
        timers = [
            pool.cron(text, tz="Europe/Berlin").perform(ran.append, number)
            for number, text in enumerate(CRONTAB)
        ]
        clock.advance(days=1)
        assert len(ran) == sum(timer.fired for timer in timers) > 1000
        assert all(timer.fired and not timer.missed for timer in timers)


def test_freezegun_fires_timers_that_go_by_the_wall_clock() -> None:
    """There is nothing to configure."""
    with Pool(None, 1) as pool:
        before = pool.at(datetime(2031, 1, 1, tzinfo=UTC)).submit(int)
        with freeze_time("2030-06-01 12:00") as frozen:
            at = pool.at(datetime(2030, 6, 1, 13, tzinfo=UTC)).submit(int)
            hourly = pool.cron("0 * * * *", tz="UTC").submit(int)
            after = pool.after(3600).submit(int)
            assert hourly.fires_at == datetime(2030, 6, 1, 13, tzinfo=UTC)
            frozen.tick(timedelta(minutes=59))
            assert at.state == "scheduled"
            frozen.tick(timedelta(minutes=1))
            assert at.result(WAIT) == 0
            until(lambda: hourly.fired == 1 and hourly.jobs[0].done())
            frozen.move_to("2030-06-01 14:00")
            until(lambda: hourly.fired == 2)
            frozen.move_to("2031-01-01 00:00")
            assert before.result(WAIT) == 0
            assert after.state == "scheduled"
        hourly.cancel()
        after.cancel()


def test_freezegun_disturbs_nothing_else() -> None:
    """A rate limiter with a clock that jumps by years would wait for years."""
    with Pool("api", 2, rate=Rate(100, per=0.1, burst=50)) as pool:
        assert pool.submit(abs, -1).result(WAIT) == 1
        with freeze_time("2040-01-01"):
            jobs = pool.submit_many(abs, range(300))
            assert [job.result(WAIT) for job in jobs] == list(range(300))
            retried = pool.options(retries=1, backoff=0.01).submit(int, "no number")
            assert isinstance(retried.exception(WAIT), ValueError)
            assert retried.attempt == 2
            hang = Hang()
            stuck = pool.options(timeout=0.05).submit(hang)
            assert isinstance(stuck.exception(WAIT), oddjob.JobTimeout)
            hang.gate.set()
            with pytest.raises(TimeoutError):
                pool.after(3600).submit(int).result(0.01)
            assert pool.after(0.01).submit(int).result(WAIT) == 0
        assert pool.submit(abs, -1).result(WAIT) == 1


def test_two_threads_can_wait_for_timers_while_a_third_advances_the_clock() -> None:
    with FakeClock() as clock, Pool(None, 2) as pool:
        jobs = [pool.after(seconds).submit(int) for seconds in (1, 2)]
        ended: list[int] = []
        threads = [
            threading.Thread(target=lambda job=job: ended.append(job.result(WAIT))) for job in jobs
        ]
        for thread in threads:
            thread.start()
        clock.advance(2)
        for thread in threads:
            thread.join()
        assert ended == [0, 0]
