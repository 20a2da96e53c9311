"""The dispatcher by itself: which worker is woken, and what happens when limits come."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from oddjob import Pool
from oddjob.runtime.dispatcher import Dispatcher
from tests.hang import WAIT, Hang, until


def lone_dispatcher() -> Dispatcher:
    no_core: Any = None  # it is asked only for limits
    return Dispatcher(no_core)


def dispatcher_with(parked: int) -> tuple[Dispatcher, list[int]]:
    """Return a dispatcher with parked workers, and the list of those that were woken."""
    dispatcher, woken = lone_dispatcher(), list[int]()

    def waker(number: int) -> Callable[[], None]:
        return lambda: woken.append(number)

    dispatcher.parked.extend(map(waker, range(parked)))
    return dispatcher, woken


def test_the_worker_that_parked_last_is_woken_first_and_each_once() -> None:
    """It has the warmest caches."""
    dispatcher, woken = dispatcher_with(3)
    assert dispatcher.wake_one()
    assert woken == [2]
    dispatcher.wake_all()
    assert woken == [2, 1, 0]
    assert not dispatcher.wake_one()


def test_a_batch_wakes_no_more_workers_than_it_needs() -> None:
    dispatcher, woken = dispatcher_with(5)
    dispatcher.wake_up_to(2)
    assert woken == [4, 3]
    dispatcher.wake_up_to(100)
    assert woken == [4, 3, 2, 1, 0]


def test_a_worker_that_was_woken_meanwhile_can_be_forgotten() -> None:
    dispatcher, lock = lone_dispatcher(), threading.Lock()
    dispatcher.forget_worker(lock.release)
    dispatcher.parked.append(lock.release)
    dispatcher.forget_worker(lock.release)
    assert not dispatcher.parked


def test_jobs_queued_before_the_first_limit_keep_their_order() -> None:
    """The first view with a priority replaces the queue while jobs wait in it."""
    order: list[int] = []
    with Pool(1) as pool:
        hang = Hang()
        pool.submit(hang)
        hang.wait_until_it_hangs()
        jobs = [pool.submit(order.append, number) for number in range(100)]
        jobs.append(pool.options(priority=1).submit(order.append, -1))
        assert len(pool.queue()) == 101
        hang.gate.set()
        for job in jobs:
            job.result(WAIT)
    assert order == [-1, *range(100)]


def test_limits_that_come_while_others_submit_lose_no_job() -> None:
    """A submitter may have looked at the former queue, and append to it after it was replaced."""
    for _ in range(30):
        with Pool(2) as pool:
            pool.submit(abs, 1).result(WAIT)
            both = threading.Barrier(2)
            jobs = []

            def submit(
                pool: Pool = pool, both: threading.Barrier = both, jobs: list = jobs
            ) -> None:  # type: ignore[type-arg]
                both.wait(WAIT)
                jobs += [pool.submit(abs, -number) for number in range(50)]

            submitter = threading.Thread(target=submit)
            submitter.start()
            both.wait(WAIT)
            urgent = pool.options(priority=1).submit(abs, -1)
            submitter.join(WAIT)
            assert [job.result(WAIT) for job in jobs] == [*range(50)]
            assert urgent.result(WAIT) == 1


def test_a_batch_whose_idle_worker_another_submitter_takes_gets_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise it would wait for the other one's job, which may take any time."""
    put, hang = Dispatcher.put, Hang()

    def put_second(dispatcher: Dispatcher, jobs: list[Any], count: int) -> int:
        monkeypatch.undo()
        pool.submit(hang)
        return put(dispatcher, jobs, count)

    with Pool(pool_size=2) as pool:
        pool.submit(abs, -1).result(WAIT)
        until(lambda: pool._core.dispatcher.parked)
        monkeypatch.setattr(Dispatcher, "put", put_second)
        (job,) = pool.submit_many(abs, [-2])
        assert job.result(WAIT / 2) == 2
        hang.gate.set()
