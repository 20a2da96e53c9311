"""Log handlers, callables, exceptions and callbacks that behave as badly as they can."""

import asyncio
import contextvars
import gc
import logging
import sys
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from types import CoroutineType, SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

import oddjob
from oddjob import Job, Pool
from oddjob.runtime import worker
from oddjob.runtime.shared_state import SharedState
from tests.peak import Peak

WAIT = 10.0


class Crash(BaseException):
    """Ends a worker."""


def fail(error: BaseException) -> None:
    raise error


@pytest.fixture
def bad_handler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The application's log handler raises whatever it is given."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("the disk is full")

    monkeypatch.setattr(logging, "raiseExceptions", False)
    handler, logger = Handler(), logging.getLogger("oddjob")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


@pytest.mark.usefixtures("bad_handler")
def test_a_log_handler_that_raises_costs_neither_worker_nor_supervisor() -> None:
    told: list[BaseException] = []
    failure = ValueError("no")
    with Pool(1, on_error=lambda _, error: told.append(error)) as pool:
        for _ in range(3):
            pool.submit(fail, Crash()).exception(WAIT)
            pool.perform(fail, failure)
            job = pool.submit(pow, 2, 3)
            job.add_done_callback(lambda _: fail(ValueError()))
            assert job.result(WAIT) == 8
        assert pool.supervisor().is_alive
        assert pool.supervisor().crashes == 3
    assert told == [failure] * 3


def test_a_log_handler_may_shut_the_pool_down() -> None:
    pool = Pool(1)
    down = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            pool.shutdown(wait=True)
            down.set()

    handler, logger = Handler(), logging.getLogger("oddjob")
    logger.addHandler(handler)
    try:
        pool.submit(fail, Crash()).exception(WAIT)
        assert down.wait(WAIT)
    finally:
        logger.removeHandler(handler)
    assert pool.join(WAIT)


def test_failures_of_a_batch_are_reported_from_several_workers_at_once() -> None:
    """Each in a context of its own: one context can be entered by one thread only."""
    number = contextvars.ContextVar("number", default="none")
    number.set("submitter's")
    together = threading.Barrier(2)
    seen: list[str] = []

    def on_error(job: Job[object], error: BaseException) -> None:
        together.wait(WAIT)
        seen.append(number.get())
        number.set("leaked")

    with Pool(2, on_error=on_error) as pool:
        pool.perform_many(fail, [ValueError() for _ in range(10)])
    assert seen == ["submitter's"] * 10
    assert pool.supervisor().crashes == 0


