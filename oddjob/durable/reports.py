"""Reports: updates of claims, and progress, that workers leave for the store thread.

Guarantees: a report stays until `take`, and is queued again by `put_back` if the turn has failed. A
claim is over as soon as its end is reported. Its pool holds the claim until `take`: a pool that
holds no claim has no report here, except one that was put back.

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
        """Queue the latest progress of a job, and then the update that ends its claim."""
        update.claim.is_over = True
        self._ends.extend([*self.progress.take_last(update.claim), update])

    def take(self) -> list[Update]:
        """Take the updates to store now; their pools no longer hold the claims that are over."""
        taken = self.progress.take() + drain(self._ends)
        for update in taken:
            claim = update.claim
            if update.state is not State.RUNNING and claim.holder is not None:
                claim.holder.forget(claim)
        return taken

    def put_back(self, taken: Sequence[Update]) -> None:
        """Queue updates again, before all others, as they could not be stored."""
        self._ends.extendleft(each for each in reversed(taken) if each.state is not State.RUNNING)
        for each in taken:
            if each.state is State.RUNNING:
                self.progress.put_back(each)

    def drop(self) -> int:
        """Drop all updates except progress; return how many."""
        return len(drain(self._ends))

    def __len__(self) -> int:
        """Return how many updates are to be stored at once; others, of progress, may wait."""
        return len(self._ends)
