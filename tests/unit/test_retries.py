"""Retries: jobs that are attempted again when they fail."""

import logging
import threading
from concurrent.futures import CancelledError
from datetime import timedelta
from typing import Any

import pytest

import oddjob
from oddjob import Backoff, Job, Pool, PoolBroken, PoolEvent
from oddjob.retry import DEFAULT_DELAYS, RetryPolicy, as_delays
from oddjob.runtime import core
from oddjob.testing import FakeClock
from tests.hang import Hang, until

WAIT = 10.0


class Flaky:
    """A function that fails `failures` times, then succeeds."""

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


def test_a_retry_does_not_wait_for_the_only_worker_that_there_was_before() -> None:
    flaky, hang = Flaky(1), Hang()
    with FakeClock() as clock, Pool(2) as pool:
        job = pool.options(retries=1, backoff=1).submit(flaky)
        until(lambda: len(flaky.attempts) == 1 and job.state == "queued")
        other = pool.submit(hang)
        hang.wait_until_it_hangs()
        clock.advance(1)
        assert job.result(WAIT) == "done"
        assert other.running()
        hang.gate.set()


def test_a_failed_job_is_retried_until_it_succeeds() -> None:
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
        assert pool.queue() == [job]
        with pytest.raises(TimeoutError):
            job.result(0.01)
        assert told == []
        assert job.cancel()
        assert (told, job.state, pool.queue()) == ([job], "cancelled", [])


def test_a_job_that_was_asked_to_stop_is_not_retried() -> None:
    hang = Hang()

    def fail_in_the_end() -> None:
        hang()
        raise OSError

    with Pool(2) as pool:
        job = pool.options(retries=5, backoff=0.0).submit(fail_in_the_end)
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
        ({"no_retry_on": OSError}, ConnectionError, 1),
        ({"retry_on": OSError, "no_retry_on": (FileNotFoundError,)}, FileNotFoundError, 1),
        ({"retry_on": lambda error: "failure" in str(error)}, KeyError, 3),
        ({"retry_on": lambda error: "else" in str(error)}, KeyError, 1),
        ({"no_retry_on": lambda error: "failure" in str(error)}, KeyError, 1),
        ({}, SystemExit, 1),
        ({"retry_on": SystemExit}, SystemExit, 3),
    ],
)
def test_classes_or_a_predicate_tell_which_failures_are_retried(
    options: Any, error: type[BaseException], attempts: int
) -> None:
    flaky = Flaky(9, error)
    with Pool(2, max_restarts=100) as pool:
        job = pool.options(retries=2, backoff=0.0, **options).submit(flaky)
        assert type(job.exception(WAIT)) is error
        until(lambda: pool.stats().running == 0)
        assert pool.submit(abs, -1).result(WAIT) == 1
    assert len(flaky.attempts) == attempts


def test_an_attempt_that_timed_out_is_retried_and_its_late_result_is_dropped() -> None:
    """The stuck thread may return at any time."""
    hang = Hang()
    calls: list[int] = []

    def hang_once() -> str:
        calls.append(len(calls))
        return hang() if len(calls) == 1 else "second"

    with FakeClock() as clock, Pool(1) as pool:
        job = pool.options(retries=1, backoff=60, timeout=0.1, key="k").submit(hang_once)
        until(lambda: job.state == "queued" and job.attempt == 1)
        hang.gate.set()  # the first attempt returns before the second begins
        assert hang.left.acquire(timeout=WAIT)
        clock.advance(60)
        assert job.result(WAIT) == "second"
        assert job.attempt == 2
        until(lambda: pool.stats().abandoned == 0)
        stats = pool.stats()
        assert (stats.succeeded, stats.timed_out, stats.retried, stats.failed) == (1, 0, 1, 0)


def test_a_job_whose_last_attempt_times_out_ends_with_a_timeout() -> None:
    hang = Hang()
    with Pool(1) as pool:
        job = pool.options(retries=1, backoff=0.0, timeout=0.03).submit(hang)
        assert isinstance(job.exception(WAIT), oddjob.JobTimeout)
        assert (job.attempt, pool.stats().timed_out, pool.stats().retried) == (2, 1, 1)
        hang.gate.set()


