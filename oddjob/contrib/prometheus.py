"""Prometheus: a collector of what pools and stores do, which is read when it is scraped.

Jobs are not slowed down, except with ``per_job=True``. In a server of several processes each has
its own pools, and so its own port; stores are the same in all of them.
``prometheus_client`` does not use collectors of others in its multiprocess mode.

Assumes: ``prometheus_client`` is installed.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, nullcontext
from functools import partial
from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

import oddjob
from oddjob.compat import T, override
from oddjob.errors import StoreUnusable
from oddjob.runtime.metrics import BOUNDS, Series
from oddjob.runtime.middleware import has_timed_out, label_of_pool, outcome_of, pool_of, queued_for

if TYPE_CHECKING:
    from oddjob.operations import StoreOperations
    from oddjob.runtime.job import Job

_STATES: Final = ("running", "paused", "restarting", "degraded", "broken", "closed")
_OUTCOMES: Final = ("succeeded", "failed", "cancelled", "timed_out", "dropped")
_OF_JOBS: Final = ("started", "retried")  # which `per_job` tells apart
_GAUGES: Final = {
    "jobs_queued": ("queued", "Jobs that wait for a worker, or to be retried"),
    "jobs_running": ("running", "Jobs that have started and not ended"),
    "workers_idle": ("idle", "Workers that wait for a job"),
    "threads_abandoned": ("abandoned", "Threads that are stuck in jobs that have timed out"),
}
_COUNTERS: Final = {
    "jobs_started": ("started", "Attempts that have begun"),
    "jobs_refused": ("refused", "Jobs that failed because their pool broke or a job before them"),
    "job_retries": ("retried", "Attempts that failed and were followed by another one"),
    "worker_crashes": ("crashes", "Workers that have crashed"),
    "pool_restarts": ("restarts", "Restarts of all workers"),
}
_MOST_NAMES: Final = 100  # of jobs; what comes later is "other"
_FRESH: Final = 5.0  # seconds for which the figures of a store are used again


class _Counts(NamedTuple):
    """What a store has."""

    runners: int  # that run jobs
    jobs: Mapping[str, Mapping[Any, int]]  # by pool and state
    oldest: dict[str, float]  # seconds since the oldest waiting job was queued, by pool


class OddJobCollector(Collector):
    """A collector, for ``prometheus_client.REGISTRY.register``.

    A registry takes one for each `namespace`: it raises ``ValueError`` for another one.

    Args:
        pools: the pools to show; None: all named pools that live when it is scraped.
        stores: URLs of stores, as for ``Pool(store=…)``, or opened ones, which stay open. One that
            cannot be reached is shown by ``oddjob_store_up`` 0, and nothing else.
        namespace: the first word of all names.
        per_job: tell jobs apart by their names, in a label ``job`` of what is counted of jobs. For
            that the collector is middleware as well, and counts the jobs of the pools that have it:
            ``Pool(middleware=[collector])``. The label is empty for those that have never begun,
            and ``other`` after a hundred names.

    Raises:
        TypeError: one of `pools` is none, or `stores` is a text.

    Thread safety: it may be scraped by several threads at once.
    """

    def __init__(
        self,
        pools: Iterable[oddjob.Pool] | None = None,
        stores: "Iterable[str | StoreOperations]" = (),
        namespace: str = "oddjob",
        *,
        per_job: bool = False,
    ) -> None:
        if isinstance(pools, str | oddjob.Pool):
            raise TypeError(f"pools must be a list of pools, not {pools!r}")
        if isinstance(stores, str):
            raise TypeError(f"stores must be a list of URLs, as [{stores!r}], not {stores!r}")
        self._pools: Final = None if pools is None else list(dict.fromkeys(pools))
        for each in self._pools or ():
            if not isinstance(each, oddjob.Pool):
                what = f"pools must be a list of pools, as [oddjob.pool('mail')], not of {each!r}"
                raise TypeError(what)
        self._by_name: Final = _JobsByName() if per_job else None
        self._stores: Final = {
            _without_secrets(each if isinstance(each, str) else each.url): each for each in stores
        }
        self._namespace: Final = namespace
        self._lock: Final = threading.Lock()  # guards `_seen`
        self._seen: dict[str, tuple[float, _Counts | None]] = {}
        for pool in self._found():
            pool.histograms()  # they count from now on

    def describe(self) -> list[Metric]:
        """Return the names of all metrics: so to register the collector reads no store."""
        return [*self._of_pools(()), *self._of_stores({})]

    @override
    def collect(self) -> Iterator[Metric]:
        yield from self._of_pools(self._found())
        if self._stores:
            yield from self._of_stores(self._stores)

    def run(self, job: "Job[Any]", carrier: dict[str, str], call: Callable[[], T]) -> T:
        """Count an attempt, as `oddjob.Middleware` has it."""
        if self._by_name is None:
            return call()
        try:
            return self._by_name.run(job, carrier, call)
        finally:
            del job, call  # a failure that is on its way refers to this frame

    def _found(self) -> list[oddjob.Pool]:
        return list(oddjob.pools().values()) if self._pools is None else self._pools

    def _gauge(self, name: str, text: str, labels: Iterable[str]) -> Any:
        return GaugeMetricFamily(f"{self._namespace}_{name}", text, labels=[*labels])

    def _counter(self, name: str, text: str, labels: Iterable[str] = ("pool",)) -> Any:
        return CounterMetricFamily(f"{self._namespace}_{name}", text, labels=[*labels])

    def _histogram(self, name: str, text: str, labels: Iterable[str]) -> Any:
        return HistogramMetricFamily(f"{self._namespace}_{name}", text, labels=[*labels])

    def _of_pools(self, pools: Iterable[oddjob.Pool]) -> Iterator[Metric]:
        size = self._gauge("pool_size", "Jobs that may run at once", ["pool"])
        state = self._gauge("pool_state", "1 for the state of the pool", ["pool", "state"])
        of_job = ("pool",) if self._by_name is None else ("pool", "job")
        ended = self._counter("jobs_ended", "Jobs that have ended", [*of_job, "outcome"])
        waits = self._histogram("job_queue_seconds", "How long jobs were queued", of_job)
        runs = self._histogram("job_run_seconds", "How long jobs have run", of_job)
        gauges = {
            field: self._gauge(name, text, ["pool"]) for name, (field, text) in _GAUGES.items()
        }
        counters = {
            field: self._counter(name, text, of_job if field in _OF_JOBS else ["pool"])
            for name, (field, text) in _COUNTERS.items()
        }
        of_pools = {
            field: family
            for field, family in (gauges | counters).items()
            if self._by_name is None or field not in _OF_JOBS
        }
        for pool in pools:
            label, stats = label_of_pool(pool), pool.stats()
            size.add_metric([label], pool.pool_size)
            for each in _STATES:
                state.add_metric([label, each], float(stats.state == each))
            for field, family in of_pools.items():
                family.add_metric([label], getattr(stats, field))
            if self._by_name is None:
                for each in _OUTCOMES:
                    ended.add_metric([label, each], getattr(stats, each))
                for family, histogram in zip((waits, runs), pool.histograms(), strict=True):
                    family.add_metric([label], _samples(histogram.buckets), histogram.total)
            else:
                # Jobs that never began are counted without a name.
                ended.add_metric([label, "", "failed"], stats.refused)
                ended.add_metric([label, "", "cancelled"], stats.cancelled - stats.stopped)
                ended.add_metric([label, "", "dropped"], stats.dropped)
        if self._by_name is not None:
            self._by_name.add_to(counters, ended, waits, runs)
        yield from (size, state, ended, waits, runs, *gauges.values(), *counters.values())

    def _of_stores(self, stores: "Mapping[str, str | StoreOperations]") -> Iterator[Metric]:
        from oddjob.durable.stores import OPERATIONS, counts_of

        is_up = self._gauge("store_up", "1 if the store can be reached", ["store"])
        jobs = self._gauge("store_jobs", "Jobs in the store", ["store", "pool", "state"])
        runners = self._gauge("store_runners", "Processes that run jobs of the store", ["store"])
        text = "How long the oldest queued job has waited"
        oldest = self._gauge("store_oldest_queued_seconds", text, ["store", "pool"])
        text = "Jobs of dead processes that this one has put back"
        takeovers = self._counter("store_takeovers", text, ["store"])
        text = "Errors of the store that this process has met"
        errors = self._counter("store_errors", text, ["store", "operation"])
        for label, store in stores.items():
            counts = self._counts(label, store)
            taken_over, met = counts_of(store if isinstance(store, str) else store.url)
            takeovers.add_metric([label], taken_over)
            for operation in OPERATIONS:
                errors.add_metric([label, operation], met.get(operation, 0))
            is_up.add_metric([label], float(counts is not None))
            if counts is None:
                continue
            runners.add_metric([label], counts.runners)
            for pool, states in counts.jobs.items():
                for state, number in states.items():
                    jobs.add_metric([label, pool, state], number)
            for pool, seconds in counts.oldest.items():
                oldest.add_metric([label, pool], seconds)
        yield from (is_up, jobs, runners, oldest, takeovers, errors)

    def _counts(self, label: str, store: "str | StoreOperations") -> _Counts | None:
        now = time.monotonic()
        with self._lock:
            then, counts = self._seen.get(label, (-inf, None))
        if now - then < _FRESH:
            return counts
        try:
            counts = _read(store)
        except StoreUnusable:
            counts = None
        with self._lock:
            self._seen[label] = now, counts
        return counts


class _OneName:
    """What is counted of the jobs of one name in one pool."""

    def __init__(self) -> None:
        self.started = 0
        self.ended: Final[Counter[str]] = Counter()  # by outcome, also ``retried``
        self.waits: Final = Series()
        self.runs: Final = Series()


class _JobsByName:
    """What is counted of jobs, by pool and name.

    Locking: ``_lock`` guards everything; nothing is called under it.
    """

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._found: Final[dict[tuple[str, str], _OneName]] = {}

    def run(self, job: "Job[Any]", _carrier: dict[str, str], call: Callable[[], T]) -> T:
        """Count an attempt. One whose time is up is counted then: its thread may never return."""
        attempt, waited, began = job.attempt, queued_for(job), time.monotonic()
        counts, outcome = self._begin(pool_of(job), job.name, waited), "failed"
        if job.timeout is not None:
            job.add_done_callback(partial(self._note_timeout, counts, attempt))
        try:
            result = call()
            outcome = outcome_of(job, attempt)
            return result  # noqa: TRY300
        except BaseException as error:
            outcome = outcome_of(job, attempt, error)
            raise
        finally:
            with self._lock:
                counts.runs.sort_in((time.monotonic() - began,))
                counts.ended[outcome] += outcome != "timed_out"
            del job, call  # a failure that is on its way refers to this frame

    def _begin(self, pool: str, name: str, waited: float) -> _OneName:
        with self._lock:
            is_known = (pool, name) in self._found or len(self._found) < _MOST_NAMES
            counts = self._found.setdefault((pool, name if is_known else "other"), _OneName())
            counts.started += 1
            counts.waits.sort_in((waited,))
        return counts

    def _note_timeout(self, counts: _OneName, attempt: int, job: Any) -> None:
        if job.attempt == attempt and has_timed_out(job):
            with self._lock:
                counts.ended["timed_out"] += 1

    def add_to(self, counters: Mapping[str, Any], ended: Any, waits: Any, runs: Any) -> None:
        """Add all samples to their metrics."""
        with self._lock:
            for labels, counts in self._found.items():
                counters["started"].add_metric(labels, counts.started)
                counters["retried"].add_metric(labels, counts.ended["retried"])
                for outcome in _OUTCOMES:
                    ended.add_metric([*labels, outcome], counts.ended[outcome])
                for family, series in ((waits, counts.waits), (runs, counts.runs)):
                    sums = accumulate(series.buckets or [0] * (len(BOUNDS) + 1))
                    buckets = dict(zip((*BOUNDS, inf), sums, strict=True))
                    family.add_metric(labels, _samples(buckets), series.bucketed)


def _read(given: "str | StoreOperations") -> _Counts:
    from oddjob.operations import StoreOperations

    opened = closing(StoreOperations(given)) if isinstance(given, str) else nullcontext(given)
    with opened as store:
        pools = store.pools()
        oldest = {name: pool.oldest_waiting() for name, pool in pools.items()}
        return _Counts(
            sum(bool(each.pools) for each in store.runners()),
            {name: pool.counts() for name, pool in pools.items()},
            {name: time.time() - when.timestamp() for name, when in oldest.items() if when},
        )


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    prefix = urlencode([each for each in parse_qsl(parts.query) if each[0] == "prefix"])
    return f"{parts.scheme}://{host}{parts.path}{prefix and '?'}{prefix}"


def _samples(buckets: Mapping[float, int]) -> list[tuple[str, int]]:
    return [("+Inf" if bound == inf else str(bound), count) for bound, count in buckets.items()]
