"""Jobs that are tried again when they fail."""

import logging
import threading
import time
from typing import Any

import pytest

import oddjob
from oddjob import Backoff, Pool
from oddjob.monitor import Monitor
from oddjob.retry import DELAYS, Retries, as_delays
from tests.hang import Hang, until

WAIT = 10.0


class Flaky:
    """Fails so often, then succeeds."""

    def __init__(self, failures: int, error: type[BaseException] = OSError) -> None:
        self.failures = failures
        self.error = error
        self.attempts: list[int] = []

    def __call__(self) -> str:
        job = oddjob.current_job()
        assert job is not None
        self.attempts.append(job.attempt)
        if len(self.attempts) <= self.failures:
            raise self.error(f"failure {len(self.attempts)}")
        return "done"


def test_a_job_that_fails_is_tried_again_until_it_succeeds() -> None:
    flaky = Flaky(2)
    with Pool(2) as pool:
        job = pool.options(retries=5, backoff=0.01).submit(flaky)
        assert job.result(WAIT) == "done"
        stats = pool.stats()
    assert (flaky.attempts, job.attempt) == ([1, 2, 3], 3)
    assert (stats.succeeded, stats.failed, stats.retried, stats.started) == (1, 0, 2, 3)
    assert (stats.queued, stats.running) == (0, 0)


def test_a_job_that_keeps_failing_ends_with_its_last_failure() -> None:
    flaky = Flaky(9)
    with Pool(2, retries=2, backoff=(0.0, 0.01)) as pool:
        job = pool.submit(flaky)
        assert str(job.exception(WAIT)) == "failure 3"
        assert (pool.stats().failed, pool.stats().retried) == (1, 2)
    assert flaky.attempts == [1, 2, 3]


def test_the_future_stays_pending_between_attempts_and_can_be_cancelled() -> None:
    told: list[Any] = []
    with Pool(2) as pool:
        job = pool.options(retries=1, backoff=3600.0).submit(int, "no number")
        job.add_done_callback(told.append)
        until(lambda: job.attempt == 1 and job.state == "queued")
        assert not job.done()
        assert pool.queued() == [job]
        with pytest.raises(TimeoutError):
            job.result(0.01)
        assert told == []
        assert job.cancel()
        assert (told, job.state, pool.queued()) == ([job], "cancelled", [])


def test_a_job_that_was_asked_to_stop_is_not_tried_again() -> None:
    hang = Hang()

    def fail_when_let_go() -> None:
        hang()
        raise OSError

    with Pool(2) as pool:
        job = pool.options(retries=5, backoff=0.0).submit(fail_when_let_go)
        hang.wait_until_it_hangs()
        assert not job.cancel()
        hang.gate.set()
        assert isinstance(job.exception(WAIT), OSError)
        assert job.attempt == 1


@pytest.mark.parametrize(
    ("options", "error", "attempts"),
    [
        ({"retry_on": OSError}, ConnectionError, 3),
        ({"retry_on": (KeyError, OSError)}, OSError, 3),
        ({"retry_on": OSError}, ValueError, 1),
        ({"give_up_on": OSError}, ConnectionError, 1),
        ({"retry_on": OSError, "give_up_on": (FileNotFoundError,)}, FileNotFoundError, 1),
        ({}, SystemExit, 1),
        ({"retry_on": SystemExit}, SystemExit, 3),
    ],
)
def test_only_what_is_worth_it_is_tried_again(
    options: Any, error: type[BaseException], attempts: int
) -> None:
    flaky = Flaky(9, error)
    with Pool(2, max_restarts=100) as pool:
        job = pool.options(retries=2, backoff=0.0, **options).submit(flaky)
        assert type(job.exception(WAIT)) is error
        until(lambda: pool.stats().running == 0)
        assert pool.submit(abs, -1).result(WAIT) == 1
    assert len(flaky.attempts) == attempts


def test_an_attempt_that_timed_out_is_tried_again_and_comes_to_nothing() -> None:
    """Its thread may come back at any time, with a result that nobody wants any more."""
    hang = Hang()
    calls: list[int] = []

    def hang_once() -> str:
        calls.append(len(calls))
        return hang() if len(calls) == 1 else "second"

    with Pool(1) as pool:
        job = pool.options(retries=1, backoff=0.05, timeout=0.05, key="k").submit(hang_once)
        until(lambda: job.state == "queued" and job.attempt == 1)
        hang.gate.set()  # the first comes back before the second begins
        assert hang.left.acquire(timeout=WAIT)
        assert job.result(WAIT) == "second"
        assert job.attempt == 2
        until(lambda: pool.stats().abandoned == 0)
        stats = pool.stats()
        assert (stats.succeeded, stats.timed_out, stats.retried, stats.failed) == (1, 0, 1, 0)


def test_the_last_attempt_that_times_out_is_the_end() -> None:
    hang = Hang()
    with Pool(1) as pool:
        job = pool.options(retries=1, backoff=0.0, timeout=0.03).submit(hang)
        assert isinstance(job.exception(WAIT), oddjob.JobTimeout)
        assert (job.attempt, pool.stats().timed_out, pool.stats().retried) == (2, 1, 1)
        hang.gate.set()


def test_a_worker_that_crashes_with_a_failure_to_be_retried_is_replaced() -> None:
    flaky = Flaky(2)
    with Pool(1, crash_on=OSError, max_restarts=100) as pool:
        job = pool.options(retries=2, backoff=0.0).submit(flaky)
        assert job.result(WAIT) == "done"
        until(lambda: pool.supervisor().crashes == 2)
        assert pool.stats().failed == 0


