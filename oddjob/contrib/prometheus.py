"""Prometheus: a collector of what pools and stores do, which is read when it is scraped.

It costs the jobs nothing. In a server of several processes each has its own pools, and so its own
port; stores are the same in all of them. ``prometheus_client`` does not use collectors of others in
its multiprocess mode.

Assumes: ``prometheus_client`` is installed.
"""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, nullcontext
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
from oddjob.compat import override
from oddjob.errors import StoreUnusable

if TYPE_CHECKING:
    from oddjob.operations import StoreOperations

_STATES: Final = ("running", "paused", "restarting", "degraded", "broken", "closed")
_OUTCOMES: Final = ("succeeded", "failed", "cancelled", "timed_out", "dropped")
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
_FRESH: Final = 5.0  # seconds for which the figures of a store are used again


class _Counts(NamedTuple):
    """What a store has."""

    runners: int  # that run jobs
    jobs: Mapping[str, Mapping[Any, int]]  # by pool and state
    oldest: dict[str, float]  # seconds since the oldest waiting job was queued, by pool


class OddJobCollector(Collector):
    """A collector, for ``prometheus_client.REGISTRY.register``.

    Args:
        pools: the pools to show; None: all named pools that live when it is scraped.
        stores: URLs of stores, as for ``Pool(store=…)``, or opened ones, which stay open. One that
            cannot be reached is shown by ``oddjob_store_up`` 0, and nothing else.
        namespace: the first word of all names.

    Thread safety: it may be scraped by several threads at once.
    """

    def __init__(
        self,
        pools: Iterable[oddjob.Pool] | None = None,
        stores: "Iterable[str | StoreOperations]" = (),
        namespace: str = "oddjob",
    ) -> None:
        self._pools: Final = None if pools is None else list(pools)
        self._stores: Final = {
            _without_secrets(each if isinstance(each, str) else each.url): each for each in stores
        }
        self._namespace: Final = namespace
        self._lock: Final = threading.Lock()  # guards `_seen`
        self._seen: dict[str, tuple[float, _Counts | None]] = {}
        for pool in self._found():
            pool.histograms()  # they count from now on

    def describe(self) -> list[Metric]:
        """Return nothing: so to register the collector reads no store."""
        return []

    @override
    def collect(self) -> Iterator[Metric]:
        yield from self._of_pools()
        if self._stores:
            yield from self._of_stores()

    def _found(self) -> list[oddjob.Pool]:
        return list(oddjob.pools().values()) if self._pools is None else self._pools

    def _gauge(self, name: str, text: str, labels: Iterable[str]) -> Any:
        return GaugeMetricFamily(f"{self._namespace}_{name}", text, labels=[*labels])

    def _counter(self, name: str, text: str, labels: Iterable[str] = ("pool",)) -> Any:
        return CounterMetricFamily(f"{self._namespace}_{name}", text, labels=[*labels])

    def _histogram(self, name: str, text: str) -> Any:
        return HistogramMetricFamily(f"{self._namespace}_{name}", text, labels=["pool"])

    def _of_pools(self) -> Iterator[Metric]:
        size = self._gauge("pool_size", "Jobs that may run at once", ["pool"])
        state = self._gauge("pool_state", "1 for the state of the pool", ["pool", "state"])
        ended = self._counter("jobs_ended", "Jobs that have ended", ["pool", "outcome"])
        waits = self._histogram("job_queue_seconds", "How long jobs were queued")
        runs = self._histogram("job_run_seconds", "How long jobs have run")
        gauges = {
            field: self._gauge(name, text, ["pool"]) for name, (field, text) in _GAUGES.items()
        }
        counters = {field: self._counter(name, text) for name, (field, text) in _COUNTERS.items()}
        for number, pool in enumerate(self._found(), 1):
            label, stats = pool.name or f"anonymous {number}", pool.stats()
            size.add_metric([label], pool.pool_size)
            for each in _STATES:
                state.add_metric([label, each], float(stats.state == each))
            for each in _OUTCOMES:
                ended.add_metric([label, each], getattr(stats, each))
            for field, family in (gauges | counters).items():
                family.add_metric([label], getattr(stats, field))
            for family, histogram in zip((waits, runs), pool.histograms(), strict=True):
                buckets = [(_bound(each), count) for each, count in histogram.buckets.items()]
                family.add_metric([label], buckets, histogram.total)
        yield from (size, state, ended, waits, runs, *gauges.values(), *counters.values())

    def _of_stores(self) -> Iterator[Metric]:
        is_up = self._gauge("store_up", "1 if the store can be reached", ["store"])
        jobs = self._gauge("store_jobs", "Jobs in the store", ["store", "pool", "state"])
        runners = self._gauge("store_runners", "Processes that run jobs of the store", ["store"])
        text = "How long the oldest queued job has waited"
        oldest = self._gauge("store_oldest_queued_seconds", text, ["store", "pool"])
        for label, store in self._stores.items():
            counts = self._counts(label, store)
            is_up.add_metric([label], float(counts is not None))
            if counts is None:
                continue
            runners.add_metric([label], counts.runners)
            for pool, states in counts.jobs.items():
                for state, number in states.items():
                    jobs.add_metric([label, pool, state], number)
            for pool, seconds in counts.oldest.items():
                oldest.add_metric([label, pool], seconds)
        yield from (is_up, jobs, runners, oldest)

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


def _bound(seconds: float) -> str:
    return "+Inf" if seconds == inf else str(seconds)
