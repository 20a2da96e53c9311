"""What every thread executor promises: the same tests for the standard library's and for ours."""

import asyncio
import gc
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    Executor,
    Future,
    InvalidStateError,
    ThreadPoolExecutor,
    as_completed,
    wait,
)

import pytest

from oddjob import Pool
from tests.peak import Peak

WAIT = 10.0

Make = Callable[..., ThreadPoolExecutor]


@pytest.fixture(params=[ThreadPoolExecutor, Pool])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    made: list[ThreadPoolExecutor] = []

    def make(*args: object, **kwargs: object) -> ThreadPoolExecutor:
        made.append(request.param(*args, **kwargs))
        return made[-1]

    yield make
    for executor in made:
        executor.shutdown(wait=True, cancel_futures=True)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """A gate for jobs to wait at, opened at the latest when the test is over."""
    event = threading.Event()
    yield event
    event.set()


def block(executor: Executor, gate: threading.Event, count: int = 1) -> list[Future[bool]]:
    """Occupy `count` workers until the gate opens; returns when they are all at it."""
    at_the_gate = threading.Barrier(count + 1)

    def stand() -> bool:
        at_the_gate.wait(WAIT)
        return gate.wait(WAIT)

    jobs = [executor.submit(stand) for _ in range(count)]
    at_the_gate.wait(WAIT)
    return jobs


def fail(error: BaseException) -> None:
    raise error


class Unpleasant(Exception):
    """Something a job raises."""


def test_a_result_comes_back(make: Make) -> None:
    executor = make(max_workers=2)
    assert executor.submit(pow, 2, exp=10).result(WAIT) == 1024


def test_any_keyword_can_be_passed_on(make: Make) -> None:
    def capture(*args: object, **kwargs: object) -> tuple[object, object]:
        return args, kwargs

    job = make(max_workers=1).submit(capture, 1, self=2, fn=3)
    assert job.result(WAIT) == ((1,), {"self": 2, "fn": 3})


