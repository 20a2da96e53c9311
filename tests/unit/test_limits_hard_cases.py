"""Limits, keys and retries in rare combinations."""

import signal
import sys
import threading
import time
from typing import Any

import pytest

import oddjob
import oddjob.testing
from oddjob import Pool, Rate
from oddjob.locks import Wakeup
from oddjob.runtime.limits import ConcurrencyLimit
from oddjob.schedule.clock import Clock, clock
from tests.hang import Hang, until
from tests.lone_queue import LoneQueue, running

WAIT = 10.0


def test_workers_that_wait_for_a_running_job_run_its_retry() -> None:
    """The job was running when both workers of the pool began to wait for it."""
    attempts: list[int] = []
    go_on = threading.Event()

    def flaky() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            go_on.wait(WAIT)
            raise OSError
        return "done"

    with Pool(2) as pool:
        retried = pool.options(retries=3, backoff=0.05).submit(flaky)
        first = pool.submit(lambda: retried.result(WAIT))
        until(lambda: len(pool.queue()) == 0)
        second = pool.submit(lambda: first.result(WAIT))
        go_on.set()
        assert second.result(WAIT) == "done"


@pytest.mark.parametrize("options", [{"rate": "1/hour"}, {"key": "k"}, {"max_concurrency": 1}])
def test_a_worker_that_waits_for_a_limit_sleeps_and_keeps_to_its_time(options: Any) -> None:
    hang = Hang()
    with Pool(2) as pool:
        limited = pool.options(**options)
        limited.submit(hang)
        hang.wait_until_it_hangs()
        spent: list[float] = []

        def wait() -> None:
            job = limited.submit(abs, 1)
            pool.submit(abs, 2)  # something that is ready, and has to wait
            before = time.thread_time()
            with pytest.raises(TimeoutError):
                job.result(0.2)
            spent.append(time.thread_time() - before)
            job.cancel()

        pool.submit(wait).result(WAIT)
        hang.gate.set()
    assert spent[0] < 0.1


def test_a_rate_counts_starts_in_place_too() -> None:
    """A job of a rate that waits for another of it is no reason to exceed it."""
    starts: list[float] = []

    def nested(depth: int) -> None:
        starts.append(time.monotonic())
        if depth:
            rated.submit(nested, depth - 1).result(WAIT)

    with Pool(3) as pool:
        rated = pool.options(rate=Rate(2, per=0.2))
        rated.submit(nested, 6).result(WAIT)
    assert all(late - early >= 0.15 for early, late in zip(starts, starts[2:], strict=False))


def test_a_serial_job_that_was_asked_to_stop_and_fails_gives_its_key_back() -> None:
    hang = Hang()
    with Pool(2) as pool:
        line = pool.options(key="k", serial=True, retries=3, backoff=0.1)
        job = line.submit(lambda: (hang(), int("no number")))
        hang.wait_until_it_hangs()
        job.cancel()
        hang.gate.set()
        assert isinstance(job.exception(WAIT), ValueError)
        assert line.submit(abs, -1).result(WAIT) == 1
        assert (pool.stats().failed, pool.stats().retried) == (1, 0)


@pytest.mark.parametrize("place", ["in place", "by its caller"])
def test_a_serial_job_keeps_its_turn_wherever_its_first_attempt_was_made(place: str) -> None:
    order: list[Any] = []

    def first() -> None:
        order.append(1)
        if len(order) < 3:
            raise OSError

    if place == "in place":
        with Pool(1) as pool:
            line = pool.options(key="k", serial=True, retries=5, backoff=0.02)

            def outer() -> None:
                jobs = [line.submit(first), line.submit(order.append, "second")]
                for job in jobs:
                    job.result(WAIT)

            pool.submit(outer).result(WAIT)
    else:
        with Pool(pool_size=2, max_queue=1, when_full="caller_runs") as pool:
            hang = Hang()
            for _ in range(2):
                pool.submit(hang)
            hang.wait_until_it_hangs(2)
            pool.submit(abs, 1)
            line = pool.options(key="k", serial=True, retries=5, backoff=0.1)
            line.submit(first)
            hang.gate.set()
            until(lambda: pool.stats().queued == 1)
            line.submit(order.append, "second").result(WAIT)
    assert order == [1, 1, 1, "second"]


