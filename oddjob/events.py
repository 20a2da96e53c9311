"""What a pool reports to its ``on_event`` callbacks.

Guarantees: the callbacks run in the thread in which the event happened, one after the other, with
none of the library's locks held; whatever one raises is logged and changes nothing else.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from oddjob.log import log
from oddjob.schedule.clock import clock

EventKind = Literal[
    "worker_crashed",
    "worker_replaced",
    "pool_restarted",
    "pool_broken",
    "pool_degraded",
    "pool_recovered",
    "pool_closed",
    "job_failed",
    "job_retried",
    "job_timed_out",
]


class PoolEvent(NamedTuple):
    """Something that happened to a pool, as passed to ``on_event``.

    Attributes:
        kind: what happened. ``"worker_crashed"``, ``"worker_replaced"`` (by a new one);
            ``"pool_restarted"`` (all workers are replaced), ``"pool_broken"``,
            ``"pool_degraded"`` (stuck threads take up workers' places), ``"pool_recovered"`` (from
            either), ``"pool_closed"``; ``"job_failed"`` (for good), ``"job_retried"`` (after a
            failure there will be another attempt), ``"job_timed_out"``.
        pool: the pool's name, or the label of an anonymous pool in the log.
        at: when it happened, in UTC.
        worker: the name of the thread concerned, or None.
        job: the `Job` concerned, or None.
        error: the exception concerned, or None.
    """

    kind: EventKind
    pool: str
    at: datetime
    worker: str | None = None
    job: Any = None
    error: BaseException | None = None


Observer = Callable[[PoolEvent], object]
OnEvent = Observer | Sequence[Observer]


class EventListener:
    """Passes a pool's events to its ``on_event`` callbacks; from any thread, with no lock held."""

    def __init__(self, label: str, callbacks: OnEvent | None) -> None:
        self._label = label
        self.callbacks: OnEvent | None = callbacks

    def notify(self, kind: EventKind, **details: Any) -> None:
        """Call the callbacks with an event of these `details`; log whatever one of them raises."""
        callbacks = self.callbacks  # read once: they may be set at any time
        if callbacks is None:
            return
        event = PoolEvent(kind, self._label, datetime.fromtimestamp(clock.wall(), UTC), **details)
        for callback in (callbacks,) if callable(callbacks) else callbacks:
            try:
                callback(event)
            except BaseException as failure:  # a callback's trouble must not cost a worker
                message = "on_event of pool %s raised, for %s"
                log(logging.ERROR, message, self._label, kind, error=failure)
