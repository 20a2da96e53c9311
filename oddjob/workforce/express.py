"""Express: how workers take jobs without the agenda's lock, while only arrival matters."""

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

from oddjob.job import Job
from oddjob.limits import Gate
from oddjob.schedule.clock import clock

__all__ = ["Express"]


class Express(NamedTuple):
    """What workers take jobs by, without the lock, while only arrival matters.

    That is so for as long as one lane is ahead of all others, and no limit has a say in it; or a
    limit has allowed so many starts, for a short time. Whoever changes anything withdraws it
    first. A worker that has read it just before takes a job all the same: it has been a little
    quicker. (On its way it may lose a start that was allowed: that counts, as if there had been
    one.)
    """

    take: Callable[[], Job[Any]]
    allowed: deque[None] | None = None  # one for each start; none: as many as there are
    until: float = inf  # monotonic seconds
    gate: Gate | None = None
    number: int = 0  # how many starts were allowed

    def is_valid(self) -> bool:
        """Whether it still holds: else something has come to its time that may change it."""
        return self.until == inf or clock.monotonic() < self.until
