"""Execution: running a job that a thread has taken, from the start to its callbacks.

`execute` calls and settles a plain job itself. It is one long function because each further Python
call would add 8 % to it (0.03 of 0.35 µs). Any other job makes an *attempt*, which passes through
the smaller functions of this file: it begins, is called and judged, and the job ends.

Words: an attempt is *concluded* by its thread or by the watchdog, whichever comes first. A failure
is *judged*: either another attempt follows, or the job has failed. A job is *claimed* by the thread
that runs it, under the lock of its `SharedState` if it has one.

Guarantees: after `execute`, the job has ended, is queued again, or belongs to another thread. If it
may run again, it is no longer in the slot: whatever it holds then belongs to its next attempt. A
failed job is in no reference cycle: its traceback begins at its own function.
Rule: a traceback keeps every calling frame alive. So each function here through which the job's
call or its exception passes deletes its references to the job (``del``) before it returns.
Assumes: the caller has put the job into its slot, and runs it in no other thread.
"""

import logging
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from types import CoroutineType, FunctionType
from typing import Any

from oddjob.callables import describe, is_async
from oddjob.log import log
from oddjob.runtime.job import Job
from oddjob.runtime.job_state import CANCELLED, ENDED, RUNNING, SUCCEEDED
from oddjob.runtime.middleware import compose
from oddjob.runtime.policy import ONE_ARGUMENT, call_arguments
from oddjob.runtime.settling import end, end_failed, jobs_behind, was_stopped
from oddjob.runtime.slot import Slot
from oddjob.tracebacks import drop_own_frames


def execute(job: Job[Any], slot: Slot) -> bool:
    """Run a job that is in a slot of the calling thread, unless it was cancelled or claimed before.

    Returns:
        Whether this thread has ended the job or queued it again. If not, it was cancelled, another
        thread has claimed it, or the watchdog has ended it. If the thread should end with what the
        job raised, the exception is in ``slot.crash``.

    Raises:
        BaseException: raised by a callback of the job, or thrown at this thread by another one.
    """
    # First write the state, then read `_shared`. A watcher first installs `_shared`, then reads the
    # state. So at least one of the two sees the other (race 1 of `shared_state`).
    job._fast_state = RUNNING
    is_plain = job._policy.is_plain
    shared = job._shared if is_plain else job._ensure_shared()
    if shared is not None and not shared.claim(slot):
        job._fast_state = shared.state
        return False
    if not is_plain:
        try:
            return _attempt(job, slot)
        finally:
            del job, slot, shared
    fn = job._fn
    context = job._context
    kwargs = job._kwargs
    try:
        if kwargs is None:
            result = context.run(fn, *job._args)
        elif kwargs is ONE_ARGUMENT:
            context = context.copy()
            result = context.run(fn, job._args)
        else:
            result = context.run(fn, *job._args, **kwargs)
        if type(result) is CoroutineType and is_async(fn):
            result = slot.coroutines.run(job, result, context)
    except BaseException as error:
        try:
            return _fail(job, error, slot)
        finally:
            del job, slot, shared, fn, context, kwargs  # see the rule
    if job._name is None:
        job._name = fn.__qualname__ if type(fn) is FunctionType else describe(fn)
    job._fn = job._args = job._kwargs = job._context = None
    slot.metrics.succeeded += 1  # before the result can be seen
    if job._shared is None:
        job._outcome = result
        job._fast_state = SUCCEEDED
        if job._shared is None:  # otherwise a watcher may have missed both writes: race 2
            return True
    return _end_succeeded(job, result, slot)


def _end_succeeded(job: Job[Any], result: Any, slot: Slot) -> bool:
    # `end` also returns False if the watcher saw the plain writes (race 2): then the outcome is
    # this very result. (The same holds after `set_result` with this object: it counts as success.)
    ended_here = end(job, SUCCEEDED, result) or job._outcome is result
    if not ended_here:  # another outcome was set by hand meanwhile
        slot.metrics.succeeded -= 1
    return ended_here


# An attempt, step by step.


def _attempt(job: Job[Any], slot: Slot) -> bool:
    """Make one attempt of a job that the thread has claimed."""
    shared, details = job._ensure_shared(), job._ensure_details()
    number = details.begin_attempt()
    run = None
    try:
        try:
            if job._policy.timeout is not None:
                run = slot.core.watchdog.watch(job, number, slot)
            result = _call(job, slot)
            if not details.conclude(shared, number, slot):
                return False
            job._policy.settlement.succeeded(job, result)
        except BaseException as error:
            # (If the settlement has raised, this thread concludes again: the answer is the same.)
            if not details.conclude(shared, number, slot):
                return False  # the watchdog was first: the exception is discarded
            return _retry_or_fail(job, error, slot)
        slot.metrics.succeeded += 1
        return _end_succeeded(job, result, slot)
    finally:
        if run is not None:
            slot.core.watchdog.unwatch(run)
        if slot.is_late:
            slot.job, slot.is_late = None, False
        del job, slot, shared, details, run


