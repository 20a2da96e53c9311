"""Timers: calls that are made later, once or again and again."""

import asyncio
import contextvars
import gc
import logging
import sys
import threading
import time
import tracemalloc
import weakref
from concurrent.futures import CancelledError, as_completed
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import pytest

import oddjob
from oddjob import Job, Pool, PoolBroken, QueueFull, Timer
from oddjob.schedule.scheduler import scheduler
from oddjob.schedule.triggers import AfterTrigger
from oddjob.testing import FakeClock
from tests.hang import Hang, until

WAIT = 10.0
FAR = 3600.0


def nothing_is_left() -> bool:
    """Return whether no timer is set."""
    return scheduler.next_in() == inf and not scheduler._keepers


def scheduler_thread() -> threading.Thread | None:
    threads = [each for each in threading.enumerate() if each.name == "oddjob-scheduler"]
    return threads[0] if threads else None


@pytest.fixture(autouse=True)
def no_timer_is_left_behind() -> Any:
    yield
    until(nothing_is_left)


def test_a_job_exists_from_the_beginning_and_runs_when_its_time_has_come() -> None:
    with FakeClock() as clock, Pool("mail", 2) as pool:
        job = pool.after(5).submit(pow, 2, exp=3)
        assert (job.state, job.done(), job.attempt) == ("scheduled", False, 0)
        assert pool.queue() == []
        clock.advance(4.9)
        assert job.state == "scheduled"
        clock.advance(0.1)
        assert (job.state, job.result(0), job.attempt) == ("succeeded", 8, 1)


def test_timers_go_by_the_real_clock_without_a_fake_one() -> None:
    with Pool("mail", 2) as pool:
        began = time.monotonic()
        job = pool.after(0.05).submit(time.monotonic)
        assert job.result(WAIT) - began >= 0.05
        now = datetime.now(UTC)
        later = pool.at(now + timedelta(seconds=0.05)).submit(time.time)
        assert later.result(WAIT) >= now.timestamp() + 0.05


def test_timers_of_the_same_moment_fire_in_the_order_in_which_they_were_set() -> None:
    order: list[int] = []
    with FakeClock() as clock, Pool(None, 1) as pool:
        for number in range(20):
            pool.after(10 - number % 5).perform(order.append, number)
        clock.advance(10)
    assert order == sorted(range(20), key=lambda number: (-(number % 5), number))


def test_a_batch_is_queued_in_one_insertion() -> None:
    order: list[object] = []
    with FakeClock() as clock, Pool(None, 1) as pool:
        jobs = pool.after(5).submit_many(order.append, range(100))
        timer = pool.after(5).perform_many(order.append, "abc")
        assert jobs[3].cancel()
        assert timer.jobs == []
        clock.advance(5)
        assert order == [*range(3), *range(4, 100), *"abc"]
        assert timer.fired == 1
    assert [job.cancelled() for job in jobs].count(True) == 1


def test_a_timer_can_be_read_and_cancelled_until_it_fires() -> None:
    ran: list[int] = []
    with FakeClock(datetime(2026, 5, 1, tzinfo=UTC)) as clock, Pool("mail", 1) as pool:
        kept = pool.after(60).perform(ran.append, 1)
        dropped = pool.after(60).perform(ran.append, 2)
        assert kept.pool is pool
        assert kept.fires_at == kept.next == datetime(2026, 5, 1, 0, 1, tzinfo=UTC)
        clock.advance(20)
        assert kept.remaining() == 40
        assert dropped.cancel() == 40
        assert (dropped.cancel(), dropped.remaining(), dropped.next) == (False, False, None)
        assert dropped.cancelled
        clock.advance(40)
        assert (kept.remaining(), kept.cancel(), kept.cancelled) == (False, False, False)
        assert (kept.fired, kept.next) == (1, None)
        assert kept.fires_at == datetime(2026, 5, 1, 0, 1, tzinfo=UTC)
    assert ran == [1]


