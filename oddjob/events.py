"""What an observer of a pool is told: `Pool.on_event`."""

import logging
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from oddjob.log import say

__all__ = ["EventKind", "Herald", "OnEvent", "PoolEvent"]

EventKind = Literal[
    "crash",  # a worker crashed
    "replace",  # a worker runs in the place of one that has gone
    "pool_restart",  # all workers are being replaced
    "broken",  # the pool has given up
    "degraded",  # stuck threads take up places of workers
    "recovered",  # they do not any more, or a broken pool was revived
    "timeout",  # a job ran for longer than its timeout
    "job_failed",  # a job raised something
    "retry",  # a job raised something, and will be tried again
    "closed",  # the pool takes no more jobs
]


class PoolEvent(NamedTuple):
    """Something that happened to a pool; what does not apply is None.

    `pool` is the pool's name, or what an anonymous one is called in the log; `worker` is the name
    of a thread.
    """

    kind: EventKind
    pool: str
    worker: str | None = None
    job: Any = None
    error: BaseException | None = None


OnEvent = Callable[[PoolEvent], object]


class Herald:
    """Tells a pool's observer, if it has one.

    Locking: none; `tell` is called with no lock held.
    """

    def __init__(self, label: str, observer: OnEvent | None) -> None:
        self._label = label
        self.observer = observer

    def tell(
        self,
        kind: EventKind,
        *,
        worker: str | None = None,
        job: Any = None,
        error: BaseException | None = None,
    ) -> None:
        """Tell the observer; whatever it raises is logged, and does no harm."""
        if self.observer is not None:
            try:
                self.observer(PoolEvent(kind, self._label, worker, job, error))
            except BaseException as second:  # an observer's trouble is nobody else's
                what = "on_event of pool %s raised, for %s"
                say(logging.ERROR, what, self._label, kind, error=second)
