"""Intake: the ways into a workforce for single jobs and for batches."""

from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Executor
from contextvars import copy_context
from typing import Any, ParamSpec, TypeVar, overload

from oddjob.job import Job
from oddjob.later import Schedules
from oddjob.schedule.clock import clock
from oddjob.terms import NewJob, Terms
from oddjob.work import OF_BATCH
from oddjob.workforce.workforce import Workforce

__all__ = ["Intake"]

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")


class Intake(Schedules, Executor):
    """The ways in for single jobs and for batches.

    Thread safety: all methods may be called from any thread; `submit` and `perform` also from
    signal handlers and destructors.
    """

    _workforce: Workforce
    _terms: Terms
    _job_name: str | None
    _new_job: Callable[..., Job[Any]]
    _new_errand: Callable[..., Job[Any]]
    _kinds_by_key: tuple[NewJob, NewJob] | None = None  # made once: there may be many keys

    def _offer(self, workforce: Workforce, terms: Terms) -> None:
        """Settle, once, what every job that is submitted here is like."""
        self._workforce = workforce
        self._terms = terms
        self._job_name = terms.name
        self._new_job, self._new_errand = terms.kinds()
        if terms.needs_order():
            workforce.roster.organise()

    @overload
    def submit(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[T]: ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Job[T]: ...
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Job[Any]:
        """Queue ``fn(*args, **kwargs)`` and return its job.

        An ``async def`` function is run on an event loop of the worker's own. The call sees a
        copy of the caller's context variables.

        Raises:
            PoolClosed: the pool, or the interpreter, has been shut down.
            PoolBroken: its workers kept crashing.
            QueueFull: the queue of the pool is full, and it was told to raise, or not to wait for
                so long; or a job of the pool itself submits.
            RuntimeError: no thread could be started and there is none; nothing has been queued.
        """
        workforce = self._workforce
        job = self._new_job(
            fn, args, kwargs or None, copy_context(), workforce, self._job_name, clock.monotonic()
        )
        workforce.accept(job)
        return job

    def perform(self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Queue ``fn(*args, **kwargs)``, fire and forget.

        Nothing is kept of the job once it has run. If it raises, that goes to the ``oddjob``
        logger with its traceback, and to the pool's ``on_error``. Raises like `submit`.
        """
        workforce = self._workforce
        job = self._new_errand(
            fn, args, kwargs or None, copy_context(), workforce, self._job_name, clock.monotonic()
        )
        workforce.accept(job)

    @overload
    async def asubmit(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[T]: ...
    @overload
    async def asubmit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Job[T]: ...
    async def asubmit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Job[Any]:
        """Queue a call as `submit` does, but wait for room without holding up the event loop.

        What the policy for a full queue has the caller run, it waits for, too. Cancelling the task
        that waits leaves nothing queued. Raises like `submit`.
        """
        workforce = self._workforce
        job = self._new_job(
            fn, args, kwargs or None, copy_context(), workforce, self._job_name, clock.monotonic()
        )
        await workforce.accept_in_loop(job)
        return job

    @overload
    def submit_many(
        self, fn: Callable[[Item], Coroutine[Any, Any, T]], iterable: Iterable[Item]
    ) -> list[Job[T]]: ...
    @overload
    def submit_many(self, fn: Callable[[Item], T], iterable: Iterable[Item]) -> list[Job[T]]: ...
    def submit_many(self, fn: Callable[..., Any], iterable: Iterable[Any]) -> list[Job[Any]]:
        """Queue ``fn(item)`` for every item in one insertion and return the jobs in that order.

        No job of anybody else's comes between them. If `iterable` raises, nothing is queued. If
        the queue is full, they go in as there is room, in their order; those that did not get in
        before an error are not run, nor are those that had not started by then.
        Raises like `submit`.
        """
        jobs = self._make(self._new_job, fn, iterable)
        self._workforce.accept_many(jobs)
        return jobs

    def perform_many(self, fn: Callable[[Item], object], iterable: Iterable[Item]) -> None:
        """Queue ``fn(item)`` for every item in one insertion, fire and forget."""
        self._workforce.accept_many(self._make(self._new_errand, fn, iterable))

    def _make(
        self, new: Callable[..., Job[Any]], fn: Callable[..., Any], iterable: Iterable[Any]
    ) -> list[Job[Any]]:
        context = copy_context()
        workforce = self._workforce
        name = self._job_name
        items = list(iterable)
        now = clock.monotonic()
        return [new(fn, item, OF_BATCH, context, workforce, name, now) for item in items]
