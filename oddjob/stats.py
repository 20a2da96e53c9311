"""What `Pool.stats` returns: plain numbers, for people and for monitoring."""

from typing import Literal, NamedTuple

__all__ = ["Durations", "PoolState", "PoolStats"]

PoolState = Literal["running", "restarting", "degraded", "broken", "closed"]


class Durations(NamedTuple):
    """How long something took, in seconds; all zero if it never happened.

    `count`, `mean` and `max` are of all there were. The percentiles are right to 5%, and to a
    millisecond: what takes less is measured in groups.
    """

    count: int  # type: ignore[assignment]  # tuple.count is no loss
    mean: float
    p50: float
    p95: float
    p99: float
    max: float


class PoolStats(NamedTuple):
    """The state of a pool, and what it has done since it was made (in a fork: since then).

    ``started == running + succeeded + failed - refused + timed_out + retried`` holds in every
    snapshot. A job that starts at this very moment may be among the queued as well.
    Times are in seconds.
    """

    state: PoolState
    queued: int  # wait for a worker, or to be tried again
    running: int  # have started and not ended
    idle: int  # workers that wait for a job
    started: int
    succeeded: int
    failed: int  # ended by an exception, the refused included
    cancelled: int
    timed_out: int
    dropped: int  # pushed out of a full queue
    retried: int  # runs that failed, whose jobs were queued again
    refused: int  # were queued when the pool broke, or when one that had to go first failed
    crashes: int  # of workers
    restarts: int  # of the whole pool
    abandoned: int  # threads that are stuck in a job that has timed out, and were replaced
    queue_wait: Durations
    run_time: Durations  # of those that have not timed out