def test_a_worker_that_crashes_with_a_retried_failure_is_replaced() -> None:
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
    assert "in attempt 1, and is retried in 0 s: OSError('failure 1')" in caplog.text
    assert events == ["job_retried", "job_retried", "job_failed", "pool_closed"]


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


def test_coroutines_are_retried() -> None:
    attempts: list[int] = []

    async def work() -> str:
        attempts.append(1)
        if len(attempts) < 3:
            raise OSError
        return "done"

    with Pool(1) as pool:
        assert pool.options(retries=5, backoff=0.0).submit(work).result(WAIT) == "done"


def test_a_worker_that_waits_for_a_job_makes_its_retries() -> None:
    """The only worker waits for a job of its own pool that fails at first."""
    flaky = Flaky(2)
    with Pool(1) as pool:
        retried = pool.options(retries=2, backoff=0.02)
        assert pool.submit(lambda: retried.submit(flaky).result(WAIT)).result(WAIT) == "done"
    assert flaky.attempts == [1, 2, 3]


def test_the_jobs_of_a_batch_are_retried_one_by_one() -> None:
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


def test_the_default_delays_are_those_of_toniq() -> None:
    policy = RetryPolicy(limit=7)
    assert DEFAULT_DELAYS == (0.25, 1.0, 20.0, 60.0, 150.0)
    assert [policy.decide(OSError(), number) for number in range(1, 9)] == [
        *DEFAULT_DELAYS,
        150.0,
        150.0,
        None,
    ]


TWO = ExceptionGroup("two", [OSError("a"), ExceptionGroup("one", [KeyError("b")])])


@pytest.mark.parametrize(
    ("options", "is_retried"),
    [
        ({"retry_on": OSError}, True),
        ({"retry_on": KeyError}, True),
        ({"retry_on": ValueError}, False),
        ({"retry_on": ExceptionGroup}, True),
        ({"no_retry_on": KeyError}, False),
        ({"no_retry_on": (ValueError, TypeError)}, True),
        ({"retry_on": lambda error: error.args == ("b",)}, True),
        ({"retry_on": lambda error: error.args == ("c",)}, False),
        ({"no_retry_on": lambda error: error.args == ("a",)}, False),
    ],
)
def test_an_exception_group_is_retried_as_the_exceptions_in_it_are(
    options: Any, is_retried: bool
) -> None:
    """Which of two failures comes first, and whether both come, is a matter of timing."""
    decision = RetryPolicy(1, (7.0,), **options).decide(TWO, 1)
    assert decision == (7.0 if is_retried else None)


def test_a_job_that_fails_with_a_group_is_retried(caplog: pytest.LogCaptureFixture) -> None:
    attempts: list[int] = []

    def fail() -> None:
        attempts.append(1)
        raise ExceptionGroup("two", [OSError(), ValueError()])

    with Pool(1) as pool:
        job = pool.options(retries=2, backoff=0.0, retry_on=OSError).submit(fail)
        assert isinstance(job.exception(WAIT), ExceptionGroup)
    assert len(attempts) == job.attempt == 3


