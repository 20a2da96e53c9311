"""Hung jobs end when their time is up, and the pool gets its worker back."""

import asyncio
import logging
import math
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import oddjob
from oddjob import Job, JobTimeout, Pool, PoolEvent
from tests.hang import WAIT, Hang, until

SHORT = 0.02
ENOUGH = 0.2  # seconds, for a coroutine to begin
HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()


@pytest.fixture
def hang() -> Iterator[Hang]:
    hang = Hang()
    yield hang
    hang.gate.set()


def by_pool(hang: Hang) -> Job[Any]:
    return oddjob.Pool("by pool", 1, timeout=SHORT).submit(hang)


def by_function(hang: Hang) -> Job[Any]:
    return oddjob.Pool("by function", 1).job(timeout=SHORT)(hang).submit()


def by_call(hang: Hang) -> Job[Any]:
    return oddjob.Pool("by call", 1, timeout=60).options(timeout=SHORT).submit(hang)


def by_batch(hang: Hang) -> Job[Any]:
    return oddjob.Pool("by batch", 1).options(timeout=SHORT).submit_many(hang, ["x"])[0]


@pytest.mark.parametrize("submit", [by_pool, by_function, by_call, by_batch])
def test_a_job_that_runs_too_long_ends_and_its_worker_is_replaced(
    submit: Callable[[Hang], Job[Any]], hang: Hang
) -> None:
    job = submit(hang)
    error = job.exception(WAIT)
    assert isinstance(error, JobTimeout)
    assert isinstance(error, TimeoutError)
    assert (job.state, job.timeout) == ("failed", SHORT)
    assert job.pool.options(timeout=WAIT).submit(pow, 2, 3).result(WAIT) == 8
    with pytest.raises(JobTimeout):
        job.result()


def test_the_error_tells_where_the_thread_is_stuck(hang: Hang) -> None:
    with Pool("tell", 1, timeout=SHORT) as pool:
        error = pool.submit(hang).exception(WAIT)
    assert isinstance(error, JobTimeout)
    assert "Hang of pool tell ran for more than 0.02 s" in str(error)
    first, *_ = error.stack.splitlines()
    assert first.endswith("in __call__")
    assert "self.gate.wait(WAIT)" in error.stack
    assert "/oddjob/" not in error.stack.replace("/tests/", "")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.stack) == (str(error), error.stack)


def test_a_late_result_is_dropped(hang: Hang) -> None:
    told: list[object] = []
    with Pool(1, timeout=SHORT) as pool:
        job = pool.submit(hang)
        job.add_done_callback(lambda done: told.append(done.exception()))
        error = job.exception(WAIT)
        hang.gate.set()
        assert hang.left.acquire(timeout=WAIT)
        until(lambda: pool.stats().abandoned == 0)
        assert job.exception() is error
    assert told == [error]


def test_time_in_the_queue_does_not_count(hang: Hang) -> None:
    with Pool(1) as pool:
        pool.submit(hang)
        waiting = pool.options(timeout=0.5).submit(pow, 2, 3)
        hang.wait_until_it_hangs()
        threading.Timer(0.6, hang.gate.set).start()
        assert waiting.result(WAIT) == 8


def test_a_job_that_ends_in_time_is_not_affected_by_its_timeout(hang: Hang) -> None:
    with Pool(2, timeout=WAIT) as pool:
        assert pool.submit(pow, 2, 3).result(WAIT) == 8
        assert list(pool.map(abs, [-1, -2])) == [1, 2]
        failed = pool.submit(int, "x").exception(WAIT)
        assert isinstance(failed, ValueError)
        assert pool.stats().timed_out == 0
        assert type(pool.options(timeout=math.inf).submit(abs, 1)) is Job
    with Pool(1) as plain:
        assert type(plain.submit(abs, 1)) is Job, "what has no timeout pays nothing for it"
        assert plain.submit(abs, 1).timeout is None


def test_stuck_threads_beyond_the_cap_degrade_the_pool_until_one_comes_back(
    hang: Hang, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "oddjob")
    second = Hang()
    with Pool("frail", 2, max_abandoned=1) as pool:
        short = pool.options(timeout=SHORT)
        first = short.submit(hang)
        assert isinstance(first.exception(WAIT), JobTimeout)
        assert pool.submit(pow, 2, 3).result(WAIT) == 8
        assert isinstance(short.submit(second).exception(WAIT), JobTimeout)
        until(lambda: pool.state == "degraded")
        stats = pool.stats()
        assert (stats.abandoned, stats.timed_out, stats.running) == (1, 2, 0)
        assert pool.submit(pow, 2, 3).result(WAIT) == 8, "the other worker still works"
        hang.gate.set()
        until(lambda: pool.state == "running")
        together = threading.Barrier(3)
        pair = [pool.submit(together.wait, WAIT) for _ in range(2)]
        together.wait(WAIT)
        assert len([job.result(WAIT) for job in pair]) == 2, "both places are filled"
        second.gate.set()
        until(lambda: pool.stats().abandoned == 0)
    said = [
        (record.levelname, record.getMessage().split(" ran for")[0]) for record in caplog.records
    ]
    assert said == [
        ("WARNING", "job Hang of pool frail"),
        ("WARNING", "job Hang of pool frail"),
        ("ERROR", "pool frail is degraded: stuck threads take up places of its workers"),
        ("INFO", "pool frail has all its workers again"),
    ]


