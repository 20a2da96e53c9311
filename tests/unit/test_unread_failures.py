"""Failures that nobody looks at: each is reported once, when its job is collected."""

import asyncio
import gc
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import oddjob
from oddjob import Job, Pool
from tests.hang import WAIT, until

UNREAD = "failed, and nobody has looked at that"


def fail() -> None:
    raise ValueError("not looked at")


def reports(caplog: pytest.LogCaptureFixture) -> list[Any]:
    gc.collect()
    return [each for each in caplog.records if each.getMessage().endswith(UNREAD)]


def test_a_failure_that_nobody_has_looked_at_is_logged_once_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Pool("mail", 1) as pool:
        pool.submit(fail)
    (report,) = reports(caplog)
    assert report.getMessage() == f"job fail of pool mail {UNREAD}"
    assert "in fail" in caplog.text
    assert "ValueError: not looked at" in caplog.text


def read(job: Job[Any]) -> None:
    with suppress(ValueError):
        job.result(WAIT)


def read_with_others(job: Job[Any]) -> None:
    with suppress(ValueError):
        oddjob.await_many([job])


async def awaited(job: Job[Any]) -> None:
    with suppress(ValueError):
        await job


@pytest.mark.parametrize(
    "look",
    [
        lambda job: job.exception(WAIT),
        read,
        read_with_others,
        lambda job: asyncio.run(awaited(job)),
        lambda job: job.add_done_callback(lambda done: done.exception()),
    ],
    ids=["exception", "result", "await_many", "await", "callback"],
)
def test_a_failure_that_was_looked_at_is_not_logged(
    look: Callable[[Job[Any]], object], caplog: pytest.LogCaptureFixture
) -> None:
    with Pool(1) as pool:
        look(pool.submit(fail))
    assert reports(caplog) == []


def test_a_failure_of_perform_is_logged_at_once_and_never_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Pool(1) as pool:
        pool.perform(fail)
    assert reports(caplog) == []
    assert caplog.text.count("job fail of pool") == 1


def test_a_group_has_looked_at_the_failures_that_it_raises(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Pool(2) as pool, pytest.raises(ValueError), pool.group() as group:
        group.submit(fail)
    del group
    assert reports(caplog) == []


def test_on_error_hears_of_a_failure_that_nobody_has_looked_at() -> None:
    heard: list[tuple[str, str, str, BaseException | None]] = []

    def on_error(job: Job[Any], error: BaseException) -> None:
        heard.append((job.id, job.name, job.state, job.exception()))
        assert job.exception() is error
        assert (job.key, job.pool, job.done()) == ("ann", pool, True)

    with Pool("mail", 1, on_error=on_error) as pool:
        job = pool.options(name="bill", key="ann").submit(fail)
        job_id = job.id
        until(job.done)
        assert heard == []
        del job
        gc.collect()
    ((*what, error),) = heard
    assert what == [job_id, "bill", "failed"]
    assert isinstance(error, ValueError)


def test_a_job_in_a_reference_cycle_is_reported_when_that_is_collected(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Holder:
        me: "Holder"
        job: Job[Any]

    holder = Holder()
    holder.me = holder
    with Pool(1) as pool:
        holder.job = pool.submit(fail)
    assert reports(caplog) == []
    del holder
    assert len(reports(caplog)) == 1


def test_a_coroutine_that_was_cancelled_is_not_reported_as_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    running = threading.Event()

    async def sleep() -> None:
        running.set()
        await asyncio.sleep(WAIT)

    with Pool(1) as pool:
        job = pool.submit(sleep)
        assert running.wait(WAIT)
        job.cancel()
        del job
    assert reports(caplog) == []


def test_jobs_that_a_full_queue_drops_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    gate = threading.Event()
    with Pool(1, max_queue=1, when_full="drop_oldest") as pool:
        running = pool.submit(gate.wait, WAIT)
        until(running.running)
        pool.submit(fail)
        last = pool.submit(abs, -1)
        gate.set()
        assert last.result(WAIT) == 1
    (report,) = reports(caplog)
    assert report.exc_info[0] is oddjob.JobDropped


def test_an_on_error_that_blocks_holds_up_no_timer() -> None:
    """The previous job of a recurring timer is collected in the thread that fires all timers."""
    gate, stuck, ticks = threading.Event(), threading.Event(), threading.Semaphore(0)

    def on_error(_job: Job[Any], _error: BaseException) -> None:
        stuck.set()
        gate.wait(3 * WAIT)

    pool, other = Pool(1, on_error=on_error), Pool(1)
    failing = pool.every(0.005).submit(fail)
    assert stuck.wait(WAIT)
    other.every(0.005).perform(ticks.release)
    try:
        assert ticks.acquire(timeout=WAIT)
        assert ticks.acquire(timeout=WAIT)
    finally:
        gate.set()
        for job in failing.jobs:
            job.exception(WAIT)
        pool.shutdown()
        other.shutdown()


def test_jobs_have_no_destructor() -> None:
    """One would cost every job that succeeds."""
    assert not hasattr(Job, "__del__")
