"""JobGroup: jobs that belong together, none of which outlives the block that made them.

Structured concurrency, in place of the links between processes that Erlang has: leaving the block
waits for every job; the first that fails has the others cancelled that have not started; what
failed is raised where the block ends. The rules are those of ``asyncio.TaskGroup``.
"""

import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

from oddjob.errors import GroupClosed
from oddjob.function import Target
from oddjob.job import Job

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
        self._refuse_if_closed()
        return self._adopt([self._target.submit(fn, *args, **kwargs)])[0]

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
        self._refuse_if_closed()
        return self._adopt(self._target.submit_many(fn, iterable))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._stop("its block has raised an exception")
        try:
            self._wait()
        except BaseException:
            # Ctrl-C: what runs is still waited for, unless it is pressed again.
            self._stop("waiting for it was interrupted")
            self._wait()
            raise
        self._raise_failures(error, is_echo=isinstance(error, CancelledError))

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

        if error is not None:
            self._stop("its block has raised an exception")
        cancellation: asyncio.CancelledError | None = None
        while jobs := self._unfinished():
            for job in jobs:
                try:
                    await until_ended(job)
                except asyncio.CancelledError as again:
                    cancellation = again
                    self._stop("its task was cancelled")
        if cancellation is not None:
            raise cancellation
        task = asyncio.current_task()
        is_order = task is not None and task.cancelling() > 0
        is_echo = isinstance(error, CancelledError | asyncio.CancelledError) and not is_order
        self._raise_failures(error, is_echo=is_echo)

    # Inside.

    def _refuse_if_closed(self) -> None:
        if self._why_closed is not None:
            raise GroupClosed(f"the group takes no more jobs: {self._why_closed}")

    def _adopt(self, jobs: list[Job[Any]]) -> list[Job[Any]]:
        with self._lock:
            self._jobs += jobs
            came_too_late = self._why_closed is not None
        for job in jobs:
            if came_too_late:
                job.cancel()
            job.add_done_callback(self._look_at)
        return jobs

    def _look_at(self, job: Future[Any]) -> None:
        if not job.cancelled() and job.exception() is not None:
            self._stop("a job of it has failed")

    def _stop(self, why: str) -> None:
        with self._lock:
            self._why_closed = self._why_closed or why
        for job in self.jobs:
            job.cancel()

    def _unfinished(self) -> list[Job[Any]]:
        """The jobs that are yet to end; if there are none, none can be added any more."""
        with self._lock:
            jobs = [job for job in self._jobs if not job.done()]
            if not jobs:
                self._why_closed = self._why_closed or "its block has been left"
            return jobs

    def _wait(self) -> None:
        while jobs := self._unfinished():
            for job in jobs:
                with suppress(CancelledError):
                    job.exception()

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
        if len(causes) > 1:
            raise BaseExceptionGroup(f"{len(causes)} failures in a group of jobs", causes)
        if causes and causes[0] is not error:
            raise causes[0]


def _failure_of(job: Job[Any]) -> BaseException | None:
    return None if job.cancelled() else job.exception()
