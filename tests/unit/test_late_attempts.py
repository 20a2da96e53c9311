"""An attempt that has timed out may go on for as long as it likes; it disturbs no other one."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import oddjob
from oddjob import Job, Pool
from oddjob.testing import FakeClock
from tests.hang import WAIT, Hang, time_is_up, until

HOUR = 3600.0  # seconds


class Attempts:
    """A job whose attempts hang until they are let go, each by a gate of its own."""

    def __init__(self, count: int = 2) -> None:
        self.hangs = [Hang() for _ in range(count)]
        self._lock = threading.Lock()
        self._begun = 0

    def __call__(self) -> int:
        with self._lock:
            number = self._begun
            self._begun += 1
        self.hangs[number]()
        return number + 1

    def wait_for(self, number: int) -> None:
        """Wait until an attempt hangs."""
        self.hangs[number - 1].wait_until_it_hangs()

    def time_out(self, pool: Pool) -> None:
        """Let the first attempt time out; another one is to follow."""
        self.wait_for(1)
        time_is_up(pool)
        until(lambda: pool.stats().retried == 1)

    def end(self, number: int) -> None:
        """Let an attempt return."""
        self.hangs[number - 1].gate.set()


@pytest.fixture
def attempts() -> Iterator[Attempts]:
    attempts = Attempts()
    yield attempts
    for hang in attempts.hangs:
        hang.gate.set()


def current_job() -> Job[Any]:
    job = oddjob.current_job()
    assert job is not None
    return job


def has_late_attempt(pool: Pool) -> bool:
    return any(slot.is_late for slot in pool._core.workers.slots())


def waiting_with_result(submit: Callable[[], Job[Any]]) -> Callable[[], object]:
    return lambda: submit().result()


def waiting_in_a_loop(submit: Callable[[], Job[Any]]) -> Callable[[], object]:
    async def wait() -> object:
        return await submit()

    return wait


@pytest.mark.parametrize("waiting", [waiting_with_result, waiting_in_a_loop])
def test_a_job_that_has_timed_out_in_place_is_tried_again(
    attempts: Attempts, waiting: Callable[[Callable[[], Job[Any]]], Callable[[], object]]
) -> None:
    """In the thread of the job that waits for it, or in a stand-in beside that job's loop."""
    inner: list[Job[Any]] = []

    def submit() -> Job[Any]:
        inner.append(view.submit(attempts))
        return inner[0]

    with FakeClock(patience=0) as clock, Pool(1) as pool:
        view = pool.options(timeout=HOUR, retries=1, backoff=HOUR)
        job = pool.submit(waiting(submit))
        attempts.time_out(pool)
        attempts.end(1)
        until(lambda: not has_late_attempt(pool))
        assert pool.queue() == [inner[0]]
        attempts.end(2)
        clock.advance(HOUR)
        assert job.result(WAIT) == 2


def test_a_job_that_has_timed_out_in_its_submitter_is_tried_again(attempts: Attempts) -> None:
    hang = Hang()
    with FakeClock(patience=0) as clock, Pool(1, max_queue=1, when_full="caller_runs") as pool:
        view = pool.options(timeout=HOUR, retries=1, backoff=HOUR)
        pool.submit(hang)
        hang.wait_until_it_hangs()
        pool.submit(abs, -1)
        threading.Thread(target=lambda: (attempts.time_out(pool), attempts.end(1))).start()
        job = view.submit(attempts)
        assert job in pool.queue()
        hang.gate.set()
        attempts.end(2)
        clock.advance(HOUR)
        assert job.result(WAIT) == 2


@pytest.mark.parametrize(
    "options", [{"key": "k"}, {"key": "k", "serial": True}, {"max_concurrency": 1}]
)
def test_an_attempt_that_returns_late_releases_nothing_of_the_next_one(
    attempts: Attempts, options: dict[str, Any]
) -> None:
    with Pool(2, max_abandoned=0) as pool:
        view = pool.options(**options)
        job = view.options(timeout=HOUR, retries=1, backoff=0).submit(attempts)
        attempts.time_out(pool)
        attempts.wait_for(2)
        behind = view.submit(abs, -1)
        attempts.end(1)
        assert pool.submit(abs, -2).result(WAIT) == 2, "the first worker is back"
        assert behind.state == "queued"
        attempts.end(2)
        assert (job.result(WAIT), behind.result(WAIT)) == (2, 1)


