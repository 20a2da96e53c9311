"""Inline mode, for tests: every job runs in the thread that submits it.

Users switch it on with `oddjob.testing.inline`. The mode is on in the whole process while any
thread is in a *block*. A failure belongs to the innermost block of the thread that has run the job,
or else to the latest block of all.
"""

from collections.abc import Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

from oddjob.locks import ProcessLock
from oddjob.log import run_in_thread
from oddjob.runtime import lifecycle
from oddjob.runtime.caller_runs import guest_slot, pass_on_interrupt
from oddjob.runtime.job import Job
from oddjob.runtime.job_state import FAILED, QUEUED
from oddjob.runtime.slot import slots_here
from oddjob.runtime.stand_in import run_in_slot
from oddjob.schedule.scheduler import scheduler

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


class Block:
    """An active block of inline mode."""

    def __init__(self) -> None:
        self.ident: Final = get_ident()  # of the thread that is in it
        self.failed: Final[list[Job[Any]]] = []


_blocks: Final[list[Block]] = []  # the latest one last
_lock: Final = ProcessLock()  # guards changes of `_blocks`; nothing is called under it


def is_on() -> bool:
    """Return whether inline mode is on."""
    return bool(_blocks)


def begin() -> Block:
    """Begin a block of inline mode."""
    block = Block()
    with _lock.lock:
        _blocks.append(block)
    _refresh_pools()
    return block


def end(block: Block) -> list[Job[Any]]:
    """End a block; return the jobs that failed in it and whose failures nobody has looked at."""
    with _lock.lock:
        _blocks.remove(block)
    _refresh_pools()
    return [job for job in block.failed if not job._outcome.is_seen]


def _refresh_pools() -> None:
    for core in lifecycle.known_cores():
        core.intake.refresh()


def runs_here() -> bool:
    """Return whether the calling thread is running a job of inline mode, and then its retries."""
    slots = slots_here()
    return bool(slots) and slots[-1].runs_retries


def run_inline(core: "PoolCore", job: Job[Any]) -> None:
    """Run a job, and its retries, in inline mode.

    Raises:
        BaseException: what a detached job has raised.
        KeyboardInterrupt: the job was interrupted.
    """
    _run_in_new_slot(core, job)
    pass_on_interrupt(job)
    if job._local_state is FAILED:
        if job._policy.is_detached:
            raise job._outcome.exception()  # no caller will ask for it
        _note_failure(job)


def run_fired(core: "PoolCore", jobs: Sequence[Job[Any]]) -> None:
    """Run jobs that a timer, or the end of another job, has fired, in inline mode.

    Every failure is noted in the block, as the caller could not pass it on; a KeyboardInterrupt is
    raised. No job runs in the thread that all timers share.
    """

    def run_all() -> None:
        for job in jobs:
            _run_in_new_slot(core, job)
            if job._local_state is FAILED:
                if job._policy.is_detached:
                    job._outcome.is_seen = False  # it was only logged
                _note_failure(job)

    if scheduler.is_current_thread():
        run_in_thread(run_all, f"{core.label}-callbacks")
    else:
        run_all()
        for job in jobs:
            pass_on_interrupt(job)


def _note_failure(job: Job[Any]) -> None:
    """Let the end of the block raise the exception of a job, unless it is looked at before."""
    with _lock.lock:
        own = [block for block in _blocks if block.ident == get_ident()]
        for block in (own or _blocks)[-1:]:
            block.failed.append(job)


def _run_in_new_slot(core: "PoolCore", job: Job[Any]) -> None:
    """Run a job and its retries; see `PoolCore.retry`."""
    with guest_slot(core) as slot:
        slot.runs_retries = True
        while job._local_state is QUEUED:
            slot.job = job
            run_in_slot(slot)
    if job._policy.is_durable:
        core.store.live.note_inline(job)
