"""`drain` and `shutdown(timeout=…)`: an end by a certain time, and word of what was left undone."""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

import oddjob
from oddjob import Pool, PoolClosed
from oddjob.runtime.supervisor import Supervisor
from tests.hang import until

WAIT = 10.0


class Gate:
    """Work that lasts until it is let go."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.begun = threading.Semaphore(0)

    def __call__(self) -> str:
        self.begun.release()
        assert self.open.wait(WAIT)
        return "passed"


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


def test_a_drain_without_a_limit_finishes_everything() -> None:
    pool = Pool(2)
    jobs = pool.submit_many(abs, range(20))
    report = pool.drain()
    assert (report.cancelled, report.running) == ([], [])
    assert set(report.finished) <= set(jobs)
    assert all(job.state == "succeeded" for job in jobs)
    assert pool.state == "closed"


def test_a_drain_takes_no_more_jobs_and_frees_the_name(gate: Gate) -> None:
    pool = Pool("drained", 1)
    job = pool.submit(gate)
    assert gate.begun.acquire(timeout=WAIT)
    draining = threading.Thread(target=pool.drain)
    draining.start()
    while pool.state != "closed":
        time.sleep(0.001)
    with pytest.raises(PoolClosed):
        pool.submit(abs, 1)
    assert "drained" not in oddjob.pools()
    gate.open.set()
    draining.join(WAIT)
    assert job.result(0) == "passed"


def test_when_the_time_is_up_the_rest_is_cancelled_and_reported(gate: Gate) -> None:
    pool = Pool(2)
    first = pool.submit(until, lambda: pool.state == "closed")  # the drain has begun
    stuck = pool.submit(gate)
    more = pool.submit_many(time.sleep, [0.001] * 5)
    blocked = pool.submit(gate)
    queued = pool.submit_many(abs, [1, 2, 3])
    assert gate.begun.acquire(timeout=WAIT)
    began = time.monotonic()
    report = pool.drain(timeout=1.0)
    assert time.monotonic() - began < WAIT
    assert report.finished == [first, *more]
    assert set(report.running) == {stuck, blocked}
    assert report.cancelled == queued
    assert all(job.cancelled() for job in queued)
    gate.open.set()
    assert pool.join(WAIT)
    assert stuck.result(0) == "passed", "what was left behind may still end"


def test_a_job_that_runs_in_place_is_reported_as_running(gate: Gate) -> None:
    pool = Pool(1)
    inner: list[object] = []

    def outer() -> str:
        inner.append(pool.submit(gate))
        return inner[0].result(WAIT)  # type: ignore[attr-defined,no-any-return]  # a job

    job = pool.submit(outer)
    assert gate.begun.acquire(timeout=WAIT)
    report = pool.drain(timeout=0)
    assert set(report.running) == {job, *inner}


def test_draining_an_idle_or_a_closed_pool_reports_nothing() -> None:
    for pool in (Pool(1), Pool(1)):
        pool.submit(abs, 1).result(WAIT)
        assert pool.drain(timeout=WAIT) == ([], [], [], [])
        assert pool.drain(timeout=0) == ([], [], [], [])
    assert Pool(1).drain() == ([], [], [], [])


@pytest.mark.parametrize("timeout", [-1, math.nan])
def test_a_pool_is_not_ended_by_a_wait_that_makes_no_sense(timeout: float) -> None:
    """-1 means "no limit" elsewhere; here it would cancel all jobs at once."""
    message = r"^timeout must be 0 or more \(math\.inf: no limit\), not "
    with Pool("drained", 1) as pool:
        for end in (
            pool.drain,
            lambda timeout: pool.shutdown(timeout=timeout),
            oddjob.shutdown_all,
        ):
            with pytest.raises(ValueError, match=message):
                end(timeout)
        assert pool.submit(abs, -1).result(WAIT) == 1
    with pytest.raises(ValueError, match=message):
        pool.join(timeout)


def test_a_job_cannot_drain_its_own_pool() -> None:
    with Pool(1) as pool:
        error = pool.submit(pool.drain).exception(WAIT)
        assert isinstance(error, RuntimeError)
        assert "cannot wait for the pool's own end" in str(error)
        assert pool.state == "running", "what is refused changes nothing"


def test_a_stuck_job_with_a_timeout_does_not_hold_up_a_drain(gate: Gate) -> None:
    pool = Pool(1)
    stuck, after = pool.options(timeout=0.02).submit(gate), pool.submit(abs, -1)
    report = pool.drain(timeout=WAIT)
    assert set(report.finished) == {stuck, after}
    assert after.result(0) == 1


def test_a_shutdown_with_a_limit_returns_and_the_queue_goes_on(gate: Gate) -> None:
    pool = Pool(1)
    jobs = [pool.submit(gate), pool.submit(abs, -1)]
    pool.shutdown(timeout=0.01)
    assert not pool.join(0)
    assert [job.done() for job in jobs] == [False, False]
    gate.open.set()
    assert pool.join(WAIT)
    assert [job.result(0) for job in jobs] == ["passed", 1]


def test_a_view_shuts_the_pool_down_with_a_limit_too(gate: Gate) -> None:
    pool = Pool(1)
    view = pool.options(name="gate").options(timeout=WAIT)
    job = view.submit(gate)
    view.shutdown(timeout=0.01)  # type: ignore[call-arg]  # an Executor to the type checker
    assert pool.state == "closed"
    assert not job.done()


@pytest.mark.usefixtures("tiny_switch_interval")
@pytest.mark.parametrize("seed", range(20))
def test_a_drain_at_any_moment_accounts_for_every_job(seed: int) -> None:
    """Those that ended before, and those in its report: together they are all there were."""
    pool = Pool(3)
    accepted: list[oddjob.Job[None]] = []

    def submit() -> None:
        with suppress(PoolClosed):
            while True:
                accepted.append(pool.submit(time.sleep, 0.0001))

    threads = [threading.Thread(target=submit) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.001 * seed)
    report = pool.drain(timeout=0.005)
    for thread in threads:
        thread.join()
    assert pool.join(WAIT)
    assert all(job.done() for job in accepted)
    assert {job for job in accepted if job.cancelled()} == set(report.cancelled)
    assert all(not job.cancelled() for job in [*report.finished, *report.running])
    stats = pool.stats()
    assert (stats.queued, stats.running) == (0, 0)
    assert stats.succeeded + stats.cancelled == len(accepted)


def test_nothing_polls_while_a_closed_pool_waits_for_its_last_job(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[None] = []
    look = Supervisor._run_once

    def counted(supervisor: Supervisor) -> bool:
        looks.append(None)
        return look(supervisor)

    monkeypatch.setattr(Supervisor, "_run_once", counted)
    pool = Pool(2)
    pool.submit(gate)
    assert gate.begun.acquire(timeout=WAIT)
    pool.shutdown(wait=False)
    assert not pool.join(0.1)
    assert len(looks) < 10
    gate.open.set()
    assert pool.join(WAIT)


def test_the_thread_that_empties_the_queue_of_a_closed_pool_lets_its_workers_leave(
    gate: Gate,
) -> None:
    """Another thread has the queue's lock when the last job ends: the worker leaves it a message.

    As long as that is unread the queue is not empty, so the worker parks.
    """
    pool = Pool(1)
    job = pool.options(priority=1).submit(gate)
    assert gate.begun.acquire(timeout=WAIT)
    queue = pool._core.dispatcher.limited
    assert queue is not None
    parked = pool._core.dispatcher.parked
    with queue._lock:
        pool.shutdown(wait=False)
        gate.open.set()
        job.result(WAIT)
        until(lambda: len(parked) == 1)
    assert pool.queue() == []
    assert pool.join(WAIT)
