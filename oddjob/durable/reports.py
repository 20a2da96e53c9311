"""Reports: what has become of the claims of a process, and how far they are, for the store thread.

Guarantees: a report is there until `take`, and again after `put_back` if a turn has failed. A claim
is over as soon as its end is reported; its pool holds it until the report is on its way to the
store, so a pool that holds no claim has nothing to report either.

Thread safety: any thread may call `put`; the rest is for the store thread.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from oddjob.durable.operation import drain
from oddjob.durable.progress import LatestProgress
from oddjob.durable.record import State, Update


class Reports:
    """The reports of one process that are not stored yet."""

    def __init__(self) -> None:
        self._ends: Final[deque[Update]] = deque()
        self.progress: Final = LatestProgress()

    def put(self, update: Update) -> None:
        """Queue the end of a claim, after the latest progress of its job."""
        update.claim.is_over = True
        self._ends.extend([*self.progress.take_last(update.claim), update])

    def take(self) -> list[Update]:
        """Take what is to be stored now; the pools hold the claims that are over no longer."""
        taken = self.progress.take() + drain(self._ends)
        for update in taken:
            claim = update.claim
            if update.state is not State.RUNNING and claim.holder is not None:
                claim.holder.forget(claim)
        return taken

    def put_back(self, taken: Sequence[Update]) -> None:
        """Have these taken again, before all others: they could not be stored."""
        self._ends.extendleft(each for each in reversed(taken) if each.state is not State.RUNNING)
        for each in taken:
            if each.state is State.RUNNING:
                self.progress.put_back(each)

    def drop(self) -> int:
        """Drop all ends; return how many there were."""
        return len(drain(self._ends))

    def __len__(self) -> int:
        """Return how many updates cannot wait, as progress can."""
        return len(self._ends)