def test_a_timer_shows_its_trigger_its_pool_and_its_state() -> None:
    with FakeClock(), Pool("mail", 1) as pool:
        timer = pool.after(60).perform(int)
        assert repr(timer) == "<Timer after 60 s, pool mail, next in 60 s>"
        timer.cancel()
        assert repr(timer) == "<Timer after 60 s, pool mail, cancelled>"
        assert "every 5 s" in repr(pool.every(5))
        cron = pool.cron("30 1 * * *", tz="Europe/Berlin")
        assert "cron '30 1 * * *' in" in repr(cron)


def test_cancelling_the_jobs_of_a_timer_leaves_nothing_behind() -> None:
    with Pool(None, 1) as pool:
        job = pool.after(FAR).submit(int)
        called: list[Any] = []
        job.add_done_callback(called.append)
        assert job.cancel()
        assert called == [job]
        with pytest.raises(CancelledError):
            job.result(0)
        jobs = pool.after(FAR).submit_many(abs, range(3))
        assert all(each.cancel() for each in jobs)
        assert nothing_is_left()
        thread = scheduler_thread()
        if thread is not None:
            thread.join(WAIT)
        assert scheduler_thread() is None
        assert pool.stats().cancelled == 4


def test_cancelled_timers_leave_no_memory_in_use() -> None:
    with Pool(None, 1) as pool:
        in_an_hour = pool.after(FAR)
        keep = [in_an_hour.perform(int), in_an_hour.submit(int)]
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for job in [in_an_hour.submit(int) for _ in range(10_000)]:
            job.cancel()
        del job
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert after - before < 100 * 10_000  # bytes; each timer took more than ten times that
        assert len(scheduler._monotonic.entries) < 200
        assert all(each.cancel() for each in keep)
    del keep, in_an_hour
    gc.collect()
    assert not [each for each in gc.get_objects() if issubclass(type(each), Timer)]


def test_a_timer_that_has_ended_lets_go_of_its_call() -> None:
    class Big:
        pass

    with FakeClock() as clock, Pool(None, 1) as pool:
        gc.disable()
        try:
            for set_timer in (pool.after(1).perform, pool.after(1).submit, pool.every(1).perform):
                big = Big()
                seen = weakref.ref(big)
                timer = set_timer(id, big)
                del big
                clock.advance(1)
                timer.cancel()
                assert seen() is None
                kept = pool.after(1).submit(id, seen)
                kept.cancel()
                gone = weakref.ref(kept)
                del kept
                assert gone() is None, "a cancelled job is in no reference cycle"
        finally:
            gc.enable()


def test_a_recurring_timer_keeps_its_phase_and_counts_the_firings_it_has_missed() -> None:
    ticks: list[float] = []
    with FakeClock() as clock, Pool(None, 2) as pool:
        start = clock.now()
        timer = pool.every(10).perform(lambda: ticks.append((clock.now() - start).total_seconds()))
        clock.advance(35)
        assert ticks == [10, 20, 30]
        assert (timer.fired, timer.missed, timer.remaining()) == (3, 0, 5)
        clock._monotonic += 34  # as if the scheduler had been held up
        clock.advance(0)
        assert (timer.fired, timer.missed) == (4, 2)  # that of 40 came at 69; 50 and 60 did not
        clock.advance(1)
        assert timer.fired == 5
        assert timer.cancel() == 10
        clock.advance(100)
        assert timer.fired == 5


def test_a_firing_is_left_out_while_the_job_of_the_previous_one_has_not_ended() -> None:
    hang = Hang()
    with FakeClock(patience=0.01) as clock, Pool(None, 3) as pool:
        timer = pool.every(1).submit(hang)
        overlapping = pool.every(1, overlap=True).perform(int)
        clock.advance(3)
        assert (timer.fired, timer.missed, len(timer.jobs)) == (1, 2, 1)
        assert overlapping.fired == 3
        hang.gate.set()
        timer.jobs[0].result(WAIT)
        clock.advance(1)
        assert timer.fired == 2
        assert timer.jobs[0].result(WAIT) == "late"
        timer.cancel()
        overlapping.cancel()


