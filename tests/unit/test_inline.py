"""Inline mode: jobs run where they are submitted, for people's tests."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import oddjob
from oddjob import Pool
from oddjob.testing import inline
from tests.hang import Hang

WAIT = 10.0


def test_jobs_run_at_once_in_the_thread_that_submits_them() -> None:
    with Pool("work", 2, rate="1/hour", max_queue=1) as pool, inline():
        before = threading.active_count()
        job = pool.submit(threading.get_ident)
        assert (job.done(), job.result()) == (True, threading.get_ident())
        assert list(pool.map(abs, [-1, -2])) == [1, 2]
        assert [each.result() for each in pool.submit_many(abs, [-3, -4])] == [3, 4]
        assert oddjob.async_perform("work", abs, -5).result() == 5
        assert pool.options(key="k", priority=3).submit(abs, -6).result() == 6
        done: list[int] = []
        pool.perform(done.append, 1)
        pool.perform_many(done.append, [2, 3])
        assert done == [1, 2, 3]
        assert threading.active_count() == before


def test_pools_made_inside_are_inline_too_and_those_outside_again_not() -> None:
    with inline():
        pool = Pool(2)
        assert pool.submit(threading.get_ident).result() == threading.get_ident()
    assert pool.submit(threading.get_ident).result(WAIT) != threading.get_ident()
    pool.shutdown()


def test_a_failure_of_perform_is_raised_where_it_was_submitted() -> None:
    with Pool(2) as pool, inline():
        with pytest.raises(ValueError, match="no number"):
            pool.perform(int, "no number")
        with pytest.raises(ValueError, match="no number"):
            pool.perform_many(int, ["1", "no number"])


def test_a_failure_that_is_looked_at_is_raised_there() -> None:
    with Pool(2) as pool, inline():
        job = pool.submit(int, "no number")
        with pytest.raises(ValueError, match="no number"):
            job.result()
        assert isinstance(pool.submit(int, "x").exception(), ValueError)

        async def look() -> None:
            with pytest.raises(ValueError, match="awaited"):
                await pool.submit(int, "awaited")

        asyncio.run(look())


def test_failures_that_were_not_looked_at_are_raised_at_the_end() -> None:
    """A test must not pass because its code forgot to look."""
    with Pool(2) as pool:
        with pytest.raises(ValueError, match="no number"), inline():
            pool.submit(int, "no number")
        with pytest.raises(ExceptionGroup) as caught, inline():
            pool.submit(int, "one")
            pool.submit(int, "two")
        assert len(caught.value.exceptions) == 2
        with pytest.raises(KeyError, match="the test's own"), inline():
            pool.submit(int, "one")
            raise KeyError("the test's own")


def test_retries_come_without_a_delay() -> None:
    attempts: list[Any] = []

    def work() -> str:
        attempts.append(oddjob.current_job())
        if len(attempts) < 3:
            raise OSError
        return "done"

    with Pool(2) as pool, inline():
        job = pool.options(retries=2, backoff=3600.0).submit(work)
        assert (job.result(), job.attempt) == ("done", 3)
    assert attempts == [job] * 3


def test_a_job_of_a_timer_that_is_run_now_may_wait_for_another_timer() -> None:
    with Pool("work", 1) as pool, inline():
        results: list[int] = []
        timer = pool.every(3600).perform(
            lambda: results.append(pool.after(0).submit(abs, -1).result(WAIT))
        )
        assert timer.run_now()
        assert results == [1]


def test_jobs_that_submit_jobs_run_them_inside() -> None:
    with Pool(1) as pool, inline():

        def factorial(number: int) -> int:
            return 1 if number < 2 else number * pool.submit(factorial, number - 1).result()

        assert pool.submit(factorial, 10).result() == 3628800


def test_coroutines_run_too_and_asubmit() -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    async def main(pool: Pool) -> int:
        job = await pool.asubmit(abs, -3)
        return job.result()

    with Pool(2) as pool, inline():
        assert pool.submit(double, 4).result() == 8
        assert asyncio.run(main(pool)) == 3


def test_a_closed_pool_is_closed_inline_too() -> None:
    pool = Pool(2)
    pool.shutdown()
    with inline(), pytest.raises(oddjob.PoolClosed):
        pool.submit(abs, 1)


def test_blocks_can_be_nested() -> None:
    with Pool(1) as pool:
        with inline():
            with inline():
                assert pool.submit(threading.get_ident).result() == threading.get_ident()
            assert pool.submit(threading.get_ident).result() == threading.get_ident()
        assert pool.submit(threading.get_ident).result(WAIT) != threading.get_ident()


def test_each_thread_gets_the_failures_of_its_own_block() -> None:
    """As where tests run in several threads: the block that began first ends first here."""
    has_failed, may_end = threading.Event(), threading.Event()

    def other() -> None:
        with inline():
            pool.submit(int, "no number")
            has_failed.set()
            assert may_end.wait(WAIT)

    with Pool(1) as pool, ThreadPoolExecutor(1) as executor:
        with inline():
            ended = executor.submit(other)
            assert has_failed.wait(WAIT)
        may_end.set()
        with pytest.raises(ValueError, match="no number"):
            ended.result(WAIT)
        with inline():
            may_end.clear()
            has_failed.clear()
            ended = executor.submit(other)
            assert has_failed.wait(WAIT)
            with pytest.raises(ZeroDivisionError), inline():
                pool.submit(divmod, 1, 0)
            may_end.set()
            with pytest.raises(ValueError, match="no number"):
                ended.result(WAIT)


def fail_at_first() -> int:
    job = oddjob.current_job()
    assert job is not None
    if job.attempt == 1:
        raise OSError
    return job.attempt


def test_a_job_is_tried_again_though_the_block_ends_meanwhile() -> None:
    """The block is another thread's."""
    has_failed, has_ended = threading.Event(), threading.Event()

    def look(event: oddjob.PoolEvent) -> None:
        if event.kind == "job_retried":
            has_failed.set()
            assert has_ended.wait(WAIT)

    with Pool(1, on_event=look) as pool, ThreadPoolExecutor(1) as executor:
        with inline():
            submitted = executor.submit(pool.options(retries=1).submit, fail_at_first)
            assert has_failed.wait(WAIT)
        has_ended.set()
        assert submitted.result(WAIT).result(WAIT) == 2


