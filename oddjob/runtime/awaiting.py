"""Awaiting: how ``await job`` wakes up in an event loop.

Waking a loop from another thread costs a write to a socket. Each loop therefore has one mailbox:
the first job that ends announces it to the loop, and those that end before the loop has looked only
post a waiter.

No wake-up is lost: a thread that posts appends its waiter and then looks at ``_is_announced``; the
loop clears that and then takes the waiters out. Either the thread finds it cleared, and announces,
or the loop finds the waiter.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Generator
from math import inf
from typing import Any, Final
from weakref import WeakKeyDictionary

from oddjob.locks import after_fork_in_child
from oddjob.runtime.in_place import run_if_it_must
from oddjob.runtime.job import Job
from oddjob.runtime.slot import slot_of


class _Mailbox:
    """The waiters of one loop that can go on.

    Locking: ``_lock`` guards ``_is_announced``; the loop is woken outside it.
    """

    def __init__(self) -> None:
        self._posted: Final[deque[asyncio.Future[None]]] = deque()
        self._lock: Final = threading.RLock()
        self._is_announced = False

    def post(self, waiter: asyncio.Future[None]) -> None:
        """Have the loop settle `waiter`; from any thread."""
        self._posted.append(waiter)
        if not self._is_announced:
            self._announce(waiter.get_loop())

    def _announce(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            if self._is_announced:
                return
            self._is_announced = True
        try:
            loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:  # it is closed; the waiters hold it, the key of this mailbox
            self._is_announced = False
            self._posted.clear()

    def _deliver(self) -> None:
        with self._lock:
            self._is_announced = False
        while self._posted:
            waiter = self._posted.popleft()
            if not waiter.done():
                waiter.set_result(None)


_mailboxes: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Mailbox]] = WeakKeyDictionary()
after_fork_in_child(_mailboxes.clear)


class _Waiter:
    """Something to await until another thread posts, again and again."""

    def __init__(self) -> None:
        self._loop: Final = asyncio.get_running_loop()
        mailbox = _mailboxes.get(self._loop)
        self._mailbox: Final = mailbox or _mailboxes.setdefault(self._loop, _Mailbox())
        self._future: asyncio.Future[None] = self._loop.create_future()

    def post(self, _: object = None) -> None:
        """Wake the coroutine, from any thread; also as a callback of a job."""
        self._mailbox.post(self._future)

    def __await__(self) -> Generator[Any, None, None]:
        yield from self._future
        self._future = self._loop.create_future()


def wait_in_loop(job: Job[Any]) -> Generator[Any, None, None]:
    """Wait in the running event loop until the job has ended; for ``__await__``.

    Cancelling the task that waits cancels the job if it has not started.

    Raises:
        asyncio.CancelledError: the job, or the waiting task, was cancelled.
    """
    if not job.done():
        try:
            yield from until_ended(job).__await__()
        except asyncio.CancelledError:
            job.cancel()
            raise
    if job.cancelled():
        raise asyncio.CancelledError


async def until_ended(job: Job[Any]) -> None:
    """Wait in the running event loop until the job has ended, however it does."""
    if job.done() or job._policy.host.run_where_awaited(job, -inf):
        return
    waiter = _Waiter()
    job.add_done_callback(waiter.post)
    # A coroutine on a worker: this thread may have to run the job when no other one is free.
    slot = slot_of(job._policy.host)  # type: ignore[arg-type]  # a core is what hosts jobs here
    try:
        if slot is not None:
            slot.core.standbys[waiter.post] = None
        while not job.done():
            if slot is None or not run_if_it_must(slot.core, job, slot):
                await waiter
    finally:
        if slot is not None:
            slot.core.standbys.pop(waiter.post, None)
        del job  # see `execution`
