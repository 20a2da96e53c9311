"""Slot: a place in which a thread runs jobs, one at a time, and what it needs to do so.

Every worker has a slot. While its job waits for a job that no other worker will take, the worker
runs that job in a second slot, nested in its own (see `in_place`). A thread that runs a job without
being a worker is a *guest* in a slot made for that job: a submitter that finds the queue full, or a
thread in inline mode. Where the thread runs an event loop, another one may have to *stand in* for
it (see `stand_in`).

=====================  ==========  =======  ==============================================
slot                   `is_guest`  `outer`  `stand_in`
=====================  ==========  =======  ==============================================
of a worker            False       None     None
of a guest             True        None     None, or a thread while that runs a coroutine
nested                 False       a slot   None
nested, beside a loop  False       a slot   a thread while that runs jobs
=====================  ==========  =======  ==============================================

An attempt is *late* once the watchdog has ended it. Its thread is still in the job, and the job in
the slot; but the job has failed, or is queued again for an attempt in another slot. So a slot with
a late attempt holds nothing of the job: neither its key nor its limits.

Invariant: a job that was taken from the queue is in a slot until it has ended or is queued again.
So `rescue_slot` finds the jobs that an asynchronous exception has interrupted.
Locking: the thread of the slot writes. Other threads read what may be out of date. The lock of the
job's `SharedState` guards `is_late`, which the watchdog sets.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from oddjob.locks import after_fork_in_child
from oddjob.runtime.coroutines import CoroutineRunner
from oddjob.runtime.metrics import SlotMetrics
from oddjob.schedule.clock import clock

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore
    from oddjob.runtime.job import Job


class Slot:
    """Where one thread runs jobs for a pool, one at a time."""

    __slots__ = ("core", "coroutines", "crash", "ident", "is_guest", "is_inline", "is_late",
                 "is_reporting", "job", "last_ended_at", "metrics", "nested", "outer",
                 "runs_retries", "stand_in")  # fmt: skip

    def __init__(
        self,
        core: "PoolCore",
        metrics: SlotMetrics,
        outer: "Slot | None" = None,
        *,
        is_guest: bool = False,
    ) -> None:
        self.core: Final = core
        self.metrics: SlotMetrics = metrics
        self.is_guest: bool = is_guest
        self.outer: Final = outer  # the slot in which this one is nested
        self.nested: Slot | None = None  # the slot nested in this one
        self.stand_in: threading.Thread | None = None
        # The job runs inside other code of its thread: its submitter's, or a job that waits for it.
        self.is_inline: bool = is_guest or outer is not None
        self.runs_retries: bool = False  # inline mode: retries run here, not from the queue
        self.coroutines: CoroutineRunner = outer.coroutines if outer else CoroutineRunner()
        self.ident: int = threading.get_ident()  # of its thread; set again when that starts
        self.job: Job[Any] | None = None
        self.is_reporting: bool = False  # without a job, in the user's `on_event` about a retry
        self.is_late: bool = False  # whether the attempt in it is
        self.crash: BaseException | None = None  # the exception with which the thread should end
        # When the slot became free (it was made, or its former job ended), in monotonic seconds.
        # Its next job follows at once, so this is also when `job` began.
        self.last_ended_at: float = clock.monotonic()

    def with_nested(self) -> "list[Slot]":
        """Return this slot and those nested in it, the innermost last."""
        slots: list[Slot] = []
        slot: Slot | None = self
        while slot is not None:
            slots.append(slot)
            slot = slot.nested
        return slots

    def jobs(self) -> "list[Job[Any]]":
        """Return the job and the jobs that run while it waits, the innermost last."""
        return [job for slot in self.with_nested() if (job := slot.job) is not None]


class _Here(threading.local):
    """The slots of the calling thread and of those for which it stands in, the innermost last."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []


_here: Final = _Here()


def _become_guest() -> None:
    """In a forked child: its only thread, a copy of the one that forked, is not a worker."""
    for slot in _here.slots:
        slot.is_guest = True


after_fork_in_child(_become_guest)


def bind_thread(*slots: Slot) -> None:
    """Let the calling thread run jobs in the last of these slots until it ends."""
    _here.slots += slots


@contextmanager
def occupied(slot: Slot) -> Iterator[None]:
    """Let the calling thread run jobs in this slot inside the block."""
    slots = _here.slots
    depth = len(slots)
    slots.append(slot)
    try:
        yield
    finally:
        del slots[depth:]


def slots_here() -> list[Slot]:
    """Return the slots of the calling thread, the innermost last; see `_Here`."""
    return [*_here.slots]


def slot_of(core: "PoolCore") -> Slot | None:
    """Return the innermost slot of the calling thread as a worker of a pool; None if it is none."""
    for slot in reversed(_here.slots):
        if slot.core is core and not slot.is_guest:
            return slot
    return None


def worker_slot() -> Slot | None:
    """Return the innermost slot of the calling thread as a worker; None if it is no worker."""
    return next((slot for slot in reversed(_here.slots) if not slot.is_guest), None)


def current_job() -> "Job[Any] | None":
    """Return the job that the calling thread is running; None outside of jobs.

    Through it a job learns whether it was asked to stop (``cancel_requested``), when it times out
    (``deadline``) and which ``attempt`` this is, and reports its progress (``report``). A thread
    that a job has started itself is outside.
    """
    return _here.slots[-1].job if _here.slots else None


def jobs_here(*, are_late: bool = False) -> "list[Job[Any]]":
    """Return the jobs that the calling thread runs, or those that it is in with late attempts."""
    jobs = [slot.job for slot in _here.slots if slot.is_late is are_late]
    return [job for job in jobs if job is not None]
