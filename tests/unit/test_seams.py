"""The two seams for a store: what is told before a future, and what asks for more jobs."""

import threading
from typing import Any

import pytest

from oddjob import Job, Pool
from oddjob.runtime.policy import JobPolicy
from oddjob.runtime.settlement import MemorySettlement
from tests.hang import WAIT, Hang


class Recorder(MemorySettlement):
    """A settlement that writes down what it hears, and whether the job had ended by then."""

    def __init__(self, core: Any) -> None:
        super().__init__(core.retry)
        self.entries: list[tuple[str, Any, bool]] = []
        self.refuses: BaseException | None = None

    def succeeded(self, job: Job[Any], result: Any) -> None:
        self.entries.append(("succeeded", result, job.done()))
        if self.refuses is not None:
            raise self.refuses

    def failed(self, job: Job[Any], error: BaseException) -> float | None:
        self.entries.append(("failed", error, job.done()))
        return super().failed(job, error)

    def cancelled(self, job: Job[Any]) -> bool:
        self.entries.append(("cancelled", None, job.done()))
        return self.refuses is None


@pytest.fixture
def pool() -> Any:
    with Pool(1) as pool:
        pool._core.settlement = Recorder(pool._core)
        pool._policy = JobPolicy(pool._core, pool._policy.settings)
        yield pool


def test_a_result_is_committed_before_it_can_be_seen(pool: Pool) -> None:
    job = pool.submit(abs, -3)
    assert job.result(WAIT) == 3
    assert pool._core.settlement.entries == [("succeeded", 3, False)]  # type: ignore[attr-defined]


def test_a_result_that_cannot_be_committed_is_a_failure(pool: Pool) -> None:
    """Otherwise a caller might act on a result that the store does not know."""
    recorder: Any = pool._core.settlement
    recorder.refuses = OSError("no space left")
    job = pool.submit(abs, -3)
    assert job.exception(WAIT) is recorder.refuses
    assert [entry[0] for entry in recorder.entries] == ["succeeded", "failed"]


def test_a_failure_is_committed_before_it_can_be_seen_and_each_attempt_is_told(pool: Pool) -> None:
    recorder: Any = pool._core.settlement
    job = pool.options(retries=1, backoff=0.001).submit(int, "no number")
    error = job.exception(WAIT)
    assert [(kind, is_done) for kind, _, is_done in recorder.entries] == [("failed", False)] * 2
    assert recorder.entries[-1][1] is error


def test_a_cancellation_is_committed_first_and_may_be_refused(pool: Pool) -> None:
    recorder: Any = pool._core.settlement
    hang = Hang()
    pool.submit(hang)
    hang.wait_until_it_hangs()
    first, second = pool.submit(abs, 1), pool.submit(abs, 2)
    assert first.cancel()
    recorder.refuses = OSError()
    assert not second.cancel()
    recorder.refuses = None
    hang.gate.set()
    assert second.result(WAIT) == 2
    assert [entry for entry in recorder.entries if entry[0] == "cancelled"] == [
        ("cancelled", None, False)
    ] * 2


def test_a_source_is_asked_for_jobs_when_workers_have_none() -> None:
    """That is how a store brings in jobs that were submitted elsewhere."""

    class Source:
        def __init__(self) -> None:
            self.free: list[int] = []
            self.was_asked = threading.Event()

        def demand(self, free: int) -> None:
            self.free.append(free)
            self.was_asked.set()

    with Pool(2) as pool:
        source = pool._core.dispatcher.source = Source()
        hang = Hang()
        pool.submit(hang)
        hang.wait_until_it_hangs()
        source.was_asked.clear()  # a worker that has just started may have been early
        hang.gate.set()
        assert source.was_asked.wait(WAIT)
        assert source.free[0] >= 1
