"""The iterators behind ``map``, and the progress bar around it and `progress`.

Guarantees: an iterator that is closed, dropped, or raises cancels its jobs that have not started.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from contextlib import suppress
from itertools import islice
from operator import length_hint
from typing import TYPE_CHECKING, Any, TypeVar

from oddjob.callables import call_all
from oddjob.compat import TypedDict
from oddjob.quantities import Seconds, as_size, as_wait
from oddjob.runtime.job import Job
from oddjob.schedule.clock import clock

if TYPE_CHECKING:
    from oddjob.submitter import Submitter

AnyFuture = TypeVar("AnyFuture", bound=Future[Any])


class MapOptions(TypedDict, total=False):
    """The keyword arguments of `Pool.map`."""

    timeout: Seconds | None
    chunksize: int
    buffersize: int | None
    progress: bool


def map_calls(
    submitter: "Submitter",
    fn: Callable[..., Any],
    iterables: Sequence[Iterable[Any]],
    timeout: Seconds | None,
    chunksize: int,
    buffersize: int | None,
    *,
    progress: bool,
) -> Iterator[Any]:
    """Do what `Pool.map` says."""
    deadline = clock.steady() + as_wait("timeout", timeout)
    if buffersize is not None:
        buffersize = as_size("buffersize", buffersize)
    total = min((length_hint(each, -1) for each in iterables), default=0)
    calls = zip(*iterables, strict=False)
    jobs: deque[Job[Any]] = deque()

    def queue(count: int | None) -> None:
        """Queue some of the calls, or all, and add each job to `jobs` as soon as it is queued."""
        wanted = islice(calls, count)
        if chunksize <= 1:
            for args in wanted:
                jobs.append(submitter.submit(fn, *args))
            return
        while chunk := list(islice(wanted, chunksize)):
            jobs.extend(submitter._accept_batch(submitter._policy, fn, chunk, None))

    try:
        queue(buffersize)
    except BaseException:
        call_all(job.cancel for job in jobs)
        raise
    if buffersize is None:
        results, total = _results_of(jobs, deadline, None), len(jobs)
    else:
        results = _results_of(jobs, deadline, queue)
    return _with_bar(results, None if total < 0 else total) if progress else results


def _results_of(
    jobs: deque[Job[Any]], deadline: float, queue: Callable[[int], None] | None
) -> Iterator[Any]:
    """Yield the result of each job, which leaves `jobs` then; `queue` may add another one.

    Unless it may, this does not refer to the pool: an anonymous one that is otherwise unreferenced
    may be collected while its results are read.
    """
    try:
        while jobs:
            yield _next_result(jobs, deadline, queue)  # and refer to no result meanwhile
    finally:
        call_all(job.cancel for job in jobs)
        del jobs, queue  # an exception that is raised here refers to this frame


def _next_result(
    jobs: deque[Job[Any]], deadline: float, queue: Callable[[int], None] | None
) -> object:
    try:
        # The job stays in the deque until it has ended: until then it can be cancelled.
        result = jobs[0].result(deadline - clock.steady())
        jobs.popleft()
        if queue is not None:
            queue(1)
        return result
    finally:
        del jobs, queue  # an exception that is raised here refers to this frame


def progress(jobs: Iterable[AnyFuture], *, title: str | None = None) -> Iterator[AnyFuture]:
    """Iterate over jobs as they end, and show a progress bar on stderr.

    The bar is drawn by tqdm or rich, whichever is installed; without either there is none.

    Args:
        jobs: jobs, or any ``concurrent.futures.Future`` objects.
        title: text in front of the bar.
    """
    awaited = list(jobs)
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
    return (lambda: None), (lambda: None)
