"""`pool.group()`: no job outlives the block, and no failure is lost at its end."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from oddjob import GroupClosed, Job, JobTimeout, Pool
from tests.hang import once

WAIT = 10.0


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool(2) as pool:
        yield pool


def fail(error: BaseException) -> None:
    raise error


class Gate:
    """Work that lasts until the gate opens, and tells that it has begun."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, error: BaseException | None = None) -> str:
        self.begun.release()
        assert self.open.wait(WAIT)
        if error is not None:
            raise error
        return "passed"

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert self.begun.acquire(timeout=WAIT)


def test_leaving_the_block_waits_for_every_job(pool: Pool) -> None:
    with pool.group() as group:
        jobs = [group.submit(pow, 2, number) for number in range(5)]
        jobs += group.submit_many(abs, [-1, -2])
    assert [job.state for job in jobs] == ["succeeded"] * 7
    assert [job.result(0) for job in group.jobs] == [1, 2, 4, 8, 16, 1, 2]


def test_a_group_may_be_empty(pool: Pool) -> None:
    with pool.group() as group:
        pass
    assert group.jobs == []


def test_a_failure_cancels_queued_siblings_and_is_raised_at_the_end(pool: Pool) -> None:
    gate = Gate()
    error = ValueError("the first")
    with pytest.raises(ValueError, match="the first") as caught, pool.group() as group:
        running = group.submit(gate)
        gate.wait_for(1)
        failing = group.submit(gate, error)
        gate.wait_for(1)
        queued = [group.submit(pow, 2, 3) for _ in range(5)]
        gate.open.set()
    assert caught.value is error
    assert running.result(0) == "passed"
    assert failing.exception(0) is error
    assert all(job.done() for job in queued)


def test_siblings_are_cancelled_the_moment_a_job_fails(pool: Pool) -> None:
    """Not only at the end of the block: their work is not wanted any more."""
    gate = Gate()
    with pytest.raises(ValueError, match="no"), pool.group() as group:
        group.submit(gate)
        gate.wait_for(1)
        blocked = Gate()
        failing = group.submit(blocked, ValueError("no"))
        blocked.wait_for(1)
        queued = group.submit(pow, 2, 3)
        called = threading.Event()
        queued.add_done_callback(lambda _: called.set())
        blocked.open.set()
        assert called.wait(WAIT)
        assert queued.cancelled()
        assert failing.exception(0)
        gate.open.set()


@pytest.mark.parametrize("is_in_block", [True, False])
def test_the_end_of_a_group_cancels_the_coroutines_that_run(pool: Pool, is_in_block: bool) -> None:
    """As ``asyncio.TaskGroup`` does; otherwise the block would wait for them."""
    begun = threading.Event()

    async def run_for_ever() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def main() -> Job[None]:
        try:
            async with pool.group() as group:
                job = group.submit(run_for_ever)
                await asyncio.to_thread(begun.wait, WAIT)
                if is_in_block:
                    raise LookupError
                group.submit(fail, LookupError())
        except LookupError:
            return job
        raise AssertionError("nothing was raised")

    job = asyncio.run(main())
    assert job.cancelled()


def test_several_failures_are_raised_together(pool: Pool) -> None:
    gate = Gate()
    with pytest.raises(ExceptionGroup) as caught, pool.group() as group:
        group.submit(gate, ValueError("one"))
        group.submit(gate, KeyError("two"))
        gate.wait_for(2)
        gate.open.set()
    assert [type(error) for error in caught.value.exceptions] == [ValueError, KeyError]
    assert "2 failures in a group of jobs" in str(caught.value)


def test_a_crash_among_the_failures_makes_the_group_one_of_base_exceptions(pool: Pool) -> None:
    gate = Gate()
    with pytest.raises(BaseExceptionGroup) as caught, pool.group() as group:
        group.submit(gate, ValueError("one"))
        group.submit(gate, SystemExit(2))
        gate.wait_for(2)
        gate.open.set()
    assert not isinstance(caught.value, ExceptionGroup)


def test_an_exception_in_the_block_cancels_queued_jobs_and_goes_on(pool: Pool) -> None:
    gate = Gate()
    with pytest.raises(LookupError, match="in the block"), pool.group() as group:
        running = [group.submit(gate), group.submit(gate)]
        gate.wait_for(2)
        queued = group.submit(pow, 2, 3)
        once(queued.cancelled, gate.open.set)
        raise LookupError("in the block")
    assert queued.cancelled()
    assert [job.result(0) for job in running] == ["passed", "passed"]


