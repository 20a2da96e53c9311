"""BegunMarks: marks the claims of this process that have begun.

If this process dies, the process that takes its claims over charges a crash to the claims that had
begun, and to no others. Each running job has a place of its own for its mark.
"""

from itertools import count
from typing import Final

from oddjob.durable.record import Claim
from oddjob.durable.store import Store


class BegunMarks:
    """Gives each running job of this process a place for its mark.

    Thread safety: any thread may call everything.
    """

    def __init__(self, store: Store) -> None:
        self._marks: Final = store.marks
        self._free: Final[list[int]] = []
        self._numbers: Final = count()

    def begin(self, claim: Claim) -> int:
        """Mark a claim as begun; return the place of the mark."""
        try:
            place = self._free.pop()
        except IndexError:
            place = next(self._numbers)
        self._marks.mark(place, claim)
        return place

    def end(self, place: int) -> None:
        """Remove the mark in a place, and free the place."""
        self.unmark(place)
        self._free.append(place)

    def unmark(self, place: int) -> None:
        """Remove the mark in a place, which stays taken until `end`."""
        self._marks.unmark(place)
