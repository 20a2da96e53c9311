"""Serial jobs (`serial=True`) behind one that fails: who ends with it, and who goes on after it."""

import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from queue import SimpleQueue
from typing import Any, Self

import pytest

import oddjob
from oddjob import Job, Pool
from oddjob.testing import FakeClock
from tests.hang import Hang

WAIT = 10.0

BY_EITHER_CLOCK = pytest.mark.parametrize("clock", [nullcontext, FakeClock])
BY_ITSELF_OR_BY_TIMEOUT = pytest.mark.parametrize("timeout", [None, 0.05])

Clock = Callable[[], AbstractContextManager[object]]


class Line:
    """A line of serial jobs, in a pool whose worker is busy until all of them are queued."""

    def __init__(self, pool: Pool, timeout: float | None = None) -> None:
        self.busy = Hang()
        self.hang = Hang()  # what runs out of time
        pool.submit(self.busy)
        self.busy.wait_until_it_hangs()
        self.view = pool.options(key="invoice 7", serial=True, timeout=timeout)
        self.timeout = timeout

    def fail(self) -> None:
        """Fail as a job, at once or by its timeout."""
        if self.timeout is not None:
            self.hang()
        int("no number")

    def start(self) -> None:
        self.busy.gate.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.start()
        self.hang.gate.set()


@BY_EITHER_CLOCK
@BY_ITSELF_OR_BY_TIMEOUT
def test_serial_jobs_behind_one_that_failed_end_and_say_why(
    clock: Clock, timeout: float | None
) -> None:
    """They were to run only after its success; and every accepted job ends."""
    with clock(), Pool(None, 1) as pool, Line(pool, timeout) as line:
        first = line.view.submit(line.fail)
        behind = line.view.submit_many(abs, [1, 2])
        line.start()
        for job in behind:
            error = job.exception(WAIT)
            assert isinstance(error, oddjob.PredecessorFailed)
            assert error.__cause__ is first.exception()
        assert line.view.submit(abs, -3).result(WAIT) == 3  # a new beginning
        assert pool.stats().refused == 2


@BY_EITHER_CLOCK
@BY_ITSELF_OR_BY_TIMEOUT
def test_a_serial_job_that_a_callback_of_the_failed_one_submits_runs(
    clock: Clock, timeout: float | None
) -> None:
    """Its submitter knows of the failure: so a line is taken up again."""
    follow_ups: SimpleQueue[Job[int]] = SimpleQueue()
    with clock(), Pool(None, 1) as pool, Line(pool, timeout) as line:
        first = line.view.submit(line.fail)
        first.add_done_callback(lambda _: follow_ups.put(line.view.submit(abs, -3)))
        behind = line.view.submit(abs, 1)
        line.start()
        assert follow_ups.get(timeout=WAIT).result(WAIT) == 3
        assert isinstance(behind.exception(WAIT), oddjob.PredecessorFailed)


def test_the_traceback_of_a_failure_is_logged_once_and_not_for_each_serial_job_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Pool("line", 1) as pool, Line(pool) as line:
        line.view.perform(line.fail)
        line.view.perform_many(abs, [1, 2])
        line.start()
    assert caplog.text.count("ValueError: invalid literal") == 1
    said = "job abs of pool line failed: job Line.fail, before it in line 'invoice 7', failed"
    assert caplog.messages[1:] == [said, said]


def test_serial_jobs_end_behind_one_that_failed_whatever_its_callbacks_raise() -> None:
    has_ended = threading.Semaphore(0)

    def leave(_: Job[Any]) -> None:
        has_ended.release()
        sys.exit()

    with Pool(None, 1) as pool, Line(pool) as line:
        first = line.view.submit(line.fail)
        behind = line.view.submit_many(abs, [1, 2])
        for job in (first, *behind):
            job.add_done_callback(leave)
        line.start()
        for job in behind:
            assert isinstance(job.exception(WAIT), oddjob.PredecessorFailed)
        for _ in (first, *behind):
            assert has_ended.acquire(timeout=WAIT)


def test_a_slow_callback_of_a_serial_job_behind_a_hung_one_holds_up_no_timeout() -> None:
    slow = Hang()
    with Pool(None, 1) as pool, Line(pool, 0.05) as line:
        line.view.submit(line.fail)
        line.view.submit(abs, 1).add_done_callback(slow)
        line.start()
        slow.wait_until_it_hangs()
        other = pool.options(timeout=0.05).submit(line.hang)
        assert isinstance(other.exception(WAIT), oddjob.JobTimeout)
        assert not slow.left.acquire(blocking=False)
        slow.gate.set()


@BY_ITSELF_OR_BY_TIMEOUT
def test_a_group_of_serial_jobs_raises_the_one_failure_that_it_is_about(
    timeout: float | None,
) -> None:
    """Those behind the job that failed are cancelled, like any others of the group."""
    with Pool(None, 1) as pool, Line(pool, timeout) as line:
        group = line.view.group()
        group.submit(line.fail)
        behind = group.submit(abs, 1)
        line.start()
        with pytest.raises((ValueError, oddjob.JobTimeout)), group:
            pass
        assert behind.cancelled()
