"""Stand-in: runs the job that is in a slot, in the calling thread or in a thread that stands in.

A coroutine needs an event loop, and a thread whose loop is running cannot run a second one. So a
new thread, the *stand-in*, runs the job. It is bound to all slots of the thread for which it stands
in: a job that it runs may wait in place like a job of that thread.

Guarantees: a stand-in ends when its `body` has returned, and leaves its slot. A job that an
asynchronous exception interrupts is ended by `rescue_slot`.

Locking: none. The slot is the stand-in's as soon as that is started.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial

from oddjob.callables import is_async
from oddjob.runtime.coroutines import CoroutineRunner, is_loop_running
from oddjob.runtime.execution import execute, leave_nested, rescue_slot
from oddjob.runtime.slot import Slot, bind_thread, occupied, slot_of, slots_here
from oddjob.schedule.clock import clock
from oddjob.threads import JobThread


def run_in_slot(slot: Slot) -> None:
    """Run the job in a slot, and return when its thread is done with it."""
    begin_in_slot(slot)
    if slot.stand_in is not None:
        slot.stand_in.join()


def begin_in_slot(slot: Slot) -> None:
    """Run the job in a slot, or start a stand-in that runs it.

    A job in a stand-in may run on past its timeout. So a caller that waits for the job, and not for
    the slot, must not join the thread.
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
    """Start a thread that stands in for the calling one, and calls `body` to run jobs in a slot.

    If no thread can be started (the process has none left, or is about to end), the calling thread
    calls `body` itself; its event loop is blocked meanwhile.
    """
    core = slot.core
    slot.coroutines, slot.metrics, slot.is_inline = CoroutineRunner(), core.metrics.open(), False
    main = partial(_stand_in_main, slot, body, [*slots_here(), slot])
    slot.stand_in = JobThread(target=main, name=f"{core.label}-stand-in")
    try:
        slot.stand_in.start()
    except BaseException as failure:
        # After Ctrl-C the thread may run all the same. The callers of this one pass the exception
        # to `rescue_slot`, which ends the job; the thread then finds that it has ended.
        slot.stand_in = None
        if not isinstance(failure, Exception):
            raise
        with occupied(slot):
            _stand_in_main(slot, body)


def _stand_in_main(slot: Slot, body: Callable[[], None], to_bind: Sequence[Slot] = ()) -> None:
    """Call `body`; a new thread first binds the slots of the thread for which it stands in."""
    core, outer = slot.core, slot.outer
    try:
        if to_bind:
            slot.ident = threading.get_ident()
            bind_thread(*to_bind)
            # Only for a worker: no other thread (``caller_runs``) has run the initializer.
            if core.options.initializer is not None and slot_of(core) is not None:
                core.options.initializer(*core.options.initargs)
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
