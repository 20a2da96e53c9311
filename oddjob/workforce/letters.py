"""Letters: what a supervisor is told, by anybody, anywhere."""

from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import chain
from math import inf
from typing import Final, Generic, TypeVar

from oddjob.bell import Bell
from oddjob.schedule.clock import clock

__all__ = ["Letters"]

L = TypeVar("L")


class Letters(Generic[L]):
    """What one thread is told by others, in the order in which they wrote.

    It can be written to from destructors, signal handlers and finalisers. (It is no
    ``queue.SimpleQueue``, since to wait for that a very short time may take for ever: CPython 3.11
    takes a deadline that has just passed for none.)

    ``knock`` wakes the thread without a letter, in one step that nothing can interrupt; it raises
    a RuntimeError if the thread is awake, or about to be.

    Locking: none; a deque, and a bell that is rung with each letter.
    """

    def __init__(self) -> None:
        self.inbox: deque[L] = deque()
        self._bell = Bell()
        self.knock: Final = self._bell.knock

    def ready(self, letter: L) -> Callable[[], None]:
        """What puts a letter in, once, and knocks: all of it in one step, as `knock` is."""
        # The deque takes the letter, and rings as it asks whether there is more.
        return partial(self.inbox.extend, chain((letter,), iter(self.knock, None)))

    def put(self, letter: L) -> None:
        """Write; never waits."""
        put = self.ready(letter)
        try:  # noqa: SIM105  (finalisers come here, also when modules have been torn down)
            put()
        except RuntimeError:
            pass

    def wait(self, patience: float | None) -> None:
        """Sleep until there is a letter or somebody knocks, `patience` seconds at most."""
        until = inf if patience is None else clock.steady() + patience
        self._bell.wait(-inf if self.inbox else until)
