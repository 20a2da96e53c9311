"""CoroutineRunner: the event loop on which a thread runs coroutines, one after the other.

Guarantees: tasks that a coroutine leaves running are cancelled before the next coroutine starts.
Locking: none. The runner belongs to its thread; other threads call `coroutine_of` and `cancel`
only. Asyncio is imported where it is needed, as most programs do without it.
"""

import sys
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any

from oddjob.tracebacks import drop_own_frames

if TYPE_CHECKING:
    import asyncio

    from oddjob.runtime.job import Job


class CoroutineRunner:
    """Runs coroutines for one thread; the first one makes the loop."""

    __slots__ = ("_coroutine", "_job", "_loop", "_runner")

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._job: Job[Any] | None = None  # whose coroutine is running
        self._coroutine: Coroutine[Any, Any, Any] | None = None

    def coroutine_of(self, job: object) -> Coroutine[Any, Any, Any] | None:
        """Return the coroutine of a job; None if it is not running. May be called by any thread."""
        return self._coroutine if self._job is job else None

    def cancel(self, job: object) -> None:
        """Cancel all tasks of a job's loop, if its coroutine is still running.

        Thread safety: any thread may call this.
        """
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it has been closed meanwhile
                loop.call_soon_threadsafe(self._cancel_tasks, job)

    def _cancel_tasks(self, job: object) -> None:
        import asyncio

        if self._job is job:
            for task in asyncio.all_tasks():
                task.cancel()

    def run(self, job: "Job[Any]", coroutine: Coroutine[Any, Any, Any], context: Context) -> Any:
        """Run the coroutine of a job to its end and return its result.

        Raises:
            CancelledError: the coroutine was cancelled, or let a cancellation through. It is the
                class of ``concurrent.futures``: asyncio's own is only a ``BaseException``.
            BaseException: whatever else the coroutine raised.
        """
        error: BaseException | None = None
        try:
            if is_loop_running():  # and no thread could be started to stand in: see `stand_in`
                raise RuntimeError("this thread runs another event loop")
            error, result = self._run_on_loop(job, coroutine, context)
            if error is not None:
                raise error
            return result
        finally:
            coroutine.close()  # it may not have been started
            del self, job, coroutine, context, error  # a traceback would keep them alive

    def _run_on_loop(
        self, job: "Job[Any]", coroutine: Coroutine[Any, Any, Any], context: Context
    ) -> tuple[BaseException | None, Any]:
        """Run a coroutine and cancel the tasks that it leaves; return its exception and result."""
        import asyncio

        if self._runner is None:
            self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._job, self._coroutine = job, coroutine
        outcome: list[tuple[BaseException | None, Any]] = []
        try:
            # Asked only now: a thread that cancelled the job earlier may have found no loop.
            if job.cancel_requested or job.done():
                return CancelledError(), None
            self._runner.run(_await_into(outcome, coroutine), context=context)
            return outcome.pop()
        except asyncio.CancelledError as cancellation:
            return CancelledError(*cancellation.args), None
        finally:
            try:
                self._cancel_leftovers()
            finally:  # also if Ctrl-C interrupts that
                self._job = self._coroutine = None
                del self, job, coroutine, context

    def close(self) -> None:
        """Close the event loop, if there is one."""
        if self._runner is not None:
            runner, self._runner, self._loop = self._runner, None, None
            runner.close()

    def _cancel_leftovers(self) -> None:
        """End the tasks that a coroutine has left: they must not run during the next one."""
        import asyncio

        assert self._loop is not None  # a coroutine was run on it  # noqa: S101
        leftovers = asyncio.all_tasks(self._loop)
        for task in leftovers:
            task.cancel()
        if leftovers:
            self._loop.run_until_complete(asyncio.gather(*leftovers, return_exceptions=True))


def is_loop_running() -> bool:
    """Return whether the calling thread runs an event loop, and so cannot run another one."""
    asyncio = sys.modules.get("asyncio")
    try:
        return asyncio is not None and asyncio.get_running_loop() is not None
    except RuntimeError:
        return False


async def _await_into(
    outcome: list[tuple[BaseException | None, Any]], coroutine: Coroutine[Any, Any, Any]
) -> None:
    """Await a coroutine, and append its exception and its result to `outcome`.

    The exception must not pass through the event loop: its task would hold it, and frames in its
    traceback would hold the task, which is a reference cycle.
    """
    import asyncio

    try:
        outcome.append((None, await coroutine))
    except asyncio.CancelledError:
        raise  # if Ctrl-C has cancelled the task, `asyncio.Runner` raises KeyboardInterrupt instead
    except BaseException as error:
        drop_own_frames(error)
        outcome.append((error, None))
    finally:
        del outcome
