"""Threads of this library: daemons, so that the end of the process goes by rules of its own.

Before it ends, every pool is finished (see `oddjob.runtime.lifecycle`), but for what its user has
given up: jobs that hang, say. To the interpreter, such threads have to be daemons.

An isolated sub-interpreter (PEP 734) has no daemons. Its end waits for all threads, as it does for
those of ``ThreadPoolExecutor``: also for a job that hangs.
"""

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from oddjob.compat import override

_MAY_BE_DAEMONS: Final = bool(getattr(threading, "_daemon_threads_allowed", lambda: True)())


def new_thread(target: Callable[[], object], name: str) -> threading.Thread:
    """Return a thread of the library's own, not started yet."""
    return threading.Thread(target=target, name=name, daemon=_MAY_BE_DAEMONS)


class ServiceThread(threading.Thread):
    """A thread that others depend on, so that no code of a user's may hold it up."""

    def __init__(self, target: Callable[[], object], name: str) -> None:
        super().__init__(target=target, name=name, daemon=_MAY_BE_DAEMONS)


class JobThread(threading.Thread):
    """A thread that runs jobs: a daemon, whose child threads are not daemons.

    A thread that a job starts must not be a daemon by inheritance: it would die with the main
    thread. It would inherit ``current_thread().daemon``, so that says False once the worker runs.
    """

    @property
    @override
    def daemon(self) -> bool:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the interpreter does not wait for it; False where a child asks."""
        return _MAY_BE_DAEMONS and not self.is_alive()


def name_of_caller() -> str:
    """Return the name of the asyncio task that calls, or else of the thread."""
    asyncio = sys.modules.get("asyncio")  # where it is not loaded, there is no task
    with suppress(RuntimeError):  # no loop is running
        task = None if asyncio is None else asyncio.current_task()
        if task is not None:
            return str(task.get_name())
    return threading.current_thread().name


def is_own(thread: threading.Thread) -> bool:
    """Return whether a thread that is no daemon is the library's, or may be."""
    return not _MAY_BE_DAEMONS or isinstance(thread, JobThread)
