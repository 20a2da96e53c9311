"""CoroutineRunner: the event loop on which a thread runs coroutines, kept from one to the next.

Guarantees: tasks that a coroutine leaves running are cancelled before the next one starts. A
coroutine that is run while the loop of its thread is busy (a coroutine waits for a job, which runs
in its place) gets a thread and a loop of its own, in which the pool's initializer has run.
Locking: none. The runner belongs to its thread, but for `find` and `cancel`. Asyncio is imported
where it is needed: most programs do without.
"""

from collections.abc import Coroutine
from concurrent.futures import CancelledError
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any

from oddjob.tracebacks import drop_own_frames

if TYPE_CHECKING:
    import asyncio

    from oddjob.runtime.job import Job
    from oddjob.runtime.slot import Slot

# What was raised, and what was returned. It is added to a list, as an exception that was raised
# through the event loop would be held there: see `_await_into`.
_Outcome = tuple[BaseException | None, Any]


class CoroutineRunner:
    """Runs coroutines for one thread; the loop is made when the first one comes."""

    __slots__ = ("_runner", "coroutine", "job", "loop", "nested")

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.job: Job[Any] | None = None  # whose coroutine is running
        self.coroutine: Coroutine[Any, Any, Any] | None = None  # for its stack
        self.nested: CoroutineRunner | None = None  # where one runs that this one waits for

    def find(self, job: "Job[Any]") -> "CoroutineRunner | None":
        """Return the runner, this one or a nested one, that runs the coroutine of a job."""
        if self.job is job:
            return self
        nested = self.nested  # another thread may change it
        return None if nested is None else nested.find(job)

    def cancel(self, job: object) -> None:
        """Cancel the coroutine of a job, if it is still running; from any thread."""
        loop = self.loop
        if loop is not None:
            with suppress(RuntimeError):  # it has been closed meanwhile
                loop.call_soon_threadsafe(self._cancel_tasks, job)

    def _cancel_tasks(self, job: object) -> None:
        import asyncio

        if self.job is job:
            for task in asyncio.all_tasks():
                task.cancel()

    def run(
        self,
        job: "Job[Any]",
        coroutine: Coroutine[Any, Any, Any],
        context: Context,
        slot: "Slot",
    ) -> Any:
        """Run the coroutine of a job to its end and return its result.

        Raises:
            CancelledError: the coroutine was cancelled, or let a cancellation through. It is the
                class of ``concurrent.futures``: asyncio's own is only a ``BaseException``.
            BaseException: whatever else the coroutine raised.
        """
        error: BaseException | None = None
        try:
            if self.nested is not None:  # the calling thread is that of the nested runner
                return self.nested.run(job, coroutine, context, slot)
            if self._is_busy():
                error, result = self._run_in_thread(job, coroutine, context, slot)
            else:
                error, result = self._run_here(job, coroutine, context)
            if error is not None:
                raise error
            return result
        finally:
            coroutine.close()  # in case that it was never begun
            del self, job, coroutine, context, slot, error

    def close(self) -> None:
        """Close the event loop, if there is one."""
        if self._runner is not None:
            runner, self._runner, self.loop = self._runner, None, None
            runner.close()

    def _is_busy(self) -> bool:
        if self.job is not None:
            return True
        import asyncio

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        return True  # a loop of other code, in a thread that is no worker

    def _run_here(
        self, job: "Job[Any]", coroutine: Coroutine[Any, Any, Any], context: Context
    ) -> _Outcome:
        import asyncio

        if self._runner is None:
            self._runner = asyncio.Runner()
        self.loop = self._runner.get_loop()
        self.job, self.coroutine = job, coroutine
        outcome: list[_Outcome] = []
        try:
            self._runner.run(_await_into(outcome, coroutine), context=context)
            return outcome.pop()
        except asyncio.CancelledError as cancellation:
            return CancelledError(*cancellation.args), None
        finally:
            try:
                self._cancel_leftovers()
            finally:  # or the runner would be busy for ever after a Ctrl-C in there
                self.job = self.coroutine = None
                del job, coroutine, context  # a traceback would keep them alive

    def _cancel_leftovers(self) -> None:
        """End the tasks that a coroutine has left running: they must not run inside the next."""
        import asyncio

        assert self.loop is not None  # a coroutine was run on it  # noqa: S101
        leftovers = asyncio.all_tasks(self.loop)
        for task in leftovers:
            task.cancel()
        if leftovers:
            self.loop.run_until_complete(asyncio.gather(*leftovers, return_exceptions=True))

    def _run_in_thread(
        self,
        job: "Job[Any]",
        coroutine: Coroutine[Any, Any, Any],
        context: Context,
        slot: "Slot",
    ) -> _Outcome:
        """Run it on a loop of its own in a new thread, while this one waits."""
        self.nested = nested = CoroutineRunner()
        outcome: list[_Outcome] = []
        run = partial(nested._run_into, outcome, job, coroutine, context)
        try:
            thread = slot.core.workers.start_nested(slot, run)
            thread.join()
            if not outcome:
                return RuntimeError(f"{thread.name} was killed before {job.name} had run"), None
            return outcome.pop()
        finally:
            self.nested = None
            del job, coroutine, context, slot, run

    def _run_into(self, outcome: list[_Outcome], *call: Any) -> None:
        try:
            outcome.append(self._run_here(*call))
        except BaseException as error:
            outcome.append((error, None))
        finally:
            self.close()
            del call


async def _await_into(outcome: list[_Outcome], coroutine: Coroutine[Any, Any, Any]) -> None:
    """Await a coroutine, and add its end to `outcome`.

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
