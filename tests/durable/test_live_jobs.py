"""Live handles: what a job is doing can be seen from any process."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from oddjob import Job, JobNotFound, Pool, PoolClosed, Progress
from oddjob.durable.callbacks import CallbackThread
from oddjob.durable.operation import Operation
from oddjob.errors import StoreUnusable
from tests.durable import jobs
from tests.hang import until

WAIT = 10.0


@pytest.fixture
def url(any_url: str) -> str:
    return any_url


@pytest.fixture
def pool(url: str) -> Iterator[Pool]:
    """A pool that runs jobs."""
    jobs.gate.clear()
    jobs.runs.clear()
    while jobs.entered.acquire(blocking=False):
        pass
    with Pool("durable", 2, store=url, signing_keys=jobs.KEYS) as pool:
        yield pool
        jobs.gate.set()


@pytest.fixture
def away(url: str) -> Iterator[Pool]:
    """A pool whose jobs another process runs."""
    with (
        Pool("durable", 2, store=url, consume=False, signing_keys=jobs.KEYS) as pool,
        subprocess.Popen(
            [sys.executable, "-m", "tests.durable.worker", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as worker,
    ):
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        yield pool


def commits(url: str) -> int:
    """Return how large the write-ahead log is, in pages: it grows with every commit."""
    return Path(f"{url.removeprefix('sqlite:///')}-wal").stat().st_size


# In one process.


def test_the_handle_that_submit_returned_tells_what_the_job_is_doing(pool: Pool) -> None:
    running = [pool.submit(jobs.hang) for _ in range(2)]
    for _ in running:
        assert jobs.entered.acquire(timeout=WAIT)
    waiting = pool.submit(jobs.note, 1)
    assert [job.state for job in running] == ["running", "running"]
    assert (running[0].attempt, waiting.attempt) == (1, 0)
    assert running[0].running()
    assert not running[0].done()
    assert waiting.state == "queued"
    jobs.gate.set()
    assert waiting.result(WAIT) == 1
    assert (waiting.state, waiting.attempt) == ("succeeded", 1)


def test_a_job_that_waits_for_its_next_attempt_is_scheduled(pool: Pool) -> None:
    job = pool.options(retries=1, backoff=60).submit(jobs.fail, "no")
    until(lambda: job.state == "scheduled")
    assert job.attempt == 1
    assert job.cancel()


def test_the_number_of_attempts_is_known_afterwards(pool: Pool) -> None:
    job = pool.options(retries=3, backoff=0.01).submit(jobs.fail_first)
    assert job.result(WAIT) == 3
    assert job.attempt == 3


def test_repr_does_not_ask_the_store(pool: Pool) -> None:
    job = pool.submit(jobs.hang)
    assert "pending" in repr(job)
    jobs.gate.set()
    job.result(WAIT)
    assert "succeeded" in repr(job)


def test_a_job_that_was_submitted_here_is_found_as_itself(pool: Pool) -> None:
    job = pool.submit(jobs.hang)
    assert pool.find(job.id) is job
    jobs.gate.set()
    assert job.result(WAIT) == "late"


def test_a_job_that_ended_long_ago_is_found_with_its_outcome(url: str) -> None:
    with Pool("durable", 2, store=url) as first:
        done = first.options(priority=7).submit(jobs.note, "result")
        failed = first.options(name="failing").submit(jobs.fail, "no")
        assert done.result(WAIT) == "result"
        assert failed.exception(WAIT) is not None
    with Pool("durable", 2, store=url) as second:
        found = second.find(done.id)
        assert found.done()
        assert (found.result(0), found.state, found.attempt) == ("result", "succeeded", 1)
        assert (found.id, found.priority, found.name) == (done.id, 7, "note")
        with pytest.raises(OSError, match="no"):
            second.find(failed.id).result(0)
        assert second.find(failed.id).name == "failing"


def test_a_job_that_is_not_there_is_a_lookup_error(pool: Pool, url: str) -> None:
    for unknown in ("999", "a" * 32, "", "9" * 30):
        with pytest.raises(JobNotFound, match=r"no job .* in the store of pool 'durable'"):
            pool.find(unknown)
    assert issubclass(JobNotFound, LookupError)
    with Pool("other", 1, store=url) as other:
        job = other.submit(jobs.note, 1)
        with pytest.raises(JobNotFound, match="one of pool 'other'"):
            pool.find(job.id)


def test_a_pool_without_a_store_says_what_is_missing() -> None:
    with Pool("plain", 1) as plain:
        calls = [
            lambda: plain.find("1"),
            plain.records,
            plain.counts,
            plain.recurring,
            plain.runners,
        ]
        for call in calls:
            with pytest.raises(TypeError, match="pool plain has no store: give it store="):
                call()


def test_progress_is_seen_at_once_where_the_job_runs(pool: Pool) -> None:
    job = pool.submit(jobs.report_often, 3)
    assert jobs.entered.acquire(timeout=WAIT)
    assert job.progress == Progress(3, 3)
    jobs.gate.set()
    job.result(WAIT)


def test_what_a_job_has_reported_last_is_stored_with_its_end(pool: Pool) -> None:
    submitted = [pool.submit(jobs.report_number, 4.0) for _ in range(20)]
    assert [job.result(WAIT) for job in submitted] == [None] * 20
    assert {record.progress for record in pool.records()} == {Progress(4.0)}
    assert {job.progress for job in submitted} == {Progress(4.0)}


def test_giving_up_to_await_a_job_of_others_does_not_cancel_it(url: str) -> None:
    """One that was found, or that is unique and was there before."""

    async def wait_briefly(job: Job[str]) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job, 0.01)

    with Pool("durable", 1, store=url, consume=False) as pool:
        first = pool.options(unique="k").submit(jobs.hang)
        asyncio.run(wait_briefly(pool.options(unique="k").submit(jobs.hang)))
        pool.perform(jobs.hang)
        found = pool.find(next(pool.records()).id)
        asyncio.run(wait_briefly(found))
        assert (first.state, found.state) == ("queued", "queued")
        asyncio.run(wait_briefly(first))
        assert first.state == "cancelled"


def test_a_job_that_reports_very_often_costs_few_commits(pool: Pool, url: str) -> None:
    job = pool.submit(jobs.report_often, 20_000)
    assert jobs.entered.acquire(timeout=WAIT)
    (record,) = pool.records()
    until(lambda: next(pool.records()).progress == Progress(20_000, 20_000))
    if url.startswith("sqlite:"):
        assert commits(url) < 400 * 4096  # it would be 20,000 pages
    assert (record.state, job.state) == ("running", "running")
    jobs.gate.set()
    job.result(WAIT)


def test_numbers_of_other_types_are_progress_too(pool: Pool) -> None:
    from decimal import Decimal

    job = pool.submit(jobs.report_number, Decimal("1.5"))
    assert job.exception(WAIT) is None
    with pytest.raises(TypeError, match="done must be a number, not 'half'"):
        pool.submit(jobs.report_number, "half").result(WAIT)


# In two.


def test_a_job_of_another_process_is_seen_to_run_progress_and_succeed(
    away: Pool, url: str, tmp_path: Path
) -> None:
    gates = [str(tmp_path / name) for name in ("one", "two")]
    for gate in gates:
        os.mkfifo(gate)
    submitted = away.submit(jobs.walk, gates)
    found = away.find(submitted.id)
    assert found is submitted
    for step, gate in enumerate(gates, 1):
        until(lambda step=step, gate=gate: found.progress == Progress(step, 2, gate))
        assert (found.state, found.attempt) == ("running", 1)
        Path(gate).write_text("go")
    assert found.result(WAIT) not in (os.getpid(), None)
    assert (found.state, found.attempt, found.progress) == (
        "succeeded",
        1,
        Progress(2, 2, gates[1]),
    )


def test_a_job_that_was_not_submitted_here_is_as_live(away: Pool, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)
    away.perform(jobs.walk, [gate])  # of which this process hears nothing by itself
    (record,) = away.records()
    job: Job[int] = away.find(record.id)
    assert away.find(record.id) is job
    until(lambda: job.state == "running")
    ended: list[object] = []
    job.add_done_callback(ended.append)

    async def main() -> int:
        waiting = asyncio.ensure_future(_result(job))
        await asyncio.to_thread(Path(gate).write_text, "go")
        return await waiting

    assert asyncio.run(main()) != os.getpid()
    until(lambda: ended == [job])


async def _result(job: Job[int]) -> int:
    return await job


def test_a_running_job_of_another_process_is_asked_to_stop(away: Pool) -> None:
    away.perform(jobs.stop_when_asked)
    (record,) = away.records()
    job = away.find(record.id)
    until(lambda: job.progress is not None)
    assert not job.cancel()
    assert job.cancel_requested
    assert job.result(WAIT) == "cancel_requested: True"


def test_a_waiting_job_is_canceled_from_another_process(url: str) -> None:
    with Pool("durable", 1, store=url, consume=False) as pool:
        pool.perform(jobs.note, 1)
        (record,) = pool.records()
        job = pool.find(record.id)
        assert job.state == "queued"
        assert job.cancel()
        with pytest.raises(CancelledError):
            job.result(WAIT)
        assert pool.find(record.id).cancelled()


def test_jobs_behind_one_that_takes_long_are_queued_and_can_be_canceled(away: Pool) -> None:
    """Their process has claimed them, as those before them were short."""
    known = away.submit(jobs.stop_when_asked)  # by that process from now on
    until(lambda: known.progress is not None)
    known.cancel()
    known.result(WAIT)
    for job in away.submit_many(jobs.note, range(300)):
        job.result(WAIT)
    away.pause()
    long = [away.options(priority=1).submit(jobs.stop_when_asked) for _ in range(2)]
    behind = away.submit_many(jobs.note, range(50))
    away.resume()
    until(lambda: (away.counts()["running"], away.counts()["queued"]) == (2, 50))
    assert behind[20].state == "queued"
    assert behind[20].cancel()
    assert next(each for each in away.records() if each.id == behind[30].id).cancel()
    until(behind[30].cancelled)
    for job in long:
        job.cancel()
    assert [job.result(WAIT) for job in behind if not job.cancelled()] == [
        number for number in range(50) if number not in (20, 30)
    ]


def test_a_process_that_was_taken_for_dead_hears_of_its_jobs_all_the_same(url: str) -> None:
    """Its news had been left to the process that it was before."""
    with Pool("durable", 1, store=url, consume=False) as pool:
        ended, waiting = pool.submit(jobs.note, 1), pool.submit(jobs.note, 2)
        (me,) = pool.runners()
        script = (
            "import sys; from oddjob.durable.stores import parse_url\n"
            "store = parse_url(sys.argv[1]).open(); store.join({}, 0)\n"
            "job = store.reader.record(sys.argv[3]).id\n"
            "store.takeover(int(sys.argv[2])); store.cancel([job]); store.leave()\n"
        )
        subprocess.run([sys.executable, "-c", script, url, me.id, ended.id], check=True, timeout=30)
        until(ended.cancelled)
        assert pool.find(waiting.id) is waiting
        (record,) = pool.records(state="queued")
        assert record.cancel()
        until(waiting.cancelled)
        assert [runner.id for runner in pool.runners()] != [me.id]


def test_the_end_of_a_pool_does_not_wait_for_jobs_that_it_has_found(
    away: Pool, url: str, tmp_path: Path
) -> None:
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)
    away.perform(jobs.walk, [gate])
    (record,) = away.records()
    script = (
        "import sys, oddjob; from tests.durable import jobs\n"
        "pool = oddjob.Pool('durable', 1, store=sys.argv[1])\n"
        "job = pool.find(sys.argv[2])\n"
        "pool.shutdown(cancel_futures=True)\n"
        "print(type(job.exception(10)).__name__)\n"
    )
    until(lambda: next(away.records()).state == "running")
    done = subprocess.run(
        [sys.executable, "-c", script, url, record.id],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("PoolClosed\n", "")
    assert away.find(record.id).state == "running"
    Path(gate).write_text("go")
    assert away.find(record.id).result(WAIT)


def test_a_callback_is_called_also_when_the_runner_has_just_ended() -> None:
    """As a job that is looked at in that moment may end by another thread."""
    callbacks, called = CallbackThread("oddjob-callbacks-late"), threading.Event()
    callbacks.run(called.set)
    callbacks.close()
    until(lambda: callbacks._thread is None)
    for _ in range(2):
        called.clear()
        callbacks.run(called.set)
        assert called.wait(WAIT)
    until(lambda: not callbacks.is_busy)


def test_a_job_that_is_cancelled_in_the_moment_in_which_its_pool_ends_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool("durable", 1, store=f"sqlite:///{tmp_path}/jobs.db")
    job = pool.after(60).submit(jobs.note, 1)

    def stop(_job: Any) -> bool:
        pool.shutdown()
        return False

    monkeypatch.setattr(pool._core.store.claimed, "stop", stop)
    assert not job.cancel()
    assert isinstance(job.exception(WAIT), PoolClosed)


def test_what_was_answered_is_not_said_to_have_failed_when_something_else_fails_later() -> None:
    operation = Operation()
    operation.end("stored")
    assert operation.wait() == "stored"
    operation.end(error=StoreUnusable("gone"))
    assert operation.error is None
