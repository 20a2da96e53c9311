"""The module-level verbs: pools by name, for one-liners and for those who come from Elixir."""

import datetime as dt
import math
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, overload

from oddjob.job import Job
from oddjob.pool import Pool
from oddjob.schedule.clock import clock
from oddjob.startup import pool as find_pool
from oddjob.timer import Timer
from oddjob.workforce.supervisor import SupervisorInfo
from oddjob.workforce.worker import WorkerInfo

__all__ = [
    "async_perform",
    "async_perform_many",
    "await_",
    "await_many",
    "cancel_timer",
    "perform",
    "perform_after",
    "perform_at",
    "perform_many",
    "perform_many_after",
    "perform_many_at",
    "perform_this",
    "queue",
    "read_timer",
    "supervisor",
    "workers",
]

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")


def perform(
    pool: str | Pool, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs
) -> None:
    """Queue a call, fire and forget; see `Pool.perform`.

    Raises:
        PoolNotFound: no pool has that name.
        PoolClosed: the pool has been shut down.
    """
    find_pool(pool).perform(fn, *args, **kwargs)


def perform_many(pool: str | Pool, fn: Callable[[Item], object], iterable: Iterable[Item]) -> None:
    """Queue ``fn(item)`` for every item in one insertion, fire and forget.

    Raises like `perform`; see `Pool.perform_many`.
    """
    find_pool(pool).perform_many(fn, iterable)


