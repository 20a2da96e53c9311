"""Inline: jobs that run in the thread that submits them.

That is what ``when_full="caller_runs"`` means, and what every job does in inline mode, which is
made for tests; see `oddjob.testing.inline`.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from oddjob.locks import ProcessLock
from oddjob.log import run_in_thread
from oddjob.runtime.execution import execute, rescue_slot
from oddjob.runtime.job import Job
from oddjob.runtime.slot import Slot, jobs_here, occupied
from oddjob.runtime.watchers import FAILED, QUEUED
from oddjob.schedule.clock import clock
from oddjob.schedule.scheduler import scheduler

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


class _InlineMode(ProcessLock):
    """The active blocks of inline mode, and which jobs have failed in each.

    Locking: ``lock`` guards the list; nothing is called under it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failed: list[list[Job[Any]]] = []


_mode: Final = _InlineMode()


def is_on() -> bool:
    """Return whether inline mode is on."""
    return bool(_mode.failed)


def begin() -> None:
    """Begin a block of inline mode."""
    with _mode.lock:
        _mode.failed.append([])


def end() -> list[Job[Any]]:
    """End the block; return the jobs that failed in it, and that nobody has looked at."""
    with _mode.lock:
        jobs = _mode.failed.pop()
    return [job for job in jobs if job.state is FAILED and not job._outcome.is_seen]


def run_inline(core: "PoolCore", job: Job[Any]) -> None:
    """Run a job, and its retries, in inline mode.

    Raises:
        BaseException: what a detached job has raised.
    """
    slot = Slot(core, core.metrics.open(), is_guest=True)
    slot.nested.append(job)
    _run(core, job, slot)
    if job.state is FAILED:
        if job._policy.is_detached:
            job.result()
        with _mode.lock:
            if _mode.failed:
                _mode.failed[-1].append(job)


def run_fired(core: "PoolCore", jobs: Sequence[Job[Any]]) -> None:
    """Run the jobs of a timer in inline mode, but not in the thread that all timers share."""

    def run() -> None:
        for job in jobs:
            with suppress(BaseException):  # it is raised at the end of the inline block
                run_inline(core, job)

    if scheduler.is_current_thread():
        run_in_thread(run, f"{core.label}-callbacks")
    else:
        run()


def run_in_caller(core: "PoolCore", job: Job[Any]) -> bool:
    """Run a job for which there is no room, and those of its key that have to go before it.

    Returns False if a limit stops it.
    """
    limited = core.dispatcher.limited
    if limited is not None:
        limited.inbox.append(job)  # there is no room, but it does not stay
    while job.state is QUEUED:
        slot = Slot(core, core.metrics.open(), is_guest=True)
        if limited is None:
            slot.nested.append(job)
        elif limited.claim(job, jobs_here(), slot) is None:
            core.metrics.close(slot.metrics)
            limited.cancel(job)
            limited.tidy()
            return job.state is not QUEUED
        first = slot.nested[0]
        _run(core, first, slot)
        if first.state is QUEUED:  # it is retried: a worker will run it, whether there is room
            if first is job:
                return True
        else:
            core.give_back(first)
    if job.state is FAILED and isinstance(job._outcome.error, KeyboardInterrupt):
        job.result()  # Ctrl-C was meant for this thread
    return True


def _run(core: "PoolCore", job: Job[Any], slot: Slot) -> None:
    began = clock.monotonic()
    try:
        with occupied(slot):
            execute(job, slot)
            while job.state is QUEUED and is_on():  # it is retried at once
                slot.nested.append(job)
                execute(job, slot)
    except BaseException as error:
        rescue_slot(slot, error)
        raise
    finally:
        slot.coroutines.close()
        slot.metrics.measure(clock.monotonic() - began, began - job._queued_at)
        core.metrics.close(slot.metrics)
