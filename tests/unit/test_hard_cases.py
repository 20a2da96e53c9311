"""Supervision where two things go wrong at once: each of these was a fault of this library."""

import asyncio
import gc
import logging
import math
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from oddjob import GroupClosed, Job, JobTimeout, Pool, PoolBroken, PoolEvent
from oddjob.runtime import lifecycle, watchdog
from oddjob.runtime.pool_ending import PoolEnding
from tests.hang import WAIT, Hang, once, until

SHORT = 0.02
ENOUGH = 0.2  # seconds, for a coroutine to begin
HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()


class Crash(BaseException):
    """Not an Exception: it ends the worker."""


@pytest.fixture
def hang() -> Iterator[Hang]:
    hang = Hang()
    yield hang
    hang.gate.set()


def fail(error: BaseException) -> None:
    raise error


class HandlerThatExits(logging.Handler):
    """A log handler that raises what no log handler should."""

    def emit(self, record: logging.LogRecord) -> None:
        raise SystemExit(record.getMessage())


@pytest.fixture
def exiting_log() -> Iterator[None]:
    logger, handler = logging.getLogger("oddjob"), HandlerThatExits()
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


# Jobs that have timed out.


def test_a_callback_of_a_timed_out_job_may_close_the_pool(hang: Hang) -> None:
    pool = Pool(1, timeout=SHORT)
    outcomes: list[object] = []

    def close(_: object) -> None:
        try:
            pool.drain()
        except RuntimeError as error:
            outcomes.append(error)
        pool.shutdown(wait=True)
        outcomes.append("closed")

    pool.submit(hang).add_done_callback(close)
    until(lambda: len(outcomes) == 2)
    assert pool.join(WAIT)


def test_a_job_in_place_of_one_that_timed_out_is_still_to_end(hang: Hang) -> None:
    """Its thread is abandoned; the job is not."""
    pool = Pool(1)
    inner: list[Job[str]] = []

    def outer() -> str:
        inner.append(pool.submit(hang))
        return inner[0].result()

    job = pool.options(timeout=SHORT).submit(outer)
    assert isinstance(job.exception(WAIT), JobTimeout)
    assert pool.drain(timeout=0).running == inner
    assert not pool.join(SHORT)
    hang.gate.set()
    assert pool.join(WAIT)
    assert inner[0].result(0) == "late"


@pytest.mark.parametrize("timeout", [1e10, sys.float_info.max, 10**300])
def test_a_timeout_of_centuries_is_as_good_as_none(
    timeout: float, hang: Hang, caplog: pytest.LogCaptureFixture
) -> None:
    with Pool(1, timeout=timeout, exit_timeout=timeout) as pool:
        job = pool.submit(hang)
        assert hang.entered.acquire(timeout=WAIT)
        assert pool.options(name="other").submit(pow, 2, 3).cancel()
        hang.gate.set()
        assert job.result(WAIT) == "late"
        pool.shutdown(timeout=timeout)
    assert caplog.records == []


@pytest.mark.parametrize("end", ["drain", "shutdown", "join"])
def test_infinity_is_no_limit_wherever_a_wait_is_bounded(end: str) -> None:
    pool = Pool(1)
    job = pool.submit(time.sleep, SHORT)
    if end == "join":
        pool.shutdown(wait=False)
        assert pool.join(math.inf)
    elif end == "drain":
        assert pool.drain(math.inf).running == []
    else:
        pool.shutdown(timeout=math.inf)
    assert job.done()


def test_one_slow_callback_holds_up_no_other_job(hang: Hang) -> None:
    block = threading.Event()

    async def main() -> None:
        jobs = [pool.submit(hang) for _ in range(4)]
        for job in jobs[:2]:
            job.add_done_callback(lambda _: block.wait(WAIT))
        for job in jobs[2:]:
            with pytest.raises(JobTimeout):
                await asyncio.wait_for(job, WAIT / 2)
        block.set()

    with Pool(4, timeout=0.1) as pool:
        asyncio.run(main())


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_a_nested_timeout_leaves_the_outer_coroutine_alone(kind: str, hang: Hang) -> None:
    cancelled = threading.Event()

    async def sleep() -> None:
        try:
            await asyncio.sleep(WAIT)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def outer() -> str:
        try:
            await pool.options(timeout=ENOUGH).submit(hang if kind == "function" else sleep)  # type: ignore[arg-type]  # either
        except JobTimeout:
            await asyncio.sleep(0)
            return "went on"
        return "never"

    with Pool(1) as pool:
        job = pool.submit(outer)
        if kind == "function":
            assert hang.entered.acquire(timeout=WAIT)
            until(lambda: pool.stats().timed_out)
            hang.gate.set()
        assert job.result(WAIT) == "went on"
        is_coroutine = kind == "coroutine"
        assert cancelled.wait(WAIT if is_coroutine else 0) == is_coroutine