def test_a_job_that_fails_does_not_stop_its_timer_nor_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def compute_key(*_: object) -> str:
        raise ZeroDivisionError

    ran: list[int] = []
    with FakeClock() as clock, Pool(None, 1) as pool:
        with pytest.raises(ZeroDivisionError):
            pool.options(key=compute_key).every(1).perform(int)
        worse = pool.every(1).perform(int, "no number")
        good = pool.every(1).perform(ran.append, 1)
        clock.advance(3)
        assert len(ran) == good.fired == worse.fired == 3
    assert "ValueError" in caplog.text


def test_setting_the_wall_clock_fires_at_and_cron_but_not_after_and_every() -> None:
    with FakeClock(datetime(2026, 5, 1, 12, tzinfo=UTC)) as clock, Pool(None, 2) as pool:
        at = pool.at(datetime(2026, 5, 1, 12, 30, tzinfo=UTC)).submit(int)
        after = pool.after(1800).submit(int)
        every = pool.every(600).perform(int)
        hourly = pool.cron("15 * * * *", tz="UTC").perform(int)
        clock.set_wall(datetime(2026, 5, 1, 13, tzinfo=UTC))
        assert (at.state, after.state) == ("succeeded", "scheduled")
        assert (every.fired, hourly.fired) == (0, 1)
        clock.set_wall(datetime(2026, 5, 1, 12, tzinfo=UTC))
        clock.advance(minutes=29)  # 12:29 again: a quarter past has come already
        assert (every.fired, hourly.fired) == (2, 1)
        clock.advance(minutes=1)
        assert after.result(0) == 0
        clock.advance(minutes=45)
        assert hourly.fired == 2  # at 13:15
        every.cancel()
        hourly.cancel()


@pytest.mark.parametrize("catch_up", [True, False])
def test_after_a_suspension_missed_firings_of_cron_happen_once_or_not_at_all(
    catch_up: bool,
) -> None:
    with FakeClock(datetime(2026, 5, 1, 0, 30, tzinfo=UTC)) as clock, Pool(None, 1) as pool:
        timer = pool.cron("0 * * * *", tz="UTC", catch_up=catch_up).perform(int)
        clock.set_wall(datetime(2026, 5, 1, 8, 30, tzinfo=UTC))
        assert (timer.fired, timer.missed) == ((1, 7) if catch_up else (0, 8))
        assert timer.next == datetime(2026, 5, 1, 9, tzinfo=UTC)
        clock.set_wall(datetime(2026, 5, 1, 9, 0, 50, tzinfo=UTC))
        assert timer.fired == (2 if catch_up else 1)
        timer.cancel()


def test_a_shutdown_cancels_the_timers_of_the_pool_and_drain_lists_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "oddjob")
    pool, other = Pool("mail", 1), Pool(None, 1)
    job = pool.after(FAR).submit(int)
    timer = pool.options(priority=3).every(FAR).perform(int)
    kept = other.after(FAR).submit(int)
    report = pool.drain(WAIT)
    assert len(report.timers) == 2
    assert timer in report.timers
    assert (job.cancelled(), timer.cancelled, kept.cancelled()) == (True, True, False)
    assert report.cancelled == []
    assert "pool mail is closed; timers cancelled (2)" in caplog.text
    other.shutdown(wait=False)
    assert kept.cancelled()
    for later in (pool.after(1), pool.at(datetime.now(UTC) + timedelta(1)), pool.every(1)):
        with pytest.raises(oddjob.PoolClosed):
            later.perform(int)
    other.shutdown()


