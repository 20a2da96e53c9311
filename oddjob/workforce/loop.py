"""JobLoop: the event loop on which a thread runs coroutines, kept from one to the next."""

from collections.abc import Coroutine
from concurrent.futures import CancelledError
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any

from oddjob.job import Job
from oddjob.marks import Mark
from oddjob.workforce.tally import Tally

if TYPE_CHECKING:
    import asyncio

__all__ = ["JobLoop"]


class JobLoop:
    """What a thread needs to run jobs: an event loop, made when the first coroutine comes.

    It also remembers which jobs the thread runs while others wait for them (``in_place``, the
    innermost last), for whoever has to clear up after it.

    Locking: none; it belongs to its thread, but for `cancel`, and for reading what it runs.
    """

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.thread = Mark()  # that of nobody yet
        self.in_place: list[Job[Any]] = []
        self._runner: asyncio.Runner | None = None
        self._busy = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self.job: Job[Any] | None = None  # whose coroutine is running
        self.coroutine: Coroutine[Any, Any, Any] | None = None  # the one that is running

    def base(self) -> Job[Any] | None:
        """What the thread was hired to run: a coroutine's job, or what its worker has in hand."""
        return self.job or self.tally.turn[1]

    def begin_in_place(self, job: Job[Any]) -> None:
        """Remember that the thread is to run a job while another of its jobs waits for it."""
        self.in_place.append(job)
        self.tally.begin_in_place(job)

    def clear_places(self, depth: int, crash: BaseException) -> None:
        """End what is left of those jobs beyond the first `depth`, the innermost first.

        Those that have ended let go of their limits. One that this thread has not, or not yet,
        claimed is left alone. Twice does no harm.
        """
        while len(self.in_place) > depth:
            job = self.in_place[-1]
            is_ours = job.is_run_by(self.thread)
            if is_ours and job.done():
                job.let_go()
            elif is_ours:
                job.rescue(crash, self.thread)
            self.tally.end_in_place(job, counts=is_ours)
            self.in_place.pop()

    @property
    def is_busy(self) -> bool:
        """Whether a coroutine is running on it: it then cannot run another."""
        return self._busy

    def cancel(self, job: object) -> None:
        """Cancel the coroutine of that job, if it still runs; from any thread."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it has been closed meanwhile
                loop.call_soon_threadsafe(self._cancel, job)

    def _cancel(self, job: object) -> None:
        import asyncio

        if self.job is job:
            for task in asyncio.all_tasks():
                task.cancel()

    def run(self, job: Job[Any], coroutine: Coroutine[Any, Any, Any], context: Context) -> Any:
        """Run the coroutine of a job to its end and return what it returned.

        Raises:
            CancelledError: the coroutine was cancelled, or let a cancellation through. To a
                thread that is no order to stop, as asyncio's own class would be.
            BaseException: whatever else the coroutine raised.
        """
        import asyncio

        if self._runner is None:
            self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self.job = job
        self.coroutine = coroutine
        self._busy = True
        try:
            return self._runner.run(coroutine, context=context)
        except asyncio.CancelledError as error:
            raise CancelledError(*error.args) from error
        finally:
            self.job = self.coroutine = None
            self._cancel_leftovers(self._runner.get_loop())
            self._busy = False

    def _cancel_leftovers(self, loop: "asyncio.AbstractEventLoop") -> None:
        """End the tasks that a coroutine has left running: they must not run inside the next."""
        import asyncio

        leftovers = asyncio.all_tasks(loop)
        for task in leftovers:
            task.cancel()
        if leftovers:
            loop.run_until_complete(asyncio.gather(*leftovers, return_exceptions=True))

    def close(self) -> None:
        """Close the event loop, if there is one."""
        if self._runner is not None:
            runner, self._runner, self._loop = self._runner, None, None
            runner.close()
