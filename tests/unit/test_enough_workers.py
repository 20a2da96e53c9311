"""A pool starts as many workers as its jobs need, whatever queue it has, and no more."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

import oddjob
from oddjob import Pool, PoolEvent
from tests.hang import WAIT, Hang, until

SUBMITS: list[Callable[[Any, Hang], object]] = [
    lambda pool, hang: pool.submit_many(hang, range(5)),
    lambda pool, hang: [pool.submit(hang) for _ in range(5)],
]


@pytest.mark.parametrize("submit", SUBMITS)
@pytest.mark.parametrize("options", [{}, {"priority": 1}, {"max_concurrency": 6}, {"retries": 1}])
def test_jobs_that_come_while_some_workers_are_idle_get_new_ones_too(
    submit: Callable[[Any, Hang], object], options: Any
) -> None:
    """They may wait for each other outside of `result`: at a barrier, say."""
    warm, hang = Hang(), Hang()
    with Pool(pool_size=8) as pool:
        view = pool.options(**options) if options else pool
        jobs = view.submit_many(warm, range(3))
        warm.wait_until_it_hangs(3)
        warm.gate.set()
        assert [job.result(WAIT) for job in jobs] == ["late"] * 3
        until(lambda: len(pool._core.dispatcher.parked) == 3)
        submit(view, hang)
        hang.wait_until_it_hangs(5)
        assert len(pool.workers()) == 5
        hang.gate.set()


def test_a_worker_that_was_stuck_stays_abandoned_when_a_pause_or_resize_ends() -> None:
    stuck, busy = Hang(), Hang()
    with Pool(pool_size=2) as pool:
        job = pool.options(timeout=0.05).submit(stuck)
        other = pool.submit(busy)
        stuck.wait_until_it_hangs()
        busy.wait_until_it_hangs()
        pool.pause()  # both are to leave
        assert job.exception(WAIT) is not None
        until(lambda: pool._core.workers.quarantined)
        busy.gate.set()
        other.result(WAIT)
        until(lambda: pool.workers() == [])
        waiting = pool.submit(abs, -1)
        (abandoned,) = pool._core.workers.quarantined
        stuck.gate.set()
        abandoned.thread.join(WAIT)
        assert not abandoned.thread.is_alive()
        assert waiting.state == "queued"
        pool.resume()
        assert waiting.result(WAIT) == 1


def test_a_worker_that_reports_a_retry_is_not_taken_for_a_free_one() -> None:
    """Its `on_event` may take any time; the retry is for another worker."""
    second_began = threading.Event()

    def fail_at_first() -> None:
        job = oddjob.current_job()
        assert job is not None
        if job.attempt == 1:
            raise OSError
        second_began.set()

    def wait_for_second(event: PoolEvent) -> None:
        if event.kind == "job_retried":  # only now does the supervisor look for a worker
            supervisor.notify = notify
            notify()
            second_began.wait(WAIT)

    with Pool(pool_size=2, retries=1, backoff=0, on_event=wait_for_second) as pool:
        pool.submit(abs, -1).result(WAIT)
        until(lambda: pool._core.dispatcher.parked)
        supervisor: Any = pool._core.supervisor
        notify, supervisor.notify = supervisor.notify, lambda: None
        job = pool.submit(fail_at_first)
        assert second_began.wait(WAIT / 2)
        assert job.exception(WAIT) is None