@pytest.mark.parametrize("kwargs", [{}, {"fn": pow}, {"arg": 1}])
def test_submit_without_a_callable_is_a_type_error(make: Make, kwargs: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        make(max_workers=1).submit(**kwargs)  # type: ignore[call-overload]  # that is the point


def test_an_exception_comes_back_as_it_was_raised(make: Make) -> None:
    error = Unpleasant("oh")
    job = make(max_workers=1).submit(fail, error)
    with pytest.raises(Unpleasant) as caught:
        job.result(WAIT)
    assert caught.value is error
    assert job.exception(WAIT) is error
    assert "fail" in {entry.name for entry in caught.traceback}


def test_max_workers_must_be_positive(make: Make) -> None:
    for number in (0, -1):
        with pytest.raises(ValueError, match="max_workers must be greater than 0"):
            make(max_workers=number)


def test_an_initializer_must_be_callable(make: Make) -> None:
    with pytest.raises(TypeError, match="initializer must be a callable"):
        make(max_workers=1, initializer=3)


def test_the_positional_arguments_are_the_standard_ones(make: Make) -> None:
    seen = threading.local()
    executor = make(1, "brigade", lambda value: setattr(seen, "value", value), (7,))
    assert executor.submit(lambda: seen.value).result(WAIT) == 7
    name = executor.submit(lambda: threading.current_thread().name).result(WAIT)
    assert name == "brigade_0"


def test_no_more_than_max_workers_jobs_run_at_once(make: Make) -> None:
    executor = make(max_workers=3)
    peak = Peak()

    def count() -> None:
        with peak.counted():
            threading.Event().wait(0.001)

    for job in [executor.submit(count) for _ in range(60)]:
        job.result(WAIT)
    assert peak.most == 3


def test_all_max_workers_jobs_do_run_at_once(make: Make, gate: threading.Event) -> None:
    """Jobs that wait for one another need the parallelism they were promised."""
    block(make(max_workers=5), gate, 5)


def test_idle_threads_are_used_before_new_ones_start(make: Make) -> None:
    executor = make(max_workers=10)
    for _ in range(20):
        executor.submit(pow, 2, 3).result(WAIT)
        # The result is there a moment before its worker is idle: let it come to rest.
        while not at_rest(executor):
            threading.Event().wait(0.001)
    assert len(executor._threads) == 1


def at_rest(executor: ThreadPoolExecutor) -> bool:
    if isinstance(executor, Pool):
        return len(executor._core.dispatcher.parked) == 1
    return executor._idle_semaphore._value == 1  # type: ignore[attr-defined]  # as in CPython's


def test_jobs_start_in_the_order_they_were_submitted(make: Make) -> None:
    order: list[int] = []
    executor = make(max_workers=1)
    for job in [executor.submit(order.append, number) for number in range(200)]:
        job.result(WAIT)
    assert order == list(range(200))


def test_a_queued_job_can_be_cancelled_and_a_running_one_cannot(
    make: Make, gate: threading.Event
) -> None:
    executor = make(max_workers=1)
    [running] = block(executor, gate)
    queued = executor.submit(pow, 2, 3)
    assert running.running()
    assert not running.cancel()
    assert not queued.running()
    assert queued.cancel()
    assert queued.cancel()
    assert queued.cancelled()
    assert queued.done()
    for read in (queued.result, queued.exception):
        with pytest.raises(CancelledError):
            read(WAIT)
    gate.set()
    assert running.result(WAIT) is True
    assert not running.cancel()


def test_a_wait_for_a_result_ends_in_time(make: Make, gate: threading.Event) -> None:
    [running] = block(make(max_workers=1), gate)
    for timeout in (0, 0.01, -1):
        with pytest.raises(TimeoutError):
            running.result(timeout)
        with pytest.raises(TimeoutError):
            running.exception(timeout)


def test_done_callbacks_run_once_each_in_order_whenever_they_are_added(
    make: Make, gate: threading.Event
) -> None:
    executor = make(max_workers=1)
    [job] = block(executor, gate)
    calls: list[tuple[int, object]] = []
    for number in range(3):
        job.add_done_callback(lambda done, number=number: calls.append((number, done)))  # type: ignore[misc]  # a default
    gate.set()
    executor.shutdown()
    job.add_done_callback(lambda done: calls.append((3, done)))
    assert calls == [(number, job) for number in range(4)]


def test_a_callback_that_raises_is_logged_and_the_next_runs(
    make: Make, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    executor = make(max_workers=1)
    [job] = block(executor, gate)
    called = threading.Event()
    job.add_done_callback(lambda _: fail(Unpleasant("in the callback")))
    job.add_done_callback(lambda _: called.set())
    gate.set()
    assert called.wait(WAIT)
    assert "in the callback" in caplog.text
    assert executor.submit(pow, 2, 3).result(WAIT) == 8


def test_wait_tells_who_is_done(make: Make, gate: threading.Event) -> None:
    executor = make(max_workers=2)
    slow = block(executor, gate)
    quick = executor.submit(pow, 2, 3)
    assert wait([*slow, quick], WAIT, FIRST_COMPLETED) == ({quick}, set(slow))
    bad = executor.submit(fail, Unpleasant("no"))
    assert bad in wait([*slow, bad], WAIT, FIRST_EXCEPTION).done
    assert wait([*slow, quick], 0.01, ALL_COMPLETED).not_done == set(slow)
    gate.set()
    assert wait([*slow, quick, bad], WAIT).done == {*slow, quick, bad}


def test_as_completed_yields_each_job_once(make: Make) -> None:
    executor = make(max_workers=4)
    jobs = [executor.submit(pow, 2, number) for number in range(50)]
    assert sorted(job.result() for job in as_completed(jobs, WAIT)) == [2**n for n in range(50)]
    assert set(as_completed(jobs, WAIT)) == set(jobs)


def test_as_completed_hears_of_a_job_that_is_cancelled_meanwhile(
    make: Make, gate: threading.Event
) -> None:
    executor = make(max_workers=1)
    block(executor, gate)
    queued = executor.submit(pow, 2, 3)
    completed = as_completed([queued], WAIT)
    queued.cancel()
    gate.set()
    assert list(completed) == [queued]


def test_only_the_first_outcome_counts(make: Make) -> None:
    job = make(max_workers=1).submit(pow, 2, 3)
    assert job.result(WAIT) == 8
    with pytest.raises(InvalidStateError):
        job.set_result(9)
    with pytest.raises(InvalidStateError):
        job.set_exception(Unpleasant("late"))
    assert job.result() == 8


def test_a_queued_job_can_be_settled_from_outside(make: Make, gate: threading.Event) -> None:
    executor = make(max_workers=1)
    [running] = block(executor, gate)
    job = executor.submit(pow, 2, 3)
    assert job.set_running_or_notify_cancel() is True
    job.set_result(9)
    gate.set()
    assert (running.result(WAIT), job.result(WAIT)) == (True, 9)


def test_map_keeps_order_and_stops_at_the_shortest(make: Make) -> None:
    executor = make(max_workers=3)
    assert list(executor.map(pow, range(10), [2, 3, 2], timeout=WAIT)) == [0, 1, 4]
    for chunksize in (3, 0, -1):
        assert list(executor.map(pow, range(10), itertools.repeat(2), chunksize=chunksize)) == [
            number**2 for number in range(10)
        ]
    assert list(executor.map(pow, [], [])) == []


def test_map_submits_at_once_and_raises_where_the_failure_is(make: Make) -> None:
    executor = make(max_workers=1)
    seen: list[int] = []
    results = executor.map(lambda number: seen.append(number) or 1 // number, [2, 1, 0, 1])
    assert next(results) == 0
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)
    executor.shutdown()
    assert seen[:3] == [2, 1, 0]


def test_map_gives_up_in_time_and_cancels_the_rest(make: Make, gate: threading.Event) -> None:
    executor = make(max_workers=1)
    ran: list[int] = []

    def run(number: int) -> None:
        gate.wait(WAIT)
        ran.append(number)

    with pytest.raises(TimeoutError):
        list(executor.map(run, range(5), timeout=0.05))
    gate.set()
    executor.shutdown()
    assert ran == [0]


def test_shutdown_finishes_what_is_queued(make: Make, gate: threading.Event) -> None:
    executor = make(max_workers=1)
    block(executor, gate)
    jobs = [executor.submit(pow, 2, number) for number in range(20)]
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(pow, 2, 3)
    gate.set()
    executor.shutdown(wait=True)
    assert [job.result(0) for job in jobs] == [2**number for number in range(20)]


def test_shutdown_can_cancel_what_is_queued(make: Make, gate: threading.Event) -> None:
    executor = make(max_workers=1)
    [running] = block(executor, gate)
    jobs = [executor.submit(pow, 2, number) for number in range(20)]
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(job.cancelled() for job in jobs)
    gate.set()
    assert running.result(WAIT) is True


def test_leaving_the_block_waits_for_the_jobs(make: Make) -> None:
    ran: list[int] = []
    with make(max_workers=2) as executor:
        for number in range(50):
            executor.submit(ran.append, number)
    assert sorted(ran) == list(range(50))
    assert not any(thread.is_alive() for thread in executor._threads)


def test_a_pool_that_nobody_holds_is_collected_with_its_threads(make: Make) -> None:
    # Made outside the fixture, which would hold it.
    executor = type(make(max_workers=1))(max_workers=3)
    jobs = [executor.submit(pow, 2, number) for number in range(50)]
    threads = list(executor._threads)
    collected = threading.Event()
    weakref.finalize(executor, collected.set)
    del executor
    gc.collect()
    assert collected.wait(WAIT)
    assert [job.result(WAIT) for job in jobs] == [2**number for number in range(50)]
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()


def test_nothing_holds_what_a_finished_job_was_given(make: Make) -> None:
    class Precious:
        def use(self) -> int:
            return 1

    executor = make(max_workers=1)
    precious = Precious()
    gone = threading.Event()
    weakref.finalize(precious, gone.set)
    job = executor.submit(precious.use)
    also = executor.submit(lambda thing: thing.use(), precious)
    del precious
    assert (job.result(WAIT), also.result(WAIT)) == (1, 1)
    assert gone.wait(WAIT)


def test_a_job_may_submit(make: Make) -> None:
    executor = make(max_workers=2)
    assert executor.submit(lambda: executor.submit(pow, 2, 3)).result(WAIT).result(WAIT) == 8


def test_a_thread_that_a_job_starts_is_no_daemon(make: Make) -> None:
    """The process would not wait for it, and it would die in the middle of its work."""
    job = make(max_workers=1).submit(lambda: threading.Thread(target=print).daemon)
    assert job.result(WAIT) is False


def test_asyncio_can_wait_for_jobs(make: Make) -> None:
    executor = make(max_workers=2)

    async def main() -> list[object]:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(executor)
        found: list[object] = [await loop.run_in_executor(executor, pow, 2, 3)]
        found.append(await asyncio.to_thread(pow, 2, 4))
        found.append(await asyncio.wrap_future(executor.submit(pow, 2, 5)))
        found += await asyncio.gather(*(loop.run_in_executor(None, pow, 2, n) for n in range(99)))
        with pytest.raises(Unpleasant):
            await loop.run_in_executor(None, fail, Unpleasant("no"))
        return found

    assert asyncio.run(main()) == [8, 16, 32, *(2**number for number in range(99))]


def test_asyncio_cancels_a_queued_job(make: Make, gate: threading.Event) -> None:
    executor = make(max_workers=1)
    block(executor, gate)
    queued = executor.submit(pow, 2, 3)

    async def main() -> None:
        waiting = asyncio.ensure_future(asyncio.wrap_future(queued))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
    assert queued.cancelled()


def test_a_failing_initializer_breaks_the_executor(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    from concurrent.futures import BrokenExecutor

    executor = make(max_workers=1, initializer=lambda: fail(Unpleasant("at the start")))
    job = executor.submit(pow, 2, 3)
    with pytest.raises(BrokenExecutor):
        job.result(WAIT)
    with pytest.raises(BrokenExecutor):
        executor.submit(pow, 2, 3)
    assert executor._broken
    executor.shutdown()
    assert "at the start" in caplog.text
