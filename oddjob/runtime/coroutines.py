"""CoroutineRunner: the event loop on which a thread runs coroutines, kept from one to the next.

Guarantees: tasks that a coroutine leaves running are cancelled before the next one starts.
Locking: none. The runner belongs to its thread, but for `coroutine_of` and `cancel`. Asyncio is
imported where it is needed: most programs do without.
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
    """Runs coroutines for one thread; the loop is made when the first one comes."""

    __slots__ = ("_coroutine", "_job", "_loop", "_runner")

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._job: Job[Any] | None = None  # whose coroutine is running
        self._coroutine: Coroutine[Any, Any, Any] | None = None

    def coroutine_of(self, job: object) -> Coroutine[Any, Any, Any] | None:
        """Return the coroutine of a job if it is running; from any thread."""
        return self._coroutine if self._job is job else None

    def cancel(self, job: object) -> None:
        """Cancel the coroutine of a job, if it is still running; from any thread."""
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
        import asyncio

        outcome: list[tuple[BaseException | None, Any]] = []
        error: BaseException | None = None
        try:
            if is_loop_running():  # and no thread could be started to stand in: see `stand_in`
                raise RuntimeError("this thread runs another event loop")
            if self._runner is None:
                self._runner = asyncio.Runner()
            self._loop = self._runner.get_loop()
            self._job, self._coroutine = job, coroutine
            try:
                # Asked only now: a thread that has cancelled it before may have found no loop.
                if job.cancel_requested or job.done():
                    raise CancelledError
                self._runner.run(_await_into(outcome, coroutine), context=context)
                error, result = outcome.pop()
            except asyncio.CancelledError as cancellation:
                error, result = CancelledError(*cancellation.args), None
            finally:
                try:
                    self._cancel_leftovers()
                finally:  # also if Ctrl-C comes in there
                    self._job = self._coroutine = None
            if error is not None:
                raise error
            return result
        finally:
            coroutine.close()  # in case that it was never begun
            del self, job, coroutine, context, error  # a traceback would keep them alive

    def close(self) -> None:
        """Close the event loop, if there is one."""
        if self._runner is not None:
            runner, self._runner, self._loop = self._runner, None, None
            runner.close()

    def _cancel_leftovers(self) -> None:
        """End the tasks that a coroutine has left running: they must not run inside the next."""
        import asyncio

        assert self._loop is not None  # a coroutine was run on it  # noqa: S101
        leftovers = asyncio.all_tasks(self._loop)
        for task in leftovers:
            task.cancel()
        if leftovers:
            self._loop.run_until_complete(asyncio.gather(*leftovers, return_exceptions=True))


def is_loop_running() -> bool:
    """Return whether the calling thread runs an event loop; it can run no other one then."""
    asyncio = sys.modules.get("asyncio")
    try:
        return asyncio is not None and asyncio.get_running_loop() is not None
    except RuntimeError:
        return False


async def _await_into(
    outcome: list[tuple[BaseException | None, Any]], coroutine: Coroutine[Any, Any, Any]
) -> None:
    """Await a coroutine, and add what it has raised, and returned, to `outcome`.

    An exception that passes through the event loop would be held by the task, and that by frames
    to which the exception refers.
    """
    import asyncio

    try:
        outcome.append((None, await coroutine))
    except asyncio.CancelledError:  # it has to reach the task, which may have been interrupted
        raise
    except BaseException as error:
        drop_own_frames(error)
        outcome.append((error, None))
    finally:
        del outcome
