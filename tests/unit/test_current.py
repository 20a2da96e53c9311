"""What a job can find out about itself while it runs, and what it can tell."""

import asyncio
import threading
import time
from concurrent.futures import CancelledError
from typing import Any

import pytest

import oddjob
from oddjob import Pool, Progress, current_job
from tests.hang import Hang, until

WAIT = 10.0


def test_a_job_finds_itself_and_nobody_else_does() -> None:
    seen: list[Any] = []
    with Pool(2) as pool:
        for submit in (
            pool.submit,
            pool.options(priority=1).submit,
            pool.options(retries=1).submit,
        ):
            job = submit(current_job)
            assert job.result(WAIT) is job
        thread_of_a_job = pool.submit(
            lambda: threading.Thread(target=lambda: seen.append(current_job()))
        )
        thread = thread_of_a_job.result(WAIT)
        thread.start()
        thread.join(WAIT)
    assert seen == [None]
    assert current_job() is None


def test_jobs_that_run_in_place_of_each_other_find_themselves() -> None:
    with Pool(1) as pool:

        def outer() -> list[Any]:
            before = current_job()
            inner = pool.submit(current_job)
            return [before, inner, inner.result(WAIT), current_job()]

        job = pool.submit(outer)
        before, inner, found, after = job.result(WAIT)
    assert before is after is job
    assert found is inner


def test_coroutines_find_themselves() -> None:
    with Pool(1) as pool:

        async def inner() -> Any:
            await asyncio.sleep(0)
            return current_job()

        async def outer() -> tuple[Any, Any]:
            job = pool.submit(inner)
            return job, await job

        job = pool.submit(inner)
        assert job.result(WAIT) is job
        expected, found = pool.submit(outer).result(WAIT)
    assert found is expected


@pytest.mark.parametrize("options", [{}, {"priority": 1}, {"retries": 1}, {"timeout": WAIT}])
def test_a_running_job_hears_that_it_should_stop(options: Any) -> None:
    started = threading.Event()

    def work() -> str:
        job = current_job()
        assert job is not None
        assert not job.cancel_requested
        started.set()
        until(lambda: job.cancel_requested)
        return "stopped"

    with Pool(1) as pool:
        job = pool.options(**options).submit(work)
        assert started.wait(WAIT)
        assert job.cancel() is False
        assert job.result(WAIT) == "stopped"
        assert (job.cancelled(), job.state, job.cancel_requested) == (False, "succeeded", True)


