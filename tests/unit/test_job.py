"""What a Job says of itself, and how it is run."""

import asyncio
import contextvars
import functools
import gc
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import CancelledError
from datetime import timedelta
from fractions import Fraction
from math import inf
from typing import Any, cast

import pytest

from oddjob import Job, Pool
from oddjob.runtime.shared_state import QuickCallback, SharedState

WAIT = 10.0


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool("work", 1) as pool:
        yield pool


@pytest.fixture
def gate(pool: Pool) -> Iterator[threading.Event]:
    """The pool's one worker stands at this gate."""
    event, arrived = threading.Event(), threading.Event()
    pool.submit(lambda: (arrived.set(), event.wait(WAIT)))
    arrived.wait(WAIT)
    yield event
    event.set()


def boil(minutes: int) -> str:
    if minutes < 0:
        raise ValueError("no such egg")
    return "egg"


def test_a_job_says_what_it_is_from_queue_to_end(pool: Pool, gate: threading.Event) -> None:
    good, bad, cancelled = pool.submit(boil, 4), pool.submit(boil, -1), pool.submit(boil, 5)
    assert [job.state for job in (good, bad)] == ["queued", "queued"]
    assert {job.name for job in (good, bad)} == {"boil"}
    assert good.pool is pool
    assert cancelled.cancel()
    assert repr(good) == f"<Job boil queued, in pool 'work', id {good.id}>"
    gate.set()
    assert (good.result(WAIT), type(bad.exception(WAIT))) == ("egg", ValueError)
    assert [job.state for job in (good, bad, cancelled)] == ["succeeded", "failed", "cancelled"]
    assert {job.name for job in (good, bad, cancelled)} == {"boil"}
    assert repr(good) == f"<Job boil succeeded, returned str, in pool 'work', id {good.id}>"
    assert repr(bad) == f"<Job boil failed, raised ValueError, in pool 'work', id {bad.id}>"
    assert repr(cancelled) == f"<Job boil cancelled, in pool 'work', id {cancelled.id}>"


def test_a_running_job_says_so(pool: Pool) -> None:
    states: list[str] = []
    jobs: list[Job[None]] = []
    ready = threading.Event()

    def look() -> None:
        ready.wait(WAIT)
        states.append(jobs[0].state)

    jobs.append(pool.submit(look))
    ready.set()
    jobs[0].result(WAIT)
    assert states == ["running"]


def test_ids_are_unlike_and_stay(pool: Pool) -> None:
    """People look for them in logs, in any process, much later."""
    ids = [job.id for job in pool.submit_many(boil, range(100))]
    assert len(set(ids)) == 100
    assert all(len(id_) == 32 and int(id_, 16) >= 0 for id_ in ids)
    job = pool.submit(boil, 3)
    seen: set[str] = set()
    together = threading.Barrier(8)

    def ask() -> None:
        together.wait(WAIT)
        seen.add(job.id)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {job.id}


def test_names_are_what_people_call_things(pool: Pool) -> None:
    class Kitchen:
        def cook(self) -> None: ...

        def __call__(self) -> None: ...

    kitchen = Kitchen()
    here = "test_names_are_what_people_call_things.<locals>."
    named = {
        pool.submit(functools.partial(boil, 3)): "boil",
        pool.submit(kitchen.cook): f"{here}Kitchen.cook",
        pool.submit(kitchen): f"{here}Kitchen",
        pool.submit(len, "x"): "len",
        pool.options(name="breakfast").submit(boil, 3): "breakfast",
    }
    for job, name in named.items():
        job.result(WAIT)
        assert job.name == name


def test_an_anonymous_pool_that_is_gone_is_no_jobs_pool() -> None:
    pool = Pool(pool_size=1)
    job = pool.submit(boil, 3)
    job.result(WAIT)
    assert job.pool is pool
    assert "in an anonymous pool" in repr(job)
    del pool
    assert job.pool is None
    assert job.result() == "egg"


