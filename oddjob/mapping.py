"""The iterators behind ``map``, and the progress bar around it and `progress`.

Guarantees: an iterator that is closed, dropped, or raises cancels its jobs that have not started.
(Not one of which no result was read: as in the standard library, ``map`` may be used as a loop.)
"""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, as_completed
from contextlib import suppress
from itertools import islice
from math import inf
from operator import length_hint
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TextIO, TypeVar, Unpack, overload

from oddjob.callables import call_all
from oddjob.compat import AsyncFunction, T, TypedDict, override
from oddjob.hints import HintedAttributes, check_function
from oddjob.quantities import Seconds, as_size, as_wait, as_whole_number
from oddjob.runtime.job import Job
from oddjob.schedule.clock import clock

if TYPE_CHECKING:
    from oddjob.submitter import Submitter

_REDRAW: Final = 0.1  # seconds

AnyFuture = TypeVar("AnyFuture", bound=Future[Any])


class MapOptions(TypedDict, total=False):
    """The keyword arguments of `Pool.map`, but for that which changes the type of the results."""

    timeout: Seconds | None
    chunksize: int
    buffersize: int | None
    ordered: bool
    progress: bool | str


class MapMethods(HintedAttributes, Executor):
    """The methods that call a function for many items, and iterate over the results."""

    @overload
    def map(
        self, fn: AsyncFunction[..., T], *iterables: Iterable[Any], **options: Unpack[MapOptions]
    ) -> Iterator[T]: ...
    @overload
    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], **options: Unpack[MapOptions]
    ) -> Iterator[T]: ...
    @overload
    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        return_exceptions: bool,
        **options: Unpack[MapOptions],
    ) -> Iterator[Any]: ...
    @override
    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **options: Any) -> Any:
        """Iterate over the results of ``fn`` for the items of `iterables`, in their order.

        Without ``buffersize``, the iterables are read and the jobs queued before this returns. When
        an iterator raises, is closed or is dropped before its end, those of its jobs that have not
        started are cancelled; but if no result was read from it, they all run.

        Args:
            fn: called with one item of each iterable.
            *iterables: read in parallel, until the shortest ends.
            **options: ``timeout`` (None): the time from this call within which each result has to
                be there, in seconds. ``chunksize`` (1): how many jobs to queue in one insertion.
                ``buffersize`` (None, no limit): how many jobs may be ahead of the reader, 1 or
                more. ``ordered`` (True): if False, each result comes as soon as it is there.
                ``return_exceptions`` (False): the exception of a job that has failed, or was
                cancelled, comes in place of its result, and does not end the iteration.
                ``progress`` (False): show a bar of how many results have been read, with this title
                if it is a text; see `oddjob.progress`.

        Raises:
            BaseException: while iterating, what a job raised, unless ``return_exceptions``.
            TimeoutError: while iterating, if a result was not there in time.
        """
        check_function(fn)
        total = min((length_hint(each, -1) for each in iterables), default=0)
        return self._map("map", fn, zip(*iterables, strict=False), total, options)

    @overload
    def starmap(
        self,
        fn: AsyncFunction[..., T],
        iterable: Iterable[Iterable[Any]],
        **options: Unpack[MapOptions],
    ) -> Iterator[T]: ...
    @overload
    def starmap(
        self, fn: Callable[..., T], iterable: Iterable[Iterable[Any]], **options: Unpack[MapOptions]
    ) -> Iterator[T]: ...
    @overload
    def starmap(
        self,
        fn: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        *,
        return_exceptions: bool,
        **options: Unpack[MapOptions],
    ) -> Iterator[Any]: ...
    def starmap(
        self, fn: Callable[..., Any], iterable: Iterable[Iterable[Any]], **options: Any
    ) -> Any:
        """Iterate over the results of ``fn(*arguments)`` for the `arguments` in an iterable.

        As ``itertools.starmap`` does, and in all else as `map`, which has the same options.
        """
        check_function(fn)
        return self._map("starmap", fn, map(tuple, iterable), length_hint(iterable, -1), options)

    def _map(
        self, caller: str, fn: Callable[..., Any], calls: Any, total: int, options: dict[str, Any]
    ) -> Iterator[Any]:
        """Do what a method says, of the name `caller`; see `map_calls`."""
        raise NotImplementedError


class How(NamedTuple):
    """The options of `Pool.map`."""

    timeout: Seconds | None = None
    chunksize: int = 1
    buffersize: int | None = None
    ordered: bool = True
    return_exceptions: bool = False
    progress: bool | str = False


def map_calls(
    submitter: "Submitter", fn: Callable[..., Any], calls: Iterator[Any], total: int, how: How
) -> Iterator[Any]:
    """Do what `Pool.map` says.

    Args:
        submitter: queues the jobs.
        fn: called once for each item of `calls`.
        calls: tuples of arguments.
        total: how many of them there are; negative if that is unknown.
        how: the options of `Pool.map`.
    """
    deadline = clock.steady() + as_wait("timeout", how.timeout)
    buffersize = None if how.buffersize is None else as_size("buffersize", how.buffersize)
    chunksize = as_whole_number("chunksize", how.chunksize)
    jobs: deque[Job[Any]] = deque()
    ended: SimpleQueue[Any] | None = None if how.ordered else SimpleQueue()

    def queue(count: int | None) -> None:
        """Queue some of the calls, or all, and add each job to `jobs` as soon as it is queued."""
        wanted = islice(calls, count)
        if chunksize <= 1:
            for args in wanted:
                jobs.append(submitter.submit(fn, *args))
                if ended is not None:
                    jobs[-1].add_done_callback(ended.put)
            return
        while chunk := list(islice(wanted, chunksize)):
            batch = submitter._accept_batch(submitter._policy, fn, chunk, None)
            jobs.extend(batch)
            if ended is not None:
                for job in batch:
                    job.add_done_callback(ended.put)

    try:
        queue(buffersize)
    except BaseException:
        call_all(job.cancel for job in jobs)
        raise
    more: Callable[[int], None] | None = queue
    if buffersize is None:
        more, total = None, len(jobs)
    results = _results_of(jobs, ended, deadline, more, how.return_exceptions)
    return _shown(results, total, how.progress)


