"""Lending: a worker that waits for a job of its own pool lends its place to another worker.

The waiting thread cannot run the job that it waits for, as it could with a job in memory: the job
is in the store, and has to be claimed, by this process or another one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


class Lending:
    """Counts the workers of one pool that have lent their places.

    Thread safety: workers call everything here; the lock of the pool's state guards changes of
    `lent`, which the store thread reads without it.
    """

    def __init__(self, core: "PoolCore", wake: Callable[[], object]) -> None:
        self._core: Final = core
        self._wake: Final = wake  # makes the runner claim jobs for the other worker
        self.lent: int = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Let another worker run jobs inside this block."""
        self._lend(1)
        try:
            if len(self._core.dispatcher):  # the job may be queued here: it was claimed ahead
                self._core.intake.run_queued()
            yield
        finally:
            self._lend(-1)

    def _lend(self, change: int) -> None:
        with self._core.state.lock:
            self.lent += change
            self._core.workers.resize(self._core.workers.size + change)
        self._wake()
