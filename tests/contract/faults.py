"""Faults of other executors, each a scenario that ends well where the fault is not.

``python faults.py NAME EXECUTOR`` plays one, in a process of its own, since some of them leave
threads behind that never end. It prints "well" at the end of a scenario that went well.
"""

import contextvars
import ctypes
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed

from oddjob import Pool

# Seconds until something that should have happened counts as never happening. In a pool it happens,
# on a slow machine too; with the standard library's executor it is known that it does not.
WAIT = 20.0 if sys.argv[2:] == ["Pool"] else 1.0

EXECUTORS: dict[str, type[ThreadPoolExecutor]] = {
    "ThreadPoolExecutor": ThreadPoolExecutor,
    "Pool": Pool,
}
Scenario = Callable[[type[ThreadPoolExecutor]], None]


def occupy(executor: Executor) -> tuple[threading.Event, Future[bool]]:
    """Let the executor's only worker stand at a gate; returns the gate, and the job at it."""
    gate, arrived = threading.Event(), threading.Event()

    def stand() -> bool:
        arrived.set()
        return gate.wait(WAIT)

    job = executor.submit(stand)
    assert arrived.wait(WAIT)
    return gate, job


def callback_that_exits_the_thread(executor_type: type[ThreadPoolExecutor]) -> None:
    """1. A done-callback raises SystemExit; the pool's only worker must not be lost."""
    executor = executor_type(max_workers=1)
    gate, job = occupy(executor)
    job.add_done_callback(lambda _: sys.exit())
    gate.set()
    job.result(WAIT)
    assert executor.submit(pow, 2, 3).result(WAIT) == 8


def callback_that_submits_during_shutdown(executor_type: type[ThreadPoolExecutor]) -> None:
    """2. A callback of a job that shutdown cancels submits; nothing may deadlock."""
    executor = executor_type(max_workers=1)
    gate, running = occupy(executor)
    refusals: list[BaseException] = []

    def submit_again(_: object) -> None:
        try:
            executor.submit(pow, 2, 3)
        except RuntimeError as error:
            refusals.append(error)

    executor.submit(pow, 2, 3).add_done_callback(submit_again)
    closer = threading.Thread(
        target=executor.shutdown, kwargs={"wait": False, "cancel_futures": True}, daemon=True
    )
    closer.start()
    closer.join(WAIT)
    assert not closer.is_alive(), "shutdown hangs"
    assert len(refusals) == 1
    gate.set()
    running.result(WAIT)


def thread_that_cannot_be_started(executor_type: type[ThreadPoolExecutor]) -> None:
    """3. Thread.start fails and submit raises; the refused job must never run."""
    executor = executor_type(max_workers=1)
    start = threading.Thread.start

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    ran: list[str] = []
    threading.Thread.start = fail  # type: ignore[method-assign]
    try:
        executor.submit(ran.append, "refused")
    except RuntimeError:
        pass
    else:
        raise AssertionError("submit said nothing")
    finally:
        threading.Thread.start = start  # type: ignore[method-assign]
    executor.submit(ran.append, "accepted").result(WAIT)
    assert ran == ["accepted"]


def exception_thrown_into_an_idle_worker(executor_type: type[ThreadPoolExecutor]) -> None:
    """4. An asynchronous exception hits an idle worker; the jobs after it must run."""
    executor = executor_type(max_workers=1)
    worker = executor.submit(threading.get_ident).result(WAIT)
    thrown = ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(worker), ctypes.py_object(KeyboardInterrupt)
    )
    assert thrown == 1
    jobs = [executor.submit(pow, 2, exponent) for exponent in range(3)]
    assert [job.result(WAIT) for job in jobs] == [1, 2, 4]


def as_completed_after_shutdown(executor_type: type[ThreadPoolExecutor]) -> None:
    """5. as_completed must hear of jobs that a shutdown cancelled."""
    executor = executor_type(max_workers=1)
    gate, running = occupy(executor)
    queued = [executor.submit(pow, 2, 3) for _ in range(3)]
    executor.shutdown(wait=False, cancel_futures=True)
    try:
        assert len(list(as_completed(queued, timeout=WAIT))) == 3
    finally:
        gate.set()
    running.result(WAIT)


def exit_after_everything_was_let_go(executor_type: type[ThreadPoolExecutor]) -> None:
    """6. The process must not wait for a pool shut down with wait=False, cancel_futures=True."""
    executor = executor_type(max_workers=1)
    started = threading.Event()

    def linger() -> None:
        started.set()
        threading.Event().wait(WAIT)
        os._exit(1)  # had the process not waited, it would have ended well by now

    executor.submit(linger)
    started.wait(WAIT)
    executor.shutdown(wait=False, cancel_futures=True)


def context_of_the_submitter(executor_type: type[ThreadPoolExecutor]) -> None:
    """7. A job must see its submitter's context variables, and leak none of its own."""
    request = contextvars.ContextVar("request", default="none")
    executor = executor_type(max_workers=1)
    executor.submit(pow, 2, 3).result(WAIT)  # the thread is older than the value
    request.set("42")
    assert executor.submit(request.get).result(WAIT) == "42"
    executor.submit(request.set, "leaked").result(WAIT)
    assert executor.submit(request.get).result(WAIT) == "42"


def first_submit_of_a_forked_child(executor_type: type[ThreadPoolExecutor]) -> None:
    """8. A child of a process that has used the executor must be able to use it."""
    executor = executor_type(max_workers=1)
    executor.submit(pow, 2, 3).result(WAIT)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = executor.submit(pow, 2, 3).result(WAIT) - 8
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def pending_jobs_of_a_stopped_pool(executor_type: type[ThreadPoolExecutor]) -> None:
    """13. When a pool stops, none of its jobs may stay pending, even if a worker had died."""
    executor = executor_type(max_workers=1)
    gate, doomed = occupy(executor)
    doomed.add_done_callback(lambda _: sys.exit())
    pending = [executor.submit(pow, 2, 3) for _ in range(3)]
    gate.set()
    executor.shutdown(wait=True)
    assert [job.done() for job in [doomed, *pending]] == [True] * 4


FAULTS: dict[str, Scenario] = {
    "1-callback-exits": callback_that_exits_the_thread,
    "2-callback-submits-during-shutdown": callback_that_submits_during_shutdown,
    "3-thread-start-fails": thread_that_cannot_be_started,
    "4-exception-into-idle-worker": exception_thrown_into_an_idle_worker,
    "5-as-completed-after-shutdown": as_completed_after_shutdown,
    "6-exit-waits": exit_after_everything_was_let_go,
    "7-context-lost": context_of_the_submitter,
    "8-forked-child-hangs": first_submit_of_a_forked_child,
    "13-pending-for-ever": pending_jobs_of_a_stopped_pool,
}


def play(name: str, executor_type: type[Executor]) -> None:
    """Play a scenario; if it fails, leave at once, whatever threads there are."""
    try:
        FAULTS[name](executor_type)  # type: ignore[arg-type]  # one of EXECUTORS
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]  # there is an exception
        sys.stderr.flush()
        os._exit(1)
    print("well", flush=True)


if __name__ == "__main__":
    play(sys.argv[1], EXECUTORS[sys.argv[2]])
