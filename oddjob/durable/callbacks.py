"""Callbacks: user code that the store thread would run, if that did not block it.

A callback of a job may take any time, and may submit jobs, which needs the store thread. So
callbacks run in a thread of their own, which is started when it is first needed.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Final

from oddjob.errors import StoreFull, StoreUnusable
from oddjob.log import log
from oddjob.threads import new_thread


class CallbackThread:
    """Runs callbacks one after the other.

    Thread safety: any thread may call `run`; ``_lock`` makes it one step to queue a callback and
    start the thread, and one to find nothing and end it.
    """

    def __init__(self, name: str) -> None:
        self._name: Final = name
        self._lock: Final = threading.Lock()
        self._queue: Final[SimpleQueue[Callable[[], object] | None]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._given = 0  # callbacks that `run` was given
        self._ended = 0  # callbacks that have run

    @property
    def is_busy(self) -> bool:
        """Whether a callback runs, or waits for its turn."""
        return self._given != self._ended

    @property
    def is_here(self) -> bool:
        """Whether this is the current thread."""
        return threading.current_thread() is self._thread

    def run(self, call: Callable[[], object]) -> None:
        """Run a callback in the thread; log what it raises."""
        with self._lock:
            self._given += 1
            self._queue.put(call)
            if self._thread is not None:
                return
            thread = new_thread(self._serve, self._name)
            try:
                thread.start()
            except (
                Exception
            ):  # no thread can be started now: run it here; the next `run` tries again
                waiting = self._queue.get()
            else:
                self._thread = thread
                if self._is_closed:
                    self._queue.put(None)
                return
        guard(waiting)
        self._ended += 1

    def close(self) -> None:
        """End the thread after all queued callbacks; later ones start a new thread."""
        with self._lock:
            self._is_closed = True
            if self._thread is not None:
                self._queue.put(None)

    def _serve(self) -> None:
        while True:
            call = self._queue.get()
            if call is not None:
                guard(call)
                del call  # it refers to a job
                self._ended += 1
                continue
            with self._lock:
                if self._queue.empty():
                    self._thread = None
                    return
                self._queue.put(None)  # end after the callbacks that came behind the former None


def guard(call: Callable[..., object] | None, *args: object) -> None:
    """Call a function; log what it raises."""
    try:
        if call is not None:
            call(*args)
    except BaseException as error:
        log(logging.ERROR, "a callback of a store failed", error=error)


def guard_store(call: Callable[..., object], *args: object) -> None:
    """Call a method of a store; log what it raises, unless the store is full or unusable.

    Users know that by then, as the store thread has logged it.
    """

    def attempt() -> None:
        with suppress(StoreFull, StoreUnusable):
            call(*args)

    guard(attempt)
