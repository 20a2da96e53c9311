"""Submitter: every way to hand jobs to a pool; the part that `Pool` and its views have in common.

A submitter is a core (what runs the jobs), a policy (what its jobs have in common), and possibly
a key that all of them share. A view is a submitter with another policy or key and the same core.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self, Unpack, overload

from oddjob.compat import AsyncFunction, Item, P, T, override
from oddjob.decorator import JobDecorator, job_decorator
from oddjob.function import JobFunction
from oddjob.group import JobGroup
from oddjob.hints import check_function, refuse_unknown
from oddjob.keys import Key
from oddjob.mapping import How, MapMethods, map_calls
from oddjob.options import (
    DecoratorOptions,
    JobOptions,
    JobSettings,
)
from oddjob.quantities import Seconds
from oddjob.runtime.core import PoolCore
from oddjob.runtime.job import Job
from oddjob.runtime.new_jobs import new_jobs
from oddjob.runtime.policy import ONE_ARGUMENT, JobPolicy
from oddjob.schedule.clock import clock
from oddjob.scheduled import ScheduleMethods
from oddjob.workflow import WorkflowMethods

if TYPE_CHECKING:
    import sqlite3

    from oddjob.view import PoolView


class Submitter(MapMethods, ScheduleMethods, WorkflowMethods):
    """The methods by which jobs enter a pool.

    Thread safety: all methods may be called from any thread; `submit` and `perform` also from
    signal handlers and destructors.
    """

    _core: PoolCore
    _policy: JobPolicy
    _key: Key | None = None
    _view_class: "ClassVar[type[PoolView]]"  # of `options`: set by those who know both

    def _use(self, core: PoolCore, settings: JobSettings) -> None:
        """Submit to that core from now on, with these settings on every job."""
        self._core = core
        self._policy = JobPolicy(core, settings)
        if self._policy.is_limited and not self._policy.is_durable:
            limited = core.use_limits(self._policy.limits)
            if self._policy.fair_by is not None and core.options.priority_aging is None:
                limited.use_turns()

    @overload
    def submit(self, fn: AsyncFunction[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Job[T]: ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Job[T]: ...
    @override
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Job[Any]:
        """Queue ``fn(*args, **kwargs)`` and return its job.

        The call sees a copy of the caller's context variables, unless the pool has a store.

        Args:
            fn: what to call. An ``async def`` function runs on an event loop of the worker. In a
                pool with a store, a function at the top level of a module.
            *args: its arguments; those of a job that is stored are copied.
            **kwargs: its arguments by name.

        Returns:
            The `Job`: a ``concurrent.futures.Future`` that can also be awaited.

        Raises:
            PoolClosed: the pool, or the interpreter, has been shut down.
            PoolBroken: the pool's workers kept crashing.
            QueueFull: the queue is full, and ``when_full="raise"``; or ``submit_timeout`` is over;
                or a job of the pool submits, which must not block.
            RuntimeError: no thread could be started, and there is none; nothing has been queued.
            StoreFull, StoreUnusable, TypeError: the pool's store does not take the job; a
                ``TypeError`` says why the function or its arguments cannot be stored.
        """
        policy, now = self._policy, clock.monotonic()
        job: Job[Any] = Job(fn, args, kwargs or None, copy_context(), policy, now, self._key)
        policy.accept(job)
        return job

    def perform(self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Queue ``fn(*args, **kwargs)``, fire and forget: there is no `Job` to look at.

        A failure is logged to the ``oddjob`` logger with its traceback, and passed to the pool's
        ``on_error``. Raises like `submit`.
        """
        policy, now = self._policy.detached or self._policy.detach(), clock.monotonic()
        job: Job[Any] = Job(fn, args, kwargs or None, copy_context(), policy, now, self._key)
        policy.accept(job)

    @overload
    async def asubmit(
        self, fn: AsyncFunction[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[T]: ...
    @overload
    async def asubmit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Job[T]: ...
    async def asubmit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Job[Any]:
        """Queue a call as `submit` does, and wait for room without blocking the event loop.

        With ``when_full="caller_runs"`` it waits until the job has run elsewhere. Cancelling the
        task that waits leaves nothing queued; a job that is stored by then is cancelled, unless it
        has started. Raises like `submit`.
        """
        policy, now = self._policy, clock.monotonic()
        job: Job[Any] = Job(fn, args, kwargs or None, copy_context(), policy, now, self._key)
        policy.prepare(job)
        await self._core.intake.accept_in_loop(job)
        return job

    @overload
    def submit_many(
        self, fn: AsyncFunction[[Item], T], iterable: Iterable[Item]
    ) -> list[Job[T]]: ...
    @overload
    def submit_many(self, fn: Callable[[Item], T], iterable: Iterable[Item]) -> list[Job[T]]: ...
    def submit_many(self, fn: Callable[..., Any], iterable: Iterable[Any]) -> list[Job[Any]]:
        """Queue ``fn(item)`` for every item in one insertion, and return the jobs in that order.

        If the iterable raises, nothing is queued. In a pool with ``max_queue``, the iterable is
        read, and jobs are queued, as there is room; if that fails half-way, the jobs that have not
        started are cancelled. Raises like `submit`.
        """
        check_function(fn)
        return self._accept_batch(self._policy, fn, iterable, ONE_ARGUMENT)

    def perform_many(self, fn: Callable[[Item], object], iterable: Iterable[Item]) -> None:
        """Queue ``fn(item)`` for every item, fire and forget; see `submit_many` and `perform`.

        In a pool with ``max_queue`` the iterable may be endless, and if it raises, the jobs of the
        items before that are run.
        """
        check_function(fn)
        self._accept_batch(self._policy.detach(), fn, iterable, ONE_ARGUMENT)

    def _accept_batch(
        self, policy: JobPolicy, fn: Callable[..., Any], calls: Iterable[Any], kwargs: Any
    ) -> list[Job[Any]]:
        """Queue calls, given as `new_jobs` takes them; return their jobs if they are waited for."""
        core, key, context = self._core, self._key, copy_context()

        def make_jobs(calls: Sequence[Any]) -> list[Job[Any]]:
            return new_jobs(policy, fn, calls, kwargs, context, key, clock.monotonic())

        # (In a user's transaction, no room will come: it has to end before others can write.)
        if core.options.max_queue is not None and policy.settings.connection is None:
            stream = (job for call in calls for job in make_jobs((call,)))
            return core.intake.accept_stream(stream, keep=not policy.is_detached)
        jobs = make_jobs(list(calls))
        core.intake.accept_many(jobs)
        return jobs

    @override
    def _map(
        self, caller: str, fn: Callable[..., Any], calls: Any, total: int, options: dict[str, Any]
    ) -> Iterator[Any]:
        refuse_unknown(caller, options, How._fields)
        # A subclass's `submit` sees every call, as in the standard library.
        if getattr(self.submit, "__func__", None) is not Submitter.submit:
            options["chunksize"] = 1
        return map_calls(self, fn, calls, total, How(**options))

    def group(self) -> JobGroup:
        """Return a block that ends when all jobs submitted in it have ended; see `JobGroup`.

        ::

            with pool.group() as group:  # async with does not block the event loop
                group.submit(first)
                group.submit(second)
        """
        return JobGroup(self)

    @overload
    def job(self, fn: Callable[P, T], /) -> JobFunction[P, T]: ...
    @overload
    def job(self, /, **options: Unpack[DecoratorOptions]) -> JobDecorator: ...
    def job(self, fn: Any = None, /, **options: Unpack[DecoratorOptions]) -> Any:
        """Decorate a function whose jobs are to run in this pool: ``@pool.job`` or with options.

        Calling the `JobFunction` that this returns runs the function in the calling thread; its
        ``submit``, ``perform`` and so on run it in the pool.

        Args:
            fn: the function, if there are no options.
            **options: what `options` takes; and, to call a function without arguments again and
                again, ``every`` (seconds), ``cron`` (a crontab entry) or ``daily`` (a time of day),
                with the options of the methods of these names. The function's ``timer`` is theirs.

        Raises:
            TypeError: as `options` does; or a function that is to recur needs arguments.
            ValueError: as `options` does; or `key` or `unique` is the name of a parameter of the
                function; or the pool has a store, and the module another function of that name.
        """
        decorate = job_decorator(self, {**options})
        return decorate if fn is None else decorate(fn)

    def options(self, **options: Unpack[JobOptions]) -> "Submitter":
        """Return a view of the pool with these options on every job.

        ::

            urgent = pool.options(priority=10, retries=3)
            urgent.submit(send, order)

        What is not given, or None, stays as it is.

        Args:
            name: what the jobs are called in logs and ``repr``, instead of the function's name.
            timeout: how long each attempt may run, in seconds; ``math.inf``: no limit. A job that
                runs longer ends with `JobTimeout`.
            priority: any whole number, 0 by default; a job with a higher priority starts first.
            key: an identifier, such as a string, a number or a tuple of them, or a function that
                derives one from the job's arguments. At most `key_limit` jobs of one key run at
                once, in the order in which they were queued; other jobs overtake them.
            key_limit: how many jobs of one key may run at once, 1 or more; 1 by default.
            serial: each job waits until the previous one of its key has succeeded, retries
                included. If that fails, the jobs behind it end with `PredecessorFailed`; one that
                was cancelled or dropped before it started stops none of them. `key_limit` must be
                left out.
            fair_by: an identifier, or a function that derives one from the job's arguments: among
                jobs of one priority these take turns, however many jobs each of them has waiting.
                Jobs without `fair_by`, or for which it returns None, share the turns of one more.
            fair_weights: turns in a round of some of these, as ``{"gold": 3}``; 1 by default.
            max_concurrency: how many jobs of this view may run at once.
            rate: how many jobs of this view may start in a period: a `Rate`, or a text such as
                ``"100/minute"``.
            retries: how often a failed job is retried, 0 or more; 0 by default.
            backoff: the delays before retries: a `Backoff`, a number of seconds, or several of
                them, the last one being repeated; 0.25, 1, 20, 60 and 150 seconds by default.
            retry_on: exceptions that trigger a retry: a class, a tuple of classes, or a function
                that takes the exception and returns a bool; ``Exception`` by default. An exception
                group matches if any exception in it does.
            no_retry_on: exceptions that are never retried, in the same forms.
            persist: whether jobs go to the pool's store, if it has one; True by default.
            unique: in a pool with a store, of jobs that have not ended, there is one at most of
                the same function and arguments (True), or of the same key: a key, or a function
                that derives one from the job's arguments; the functions of a pool share keys.
                Another submission returns a job that stands for the first one's. Arguments are
                the same by position, by name and by default.
            replace: what another submission of a unique job does to the one that waits: True gives
                it its arguments, ``"time"`` also its time. So ``replace=True`` with ``after(10)``
                makes a call at most once in ten seconds, with the latest arguments, and
                ``"time"`` makes it when there was no submission for ten seconds. A job that runs is
                left alone, and another one is submitted.
            after: jobs that have to succeed before the jobs of this view start; also batches and
                chains. If one fails, they end with `PredecessorFailed`; if one is cancelled, so are
                they.
            middleware: objects with ``submit`` or ``run`` methods, called around every job, the
                first one outermost, inside those that are there; see `Middleware`.

        The limits `max_concurrency` and `rate` apply to what this returns and to everything
        derived from it, and not to jobs submitted elsewhere.

        Raises:
            TypeError: an option is unknown, or its value is of the wrong type.
            ValueError: a value is out of range.
        """
        return self._view_class(self, options)

    def using(self, connection: "sqlite3.Connection") -> "Submitter":
        """Return a view of the pool that stores jobs in the transaction of your own connection.

        They commit or vanish with whatever else that transaction writes::

            with closing(sqlite3.connect("jobs.db")) as connection, connection:
                connection.execute("INSERT INTO orders …")
                pool.using(connection).submit(send_receipt, order)

        A job has its `id` at once, begins after the commit, and ends with `JobLost` if there is
        none. Until then do not wait for it, and use nothing else of the pool in this thread: the
        transaction keeps others from writing. In a full queue jobs are refused at once.

        Args:
            connection: one to the very file that is the pool's store, of the standard library's
                ``sqlite3`` module. If it is not in a transaction, one begins, unless it is of the
                kind that commits each statement.

        Raises:
            TypeError: it is another module's connection.
            ValueError: it is one to another file; or the jobs would not be stored in a file.
        """
        store = self._core.store
        if store is None or not self._policy.is_durable:
            raise ValueError(
                "using() is for jobs that are stored in a file, as those of "
                'Pool("name", store="sqlite:///jobs.db") are'
            )
        store.check_connection(connection)
        return self._view_class(self, {}, connection)

    async def ashutdown(
        self,
        wait: bool = True,
        *,
        cancel_futures: bool = False,
        timeout: Seconds | None = None,  # noqa: ASYNC109  (what is not done then goes on)
    ) -> None:
        """Shut down as `Pool.shutdown` does, without blocking the event loop.

        ``async with pool`` does this at its end. If the task that waits is cancelled, the pool
        finishes its jobs as with ``wait=False``.
        """
        shutdown: Callable[..., None] = self.shutdown
        end = partial(shutdown, wait, cancel_futures=cancel_futures, timeout=timeout)
        if self._core.ending.is_own_thread():
            end()  # it does not wait
            return
        from oddjob.runtime.event_loops import call_in_thread

        await call_in_thread(end, f"{self._core.label}-shutdown")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.ashutdown()
