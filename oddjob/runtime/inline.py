"""Inline: jobs that run in the thread that submits them.

That is what ``when_full="caller_runs"`` means, and what every job does in inline mode, which is
made for tests; see `oddjob.testing.inline`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from oddjob.locks import ProcessLock
from oddjob.log import run_in_thread
from oddjob.runtime.execution import rescue_slot
from oddjob.runtime.in_place import claim, run
from oddjob.runtime.job import Job
from oddjob.runtime.slot import Slot
from oddjob.runtime.watchers import FAILED, QUEUED
from oddjob.schedule.scheduler import scheduler

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


class _InlineMode(ProcessLock):
    """The active blocks of inline mode, innermost last: of each, the jobs that have failed in it.

    Locking: ``lock`` guards changes of the list; nothing is called under it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[list[Job[Any]]] = []

    def note_failure(self, job: Job[Any]) -> None:
        """Have the end of the block raise what a job has raised, unless that is seen before."""
        with self.lock:
            if self.blocks:
                self.blocks[-1].append(job)


_mode: Final = _InlineMode()


def is_on() -> bool:
    """Return whether inline mode is on."""
    return bool(_mode.blocks)


def begin() -> None:
    """Begin a block of inline mode."""
    with _mode.lock:
        _mode.blocks.append([])


def end() -> list[Job[Any]]:
    """End the block; return the jobs that failed in it, and that nobody has looked at."""
    with _mode.lock:
        failed = _mode.blocks.pop()
    return [job for job in failed if not job._outcome.is_seen]


def run_inline(core: "PoolCore", job: Job[Any]) -> None:
    """Run a job, and its retries, in inline mode.

    Raises:
        BaseException: what a detached job has raised.
    """
    _run_in_new_slot(core, job)
    if job._local_state is FAILED:
        if job._policy.is_detached:
            job.result()  # raises it: no caller will ask for it
        _mode.note_failure(job)


def run_fired(core: "PoolCore", jobs: Sequence[Job[Any]]) -> None:
    """Run the jobs of a timer in inline mode, but not in the thread that all timers share."""

    def run_all() -> None:
        for job in jobs:
            _run_in_new_slot(core, job)
            if job._local_state is FAILED:
                job._outcome.is_seen = False  # that of a detached job was logged, no more
                _mode.note_failure(job)

    if scheduler.is_current_thread():
        run_in_thread(run_all, f"{core.label}-callbacks")
    else:
        run_all()


def run_in_caller(core: "PoolCore", job: Job[Any]) -> bool:
    """Run a job for which there is no room, and those of its key that have to go before it.

    Returns False if a limit stops the job: it is in no queue then. Otherwise it has run, was
    cancelled, or is to be retried, and in the queue for that.
    """
    limited, latest = core.dispatcher.limited, None
    if limited is not None:
        limited.inbox.append(job)  # for a moment: the limits are asked as for any job that waits
    while job._local_state is QUEUED and latest is not job:
        with _guest_slot(core) as slot:
            if limited is None:
                slot.job = job
            elif not claim(core, job, slot):
                limited.forget(job)
                limited.tidy()
                return job._local_state is not QUEUED
            latest = slot.job
            run(slot)
    if job._local_state is FAILED and isinstance(job._outcome.error, KeyboardInterrupt):
        job.result()  # Ctrl-C was meant for this thread
    return True


def _run_in_new_slot(core: "PoolCore", job: Job[Any]) -> None:
    """Run a job; in inline mode, its retries as well."""
    with _guest_slot(core) as slot:
        slot.job = job
        run(slot)
        while job._local_state is QUEUED and is_on():
            slot.job = job
            run(slot)


@contextmanager
def _guest_slot(core: "PoolCore") -> Iterator[Slot]:
    """Make a slot for the calling thread, which need not be a worker."""
    metrics = core.metrics.open()
    slot = Slot(core, metrics, is_guest=True)
    try:
        yield slot
    except BaseException as error:
        rescue_slot(slot, error)
        raise
    finally:
        slot.coroutines.close()
        core.metrics.close(metrics)
