"""Workers that wait for jobs which wait for others: nothing that these need is left out."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any
from unittest.mock import Mock

import pytest

import oddjob
from oddjob import Job, Pool
from oddjob.runtime.awaiting import until_ended
from oddjob.runtime.event_loops import Mailbox
from oddjob.runtime.worker import Worker
from oddjob.schedule.clock import clock
from tests.hang import WAIT, Hang, until

SHORT = 0.05


@pytest.fixture
def hang() -> Iterator[Hang]:
    hang = Hang()
    yield hang
    hang.gate.set()


async def await_(job: Job[Any], seconds: float = WAIT) -> Any:
    async with asyncio.timeout(seconds):
        return await job


def read_in_loop(job: Job[Any], seconds: float = WAIT) -> Any:
    return asyncio.run(await_(job, seconds))


def read_result(job: Job[Any], seconds: float = WAIT) -> Any:
    return job.result(seconds)


both_ways = pytest.mark.parametrize("read", [read_result, read_in_loop])


# Which jobs run.


@both_ways
def test_a_wait_that_times_out_looks_at_each_job_of_a_chain_once(hang: Hang, read: Any) -> None:
    """In a chain of 40 jobs, it once took twice as long with each further job."""

    def outer() -> str:
        last: Job[Any] = pool.submit(hang)
        for _ in range(40):
            last = pool.options(after=[last]).submit(int)
        with pytest.raises(TimeoutError):
            read(last, SHORT)
        return "went on"

    with Pool(2) as pool:
        assert pool.submit(outer).result(WAIT) == "went on"
        hang.gate.set()


@both_ways
def test_a_long_chain_runs_in_the_place_of_the_job_that_waits_for_it(read: Any) -> None:
    def outer() -> Any:
        last: Job[Any] = pool.submit(int)
        for _ in range(300):
            last = pool.options(after=[last]).submit(int)
        return read(last)

    with Pool(1) as pool:
        assert pool.submit(outer).result(WAIT) == 0


@both_ways
def test_a_job_of_another_pool_may_wait_for_one_of_the_full_pool(read: Any) -> None:
    with Pool(1) as pool, Pool(1) as other:

        def outer() -> Any:
            return read(other.options(after=[pool.submit(int)]).submit(int))

        assert pool.submit(outer).result(WAIT) == 0


@both_ways
def test_a_job_of_the_full_pool_may_wait_for_one_of_another_pool(hang: Hang, read: Any) -> None:
    with Pool(1) as pool, Pool(1) as other:

        def outer() -> Any:
            return read(pool.options(after=[other.submit(hang)]).submit(int))

        job = pool.submit(outer)
        hang.wait_until_it_hangs()
        until(lambda: pool._core.in_place_wakeups)
        hang.gate.set()
        assert job.result(WAIT) == 0


@both_ways
def test_a_batch_that_grows_ends_in_a_pool_of_one(read: Any) -> None:
    def add() -> None:
        batch = oddjob.current_batch()
        assert batch is not None
        batch.submit(int)

    def outer() -> int:
        with pool.batch() as batch:
            batch.submit(add)
        read(batch.job)
        return batch.progress.total

    with Pool(1) as pool:
        assert pool.submit(outer).result(WAIT) == 2


@both_ways
def test_jobs_behind_one_that_runs_elsewhere_are_run_meanwhile(hang: Hang, read: Any) -> None:
    opens = threading.Event()

    def outer() -> Any:
        runs = pool.submit(hang)
        hang.wait_until_it_hangs()
        first = pool.submit(int)
        second = pool.options(after=[first]).submit(hang.gate.set)
        return read(pool.options(after=[runs, second]).submit(opens.set))

    with Pool(2) as pool:
        pool.submit(outer).result(WAIT)
    assert opens.is_set()


@both_ways
def test_a_free_worker_that_is_not_needed_any_more_leaves_its_job_to_the_one_that_waits(
    monkeypatch: pytest.MonkeyPatch, read: Any
) -> None:
    """A waiting worker relies on a free one, which `resize` then makes leave."""
    park, may_go_on = Worker._park, threading.Event()
    may_go_on.set()

    def park_longer(worker: Worker, dispatcher: Any) -> None:
        park(worker, dispatcher)
        may_go_on.wait(WAIT)

    def outer() -> Any:
        may_go_on.clear()
        return read(pool.submit(int))

    monkeypatch.setattr(Worker, "_park", park_longer)
    with Pool(2) as pool:
        gate = threading.Barrier(3)
        pool.submit_many(lambda _: gate.wait(WAIT), [1, 2])
        gate.wait(WAIT)
        until(lambda: len(pool._core.dispatcher.parked) == 2)
        job = pool.submit(outer)
        until(lambda: pool._core.in_place_wakeups)
        pool.resize(1)
        may_go_on.set()
        assert job.result(WAIT) == 0


# How waits end.


@both_ways
@pytest.mark.parametrize("depth", [1, 2])
def test_a_wait_for_a_job_that_is_cancelled_ends_whatever_that_has_waited_for(
    hang: Hang, read: Any, depth: int
) -> None:
    jobs: list[Job[Any]] = []

    def outer() -> str:
        jobs.append(pool.submit(hang))
        for _ in range(depth):
            jobs.append(pool.options(after=[jobs[-1]]).submit(int))
        with pytest.raises((CancelledError, asyncio.CancelledError)):
            read(jobs[-1])
        return "went on"

    with Pool(3) as pool:
        job = pool.submit(outer)
        hang.wait_until_it_hangs()
        until(lambda: len(jobs) > depth and jobs[-1]._shared is not None)
        until(lambda: pool._core.in_place_wakeups)
        jobs[-1].cancel()
        assert job.result(WAIT) == "went on"
        hang.gate.set()


def test_an_await_that_is_given_up_leaves_nothing_on_the_job(hang: Hang) -> None:
    async def poll(job: Job[Any]) -> None:
        for _ in range(3):
            waits = asyncio.create_task(until_ended(job))
            await asyncio.sleep(0)
            assert len(job._ensure_shared().callbacks or ()) == 1
            waits.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waits

    with Pool(1) as pool:
        job = pool.submit(hang)
        asyncio.run(poll(job))
        assert not job._ensure_shared().callbacks
        hang.gate.set()


# The mailbox of a loop.


def test_a_loop_is_woken_again_after_ctrl_c_has_prevented_a_wake_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        loop, mailbox, posted = asyncio.get_running_loop(), Mailbox(), asyncio.Event()
        with monkeypatch.context() as patch:
            patch.setattr(loop, "call_soon_threadsafe", Mock(side_effect=KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                mailbox.post(loop, int)
        mailbox.post(loop, posted.set)
        await asyncio.wait_for(posted.wait(), WAIT)

    asyncio.run(main())


def test_a_callback_that_raises_in_a_loop_does_not_hold_up_the_others() -> None:
    async def main() -> None:
        loop, mailbox, posted = asyncio.get_running_loop(), Mailbox(), asyncio.Event()
        reports: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, report: reports.append(report))
        mailbox.post(loop, fail)
        mailbox.post(loop, posted.set)
        await asyncio.wait_for(posted.wait(), WAIT)
        assert [type(report["exception"]) for report in reports] == [ZeroDivisionError]

    asyncio.run(main())


# Since when a job has run.


def began(job: Job[Any]) -> float:
    """Return when a job that has failed began, in monotonic seconds."""
    assert isinstance(job.exception(WAIT), ZeroDivisionError)
    started = job._ensure_details().started
    assert started is not None
    return started


def fail() -> None:
    raise ZeroDivisionError


def test_a_worker_that_waited_for_a_stand_in_begins_its_next_job_after_that(hang: Hang) -> None:
    async def outer() -> None:
        with pytest.raises(TimeoutError):
            await await_(pool.submit(hang), SHORT)

    with Pool(1) as pool:
        job, after = pool.submit(outer), pool.submit(fail)
        job.result(WAIT)
        let_go_at = clock.monotonic()
        hang.gate.set()
        assert began(after) >= let_go_at


def test_the_second_job_beside_a_loop_begins_when_the_first_has_ended() -> None:
    ended_at: list[float] = []

    async def outer() -> float:
        first = pool.submit(lambda: ended_at.append(clock.monotonic()))
        second = pool.submit(fail)
        await asyncio.gather(until_ended(first), until_ended(second))
        return began(second)

    with Pool(1) as pool:
        assert pool.submit(outer).result(WAIT) >= ended_at[0]
