"""Submitting to a store from an event loop, which must not wait for a commit.

A thread of the loop's executor waits for it. If the task that submits is cancelled meanwhile, the
job may be stored all the same; it is cancelled then, by that thread, or by another one if that is
through with it.
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
    is_stored = is_left = False

    def store() -> None:
        nonlocal is_stored
        accept(job)
        with lock:
            is_stored, must_cancel = True, is_left
        if must_cancel:
            job.cancel()

    loop, context = asyncio.get_running_loop(), copy_context()
    stored = loop.run_in_executor(None, lambda: context.run(store))
    try:
        await asyncio.shield(stored)
    except asyncio.CancelledError:
        with lock:
            is_left, is_too_late = True, is_stored
        if is_too_late:
            run_in_thread(job.cancel, "oddjob-cancel")
        raise