def test_a_broken_pool_fails_the_jobs_of_timers_and_runs_them_again_once_revived(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[Any] = []
    with FakeClock() as clock:
        pool = Pool("mail", 1, max_restarts=0, on_error=lambda job, error: heard.append(error))
        job = pool.after(5).submit(int)
        detached = pool.after(5).perform(int)
        beat = pool.every(5).submit(int)
        while pool.state != "broken":
            try:
                pool.submit(sys.exit).add_done_callback(lambda job: job.exception())
            except PoolBroken:
                break
        clock.advance(5)
        assert isinstance(job.exception(WAIT), PoolBroken)
        until(lambda: [type(error) for error in heard] == [PoolBroken])
        assert isinstance(detached.error, PoolBroken)
        assert isinstance(beat.error, PoolBroken)
        assert isinstance(beat.jobs[0].exception(WAIT), PoolBroken)
        until(lambda: caplog.text.count("could not queue its jobs") == 3)
        pool.restart()
        clock.advance(5)
        assert beat.jobs[0].result(WAIT) == 0
        pool.shutdown()


@pytest.mark.parametrize("when_full", ["block", "raise", "caller_runs", "drop_oldest"])
def test_a_full_pool_treats_the_jobs_of_timers_by_its_policy(when_full: Any) -> None:
    """But the scheduler does not wait, and only workers run them."""
    hang = Hang()
    threads: list[str] = []

    def look() -> None:
        threads.append(threading.current_thread().name)

    with FakeClock(patience=0.01) as clock, Pool("mail", 1, max_queue=1, when_full=when_full) as p:
        p.submit(hang)
        hang.wait_until_it_hangs()
        waiting = p.submit(int)
        jobs = p.after(1).submit_many(lambda _: look(), range(2))
        beat = p.every(1).perform(int)
        began = time.monotonic()
        clock.advance(1)
        assert time.monotonic() - began < WAIT
        if when_full == "raise":
            assert [type(job.exception(WAIT)) for job in jobs] == [QueueFull, QueueFull]
            assert isinstance(beat.error, QueueFull)
        beat.cancel()
        if when_full == "drop_oldest":
            assert isinstance(waiting.exception(WAIT), oddjob.JobDropped)
        hang.gate.set()
        if when_full in ("block", "caller_runs"):
            assert [job.result(WAIT) for job in [waiting, *jobs]] == [0, None, None]
            assert threads == ["mail_0"] * 2


def test_jobs_of_a_timer_that_wait_for_room_fail_after_the_submit_timeout() -> None:
    hang = Hang()
    with Pool("mail", 1, max_queue=1, submit_timeout=0.05) as pool:
        pool.submit(hang)
        hang.wait_until_it_hangs()
        waiting = pool.submit(int)
        job = pool.after(0.001).submit(int)
        assert isinstance(job.exception(WAIT), QueueFull)
        hang.gate.set()
        assert waiting.result(WAIT) == 0


def test_jobs_of_a_timer_that_wait_for_room_are_cancelled_when_the_pool_is_closed() -> None:
    hang = Hang()
    with FakeClock(patience=0.01) as clock:
        pool = Pool("mail", 1, max_queue=1)
        pool.submit(hang)
        hang.wait_until_it_hangs()
        waiting = pool.submit(int)
        jobs = pool.after(1).submit_many(abs, range(3))
        clock.advance(1)
        pool.shutdown(wait=False)
        for job in jobs:
            until(job.cancelled)
        hang.gate.set()
        pool.shutdown()
        assert waiting.result(0) == 0


def test_a_worker_that_waits_for_a_job_of_a_timer_runs_it_when_its_time_has_come() -> None:
    """Otherwise a pool of one would wait for ever."""
    with Pool(None, 1) as pool:
        for view in (pool, pool.options(priority=1), pool.options(key="k")):
            soon = view.after(0.02)
            assert pool.submit(lambda soon=soon: soon.submit(abs, -3).result(WAIT)).result(WAIT)

        async def wait() -> int:
            return await pool.after(0.02).submit(abs, -4)

        assert pool.submit(wait).result(WAIT) == 4
        job = pool.submit(lambda: pool.after(FAR).submit(int).result(0.05))
        assert isinstance(job.exception(WAIT), TimeoutError)


def test_jobs_of_timers_can_be_awaited_and_waited_for_like_any_other() -> None:
    async def main(pool: Pool) -> None:
        job = pool.after(0.02).submit(abs, -1)
        assert await job == 1
        late = pool.after(FAR).submit(abs, -1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(late, 0.02)
        assert late.cancelled()

    with Pool(None, 2) as pool:
        asyncio.run(main(pool))
        jobs = [pool.after(seconds).submit(int) for seconds in (0.03, 0.01)]
        assert set(as_completed(jobs, WAIT)) == set(jobs)


NAME: contextvars.ContextVar[str] = contextvars.ContextVar("NAME", default="nobody")


def test_calls_see_the_context_variables_as_they_were_when_the_timer_was_set() -> None:
    seen: list[str] = []

    def look() -> None:
        seen.append(NAME.get())
        NAME.set("a job")

    with FakeClock() as clock, Pool(None, 1) as pool:
        token = NAME.set("ann")
        timer = pool.every(1).perform(look)
        pool.after(1).perform(look)
        NAME.reset(token)
        clock.advance(2)
        timer.cancel()
    assert seen == ["ann", "ann", "ann"]


def test_decorated_functions_have_timers_too() -> None:
    with FakeClock() as clock, Pool("mail", 1) as pool:

        @pool.job
        def double(number: int) -> int:
            return 2 * number

        job: Job[int] = double.after(5).submit(4)
        jobs = double.at(clock.now() + timedelta(seconds=5)).submit_many([1, 2])
        timer = double.every(5).submit(1)
        cron = double.cron("* * * * *").perform_many([1])
        detached = [double.after(1).perform(1), double.after(1).perform_many([1, 2])]
        clock.advance(5)
        assert [each.result(0) for each in [job, *jobs, *timer.jobs]] == [8, 2, 4, 2]
        assert [each.fired for each in detached] == [1, 1]
        assert timer.cancel() == 5
        assert cron.cancel()
        assert "double" in repr(double.after(5))
        assert "double" in repr(double.every(5))


def test_a_decorated_function_can_recur_by_itself() -> None:
    ran: list[str] = []
    with FakeClock(datetime(2026, 5, 1, tzinfo=UTC)) as clock, Pool("mail", 1) as pool:

        @pool.job(every=60, name="beat")
        def beat() -> None:
            ran.append("beat")

        @pool.job(cron="30 1 * * *", tz="UTC")
        def nightly() -> None:
            ran.append("nightly")

        @pool.job
        def plain() -> None: ...

        assert plain.timer is None
        assert nightly.timer is not None
        assert nightly.timer.next == datetime(2026, 5, 1, 1, 30, tzinfo=UTC)
        clock.advance(hours=1, minutes=31)
        beat()
        assert ran.count("nightly") == 1
        assert ran.count("beat") == 92
        assert beat.timer is not None
        assert beat.timer.cancel() == 60


def test_a_function_that_recurs_by_itself_takes_no_arguments() -> None:
    """Otherwise it would fail every minute, in the log of production."""
    with Pool(None, 1) as pool, pytest.raises(TypeError, match="without arguments"):
        pool.job(every=5)(lambda user: user)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("after", -1, ValueError, "after must be 0 or more, and finite, not -1"),
        ("after", float("nan"), ValueError, "after must be 0 or more"),
        ("after", float("inf"), ValueError, "and finite, not inf"),
        ("after", 10**400, ValueError, "after is too large"),
        ("after", timedelta(-1), ValueError, "after must be 0 or more"),
        ("after", "5", TypeError, "after must be a number of seconds or a timedelta, not '5'"),
        ("after", True, TypeError, "after must be a number of seconds or a timedelta, not True"),
        ("every", 0, ValueError, "every must be 0.001 or more, and finite, not 0"),
        ("every", None, TypeError, "every must be a number of seconds or a timedelta, not None"),
        ("at", 5, TypeError, "at must be a datetime or a time of day, not 5"),
        ("at", "noon", ValueError, "at must be a time such as \"03:00\" or .*, not 'noon'"),
        (
            "at",
            datetime(9999, 12, 31, tzinfo=UTC),
            ValueError,
            "at must be before the year 9999, not 9999-12",
        ),
    ],
)
def test_bad_times_are_refused_where_they_are_given(
    name: str, value: Any, error: type[Exception], message: str
) -> None:
    with Pool(None, 1) as pool, pytest.raises(error, match=message):
        getattr(pool, name)(value)


