"""Slot: a place in which one job runs at a time, and what a thread needs to run jobs in it.

Every worker has one. A thread that runs a job without being a worker (the submitter of a job that
finds the queue full, inline mode) uses a temporary one, on top of its own if it is a worker, too.

Guarantees: a job that was taken from the queue is in a slot, so a thread that is struck by an
exception loses no job: `rescue` ends what is left.
Locking: none. The thread of the slot writes; others read, and see a moment ago.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from oddjob.runtime.coroutines import CoroutineRunner
from oddjob.runtime.job import Job
from oddjob.runtime.metrics import SlotMetrics

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


class Slot:
    """What one thread runs for a pool."""

    __slots__ = (
        "core",
        "coroutines",
        "crash",
        "ident",
        "is_guest",
        "job",
        "last_ended_at",
        "metrics",
        "nested",
    )

    def __init__(self, core: "PoolCore", metrics: SlotMetrics, *, is_guest: bool = False) -> None:
        self.core: Final = core
        self.metrics: Final = metrics
        self.is_guest: Final = is_guest  # its thread is no worker
        self.coroutines: Final = CoroutineRunner()
        self.ident = threading.get_ident()  # of its thread; a worker corrects it
        self.job: Job[Any] | None = None  # taken from the queue
        # Run while that one waits for them (of a guest: run for their submitter), innermost last.
        self.nested: list[Job[Any]] = []
        self.crash: BaseException | None = None  # what the thread should end with
        self.last_ended_at = 0.0  # when its last job did, in monotonic seconds

    def jobs(self) -> list[Job[Any]]:
        """Return the job and those nested in it, the innermost last."""
        job = self.job
        return [*(() if job is None else (job,)), *self.nested]

    def forget(self, job: Job[Any]) -> None:
        """Take out a job that is queued again."""
        if self.job is job:
            self.job = None
        elif job in self.nested:
            self.nested.remove(job)

    @property
    def innermost(self) -> Job[Any] | None:
        """The job that is running, while the others wait."""
        nested = self.nested
        return nested[-1] if nested else self.job


class _Here(threading.local):
    """The slots of the calling thread, the innermost last."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []


_here: Final = _Here()


def bind_thread(slot: Slot) -> None:
    """Let the calling thread run jobs in this slot for good."""
    _here.slots.append(slot)


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


def slot_of(core: "PoolCore") -> Slot | None:
    """Return the slot of the calling thread if it is a worker of that pool."""
    for slot in _here.slots:
        if slot.core is core and not slot.is_guest:
            return slot
    return None


def current_job() -> Job[Any] | None:
    """Return the job that the calling thread is running; None outside of jobs.

    Through it a job learns whether it was asked to stop (``cancel_requested``), when it times out
    (``deadline``) and which ``attempt`` this is, and reports its progress (``report``). A thread
    that a job has started itself is outside.
    """
    return _here.slots[-1].innermost if _here.slots else None


def jobs_here() -> list[Job[Any]]:
    """Return all jobs that the calling thread is running, the innermost last."""
    return [*dict.fromkeys(job for slot in _here.slots for job in slot.jobs())]