def test_the_traceback_leads_to_the_line_that_failed(pool: Pool) -> None:
    try:
        pool.submit(boil, -1).result(WAIT)
    except ValueError as error:
        frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert frames[-1] == "boil"
    assert "execute" not in frames


def test_a_result_on_the_only_worker_does_not_wait_for_itself(pool: Pool) -> None:
    """Nested fan-out would lock up any other executor of this size."""

    def sum_up(depth: int) -> int:
        if depth == 0:
            return 1
        return sum(job.result() for job in [pool.submit(sum_up, depth - 1) for _ in range(3)])

    assert pool.submit(sum_up, 4).result(WAIT) == 81


def test_a_job_run_in_place_keeps_its_own_context(pool: Pool) -> None:
    number = contextvars.ContextVar("number", default=0)

    def inner() -> int:
        found = number.get()
        number.set(99)
        return found

    def outer() -> tuple[int, int]:
        number.set(1)
        job = pool.submit(inner)
        number.set(2)
        return job.result(), number.get()

    assert pool.submit(outer).result(WAIT) == (1, 2)


def test_a_poll_on_the_only_worker_runs_nothing(pool: Pool) -> None:
    def poll() -> bool:
        job = pool.submit(boil, 3)
        with pytest.raises(TimeoutError):
            job.result(timeout=0)
        return job.cancel()

    assert pool.submit(poll).result(WAIT)


def test_the_job_of_another_pool_is_waited_for(pool: Pool) -> None:
    with Pool("other", 1) as other:

        def where() -> str:
            return threading.current_thread().name

        assert pool.submit(lambda: other.submit(where).result(WAIT)).result(WAIT) == "other_0"


def test_a_job_can_be_awaited(pool: Pool) -> None:
    async def main() -> None:
        assert await pool.submit(boil, 3) == "egg"
        job = pool.submit(boil, 3)
        job.result(WAIT)
        assert await job == "egg"
        assert await job == "egg"
        with pytest.raises(ValueError, match="no such egg"):
            await pool.submit(boil, -1)
        assert await asyncio.gather(*pool.submit_many(boil, range(50))) == ["egg"] * 50

    asyncio.run(main())


def test_cancelling_who_awaits_cancels_the_queued_job(pool: Pool, gate: threading.Event) -> None:
    async def main() -> None:
        job = pool.submit(boil, 3)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job, 0.01)
        assert job.cancelled()

    asyncio.run(main())


def test_a_cancelled_job_cancels_who_awaits(pool: Pool, gate: threading.Event) -> None:
    async def main() -> None:
        job = pool.submit(boil, 3)
        asyncio.get_running_loop().call_soon(job.cancel)
        with pytest.raises(asyncio.CancelledError):
            await job

    asyncio.run(main())


def test_a_loop_that_is_gone_does_not_hurt_the_worker(pool: Pool, gate: threading.Event) -> None:
    async def leave() -> Job[str]:
        job = pool.submit(boil, 3)
        waiting = asyncio.ensure_future(asyncio.shield(job))
        await asyncio.sleep(0)
        waiting.cancel()
        return job

    loop = asyncio.new_event_loop()
    job = loop.run_until_complete(leave())
    loop.close()
    gate.set()
    assert job.cancelled() or job.result(WAIT) == "egg"
    assert pool.submit(boil, 3).result(WAIT) == "egg"
    del job, loop
    gc.collect()  # the loop's pending task complains when it is collected: here, in this thread


async def brew(cups: int) -> tuple[int, int]:
    await asyncio.sleep(0)
    return cups, id(asyncio.get_running_loop())


def test_async_functions_run_on_a_loop_that_is_kept(pool: Pool) -> None:
    first, second = pool.submit(brew, 1).result(WAIT), pool.submit(brew, 2).result(WAIT)
    assert (first[0], second[0]) == (1, 2)
    assert first[1] == second[1]


def test_async_jobs_see_their_submitters_context(pool: Pool) -> None:
    number = contextvars.ContextVar("number", default=0)

    async def read() -> int:
        await asyncio.sleep(0)
        found = number.get()
        number.set(99)
        return found

    number.set(7)
    assert pool.submit(read).result(WAIT) == 7
    assert pool.submit(read).result(WAIT) == 7


