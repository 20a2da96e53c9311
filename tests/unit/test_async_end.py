"""The end of a pool inside a coroutine: the event loop goes on meanwhile."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from oddjob import Pool, PoolClosed, PoolEvent
from tests.durable import jobs as stored
from tests.hang import WAIT, Hang, until


@pytest.fixture
def hang() -> Iterator[Hang]:
    hang = Hang()
    yield hang
    hang.gate.set()


def closing(pool: Pool) -> asyncio.Event:
    """Return what is set when the pool is closed."""
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    def on_event(event: PoolEvent) -> None:
        if event.kind == "pool_closed":
            loop.call_soon_threadsafe(closed.set)

    pool.on_event = on_event
    return closed


def test_leaving_an_async_with_block_waits_for_jobs_and_not_in_the_event_loop(hang: Hang) -> None:
    async def main() -> None:
        async with Pool("api", 1) as pool:
            jobs = [pool.submit(hang), pool.submit(abs, -1)]
            asyncio.get_running_loop().call_later(0.01, hang.gate.set)  # while the block is left
        assert [job.result(0) for job in jobs] == ["late", 1]
        with pytest.raises(PoolClosed):
            pool.submit(abs, 1)

    asyncio.run(asyncio.wait_for(main(), WAIT))


def test_a_view_of_a_pool_can_be_left_as_well(hang: Hang) -> None:
    async def main() -> None:
        async with Pool(1).options(priority=1) as view:
            job = view.submit(hang)
            asyncio.get_running_loop().call_later(0.01, hang.gate.set)
        assert job.done()

    asyncio.run(asyncio.wait_for(main(), WAIT))


def test_adrain_reports_what_was_cancelled_and_left_running(hang: Hang) -> None:
    async def main() -> None:
        pool = Pool(1)
        running, queued = pool.submit(hang), pool.submit(abs, 1)
        hang.wait_until_it_hangs()
        report = await pool.adrain(0.01)
        assert (report.running, report.cancelled) == ([running], [queued])

    asyncio.run(main())


def test_ashutdown_takes_the_options_of_shutdown(hang: Hang) -> None:
    async def main() -> None:
        pool = Pool(1)
        running, queued = pool.submit(hang), pool.submit(abs, 1)
        hang.wait_until_it_hangs()
        await pool.ashutdown(cancel_futures=True, timeout=0.0)
        assert (running.running(), queued.cancelled()) == (True, True)
        with pytest.raises(ValueError, match="0 or more"):
            await pool.ashutdown(timeout=-1)
        with pytest.raises(ValueError, match="0 or more"):
            await pool.adrain(-1)

    asyncio.run(main())


def test_cancelling_the_task_that_drains_cancels_what_is_queued(hang: Hang) -> None:
    """As Ctrl-C in `drain` does, which is what cancels the main task of `asyncio.run`."""

    async def main() -> None:
        pool = Pool(1)
        running, queued = pool.submit(hang), pool.submit(abs, 1)
        hang.wait_until_it_hangs()
        closed = closing(pool)
        draining = asyncio.create_task(pool.adrain())
        await closed.wait()
        draining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await draining
        until(queued.cancelled)
        assert running.running()

    asyncio.run(main())


def test_cancelling_the_task_that_leaves_the_block_leaves_the_pool_to_finish(hang: Hang) -> None:
    async def use(pool: Pool) -> None:
        async with pool:
            pass

    async def main() -> None:
        pool = Pool(1)
        jobs = pool.submit_many(hang, range(2))
        closed = closing(pool)
        leaving = asyncio.create_task(use(pool))
        await closed.wait()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        hang.gate.set()
        assert [job.result(WAIT) for job in jobs] == ["late", "late"]

    asyncio.run(main())


def test_a_coroutine_of_the_pool_itself_cannot_wait_for_its_end() -> None:
    pool = Pool(1)

    async def end() -> str:
        with pytest.raises(RuntimeError, match="cannot wait for the pool's own end"):
            await pool.adrain()
        await pool.ashutdown()
        return "went on"

    assert pool.submit(end).result(WAIT) == "went on"
    assert pool.join(WAIT)


def test_no_thread_is_left_behind() -> None:
    async def main() -> None:
        for _ in range(3):
            async with Pool(1) as pool:
                pool.submit(abs, -1)

    before = set(threading.enumerate())
    asyncio.run(main())
    until(lambda: set(threading.enumerate()) <= before)


def test_a_pool_with_a_store_ends_without_blocking_the_loop(tmp_path: Path) -> None:
    async def main() -> None:
        async with Pool("durable", 1, store=f"sqlite:///{tmp_path}/jobs.db") as pool:
            job = pool.submit(stored.note, 5)
        assert job.result(0) == 5

    asyncio.run(asyncio.wait_for(main(), WAIT))
