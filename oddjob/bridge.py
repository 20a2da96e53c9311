"""The bridge from worker threads to an event loop: how ``await job`` wakes up.

Waking a loop from another thread costs a write to a socket. Each loop therefore has one mailbox:
the first job that ends writes to the socket, those that end before the loop has got round to
reading find the mailbox already announced and only drop their letter.

No wake-up is lost: who posts appends the letter, then looks at ``announced``; the loop clears
``announced``, then takes letters out. So either the poster finds it cleared, and announces, or
the loop finds the letter.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from math import inf
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

from oddjob.fork import in_child
from oddjob.monitor import Prompt

__all__ = ["until_ended", "wait_in_loop"]


class Awaited(Protocol):
    """What the bridge asks of a job."""

    queued_at: float  # infinity until its time has come

    def done(self) -> bool:
        """Whether it has ended."""

    def cancelled(self) -> bool:
        """Whether it was cancelled."""

    def cancel(self) -> bool:
        """Cancel it if it has not started."""

    def run_here(self) -> bool:
        """Run it if this thread is one of its pool's workers and it is queued."""

    def when_queued(self, act: Callable[[], object]) -> bool:
        """Have something called when its time has come; false if that is so already."""

    def add_done_callback(self, fn: Callable[[Any], object], /) -> None:
        """Have something called when it has ended."""


class _Mailbox:
    """What has ended since the loop last looked.

    Locking: ``_lock`` guards ``_announced``; waking the loop happens outside it. ``_closed`` is
    set once the loop turns out to be gone; from then on nothing is kept.
    """

    def __init__(self) -> None:
        self._closed = False
        self._letters: deque[asyncio.Future[None]] = deque()
        self._lock = threading.RLock()
        self._announced = False

    def post(self, waiter: "asyncio.Future[None]", _: object) -> tuple[()]:
        """Tell the loop, from any thread, that what `waiter` waits for has come."""
        self._letters.append(waiter)
        if not self._announced:
            self._announce(waiter.get_loop())
        if self._closed:
            # Nobody waits any more, and what is kept here would hold the loop: the key that this
            # mailbox is under.
            self._letters.clear()
        return ()

    def _announce(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            if self._announced:
                return
            self._announced = True
        try:
            loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            self._closed = True

    def _deliver(self) -> None:
        with self._lock:
            self._announced = False
        letters = self._letters
        while letters:
            waiter = letters.popleft()
            if not waiter.done():
                waiter.set_result(None)


_mailboxes: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Mailbox]] = WeakKeyDictionary()
in_child(_mailboxes.clear)


def wait_in_loop(job: Awaited) -> Generator[Any, None, None]:
    """Wait in the running event loop until the job has ended.

    Cancelling the waiting task cancels the job if it has not started.

    Raises:
        asyncio.CancelledError: the job, or the waiting task, was cancelled.
    """
    if not job.done():
        try:
            if job.queued_at == inf:
                yield from _time_of(job)
            if not (job.done() or job.run_here()):
                yield from _end_of(job)
        except asyncio.CancelledError:
            job.cancel()
            raise
    if job.cancelled():
        raise asyncio.CancelledError


async def until_ended(job: Awaited) -> None:
    """Wait in the running event loop until the job has ended, however it does.

    Raises:
        asyncio.CancelledError: the waiting task was cancelled.
    """
    if not job.done():
        if job.queued_at == inf:
            await _time_of(job)
        if not (job.done() or job.run_here()):
            await _end_of(job)


def _time_of(job: Awaited) -> "asyncio.Future[None]":
    """What comes when the job has been queued: it may be at once."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    if not job.when_queued(partial(_mailbox_of(loop).post, waiter, job)):
        waiter.set_result(None)
    return waiter


def _end_of(job: Awaited) -> "asyncio.Future[None]":
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    job.add_done_callback(Prompt(partial(_mailbox_of(loop).post, waiter)))
    return waiter


def _mailbox_of(loop: asyncio.AbstractEventLoop) -> _Mailbox:
    mailbox = _mailboxes.get(loop)
    if mailbox is None:
        mailbox = _mailboxes.setdefault(loop, _Mailbox())
    return mailbox
