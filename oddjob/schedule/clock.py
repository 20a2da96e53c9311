"""Clock: what time it is, for everybody here who asks.

There are three times, and it matters which one is asked for.

*Monotonic* time says how much later something is: it drives ``after`` and ``every``, retries and
rates. *Wall* time is what clocks on walls show, in seconds since the epoch: it drives ``at`` and
``cron``, and may be set back and forth. A test can replace both, see `oddjob.testing.FakeClock`.
*Steady* time is the machine's own, which nobody replaces: threads sleep by it.

Tools that put another clock in the place of the standard library's, in a test, change what wall
time is, and nothing else: the functions are kept where such tools do not look for them, since
threads that sleep, and whoever limits a rate, would not survive a jump by fifty years.
"""

import sys
import time
from collections.abc import Callable
from types import BuiltinFunctionType
from typing import Final

__all__ = ["Clock", "clock"]

_DEPTH: Final = 12  # calls


class Clock:
    """What time it is.

    Locking: none; each field is replaced in one step.
    """

    __slots__ = ("_ahead", "_wall", "monotonic", "steady")

    def __init__(self) -> None:
        # Imported by a test that has replaced it already, it is to be the machine's all the same.
        replacer = sys.modules.get("freezegun.api")
        steady = getattr(replacer, "real_monotonic", time.monotonic)
        self.steady: Final[Callable[[], float]] = steady
        self.monotonic: Callable[[], float] = steady
        self._wall: Callable[[], float] | None = None
        self._ahead = 0.0  # what monotonic time is ahead of steady time

    def wall(self) -> float:
        """Wall time, in seconds since the epoch."""
        return _ask(_DEPTH) if self._wall is None else self._wall()

    @property
    def is_replaced(self) -> bool:
        """Whether somebody has replaced wall time in the standard library.

        Who waits for a wall time then has to look often: such a clock tells nobody that it moves.
        """
        return not isinstance(time.time, BuiltinFunctionType)

    @property
    def is_fake(self) -> bool:
        """Whether somebody has replaced it here."""
        return self._wall is not None

    def replace(self, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        """Take the time from somebody else."""
        self.monotonic, self._wall = monotonic, wall

    def restore(self) -> None:
        """Take it from the machine again; monotonic time does not go back for that."""
        self._ahead = max(self._ahead, self.monotonic() - self.steady())
        self._wall = None
        self.monotonic = self._go_on if self._ahead > 0 else self.steady

    def steady_time_of(self, moment: float) -> float:
        """The steady time at which a monotonic time is reached."""
        ahead = 0.0 if self.monotonic is self.steady else self.monotonic() - self.steady()
        return moment - ahead

    def _go_on(self) -> float:
        return self.steady() + self._ahead


def _ask(depth: int) -> float:
    # Such tools show the real time to callers from within certain modules, ``threading`` among
    # them, and find out who calls by looking a few calls up: those are all ours.
    return _ask(depth - 1) if depth else time.time()


clock: Final = Clock()
