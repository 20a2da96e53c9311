"""Work that hangs, and waiting for what nothing announces."""

import threading
import time
from collections.abc import Callable

from oddjob import Pool

WAIT = 10.0


class Hang:
    """Work that hangs until it is let go."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.left = threading.Semaphore(0)

    def __call__(self, _: object = None) -> str:
        self.entered.release()
        self.gate.wait(WAIT)
        self.left.release()
        return "late"

    def wait_until_it_hangs(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.entered.acquire(timeout=WAIT)


def until(condition: Callable[[], object]) -> None:
    """Wait for what another thread is about to do, and nothing announces."""
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def time_is_up(pool: Pool) -> None:
    """Let the one attempt that has a timeout, and is in time, be out of time now."""
    core = pool._core
    (run,) = [each for each in core.watchdog._runs if not each.is_overdue]
    run.deadline = core.watchdog.next_look = 0.0  # type: ignore[misc]  # final, for all others
    core.supervisor.notify()


def once(condition: Callable[[], object], act: Callable[[], object]) -> None:
    """Act in another thread, as soon as something is so."""

    def wait() -> None:
        until(condition)
        act()

    threading.Thread(target=wait).start()