def test_a_shutdown_waits_for_retries_unless_it_cancels_them() -> None:
    flaky = Flaky(2)
    with Pool(2) as pool:
        job = pool.options(retries=2, backoff=0.05).submit(flaky)
    assert job.result(0) == "done"
    pool = Pool(2)
    job = pool.options(retries=2, backoff=3600.0).submit(Flaky(1))
    until(lambda: job.attempt == 1 and job.state == "queued")
    pool.shutdown(cancel_futures=True)
    assert job.cancelled()


def test_retries_are_warnings_and_the_last_failure_is_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events: list[str] = []
    with Pool(1, on_event=lambda event: events.append(event.kind)) as pool:
        pool.options(retries=2, backoff=0.0).perform(Flaky(9))
        until(lambda: len(events) == 3)
    levels = [record.levelno for record in caplog.records if record.name == "oddjob"]
    assert levels == [logging.WARNING, logging.WARNING, logging.ERROR]
    assert "attempt 1, and is tried again in 0 s: OSError('failure 1')" in caplog.text
    assert events == ["retry", "retry", "job_failed", "closed"]


def test_each_attempt_has_a_context_of_its_own() -> None:
    import contextvars

    variable = contextvars.ContextVar("variable", default="submitter's")
    seen: list[str] = []

    def work() -> None:
        seen.append(variable.get())
        variable.set("an attempt's")
        if len(seen) < 3:
            raise OSError

    with Pool(1) as pool:
        pool.options(retries=5, backoff=0.0).submit(work).result(WAIT)
    assert seen == ["submitter's"] * 3


def test_coroutines_are_tried_again() -> None:
    attempts: list[int] = []

    async def work() -> str:
        attempts.append(1)
        if len(attempts) < 3:
            raise OSError
        return "done"

    with Pool(1) as pool:
        assert pool.options(retries=5, backoff=0.0).submit(work).result(WAIT) == "done"


def test_a_worker_that_waits_for_a_retry_makes_it() -> None:
    """The pool's one worker waits for a job of its own pool that fails at first."""
    flaky = Flaky(2)
    with Pool(1) as pool:
        retried = pool.options(retries=2, backoff=0.02)
        assert pool.submit(lambda: retried.submit(flaky).result(WAIT)).result(WAIT) == "done"
    assert flaky.attempts == [1, 2, 3]


def test_a_batch_is_tried_again_one_by_one() -> None:
    lock = threading.Lock()
    failed: set[int] = set()

    def work(number: int) -> int:
        with lock:
            if number % 3 == 0 and number not in failed:
                failed.add(number)
                raise OSError
        return number

    with Pool(3) as pool:
        jobs = pool.options(retries=1, backoff=0.01).submit_many(work, range(30))
        assert [job.result(WAIT) for job in jobs] == list(range(30))
    assert {job.attempt for job in jobs[::3]} == {2}


# Delays.


def test_the_usual_delays_are_toniqs() -> None:
    retries = Retries(limit=7)
    assert DELAYS == (0.25, 1.0, 20.0, 60.0, 150.0)
    assert [retries.delay_after(OSError(), number) for number in range(1, 9)] == [
        *DELAYS,
        150.0,
        150.0,
        None,
    ]


def test_a_backoff_grows_up_to_its_maximum() -> None:
    backoff = Backoff(0.5, factor=3.0, maximum=10.0, jitter=0)
    assert [backoff.delay(number) for number in (1, 2, 3, 4, 10_000)] == [0.5, 1.5, 4.5, 10, 10]


def test_jitter_spreads_what_failed_together() -> None:
    delays = {Backoff(1.0, jitter=0.5).delay(1) for _ in range(100)}
    assert len(delays) > 50
    assert 1.0 <= min(delays) <= max(delays) <= 1.5
    assert Backoff(1.0, maximum=1.1, jitter=1).delay(5) == 1.1


@pytest.mark.parametrize("value", [Backoff(2.0), 1, 0.5, (1, 2.5), [3]])
def test_delays_can_be_told_in_several_ways(value: Any) -> None:
    delays = as_delays(value)
    assert delays is value or all(isinstance(each, float) for each in delays)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"base": -1}, ValueError),
        ({"base": "1"}, TypeError),
        ({"factor": 0.5}, ValueError),
        ({"maximum": float("inf")}, ValueError),
        ({"jitter": float("nan")}, ValueError),
        ({"jitter": True}, TypeError),
    ],
)
def test_a_backoff_says_what_is_wrong_with_it(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"a backoff's {next(iter(arguments))} must be"):
        Backoff(**arguments)


def test_a_delay_is_kept() -> None:
    times: list[float] = []

    def work() -> None:
        times.append(time.monotonic())
        if len(times) < 3:
            raise OSError

    with Pool(1) as pool:
        pool.options(retries=2, backoff=(0.03, 0.06)).submit(work).result(WAIT)
    assert times[1] - times[0] >= 0.03
    assert times[2] - times[1] >= 0.06


def test_a_worker_that_comes_second_leaves_alone_what_is_queued_again_by_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The attempt that it would make is the next one's, and would count as none."""
    calls: list[int] = []
    hang = Hang()
    with Pool(1) as pool:
        pool.submit(hang)
        hang.wait_until_it_hangs()
        job: Any = pool.options(retries=3).submit(calls.append, 1)
        assert job.claim_queued()
        claim = Monitor.claim

        def claim_too_late(self: Monitor) -> bool:
            has_it = claim(self)
            if self is job._monitor and not has_it:
                assert job.reopen()
            return has_it

        monkeypatch.setattr(Monitor, "claim", claim_too_late)
        assert job.execute() is False
        assert (calls, job.state, job.attempt) == ([], "queued", 0)
        hang.gate.set()
        job.result(WAIT)
        assert calls == [1]
