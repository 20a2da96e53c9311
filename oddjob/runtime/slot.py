"""Slot: a place in which one job runs at a time, and what a thread needs to run jobs in it.

Every worker has one. If its job waits for a job of the same pool that no other worker will take,
the worker runs that job itself, in a second slot *nested* in its own; or a stand-in thread does. A
thread that runs a job without being a worker (the submitter of a job that finds the queue full,
inline mode) is a *guest*, with a slot for that job.

An attempt is *late* once the watchdog has ended it. Its thread is still in the job, and the job in
the slot; but the job has failed, or is queued again for an attempt in another slot. So a slot with
a late attempt holds nothing of the job: neither its key nor its limits.

Guarantees: a job that was taken from the queue is in a slot, so an asynchronous exception loses no
job: `rescue_slot` ends what is left.
Locking: the thread of the slot writes; others read, and see a moment ago. The lock of the job's
`SharedState` guards `is_late`, which the watchdog sets.
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

    __slots__ = ("core", "coroutines", "crash", "ident", "is_guest", "is_inline", "is_late", "job",
                 "last_ended_at", "metrics", "nested", "outer", "runs_retries", "stand_in")  # fmt: skip

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
        self.is_inline: bool = is_guest or outer is not None  # its job runs inside other code
        self.runs_retries: bool = False  # its thread runs the retries of its job: inline mode
        self.outer: Final = outer  # in which it is nested
        self.nested: Slot | None = None
        self.stand_in: threading.Thread | None = None  # which runs this slot, not that of `outer`
        self.coroutines: CoroutineRunner = outer.coroutines if outer else CoroutineRunner()
        self.ident: int = threading.get_ident()  # of its thread; set again by that when it starts
        self.job: Job[Any] | None = None
        self.is_late: bool = False  # whether the attempt in it is
        self.crash: BaseException | None = None  # what the thread should end with
        # When its last job ended (or it was made), and so its job began; in monotonic seconds.
        self.last_ended_at: float = clock.monotonic()

    def all(self) -> "list[Slot]":
        """Return this slot and those nested in it, the innermost last."""
        slots: list[Slot] = []
        slot: Slot | None = self
        while slot is not None:
            slots.append(slot)
            slot = slot.nested
        return slots

    def jobs(self) -> "list[Job[Any]]":
        """Return the job and those that run while it waits, the innermost last."""
        return [job for slot in self.all() if (job := slot.job) is not None]


class _Here(threading.local):
    """The slots of the calling thread, and of those that it stands in for, the innermost last."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []


_here: Final = _Here()


def _become_guest() -> None:
    """Note, in a forked child, that the thread which has forked is no worker there."""
    for slot in _here.slots:
        slot.is_guest = True


after_fork_in_child(_become_guest)


def bind_thread(*slots: Slot) -> None:
    """Let the calling thread run jobs in the last one of these slots for good."""
    _here.slots += slots


@contextmanager
def occupied(slot: Slot) -> Iterator[None]:
    """Let the calling thread run jobs in this slot for a while."""
    slots = _here.slots
    depth = len(slots)
    slots.append(slot)
    try:
        yield
    finally:
        del slots[depth:]


def slots_here() -> list[Slot]:
    """Return the slots in which the calling thread runs jobs, the innermost last."""
    return [*_here.slots]


def slot_of(core: "PoolCore") -> Slot | None:
    """Return the innermost slot of the calling thread as a worker of that pool, if it is one."""
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