def test_a_coroutine_that_is_cancelled_before_its_loop_is_there_does_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its job is running by then."""
    entered, gate = threading.Event(), threading.Event()
    begun: list[None] = []

    class Late(asyncio.Runner):
        def get_loop(self) -> asyncio.AbstractEventLoop:
            entered.set()
            assert gate.wait(WAIT)
            return super().get_loop()

    async def begin() -> None:
        begun.append(None)
        await asyncio.sleep(WAIT)

    monkeypatch.setattr(asyncio, "Runner", Late)
    with Pool(1) as pool:
        job = pool.submit(begin)
        assert entered.wait(WAIT)
        assert not job.cancel()
        gate.set()
        with pytest.raises(CancelledError):
            job.result(WAIT)
    assert not begun


def test_a_running_coroutine_is_cancelled() -> None:
    started = threading.Event()
    cleaned: list[str] = []

    async def work() -> None:
        started.set()
        try:
            await asyncio.sleep(3600)
        finally:
            cleaned.append("up")

    with Pool(1) as pool:
        job = pool.submit(work)
        assert started.wait(WAIT)
        assert job.cancel() is False
        with pytest.raises(CancelledError):
            job.result(WAIT)
        assert pool.submit(abs, -1).result(WAIT) == 1
    assert cleaned == ["up"]


def test_a_job_that_has_ended_is_not_asked_to_stop() -> None:
    with Pool(1) as pool:
        job = pool.submit(abs, 1)
        job.result(WAIT)
        assert job.cancel() is False
        assert not job.cancel_requested


def test_a_group_that_fails_asks_its_running_jobs_to_stop() -> None:
    hang = Hang()
    requests: list[bool] = []

    def work() -> None:
        job = current_job()
        assert job is not None
        hang.entered.release()
        until(lambda: job.cancel_requested)
        requests.append(job.cancel_requested)

    with Pool(2) as pool, pytest.raises(ValueError, match="no number"), pool.group() as group:
        group.submit(work)
        hang.wait_until_it_hangs()
        group.submit(int, "no number")
    assert requests == [True]


def test_a_job_knows_when_its_time_is_up() -> None:
    def work() -> tuple[float | None, float]:
        job = current_job()
        assert job is not None
        return job.deadline, time.monotonic()

    with Pool(1) as pool:
        deadline, now = pool.options(timeout=30.0).submit(work).result(WAIT)
        assert deadline is not None
        assert 29.0 < deadline - now <= 30.0
        assert pool.submit(work).result(WAIT)[0] is None


def test_a_job_reports_how_far_it_has_got() -> None:
    told, go_on = threading.Event(), threading.Event()

    def work() -> None:
        job = current_job()
        assert job is not None
        job.report(3, 12, "reading")
        told.set()
        go_on.wait(WAIT)
        job.report(12, 12)

    with Pool(1) as pool:
        job = pool.submit(work)
        assert told.wait(WAIT)
        assert job.progress == Progress(3, 12, "reading")
        assert job.progress.fraction == 0.25
        go_on.set()
        job.result(WAIT)
        assert job.progress == (12, 12, None)
        assert pool.submit(abs, 1).progress is None
    with pytest.raises(RuntimeError, match="only a running job can do this"):
        job.report(13)
    assert job.progress == (12, 12, None)


@pytest.mark.parametrize(("name", "kind"), [("", ValueError), (5, TypeError)])
def test_a_step_needs_a_name(name: Any, kind: type[Exception]) -> None:
    def work() -> None:
        job = current_job()
        assert job is not None
        job.step(name, abs, 1)

    with Pool(1) as pool, pytest.raises(kind, match=r"^the name of a step must .*"):
        pool.submit(work).result(WAIT)


@pytest.mark.parametrize(
    ("progress", "fraction"),
    [(Progress(1), None), (Progress(5, 0), None), (Progress(20, 10), 1.0), (Progress(-1, 10), 0.0)],
)
def test_a_fraction_is_between_nothing_and_all(progress: Progress, fraction: float | None) -> None:
    assert progress.fraction == fraction


# Bars.


def test_progress_yields_jobs_as_they_end_and_draws_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tqdm.auto.tqdm.monitor_interval", 0)  # else tqdm keeps a thread
    with Pool(2) as pool:
        jobs = pool.submit_many(abs, range(10))
        assert set(oddjob.progress(jobs, title="jobs")) == set(jobs)
        assert list(pool.map(abs, [-1, -2], progress=True)) == [1, 2]
    drawn = capsys.readouterr().err
    assert "jobs: 100%" in drawn
    assert "10/10" in drawn
    assert "2/2" in drawn


@pytest.mark.parametrize("missing", [["tqdm.auto"], ["tqdm.auto", "rich.progress"]])
def test_without_tqdm_it_is_rich_and_without_that_no_bar(
    missing: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    with Pool(2) as pool:
        assert list(pool.map(abs, [-1, -2, -3], progress=True)) == [1, 2, 3]
        assert len(list(oddjob.progress(pool.submit_many(abs, range(3))))) == 3
    drawn = capsys.readouterr().err
    assert bool(drawn) == (len(missing) == 1)


def test_a_bar_is_closed_where_its_reader_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tqdm.auto.tqdm.monitor_interval", 0)
    with Pool(2) as pool:
        results = pool.map(abs, range(1000), progress=True, buffersize=5)
        assert next(results) == 0
        results.close()  # type: ignore[attr-defined]  # a generator
        until(lambda: not pool.queue())