class Half:
    """A number of another library, such as NumPy's."""

    def __float__(self) -> float:
        return 0.5


def test_seconds_may_be_a_timedelta_or_a_number_of_another_library() -> None:
    with FakeClock() as clock, Pool(None, 1) as pool:
        once = pool.after(timedelta(minutes=1)).perform(int)
        again = pool.every(Half()).perform(int)  # type: ignore[arg-type]  # a float, more or less
        assert (once.remaining(), again.remaining()) == (60, 0.5)
        clock.advance(timedelta(minutes=1))
        assert (once.fired, again.fired) == (1, 120)
        again.cancel()


def test_timers_can_be_set_with_the_functions_of_the_module() -> None:
    ran: list[object] = []
    with FakeClock() as clock:
        pool = Pool("mail", 1)
        timers = [
            oddjob.perform_after(5, "mail", ran.append, 1),
            oddjob.perform_at(clock.now() + timedelta(seconds=5), pool, ran.append, 2),
            oddjob.perform_many_after(5, "mail", ran.append, "ab"),
            oddjob.perform_many_at(clock.now() + timedelta(seconds=5), "mail", ran.append, "cd"),
        ]
        never = oddjob.perform_after(5, "mail", ran.append, "never")
        assert oddjob.read_timer(never) == 5
        assert oddjob.cancel_timer(never) == 5
        assert oddjob.cancel_timer(never) is False
        clock.advance(5)
        assert [oddjob.read_timer(timer) for timer in timers] == [False] * 4
        assert sorted(map(str, ran)) == sorted(map(str, [1, 2, "a", "b", "c", "d"]))
        with pytest.raises(oddjob.PoolNotFound):
            oddjob.perform_after(5, "male", int)

        @oddjob.perform_this("mail", after=5)
        def timer() -> None:
            ran.append("this")

        @oddjob.perform_this("mail", at=clock.now() + timedelta(seconds=5), async_=True)
        def job() -> str:
            return "that"

        assert timer.remaining() == 5
        clock.advance(5)
        assert job.result(0) == "that"
        assert ran[-1] == "this"
        with pytest.raises(TypeError, match="either at= or after=, not both"):
            oddjob.perform_this("mail", after=5, at=clock.now())  # type: ignore[call-overload]
        pool.shutdown()