def test_a_stuck_worker_that_keeps_its_place_works_on_when_it_comes_back(hang: Hang) -> None:
    with Pool(1, timeout=SHORT, max_abandoned=0) as pool:
        assert isinstance(pool.submit(hang).exception(WAIT), JobTimeout)
        until(lambda: pool.state == "degraded")
        waiting = pool.options(timeout=WAIT).submit(pow, 2, 3)
        assert (pool.stats().idle, pool.stats().queued, waiting.state) == (0, 1, "queued")
        hang.gate.set()
        assert waiting.result(WAIT) == 8
        until(lambda: pool.state == "running")


def test_a_shutdown_waits_for_no_stuck_thread_and_runs_what_is_queued(hang: Hang) -> None:
    """A closed pool replaces whatever is stuck: its queue must come to an end."""
    pool = Pool(1, timeout=SHORT, max_abandoned=0)
    stuck = pool.submit(hang)
    queued = pool.options(timeout=WAIT).submit_many(abs, [-1, -2])
    assert isinstance(stuck.exception(WAIT), JobTimeout)
    pool.shutdown(wait=True)
    assert [job.result(0) for job in queued] == [1, 2]
    assert not hang.left.acquire(blocking=False)


def test_a_job_given_to_perform_that_hangs_is_reported(
    hang: Hang, caplog: pytest.LogCaptureFixture
) -> None:
    reported: list[BaseException] = []
    with Pool("silent", 1, timeout=SHORT, on_error=lambda _, error: reported.append(error)) as pool:
        pool.perform(hang)
        until(lambda: reported)
        pool.perform_many(hang, [1])
        until(lambda: len(reported) == 2)
    assert [type(error) for error in reported] == [JobTimeout, JobTimeout]
    assert caplog.text.count("job Hang of pool silent failed") == 2


def test_callbacks_that_hang_do_not_hold_up_the_supervisor(hang: Hang) -> None:
    release = threading.Event()
    with Pool(1, timeout=SHORT) as pool:
        first = pool.submit(hang)
        first.add_done_callback(lambda _: release.wait(WAIT))
        assert isinstance(first.exception(WAIT), JobTimeout)
        second = pool.submit(hang)
        assert isinstance(second.exception(WAIT), JobTimeout)
        release.set()


