"""Tracebacks and stacks that show what people have written, and not this library."""

import threading
import traceback
from typing import Any

from oddjob import Pool
from oddjob.tracebacks import coroutine_stack, stack_of, thread_frames
from tests.hang import Hang

WAIT = 10.0


def fail() -> None:
    raise ValueError("here")


def functions(error: BaseException) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def test_the_traceback_of_a_failed_job_begins_at_its_function() -> None:
    with Pool(1) as pool:
        job = pool.submit(fail)
        error = job.exception(WAIT)
    assert error is not None
    assert functions(error) == ["fail"]


def test_a_failure_without_a_frame_of_its_own_has_no_traceback() -> None:
    with Pool(1) as pool:
        error = pool.submit(int, "no number").exception(WAIT)
    assert error is not None
    assert error.__traceback__ is None


def test_the_stack_of_a_thread_begins_with_the_job() -> None:
    hang = Hang()
    with Pool(1) as pool:
        idents: list[int] = []

        def work() -> None:
            idents.append(threading.get_ident())
            hang()

        pool.submit(work)
        hang.wait_until_it_hangs()
        stack = stack_of(thread_frames()[idents[0]])
        hang.gate.set()
    assert [function for _, _, function in stack[:2]] == ["work", "__call__"]
    assert stack[0][0] == __file__


def test_the_stack_of_a_suspended_coroutine_ends_where_it_waits() -> None:
    class Pause:
        def __await__(self) -> Any:
            yield

    async def inner() -> None:
        await Pause()

    async def outer() -> None:
        await inner()

    coroutine = outer()
    coroutine.send(None)
    stack = coroutine_stack(coroutine)
    coroutine.close()
    assert [function for _, _, function in stack] in (["outer", "inner"], [])  # [] without a GIL
    assert stack_of(None) == coroutine_stack(None) == []
