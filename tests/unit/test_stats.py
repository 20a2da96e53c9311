"""`Pool.stats`: what a pool is doing and has done."""

import asyncio
import random
import sys
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError
from math import inf
from types import FrameType
from typing import Any

import pytest

from oddjob import Pool
from oddjob.runtime.metrics import SAMPLES, Durations, Histogram, PoolMetrics, Series
from tests.hang import Hang, until

WAIT = 10.0


class Crash(BaseException):
    """Not an Exception: it ends the worker."""


def fail(error: BaseException) -> None:
    raise error


def test_a_pool_that_has_done_nothing_says_so() -> None:
    with Pool(3) as pool:
        stats = pool.stats()
    nothing = Durations(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert stats == ("running", *[0] * 15, nothing, nothing)


def test_a_job_counts_as_ended_as_soon_as_its_result_is_there() -> None:
    """A result that has been seen is among the numbers; how long it took may come later."""
    with Pool(2) as pool:
        for number in range(1, 200):
            pool.submit(pow, 2, 3).result(WAIT)
            stats = pool.stats()
            assert (stats.started, stats.succeeded, stats.running) == (number, number, 0)
        until(lambda: pool.stats().run_time.count == pool.stats().queue_wait.count == 199)
        for number in range(1, 50):
            assert pool.submit(fail, ValueError()).exception(WAIT)
            assert pool.stats().failed == number


def test_a_coroutine_that_is_cancelled_while_it_runs_counts_as_cancelled_and_not_as_failed() -> (
    None
):
    begun = threading.Event()

    async def sleep() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def cancel_itself() -> None:
        raise asyncio.CancelledError  # nobody has asked for that

    for options in {}, {"timeout": WAIT}:
        begun.clear()
        with Pool(1) as pool:
            job = pool.options(**options).submit(sleep)
            assert begun.wait(WAIT)
            assert not job.cancel()
            with pytest.raises(CancelledError):
                job.exception(WAIT)
            assert (job.state, job.cancelled(), job.cancel()) == ("cancelled", True, True)
            stats = pool.stats()
            assert (stats.started, stats.failed, stats.cancelled, stats.stopped) == (1, 0, 1, 1)
            assert isinstance(pool.submit(cancel_itself).exception(WAIT), CancelledError)
            stats = pool.stats()
            assert (stats.started, stats.failed, stats.cancelled, stats.stopped) == (2, 1, 1, 1)


def test_what_waits_and_what_runs_is_counted_apart() -> None:
    gate = threading.Event()
    with Pool(2) as pool:
        jobs = [pool.submit(gate.wait, WAIT) for _ in range(5)]
        while pool.stats().running < 2:
            time.sleep(0)
        assert jobs[4].cancel()
        stats = pool.stats()
        assert (stats.queued, stats.running, stats.idle, stats.cancelled) == (2, 2, 0, 1)
        gate.set()
        assert all(job.result(WAIT) for job in jobs[:4])
    stats = pool.stats()
    assert stats.state == "closed"
    assert (stats.started, stats.succeeded, stats.queued, stats.running) == (4, 4, 0, 0)
    assert stats.run_time.count == 4


def test_an_idle_worker_is_counted_as_one() -> None:
    with Pool(3) as pool:
        pool.submit(pow, 2, 3).result(WAIT)
        assert pool.stats().idle == 1


def test_jobs_that_run_in_place_are_counted() -> None:
    with Pool(1) as pool:
        outer = pool.submit(lambda: pool.submit(lambda: pool.stats().running).result(WAIT))
        assert outer.result(WAIT) == 2
        stats = pool.stats()
        assert (stats.started, stats.succeeded, stats.running) == (2, 2, 0)


def test_crashes_and_what_a_broken_pool_refuses_are_counted() -> None:
    with Pool(1, max_restarts=0) as pool:
        gate = threading.Event()
        first = pool.submit(gate.wait, WAIT)
        crashing = pool.submit_many(fail, [Crash(), Crash()])
        refused = pool.submit_many(fail, [ValueError()] * 3)
        gate.set()
        assert [type(job.exception(WAIT)).__name__ for job in refused] == ["PoolBroken"] * 3
        assert first.result(WAIT)
        assert all(isinstance(job.exception(WAIT), Crash) for job in crashing)
        stats = pool.stats()
        assert (stats.state, stats.started, stats.succeeded) == ("broken", 3, 1)
        assert (stats.failed, stats.refused, stats.crashes, stats.restarts) == (5, 3, 2, 1)


def test_a_refused_job_is_not_counted() -> None:
    pool = Pool(1)
    pool.shutdown()
    for submit in (lambda: pool.submit(pow, 2, 3), lambda: pool.submit_many(abs, [1, 2])):
        with pytest.raises(RuntimeError):
            submit()
    stats = pool.stats()
    assert (stats.queued, stats.started, stats.cancelled, stats.failed) == (0, 0, 0, 0)


def test_durations_are_those_of_the_jobs() -> None:
    with Pool(1) as pool:
        jobs = [pool.submit(time.sleep, nap) for nap in (0.0, 0.02, 0.1)]
        for job in jobs:
            job.result(WAIT)
    stats = pool.stats()  # a worker notes how long a job took once its result can be seen
    assert stats.run_time.count == 3
    assert 0.1 <= stats.run_time.max <= stats.run_time.mean * 3 <= WAIT
    assert 0.018 <= stats.run_time.p50 <= stats.run_time.p95 <= stats.run_time.max
    assert stats.queue_wait.max >= 0.02, "the last one has waited for the second"


def test_the_durations_of_many_short_jobs_add_up() -> None:
    with Pool(2) as pool:
        began = time.monotonic()
        jobs = pool.submit_many(abs, range(20_000))
        for job in jobs:
            job.result(WAIT)
        took = time.monotonic() - began
        until(lambda: pool.stats().run_time.count == pool.stats().queue_wait.count == 20_000)
        stats = pool.stats()
    assert stats.succeeded == 20_000
    assert stats.run_time.mean * 20_000 <= 2 * took + 0.01
    assert stats.queue_wait.max <= took
    assert 0 < stats.queue_wait.p50 <= stats.queue_wait.p99 <= stats.queue_wait.max


def test_durations_are_summed_up_over_all_jobs_and_their_percentiles_are_of_the_latest() -> None:
    rng = random.Random(7)
    for scale in (1e-5, 1e-2, 3.0, 1e5):
        durations = [rng.expovariate(1 / scale) for _ in range(2000)]
        metrics = PoolMetrics()
        slots = [metrics.open(), metrics.open()]
        for number, each in enumerate(durations):
            slots[number % 2].measure(each, 2 * each)
        metrics.close(slots[0])
        _, total = metrics.read()
        run_time, queue_wait = total.runs.summary(), total.waits.summary()
        assert run_time.count == queue_wait.count == 2000
        assert (run_time.max, queue_wait.max) == (max(durations), 2 * max(durations))
        assert run_time.mean == pytest.approx(sum(durations) / 2000)
        assert queue_wait.mean == pytest.approx(2 * sum(durations) / 2000)
        ordered = sorted(durations)  # all of them are among the latest 1,024 of their slot
        for share, value in zip((0.50, 0.95, 0.99), run_time[2:5], strict=True):
            assert value == pytest.approx(ordered[int(share * 2000) - 1], rel=0.06)
        for _ in range(3):
            for slot in slots[1:]:
                for _ in range(SAMPLES):
                    slot.measure(0.0, 0.0)
        _, total = metrics.read()
        assert total.runs.summary().p50 == 0.0
        assert total.runs.summary().max == max(durations)


def test_no_duration_is_counted_twice_that_is_added_to_the_sums_meanwhile() -> None:
    """Forced: before each line of the reader, in turn, the thread of the slot does so."""

    def read(line: int) -> tuple[int, Histogram]:
        metrics = PoolMetrics()
        metrics.histograms()
        slot = metrics.open()
        slot.runs.fresh += [1.0] * 100
        left = iter(range(line))

        def trace(frame: FrameType, event: str, _: object) -> Any:
            if (
                frame.f_code is not Series.merge.__code__
                or frame.f_locals["other"] is not slot.runs
            ):
                return None
            if event == "line" and next(left, None) is None:
                sys.settrace(None)
                slot.runs.fold()
            return trace

        former = sys.gettrace()
        sys.settrace(trace)
        try:
            counted = metrics.read()[1].runs.count
        finally:
            sys.settrace(former)
        return counted, metrics.histograms().run_time

    counts = [read(line) for line in range(20)]
    assert {counted for counted, _ in counts} == {0, 100}, "missing for a moment, or there"
    assert {each.buckets[inf] for _, each in counts} == {100}


class Looker(threading.Thread):
    """Looks at a pool's numbers all the time, and notes those that are wrong."""

    GROWING = ("succeeded", "failed", "cancelled", "crashes")

    def __init__(self, pool: Pool, most: int) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self._pool = pool
        self._most = most
        self._over = threading.Event()

    def run(self) -> None:
        before = self._pool.stats()
        while not self._over.is_set():
            now = self._pool.stats()
            shrunk = [each for each in self.GROWING if getattr(now, each) < getattr(before, each)]
            if shrunk or now.running > self._most:
                self.wrong.append(f"{shrunk}: {before}, then {now}")
            before = now

    def stop(self) -> None:
        self._over.set()
        self.join()


@pytest.mark.usefixtures("tiny_switch_interval")
def test_no_update_is_lost_and_counters_only_grow() -> None:
    """Many submitters, every way for a job to end, and a thread that looks all the time."""
    ends: Counter[str] = Counter()
    lock = threading.Lock()

    def nested() -> int:
        return pool.submit(abs, -1).result(WAIT)

    def submit(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(150):
            error = rng.choice([None, ValueError(), Crash()])
            job = pool.submit(nested) if error is None else pool.submit(fail, error)
            if rng.randrange(3) == 0 and job.cancel():
                end = "cancelled"
            else:
                end = "succeeded" if job.exception(WAIT) is None else "failed"
            with lock:
                ends[end] += 1

    with Pool(4, max_restarts=10**6) as pool:
        looker = Looker(pool, most=4 + 4)  # each worker may run one more in place
        threads = [threading.Thread(target=submit, args=(seed,)) for seed in range(4)]
        for thread in [looker, *threads]:
            thread.start()
        for thread in threads:
            thread.join()
        looker.stop()
        stats = pool.stats()
    assert looker.wrong == []
    assert stats.succeeded == 2 * ends["succeeded"]  # each has run another
    assert (stats.failed, stats.cancelled) == (ends["failed"], ends["cancelled"])
    assert (stats.queued, stats.running) == (0, 0)
    assert stats.run_time.count == stats.started == stats.succeeded + stats.failed


def test_what_is_cancelled_is_queued_no_more() -> None:
    """Even where the queue has not let go of it yet."""
    with Pool(1) as pool:
        hang = Hang()
        pool.submit(hang)
        hang.wait_until_it_hangs()
        jobs = [pool.options(key=number).submit(abs, 1) for number in range(10)]
        for job in jobs[:4]:
            job.cancel()
        assert (pool.stats().queued, pool.stats().cancelled) == (6, 4)
        hang.gate.set()
