"""Event loops and other threads: post callbacks to a loop, and call functions in a thread for it.

Waking a loop from another thread costs a write to a socket. Each loop therefore has one mailbox:
the first thread that posts a callback announces it to the loop, and those that post before the loop
has looked only add their callbacks.

No wake-up is lost: a thread that posts appends its callback and then looks at ``_is_announced``;
the loop clears that and then takes the callbacks out. Either the thread finds it cleared, and
announces, or the loop finds the callback. If Ctrl-C interrupts an announcement, the next one
delivers the callback.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from typing import Final

from oddjob.callables import call_all
from oddjob.compat import T
from oddjob.log import run_in_thread


class Mailbox:
    """The callbacks that other threads have posted to a loop.

    It does not refer to the loop, so a dict of mailboxes by loop keeps no loop alive.

    Locking: ``_lock`` guards ``_is_announced``; the loop is woken outside it.
    """

    def __init__(self) -> None:
        self._posted: Final[deque[Callable[[], object]]] = deque()
        self._lock: Final = threading.RLock()
        self._is_announced = False

    def post(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
        """Let the loop of this mailbox call a function; may be called by any thread."""
        self._posted.append(callback)
        if not self._is_announced:
            self._announce(loop)

    def _announce(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            with self._lock:
                if self._is_announced:
                    return
                self._is_announced = True
            loop.call_soon_threadsafe(self._deliver)
        except BaseException as error:
            self._is_announced = False  # so the next thread that posts wakes the loop
            if not isinstance(error, RuntimeError):
                raise
            self._posted.clear()  # the loop is closed, and the callbacks refer to it

    def _deliver(self) -> None:
        with self._lock:
            self._is_announced = False
        call_all(self._posted.popleft() for _ in range(len(self._posted)))


async def call_in_thread(call: Callable[[], T], name: str) -> T:
    """Call a function in a new thread; return its result, or raise its exception.

    If the task that waits is cancelled, the call goes on.
    """
    loop, ended = asyncio.get_running_loop(), Future[T]()
    waiting = asyncio.wrap_future(ended, loop=loop)

    def run() -> None:
        try:
            ended.set_result(call())
        except BaseException as error:
            ended.set_exception(error)

    run_in_thread(partial(copy_context().run, run), name)
    return await asyncio.shield(waiting)
