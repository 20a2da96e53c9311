"""Awaiting: how ``await job`` waits in an event loop, and runs in place what no worker will run.

Outside of workers, a task waits until the job's end posts a callback to the mailbox of its loop. On
a worker, the job may have to run in place (see `in_place`), while the loop goes on.
"""

import asyncio
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary

from oddjob.locks import after_fork_in_child
from oddjob.runtime.event_loops import Mailbox
from oddjob.runtime.in_place import (
    claim_next,
    lend_place,
    may_run_in_place,
    open_nested,
)
from oddjob.runtime.job import Job
from oddjob.runtime.slot import Slot, worker_slot
from oddjob.runtime.stand_in import execute_in_slot, start_stand_in


class _AwaitedJobs:
    """The jobs that the tasks of a worker's event loop await.

    These jobs, and the jobs on which they depend, run in place if no worker will run them: in a
    stand-in beside the loop, one at a time. The loop starts a stand-in when there is a job to run,
    and the stand-in ends when there is none left.

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


class _LoopState:
    """What is known of one event loop: its mailbox, and the jobs that its tasks await.

    Locking: as that of `Mailbox` and `_AwaitedJobs`. Only the thread of the loop uses `awaited`.
    """

    def __init__(self) -> None:
        self.mailbox: Final = Mailbox()
        # By the slot of the job that runs the loop: a worker keeps its loop for its next job.
        self.awaited: Final[dict[Slot, _AwaitedJobs]] = {}

    @contextmanager
    def awaiting(
        self, job: Job[Any], slot: Slot, post: Callable[[Callable[[], object]], object]
    ) -> Iterator[None]:
        """While in this block, run in place whatever the awaited job depends on."""
        awaited = self.awaited.get(slot)
        if awaited is None:
            awaited = self.awaited[slot] = _AwaitedJobs(slot, post)
        try:
            with lend_place(job, slot), awaited.awaiting(job):
                yield
        finally:
            if not awaited.is_needed():
                self.awaited.pop(slot, None)
            del job


_loops: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopState]] = WeakKeyDictionary()
after_fork_in_child(_loops.clear)


def wait_in_loop(job: Job[Any]) -> Generator[Any, None, None]:
    """Wait in the running event loop until the job has ended; for ``__await__``.

    Cancelling the waiting task cancels the job if it has not started, unless others may wait for it
    too: it was found in a store, or is stored once for several submitters.

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
    """Cancel a job whose waiting task was cancelled, unless others may wait for the job too."""
    store = job._policy.core.store
    if store is None or not store.is_shared(job):
        job.cancel()


async def until_ended(job: Job[Any]) -> None:
    """Wait in the running event loop until a job has ended; raise nothing if it has failed."""
    if job.done():
        return
    core = job._policy.core
    core.check_own(job)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise TypeError(
            "`await job` needs asyncio; in trio, use `await oddjob.contrib.anyio.wait(job)`"
        ) from None
    state = _loops.get(loop) or _loops.setdefault(loop, _LoopState())
    ended, post = loop.create_future(), partial(state.mailbox.post, loop)
    wake = partial(_post_end, post, ended)
    job.add_done_callback(wake)
    slot = worker_slot()
    try:
        if slot is None:
            await ended
        else:
            with state.awaiting(job, slot, post):
                await ended
    finally:
        remove_callback(job, wake)
        del job  # see `execution`


def remove_callback(job: Job[Any], callback: Callable[[Any], object]) -> None:
    """Remove a callback of a task that no longer waits, unless the job has ended."""
    if not job.done():
        job._ensure_shared().remove_callback(callback)


def _post_end(post: Callable[[Any], object], ended: asyncio.Future[None], _: object) -> None:
    post(partial(_settle, ended))


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