def test_exceptions_of_the_block_and_of_a_job_are_raised_together(pool: Pool) -> None:
    with pytest.raises(ExceptionGroup) as caught, pool.group() as group:
        job = group.submit(fail, ValueError("of the job"))
        assert job.exception(WAIT)
        raise LookupError("of the block")
    assert [str(error) for error in caught.value.exceptions] == ["of the block", "of the job"]


def test_a_failure_that_the_block_has_raised_itself_is_raised_once(pool: Pool) -> None:
    """`job.result()` in the block raises what the job raised: one failure, not two."""
    error = ValueError("heard")
    with pytest.raises(ValueError, match="heard") as caught, pool.group() as group:
        group.submit(fail, error).result(WAIT)
    assert caught.value is error


def test_a_group_that_has_failed_takes_no_more_jobs(pool: Pool) -> None:
    """A loop that submits ends at once, and the failure is what is raised."""
    rounds = 0
    with pytest.raises(ValueError, match="no"), pool.group() as group:
        group.submit(fail, ValueError("no")).exception(WAIT)
        while rounds < 10**6:
            group.submit(pow, 2, 3)
            rounds += 1
    assert rounds < 10**6
    with pytest.raises(GroupClosed, match="a job of it has failed"):
        group.submit(pow, 2, 3)


def test_a_group_whose_block_was_left_takes_no_more_jobs(pool: Pool) -> None:
    with pool.group() as group:
        group.submit(pow, 2, 3)
    for submit in (lambda: group.submit(pow, 2, 3), lambda: group.submit_many(abs, [1])):
        with pytest.raises(RuntimeError, match="its block has been left"):
            submit()
    assert len(group.jobs) == 1


def test_the_cancellation_of_a_sibling_is_no_failure_of_its_own(pool: Pool) -> None:
    error = ValueError("why")
    gate = Gate()
    with pytest.raises(ValueError, match="why") as caught, pool.group() as group:
        group.submit(gate, error)
        group.submit(gate)
        gate.wait_for(2)
        queued = group.submit(pow, 2, 3)
        gate.open.set()
        queued.result(WAIT)
        raise CancelledError
    assert caught.value is error


def test_a_job_that_is_cancelled_by_hand_is_no_failure(pool: Pool) -> None:
    gate = Gate()
    with pool.group() as group:
        running = group.submit_many(gate, [None, None])
        gate.wait_for(2)
        queued = group.submit(pow, 2, 3)
        assert queued.cancel()
        gate.open.set()
    assert [job.state for job in running] == ["succeeded", "succeeded"]


def test_jobs_may_add_jobs_until_the_last_has_ended(pool: Pool) -> None:
    def spread(depth: int) -> None:
        if depth:
            group.submit(spread, depth - 1)
            group.submit(spread, depth - 1)

    with pool.group() as group:
        group.submit(spread, 5)
    assert len(group.jobs) == 2**6 - 1
    assert all(job.state == "succeeded" for job in group.jobs)


def test_a_group_inside_a_job_of_a_small_pool_does_not_lock_up() -> None:
    def outer() -> int:
        with pool.group() as group:
            jobs = group.submit_many(abs, [-1, -2, -3])
        return sum(job.result(0) for job in jobs)

    with Pool(1) as pool:
        assert pool.submit(outer).result(WAIT) == 6


def test_the_options_of_a_view_apply_in_its_group(pool: Pool) -> None:
    gate = Gate()
    with pytest.raises(JobTimeout), pool.options(timeout=0.02).group() as group:
        group.submit(gate)
    gate.open.set()


def test_a_job_that_the_pool_refuses_raises_in_the_block() -> None:
    pool = Pool(1)
    pool.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"), pool.group() as group:
        group.submit(pow, 2, 3)
    assert group.jobs == []


