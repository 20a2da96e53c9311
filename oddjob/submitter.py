"""Submitter: the ways to hand work to a workforce, shared by pools and their views."""

from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextvars import copy_context
from datetime import tzinfo
from functools import partial
from itertools import islice
from operator import length_hint
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from oddjob.bar import shown
from oddjob.function import JobDecorator, JobFunction
from oddjob.group import JobGroup
from oddjob.intake import Intake
from oddjob.job import Job
from oddjob.keys import SIMPLE_KEYS, Key, check_key
from oddjob.later import regularly
from oddjob.limited import with_key
from oddjob.results import cancel_all, results_of
from oddjob.schedule.clock import clock
from oddjob.schedule.local import Dst
from oddjob.terms import JobOptions, NewJob, OtherOptions, Terms, tells_key
from oddjob.workforce.workforce import Workforce

__all__ = ["PoolView", "Submitter"]

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")


class Submitter(Intake):
    """Everything by which jobs enter a pool.

    Thread safety: all methods may be called from any thread; `submit` and `perform` also from
    signal handlers and destructors.
    """

    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: bool = False,
    ) -> Iterator[T]: ...
    @overload
    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: bool = False,
    ) -> Iterator[T]: ...
    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: bool = False,
    ) -> Iterator[Any]:
        """Iterate over the results of ``fn`` for the items of `iterables`, in their order.

        The iterables are read, and the jobs queued, before this returns; with `buffersize` no
        more than that many jobs are ahead of the results that have been read. An iterator that
        has yielded something cancels the jobs not started when it raises, is closed or dropped.

        Args:
            fn: called with one item of each iterable.
            *iterables: read side by side, as far as the shortest goes.
            timeout: seconds from this call within which each result must be there.
            chunksize: how many jobs are queued in one insertion. Every item is a job of its own
                whatever it says.
            buffersize: how many jobs may be queued or running ahead of the reader, 1 or more.
            progress: show how many results have been read; see `oddjob.progress`.

        Raises:
            TimeoutError: while iterating, if a result was not there in time.
            ValueError, TypeError: `buffersize` is no such number.
        """
        deadline = None if timeout is None else timeout + clock.steady()
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        total = min((length_hint(each, -1) for each in iterables), default=0)
        calls = zip(*iterables, strict=False)
        jobs: deque[Job[Any]] = deque()
        try:
            self._queue_ahead(jobs, fn, islice(calls, buffersize), max(1, chunksize))
        except BaseException:
            cancel_all(jobs)
            raise
        feed = None
        if buffersize is not None:
            feed = partial(self._feed, jobs, fn, calls)
        else:
            total = len(jobs)
        results = results_of(jobs, deadline, feed)
        return shown(results, None if total < 0 else total) if progress else results

    def _feed(
        self, jobs: deque[Job[Any]], fn: Callable[..., Any], calls: Iterator[tuple[Any, ...]]
    ) -> None:
        self._queue_ahead(jobs, fn, islice(calls, 1), 1)

    def _queue_ahead(
        self,
        jobs: deque[Job[Any]],
        fn: Callable[..., Any],
        calls: Iterator[tuple[Any, ...]],
        chunksize: int,
    ) -> None:
        if type(self).submit not in (Intake.submit, KeyView.submit) or "submit" in vars(self):
            # Somebody's own submit has a say in each call, as in the standard library.
            for args in calls:
                jobs.append(self.submit(fn, *args))
            return
        workforce = self._workforce
        name = self._job_name
        new = self._new_job
        if chunksize == 1:
            for args in calls:
                job = new(fn, args, None, copy_context(), workforce, name, clock.monotonic())
                workforce.accept(job)
                jobs.append(job)
            return
        while chunk := list(islice(calls, chunksize)):
            now = clock.monotonic()
            batch = [new(fn, args, None, copy_context(), workforce, name, now) for args in chunk]
            workforce.accept_many(batch)
            jobs.extend(batch)

    def group(self) -> JobGroup:
        """A block of jobs that ends when all of them have: ``with pool.group() as group:``.

        ``async with`` does the same without holding up the event loop; see `JobGroup`.
        """
        return JobGroup(self)

    @overload
    def job(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /
    ) -> JobFunction[P, Coroutine[Any, Any, T], T]: ...
    @overload
    def job(self, fn: Callable[P, T], /) -> JobFunction[P, T, T]: ...
    @overload
    def job(
        self,
        /,
        *,
        every: float | None = None,
        cron: str | None = None,
        tz: str | tzinfo | None = None,
        dst: Dst | None = None,
        **options: Unpack[JobOptions],
    ) -> JobDecorator: ...
    def job(
        self,
        fn: Any = None,
        /,
        *,
        every: float | None = None,
        cron: str | None = None,
        tz: str | tzinfo | None = None,
        dst: Dst | None = None,
        **options: Unpack[JobOptions],
    ) -> Any:
        """Decorate a function whose jobs are to run in this pool; bare or with options.

        Takes what `options` takes, and for a function without arguments:

        Args:
            fn: the function, if there are no options.
            every: it is also to run by itself, every so many seconds; see `every`.
            cron: the same, as an entry of a crontab says; see `cron`.
            tz: the zone of that.
            dst: its policy for the nights when clocks change.
            **options: see `options`.

        Returns a `JobFunction`: calling it runs the function here and now, its ``submit``,
        ``perform`` and so on run it in the pool. Its ``timer`` is what runs it by itself.
        """
        target = self.options(**options) if options else self
        if every is not None or cron is not None or tz is not None or dst is not None:
            return JobDecorator(target, partial(regularly, target, every, cron, tz, dst))
        return JobDecorator(target) if fn is None else JobFunction(fn, target)

    def options(
        self,
        *,
        key: Key | Callable[..., Key] | None = None,
        **options: Unpack[OtherOptions],
    ) -> "Submitter":
        """A view of the pool with these options on every job.

        What is not given, or None, stays as it is.

        Args:
            key: what they have in common with others that must not run at the same time: a
                string, a number or the like, as an identifier is; or a function that tells it
                from a job's arguments. Those of one key start in the order in which they were
                queued.
            name: what the jobs are called in logs and `repr`, in place of the function's name.
            timeout: for how long each attempt may run, in seconds; ``math.inf`` for as long as it
                takes.
            priority: how urgent they are, any whole number, 0 if not given: the higher the sooner.
            key_limit: how many of one key may run at once, 1 or more; 1 if not given.
            serial: each waits until the one before it of its key has succeeded, its retries
                included. If that fails, those behind it end with `PredecessorFailed`.
            max_concurrency: how many of the jobs that are submitted here may run at once.
            rate: how many of them may start in how much time: a `Rate`, or ``"100/minute"``.
            retries: how often a job that fails is tried again, 0 or more; 0 if not given.
            backoff: after how long: a `Backoff`, or seconds, or the seconds before the first, the
                second and so on, the last of which stands for all others. If not given, 0.25, 1,
                20, 60 and 150 s.
            retry_on: exceptions, a class or several, that are worth another try; ``Exception`` if
                not given.
            give_up_on: those of them that are not.

        The limits `max_concurrency` and `rate` belong to what this returns, and to all that is
        derived from it: jobs submitted elsewhere do not count.

        Raises:
            TypeError: there is no such option, or its value is of the wrong type.
            ValueError: a value is out of range.
        """
        if not options and key is not None:
            is_simple = type(key) in SIMPLE_KEYS
            if is_simple or not tells_key(key):
                if not is_simple:
                    check_key(key)
                if self._kinds_by_key is None:
                    self._workforce.roster.organise()
                    self._kinds_by_key = self._terms.kinds_by_key()
                return KeyView(self, key)
        return PoolView(self, self._terms.but(key=key, **options))