def test_a_coroutine_that_has_timed_out_is_cancelled_only_once() -> None:
    """Its clean-up is not to be disturbed by every move in the pool."""
    cancellations: list[str] = []

    async def clean_up() -> None:
        try:
            await asyncio.sleep(WAIT)
        finally:
            try:
                await asyncio.sleep(0.2)
            except asyncio.CancelledError:
                cancellations.append("again")

    with Pool(2, max_abandoned=0) as pool:
        job = pool.options(timeout=SHORT).submit(clean_up)
        assert isinstance(job.exception(WAIT), JobTimeout)
        for _ in range(5):
            pool.submit(fail, Crash()).exception(WAIT)
        until(lambda: pool.state == "running")
    assert cancellations == []


def test_siblings_in_a_group_do_not_start_after_one_has_timed_out() -> None:
    for _ in range(20):
        hang = Hang()
        started: list[int] = []
        with Pool(1) as pool:
            with pytest.raises(JobTimeout), pool.group() as group:
                group._target = pool.options(timeout=SHORT)
                group.submit(hang)
                group._target = pool
                group.submit_many(started.append, range(3))
            hang.gate.set()
        assert started == []


def test_a_late_crash_of_a_job_that_timed_out_is_no_crash(hang: Hang) -> None:
    def crash_late() -> None:
        hang()
        raise SystemExit

    with Pool(1, timeout=SHORT, max_abandoned=0, max_restarts=0) as pool:
        assert isinstance(pool.submit(crash_late).exception(WAIT), JobTimeout)
        until(lambda: pool.state == "degraded")
        hang.gate.set()
        assert pool.options(timeout=WAIT).submit(pow, 2, 3).result(WAIT) == 8
        assert pool.stats().crashes == 0


def test_a_stuck_thread_does_not_spoil_the_run_times(hang: Hang) -> None:
    with Pool(1) as pool:
        assert isinstance(pool.options(timeout=SHORT).submit(hang).exception(WAIT), JobTimeout)
        assert pool.submit(pow, 2, 3).result(WAIT) == 8
        before = pool.stats().run_time
        hang.gate.set()
        until(lambda: pool.stats().abandoned == 0)
        after = pool.stats().run_time
    assert before == after
    assert after.count == 1


