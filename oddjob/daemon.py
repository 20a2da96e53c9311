"""run_forever: the main thread of a program that does nothing but run its pools."""

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from math import inf
from types import FrameType, TracebackType
from typing import Any, Final, Self

from oddjob.callables import call_all
from oddjob.quantities import Seconds, as_patience
from oddjob.registry import registry
from oddjob.runtime import lifecycle
from oddjob.runtime.core import PoolCore
from oddjob.schedule.clock import clock

_SIGNALS = ("SIGTERM", "SIGINT")


def run_forever(timeout: Seconds | None = 25.0) -> bool:
    """Wait for SIGTERM or SIGINT (Ctrl-C), then drain all pools, and return.

    ``oddjob drain``, and *Drain* in the dashboard, are as good as a signal.

    Nothing is begun after the signal, but for jobs that were queued in memory: these are run until
    the time is up, like those that run already. Jobs of a store that have not begun go back to it
    at once, for other processes, or the next one. A second signal ends the process at once.

    Args:
        timeout: how long the pools have for that together, in seconds, 0 or more; None or
            ``math.inf``: no limit. It should be shorter than the time that the sender of the signal
            allows (30 seconds, with Kubernetes).

    Returns:
        Whether all jobs that had begun have ended in time.

    Raises:
        RuntimeError: the caller is not the main thread, which alone can handle signals.
    """
    return not run_until(as_patience("timeout", timeout))


def run_until(seconds: float, is_over: Callable[[], bool] | None = None, every: float = inf) -> int:
    """Do what `run_forever` says, also when `is_over` says that it is enough.

    Args:
        seconds: as the `timeout` of `run_forever`.
        is_over: asked every so often; None: it is not.
        every: seconds between two such questions.

    Returns:
        How many jobs had not ended when the time was up.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("run_forever() handles signals, so it belongs into the main thread")
    is_told = False

    def end(_number: int) -> None:
        nonlocal is_told
        is_told = True
        for name in _SIGNALS:
            signal.signal(getattr(signal, name), signal.SIG_DFL)

    def end_too() -> None:
        nonlocal is_told
        is_told = True
        waiter.wake()

    with SignalWaiter(end) as waiter:
        lifecycle.set_end_handler(end_too)
        try:
            while not (is_told or (is_over is not None and is_over())):
                waiter.wait(every)
            return _drain_all(seconds)
        finally:
            lifecycle.set_end_handler(None)


class SignalWaiter:
    """Handles SIGTERM and SIGINT, and lets the main thread wait for them.

    A signal writes a byte to a socket, at once, and that is what the main thread waits for. Nothing
    else wakes it wherever a signal comes from: Python calls a handler between two instructions, so
    one that comes right before the thread blocks in a lock would be heard with the next signal; and
    a lock is not woken by ``_thread.interrupt_main()``, nor on Windows by Ctrl-C.

    Args:
        handler: called with the number of a signal, in the main thread.
    """

    def __init__(self, handler: Callable[[int], object]) -> None:
        from socket import socketpair  # it takes time to load

        self._handler: Final = handler
        self._receiver, self._sender = socketpair()
        self._former_fd = -1
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._sender.settimeout(0.0)
        self._former_fd = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        for name in _SIGNALS:
            number = getattr(signal, name)
            self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._former.items():  # None: it was not Python that has set it
            signal.signal(number, handler or signal.SIG_DFL)
        signal.set_wakeup_fd(self._former_fd)
        self._sender.close()
        self._receiver.close()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._handler(number)

    def wake(self) -> None:
        """End the main thread's wait, this one or the next, from any thread."""
        with suppress(OSError):
            self._sender.send(b"\0")

    def wait(self, seconds: float) -> None:
        """Sleep until there is a signal, or `wake`, or for some seconds."""
        self._receiver.settimeout(None if seconds == inf else seconds)
        with suppress(TimeoutError):
            self._receiver.recv(4096)


def _drain_all(seconds: float) -> int:
    deadline = clock.steady() + seconds
    cores, left = lifecycle.known_cores(), list[int]()
    call_all(core.ending.begin_drain for core in cores)
    call_all(partial(_drain, core, deadline, left) for core in cores)
    return sum(left)


def _drain(core: PoolCore, deadline: float, left: list[int]) -> None:
    if core.pool is not None:  # else it was shut down, and collected
        registry.remove(core.name, core.pool)
    report = core.ending.drain(max(0.0, deadline - clock.steady()))
    left.append(len(report.running) + len(report.cancelled))
