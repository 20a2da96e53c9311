"""JobGroup: structured concurrency for jobs, after the model of ``asyncio.TaskGroup``.

Guarantees: when the block is left, every job of the group has ended. The first failure cancels
the jobs that have not started and coroutines, and every failure is raised where the block ends.
"""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future, wait
from functools import partial
from typing import TYPE_CHECKING, Any, Self, overload

from oddjob.callables import call_all
from oddjob.compat import AsyncFunction, Item, P, T
from oddjob.errors import GroupClosed
from oddjob.runtime.in_place import run_if_no_worker_will
from oddjob.runtime.job import Job
from oddjob.runtime.job_state import Failure
from oddjob.runtime.settling import failure_of, run_callbacks, settle_or_interrupt
from oddjob.runtime.shared_state import QuickCallback

if TYPE_CHECKING:
    from oddjob.submitter import Submitter


class JobGroup:
    """The jobs of one ``with pool.group()`` or ``async with pool.group()`` block.

    Leaving the block waits for all jobs. If one fails, or the block raises, the jobs that have not
    started are cancelled, and so are the coroutines that run; the group takes no more. A function
    that runs is asked to stop: see `Job.cancel_requested`. At the end of the block the failure is
    raised as it is, or an ``ExceptionGroup`` if there are several. A job that you cancel is no
    failure.

    Thread safety: jobs may be added from any thread, including by jobs of the group.
    """

    # `_lock` guards the fields below it; nothing is called under it.

    def __init__(self, target: "Submitter") -> None:
        self._target = target
        self._lock = threading.RLock()
        # Jobs, and a future for each call of `submit` that has not returned yet.
        self._members: dict[Future[Any], None] = {}
        self._why_closed: str | None = None

    @property
    def jobs(self) -> list[Job[Any]]:
        """The jobs that have been submitted, in that order."""
        with self._lock:
            return [each for each in self._members if isinstance(each, Job)]

    @overload
    def submit(self, fn: AsyncFunction[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Job[T]: ...
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
        self, fn: AsyncFunction[[Item], T], iterable: Iterable[Item]
    ) -> list[Job[T]]: ...
    @overload
    def submit_many(self, fn: Callable[[Item], T], iterable: Iterable[Item]) -> list[Job[T]]: ...
    def submit_many(self, fn: Callable[..., Any], iterable: Iterable[Any]) -> list[Job[Any]]:
        """Queue ``fn(item)`` for every item; see `Pool.submit_many`. Raises like `submit`."""
        return self._adopt(lambda: self._target.submit_many(fn, iterable))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            try:
                if error is not None:
                    self._stop("its block has raised an exception")
                self._wait()
            except BaseException:  # for example Ctrl-C; a second one ends the wait below
                self._stop("waiting for it was interrupted")
                self._wait()
                raise
            self._raise_failures(error, is_cancellation=isinstance(error, CancelledError))
        finally:
            del self, error  # an exception that is raised here refers to this frame

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import asyncio
        from asyncio import wrap_future

        from oddjob.runtime.awaiting import until_ended

        cancellation: asyncio.CancelledError | None = None
        each = None
        try:
            if error is not None:
                self._stop("its block has raised an exception")
            while unfinished := self._unfinished():
                for each in unfinished:
                    try:
                        await (until_ended(each) if isinstance(each, Job) else wrap_future(each))
                    except asyncio.CancelledError as again:
                        cancellation = again
                        self._stop("its task was cancelled")
            task = asyncio.current_task()
            is_cancelled = task is not None and task.cancelling() > 0
            is_cancellation = isinstance(error, CancelledError | asyncio.CancelledError)
            self._raise_failures(error, is_cancellation=is_cancellation and not is_cancelled)
            if cancellation is not None:
                raise cancellation
        finally:
            # An exception that is raised here refers to this frame.
            del self, error, cancellation, each

    def _adopt(self, submit: Callable[[], list[Job[Any]]]) -> list[Job[Any]]:
        """Submit jobs of the group; the end of the block waits for this call, too."""
        call: Future[None] = Future()
        with self._lock:
            if self._why_closed is not None:
                raise GroupClosed(f"the group takes no more jobs: {self._why_closed}")
            self._members[call] = None
        jobs: list[Job[Any]] = []
        try:
            jobs = submit()
        finally:
            with self._lock:
                del self._members[call]
                self._members.update(dict.fromkeys(jobs))
            call.set_result(None)
        for job in jobs:
            job.add_done_callback(QuickCallback(self._job_ended))
        if self._why_closed is not None:
            self._stop(self._why_closed)
        return jobs

    def _job_ended(self, job: Job[Any]) -> list[Job[Any]]:
        return [] if _true_failure_of(job) is None else self._close("a job of it has failed")

    def _close(self, why: str) -> list[Job[Any]]:
        """Take no more jobs, and stop those that can be; return those that had not started."""
        with self._lock:
            self._why_closed = self._why_closed or why
        return [job for job in self.jobs if settle_or_interrupt(job)]

    def _stop(self, why: str) -> None:
        call_all(partial(run_callbacks, job) for job in self._close(why))

    def _unfinished(self) -> list[Future[Any]]:
        """Return what has not ended; if nothing, close the group."""
        with self._lock:
            unfinished = [each for each in self._members if not each.done()]
            if not unfinished:
                self._why_closed = self._why_closed or "its block has been left"
            return unfinished

    def _wait(self) -> None:
        while unfinished := self._unfinished():
            for each in unfinished:
                if not (isinstance(each, Job) and run_if_no_worker_will(each)):
                    wait([each])

    def _raise_failures(self, error: BaseException | None, *, is_cancellation: bool) -> None:
        """Raise what has failed; return to let `error`, which the block has raised, go on.

        If `error` says only that a job was cancelled, or that the group is closed, and a job has
        failed, then that failure is the cause, and is raised instead.
        """
        if error is not None and not (isinstance(error, Exception) or is_cancellation):
            return
        failures = [each for each in map(_true_failure_of, self.jobs) if each is not None]
        # `error` itself keeps its traceback, which leads through the block.
        found = [each.error if each.error is error else each.exception() for each in failures]
        causes = {id(each): each for each in found}
        if error is not None and not (
            causes and (is_cancellation or isinstance(error, GroupClosed))
        ):
            causes = {id(error): error, **causes}
        raised = list(causes.values())
        try:
            if len(raised) > 1:
                raise BaseExceptionGroup(f"{len(raised)} failures in a group of jobs", raised)
            if raised and raised[0] is not error:
                raise raised[0]
        finally:
            # What is raised here refers to this frame.
            del self, error, failures, found, causes, raised


def _true_failure_of(job: Job[Any]) -> Failure | None:
    """Return how a job failed; None also if it failed because it was cancelled while it ran."""
    failure = failure_of(job)
    return None if failure is None or isinstance(failure.error, CancelledError) else failure