def test_a_timer_keeps_an_anonymous_pool_alive_until_it_has_fired() -> None:
    ran = threading.Event()
    Pool(None, 1).after(0.02).perform(ran.set)
    gc.collect()
    assert ran.wait(WAIT)


def test_an_anonymous_pool_that_only_a_timer_keeps_alive_is_open_when_its_last_jobs_come() -> None:
    """Its supervisor, awake already, would close it as soon as it is collected."""
    pool = Pool(None, 1)
    pool.submit(int).result(WAIT)
    core, is_alive, ran = pool._core, list[bool](), threading.Event()
    accept = core.intake.accept_fired

    def note_and_accept(*args: Any) -> None:
        gc.collect()
        is_alive.append(core.pool is not None)
        accept(*args)

    core.intake.accept_fired = note_and_accept  # type: ignore[method-assign]
    pool.after(0.02).perform(ran.set)
    del pool
    assert ran.wait(WAIT)
    assert is_alive == [True]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with Pool(None, 1) as pool, pytest.raises(ImportError, match=r"pip install 'oddjob\[cron\]'"):
        pool.cron("* * * * *")
    with pytest.raises(ImportError, match=r"oddjob\[cron\]"):
        oddjob.explain_cron("* * * * *")


def test_a_thread_that_waits_for_a_job_is_woken_if_that_is_cancelled_before_its_time() -> None:
    async def main() -> None:
        job = pool.after(FAR).submit(int)
        asyncio.get_running_loop().call_later(0.01, job.cancel)
        with pytest.raises(asyncio.CancelledError):
            await job

    with Pool(None, 1) as pool:
        asyncio.run(main())
        for _ in range(200):
            job = pool.after(FAR).submit(int)
            thread = threading.Thread(target=job.cancel)
            thread.start()
            with pytest.raises(CancelledError):
                job.result(WAIT)
            thread.join()


