"""Submitting to a store from an event loop, which must not wait for a commit.

A thread of the loop's executor waits instead. If the submitting task is cancelled meanwhile, the
job may be stored all the same. Then the job is cancelled: by the thread of the executor if it has
not finished, else by a new thread.
"""

import asyncio
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from oddjob.log import run_in_thread
from oddjob.runtime.job import Job


async def submit_in_loop(accept: Callable[[Job[Any]], None], job: Job[Any]) -> None:
    """Store a job with `accept`, in another thread; raises what that raises."""
    lock = threading.Lock()  # guards these two
    is_stored = is_abandoned = False

    def store() -> None:
        nonlocal is_stored
        accept(job)
        with lock:
            is_stored = True
            must_cancel = is_abandoned
        if must_cancel:
            job.cancel()

    loop, context = asyncio.get_running_loop(), copy_context()
    stored = loop.run_in_executor(None, lambda: context.run(store))
    try:
        await asyncio.shield(stored)
    except asyncio.CancelledError:
        with lock:
            is_abandoned = True
            must_cancel = is_stored
        if must_cancel:
            run_in_thread(job.cancel, "oddjob-cancel")
        raise