@overload
def async_perform(
    pool: str | Pool, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
) -> Job[T]: ...
@overload
def async_perform(
    pool: str | Pool, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> Job[T]: ...
def async_perform(
    pool: str | Pool, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Job[Any]:
    """Queue a call and return its job, for `await_`; see `Pool.submit`. Raises like `perform`."""
    return find_pool(pool).submit(fn, *args, **kwargs)


@overload
def async_perform_many(
    pool: str | Pool, fn: Callable[[Item], Coroutine[Any, Any, T]], iterable: Iterable[Item]
) -> list[Job[T]]: ...
@overload
def async_perform_many(
    pool: str | Pool, fn: Callable[[Item], T], iterable: Iterable[Item]
) -> list[Job[T]]: ...
def async_perform_many(
    pool: str | Pool, fn: Callable[[Item], Any], iterable: Iterable[Item]
) -> list[Job[Any]]:
    """Queue ``fn(item)`` for every item in one insertion and return the jobs, for `await_many`.

    Raises like `perform`; see `Pool.submit_many`.
    """
    return find_pool(pool).submit_many(fn, iterable)


def await_(job: Future[T], timeout: float | None = 5.0) -> T:
    """Wait for a job and return its result, or raise what it raised.

    Args:
        job: a job, or any ``concurrent.futures.Future``.
        timeout: the longest wait, in seconds; None waits without limit. The job goes on when the
            time is up.

    Raises:
        TimeoutError: the job had not ended in time.
        CancelledError: the job was cancelled.
    """
    try:
        return job.result(timeout)
    finally:
        del job  # what is raised holds this frame


def await_many(jobs: Iterable[Future[T]], timeout: float | None = 5.0) -> list[T]:
    """Wait for several jobs and return their results in the order given.

    Args:
        jobs: jobs, or any ``concurrent.futures.Future`` s.
        timeout: the longest wait for all of them together, in seconds; None waits without limit.

    Raises:
        TimeoutError: not all had ended in time. They go on.
        CancelledError: one of them was cancelled.
        BaseException: what one of them raised, as soon as it did; if several had, what the first
            of these in the order given raised.
    """
    deadline = math.inf if timeout is None else clock.steady() + timeout
    awaited = list(jobs)
    job: Future[T] | None = None
    try:
        _raise_failure(awaited)
        for job in awaited:
            # On a worker of the jobs' own pool what is queued runs here, until one fails.
            in_time = clock.steady() < deadline
            if in_time and isinstance(job, Job) and job.run_here():
                job.result()
        left = None if timeout is None else max(0.0, deadline - clock.steady())
        pending = len(wait(awaited, left, return_when=FIRST_EXCEPTION).not_done)
        if pending:
            _raise_failure(awaited)
            raise TimeoutError(f"{pending} of {len(awaited)} jobs had not ended in time")
        return [each.result() for each in awaited]
    finally:
        del jobs, awaited, job  # what is raised holds this frame


def _raise_failure(jobs: Iterable[Future[Any]]) -> None:
    job: Future[Any] | None = None
    try:
        for job in jobs:
            if job.done():
                job.result()
    finally:
        del jobs, job  # what is raised holds this frame


def perform_after(
    seconds: float, pool: str | Pool, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs
) -> Timer:
    """Queue a call in so many seconds, fire and forget; see `Pool.after`.

    Returns a timer, for `read_timer` and `cancel_timer`. Raises like `perform`.
    """
    return find_pool(pool).after(seconds).perform(fn, *args, **kwargs)


def perform_at(
    when: dt.datetime | dt.time,
    pool: str | Pool,
    fn: Callable[P, object],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> Timer:
    """Queue a call at a time on the wall clock, fire and forget; see `Pool.at`.

    Returns a timer, for `read_timer` and `cancel_timer`. Raises like `perform`, and `Pool.at`.
    """
    return find_pool(pool).at(when).perform(fn, *args, **kwargs)


def perform_many_after(
    seconds: float, pool: str | Pool, fn: Callable[[Item], object], iterable: Iterable[Item]
) -> Timer:
    """Queue ``fn(item)`` for every item, in one insertion, in so many seconds.

    Returns one timer for all. Raises like `perform`.
    """
    return find_pool(pool).after(seconds).perform_many(fn, iterable)


def perform_many_at(
    when: dt.datetime | dt.time,
    pool: str | Pool,
    fn: Callable[[Item], object],
    iterable: Iterable[Item],
) -> Timer:
    """Queue ``fn(item)`` for every item, in one insertion, at a time on the wall clock.

    Returns one timer for all. Raises like `perform`, and `Pool.at`.
    """
    return find_pool(pool).at(when).perform_many(fn, iterable)


def cancel_timer(timer: Timer) -> float | Literal[False]:
    """Have a timer not fire; returns the seconds that were left, False if it had fired."""
    return _known(timer).cancel()


def read_timer(timer: Timer) -> float | Literal[False]:
    """In how many seconds a timer fires; False if it has."""
    return _known(timer).remaining()


def _known(timer: object) -> Timer:
    if not isinstance(timer, Timer):
        raise TypeError(f"a Timer, as perform_after() returns it, and not {timer!r}")
    return timer


class _RunForJob(Protocol):
    """What runs a body once and hands back its job."""

    @overload
    def __call__(self, body: Callable[[], Coroutine[Any, Any, T]], /) -> Job[T]: ...
    @overload
    def __call__(self, body: Callable[[], T], /) -> Job[T]: ...


@overload
def perform_this(
    pool: str | Pool, /, *, async_: Literal[False] = False
) -> Callable[[Callable[[], object]], None]: ...
@overload
def perform_this(
    pool: str | Pool,
    /,
    *,
    async_: Literal[False] = False,
    at: dt.datetime | dt.time,
    after: None = None,
) -> Callable[[Callable[[], object]], Timer]: ...
@overload
def perform_this(
    pool: str | Pool, /, *, async_: Literal[False] = False, at: None = None, after: float
) -> Callable[[Callable[[], object]], Timer]: ...
@overload
def perform_this(
    pool: str | Pool,
    /,
    *,
    async_: Literal[True],
    at: dt.datetime | dt.time | None = None,
    after: float | None = None,
) -> _RunForJob: ...
def perform_this(
    pool: str | Pool,
    /,
    *,
    async_: bool = False,
    at: dt.datetime | dt.time | None = None,
    after: float | None = None,
) -> Any:
    """Run the decorated body once, in a pool: now, `at` a time, or `after` so many seconds.

    The name of the body is bound to its `Job` if `async_` is true; else to a `Timer` if it is to
    run later, and to None if not. Raises like `perform`, when the body is decorated.
    """
    if at is not None and after is not None:
        raise TypeError(
            "perform_this runs its body at a time, or after some: give only one of them"
        )

    def run(body: Callable[[], Any]) -> Job[Any] | Timer | None:
        there = find_pool(pool)
        if at is not None or after is not None:
            later = there.at(at) if at is not None else there.after(after or 0.0)
            return later.submit(body) if async_ else later.perform(body)
        if async_:
            return there.submit(body)
        there.perform(body)
        return None

    return run


def workers(pool: str | Pool | None = None) -> list[WorkerInfo]:
    """A snapshot of a pool's workers (those of the default pool, if none is named)."""
    return find_pool(pool).workers()


def queue(pool: str | Pool | None = None) -> list[Job[Any]]:
    """A snapshot of a pool's queued jobs, in the order in which they will start."""
    return find_pool(pool).queued()


def supervisor(pool: str | Pool | None = None) -> SupervisorInfo:
    """A snapshot of a pool's supervisor."""
    return find_pool(pool).supervisor()