def test_priorities_of_one_key_count_when_their_turn_comes() -> None:
    order: list[Any] = []
    with Pool(1) as pool:
        hang = Hang()
        pool.submit(hang)
        hang.wait_until_it_hangs()
        given = [("a", 10), ("a", 0), (None, 0), ("a", 7), (None, 5), (None, 1), ("b", 6)]
        for key, priority in given:
            pool.options(key=key, priority=priority).submit(order.append, (key, priority))
        queue = [(job.key, job.priority) for job in pool.queue()]
        hang.gate.set()
    assert order == queue
    assert order == [("a", 10), ("b", 6), (None, 5), (None, 1), ("a", 0), ("a", 7), (None, 0)]


def test_a_serial_job_that_is_queued_after_a_failure_was_seen_is_run() -> None:
    """It was not queued in the hope of that job's success."""
    with Pool(pool_size=2, max_restarts=10**6) as pool:
        line = pool.options(key="k", serial=True)
        for _ in range(100):
            with pytest.raises(SystemExit):
                line.submit(sys.exit).result(WAIT)
            assert line.submit(abs, -1).result(WAIT) == 1


def test_inline_jobs_have_all_the_time_they_want() -> None:
    with Pool(1) as pool:
        assert pool.submit(abs, -1).result(WAIT) == 1  # there is a supervisor
        with oddjob.testing.inline():
            pool.options(timeout=0.01).submit(time.sleep, 0.1).result()


def test_a_callback_that_raises_in_place_costs_no_place() -> None:
    def exit_(_: object) -> None:
        raise SystemExit

    def outer() -> None:
        job = limited.submit(abs, 1)
        job.add_done_callback(exit_)
        job.result(WAIT)

    with Pool(2, max_restarts=100) as pool:
        limited = pool.options(max_concurrency=1)
        pool.submit(outer).exception(WAIT)
        assert limited.submit(abs, -2).result(WAIT) == 2


