"""The job that the calling thread is running: `current_job`."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from oddjob.job import Job

__all__ = ["current_job", "jobs_here", "running", "set_base"]


class _Here(threading.local):
    """What a thread runs: `base` tells what it was hired for, `stack` what it runs meanwhile."""

    base: Callable[[], Job[Any] | None] | None = None
    waiting: Sequence[Job[Any]] = ()  # in another thread, for this one; the innermost last

    def __init__(self) -> None:
        self.stack: list[Job[Any]] = []


_here = _Here()


def current_job() -> Job[Any] | None:
    """The job that the calling thread is running; None outside of jobs.

    Through it a job finds out whether somebody has asked it to stop (``cancel_requested``), when
    its time is up (``deadline``), which ``attempt`` it is, and says how far it has got
    (``report``). A thread that a job has started itself is outside.
    """
    if _here.stack:
        return _here.stack[-1]
    return None if _here.base is None else _here.base()


def jobs_here() -> list[Job[Any]]:
    """All jobs that the calling thread is running, or that wait for it; the innermost last."""
    base = None if _here.base is None else _here.base()
    return [*_here.waiting, *([] if base is None else [base]), *_here.stack]


def set_base(base: Callable[[], Job[Any] | None], waiting: Sequence[Job[Any]] = ()) -> None:
    """Have the calling thread known as one that runs jobs, while others wait for that."""
    _here.base = base
    _here.waiting = waiting


@contextmanager
def running(job: Job[Any]) -> Iterator[None]:
    """Have the calling thread known as running that job, besides what it runs already."""
    stack = _here.stack
    depth = len(stack)
    stack.append(job)
    try:
        yield
    finally:
        del stack[depth:]
