"""Running the job in a slot that is not a worker's own, in the calling thread or in a stand-in.

A coroutine needs an event loop, and a thread whose loop is running cannot run a second one. So a
new thread, the *stand-in*, runs the job. It is bound to all slots of the thread for which it stands
in, so the job may wait in place like a job of that thread.

Guarantees: a stand-in ends when its `body` has returned, and empties its slot. If an asynchronous
exception interrupts a job, `rescue_slot` ends the job with it.
Locking: none. Once the stand-in has been started, the slot belongs to it.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial

from oddjob.callables import is_async
from oddjob.runtime.coroutines import CoroutineRunner, is_loop_running
from oddjob.runtime.execution import execute, leave_nested, rescue_slot
from oddjob.runtime.links import own_turns
from oddjob.runtime.slot import Slot, bind_thread, occupied, slot_of, slots_here
from oddjob.schedule.clock import clock
from oddjob.threads import JobThread


def run_in_slot(slot: Slot) -> None:
    """Run the job in a slot; return when the thread that ran it has left the slot."""
    begin_in_slot(slot)
    if slot.stand_in is not None:
        slot.stand_in.join()


def begin_in_slot(slot: Slot) -> None:
    """Run the job in a slot, or start a stand-in that runs it.

    A job in a stand-in may go on after its timeout. So a caller that waits for the job must not
    join the thread.
    """
    job = slot.job
    try:
        if is_loop_running() and job is not None and is_async(job._fn):
            start_stand_in(slot, partial(execute_in_slot, slot))
        else:
            with occupied(slot):
                execute_in_slot(slot)
    finally:
        del job  # see `execution`


def execute_in_slot(slot: Slot) -> None:
    """Execute the job in a slot of the calling thread, measure it, and empty the slot."""
    # (In inline mode, the next job of a chain waits for its turn: it runs when this has ended.)
    with nullcontext() if slot.runs_retries else own_turns():
        _execute_in_slot(slot)


def _execute_in_slot(slot: Slot) -> None:
    job = slot.job
    began = slot.last_ended_at = clock.monotonic()
    assert job is not None  # noqa: S101
    try:
        queued_at = job._queued_at
        if execute(job, slot):
            slot.metrics.measure(clock.monotonic() - began, began - queued_at)
        leave_nested(slot)
        if slot.job is not None:  # otherwise it may run again: see `execute`
            slot.core.give_back(job)
            slot.job = None
    finally:
        del job  # see `execution`


def start_stand_in(slot: Slot, body: Callable[[], None]) -> None:
    """Start a thread that stands in for the calling one: it calls `body` to run jobs in a slot.

    If no thread can be started (the process has none left, or is about to end), the calling thread
    calls `body` itself. Its event loop is blocked meanwhile, and coroutines fail: see
    `CoroutineRunner.run`.
    """
    core = slot.core
    slot.coroutines, slot.metrics, slot.is_inline = CoroutineRunner(), core.metrics.open(), False
    slots = [*slots_here(), slot]

    def run_bound() -> None:
        _bind_stand_in(slots)
        body()

    main = partial(_call_in_slot, slot, run_bound)
    slot.stand_in = JobThread(target=main, name=f"{core.label}-stand-in")
    try:
        slot.stand_in.start()
    except BaseException as failure:
        # After Ctrl-C the thread may run all the same. The callers pass the exception on to
        # `rescue_slot`, which ends the job; the thread then finds that it has ended.
        slot.stand_in = None
        if not isinstance(failure, Exception):
            raise
        with occupied(slot):
            _call_in_slot(slot, body)


def _bind_stand_in(slots: Sequence[Slot]) -> None:
    """Bind the calling thread to its slot and to those for which it stands in; initialize it."""
    slot = slots[-1]
    slot.ident = threading.get_ident()
    bind_thread(*slots)
    # Only for a worker: other threads (``caller_runs``) have not run the initializer either.
    options = slot.core.options
    if options.initializer is not None and slot_of(slot.core) is not None:
        options.initializer(*options.initargs)


def _call_in_slot(slot: Slot, body: Callable[[], None]) -> None:
    """Call `body` to run jobs in a slot, and give up the slot."""
    core, outer = slot.core, slot.outer
    try:
        body()
    except BaseException as crash:
        slot.crash = crash
        rescue_slot(slot, crash)
    finally:
        slot.coroutines.close()
        core.metrics.close(slot.metrics)
        if outer is not None:
            outer.crash = outer.crash or slot.crash
            outer.nested = None
        core.wake_waiters()
