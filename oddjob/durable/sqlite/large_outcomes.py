"""LargeOutcomes: jobs whose outcomes are more than SQLite stores in one row, a billion bytes.

Such a job fails, with what is wrong in place of its outcome: to store that could be tried for ever.
"""

from collections.abc import Sequence
from typing import Final

from oddjob.durable.record import News, State, Turn, Update

_REST: Final = 10_000  # bytes that a row may have besides


class LargeOutcomes:
    """The updates of one turn, some of them replaced by others that fit."""

    def __init__(self, updates: Sequence[Update], limit: int) -> None:
        self._limit: Final = limit
        self._replaced: Final[list[tuple[Update, Update]]] = []
        self.updates: Final = [self._fitting(each) for each in updates]

    @property
    def were_found(self) -> bool:
        """Whether any update was replaced."""
        return bool(self._replaced)

    def _fitting(self, update: Update) -> Update:
        claim, outcome = update.claim, update.outcome or b""
        if len(claim.payload) + len(claim.meta or b"") + len(outcome) + _REST <= self._limit:
            return update
        error = f"PayloadError: the outcome is too large for the store: {len(outcome):,} bytes"
        is_result = update.state is State.SUCCEEDED
        fitting = update._replace(
            state=State.FAILED if is_result else update.state,
            outcome=None,
            error=error if is_result else f"{error} ({update.error})",
            traceback=error if is_result else update.traceback,
        )
        self._replaced.append((update, fitting))
        return fitting

    def tell(self, turn: Turn) -> Turn:
        """Have this process hear of those jobs as if another one had said how they ended."""
        refused = set(map(id, turn.refused))
        for update, fitting in self._replaced:
            if id(fitting) not in refused and fitting.state.has_ended:
                news = News(update.claim.id, fitting.state, None, fitting.error)
                turn.news.append(news)
            turn.refused.append(update)
        return turn