def test_a_serial_job_keeps_its_place_while_its_late_attempt_returns(attempts: Attempts) -> None:
    with FakeClock(patience=0) as clock, Pool(1, max_abandoned=0) as pool:
        view = pool.options(key="k", serial=True)
        job = view.options(timeout=HOUR, retries=1, backoff=HOUR).submit(attempts)
        behind = view.submit(abs, -1)
        attempts.time_out(pool)
        attempts.end(1)
        assert pool.submit(abs, -2).result(WAIT) == 2
        assert behind.state == "queued"
        attempts.end(2)
        clock.advance(HOUR)
        assert (job.result(WAIT), behind.result(WAIT)) == (2, 1)


def test_a_late_attempt_lends_nothing_of_the_next_one_to_a_job_that_it_waits_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job that holds a key may run others of that key in place; a late attempt holds nothing."""
    first, second = Hang(), Hang()
    inner: list[Job[int]] = []
    claimed: list[Job[Any] | None] = []

    def run() -> object:
        if current_job().attempt == 2:
            return second()
        first()
        inner.append(view.submit(abs, -1))
        return inner[0].result(WAIT)

    def claim(*args: Any) -> Job[Any] | None:
        claimed.append(original(*args))
        return claimed[-1]

    with Pool(2, max_abandoned=0) as pool:
        view = pool.options(key="k")
        job = view.options(timeout=HOUR, retries=1, backoff=0).submit(run)
        first.wait_until_it_hangs()
        time_is_up(pool)
        second.wait_until_it_hangs()
        limited: Any = pool._core.dispatcher.limited
        original = limited.claim
        monkeypatch.setattr(limited, "claim", claim)
        first.gate.set()
        until(lambda: claimed)
        assert claimed.count(None) == len(claimed)
        second.gate.set()
        assert (job.result(WAIT), inner[0].result(WAIT)) == ("late", 1)


def test_a_late_attempt_does_not_count_as_running(attempts: Attempts) -> None:
    with FakeClock(patience=0) as clock, Pool(1) as pool:
        job = pool.options(timeout=HOUR, retries=1, backoff=HOUR).submit(attempts)
        attempts.time_out(pool)
        until(lambda: pool.stats().abandoned)
        assert job.why() == "it failed, and is tried again in 3600.0 s"
        stats = pool.stats()
        assert (stats.queued, stats.running, stats.started) == (1, 0, 1)
        clock.advance(HOUR)
        attempts.wait_for(2)
        stats = pool.stats()
        assert (stats.queued, stats.running, stats.started) == (0, 1, 2)
        assert job.why() == "it has run for 0.0 s, in " + pool.workers()[0].name
        attempts.end(2)
        assert job.result(WAIT) == 2


def test_a_late_attempt_can_take_no_step_and_report_nothing() -> None:
    """It would charge twice: the next one has not charged yet, or is about to."""
    first, second = Hang(), Hang()
    charged: list[int] = []
    refused: list[int] = []

    def run() -> None:
        job, attempt = current_job(), current_job().attempt
        if attempt == 2:
            second()
            job.step("charge", charged.append, attempt)
            return
        first()
        with pytest.raises(RuntimeError, match="this attempt has timed out, so it should end"):
            job.report(1, 2)
        with pytest.raises(RuntimeError, match="this attempt has timed out, so it should end"):
            job.step("charge", charged.append, attempt)
        refused.append(attempt)

    with Pool(2) as pool:
        job = pool.options(timeout=HOUR, retries=1, backoff=0).submit(run)
        first.wait_until_it_hangs()
        time_is_up(pool)
        second.wait_until_it_hangs()
        first.gate.set()
        until(lambda: not has_late_attempt(pool))
        second.gate.set()
        job.result(WAIT)
    assert (charged, job.progress, refused) == ([2], None, [1])


def test_what_a_step_returns_late_is_not_lost_if_the_next_attempt_has_not_come_so_far() -> None:
    first, second = Hang(), Hang()
    charged: list[int] = []

    def charge(attempt: int) -> int:
        charged.append(attempt)
        if attempt == 1:
            first()
        return attempt

    def run() -> int:
        job, attempt = current_job(), current_job().attempt
        if attempt == 2:
            second()
        return job.step("charge", charge, attempt)

    with Pool(2) as pool:
        job = pool.options(timeout=HOUR, retries=1, backoff=0).submit(run)
        first.wait_until_it_hangs()
        time_is_up(pool)
        second.wait_until_it_hangs()
        first.gate.set()
        until(lambda: not has_late_attempt(pool))
        second.gate.set()
        assert job.result(WAIT) == 1
    assert charged == [1]