def test_an_interrupted_wait_cancels_queued_jobs_and_waits_for_the_rest(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C at the end of the block."""
    gate = Gate()
    group = pool.group()
    running = group.submit_many(gate, [None, None])
    gate.wait_for(2)
    queued = group.submit(pow, 2, 3)
    wait = type(group)._wait
    strikes = [KeyboardInterrupt]

    def interrupted(self: object) -> None:
        if strikes:
            raise strikes.pop()
        gate.open.set()
        wait(self)  # type: ignore[arg-type]  # a group

    monkeypatch.setattr(type(group), "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        group.__exit__(None, None, None)
    assert queued.cancelled()
    assert all(job.done() for job in running)


def test_the_traceback_of_a_failure_in_the_block_leads_through_the_block(pool: Pool) -> None:
    """It shows which `result()` has raised."""
    with pytest.raises(ValueError, match="no") as caught, pool.group() as group:
        group.submit(fail, ValueError("no")).result(WAIT)
    names = [entry.name for entry in caught.traceback]
    assert names[0] == "test_the_traceback_of_a_failure_in_the_block_leads_through_the_block"
    assert names[-1] == "fail"


def test_every_callback_of_cancelled_jobs_runs_although_one_of_them_raises(pool: Pool) -> None:
    gate = Gate()
    called: list[object] = []

    def crash(job: object) -> None:
        called.append(job)
        raise SystemExit

    with pytest.raises((SystemExit, BaseExceptionGroup)), pool.group() as group:
        group.submit_many(gate, [None, None])
        gate.wait_for(2)
        queued = group.submit_many(abs, [1, 2])
        for job in queued:
            job.add_done_callback(crash)
        once(queued[-1].cancelled, gate.open.set)
        raise LookupError
    assert called == queued


# async with


def test_an_async_block_waits_without_blocking_the_loop(pool: Pool) -> None:
    gate = Gate()

    async def main() -> list[str]:
        async with pool.group() as group:
            jobs = group.submit_many(gate, [None, None])
            asyncio.get_running_loop().call_later(0.02, gate.open.set)
        return [job.result(0) for job in jobs]

    assert asyncio.run(main()) == ["passed", "passed"]


def test_an_async_block_raises_what_failed(pool: Pool) -> None:
    gate = Gate()

    async def main() -> None:
        async with pool.group() as group:
            group.submit(gate, ValueError("one"))
            group.submit(gate, KeyError("two"))
            await asyncio.to_thread(gate.wait_for, 2)
            gate.open.set()

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(main())
    assert [type(error) for error in caught.value.exceptions] == [ValueError, KeyError]


def test_awaiting_a_sibling_that_was_cancelled_does_not_cancel_the_task(pool: Pool) -> None:
    gate = Gate()

    async def main() -> str:
        try:
            async with pool.group() as group:
                group.submit(gate, ValueError("why"))
                group.submit(gate)
                await asyncio.to_thread(gate.wait_for, 2)
                blocked = pool.submit_many(pow_slowly, range(3))
                queued = group.submit(pow, 2, 3)
                gate.open.set()
                await queued
        except ValueError:
            return "went on"
        finally:
            for job in blocked:
                job.cancel()
        return "never"

    def pow_slowly(number: int) -> int:
        threading.Event().wait(0.01)
        return number

    assert asyncio.run(main()) == "went on"


def test_a_cancelled_task_cancels_queued_jobs_and_waits_for_the_rest(pool: Pool) -> None:
    gate = Gate()
    states: list[str] = []

    async def block() -> None:
        async with pool.group() as group:
            jobs = [*group.submit_many(gate, [None, None]), group.submit(pow, 2, 3)]
            try:
                await asyncio.sleep(WAIT)
            finally:
                jobs[2].add_done_callback(lambda _: gate.open.set())
        raise AssertionError("left as if nothing had happened")

    async def main() -> None:
        task = asyncio.create_task(block())
        await asyncio.to_thread(gate.wait_for, 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        states.extend(["cancelled"] * task.cancelled())

    asyncio.run(main())
    assert states == ["cancelled"]


def test_a_task_cancelled_while_it_leaves_the_block_still_waits(pool: Pool) -> None:
    gate = Gate()

    async def block() -> None:
        async with pool.group() as group:
            group.submit_many(gate, [None, None, None])

    async def main() -> None:
        task = asyncio.create_task(block())
        await asyncio.to_thread(gate.wait_for, 2)
        task.cancel()
        await asyncio.sleep(0.02)
        assert not task.done(), "two are running"
        gate.open.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert gate.begun.acquire(blocking=False) is False, "the third was cancelled"

    asyncio.run(main())