def test_an_interrupted_supervisor_still_ends_what_is_due(
    hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack_of = watchdog.stack_of
    strikes = [Crash(), Crash()]

    def struck(frame: Any) -> Any:
        if strikes:
            raise strikes.pop()
        return stack_of(frame)

    monkeypatch.setattr(watchdog, "stack_of", struck)
    with Pool(2, timeout=SHORT) as pool:
        jobs = [pool.submit(hang) for _ in range(2)]
        assert all(isinstance(job.exception(WAIT), JobTimeout) for job in jobs)
        assert pool.options(timeout=WAIT).submit(pow, 2, 3).result(WAIT) == 8


@pytest.mark.usefixtures("exiting_log")
def test_a_log_handler_that_exits_costs_neither_callbacks_nor_workers(hang: Hang) -> None:
    events: list[PoolEvent] = []
    with Pool(2, max_abandoned=0, on_event=events.append) as pool:
        job = pool.options(timeout=SHORT).submit(hang)
        called = threading.Event()
        job.add_done_callback(lambda _: called.set())
        assert called.wait(WAIT)
        until(lambda: "pool_degraded" in [event.kind for event in events])
        assert isinstance(pool.submit(fail, Crash()).exception(WAIT), Crash)
        assert pool.submit(pow, 2, 3).result(WAIT) == 8
        hang.gate.set()
    assert [event.kind for event in events].count("pool_degraded") == 1


def test_the_threads_of_callbacks_are_forgotten(hang: Hang) -> None:
    with Pool(1, timeout=0.001) as pool:
        for _ in range(30):
            called = threading.Event()
            pool.submit(time.sleep, 0.005).add_done_callback(lambda _, done=called: done.set())
            assert called.wait(WAIT)
        assert len(pool._core.workers.threads()) < 10


# Threads that do not start, or are killed at once.


def test_a_thread_that_never_starts_is_tried_with_growing_delays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a pause the supervisor would try as fast as it can."""
    pool = Pool("tried", 1)
    pool.submit(pow, 2, 3).result(WAIT)
    start = threading.Thread.start
    attempts: list[float] = []

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "tried_0" and refusing:
            attempts.append(time.monotonic())
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    refusing = True
    assert isinstance(pool.submit(fail, Crash()).exception(WAIT), Crash)
    until(lambda: len(attempts) > 4)
    assert attempts[4] - attempts[0] >= 0.02 + 0.04 + 0.08 - 0.01, "it took its time"
    refusing = False
    assert pool.submit(pow, 2, 3).result(WAIT) == 8
    pool.shutdown()


def test_a_pool_whose_supervisor_cannot_start_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before = lifecycle.active_cores()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="can't start"):
            Pool(1).submit(pow, 2, 3)
    assert lifecycle.active_cores() == before


# A pool that breaks.


def test_a_pool_that_breaks_is_reported_whatever_callbacks_raise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events: list[str] = []
    gate = threading.Event()
    observe = lambda event: events.append(event.kind)  # noqa: E731  (short)
    with Pool(1, max_restarts=0, max_seconds=100, on_event=observe) as pool:
        pool.submit(gate.wait, WAIT)
        pool.submit_many(fail, [Crash(), Crash()])
        queued = pool.submit_many(abs, range(3))
        for job in queued:
            job.add_done_callback(lambda _: fail(Crash()))
        gate.set()
        assert all(isinstance(job.exception(WAIT), PoolBroken) for job in queued)
        until(lambda: "pool_broken" in events)
    assert "CRITICAL" in [record.levelname for record in caplog.records]


def test_jobs_accepted_after_a_revival_are_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    break_down = PoolEnding.break_down
    revived: list[Job[int]] = []

    def break_down_and_be_revived(ending: PoolEnding, cause: BaseException) -> None:
        break_down(ending, cause)
        pool.restart()
        revived.extend(pool.submit_many(abs, [-1, -2]))

    monkeypatch.setattr(PoolEnding, "break_down", break_down_and_be_revived)
    with Pool(1, max_restarts=0, max_seconds=100) as pool:
        for _ in range(2):
            pool.submit(fail, Crash()).exception(WAIT)
        until(lambda: len(revived) == 2)
        assert [job.result(WAIT) for job in revived] == [1, 2]


# What is counted, and what is kept.


def test_a_job_that_runs_in_place_is_not_queued_as_well() -> None:
    def inner() -> tuple[int, int, list[Job[Any]]]:
        stats = pool.stats()
        return stats.queued, stats.running, pool.queue()

    with Pool(1) as pool:
        assert pool.submit(lambda: pool.submit(inner).result()).result(WAIT) == (0, 2, [])


@pytest.mark.usefixtures("tiny_switch_interval")
def test_no_snapshot_says_that_all_is_done_while_a_job_is_left() -> None:
    """A program that waits for a pool to be idle would go on too early."""
    over = threading.Event()
    wrong: list[object] = []

    def look() -> None:
        while not over.is_set():
            job = latest[0]
            stats = pool.stats()
            if stats.queued + stats.running == 0 and not job.done() and latest[0] is job:
                wrong.append(stats)

    with Pool(2) as pool:
        latest = [pool.submit(pow, 2, 3)]
        looker = threading.Thread(target=look)
        looker.start()
        for _ in range(3000):
            latest[0] = pool.submit(time.sleep, 0)
            latest[0].result(WAIT)
        over.set()
        looker.join()
    assert wrong == []


class Result:
    """Something heavy."""


def test_a_finished_job_does_not_live_as_long_as_the_next_one_runs(hang: Hang) -> None:
    with Pool(1) as pool:
        gate = threading.Event()
        first = pool.submit(gate.wait, WAIT)
        jobs = [pool.submit(Result) for _ in range(3)]
        last = pool.submit(hang)
        results = [weakref.ref(job) for job in jobs]
        gate.set()
        assert first.result(WAIT)
        assert hang.entered.acquire(timeout=WAIT)
        del jobs, first
        assert [result() for result in results] == [None] * 3
        hang.gate.set()
        assert last.result(WAIT) == "late"


def test_a_kept_exception_keeps_no_other_job(hang: Hang) -> None:
    with Pool(1) as pool:
        gate = threading.Event()
        pool.submit(gate.wait, WAIT)
        failing, other = pool.submit(fail, ValueError()), pool.submit(Result)
        gate.set()
        error = failing.exception(WAIT)
        reference = weakref.ref(other.result(WAIT))
        pool.submit(hang)
        assert hang.entered.acquire(timeout=WAIT)
        hang.gate.set()
        del failing, other
    assert isinstance(error, ValueError)
    assert reference() is None


@pytest.mark.parametrize("way", ["result", "map", "await"])
def test_a_failure_that_was_raised_is_freed_without_the_collector(way: str) -> None:
    class Failure(Exception):
        pass

    def raise_one() -> None:
        raise Failure

    def take() -> None:
        if way == "result":
            pool.submit(raise_one).result(WAIT)
        elif way == "map":
            list(pool.map(lambda _: raise_one(), [1]))
        else:
            asyncio.run(wait())

    async def wait() -> None:
        await pool.submit(raise_one)

    def references() -> "weakref.ref[Failure]":
        try:
            take()
        except Failure as error:
            return weakref.ref(error)
        raise AssertionError("nothing was raised")

    with Pool(1) as pool:
        gc.disable()
        try:
            reference = references()
            pool.submit(pow, 2, 3).result(WAIT)
            until(lambda: pool.stats().idle == 1)
            # asyncio.run() itself leaves cycles behind; without the GIL counts are settled later.
            if way == "await" or not HAS_GIL:
                gc.collect()
            assert reference() is None
        finally:
            gc.enable()


# Groups.


def test_a_job_submitted_from_elsewhere_does_not_escape_its_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forced: the block is left while another thread is in the middle of its submit."""
    midway, go_on = threading.Event(), threading.Event()
    submit = Pool.submit

    def slow(self: Pool, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        midway.set()
        assert go_on.wait(WAIT)
        return submit(self, fn, *args, **kwargs)

    monkeypatch.setattr(Pool, "submit", slow)
    with Pool(1) as pool:
        jobs: list[Job[None]] = []
        with pool.group() as group:
            other = threading.Thread(target=lambda: jobs.append(group.submit(time.sleep, SHORT)))
            other.start()
            assert midway.wait(WAIT)
            threading.Timer(SHORT, go_on.set).start()
        other.join()
    assert [job.state for job in group.jobs] == ["succeeded"]
    assert jobs == group.jobs


def test_a_callback_that_exits_does_not_let_siblings_outlive_the_block(hang: Hang) -> None:
    ran: list[int] = []
    with Pool(1) as pool:
        with pytest.raises(Crash), pool.group() as group:
            running = group.submit(hang)
            assert hang.entered.acquire(timeout=WAIT)
            queued = group.submit_many(ran.append, range(3))
            queued[0].add_done_callback(lambda _: fail(Crash()))
            once(queued[-1].cancelled, hang.gate.set)
            raise LookupError
        assert running.done()
        assert all(job.cancelled() for job in queued)
    assert ran == []


def test_a_coroutine_that_ends_cancelled_is_no_failure_of_its_group() -> None:
    async def give_up() -> None:
        raise asyncio.CancelledError

    with Pool(1) as pool:
        with pool.group() as group:
            job = group.submit(give_up)
        assert job.exception(0) is not None


def test_a_failure_outweighs_the_cancellation_of_its_task(hang: Hang) -> None:
    """As with asyncio.TaskGroup: what went wrong is not lost."""

    async def block() -> None:
        async with pool.group() as group:
            group.submit(hang)
            failing.append(group.submit(fail, ValueError("no")))

    failing: list[Job[None]] = []

    async def main() -> None:
        task = asyncio.create_task(block())
        await asyncio.to_thread(hang.entered.acquire)
        await asyncio.to_thread(until, failing[0].done)
        task.cancel()
        await asyncio.sleep(SHORT)
        hang.gate.set()
        with pytest.raises(ValueError, match="no"):
            await task

    with Pool(2) as pool:
        asyncio.run(main())


def test_a_refused_submit_leaves_a_group_as_it_was() -> None:
    pool = Pool(1)
    with pool.group() as group:
        pool.shutdown()
        with pytest.raises(RuntimeError, match="after shutdown"):
            group.submit(pow, 2, 3)
    with pytest.raises(GroupClosed):
        group.submit(pow, 2, 3)


# Event listeners.


def test_an_event_listener_cannot_wait_for_the_end_that_waits_for_it() -> None:
    outcomes: list[object] = []

    def observe(event: PoolEvent) -> None:
        if event.kind == "worker_crashed":
            try:
                pool.drain(WAIT)
            except RuntimeError as error:
                outcomes.append(error)

    with Pool(1, on_event=observe) as pool:
        gate = threading.Event()
        pool.submit(gate.wait, WAIT)
        pool.submit(fail, Crash())
        after = pool.submit_many(abs, [-1, -2])
        gate.set()
        assert [job.result(WAIT) for job in after] == [1, 2]
        until(lambda: outcomes)


def test_an_event_listener_has_to_be_callable() -> None:
    with Pool(1) as pool, pytest.raises(TypeError, match="on_event must be a callable"):
        pool.on_event = 3  # type: ignore[assignment]  # what is wrong with it
