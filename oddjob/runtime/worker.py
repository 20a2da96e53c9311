"""Worker: a thread that takes a job, runs it, and takes the next one; it parks when there is none.

Guarantees: an asynchronous exception, at whatever point it is raised, costs neither a job nor a
worker. A job enters the worker's slot in the same step in which it leaves the queue. If the worker
is interrupted, the job in its slot ends with that very exception; the supervisor is notified,
releases what the job held, and replaces the worker.
Locking: none. The worker's thread writes its slot. Other threads set `leaving`, which the worker
reads between jobs.
"""

import threading
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from oddjob.locks import Wakeup
from oddjob.runtime.dispatcher import Dispatcher
from oddjob.runtime.execution import execute, leave_nested, rescue_slot
from oddjob.runtime.job import Job
from oddjob.runtime.metrics import SAMPLES
from oddjob.runtime.reasons import began_at, stack_of_job
from oddjob.runtime.slot import Slot, bind_thread
from oddjob.schedule.clock import clock
from oddjob.threads import JobThread

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


class WorkerInfo(NamedTuple):
    """What a worker was doing when the information was requested.

    Attributes:
        name: the name of its thread.
        ident: the identifier of its thread; None before the thread has started.
        job: the job that it ran; None if it was idle.
        since: when that job began, as an aware ``datetime``.
    """

    name: str
    ident: int | None
    job: Job[object] | None
    since: datetime | None = None

    @property
    def state(self) -> str:
        """``idle`` or ``running``."""
        return "idle" if self.job is None else "running"

    def stack(self) -> str:
        """Return the current stack of the job, formatted like a traceback; "" if it is idle."""
        return "" if self.job is None else stack_of_job(self.job)


class Worker:
    """One thread of a pool."""

    __slots__ = ("_core", "_wakeup", "has_begun", "index", "leaving", "slot", "thread", "wake")

    def __init__(self, core: "PoolCore", index: int, name: str) -> None:
        self._core: Final = core
        self._wakeup: Final = Wakeup()
        # Must be called at most once for each time the worker parks: another call would raise.
        self.wake: Final = self._wakeup.release
        self.index: Final = index  # of its place in the `WorkerSet`
        self.slot: Final = Slot(core, core.metrics.open())
        self.leaving: bool = False  # whether it should leave after its job
        self.has_begun: bool = False  # whether the initializer has returned
        self.thread: threading.Thread = JobThread(target=self.run, name=name)

    @property
    def info(self) -> WorkerInfo:
        """What the worker is doing now."""
        job = self.slot.job
        since = None if job is None else clock.date_of(began_at(job, self.slot))
        return WorkerInfo(self.thread.name, self.thread.ident, job, since)

    @property
    def is_free(self) -> bool:
        """Whether the worker will take a queued job at once."""
        return self.slot.job is None and not (self.slot.is_reporting or self.leaving)

    def run(self) -> None:
        """Run jobs until the worker should leave or has crashed, then notify the supervisor."""
        core, slot = self._core, self.slot
        try:
            try:
                slot.ident = threading.get_ident()
                bind_thread(slot)
                if core.options.initializer is not None:
                    core.options.initializer(*core.options.initargs)
                self.has_begun = True
                self._serve()
            finally:
                slot.coroutines.close()
        except BaseException as crash:
            slot.crash = crash
            rescue_slot(slot, crash)
        finally:
            # The supervisor must learn of every end: it needs the worker in `exits`, and then a
            # wake-up. Both are C calls, which run even if an asynchronous exception is raised at
            # this point. (In a helper function, it would be raised at the entry, before them.)
            try:
                core.supervisor.exits.append(self)
            finally:
                try:  # noqa: SIM105  (`suppress` is no C call)
                    core.supervisor.wake()
                except RuntimeError:  # the supervisor is awake already
                    pass

    def _serve(self) -> None:
        core, slot = self._core, self.slot
        dispatcher = core.dispatcher
        while not self.leaving:
            self._run_jobs(dispatcher.taker(slot))
            if self.leaving or slot.crash is not None:
                return  # with the job in the slot: the supervisor releases what it held
            slot.job = None
            if core.is_finished():
                return
            self._park(dispatcher)

    def _run_jobs(self, take: Callable[[], Job[Any] | None]) -> None:
        """Run jobs until none can be taken or the worker should leave."""
        slot, core = self.slot, self._core
        metrics, monotonic = slot.metrics, clock.monotonic
        runs, waits = metrics.runs.fresh, metrics.waits.fresh
        line, in_place_wakeups = core.backpressure.line, core.in_place_wakeups
        job: Any = None
        began = slot.last_ended_at = monotonic()
        try:
            # The target of the loop is the slot itself: between the return of `take` and the
            # assignment, the interpreter raises no asynchronous exception.
            for slot.job in iter(take, None):
                job = slot.job
                if line or in_place_wakeups:
                    core.wake_waiters()
                queued_at = job._queued_at  # read first: a retry changes it
                has_run = execute(job, slot)
                ended = slot.last_ended_at = monotonic()
                if has_run:
                    runs.append(ended - began)
                    waits.append(began - queued_at)
                    if len(runs) >= SAMPLES:
                        metrics.fold()
                if slot.nested is not None:  # a stand-in may still be running
                    leave_nested(slot)
                    ended = slot.last_ended_at = monotonic()
                began = ended
                if self.leaving or slot.crash is not None:
                    return
        except IndexError as error:
            # The `popleft` of an empty deque. Testing first would be racy, and a function that
            # returned None instead would be called for every job.
            if not _is_raised_here(error):
                raise
        finally:
            del job  # the traceback of a failed job may refer to this frame
        if line or in_place_wakeups:  # others may wait for a limit that the last job held
            core.wake_waiters()

    def _park(self, dispatcher: Dispatcher) -> None:
        """Sleep until there may be a job, or a reason to leave.

        After entering `parked`, the worker looks again. If something changed before it could be
        woken, it wakes a worker, usually itself.
        """
        core = self._core
        if dispatcher.source is not None:
            dispatcher.source.demand(len(dispatcher.parked) + 1)
        dispatcher.parked.append(self.wake)
        if self.leaving or core.is_finished():
            dispatcher.wake_all()
        elif dispatcher.has_work():
            dispatcher.wake()
        self._wakeup.lock.acquire()


def _is_raised_here(error: BaseException) -> bool:
    """Return whether an exception was raised in the calling frame, not in one that it called."""
    traceback = error.__traceback__
    return traceback is None or traceback.tb_next is None