@pytest.mark.parametrize("batch", [False, True])
def test_a_job_that_is_cancelled_alone_wakes_those_who_wait_for_it(batch: bool) -> None:
    """The timer goes on with the other jobs of its batch."""

    async def main() -> None:
        asyncio.get_running_loop().call_later(0.01, awaited.cancel)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(awaited, WAIT)

    with Pool(None, 2) as pool:
        later = pool.after(FAR)
        awaited, waited, other = (
            later.submit_many(abs, range(3)) if batch else [later.submit(int) for _ in range(3)]
        )
        asyncio.run(main())
        waits = threading.Event()

        def wait() -> str:
            waits.set()
            try:
                waited.result(WAIT)
            except CancelledError:
                return "cancelled"
            return "not cancelled"

        waiter = pool.submit(wait)
        assert waits.wait(WAIT)
        waited.cancel()
        assert waiter.result(WAIT) == "cancelled"
        assert other.state == "scheduled"
        other.cancel()


def test_a_timer_that_is_set_while_its_pool_closes_is_refused_or_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Pool("mail", 1)
    set_alarm = scheduler.set_alarm

    def close_first(*args: Any) -> None:
        pool.shutdown()
        set_alarm(*args)

    monkeypatch.setattr(scheduler, "set_alarm", close_first)
    with pytest.raises(oddjob.PoolClosed):
        pool.every(1).perform(int)
    assert nothing_is_left()


