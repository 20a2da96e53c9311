"""Waiting for jobs in trio, and in asyncio by the same call."""

import asyncio
import time
from concurrent.futures import CancelledError

import pytest

import oddjob
from oddjob.contrib.anyio import wait
from tests.hang import Hang

trio = pytest.importorskip("trio", reason="trio is not installed")


def test_trio_waits_for_a_job_and_gets_its_result_or_what_it_raised() -> None:
    async def main() -> None:
        with oddjob.Pool(1) as pool:
            job = pool.submit(time.sleep, 0.01)
            assert await wait(job) is None
            assert await wait(job) is None, "it has ended"
            with pytest.raises(ZeroDivisionError):
                await wait(pool.submit(divmod, 1, 0))

    trio.run(main)


def test_asyncio_waits_by_the_same_call() -> None:
    async def main() -> int:
        with oddjob.Pool(1) as pool:
            return await wait(pool.submit(pow, 2, 3))

    assert asyncio.run(main()) == 8


def test_a_waiting_task_that_is_cancelled_cancels_its_queued_job() -> None:
    async def main() -> None:
        hang = Hang()
        with oddjob.Pool(1) as pool:
            pool.submit(hang)
            hang.wait_until_it_hangs()
            queued = pool.submit(pow, 2, 3)
            with trio.move_on_after(0.01) as scope:
                await wait(queued)
            assert scope.cancelled_caught
            assert queued.cancelled()
            with pytest.raises(CancelledError):
                await wait(queued)
            hang.gate.set()

    trio.run(main)


def test_a_job_that_ends_after_its_loop_costs_no_worker() -> None:
    hang = Hang()
    with oddjob.Pool(1) as pool:
        job = pool.submit(hang)
        hang.wait_until_it_hangs()

        async def main() -> None:
            with trio.move_on_after(0.01):
                await wait(job)

        trio.run(main)
        assert not job._ensure_shared().callbacks
        hang.gate.set()
        job.exception(10)
        assert pool.submit(pow, 2, 3).result(10) == 8
        assert pool.stats().crashes == 0


def test_await_in_trio_says_what_to_do() -> None:
    async def main() -> None:
        with oddjob.Pool(1) as pool:
            job = pool.after(60).submit(pow, 2, 3)
            with pytest.raises(TypeError, match=r"await oddjob\.contrib\.anyio\.wait\(job\)"):
                await job
            job.cancel()

    trio.run(main)


def test_what_is_no_job_is_refused() -> None:
    with pytest.raises(TypeError, match="takes a Job"):
        asyncio.run(wait("mail"))  # type: ignore[arg-type]
