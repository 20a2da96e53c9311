"""run_forever: the main thread of a program that does nothing but run its pools."""

import signal
import threading
from types import FrameType

from oddjob.locks import Wakeup
from oddjob.quantities import Seconds, as_patience
from oddjob.registry import registry
from oddjob.runtime import lifecycle
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
    told = Wakeup()

    def end(_number: int, _frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        told.set()

    numbers = [getattr(signal, name) for name in _SIGNALS]
    before = {each: signal.signal(each, end) for each in numbers}
    try:
        told.wait()
        _drain_all(seconds)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _drain_all(seconds: float) -> None:
    deadline = clock.steady() + seconds
    cores = lifecycle.known_cores()
    for core in cores:
        core.ending.begin_drain()
    for core in cores:
        registry.remove(core.name, core.pool)
        core.ending.drain(max(0.0, deadline - clock.steady()))
