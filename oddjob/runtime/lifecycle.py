"""Lifecycle: the pools of the process, its end and its forked children.

The end of the process waits until every queued job has run. Worker threads are daemons, so the
interpreter would not wait for them. Instead, the pools are finished here, at the moment at which
``concurrent.futures`` finishes its executors. In a forked child, which has none of the threads,
every pool begins anew.

Locking: one lock guards the fields of `_Process`; nothing is called under it.
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
    """What this module knows of the process."""

    def __init__(self) -> None:
        super().__init__()
        self.is_ending = False
        self.known: WeakSet[PoolCore] = WeakSet()  # all pools
        self.with_threads: set[PoolCore] = set()  # those that must not be collected yet
        # Ends the process as a signal does; None: it waits for no signal.
        self.end_handler: Callable[[], object] | None = None


_process: Final = _Process()
_executor_threads: Final[Any] = getattr(concurrent.futures.thread, "_threads_queues", ())
_NO_END_HANDLER: Final = "only oddjob worker and run_forever() can be asked"
_HINT: Final = "oddjob.run_forever() in the main thread waits for them"


def register(core: "PoolCore") -> None:
    """Make a pool known, so that it begins anew in forked children."""
    with _process.lock:
        _process.known.add(core)


def begin_threads(core: "PoolCore") -> bool:
    """Make the end of the process wait for a pool; return False if the process is ending."""
    with _process.lock:
        if not _process.is_ending:
            _process.with_threads.add(core)
        return not _process.is_ending


def end_threads(core: "PoolCore") -> None:
    """Forget a pool whose threads have ended."""
    with _process.lock:
        _process.with_threads.discard(core)


def known_cores() -> "list[PoolCore]":
    """Return all pools."""
    with _process.lock:
        return list(_process.known)


def active_cores() -> "list[PoolCore]":
    """Return the pools that have threads or a store."""
    with_threads = _process.with_threads
    return [core for core in known_cores() if core in with_threads or core.store is not None]


def set_end_handler(handler: Callable[[], object] | None) -> None:
    """Set the function that ends this process when another one asks for that through a store.

    Any thread may call the handler.
    """
    with _process.lock:
        _process.end_handler = handler


def request_end(store: str) -> None:
    """End the process as a signal does if there is a handler; log the request otherwise."""
    with _process.lock:
        handler = _process.end_handler
    if handler is not None:
        handler()
    else:
        message = "%s: this process is asked to end, and does not: %s"
        log(logging.WARNING, message, store, _NO_END_HANDLER)


def _reset_after_fork() -> None:
    _process.with_threads.clear()
    _process.end_handler = None  # it is the parent's
    for core in known_cores():
        core.reset_after_fork()


def _finish_all() -> None:
    try:
        scheduler.wait_for_keepers()
    finally:  # Ctrl-C ends that wait
        with _process.lock:
            _process.is_ending = True
        cores = {*active_cores(), *(core for core in known_cores() if core.timers)}
        cancelled = [timer for core in cores for timer in core.ending.close_at_exit()]
        _report_cancelled(cancelled)
        call_all(core.ending.drain_at_exit for core in cores)


def _report_cancelled(timers: "list[Timer]") -> None:
    """Log that the end of the main thread has cancelled timers that perhaps should have gone on."""
    never_fired = sum(not timer.fired for timer in timers)
    others = [each.name for each in threading.enumerate() if _keeps_process(each)]
    if timers and others:
        what = "the main thread has ended, and its timers (%d), while other threads go on: %s; %s"
        log(logging.WARNING, what, len(timers), ", ".join(others), _HINT)
    elif never_fired:
        what = "the process ends with timers that never fired (%d); %s"
        log(logging.WARNING, what, never_fired, _HINT)


def _keeps_process(thread: threading.Thread) -> bool:
    """Return whether the process waits for a thread of the program, not of a pool or executor."""
    is_pooled = is_own(thread) or thread in _executor_threads
    return not (thread.daemon or is_pooled or thread is threading.main_thread())


after_fork_in_child(_reset_after_fork)
# ``atexit`` is too late, and forked ``multiprocessing`` children skip it. This is the hook of
# ``concurrent.futures.thread`` itself; it has no public name.
_at_end: Final[Any] = getattr(threading, "_register_atexit", atexit.register)
_at_end(_finish_all)