def _call(job: Job[Any], slot: Slot) -> Any:
    """Call the function of a job, within its middleware and in its context."""
    call: Callable[[], Any] = partial(_call_function, job, slot)
    context = job._context.copy()
    middleware = job._policy.middleware
    try:
        if middleware:
            details = job._ensure_details()
            details.is_inline = slot.is_inline
            call = compose(middleware, job, details.carrier, call)
        return context.run(call)
    finally:
        del job, slot, call, context, middleware


def _call_function(job: Job[Any], slot: Slot) -> Any:
    fn = job._fn
    args, kwargs = call_arguments(job._args, job._kwargs)
    try:
        result = fn(*args, **kwargs)
        if type(result) is CoroutineType and is_async(fn):
            result = slot.coroutines.run(job, result, copy_context())
        return result
    finally:
        del job, slot, fn, args, kwargs


def _retry_or_fail(job: Job[Any], error: BaseException, slot: Slot) -> bool:
    """Judge a failed attempt: queue the job again, or end it as failed."""
    drop_own_frames(error)
    number = job.attempt
    delay = job._policy.settlement.failed(job, error)
    if delay is None:
        return _fail(job, error, slot)
    slot.is_reporting, slot.job = True, None
    slot.metrics.retried += 1
    core = slot.core
    message = "job %s of pool %s failed in attempt %d, and is retried in %g s: %r"
    log(logging.WARNING, message, job.name, core.label, number, delay, error)
    core.events.notify("job_retried", job=job, error=error)
    slot.is_reporting = False
    if core.is_crash(error):
        slot.crash = error
    return True


def _fail(job: Job[Any], error: BaseException, slot: Slot) -> bool:
    """End a job as failed, and mark the slot if its worker should be replaced.

    A job that has stopped as requested ends as cancelled.
    """
    core = slot.core
    behind = jobs_behind(job, core)
    try:
        drop_own_frames(error)
        details = job._ensure_details()
        details.started = details.started or slot.last_ended_at
        if was_stopped(job, error):
            slot.metrics.stopped += 1  # before the end can be seen
            if not end(job, CANCELLED, None):
                slot.metrics.stopped -= 1
                return False
            return True
        slot.metrics.failed += 1
        if not end_failed(job, error, behind, core):
            slot.metrics.failed -= 1
            return False
        core.events.notify("job_failed", job=job, error=error)
        if core.is_crash(error):
            slot.crash = error
        return True
    finally:
        del job, error, slot, behind


# After an asynchronous exception.


def rescue(job: Job[Any], slot: Slot, crash: BaseException) -> None:
    """End a job that an asynchronous exception has interrupted. Idempotent."""
    shared = job._ensure_shared()
    with shared.lock:
        if shared.owner not in (None, slot):
            return  # another thread runs it
        if job._fast_state in ENDED:
            shared.state = job._fast_state
            shared.announce(job, again=True)
        else:
            shared.owner = slot
            shared.state = RUNNING
    if shared.state not in ENDED:
        _fail(job, crash, slot)
    shared.run_callbacks(job)


def rescue_slot(slot: Slot, crash: BaseException) -> None:
    """End the jobs in a slot whose thread was interrupted, the innermost first."""
    leave_nested(slot, crash)
    job = slot.job
    if job is not None and not slot.is_late:
        rescue(job, slot, crash)
        if job.done():  # otherwise it belongs to another thread
            slot.core.give_back(job)


def leave_nested(outer: Slot, crash: BaseException | None = None) -> None:
    """Remove the slot that is nested in another one, once its stand-in, if any, has finished.

    If the job in it was interrupted, it ends with `crash`, the exception that is being raised, if
    any. At the recursion limit this may fail; a caller with more stack left then does it.
    """
    slot = outer.nested
    if slot is None:
        return
    if slot.stand_in is not None:
        slot.stand_in.join()
    if slot.job is not None:
        rescue_slot(slot, crash or RuntimeError("the job was interrupted"))
    outer.crash = outer.crash or slot.crash
    outer.nested = None
