"""TurnAnswer: the answer to a turn of the store, from what the server says in each pool."""

from collections.abc import Sequence
from typing import Any, Final

from oddjob.durable.record import Submit, Submitted, Turn, Update
from oddjob.durable.redis.access import Part
from oddjob.errors import StoreFull, StoreUnusable


class TurnAnswer:
    """What is known so far; a turn may take several round trips."""

    def __init__(self, now: float) -> None:
        self.turn: Final = Turn(now)
        self.updates: Final[list[Update]] = []  # that are answered
        self.full: Final[list[Part]] = []  # the server had no memory for their submits
        self._submitted: Final[dict[str, list[Submitted]]] = {}  # by pool
        self.linked: dict[int, Submitted] = {}  # by the identity of the submit

    def read(self, part: Part, found: Any, number: int) -> None:
        """Add what the server has answered in one pool to the turn with a number."""
        if isinstance(found, StoreFull):
            self.full.append(part)
            self._refuse(part, found)
            return
        self.updates.extend(part.updates)
        if found is None:  # this process was taken over in this pool, and soon is in the others
            self.turn.refused += part.updates
            self._refuse(part, StoreUnusable("this process was taken for dead; try again"))
        else:
            submitted = part.pool.read(found, part, number, self.turn)
            if part.submits:
                self._submitted[part.pool.name] = submitted

    def _refuse(self, part: Part, error: Exception) -> None:
        refused = Submitted(None, is_new=False, error=error)
        if part.submits:
            self._submitted[part.pool.name] = [refused] * len(part.submits)

    def finish(self, submits: Sequence[Submit]) -> Turn:
        """Return the turn, which has had these submits."""
        answers = {pool: iter(each) for pool, each in self._submitted.items()}
        linked = self.linked
        self.turn.submitted = [
            linked[id(each)] if id(each) in linked else next(answers[each.partition.pool])
            for each in submits
        ]
        return self.turn
