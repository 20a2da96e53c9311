"""Metrics: what a pool has done.

Every slot counts for itself, without a lock; what happens to jobs that are in no slot (cancelled,
refused, timed out) is counted under a lock. `PoolMetrics.read` adds it all up.

Guarantees: a job is counted before its result can be seen. Durations may be missing for a moment,
while a slot adds them to its sums. Once no job is running,
``started == succeeded + failed - refused + timed_out + retried + stopped``.
"""

from _thread import RLock
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore

StateName = Literal["running", "paused", "restarting", "degraded", "broken", "closed"]

BOUNDS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
)  # seconds, of the buckets of histograms  # fmt: skip
SAMPLES: Final = 1_024  # durations of each slot that are kept, for the percentiles


class Durations(NamedTuple):
    """How long something took, in seconds; all zero if it has never happened.

    Attributes:
        count: how often it has happened.
        mean: the mean of all.
        p50: the median; half of them took at most this long. The percentiles are those of the
            latest: at least 1,024 of each worker, if there were so many.
        p95: 95 of 100 took at most this long.
        p99: 99 of 100 took at most this long.
        max: the longest of all.
    """

    count: int  # type: ignore[assignment]  # tuple.count is no loss
    mean: float
    p50: float
    p95: float
    p99: float
    max: float


class PoolStats(NamedTuple):
    """The state of a pool, and what it has done since it was made (in a forked child: since then).

    While jobs are running, numbers may be of slightly different moments.

    Attributes:
        state: as `Pool.state`.
        queued: jobs that wait for a worker, for other jobs, or to be retried.
        running: jobs that have started and not ended.
        idle: workers that wait for a job.
        started: attempts that have begun.
        succeeded: jobs that have returned.
        failed: jobs that have ended with an exception other than `JobTimeout` and `JobDropped`, the
            `refused` ones included.
        cancelled: jobs that were cancelled, the `stopped` ones included.
        timed_out: jobs that have ended with `JobTimeout`.
        dropped: jobs that have ended with `JobDropped`, in a full queue.
        retried: attempts that have failed and were followed by another one.
        refused: jobs that were queued when the pool broke, or when their predecessor failed.
        stopped: jobs that were cancelled while they ran: coroutines, as a rule.
        crashes: crashes of workers.
        restarts: restarts of all workers.
        abandoned: threads that are stuck in a job that has timed out.
        queue_wait: how long jobs have waited in the queue.
        run_time: how long attempts have run.
    """

    state: StateName
    queued: int
    running: int
    idle: int
    started: int
    succeeded: int
    failed: int
    cancelled: int
    timed_out: int
    dropped: int
    retried: int
    refused: int
    stopped: int
    crashes: int
    restarts: int
    abandoned: int
    queue_wait: Durations
    run_time: Durations


class Histogram(NamedTuple):
    """How long something took, as counts of how often it took at most how long.

    Attributes:
        buckets: by upper bound in seconds, how often it took no longer; the last bound is infinite.
        total: the sum of all durations, in seconds.
    """

    buckets: dict[float, int]
    total: float


class Histograms(NamedTuple):
    """How long jobs have waited and run, since shortly before the first call for histograms.

    Each worker's durations that were not summed up by then, at most 1,023, are included.
    """

    queue_wait: Histogram
    run_time: Histogram


class Series:
    """Durations that one thread measures, in seconds.

    They are appended to `fresh`, and folded into the sums when there are `SAMPLES` of them: that
    takes a tenth of the time of keeping sums and maxima for each.
    """

    __slots__ = ("bucketed", "buckets", "count", "fresh", "latest", "longest", "total")

    def __init__(self) -> None:
        self.buckets: list[int] | None = None  # counts by `BOUNDS`, if they are asked for
        self.bucketed: float = 0.0  # seconds, the sum of what is counted there
        self.fresh: list[float] = []
        self.count: int = 0
        self.total: float = 0.0
        self.longest: float = 0.0
        self.latest: list[float] = []  # of those in the sums

    def fold(self) -> None:
        """Move the fresh ones into the sums; a reader may miss them for a moment."""
        self.latest = self.fresh.copy()
        self.fresh.clear()
        self.count += len(self.latest)
        self.total += sum(self.latest)
        self.longest = max(self.longest, *self.latest)
        if self.buckets is not None:
            self.sort_in(self.latest)

    def sort_in(self, durations: Iterable[float]) -> None:
        """Count some durations in the buckets."""
        buckets = self.buckets = self.buckets or [0] * (len(BOUNDS) + 1)
        for duration in durations:
            buckets[bisect_left(BOUNDS, duration)] += 1
            self.bucketed += duration

    def merge(self, other: "Series") -> None:
        """Add to the sums what another one has measured, fresh or not."""
        # The sums first: what is folded in between is missed then, and not counted twice.
        self.latest += other.latest
        self.count += other.count
        self.total += other.total
        self.longest = max(self.longest, other.longest)
        if other.buckets is not None:
            mine = self.buckets or [0] * len(other.buckets)
            self.buckets = [sum(each) for each in zip(mine, other.buckets, strict=True)]
            self.bucketed += other.bucketed
        fresh = other.fresh.copy()
        self.latest += fresh
        self.count += len(fresh)
        self.total += sum(fresh)
        self.longest = max([self.longest, *fresh])
        if other.buckets is not None:
            self.sort_in(fresh)

    def summary(self) -> Durations:
        """Return what users are shown, once all is in the sums."""
        if not self.latest:
            return Durations(0, 0.0, 0.0, 0.0, 0.0, 0.0)
        ordered = sorted(self.latest)
        last = len(ordered) - 1
        p50, p95, p99 = (ordered[round(share * last)] for share in (0.50, 0.95, 0.99))
        return Durations(self.count, self.total / self.count, p50, p95, p99, self.longest)


