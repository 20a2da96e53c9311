"""Functions that durable jobs call, in tests."""

import os
import threading
import time
from typing import Any

import oddjob

gate = threading.Event()
entered = threading.Semaphore(0)
runs: list[Any] = []
pools: list[oddjob.Pool] = []


def note(value: Any) -> Any:
    runs.append(value)
    return value


def hang() -> str:
    entered.release()
    gate.wait(10)
    return "late"


def fail(message: str) -> None:
    raise OSError(message)


def fail_first() -> int:
    job = oddjob.current_job()
    assert job is not None
    runs.append(job.attempt)
    if job.attempt < 3:
        raise OSError(job.attempt)
    return job.attempt


def crash() -> None:
    raise SystemExit("crash")


def unstorable() -> object:
    return threading.Lock()


def nest(depth: int) -> int:
    return 0 if not depth else 1 + pools[0].submit(nest, depth - 1).result(10)


def slow(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


async def coroutine(value: int) -> int:
    return value + 1


def sync() -> None:
    runs.append(sync)


def greet(name: str, mark: str = ".") -> str:
    runs.append(name + mark)
    return name + mark
