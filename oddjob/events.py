"""What a pool reports to its ``on_event`` callback.

Guarantees: the callback runs in the thread in which the event happened, with none of the
library's locks held; whatever it raises is logged and changes nothing else.
"""

import logging
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from oddjob.log import log

EventKind = Literal[
    "worker_crashed",
    "worker_replaced",  # a new worker runs in the place of one that is gone
    "pool_restarted",  # all workers are being replaced
    "pool_broken",
    "pool_degraded",  # quarantined threads take up workers' places
    "pool_recovered",  # from either of the two
    "pool_closed",
    "job_failed",  # an attempt raised an exception, and there is no other attempt
    "job_retried",  # an attempt raised an exception, and there will be another one
    "job_timed_out",
]


class PoolEvent(NamedTuple):
    """Something that happened to a pool, as passed to ``on_event``.

    Attributes:
        kind: what happened, such as ``"worker_crashed"`` or ``"job_failed"``.
        pool: the pool's name, or the label of an anonymous pool in the log.
        worker: the name of the thread concerned, or None.
        job: the `Job` concerned, or None.
        error: the exception concerned, or None.
    """

    kind: EventKind
    pool: str
    worker: str | None = None
    job: Any = None
    error: BaseException | None = None


OnEvent = Callable[[PoolEvent], object]


class EventListener:
    """Passes a pool's events to its ``on_event`` callback; from any thread, with no lock held."""

    def __init__(self, label: str, callback: OnEvent | None) -> None:
        self._label = label
        self.callback: OnEvent | None = callback

    def notify(self, kind: EventKind, **details: Any) -> None:
        """Call the callback with an event of these `details`; log whatever it raises."""
        callback = self.callback  # read once: it may be set at any time
        if callback is None:
            return
        try:
            callback(PoolEvent(kind, self._label, **details))
        except BaseException as failure:  # a callback's trouble must not cost a worker
            message = "on_event of pool %s raised, for %s"
            log(logging.ERROR, message, self._label, kind, error=failure)
