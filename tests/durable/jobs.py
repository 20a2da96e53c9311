"""Functions that durable jobs call, in tests."""

import os
import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import oddjob

KEYS = ["a secret of the tests", "a former secret of the tests"]  # that sign what they store

gate = threading.Event()
entered = threading.Semaphore(0)
runs: list[Any] = []
pools: list[oddjob.Pool] = []


def note(value: Any) -> Any:
    runs.append(value)
    return value


def doubled(fn: Callable[[int], int]) -> Callable[[int], int]:
    """Decorate a function of others, as ``transaction.atomic`` does."""

    @wraps(fn)
    def double(number: int) -> int:
        return 2 * fn(number)

    return double


@doubled
def twice(number: int) -> int:
    return number


def hang() -> str:
    entered.release()
    gate.wait(10)
    return "late"


def hang_for(_number: int) -> str:
    return hang()


def hang_first() -> int:
    """Hang in the first run only; return which run it is."""
    runs.append("hang_first")
    run = runs.count("hang_first")
    if run == 1:
        hang()
    return run


def fail(message: str) -> None:
    raise OSError(message)


def fail_first() -> int:
    job = oddjob.current_job()
    assert job is not None
    runs.append(job.attempt)
    if job.attempt < 3:
        raise OSError(job.attempt)
    return job.attempt


def read_key() -> str:
    """Return what is the key of the job that runs this."""
    job = oddjob.current_job()
    assert job is not None
    return repr(job.key)


def crash() -> None:
    raise SystemExit("crash")


def unstorable() -> object:
    return threading.Lock()


def nest(depth: int) -> int:
    return 0 if not depth else 1 + pools[0].submit(nest, depth - 1).result(10)


def slow(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def overlap(_number: int) -> int:
    """Return how many of these run at once."""
    entered.release()
    at_once = entered._value
    time.sleep(0.002)
    entered.acquire()
    return at_once


async def coroutine(value: int) -> int:
    return value + 1


def walk(gates: list[str]) -> int:
    """Report a step, and wait until the gate behind it (a named pipe) is opened for writing."""
    job = oddjob.current_job()
    assert job is not None
    for step, path in enumerate(gates, 1):
        job.report(step, len(gates), path)
        with open(path) as pipe:  # noqa: PTH123
            pipe.read()
    return os.getpid()


def stop_when_asked() -> str:
    """Run until it is asked to stop."""
    job = oddjob.current_job()
    assert job is not None
    runs.append(job.id)
    job.report(1)
    deadline = time.monotonic() + 10
    while not job.cancel_requested and time.monotonic() < deadline:
        time.sleep(0.005)
    return f"cancel_requested: {job.cancel_requested}"


def report_often(count: int) -> None:
    """Report a great many times, then wait for the gate."""
    job = oddjob.current_job()
    assert job is not None
    for step in range(count + 1):
        job.report(step, count)
    hang()


def report_number(number: Any) -> None:
    """Report a number that may be none."""
    job = oddjob.current_job()
    assert job is not None
    job.report(number)


class Unreadable:
    """What can be pickled, and not be read again."""

    def __reduce__(self) -> Any:
        return refuse_to_be_read, ()


def refuse_to_be_read() -> None:
    raise RuntimeError("not here")


def sync() -> None:
    runs.append(sync)


def greet(name: str, mark: str = ".") -> str:
    runs.append(name + mark)
    return name + mark


async def nest_in_loop(depth: int) -> int:
    return 0 if not depth else 1 + await pools[0].submit(nest_in_loop, depth - 1)


class NeedsTwo(Exception):
    """Its arguments are not those of its base class, so that pickle alone cannot make it again."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")
        self.first = first


def fail_oddly() -> None:
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError as error:
        raise NeedsTwo(1, 2) from error