@pytest.mark.parametrize("wait", ["await", "result"])
def test_async_jobs_may_wait_for_jobs_of_their_own_small_pool(pool: Pool, wait: str) -> None:
    async def count(depth: int) -> int:
        if depth == 0:
            return 0
        job = pool.submit(count, depth - 1)
        return 1 + (await job if wait == "await" else job.result())

    assert pool.submit(count, 5).result(WAIT) == 5


def test_an_async_job_that_is_cancelled_inside_fails_and_its_worker_lives(pool: Pool) -> None:
    async def give_up() -> None:
        raise asyncio.CancelledError("enough")

    job = pool.submit(give_up)
    with pytest.raises(CancelledError, match="enough"):
        job.result(WAIT)
    assert job.state == "failed"
    assert pool.supervisor().crashes == 0


def test_an_async_method_of_a_worker_that_ends_closes_its_loop() -> None:
    pool = Pool(1)
    loop = pool.submit(_running_loop).result(WAIT)
    pool.shutdown()
    assert loop.is_closed()


async def _running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


class Half:
    """A number of seconds that is no float, as NumPy's."""

    def __float__(self) -> float:
        return 0.5


@pytest.mark.parametrize("timeout", [inf, None, timedelta(seconds=9), Fraction(17, 2), Half(), 10])
def test_a_wait_may_be_given_as_any_number_of_seconds(
    pool: Pool, gate: threading.Event, timeout: Any
) -> None:
    failing, job = pool.submit(boil, -1), pool.submit(boil, 5)
    threading.Timer(0.01, gate.set).start()
    assert isinstance(failing.exception(timeout), ValueError)
    assert job.result(timeout) == "egg"


@pytest.mark.parametrize("timeout", [0, -1, -inf, timedelta(0), timedelta(seconds=-1)])
def test_a_wait_of_no_time_only_asks(pool: Pool, gate: threading.Event, timeout: Any) -> None:
    job = pool.submit(boil, 5)
    with pytest.raises(TimeoutError):
        job.result(timeout)
    with pytest.raises(TimeoutError):
        job.exception(timeout)


def test_a_job_that_is_about_to_be_cancelled_is_not_read_as_one_that_has_succeeded(
    pool: Pool, gate: threading.Event
) -> None:
    """Without the GIL, a reader may see the first of the two fields that say so, not the other."""
    job = pool.submit(boil, 4)
    job._ensure_shared()
    job._fast_state = "cancelled"
    assert job.done()
    assert job.cancelled()
    with pytest.raises(CancelledError):
        job.result()
    job._fast_state = "queued"


def test_a_waiter_of_the_standard_library_is_told_without_a_look_at_those_it_knows_of(
    pool: Pool, gate: threading.Event
) -> None:
    """With thousands of futures in one `wait`, each look would go through thousands."""

    class Finished(list[Any]):
        def __contains__(self, job: object) -> bool:
            raise AssertionError("this takes time")

    class Waiter:
        finished_futures = Finished()

        def add_result(self, job: Job[Any]) -> None:
            self.finished_futures.append(job)

    jobs = [pool.submit(boil, 4) for _ in range(3)]
    for job in jobs:
        job._waiters.append(Waiter())
    gate.set()
    assert [job.result(WAIT) for job in jobs] == ["egg"] * 3
    assert Waiter.finished_futures == jobs


def test_a_callback_of_a_group_may_be_run_by_another_thread_while_a_timeout_is_handled() -> None:
    """Both take it from one list: the one that comes second finds it gone."""

    class Callbacks(list[Any]):
        def remove(self, callback: Any) -> None:
            self.pop(0)  # as the other thread does
            super().remove(callback)

    shared = SharedState("failed")
    shared.callbacks = Callbacks([(QuickCallback(lambda _: []),)])
    assert shared.run_quick_callbacks(cast(Job[Any], None)) == []