@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(1)])
def test_callbacks_that_raise_do_no_harm(
    hang: Hang, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise error

    with Pool(1, timeout=SHORT) as pool:
        job = pool.submit(hang)
        job.add_done_callback(fail)
        assert isinstance(job.exception(WAIT), JobTimeout)
        assert pool.options(timeout=WAIT).submit(pow, 2, 3).result(WAIT) == 8
    assert "exception" in caplog.text
    assert pool.stats().crashes == 0


def test_callbacks_run_even_if_no_thread_can_be_had_for_them(
    hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.endswith("-callbacks"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with Pool(1, timeout=SHORT) as pool:
        called = threading.Event()
        job = pool.submit(hang)
        job.add_done_callback(lambda _: called.set())
        assert called.wait(WAIT)


def test_a_thread_that_hangs_in_a_callback_is_replaced_too(hang: Hang) -> None:
    """The job has succeeded; its worker is lost all the same."""
    with Pool(1) as pool:
        begin = threading.Event()
        pool.perform(begin.wait, WAIT)
        job = pool.options(timeout=0.1).submit(abs, -1)
        job.add_done_callback(lambda _: hang())
        begin.set()
        assert job.result(WAIT) == 1
        hang.wait_until_it_hangs()
        assert pool.submit(pow, 2, 3).result(WAIT) == 8
        stats = pool.stats()
        assert (stats.timed_out, stats.succeeded, stats.abandoned) == (0, 3, 1)


def test_a_stuck_thread_that_crashes_in_the_end_is_no_crash_of_a_worker(hang: Hang) -> None:
    def crash_late() -> None:
        hang()
        raise SystemExit

    with Pool(1, timeout=SHORT) as pool:
        assert isinstance(pool.submit(crash_late).exception(WAIT), JobTimeout)
        hang.gate.set()
        until(lambda: pool.stats().abandoned == 0)
        stats = pool.stats()
        assert (stats.crashes, stats.timed_out, stats.failed) == (0, 1, 0)


def test_a_job_that_hangs_in_place_costs_the_pool_no_worker(hang: Hang) -> None:
    """The one that waits for it goes on when it can, and its result counts."""

    def outer() -> object:
        inner = pool.options(timeout=SHORT).submit(hang)
        try:
            return inner.result(WAIT)
        except JobTimeout:
            return "went on"

    pool = Pool(1)
    waiting = pool.submit(outer)
    hang.wait_until_it_hangs()
    assert pool.submit(pow, 2, 3).result(WAIT) == 8
    closing = threading.Thread(target=pool.shutdown)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive(), "the outer job is still to end"
    hang.gate.set()
    closing.join(WAIT)
    assert waiting.result(0) == "went on"
    stats = pool.stats()
    assert (stats.succeeded, stats.timed_out, stats.running) == (2, 1, 0)


def test_a_coroutine_is_cancelled_so_that_its_thread_comes_back() -> None:
    cancelled = threading.Event()

    async def sleep() -> None:
        try:
            await asyncio.sleep(WAIT)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def outer() -> None:
        await sleep()

    with Pool(1, timeout=ENOUGH) as pool:
        error = pool.submit(outer).exception(WAIT)
        assert isinstance(error, JobTimeout)
        if HAS_GIL:  # without it no other thread can look at a coroutine that may go on
            places = [line.split(" in ")[1] for line in error.stack.splitlines()[::2]]
            assert places == ["outer", "sleep", "sleep"], "where it waits, and not its event loop"
        assert cancelled.wait(WAIT)
        until(lambda: pool.stats().abandoned == 0)

        async def quick() -> int:
            await asyncio.sleep(0)
            return 1

        assert pool.options(timeout=WAIT).submit(quick).result(WAIT) == 1


def test_an_await_ends_with_the_timeout_of_its_job(hang: Hang) -> None:
    async def main() -> None:
        with pytest.raises(JobTimeout):
            await pool.submit(hang)

    with Pool(1, timeout=SHORT) as pool:
        asyncio.run(main())


def test_many_that_hang_at_once_all_end_and_all_are_replaced(hang: Hang) -> None:
    with Pool(100, timeout=0.3) as pool:
        jobs = [pool.submit(hang) for _ in range(100)]
        hang.wait_until_it_hangs(100)
        assert {type(job.exception(WAIT)) for job in jobs} == {JobTimeout}
        together = threading.Barrier(101)
        free = [pool.options(timeout=WAIT).submit(together.wait, WAIT) for _ in range(100)]
        together.wait(WAIT)
        assert all(job.exception(WAIT) is None for job in free)
        assert pool.stats().abandoned == 100


def test_the_supervisor_sleeps_while_no_deadline_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that end in time wake it once, not once each."""
    with Pool(1) as pool:
        patient = pool.options(timeout=3600)
        patient.submit(abs, 1).result(WAIT)
        supervisor: Any = pool._core.supervisor
        notified: list[int] = []
        monkeypatch.setattr(supervisor, "notify", lambda: notified.append(1))
        for _ in range(100):
            patient.submit(abs, 1).result(WAIT)
        monkeypatch.undo()
        assert notified == []


@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_a_timeout_out_of_range_is_refused(value: float) -> None:
    with Pool(1) as pool:
        for ask in (pool.options, pool.job, lambda timeout: Pool(1, timeout=timeout)):
            with pytest.raises(ValueError, match="timeout must be greater than 0"):
                ask(timeout=value)
        with pytest.raises(
            TypeError, match="timeout must be a number of seconds or a timedelta, not '5'"
        ):
            pool.options(timeout="5")  # type: ignore[arg-type]  # what is wrong with it


def test_a_view_keeps_what_it_does_not_change() -> None:
    with Pool(1, timeout=7) as pool:
        named = pool.options(name="slow").options(timeout=3)
        job = named.submit(abs, 1)
        assert (job.name, job.timeout) == ("slow", 3)
        assert pool.options(name="other").submit(abs, 1).timeout == 7
        assert "timeout=3" in repr(named)


def test_timeouts_are_events(hang: Hang) -> None:
    events: list[PoolEvent] = []
    with Pool("told", 1, timeout=SHORT, max_abandoned=0, on_event=events.append) as pool:
        job = pool.submit(hang)
        error = job.exception(WAIT)
        until(lambda: len(events) == 2)
        hang.gate.set()
        until(lambda: len(events) == 3)
    assert [event._replace(at=events[0].at) for event in events] == [
        PoolEvent("job_timed_out", "told", events[0].at, "told_0", job, error),
        PoolEvent("pool_degraded", "told", events[0].at),
        PoolEvent("pool_recovered", "told", events[0].at),
        PoolEvent("pool_closed", "told", events[0].at),
    ]