def test_a_predicate_that_raises_is_logged_and_nothing_is_retried(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Pool(1) as pool:
        job = pool.options(retries=2, backoff=0.0, retry_on=lambda error: error.code).submit(
            int, "no number"
        )
        assert isinstance(job.exception(WAIT), ValueError)
        assert job.attempt == 1
    assert "cannot tell whether to retry after ValueError" in caplog.text
    assert "has no attribute 'code'" in caplog.text


def test_a_backoff_grows_up_to_its_maximum() -> None:
    backoff = Backoff(0.5, factor=3.0, maximum=10.0, jitter=0)
    assert [backoff.delay(number) for number in (1, 2, 3, 4, 10_000)] == [0.5, 1.5, 4.5, 10, 10]


def test_jitter_spreads_jobs_that_failed_together() -> None:
    delays = {Backoff(1.0, jitter=0.5).delay(1) for _ in range(100)}
    assert len(delays) > 50
    assert 1.0 <= min(delays) <= max(delays) <= 1.5
    longest = {Backoff(1.0, maximum=10.0, jitter=0.5).delay(9) for _ in range(100)}
    assert len(longest) > 90
    assert 10.0 / 1.5 <= min(longest) <= max(longest) <= 10.0


@pytest.mark.parametrize(
    ("value", "delays"),
    [
        (1, (1.0,)),
        (0.5, (0.5,)),
        ((1, 2.5), (1.0, 2.5)),
        ([3], (3.0,)),
        (timedelta(minutes=1), (60.0,)),
        ([timedelta(seconds=2), 4], (2.0, 4.0)),
        (Backoff(2.0), Backoff(2.0)),
        (Backoff(timedelta(seconds=2), maximum=timedelta(minutes=5)), Backoff(2.0)),
    ],
)
def test_delays_can_be_given_in_several_ways(value: Any, delays: Any) -> None:
    assert as_delays("backoff", value) == delays


@pytest.mark.parametrize(
    ("value", "error"),
    [("1", TypeError), (None, TypeError), ([True], TypeError), ((), ValueError),
     (-1, ValueError), ([1, float("inf")], ValueError)],
)  # fmt: skip
def test_bad_delays_are_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        as_delays("backoff", value)


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
def test_a_bad_backoff_is_refused_with_what_is_wrong(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"a backoff's {next(iter(arguments))} must be"):
        Backoff(**arguments)


def test_a_delay_is_kept() -> None:
    times: list[float] = []

    def work() -> None:
        times.append(clock.now().timestamp())
        if len(times) < 3:
            raise OSError

    with FakeClock() as clock, Pool(1) as pool:
        pool.options(retries=2, backoff=(30, timedelta(minutes=1))).submit(work)
        clock.advance(minutes=5)
    assert [time - times[0] for time in times] == [0, 30, 90]


def test_a_job_that_is_to_be_retried_while_its_pool_breaks_ends_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pool has looked for waiting jobs before this one is queued again."""

    def break_down_behind(job: Job[Any]) -> bool:
        is_open = reopen(job)
        pool._core.ending.break_down(SystemExit())
        return is_open

    reopen = core.reopen
    monkeypatch.setattr(core, "reopen", break_down_behind)
    pool = Pool(1, retries=1, backoff=0.001)
    with pytest.raises(PoolBroken):
        pool.submit(int, "no number").result(WAIT)
    assert pool.queue() == []
    pool.shutdown()


def test_a_job_that_is_cancelled_on_its_way_back_to_the_queue_holds_up_no_shutdown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would have waited for its delay to pass."""

    def cancel_behind(job: Job[Any]) -> bool:
        return reopen(job) and job.cancel()

    reopen = core.reopen
    monkeypatch.setattr(core, "reopen", cancel_behind)
    with Pool(1, retries=1, backoff=3600) as pool:
        job = pool.submit(int, "no number")
        with pytest.raises(CancelledError):
            job.result(WAIT)
    assert len(pool._core.dispatcher) == 0


def test_how_long_a_job_was_queued_is_told_of_the_attempt_that_has_ended() -> None:
    """Though another worker may take the job before its former one has noted that."""
    second_began, queued_at = threading.Event(), list[float]()

    def fail_at_first() -> None:
        job = oddjob.current_job()
        assert job is not None
        queued_at.append(job._queued_at)
        if job.attempt == 1:
            raise OSError
        second_began.set()

    def wait_for_second(event: PoolEvent) -> None:
        if event.kind == "job_retried":
            second_began.wait(WAIT)

    with Pool(2, retries=1, backoff=0, on_event=wait_for_second) as pool:
        pool.histograms()
        pool.submit(fail_at_first).result(WAIT)
    assert queued_at[0] < queued_at[1]
    assert pool.histograms().queue_wait.total >= 0
