"""The life of the process: its end, before which every queued job runs, and its children.

Worker threads are daemons. In place of the interpreter, which would wait for their ends, the pools
that have threads are finished here, at the moment at which ``concurrent.futures`` does the same. In
a forked child, which has none of the threads, every pool begins anew.
"""

import atexit
import concurrent.futures.thread
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from oddjob.callables import call_all
from oddjob.locks import ProcessLock, after_fork_in_child
from oddjob.log import log
from oddjob.schedule.scheduler import scheduler
from oddjob.threads import is_own

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore
    from oddjob.schedule.timer import Timer


class _Process(ProcessLock):
    """The pools of this process.

    Locking: ``lock`` guards the fields; nothing is called under it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_ending = False
        self.with_threads: set[PoolCore] = set()
        self.known: WeakSet[PoolCore] = WeakSet()
        self.end: Callable[[], object] | None = (
            None  # ends it as a signal does, if it waits for one
        )


_process: Final = _Process()
_executor_threads: Final[Any] = getattr(concurrent.futures.thread, "_threads_queues", ())
_NO_END: Final = "only oddjob worker and run_forever() can be asked"
_HINT: Final = "oddjob.run_forever() in the main thread waits for them"


def register(core: "PoolCore") -> None:
    """Have a pool begin anew in forked children."""
    with _process.lock:
        _process.known.add(core)


def begin_threads(core: "PoolCore") -> bool:
    """Have the end of the process finish a pool; return False if the process is ending already."""
    with _process.lock:
        if not _process.is_ending:
            _process.with_threads.add(core)
        return not _process.is_ending


def end_threads(core: "PoolCore") -> None:
    """Forget a pool whose threads have ended."""
    with _process.lock:
        _process.with_threads.discard(core)


def active_cores() -> "list[PoolCore]":
    """Return the pools that have threads, or a store."""
    with _process.lock:
        with_stores = {core for core in _process.known if core.store is not None}
        return list(_process.with_threads | with_stores)


def known_cores() -> "list[PoolCore]":
    """Return all pools that there are."""
    with _process.lock:
        return list(_process.known)


def refresh_all() -> None:
    """Have every pool take note that inline mode was switched on or off."""
    for core in known_cores():
        core.intake.refresh()


def may_be_asked_to_end(end: Callable[[], object] | None) -> None:
    """Have `end` called, by any thread, when this process is asked to end in a store."""
    with _process.lock:
        _process.end = end


def ask_to_end(store: str) -> None:
    """End the process as a signal does, if it waits for one; else log that it was asked."""
    with _process.lock:
        end = _process.end
    if end is not None:
        end()
    else:
        log(logging.WARNING, "%s: this process is asked to end, and does not: %s", store, _NO_END)


def _reset_after_fork() -> None:
    _process.with_threads.clear()
    _process.end = None  # it is the parent's
    for core in list(_process.known):
        core.reset_after_fork()


def _finish_all() -> None:
    try:
        scheduler.wait_for_keepers()
    finally:  # Ctrl-C ends that wait
        with _process.lock:
            _process.is_ending = True
            others = {core for core in _process.known if core.timers or core.store is not None}
            cores = _process.with_threads | others
        cancelled = [timer for core in cores for timer in core.ending.close_at_exit()]
        _report_cancelled(cancelled)
        call_all(core.ending.drain_at_exit for core in cores)


def _report_cancelled(timers: "list[Timer]") -> None:
    """Log that the end of the main thread has cancelled timers that were to go on, perhaps."""
    never_fired = sum(not timer.fired for timer in timers)
    others = [each.name for each in threading.enumerate() if _goes_on(each)]
    if timers and others:
        what = "the main thread has ended, and its timers (%d), while other threads go on: %s; %s"
        log(logging.WARNING, what, len(timers), ", ".join(others), _HINT)
    elif never_fired:
        what = "the process ends with timers that never fired (%d); %s"
        log(logging.WARNING, what, never_fired, _HINT)


def _goes_on(thread: threading.Thread) -> bool:
    """Return whether the process waits for a thread that is not a pool's, nor an executor's."""
    is_pooled = is_own(thread) or thread in _executor_threads
    return not (thread.daemon or is_pooled or thread is threading.main_thread())


after_fork_in_child(_reset_after_fork)
# ``atexit`` is too late, and forked ``multiprocessing`` children skip it. This is the hook of
# ``concurrent.futures.thread`` itself; it has no public name.
_at_end: Final[Any] = getattr(threading, "_register_atexit", atexit.register)
_at_end(_finish_all)
