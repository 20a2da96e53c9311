"""Module-level functions for pools by name: for one-liners, and for those who come from Elixir.

``pool`` is a name or a `Pool` in all of them. They raise `PoolNotFound` where no pool has the
name, `PoolClosed` where it was shut down, and what the method of `Pool` raises.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from datetime import datetime, time
from math import inf
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

from oddjob.compat import AsyncFunction, Item, P, T
from oddjob.hints import hinted
from oddjob.quantities import Seconds, as_wait
from oddjob.registry import pool as find_pool
from oddjob.runtime.in_place import run_if_no_worker_will
from oddjob.runtime.job import Job
from oddjob.runtime.supervisor import SupervisorInfo
from oddjob.runtime.worker import WorkerInfo
from oddjob.schedule.clock import clock
from oddjob.schedule.timer import Timer
from oddjob.thread_pool import Pool

if TYPE_CHECKING:
    from oddjob.operations.copying import CopyReport, Keys

PoolOrName = str | Pool
When = datetime | time | str


def perform(
    pool: PoolOrName, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs
) -> None:
    """Queue a call, fire and forget; see `Pool.perform`."""
    find_pool(pool).perform(fn, *args, **kwargs)


def perform_many(pool: PoolOrName, fn: Callable[[Item], object], iterable: Iterable[Item]) -> None:
    """Queue ``fn(item)`` for every item; see `Pool.perform_many`."""
    find_pool(pool).perform_many(fn, iterable)


@overload
def async_perform(
    pool: PoolOrName, fn: AsyncFunction[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> Job[T]: ...
@overload
def async_perform(
    pool: PoolOrName, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> Job[T]: ...
def async_perform(
    pool: PoolOrName, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Job[Any]:
    """Queue a call and return its job, for `await_`; see `Pool.submit`."""
    return find_pool(pool).submit(fn, *args, **kwargs)


@overload
def async_perform_many(
    pool: PoolOrName, fn: AsyncFunction[[Item], T], iterable: Iterable[Item]
) -> list[Job[T]]: ...
@overload
def async_perform_many(
    pool: PoolOrName, fn: Callable[[Item], T], iterable: Iterable[Item]
) -> list[Job[T]]: ...
def async_perform_many(
    pool: PoolOrName, fn: Callable[[Item], Any], iterable: Iterable[Item]
) -> list[Job[Any]]:
    """Queue ``fn(item)`` for every item; return the jobs. See `Pool.submit_many`, `await_many`."""
    return find_pool(pool).submit_many(fn, iterable)


def await_(job: Future[T], timeout: Seconds | None = 5.0) -> T:
    """Wait for a job and return its result, or raise what it raised.

    Args:
        job: a job, or any ``concurrent.futures.Future``.
        timeout: the longest wait, in seconds; None or ``math.inf``: no limit.

    Raises:
        TimeoutError: the job has not ended in time.
        CancelledError: the job was cancelled.
        BaseException: whatever the job raised.
    """
    seconds = as_wait("timeout", timeout)
    try:
        return job.result(None if seconds == inf else seconds)
    finally:
        del job  # an exception that is raised here refers to this frame


def await_many(jobs: Iterable[Future[T]], timeout: Seconds | None = 5.0) -> list[T]:
    """Wait for several jobs, like `await_`, and return their results in the order given.

    `timeout` is for all of them together. What one of them raises is raised as soon as it is; if
    several have, it is the first of these in the order given.
    """
    deadline = clock.steady() + as_wait("timeout", timeout)
    awaited, job = list(jobs), None
    try:
        _results(awaited)
        for job in awaited:
            # On a worker of the jobs' own pool, queued jobs may run here, until one fails.
            in_time = clock.steady() < deadline
            if in_time and isinstance(job, Job) and run_if_no_worker_will(job):
                job.result()
        left = None if deadline == inf else max(0.0, deadline - clock.steady())
        pending = len(wait(awaited, left, return_when=FIRST_EXCEPTION).not_done)
        results = _results(awaited)
        if pending:
            raise TimeoutError(f"{pending} of {len(awaited)} jobs had not ended in time")
        return results
    finally:
        del jobs, awaited, job  # an exception that is raised here refers to this frame


def _results(jobs: list[Future[T]]) -> list[T]:
    """Return the results of the jobs that have ended; raise what the first failed one raised."""
    try:
        # Not a comprehension, whose frame would keep the jobs.
        return [*map(methodcaller("result"), filter(methodcaller("done"), jobs))]
    finally:
        del jobs  # an exception that is raised here refers to this frame


def perform_after(
    seconds: Seconds,
    pool: PoolOrName,
    fn: Callable[P, object],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> Timer:
    """Queue a call after some seconds, as `Pool.after` does; return the timer."""
    return find_pool(pool).after(seconds).perform(fn, *args, **kwargs)


def perform_at(
    when: When, pool: PoolOrName, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs
) -> Timer:
    """Queue a call at a time on the wall clock, as `Pool.at` does; return the timer."""
    return find_pool(pool).at(when).perform(fn, *args, **kwargs)


def perform_many_after(
    seconds: Seconds, pool: PoolOrName, fn: Callable[[Item], object], iterable: Iterable[Item]
) -> Timer:
    """Queue ``fn(item)`` for every item after some seconds; see `perform_after`."""
    return find_pool(pool).after(seconds).perform_many(fn, iterable)


def perform_many_at(
    when: When, pool: PoolOrName, fn: Callable[[Item], object], iterable: Iterable[Item]
) -> Timer:
    """Queue ``fn(item)`` for every item at a time on the wall clock; see `perform_at`."""
    return find_pool(pool).at(when).perform_many(fn, iterable)


def cancel_timer(timer: Timer) -> float | Literal[False]:
    """Cancel a timer; return the seconds that were left, or False if it had fired."""
    return _checked(timer).cancel()


def read_timer(timer: Timer) -> float | Literal[False]:
    """Return the seconds until a timer fires, or False if it has fired or was cancelled."""
    return _checked(timer).remaining()


def _checked(timer: object) -> Timer:
    if not isinstance(timer, Timer):
        raise TypeError(f"a Timer, as perform_after() returns it, is needed, not {timer!r}")
    return timer


class _RunAsJob(Protocol):
    """Runs a body once and returns its job."""

    @overload
    def __call__(self, body: AsyncFunction[[], T], /) -> Job[T]: ...
    @overload
    def __call__(self, body: Callable[[], T], /) -> Job[T]: ...


_Body = Callable[[], object]


@overload
def perform_this(pool: PoolOrName, /) -> Callable[[_Body], None]: ...
@overload
def perform_this(pool: PoolOrName, /, *, at: When) -> Callable[[_Body], Timer]: ...
@overload
def perform_this(pool: PoolOrName, /, *, after: Seconds) -> Callable[[_Body], Timer]: ...
@overload
def perform_this(
    pool: PoolOrName, /, *, async_: Literal[True], at: When = ..., after: Seconds = ...
) -> _RunAsJob: ...
@hinted
def perform_this(
    pool: PoolOrName,
    /,
    *_misplaced: object,
    async_: bool = False,
    at: When | None = None,
    after: Seconds | None = None,
) -> Any:
    """Decorate a function to run its body once, in a pool: now, or later.

    ::

        @oddjob.perform_this("email")
        def greet() -> None:
            send("hello")

    Args:
        pool: the name of the pool, or the pool.
        async_: bind the function's name to the `Job`. Otherwise it is bound to the `Timer`, with
            `at` or `after`, or to None.
        at: run it at this time on the wall clock, like `Pool.at`.
        after: run it after this delay, in seconds.
    """
    if _misplaced:
        raise TypeError(
            "perform_this() takes one positional argument, the pool, and was given "
            f"{_misplaced[0]!r} as well; did you mean async_=True, at=… or after=…?"
        )
    if at is not None and after is not None:
        raise TypeError("perform_this() takes either at= or after=, not both")

    found: Any = find_pool(pool)

    def run(body: _Body) -> object:
        target = found
        if after is not None:
            target = found.after(after)
        elif at is not None:
            target = found.at(at)
        return target.submit(body) if async_ else target.perform(body)

    return run


def workers(pool: PoolOrName | None = None) -> list[WorkerInfo]:
    """Return a snapshot of a pool's workers; without a name, of the default pool's."""
    return find_pool(pool).workers()


def queue(pool: PoolOrName | None = None) -> list[Job[Any]]:
    """Return a snapshot of a pool's queued jobs, in the order in which they will start."""
    return find_pool(pool).queue()