def test_a_job_that_is_cancelled_while_its_timer_is_being_set_cancels_the_timer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Middleware has seen the job by then, so any thread may cancel it."""
    seen: list[Job[Any]] = []
    first = AfterTrigger.first

    class Recorder:
        def submit(self, job: Job[Any], carrier: dict[str, str]) -> None:
            seen.append(job)

    def cancel_first(trigger: AfterTrigger) -> float:
        assert seen[0].cancel()
        return first(trigger)

    monkeypatch.setattr(AfterTrigger, "first", cancel_first)
    with Pool("mail", 1, middleware=[Recorder()]) as pool:
        job = pool.after(FAR).submit(int)
        assert job.cancelled()
        assert pool.timers() == []
        assert nothing_is_left()


@pytest.mark.parametrize("when_full", ["block", "caller_runs"])
def test_a_worker_that_waits_for_a_job_that_waits_for_room_runs_it(when_full: Any) -> None:
    """No other worker could make room."""

    def wait() -> list[int]:
        jobs = pool.after(0.01).submit_many(abs, range(-9, 0))
        return [job.result(WAIT) for job in jobs]

    with Pool("mail", 1, max_queue=2, when_full=when_full) as pool:
        assert pool.submit(wait).result(2 * WAIT) == list(range(9, 0, -1))


def test_a_callback_that_exits_does_not_save_the_other_timers_from_a_shutdown() -> None:
    def exit_thread(_: object) -> None:
        raise SystemExit

    with Pool(None, 1) as pool:
        jobs = pool.after(FAR).submit_many(abs, range(3))
        jobs[0].add_done_callback(exit_thread)
        other = pool.after(FAR).submit(int)
        with pytest.raises(SystemExit):
            pool.shutdown()
        assert all(job.cancelled() for job in [*jobs, other])


def test_a_scheduled_job_that_is_settled_by_hand_has_ended() -> None:
    async def main() -> None:
        job = pool.after(FAR).submit(abs, -1)
        asyncio.get_running_loop().call_later(0.01, job.set_result, 5)
        assert await job == 5

    with Pool(None, 1) as pool:
        asyncio.run(main())
        assert nothing_is_left()


def test_a_log_handler_that_hangs_holds_up_no_timer() -> None:
    gate = threading.Event()

    class Hanging(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            gate.wait(WAIT)

    handler = Hanging(logging.WARNING)
    hang = Hang()
    logging.getLogger("oddjob").addHandler(handler)
    try:
        with Pool("mail", 1, max_queue=1, when_full="raise") as pool, Pool(None, 1) as other:
            pool.submit(hang)
            hang.wait_until_it_hangs()
            pool.submit(int)
            refused = pool.after(0.01).submit(int)
            assert isinstance(refused.exception(WAIT), QueueFull)
            assert other.after(0.01).submit(int).result(WAIT / 2) == 0
            gate.set()
            hang.gate.set()
    finally:
        logging.getLogger("oddjob").removeHandler(handler)


def test_a_wait_for_a_scheduled_job_that_times_out_leaves_nothing_behind() -> None:
    with Pool(None, 1) as pool:
        job = pool.after(FAR).submit(int)

        def poll() -> None:
            for _ in range(20):
                with pytest.raises(TimeoutError):
                    job.result(0.0001)

        pool.submit(poll).result(WAIT)
        assert pool._core.in_place_wakeups == {}
        assert job.cancel()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (oddjob.cancel_timer, "a Timer, as perform_after"),
        (lambda pool: oddjob.read_timer(5), "a Timer, as perform_after"),  # type: ignore[arg-type]
        (lambda pool: pool.after(5, daemon="no"), "daemon must be True or False"),
        (lambda pool: pool.every(5, overlap=1), "overlap must be True or False"),
        (lambda pool: FakeClock("2026-01-01"), "start must be a datetime"),  # type: ignore[arg-type]
        (lambda pool: oddjob.explain_cron("* * * * *", start="2020"), "start must be a datetime"),  # type: ignore[arg-type]
    ],
)
def test_arguments_of_the_wrong_type_are_refused(call: Any, message: str) -> None:
    with Pool(None, 1) as pool, pytest.raises(TypeError, match=message):
        call(pool)


def test_a_time_beyond_all_dates_is_shown_as_the_last_date() -> None:
    with Pool(None, 1) as pool:
        timer = pool.options(priority=1).after(1e12).perform(int)
        assert timer.fires_at == datetime.max.replace(tzinfo=UTC)
        assert timer.pool is pool
        assert timer.cancel()


@pytest.mark.parametrize("key", ["k", 0, 1, 5])
def test_every_job_of_a_recurring_timer_has_its_key(key: Any) -> None:
    with Pool(1) as pool:
        ticks: list[Any] = []
        ticked = threading.Event()

        def tick() -> None:
            job = oddjob.current_job()
            assert job is not None
            ticks.append(job.key)
            if len(ticks) > 1:
                ticked.set()

        timer = pool.options(key=key).every(0.01).submit(tick)
        assert ticked.wait(WAIT)
        assert (timer.error, set(ticks)) == (None, {key})
        timer.cancel()


@pytest.mark.parametrize("set_by", ["every", "after"])
def test_a_key_function_is_called_once_where_the_timer_is_set(set_by: str) -> None:
    """It may take long, and the thread of all timers has no time."""
    asked: list[tuple[int, str]] = []

    def compute_key(number: int) -> int:
        asked.append((number, threading.current_thread().name))
        return number

    with Pool(1) as pool:
        timer = getattr(pool.options(key=compute_key), set_by)(0.01).perform(abs, -1)
        until(lambda: timer.fired > (2 if set_by == "every" else 0))
        timer.cancel()
    assert asked == [(-1, threading.current_thread().name)]


def test_a_fired_timer_is_shown_as_fired() -> None:
    with FakeClock() as clock, Pool("mail", 1) as pool:
        timer = pool.after(1).perform(int)
        clock.advance(1)
        assert repr(timer) == "<Timer after 1 s, pool mail, fired>"