def test_a_job_that_runs_on_a_worker_is_tried_again_there_though_a_block_has_begun() -> None:
    hang = Hang()

    def hang_and_fail_at_first() -> int:
        hang()
        return fail_at_first()

    with Pool(1) as pool:
        job = pool.options(retries=1, backoff=0).submit(hang_and_fail_at_first)
        hang.wait_until_it_hangs()
        with inline():
            hang.gate.set()
            assert job.result(WAIT) == 2


def test_every_test_suite_has_the_fixture(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from oddjob.testing.pytest_plugin import oddjob_inline")
    pytester.makepyfile(
        """
        import threading
        import oddjob

        def test_inline(oddjob_inline):
            pool = oddjob.Pool(1)
            assert pool.submit(threading.get_ident).result() == threading.get_ident()
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


@pytest.mark.parametrize("submit", ["submit", "perform"])
def test_a_failure_of_a_job_that_waited_for_another_is_raised_at_the_end(submit: str) -> None:
    """No call runs it that could raise: it runs when the other one ends."""
    with Pool(1) as pool, pytest.raises(ValueError, match="no number"), inline():
        getattr(pool.options(after=pool.submit(abs, -1)), submit)(int, "no number")


def test_a_failure_of_a_job_that_waited_is_not_raised_again_if_it_was_looked_at() -> None:
    with Pool(1) as pool, inline():
        job = pool.options(after=pool.submit(abs, -1)).submit(int, "no number")
        assert isinstance(job.exception(), ValueError)


def press_ctrl_c() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "call",
    [
        lambda pool: pool.submit(press_ctrl_c),
        lambda pool: pool.options(after=pool.submit(abs, -1)).submit(press_ctrl_c),
        lambda pool: pool.every(3600).perform(press_ctrl_c).run_now(),
    ],
    ids=["submitted", "after another", "of a timer"],
)
def test_ctrl_c_in_a_job_ends_the_test_at_that_line(call: Callable[[Pool], object]) -> None:
    went_on = False
    with pytest.raises(KeyboardInterrupt), Pool(1) as pool, inline():
        call(pool)
        went_on = True
    assert not went_on
