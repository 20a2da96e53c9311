"""Jobs that await jobs of their own full pool: another thread runs these, and the loop goes on."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest

import oddjob
from oddjob import Job, JobTimeout, Pool
from tests.hang import Hang, until
from tests.peak import Peak

WAIT = 10.0
SHORT = 0.05


@pytest.fixture
def hang() -> Iterator[Hang]:
    hang = Hang()
    yield hang
    hang.gate.set()


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool(1) as pool:
        yield pool


# The loop goes on.


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_a_job_that_is_awaited_may_wait_for_another_task_of_the_loop(pool: Pool, kind: str) -> None:
    told = threading.Event()

    def wait() -> bool:
        return told.wait(WAIT)

    async def wait_in_loop() -> bool:
        return await asyncio.to_thread(wait)

    async def tell() -> None:
        await asyncio.sleep(SHORT)
        told.set()

    async def both() -> bool:
        telling = asyncio.create_task(tell())
        answer: bool = await pool.submit(wait if kind == "function" else wait_in_loop)  # type: ignore[arg-type]
        await telling
        return answer

    assert pool.submit(both).result(WAIT)


def test_a_job_that_is_awaited_may_call_back_into_the_loop(pool: Pool) -> None:
    async def answer() -> int:
        return 42

    def ask(loop: asyncio.AbstractEventLoop) -> int:
        return asyncio.run_coroutine_threadsafe(answer(), loop).result(WAIT)

    async def outer() -> int:
        return await pool.submit(ask, asyncio.get_running_loop())

    assert pool.submit(outer).result(WAIT) == 42


def test_a_loop_of_the_jobs_own_goes_on_too(pool: Pool) -> None:
    told = threading.Event()

    async def both() -> bool:
        job = pool.submit(told.wait, WAIT)
        asyncio.get_running_loop().call_later(SHORT, told.set)
        return await job

    assert pool.submit(lambda: asyncio.run(both())).result(WAIT)


def test_a_group_in_a_coroutine_leaves_the_loop_running(pool: Pool) -> None:
    told = threading.Event()

    async def both() -> bool:
        asyncio.get_running_loop().call_later(SHORT, told.set)
        async with pool.group() as group:
            job = group.submit(told.wait, WAIT)
        return job.result()

    assert pool.submit(both).result(WAIT)


# What is run, and where.


@pytest.mark.parametrize("size", [1, 3])
def test_many_jobs_that_are_awaited_at_once_all_end(size: int) -> None:
    with Pool(size) as pool:

        async def square(number: int) -> int:
            return await pool.submit(pow, number, 2)

        async def outer() -> list[int]:
            return await asyncio.gather(*(square(each) for each in range(300)))

        jobs = [pool.submit(outer) for _ in range(size)]
        assert [job.result(WAIT) for job in jobs] == [[each**2 for each in range(300)]] * size


def test_one_job_at_a_time_runs_beside_a_loop(pool: Pool) -> None:
    peak = Peak()

    def count() -> None:
        with peak.counted():
            time.sleep(0.001)

    async def outer() -> None:
        await asyncio.gather(*(pool.submit(count) for _ in range(20)))

    pool.submit(outer).result(WAIT)
    assert peak.most == 1


@pytest.mark.parametrize("options", [{}, {"key": "k"}, {"max_concurrency": 1}, {"priority": 1}])
def test_jobs_that_await_each_other_end_whatever_limits_they_share(
    pool: Pool, options: dict[str, Any]
) -> None:
    limited = pool.options(**options)

    async def count(depth: int) -> int:
        if depth == 0:
            return 0
        below = await asyncio.gather(*limited.submit_many(count, [depth - 1] * 2))
        return 1 + sum(below)

    assert limited.submit(count, 5).result(WAIT) == 31


def test_awaits_and_results_may_alternate(pool: Pool) -> None:
    def wait(depth: int) -> int:
        return 1 + pool.submit(awaiting, depth - 1).result()

    async def awaiting(depth: int) -> int:
        return 0 if depth <= 0 else 1 + await pool.submit(wait, depth - 1)

    assert pool.submit(wait, 9).result(WAIT) == 9


def test_the_initializer_has_run_in_the_thread_of_every_job() -> None:
    local = threading.local()

    def initialize() -> None:
        local.value = threading.current_thread()

    def thread() -> bool:
        return local.value is threading.current_thread()

    async def outer() -> bool:
        return thread() and await pool.submit(thread)

    with Pool(1, initializer=initialize) as pool:
        assert pool.submit(outer).result(WAIT)


@pytest.mark.parametrize("is_async", [False, True])
def test_the_initializer_has_run_where_a_job_of_the_pool_runs_what_does_not_fit(
    is_async: bool,
) -> None:
    """`caller_runs` in a coroutine: what it runs may be a coroutine, too, in another thread."""
    local = threading.local()

    async def acheck() -> bool:
        return hasattr(local, "value")

    def check() -> bool:
        return hasattr(local, "value")

    async def outer() -> list[bool]:
        jobs = [pool.submit(acheck if is_async else check) for _ in range(3)]
        return [await job for job in jobs]

    def initialize() -> None:
        local.value = 1

    with Pool(1, initializer=initialize, max_queue=1, when_full="caller_runs") as pool:
        assert pool.submit(outer).result(WAIT) == [True] * 3


def test_every_job_finds_itself(pool: Pool) -> None:
    inner: list[Job[Any]] = []

    async def outer() -> bool:
        me = oddjob.current_job()
        inner.append(pool.submit(oddjob.current_job))
        found = await inner[0]
        return found is inner[0] and oddjob.current_job() is me

    assert pool.submit(outer).result(WAIT)


def test_a_job_beside_a_loop_is_seen_as_running(pool: Pool, hang: Hang) -> None:
    async def outer() -> str:
        return await pool.submit(hang)

    job = pool.submit(outer)
    assert hang.entered.acquire(timeout=WAIT)
    assert pool.stats().running == 2
    assert pool.workers()[0].job is job
    hang.gate.set()
    assert job.result(WAIT) == "late"
    until(lambda: pool.stats().running == 0)
    assert pool.stats().succeeded == 2


# How it ends.


def test_an_await_that_times_out_leaves_its_job_running_and_the_limit_holds(
    pool: Pool, hang: Hang
) -> None:
    async def outer() -> str:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.submit(hang), SHORT)
        return "went on"

    job = pool.submit(outer)
    after = pool.submit(pow, 2, 3)
    assert job.result(WAIT) == "went on"
    with pytest.raises(TimeoutError):
        after.result(SHORT)
    hang.gate.set()
    assert after.result(WAIT) == 8


@pytest.mark.parametrize("how", ["its own timeout", "the timeout of the wait"])
def test_a_coroutine_past_a_timeout_does_not_hold_the_one_that_blocks_on_it(
    pool: Pool, hang: Hang, how: str
) -> None:
    """It ignores that it is cancelled, as one does that calls what blocks."""
    is_its_own = how == "its own timeout"

    async def block() -> str:
        return hang()

    async def outer() -> str:
        inner = pool.options(timeout=SHORT if is_its_own else None).submit(block)
        with pytest.raises(JobTimeout if is_its_own else TimeoutError):
            inner.result(None if is_its_own else SHORT)
        return "went on"

    assert pool.submit(outer).result(WAIT) == "went on"
    hang.gate.set()
    assert pool.submit(pow, 2, 3).result(WAIT) == 8


def test_cancelling_an_await_cancels_the_coroutine_that_runs_beside_the_loop(pool: Pool) -> None:
    inner: list[Job[Any]] = []

    async def sleep() -> None:
        await asyncio.sleep(WAIT)

    async def outer() -> str:
        inner.append(pool.submit(sleep))
        task = asyncio.ensure_future(inner[0])  # type: ignore[arg-type]  # it is awaitable
        await asyncio.to_thread(until, inner[0].running)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return "went on"

    assert pool.submit(outer).result(WAIT) == "went on"
    with pytest.raises(CancelledError):
        inner[0].result(WAIT)


def test_cancelling_a_queued_job_ends_its_await(pool: Pool, hang: Hang) -> None:
    async def outer() -> str:
        first, second = pool.submit(hang), pool.submit(pow, 2, 3)
        waits = asyncio.gather(first, second, return_exceptions=True)  # type: ignore[call-overload]
        await asyncio.to_thread(until, first.running)
        assert second.cancel()
        hang.gate.set()
        found, cancellation = await waits
        assert isinstance(cancellation, asyncio.CancelledError)
        return found

    assert pool.submit(outer).result(WAIT) == "late"


class Crash(BaseException):
    """Ends a worker."""


def test_a_crash_beside_a_loop_is_the_jobs_and_its_worker_is_replaced(pool: Pool) -> None:
    def crash() -> None:
        raise Crash

    async def outer() -> int:
        first, second = pool.submit(crash), pool.submit(pow, 2, 3)
        with pytest.raises(Crash):
            await first
        return await second

    assert pool.submit(outer).result(WAIT) == 8
    until(lambda: pool.supervisor().crashes == 1)
    assert pool.submit(outer).result(WAIT) == 8


def test_a_job_ends_with_what_the_initializer_beside_the_loop_has_raised() -> None:
    is_down = threading.Event()

    def initialize() -> None:
        if is_down.is_set():
            is_down.clear()
            raise Crash

    async def outer() -> str:
        is_down.set()
        with pytest.raises(Crash):
            await pool.submit(pow, 2, 3)
        return "went on"

    with Pool(1, initializer=initialize) as pool:
        assert pool.submit(outer).result(WAIT) == "went on"


def test_a_timeout_of_a_job_beside_a_loop_ends_its_await(hang: Hang) -> None:
    async def outer() -> int:
        with pytest.raises(JobTimeout) as caught:
            await pool.options(timeout=SHORT).submit(hang)
        assert "hang" in str(caught.value)
        return await pool.submit(pow, 2, 3)

    with Pool(1) as pool:
        assert pool.submit(outer).result(WAIT) == 8
        assert pool.submit(pow, 2, 4).result(WAIT) == 16  # by the worker that replaces this one
        assert pool.stats().abandoned == 1
        hang.gate.set()
        until(lambda: pool.stats().abandoned == 0)


def test_a_job_is_tried_again_beside_a_loop(pool: Pool) -> None:
    tries: list[int] = []

    def fail_once() -> int:
        tries.append(threading.get_ident())
        if len(tries) == 1:
            raise ValueError
        return len(tries)

    async def outer() -> int:
        return await pool.options(retries=1, backoff=0).submit(fail_once)

    assert pool.submit(outer).result(WAIT) == 2


def test_the_end_of_a_pool_waits_for_a_job_that_was_given_up(hang: Hang) -> None:
    async def outer() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.submit(hang), SHORT)

    pool = Pool(1)
    pool.submit(outer).result(WAIT)
    assert [len(part) for part in pool.drain(SHORT)] == [0, 0, 1, 0]
    assert not pool.join(0)
    hang.gate.set()
    assert pool.join(WAIT)


def test_where_no_thread_can_be_started_the_loop_runs_the_job(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def inner() -> int:
        return 1

    async def outer() -> int:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="another event loop"):
            await pool.submit(inner)
        return await pool.submit(pow, 2, 3)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    assert pool.submit(outer).result(WAIT) == 8
    monkeypatch.undo()


# Wide pools.


DEEP = 100


@pytest.mark.parametrize("is_async", [False, True])
def test_a_long_chain_of_jobs_uses_the_workers_of_a_wide_pool(is_async: bool) -> None:
    """In one thread, a few dozen jobs inside of each other would exceed the recursion limit."""
    threads: list[int] = []

    def step(left: int) -> int:
        threads.append(threading.get_ident())
        return pool.submit(step, left - 1).result(WAIT) + 1 if left else 0

    async def astep(left: int) -> int:
        threads.append(threading.get_ident())
        return await pool.submit(astep, left - 1) + 1 if left else 0

    with Pool(DEEP + 1) as pool:
        assert pool.submit(astep if is_async else step, DEEP).result(WAIT) == DEEP
    assert len(set(threads)) == DEEP + 1


def test_a_loop_whose_job_is_running_is_left_alone(hang: Hang) -> None:
    """In a long chain of coroutines, each job that starts would wake all loops before it."""
    wakes: list[object] = []

    async def outer() -> Any:
        loop = asyncio.get_running_loop()
        wake = loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *args, **kw: (wakes.append(args), wake(*args, **kw))[1]  # type: ignore[method-assign, assignment, return-value]
        return await pool.submit(hang)

    with Pool(3) as pool:
        job = pool.submit(outer)
        hang.wait_until_it_hangs()
        for _ in range(50):
            pool.submit(pool.submit(int).result).result(WAIT)
        before = len(wakes)
        hang.gate.set()
        assert job.result(WAIT) == "late"
    assert before < 10
