"""Wait for jobs in trio; in asyncio too, so that code for AnyIO needs one form only.

``await job`` is for asyncio alone.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from oddjob import Job
from oddjob.runtime.awaiting import cancel_unshared, remove_callback

if TYPE_CHECKING:
    import trio.lowlevel

T = TypeVar("T")


async def wait(job: Job[T]) -> T:
    """Wait until a job has ended, and return what it returned.

    If the task that waits is cancelled, a job that has not started is cancelled as well, unless it
    is others', too: one that was found in a store, or is stored once for several submitters.

    Raises:
        concurrent.futures.CancelledError: the job was cancelled. (In asyncio
            ``asyncio.CancelledError``, as from ``await job``.)
        TypeError: it is no job.
        RuntimeError: no event loop is running.
        BaseException: whatever the job raised.
    """
    if not isinstance(job, Job):
        raise TypeError(f"wait() takes a Job, as pool.submit(fn) returns it, not {job!r}")
    token = _trio_token()
    if token is None:
        return await job
    if not job.done():
        await _until_ended(job, token)
    return job.result(0)


def _trio_token() -> "trio.lowlevel.TrioToken | None":
    """Return what other threads call the running trio by; None in asyncio."""
    try:
        import trio.lowlevel

        return trio.lowlevel.current_trio_token()
    except (ImportError, RuntimeError):
        return None


async def _until_ended(job: Job[Any], token: "trio.lowlevel.TrioToken") -> None:
    import trio

    ended = trio.Event()

    def wake(_: object) -> None:
        with suppress(trio.RunFinishedError):  # the loop has gone; the job's thread goes on
            token.run_sync_soon(ended.set)

    job.add_done_callback(wake)
    try:
        await ended.wait()
    except trio.Cancelled:
        cancel_unshared(job)
        raise
    finally:
        remove_callback(job, wake)