def test_a_timeout_is_for_one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the first must not end the second, which has begun meanwhile."""
    hang, first_may_go, steady = Hang(), threading.Event(), [100.0]
    monkeypatch.setattr(Clock, "steady", lambda _: steady[0])

    def work() -> str:
        if steady[0] == 100:
            steady[0] = 105
            raise OSError
        return hang()

    def look(event: oddjob.PoolEvent) -> None:
        if event.kind == "job_retried":  # the thread of the first attempt is held up
            first_may_go.wait(WAIT)

    both = threading.Barrier(2)
    with Pool(2, on_event=look) as pool:
        list(pool.map(lambda _: both.wait(WAIT), range(2)))  # there is a thread for each attempt
        job = pool.options(timeout=10, retries=1, backoff=0.0).submit(work)
        hang.wait_until_it_hangs()
        watchdog = pool._core.watchdog
        assert watchdog.next_look == 110
        steady[0] = 112
        pool._core.supervisor.notify()
        until(lambda: watchdog.next_look == 115)
        hang.gate.set()
        assert job.result() == "late"
        first_may_go.set()


def test_a_signal_handler_may_submit_and_cancel_at_any_moment() -> None:
    """Wherever in the queue it strikes."""
    with Pool(1) as pool:
        urgent = pool.options(priority=1)
        strokes = 0

        def strike(*_: object) -> None:
            nonlocal strokes
            strokes += 1
            urgent.submit(int).cancel()

        before = signal.signal(signal.SIGALRM, strike)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        try:
            until_ = time.monotonic() + 1.5
            while time.monotonic() < until_:
                urgent.submit(int).cancel()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert strokes > 10
        assert urgent.submit(abs, -1).result(WAIT) == 1


def test_a_gone_worker_gives_back_what_it_held_once() -> None:
    """Also where the indexes of the queue have to be rebuilt at that very moment."""
    with Pool(2) as pool:
        limited = pool.options(max_concurrency=1)
        queue = pool._core.dispatcher.limited
        assert queue is not None
        for _ in range(20):
            hang = Hang()
            job = limited.submit(hang)
            hang.wait_until_it_hangs()
            pool.restart()
            queue._is_torn = True
            hang.gate.set()
            job.result(WAIT)
        limit: Any = limited._policy.limits[0]
        until(lambda: limit._running == 0)


def test_a_pool_that_breaks_ends_what_waits_to_be_tried_again() -> None:
    def crash() -> None:
        raise SystemExit

    pool = Pool(1, max_restarts=0)
    job = pool.options(retries=1, backoff=3600.0).submit(int, "no number")
    until(lambda: job.attempt == 1 and job.state == "queued")
    while pool.state != "broken":
        try:
            pool.submit(crash)
        except oddjob.PoolBroken:
            break
    assert isinstance(job.exception(WAIT), oddjob.PoolBroken)
    pool.shutdown()


def test_a_supervisor_wakes_in_time_however_short_that_is() -> None:
    """A wait of a few microseconds must not become one without end."""
    wakeup = Wakeup()
    done = threading.Event()

    def wait() -> None:
        for _ in range(20_000):
            wakeup.wait(clock.steady() + 2e-6)
        done.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    assert done.wait(30)
    thread.join(WAIT)


def test_a_caller_that_runs_a_job_waits_for_one_of_the_same_ceiling() -> None:
    """The ceiling is its own: what it waits for runs in its place."""
    with Pool(pool_size=1, max_queue=1, when_full="caller_runs") as pool:
        limited = pool.options(max_concurrency=1)

        def outer() -> int:
            filler = pool.submit(int)

            def body() -> int:
                filler.result(WAIT)
                return limited.submit(abs, -3).result(WAIT)

            return limited.submit(body).result(WAIT)

        assert pool.submit(outer).result(WAIT) == 3


def test_no_worker_waits_in_a_closed_pool_for_a_job_that_crashed() -> None:
    """An idle worker waits for a job that a key holds up: the last one, which ends its worker."""

    def crash() -> None:
        raise SystemExit

    with Pool(pool_size=2, max_restarts=100) as pool:
        hang = Hang()
        keyed = pool.options(key="k")
        keyed.submit(hang)
        hang.wait_until_it_hangs()
        last = keyed.submit(crash)
        pool.submit(abs, 1).result(WAIT)  # there is a second worker
        pool.shutdown(wait=False)
        until(lambda: len(pool._core.dispatcher.parked) == 1)
        hang.gate.set()
        assert isinstance(last.exception(WAIT), SystemExit)
        assert pool.join(WAIT)


def test_a_job_that_is_cancelled_does_not_lend_its_place_to_one_that_came_later() -> None:
    order: list[str] = []
    with Pool(4) as pool:
        limited = pool.options(max_concurrency=1)
        one, other = limited.options(name="one"), limited.options(name="other")
        hang = Hang()
        limited.submit(hang)
        hang.wait_until_it_hangs()
        first = one.submit(order.append, "first")
        assert pool.queue() == [first]
        jobs = [other.submit(order.append, "second")]
        assert pool.queue() == [first, *jobs]
        jobs.append(one.submit(order.append, "third"))
        assert first.cancel()
        hang.gate.set()
        for job in jobs:
            job.result(WAIT)
    assert order == ["second", "third"]


def test_a_limit_that_two_threads_bring_to_the_queue_at_once_keeps_its_count() -> None:
    """Two threads derive views from one view; the jobs of the quick one must not be forgotten."""
    lone = LoneQueue()
    quick: list[Any] = []

    def run_quick_thread() -> None:
        if quick:
            lone.submit(lone.policy([quick.pop()]))
            assert lone.queue.take(lone.new_slot())

    class Shared(ConcurrencyLimit):
        def reset(self) -> None:
            run_quick_thread()
            super().reset()

    limit = Shared(1)
    quick.append(limit)

    lone.queue.gate.adopt([limit])  # the slow one
    run_quick_thread()
    assert running(limit) == 1


def test_a_limit_may_come_to_a_queue_that_is_being_rebuilt() -> None:
    """Views are made without the lock of the queue."""
    lone = LoneQueue()
    late = ConcurrencyLimit(1)

    class Recounted(ConcurrencyLimit):
        def recount(self, running: int) -> None:
            lone.queue.gate.adopt([late])  # as another thread does
            super().recount(running)

    limit = Recounted(1)
    job = lone.submit(lone.policy([limit]))
    lone.queue._is_torn = True
    assert lone.queue.take(lone.new_slot()) is job
    assert {*lone.queue.gate.adopted()} == {limit, late}
