"""Pools whose jobs are stored: the same calls, with the same meanings."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oddjob import Pool, QueueFull
from tests.durable import jobs

WAIT = 10.0


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    jobs.gate.clear()
    jobs.runs.clear()
    with Pool("durable", 2, store=f"sqlite:///{tmp_path}/jobs.db") as pool:
        jobs.pools[:] = [pool]
        yield pool
        jobs.gate.set()


def test_a_result_and_an_exception_come_back(pool: Pool) -> None:
    assert pool.submit(jobs.note, [1, "two"]).result(WAIT) == [1, "two"]
    error = pool.submit(jobs.fail, "no").exception(WAIT)
    assert isinstance(error, OSError)
    assert error.args == ("no",)
    assert pool.submit(jobs.coroutine, 1).result(WAIT) == 2


def test_many_jobs_are_stored_at_once_and_map_keeps_their_order(pool: Pool) -> None:
    submitted = pool.submit_many(jobs.note, range(200))
    assert [job.result(WAIT) for job in submitted] == list(range(200))
    assert list(pool.map(jobs.note, range(50))) == list(range(50))


def test_a_job_can_be_awaited(pool: Pool) -> None:
    async def main() -> Any:
        return await pool.submit(jobs.note, 5)

    assert asyncio.run(main()) == 5


def test_a_lambda_is_refused_with_what_to_do(pool: Pool) -> None:
    with pytest.raises(TypeError, match=r"top level of a module, or persist=False"):
        pool.submit(lambda: None)


def test_arguments_that_cannot_be_stored_are_refused(pool: Pool) -> None:
    with pytest.raises(TypeError, match="the arguments of .*note cannot be stored"):
        pool.submit(jobs.note, lambda: None)


def test_a_result_that_cannot_be_stored_is_a_failure(pool: Pool) -> None:
    error = pool.submit(jobs.unstorable).exception(WAIT)
    assert isinstance(error, TypeError)
    assert "the result cannot be stored" in str(error)


def test_a_job_is_retried_and_counts_its_attempts(pool: Pool) -> None:
    view = pool.options(retries=3, backoff=0.01)
    assert view.submit(jobs.fail_first).result(WAIT) == 3
    assert jobs.runs == [1, 2, 3]


def test_a_worker_that_crashes_fails_its_job_and_is_replaced(pool: Pool) -> None:
    for _ in range(3):
        with pytest.raises(SystemExit):
            pool.submit(jobs.crash).result(WAIT)
    assert pool.submit(jobs.note, 1).result(WAIT) == 1


def test_a_job_that_waits_can_be_canceled_and_one_that_runs_cannot(pool: Pool) -> None:
    running = [pool.submit(jobs.hang) for _ in range(2)]
    for _ in running:
        assert jobs.entered.acquire(timeout=WAIT)
    waiting = [pool.submit(jobs.note, number) for number in range(30)]
    assert waiting[-1].cancel()
    assert not running[0].cancel()
    jobs.gate.set()
    assert running[0].result(WAIT) == "late"
    assert [job.result(WAIT) for job in waiting[:-1]] == list(range(29))
    assert waiting[-1].cancelled()


def test_jobs_of_a_key_run_in_order_one_at_a_time(pool: Pool) -> None:
    view = pool.options(key="k")
    submitted = [view.submit(jobs.note, number) for number in range(20)]
    assert [job.result(WAIT) for job in submitted] == list(range(20))
    assert jobs.runs == list(range(20))


def test_jobs_that_wait_for_jobs_of_their_own_pool_do_not_lock_it_up(pool: Pool) -> None:
    assert pool.submit(jobs.nest, 5).result(WAIT) == 5


def test_a_full_queue_refuses(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/full.db"
    pool = Pool("full", 1, max_queue=2, when_full="raise", store=url)
    jobs.gate.clear()
    pool.submit(jobs.hang)
    assert jobs.entered.acquire(timeout=WAIT)
    with pytest.raises(QueueFull):
        for number in range(600):
            pool.submit(jobs.note, number)
    jobs.gate.set()
    pool.shutdown()
