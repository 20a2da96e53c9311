"""Resizing and pausing a pool while it runs."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from oddjob import Pool, PoolClosed
from tests.hang import Hang, until

WAIT = 10.0


class Gauge:
    """Counts how many of its jobs run at once; each one runs until it is let go."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns = threading.Semaphore(0)
        self.running = self.started = 0

    def job(self) -> int:
        with self._lock:
            self.running += 1
            self.started += 1
            seen = self.running
        self._turns.acquire(timeout=WAIT)
        with self._lock:
            self.running -= 1
        return seen

    def finish(self, count: int) -> None:
        self._turns.release(count)


def test_a_restart_replaces_workers_that_another_thread_has_just_let_stay() -> None:
    """Forced: the restart comes in the middle of a change of the pool's size."""

    class Marked(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            restart.start()
            restart.join(0.05)  # it waits until this has come to its end
            return super().__iter__()

    with Pool(1) as pool:
        hang = Hang()
        job = pool.submit(hang)
        hang.wait_until_it_hangs()
        workers = pool._core.workers
        restart = threading.Thread(target=workers.retire_all)
        workers._marked_to_leave = Marked(workers.all())
        pool.resize(2)
        restart.join(WAIT)
        assert [each.leaving for each in workers.all()] == [True]
        hang.gate.set()
        assert job.result(WAIT) == "late"


def test_a_larger_pool_starts_jobs_that_are_queued_already() -> None:
    gauge = Gauge()
    with Pool(pool_size=1) as pool:
        jobs = [pool.submit(gauge.job) for _ in range(4)]
        until(lambda: gauge.running == 1)
        pool.resize(3)
        assert pool.pool_size == 3
        until(lambda: gauge.running == 3)
        assert len(pool.queue()) == 1
        gauge.finish(4)
        assert max(job.result(WAIT) for job in jobs) == 3


def test_a_smaller_pool_starts_no_job_before_enough_have_ended() -> None:
    gauge = Gauge()
    with Pool(pool_size=4) as pool:
        jobs = [pool.submit(gauge.job) for _ in range(12)]
        until(lambda: gauge.running == 4)
        pool.resize(2)
        assert pool.stats().state == "running"
        gauge.finish(2)
        until(lambda: gauge.running == 2 and len(pool.workers()) == 2)
        assert gauge.started == 4
        gauge.finish(10)
        assert [job.result(WAIT) for job in jobs[4:]].count(3) == 0
        assert len(pool.workers()) == 2
    assert all(job.done() for job in jobs)


def test_idle_workers_leave_a_smaller_pool_and_busy_ones_stay() -> None:
    hang = Hang()
    with Pool(pool_size=3) as pool:
        busy = pool.submit(hang)
        hang.wait_until_it_hangs()
        pool.submit(int).result(WAIT)
        assert len(pool.workers()) == 2
        pool.resize(1)
        until(lambda: len(pool.workers()) == 1)
        assert [each.job for each in pool.workers()] == [busy]
        assert not busy.done()
        hang.gate.set()


def test_the_private_attribute_that_people_set_resizes_the_pool() -> None:
    gauge = Gauge()
    with Pool(pool_size=1) as pool:
        private: Any = pool
        jobs = [pool.submit(gauge.job) for _ in range(2)]
        private._max_workers = 2
        until(lambda: gauge.running == 2)
        gauge.finish(2)
        assert [job.result(WAIT) for job in jobs]
        assert (private._max_workers, pool.pool_size) == (2, 2)


@pytest.mark.parametrize("size", [0, -1])
def test_a_pool_has_at_least_one_worker(size: int) -> None:
    with Pool(pool_size=2) as pool:
        with pytest.raises(ValueError, match="pool_size must be greater than 0"):
            pool.resize(size)
        assert pool.pool_size == 2


def test_a_pool_that_was_shut_down_has_no_other_size_and_one_that_is_broken_may() -> None:
    pool = Pool(pool_size=2, max_restarts=0, max_seconds=100)
    for _ in range(2):
        pool.submit(sys.exit).exception(WAIT)
    until(lambda: pool.state == "broken")
    pool.resize(3)
    pool.shutdown()
    with pytest.raises(PoolClosed):
        pool.resize(4)
    assert pool.pool_size == 3


def test_a_pool_that_crashes_after_it_was_made_smaller_keeps_its_new_size() -> None:
    gauge = Gauge()
    with Pool(pool_size=4, max_restarts=10) as pool:
        jobs = [pool.submit(gauge.job) for _ in range(4)]
        until(lambda: gauge.running == 4)
        pool.resize(2)
        gauge.finish(4)
        assert all(job.result(WAIT) for job in jobs)
        assert isinstance(pool.submit(sys.exit).exception(WAIT), SystemExit)
        until(lambda: pool.supervisor().crashes == 1)
        more = [pool.submit(gauge.job) for _ in range(4)]
        until(lambda: gauge.running == 2)
        gauge.finish(4)
        assert max(job.result(WAIT) for job in more) == 2


def test_no_job_starts_in_a_paused_pool_and_those_that_run_go_on() -> None:
    hang = Hang()
    with Pool(pool_size=2) as pool:
        running = pool.submit(hang)
        hang.wait_until_it_hangs()
        pool.pause()
        waiting = [pool.submit(int), pool.submit(int)]
        assert pool.state == pool.stats().state == "paused"
        hang.gate.set()
        running.result(WAIT)
        until(lambda: not pool.workers())
        assert pool.queue() == waiting
        pool.resume()
        assert [job.result(WAIT) for job in waiting] == [0, 0]
        assert pool.state == "running"


def test_a_pool_can_be_paused_before_its_first_job_and_resized_meanwhile() -> None:
    gauge = Gauge()
    with Pool(pool_size=1, rate="1000000/second") as pool:
        pool.pause()
        pool.resize(2)
        jobs = [pool.options(priority=1).submit(gauge.job) for _ in range(3)]
        assert (pool.workers(), len(pool.queue())) == ([], 3)
        pool.resume()
        pool.resume()
        until(lambda: gauge.running == 2)
        gauge.finish(3)
        assert max(job.result(WAIT) for job in jobs) == 2


def test_a_job_that_waits_for_another_one_of_its_paused_pool_ends() -> None:
    with Pool(pool_size=2) as pool:
        is_paused = threading.Event()

        def outer() -> int:
            assert is_paused.wait(WAIT)
            return pool.submit(int, "7").result(WAIT)

        job = pool.submit(outer)
        until(job.running)
        pool.pause()
        is_paused.set()
        assert job.result(WAIT) == 7
        pool.resume()


def test_no_caller_runs_a_job_of_a_paused_pool() -> None:
    with Pool(pool_size=1, max_queue=1, when_full="caller_runs") as pool:
        pool.pause()
        pool.submit(int)
        names: list[str] = []
        thread = threading.Thread(
            target=lambda: pool.submit(lambda: names.append(threading.current_thread().name)),
            name="caller",
        )
        thread.start()
        until(lambda: len(pool._core.backpressure.line) == 1)
        pool.resume()
        thread.join(WAIT)
        until(lambda: names != [])
        assert names != ["caller"]


def test_shutdown_runs_what_a_paused_pool_has_queued() -> None:
    pool = Pool(pool_size=2)
    pool.pause()
    jobs = pool.submit_many(int, ["1", "2", "3"])
    pool.shutdown()
    assert [job.result(0) for job in jobs] == [1, 2, 3]
    with pytest.raises(PoolClosed):
        pool.pause()
    pool.resume()


def test_the_end_of_the_process_runs_what_a_paused_pool_has_queued() -> None:
    program = """
import oddjob
pool = oddjob.Pool("work", 2)
pool.submit(int).result()
pool.pause()
pool.perform(print, "run at the end")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("run at the end\n", "")
