"""JobGroup: jobs that belong together, none of which outlives the block that made them.

Structured concurrency, in place of the links between processes that Erlang has: leaving the block
waits for every job; the first that fails has the others cancelled that have not started; what
failed is raised where the block ends. The model is ``asyncio.TaskGroup``; but a thread cannot be
stopped, so what runs is waited for, and a single failure is raised as it is.
"""

import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

from oddjob.errors import GroupClosed
from oddjob.function import Target
from oddjob.job import Job
from oddjob.monitor import Prompt
from oddjob.settling import settle_all

__all__ = ["JobGroup"]

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")


class JobGroup:
    """The jobs of one ``with pool.group()`` or ``async with pool.group()`` block.

    Leaving the block waits for all of them. If one fails, or the block raises, those that have not
    started are cancelled, and no more are taken. What failed is raised at the end of the block: the
    exception itself if there is one, an ``ExceptionGroup`` if there are several. A job that
    somebody cancels is no failure.

    Thread safety: jobs may be added from any thread, those of the group included.
    Locking: ``_lock`` guards the other fields; nothing is called while it is held.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._lock = threading.RLock()
        self._jobs: list[Job[Any]] = []
        self._arrivals: list[Future[None]] = []  # jobs that are being submitted
        self._why_closed: str | None = None

    @property
    def jobs(self) -> list[Job[Any]]:
        """The jobs that were submitted, in that order."""
        with self._lock:
            return self._jobs.copy()

    @overload
    def submit(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[T]: ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Job[T]: ...
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Job[Any]:
        """Queue ``fn(*args, **kwargs)`` as a job of the group; see `Pool.submit`.

        Raises:
            GroupClosed: a job of the group has failed, or the block has been left.
        """
        return self._adopt(lambda: [self._target.submit(fn, *args, **kwargs)])[0]

    @overload
    def submit_many(
        self, fn: Callable[[Item], Coroutine[Any, Any, T]], iterable: Iterable[Item]
    ) -> list[Job[T]]: ...
    @overload
    def submit_many(self, fn: Callable[[Item], T], iterable: Iterable[Item]) -> list[Job[T]]: ...
    def submit_many(self, fn: Callable[..., Any], iterable: Iterable[Any]) -> list[Job[Any]]:
        """Queue ``fn(item)`` for every item as jobs of the group; see `Pool.submit_many`.

        Raises like `submit`.
        """
        return self._adopt(lambda: self._target.submit_many(fn, iterable))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            try:
                if error is not None:
                    self._stop("its block has raised an exception")
                self._wait()
            except BaseException:
                # Ctrl-C: what runs is still waited for, unless it is pressed again.
                self._stop("waiting for it was interrupted")
                self._wait()
                raise
            self._raise_failures(error, is_echo=isinstance(error, CancelledError))
        finally:
            del self, error  # what is raised holds this frame

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        import asyncio

        from oddjob.bridge import until_ended

        cancellation: asyncio.CancelledError | None = None
        try:
            if error is not None:
                self._stop("its block has raised an exception")
            while awaited := self._unfinished():
                for each in awaited:
                    try:
                        if isinstance(each, Job):
                            await until_ended(each)
                        else:
                            await asyncio.wrap_future(each)
                    except asyncio.CancelledError as again:
                        cancellation = again
                        self._stop("its task was cancelled")
            task = asyncio.current_task()
            is_order = task is not None and task.cancelling() > 0
            is_echo = isinstance(error, CancelledError | asyncio.CancelledError) and not is_order
            self._raise_failures(error, is_echo=is_echo)
            if cancellation is not None:
                raise cancellation
        finally:
            del self, error, cancellation  # what is raised holds this frame

    # Inside.

    def _adopt(self, submit: Callable[[], list[Job[Any]]]) -> list[Job[Any]]:
        """Submit jobs that the end of the block waits for, whoever submits them."""
        arrival: Future[None] = Future()
        with self._lock:
            if self._why_closed is not None:
                raise GroupClosed(f"the group takes no more jobs: {self._why_closed}")
            self._arrivals.append(arrival)
        try:
            jobs = submit()
            with self._lock:
                self._jobs += jobs
        finally:
            with self._lock:
                self._arrivals.remove(arrival)
            arrival.set_result(None)
        for job in jobs:
            job.add_done_callback(Prompt(self._look_at))
        if self._why_closed is not None:
            self._stop(self._why_closed)
        return jobs

    def _look_at(self, job: Job[Any]) -> list[Job[Any]]:
        return [] if _failure_of(job) is None else self._close("a job of it has failed")

    def _close(self, why: str) -> list[Job[Any]]:
        """Take no more jobs, and cancel those that have not started; returns these."""
        with self._lock:
            self._why_closed = self._why_closed or why
        return [job for job in self.jobs if job.call_off()]

    def _stop(self, why: str) -> None:
        """Close, and run the callbacks of what is cancelled, whatever one of them raises."""
        settle_all(deque(self._close(why)), lambda job: job.follow_up())

    def _unfinished(self) -> "list[Job[Any] | Future[None]]":
        """What is yet to end, or to come; if there is nothing, nothing can come any more."""
        with self._lock:
            awaited = [*(job for job in self._jobs if not job.done()), *self._arrivals]
            if not awaited:
                self._why_closed = self._why_closed or "its block has been left"
            return awaited

    def _wait(self) -> None:
        while awaited := self._unfinished():
            for each in awaited:
                with suppress(CancelledError):
                    each.exception()

    def _raise_failures(self, error: BaseException | None, *, is_echo: bool) -> None:
        """Raise what failed; or return, and `error`, what the block has raised, goes on.

        `is_echo`: the block has heard that jobs were cancelled. Where something has failed, that
        is why, and no news; nor is it that the group took no more jobs.
        """
        failures = {id(each): each for each in map(_failure_of, self.jobs) if each is not None}
        if error is not None:
            if not (isinstance(error, Exception) or is_echo):
                return
            is_echo = is_echo or isinstance(error, GroupClosed)
            if not (failures and is_echo):
                failures = {id(error): error, **failures}
        causes = list(failures.values())
        try:
            if len(causes) > 1:
                raise BaseExceptionGroup(f"{len(causes)} failures in a group of jobs", causes)
            if causes and causes[0] is not error:
                raise causes[0]
        finally:
            del self, error, causes, failures  # what is raised holds this frame


def _failure_of(job: Job[Any]) -> BaseException | None:
    error = None if job.cancelled() else job.exception()
    return None if isinstance(error, CancelledError) else error