class SlotMetrics:
    """What one slot has done; its thread alone writes."""

    __slots__ = ("failed", "retried", "runs", "stopped", "succeeded", "waits")

    def __init__(self) -> None:
        self.succeeded: int = 0
        self.failed: int = 0
        self.retried: int = 0
        self.stopped: int = 0
        self.runs: Final = Series()  # how long jobs have run
        self.waits: Final = Series()  # how long they were queued before

    def measure(self, ran: float, waited: float) -> None:
        """Record how long a job has run and was queued, in seconds."""
        self.runs.fresh.append(ran)
        self.waits.fresh.append(waited)
        if len(self.runs.fresh) >= SAMPLES:
            self.fold()

    def fold(self) -> None:
        """Move the fresh ones into the sums."""
        self.runs.fold()
        self.waits.fold()

    def keep_buckets(self) -> None:
        """Count in buckets what comes from now on."""
        self.runs.sort_in(())
        self.waits.sort_in(())

    def merge(self, other: "SlotMetrics") -> None:
        """Add what another slot has done."""
        self.succeeded += other.succeeded
        self.failed += other.failed
        self.retried += other.retried
        self.stopped += other.stopped
        self.runs.merge(other.runs)
        self.waits.merge(other.waits)


class PoolMetrics:
    """What a pool has done.

    Locking: ``_lock`` guards the fields. It is reentrant, since a destructor may cancel a job
    anywhere; nothing else is called under it.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._counts: Counter[str] = Counter()
        self._slots: list[SlotMetrics] = []
        self._former = SlotMetrics()  # the sums of the slots that are gone
        self._histograms: Histograms | None = None  # as they were last read

    def open(self) -> SlotMetrics:
        """Return the metrics of a new slot."""
        metrics = SlotMetrics()
        with self._lock:
            if self._histograms is not None:
                metrics.keep_buckets()
            self._slots.append(metrics)
        return metrics

    def close(self, metrics: SlotMetrics) -> None:
        """Keep the sums of a slot that is gone; twice does no harm."""
        with self._lock:
            if metrics in self._slots:
                self._slots.remove(metrics)
                self._former.merge(metrics)
                for series in (self._former.runs, self._former.waits):
                    del series.latest[:-SAMPLES]

    def count(self, what: str) -> None:
        """Count what has happened to a job that was in no slot."""
        with self._lock:
            self._counts[what] += 1

    def read(self) -> tuple[Counter[str], SlotMetrics]:
        """Return the counts of all jobs, and the sums over all slots."""
        total = SlotMetrics()
        with self._lock:
            counts = self._counts.copy()
            for each in (self._former, *self._slots):
                total.merge(each)
        counts["succeeded"] += total.succeeded
        counts["failed"] += total.failed
        counts["retried"] += total.retried
        return counts, total

    def histograms(self) -> Histograms:
        """Return how long jobs have waited and run; the first call begins to count.

        No count is ever lower than in the call before. (While a slot adds durations to its sums,
        some are missing for a moment, and a scraper would take the lower count for a restart.)
        """
        with self._lock:
            if self._histograms is None:
                for slot in (self._former, *self._slots):
                    slot.keep_buckets()
            _, total = self.read()
            waits, runs = _histogram(total.waits), _histogram(total.runs)
            if self._histograms is not None:
                waits = _later(waits, self._histograms.queue_wait)
                runs = _later(runs, self._histograms.run_time)
            self._histograms = Histograms(waits, runs)
            return self._histograms


def _histogram(series: Series) -> Histogram:
    counts = accumulate(series.buckets or ())
    return Histogram(dict(zip((*BOUNDS, inf), counts, strict=True)), series.bucketed)


def _later(now: Histogram, before: Histogram) -> Histogram:
    return max(now, before, key=lambda each: each.buckets[inf])


def state_of(core: "PoolCore") -> StateName:
    """Return what a pool as a whole is doing."""
    if core.state.closed_because is not None:
        return "closed"
    if core.state.broken_by is not None:
        return "broken"
    if core.watchdog.is_degraded():
        return "degraded"
    if core.workers.is_paused:
        return "paused"
    workers = core.workers.all()  # if there are too many, some leave for that
    is_restarting = len(workers) <= core.workers.size and any(each.leaving for each in workers)
    return "restarting" if is_restarting else "running"


def stats_of(core: "PoolCore") -> PoolStats:
    """Return what a pool is doing and has done."""
    queued = len(core.dispatcher.waiting())  # first: a job that starts meanwhile is not missed
    counts, total = core.metrics.read()
    running = len(core.running())
    ended = counts["succeeded"] + counts["failed"] + counts["timed_out"] + total.stopped
    # A slot is read once: its job may go at any time.
    slots = [(worker.slot, worker.slot.job) for worker in core.workers.all()]
    is_stuck = core.watchdog.holds_overdue_job
    return PoolStats(
        state=state_of(core),
        queued=queued,
        running=running,
        idle=sum(job is None or (job.done() and not is_stuck(slot)) for slot, job in slots),
        started=running + ended + counts["retried"],
        succeeded=counts["succeeded"],
        failed=counts["failed"] + counts["refused"],
        cancelled=counts["cancelled"] + total.stopped,
        timed_out=counts["timed_out"],
        dropped=counts["dropped"],
        retried=counts["retried"],
        refused=counts["refused"],
        stopped=total.stopped,
        crashes=core.supervisor.crashes,
        restarts=core.supervisor.pool_restarts,
        abandoned=len(core.workers.quarantined),
        queue_wait=total.waits.summary(),
        run_time=total.runs.summary(),
    )