class PoolView(Submitter):
    """A pool with options on every job; everything else is the pool's own.

    Thread safety: immutable.
    """

    def __init__(self, source: Submitter, terms: Terms) -> None:
        self._source = source
        self._offer(source._workforce, terms)

    def __repr__(self) -> str:
        return f"<{self._source!r} with {self._terms.told_apart_from(self._source._terms)}>"

    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, timeout: float | None = None
    ) -> None:
        """Shut the pool itself down; see `Pool.shutdown`."""
        shut_down: Callable[..., None] = self._source.shutdown
        shut_down(wait, cancel_futures=cancel_futures, timeout=timeout)


class KeyView(PoolView):
    """A pool with a key on every job: quick to make, as many are made for one job each.

    Thread safety: immutable.
    """

    def __init__(self, source: Submitter, key: Key) -> None:
        self._source = source
        self._key = key

    # The same as the inherited one, which is the one to be shown; in half the time, since views
    # of this kind are often made for one job each.
    if not TYPE_CHECKING:

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            source = self._source
            workforce = source._workforce
            job = source._kinds_by_key[0](
                fn,
                args,
                kwargs or None,
                copy_context(),
                workforce,
                source._job_name,
                clock.monotonic(),
            )
            job.key = self._key
            workforce.accept(job)
            return job

        submit.__doc__ = Intake.submit.__doc__
        submit.__wrapped__ = Intake.submit  # for who asks for its signature

    # What few ask for.

    @property
    def _workforce(self) -> Workforce:  # type: ignore[override]
        return self._source._workforce

    @property
    def _job_name(self) -> str | None:  # type: ignore[override]
        return self._source._job_name

    @property
    def _terms(self) -> Terms:  # type: ignore[override]
        return self._source._terms._replace(key=self._key)

    @property
    def _new_job(self) -> NewJob:  # type: ignore[override]
        return self._with_key(0)

    @property
    def _new_errand(self) -> NewJob:  # type: ignore[override]
        return self._with_key(1)

    def _with_key(self, kind: int) -> NewJob:
        kinds = self._source._kinds_by_key
        assert kinds is not None  # they were made before this was  # noqa: S101
        return partial(with_key, kinds[kind], self._key)
