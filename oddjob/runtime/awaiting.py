"""Awaiting: how ``await job`` wakes up in an event loop, and runs a job that no worker will run.

Waking a loop from another thread costs a write to a socket. Each loop therefore has one mailbox:
the first job that ends announces it to the loop, and those that end before the loop has looked only
post a callback.

No wake-up is lost: a thread that posts appends its callback and then looks at ``_is_announced``;
the loop clears that and then takes the callbacks out. Either the thread finds it cleared, and
announces, or the loop finds the callback.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

from oddjob.compat import T
from oddjob.locks import after_fork_in_child
from oddjob.log import run_in_thread
from oddjob.runtime.in_place import (
    claim_next,
    lend_place,
    may_run_in_place,
    open_nested,
)
from oddjob.runtime.job import Job
from oddjob.runtime.slot import Slot, worker_slot
from oddjob.runtime.stand_in import execute_in_slot, start_stand_in

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


class _AwaitedJobs:
    """The jobs that the tasks of a worker's event loop await; it runs them if no worker will.

    They, and those on which they depend, run in a stand-in beside the loop, one at a time. A
    stand-in is started when there is a job to run in place, and ends when there is none.

    Locking: none. The thread of the loop calls `awaiting` and `_look`, any thread calls `_wake`.
    `claim_next` gets a copy of `_awaited`, which may change meanwhile.
    """

    def __init__(self, slot: Slot, post: Callable[[Callable[[], object]], object]) -> None:
        self._slot: Final = slot  # of the thread that runs the loop
        self._post: Final = post  # lets the loop call a callback
        self._awaited: Final[dict[object, Job[Any]]] = {}
        self._is_posted = False  # the loop is about to call `_look`

    @contextmanager
    def awaiting(self, job: Job[Any]) -> Iterator[None]:
        """Keep a job among the awaited ones while a task awaits it in this block."""
        key, in_place_wakeups = object(), self._slot.core.in_place_wakeups
        self._awaited[key] = job
        in_place_wakeups[self._wake] = None
        try:
            self._wake()  # not `_look` at once: other tasks may be about to await jobs as well
            yield
        finally:
            del self._awaited[key], job
            if not self._awaited:
                in_place_wakeups.pop(self._wake, None)

    def is_needed(self) -> bool:
        """Return whether a task awaits a job."""
        return bool(self._awaited)

    def _wake(self) -> None:
        """Let the loop look for a job that must run here."""
        if not self._is_posted:
            self._is_posted = True
            self._post(self._look)

    def _look(self) -> None:
        """Start a stand-in if there is a job that must run here."""
        self._is_posted = False
        core, outer = self._slot.core, self._slot
        if not any(may_run_in_place(job, core) for job in self._awaited.values()):
            # In a long chain, each job that starts would wake the loops of all jobs before it.
            core.in_place_wakeups.pop(self._wake, None)
            return
        slot = open_nested(outer)
        if slot is None:
            return  # the stand-in looks itself when it is done with its job
        if claim_next(self._awaited.copy().values(), slot):
            start_stand_in(slot, partial(self._run, slot))
        else:
            outer.nested = None

    def _run(self, slot: Slot) -> None:
        """Run the job in a slot, and then further jobs as long as there are any to run in place."""
        execute_in_slot(slot)
        while slot.crash is None and claim_next(self._awaited.copy().values(), slot):
            execute_in_slot(slot)


class _Mailbox:
    """What other threads have a loop call.

    Locking: ``_lock`` guards ``_is_announced``; the loop is woken outside it.
    """

    def __init__(self) -> None:
        self._posted: Final[deque[Callable[[], object]]] = deque()
        self._lock: Final = threading.RLock()
        self._is_announced = False
        self.awaited: Final[dict[Slot, _AwaitedJobs]] = {}  # while there is something to await

    def post(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
        """Have the loop call something; from any thread."""
        self._posted.append(callback)
        if not self._is_announced:
            self._announce(loop)

    def _announce(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            if self._is_announced:
                return
            self._is_announced = True
        try:
            loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:  # it is closed; the callbacks hold it, the key of this mailbox
            self._is_announced = False
            self._posted.clear()

    def _deliver(self) -> None:
        with self._lock:
            self._is_announced = False
        while self._posted:
            self._posted.popleft()()


_mailboxes: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Mailbox]] = WeakKeyDictionary()
after_fork_in_child(_mailboxes.clear)


def wait_in_loop(job: Job[Any]) -> Generator[Any, None, None]:
    """Wait in the running event loop until the job has ended; for ``__await__``.

    Cancelling the task that waits cancels the job if it has not started, and is not others' as
    well: one that was found in a store, or is stored once for several submitters.

    Raises:
        asyncio.CancelledError: the job, or the waiting task, was cancelled.
    """
    if not job.done():
        try:
            yield from until_ended(job).__await__()
        except asyncio.CancelledError:
            cancel_unshared(job)
            raise
    if job.cancelled():
        raise asyncio.CancelledError


def cancel_unshared(job: Job[Any]) -> None:
    """Cancel a job whose waiting task was cancelled, unless the job is others' as well."""
    store = cast("PoolCore", job._policy.host).store
    if store is None or not store.is_shared(job):
        job.cancel()


async def until_ended(job: Job[Any]) -> None:
    """Wait in the running event loop until the job has ended, however it does."""
    if job.done():
        return
    core = cast("PoolCore", job._policy.host)
    core.check_own(job)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise TypeError(
            "`await job` needs asyncio; in trio, use `await oddjob.contrib.anyio.wait(job)`"
        ) from None
    mailbox = _mailboxes.get(loop) or _mailboxes.setdefault(loop, _Mailbox())
    ended, post = loop.create_future(), partial(mailbox.post, loop)

    def wake(_: object) -> None:
        post(partial(_settle, ended))

    slot = worker_slot()
    try:
        with at_end_call(job, wake):
            if slot is None:
                await ended
                return
            awaited = mailbox.awaited.get(slot)
            if awaited is None:
                awaited = mailbox.awaited[slot] = _AwaitedJobs(slot, post)
            try:
                with lend_place(job, slot), awaited.awaiting(job):
                    await ended
            finally:
                if not awaited.is_needed():
                    mailbox.awaited.pop(slot, None)
    finally:
        del job  # see `execution`


@contextmanager
def at_end_call(job: Job[Any], callback: Callable[[object], object]) -> Iterator[None]:
    """Call a callback if the job ends while this block runs, or shortly after."""
    job.add_done_callback(callback)
    try:
        yield
    finally:
        job._ensure_shared().remove_callback(callback)
        del job


async def call_in_thread(call: Callable[[], T], name: str) -> T:
    """Call something that may take any time in a new thread; return, or raise, what it does.

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


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
