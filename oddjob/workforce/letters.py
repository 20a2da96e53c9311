"""Letters: what a supervisor is told, by anybody, anywhere."""

from collections import deque
from math import inf
from typing import Generic, TypeVar

from oddjob.bell import Bell
from oddjob.schedule.clock import clock

__all__ = ["Letters"]

L = TypeVar("L")


class Letters(Generic[L]):
    """What one thread is told by others, in the order in which they wrote.

    It can be written to from destructors, signal handlers and finalisers. (It is no
    ``queue.SimpleQueue``, since to wait for that a very short time may take for ever: CPython 3.11
    takes a deadline that has just passed for none.)

    Locking: none; a deque, and a bell that is rung after each letter.
    """

    def __init__(self) -> None:
        self.inbox: deque[L] = deque()
        self._bell = Bell()

    def put(self, letter: L) -> None:
        """Write; never waits."""
        self.inbox.append(letter)
        self._bell.ring()

    def wait(self, patience: float | None) -> None:
        """Sleep until there is a letter, `patience` seconds at most."""
        until = inf if patience is None else clock.steady() + patience
        while not self.inbox and self._bell.wait(until):
            pass  # it was rung for one that has been taken