def _shown(results: Iterator[Any], total: int, progress: bool | str) -> Iterator[Any]:
    if not progress:
        return results
    title = progress if isinstance(progress, str) else None
    return _with_bar(results, None if total < 0 else total, title)


def _results_of(
    jobs: deque[Job[Any]],
    ended: SimpleQueue[Any] | None,
    deadline: float,
    queue: Callable[[int], None] | None,
    return_exceptions: bool,
) -> Iterator[Any]:
    """Yield the result of each job, which leaves `jobs` then; `queue` may add another one.

    Without `queue`, this does not refer to the pool: an anonymous pool without other references may
    be collected while its results are read.

    Args:
        jobs: in the order of the items.
        ended: gets each job that has ended, if their results are to be read in that order.
        deadline: until when to wait, in steady seconds.
        queue: queues some more of the calls.
        return_exceptions: yield what a job has raised.
    """
    try:
        while jobs:  # and refer to no result meanwhile
            yield _next_result(jobs, ended, deadline, queue, return_exceptions)
    finally:
        call_all(job.cancel for job in jobs)
        del jobs, ended, queue  # an exception that is raised here refers to this frame


def _next_result(
    jobs: deque[Job[Any]],
    ended: SimpleQueue[Any] | None,
    deadline: float,
    queue: Callable[[int], None] | None,
    return_exceptions: bool,
) -> object:
    job = None
    try:
        # The job stays in the deque until it has ended: until then it can be cancelled.
        job = jobs[0] if ended is None else _next_ended(jobs[0], ended, deadline)
        left = deadline - clock.steady()
        result = _outcome_of(job, left) if return_exceptions else job.result(left)
        jobs.remove(job)  # it is one of the first
        if queue is not None:
            queue(1)
        return result
    finally:
        del job, jobs, ended, queue  # an exception that is raised here refers to this frame


def _next_ended(first: Job[Any], ended: SimpleQueue[Any], deadline: float) -> Any:
    if ended.empty():  # on a worker of the pool, a job may have to run here
        first._policy.core.run_where_awaited(first, deadline)
    left = deadline - clock.steady()
    try:
        return ended.get(timeout=None if left == inf else max(0.0, left))
    except Empty:
        raise TimeoutError from None
    finally:
        del first


def _outcome_of(job: Job[Any], timeout: float) -> object:
    """Return what a job has returned or raised."""
    try:
        error = job.exception(timeout)
    except CancelledError as cancelled:
        return cancelled.with_traceback(None)
    return job.result() if error is None else error


def progress(jobs: Iterable[AnyFuture], *, title: str | None = None) -> Iterator[AnyFuture]:
    """Iterate over jobs as they end, and show a progress bar on stderr.

    The bar is drawn by tqdm or rich, whichever is installed. Without either it is a line of text,
    if stderr is a terminal.

    Args:
        jobs: jobs, or any ``concurrent.futures.Future`` objects.
        title: text in front of the bar.

    Raises:
        TypeError: an item is not a job or future.
    """
    awaited = list(jobs)
    for each in awaited:
        if not isinstance(each, Future):
            raise TypeError(
                f"progress() shows how jobs end, and {each!r} is none; for the results of calls "
                "there is pool.map(fn, items, progress=True)"
            )
    return _with_bar(as_completed(awaited), len(awaited), title)


def _with_bar(items: Any, total: int | None, title: str | None = None) -> Iterator[Any]:
    """Yield the items of a generator, and show how many there have been."""
    advance, close = _new_bar(total, title)
    try:
        for item in items:
            advance()
            yield item
    finally:
        close()
        items.close()


def _new_bar(
    total: int | None, title: str | None
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return what advances a bar, and what removes it."""
    with suppress(ImportError):
        from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

        bar = tqdm(total=total, desc=title)
        return bar.update, bar.close
    with suppress(ImportError):
        from rich.console import Console
        from rich.progress import Progress

        bars = Progress(console=Console(stderr=True))
        task = bars.add_task(title or "jobs", total=total)
        bars.start()
        return (lambda: bars.advance(task)), bars.stop
    if sys.stderr is None or not sys.stderr.isatty():
        return (lambda: None), (lambda: None)
    bar = _TextBar(total, title or "jobs", sys.stderr)
    return bar.advance, bar.close


class _TextBar:
    """A line such as ``jobs: 120/1000 (12 %)``, which is written anew ten times a second."""

    def __init__(self, total: int | None, title: str, file: TextIO) -> None:
        self._total, self._title, self._file = total, title, file
        self._done, self._drawn_at = 0, -inf

    def advance(self) -> None:
        self._done += 1
        if clock.steady() - self._drawn_at >= _REDRAW:
            self._draw()

    def close(self) -> None:
        self._draw()
        print(file=self._file)

    def _draw(self) -> None:
        self._drawn_at = clock.steady()
        part = f"/{self._total} ({self._done * 100 // self._total} %)" if self._total else ""
        print(f"\r{self._title}: {self._done}{part}", end="", file=self._file, flush=True)