@pytest.mark.parametrize("moment", ["before the worker is made", "before start", "after start"])
def test_a_submit_while_a_worker_is_being_started_keeps_the_limit_and_loses_nothing(
    moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler or a destructor submits in the thread that starts a worker."""
    peak = Peak()
    jobs: list[Job[None]] = []

    def work() -> None:
        with peak.counted():
            threading.Event().wait(0.01)

    class SubmittingThread(worker.JobThread):
        def __init__(self, *args: Any, **options: Any) -> None:
            if moment == "before the worker is made":
                jobs.append(pool.submit(work))
            super().__init__(*args, **options)

        def start(self) -> None:
            if moment == "before start":
                jobs.append(pool.submit(work))
            super().start()
            if moment == "after start":
                jobs.append(pool.submit(work))

    with Pool(2) as pool:
        monkeypatch.setattr(worker, "JobThread", SubmittingThread)
        jobs += [pool.submit(work) for _ in range(3)]
        threads = [info.ident for info in pool.workers()]
        assert len(set(threads)) == len(threads) <= 2
    assert len(jobs) > 3
    assert all(job.state == "succeeded" for job in jobs)
    assert (peak.most, peak.inside) == (2, 0)


def test_a_slow_supervisor_does_not_remove_a_worker_that_is_alive() -> None:
    """The identifier of a thread that has ended is given to the next one."""

    async def coroutine() -> int:
        return 1

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            threading.Event().wait(0.1)

    handler, logger = Slow(), logging.getLogger("oddjob")
    logger.addHandler(handler)
    try:
        with Pool(2, max_restarts=100) as pool:
            for _ in range(5):
                pool.submit(fail, Crash()).exception(WAIT)
                pool.submit(fail, Crash()).exception(WAIT)
                assert [pool.submit(coroutine).result(WAIT) for _ in range(10)] == [1] * 10
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize("padding", range(0, 40, 3))
def test_no_job_is_left_behind_when_the_stack_is_full(
    padding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the last frame is one of the library or of the job."""
    # There is no room for destructors either, as those of failures that nobody has looked at.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    jobs: list[Job[Any]] = []

    def pad(depth: int, act: Callable[[], int]) -> int:
        return pad(depth - 1, act) if depth else act()

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(400)
    try:
        with Pool(1, max_restarts=1000) as pool:

            def nest(depth: int) -> int:
                if depth == 0:
                    return 0
                job = pool.submit(nest, depth - 1)
                jobs.extend([job, pool.submit(int)])
                return job.result() + 1

            pool.submit(lambda: pad(padding, lambda: nest(200))).exception(WAIT)
    finally:
        sys.setrecursionlimit(limit)
    assert {job.state for job in jobs} <= {"succeeded", "failed"}


def test_jobs_run_in_place_leave_the_queue() -> None:
    """A job that goes on dispatching would fill the memory with results."""
    with Pool(1) as pool:

        def dispatch() -> int:
            for _ in range(100):
                pool.submit(bytes, 10).result()
            return pool._work_queue.qsize()

        assert pool.submit(dispatch).result(WAIT) == 0


def test_a_loop_that_was_closed_while_jobs_ran_is_not_kept() -> None:
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []
    with Pool(4) as pool:

        async def leave(gate: threading.Event) -> None:
            loops.append(weakref.ref(asyncio.get_running_loop()))
            tasks = [asyncio.create_task(_wait(pool.submit(gate.wait, WAIT))) for _ in range(4)]
            await asyncio.sleep(0)
            assert not any(task.done() for task in tasks)

        for _ in range(3):
            gate = threading.Event()
            asyncio.run(leave(gate))
            gate.set()
    gc.collect()
    assert [ref() for ref in loops] == [None] * 3


async def _wait(job: Job[bool]) -> None:
    await job


def test_an_exception_whose_attributes_cannot_be_set_is_the_jobs() -> None:
    @dataclass(frozen=True)
    class Frozen(Exception):
        code: int

    error = Frozen(3)
    with Pool(1) as pool:
        assert pool.submit(fail, error).exception(WAIT) is error
        assert pool.supervisor().crashes == 0


def test_a_result_is_not_asked_what_it_is() -> None:
    """Lazy proxies would be evaluated in the worker."""

    class Lazy:
        @property
        def __class__(self) -> type:  # type: ignore[override]  # that is the point
            raise ConnectionError("evaluated")

    with Pool(1) as pool:
        assert type(pool.submit(Lazy).result(WAIT)) is Lazy
        mock = Mock(spec=CoroutineType)
        assert pool.submit(lambda: mock).result(WAIT) is mock


def test_a_plain_function_may_hand_out_a_coroutine() -> None:
    """Only `async def` is a job for the worker's loop: this one is meant for the caller's."""

    async def main() -> int:
        with Pool(1) as pool:
            return await (await asyncio.get_running_loop().run_in_executor(pool, make))

    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    def make() -> Coroutine[Any, Any, int]:
        return answer()

    assert asyncio.run(main()) == 42


def test_what_is_wrapped_around_an_async_function_is_async_too() -> None:
    import functools

    async def answer(number: int = 42) -> int:
        await asyncio.sleep(0)
        return number

    @functools.wraps(answer)
    def wrapper(*args: Any) -> Any:
        return answer(*args)

    class Oracle:
        async def __call__(self) -> int:
            return await answer()

        async def ask(self) -> int:
            return await answer()

    with Pool(1) as pool:
        for fn in (answer, functools.partial(answer, 42), wrapper, Oracle(), Oracle().ask):
            assert pool.submit(fn).result(WAIT) == 42


def test_tasks_that_a_coroutine_leaves_behind_end_with_it() -> None:
    """As with `asyncio.run`; they would run inside another job."""
    left: list[asyncio.Task[None]] = []
    log: list[str] = []

    async def later() -> None:
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(100)
        finally:
            log.append("ended")

    async def leave() -> None:
        left.append(asyncio.create_task(later()))
        await asyncio.sleep(0)

    with Pool(1) as pool:
        pool.submit(leave).result(WAIT)
        assert log == ["ended"]
        assert left[0].cancelled()


def test_a_callback_that_equals_everything_is_called_like_any_other() -> None:
    called: list[str] = []

    class Chameleon:
        __hash__ = None  # type: ignore[assignment]  # that is the point

        def __eq__(self, other: object) -> bool:
            return True

        def __call__(self, job: object) -> None:
            called.append("first")

    gate = threading.Event()
    with Pool(1) as pool:
        job = pool.submit(gate.wait, WAIT)
        job.add_done_callback(Chameleon())
        job.add_done_callback(lambda _: called.append("second"))
        gate.set()
    assert called == ["first", "second"]


def test_a_submit_while_the_interpreters_list_of_threads_is_held_comes_back() -> None:
    """A destructor may strike there, inside `threading.enumerate()`."""
    with Pool(1) as pool:
        with threading._active_limbo_lock:  # type: ignore[attr-defined]  # the interpreter's
            job = pool.submit(pow, 2, 3)
        assert job.result(WAIT) == 8


def test_an_initializer_that_fails_slowly_breaks_the_pool_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However slowly: a job that waits for a worker that never comes would wait for ever."""
    clock = iter(range(0, 10**6, 100))
    times = SimpleNamespace(steady=lambda: float(next(clock)), monotonic=time.monotonic)
    monkeypatch.setattr("oddjob.runtime.supervisor.clock", times)
    pool = Pool(1, initializer=lambda: fail(ValueError("down")))
    job = pool.submit(pow, 2, 3)
    assert isinstance(job.exception(WAIT), oddjob.PoolBroken)
    assert pool.supervisor().crashes == 16
    pool.shutdown()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_job_whose_thread_is_struck_while_it_takes_it_in_place_ends(
    moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that is claimed by a thread which does not know of it would never end."""

    class Struck(BaseException):
        """Thrown into a thread from outside."""

    claim = SharedState.claim
    strikes = [Struck()]

    def struck(shared: SharedState, owner: Any) -> bool:
        if not inner or not strikes:
            return claim(shared, owner)
        if moment == "before":
            raise strikes.pop()
        claim(shared, owner)
        raise strikes.pop()

    monkeypatch.setattr(SharedState, "claim", struck)
    inner: list[Job[Any]] = []

    def outer() -> None:
        inner.append(pool.submit(pow, 2, 3))
        inner[0].result()

    with Pool(1) as pool:
        assert isinstance(pool.submit(outer).exception(10), Struck)
        outcome = inner[0].exception(10)
        assert isinstance(outcome, Struck) if moment == "after" else inner[0].result() == 8
        assert pool.submit(pow, 2, 3).result(10) == 8
        assert pool.stats().running == 0