def timers(pool: PoolOrName | None = None) -> list[Timer]:
    """Return the timers of a pool that are to fire, or are paused, the next one first."""
    return find_pool(pool).timers()


def supervisor(pool: PoolOrName | None = None) -> SupervisorInfo:
    """Return a snapshot of a pool's supervisor."""
    return find_pool(pool).supervisor()


def copy_store(
    source: str,
    target: str,
    *,
    source_keys: "Keys | None" = None,
    target_keys: "Keys | None" = None,
) -> "CopyReport":
    """Move the waiting jobs and recurring entries of one store to another one.

    ::

        oddjob.copy_store("sqlite:///jobs.db", "redis://localhost")

    Programs may use both stores meanwhile. Start the new ones first, with the URL of `target`: what
    they submit goes there. Running jobs end where they are. So do jobs that were tried already or
    have to do with other jobs, and those behind them in their key: keep a process for the source
    until ``is_complete`` of the report says that nothing is left, and call this again meanwhile. It
    may be interrupted at any time, and the next call goes on.

    A `Job` of a process that has submitted it to the source ends as if it was cancelled. Records of
    jobs that have ended stay in the source. A pool that is paused there is paused in the target.

    Args:
        source: the URL of a store, as for ``Pool(store=…)``. One of the two must be a SQLite file.
        target: the URL of the other one.
        source_keys: the ``signing_keys`` of the pools in the source, if they have any.
        target_keys: those of the pools in the target.

    Returns:
        CopyReport: what was moved, and what was left in the source, and why.

    Raises:
        StoreUnusable: there is no such source, a store cannot be used, or another copy is under
            way. What was moved by then has been moved.
        ValueError: a URL is wrong, or no store is a SQLite file.

    Thread safety: any thread may call it.
    """
    from oddjob.operations.copying import copy_store as copy

    return copy(source, target, source_keys=source_keys, target_keys=target_keys)
