"""run_forever: the main thread of a program that does nothing but run its pools."""

import signal
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType

from oddjob.callables import call_all
from oddjob.quantities import Seconds, as_patience
from oddjob.registry import registry
from oddjob.runtime import lifecycle
from oddjob.runtime.core import PoolCore
from oddjob.schedule.clock import clock

_SIGNALS = ("SIGTERM", "SIGINT")


def run_forever(timeout: Seconds | None = 25.0) -> None:
    """Wait for SIGTERM or SIGINT (Ctrl-C), then drain all pools, and return.

    Nothing is begun after the signal, but for jobs that were queued in memory: these are run until
    the time is up, like those that run already. Jobs of a store that have not begun go back to it
    at once, for other processes, or the next one. A second signal ends the process at once.

    Args:
        timeout: how long the pools have for that together, in seconds, 0 or more; None or
            ``math.inf``: no limit. It should be shorter than the time that the sender of the signal
            allows (30 seconds, with Kubernetes).

    Raises:
        RuntimeError: the caller is not the main thread, which alone can handle signals.
    """
    seconds = as_patience("timeout", timeout)
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("run_forever() handles signals, so it belongs into the main thread")
    is_over = False

    def end(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_over
        is_over = True
        for each in before:
            signal.signal(each, signal.SIG_DFL)

    numbers = [getattr(signal, name) for name in _SIGNALS]
    before = {each: signal.signal(each, end) for each in numbers}
    try:
        _wait_for_signals(lambda: is_over)
        _drain_all(seconds)
    finally:
        for each, handler in before.items():  # None: it was not Python that has set it
            signal.signal(each, handler or signal.SIG_DFL)


def _wait_for_signals(is_over: Callable[[], bool]) -> None:
    """Sleep until a signal handler has made `is_over` true.

    A signal writes a byte to a socket. Nothing else wakes the main thread wherever it comes from:
    a lock is not woken by ``_thread.interrupt_main()``, nor on Windows by Ctrl-C.
    """
    from socket import socketpair  # it takes time to load

    reader, writer = socketpair()
    with reader, writer:
        writer.setblocking(False)  # noqa: FBT003  (the standard library's)
        former = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            while not is_over():
                reader.recv(1)
        finally:
            signal.set_wakeup_fd(former)


def _drain_all(seconds: float) -> None:
    deadline = clock.steady() + seconds
    cores = lifecycle.known_cores()
    call_all(core.ending.begin_drain for core in cores)
    call_all(partial(_drain, core, deadline) for core in cores)


def _drain(core: PoolCore, deadline: float) -> None:
    registry.remove(core.name, core.pool)
    core.ending.drain(max(0.0, deadline - clock.steady()))
