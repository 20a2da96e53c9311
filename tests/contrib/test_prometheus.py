"""The Prometheus collector."""

from math import inf
from pathlib import Path

import pytest

import oddjob
from tests.hang import until

prometheus_client = pytest.importorskip("prometheus_client", reason="it is not installed")

from oddjob.contrib.prometheus import OddJobCollector  # noqa: E402  (it needs that package)


def scrape(collector: OddJobCollector) -> str:
    registry = prometheus_client.CollectorRegistry()
    registry.register(collector)
    return str(prometheus_client.generate_latest(registry), "utf-8")


def value(text: str, series: str) -> float:
    [line] = [line for line in text.splitlines() if line.startswith(series + " ")]
    return float(line.rpartition(" ")[2])


def test_what_a_pool_does_is_there_when_it_is_scraped() -> None:
    pool = oddjob.Pool("mail", 2, retries=1, backoff=0)
    collector = OddJobCollector()
    list(pool.map(abs, range(10)))
    pool.submit(int, "no number").exception(10)
    until(lambda: pool.stats().run_time.count == 12)
    text = scrape(collector)
    for series, expected in {
        'oddjob_pool_size{pool="mail"}': 2,
        'oddjob_pool_state{pool="mail",state="running"}': 1,
        'oddjob_pool_state{pool="mail",state="broken"}': 0,
        'oddjob_jobs_queued{pool="mail"}': 0,
        'oddjob_jobs_started_total{pool="mail"}': 12,
        'oddjob_jobs_ended_total{outcome="succeeded",pool="mail"}': 10,
        'oddjob_jobs_ended_total{outcome="failed",pool="mail"}': 1,
        'oddjob_job_retries_total{pool="mail"}': 1,
        'oddjob_worker_crashes_total{pool="mail"}': 0,
        'oddjob_job_run_seconds_count{pool="mail"}': 12,
        'oddjob_job_queue_seconds_bucket{le="600.0",pool="mail"}': 12,
    }.items():
        assert value(text, series) == expected, series


def test_only_the_pools_that_were_given_are_shown() -> None:
    pool = oddjob.Pool("shown", 1)
    oddjob.Pool("hidden", 1)
    anonymous = oddjob.Pool(1)
    text = scrape(OddJobCollector([pool, anonymous], namespace="shop"))
    assert 'shop_pool_size{pool="shown"} 1.0' in text
    assert 'shop_pool_size{pool="anonymous 2"} 1.0' in text
    assert "hidden" not in text
    anonymous.shutdown()


def test_a_store_is_shown_by_what_is_in_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    pool = oddjob.Pool("mail", 1, store=url, consume=False)
    pool.submit_many(abs, [1, 2, 3])
    pool.after(60).submit(abs, 4)
    text = scrape(OddJobCollector([], [url]))
    label = f'store="{url}"'
    assert value(text, f'oddjob_store_jobs{{pool="mail",state="queued",{label}}}') == 3
    assert value(text, f'oddjob_store_jobs{{pool="mail",state="scheduled",{label}}}') == 1
    assert value(text, f'oddjob_store_oldest_queued_seconds{{pool="mail",{label}}}') < 60
    assert value(text, f"oddjob_store_up{{{label}}}") == 1


def test_a_store_that_is_gone_is_shown_as_down_and_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: str) -> None:
        raise oddjob.StoreUnusable("no connection")

    monkeypatch.setattr("oddjob.operations.StoreOperations", refuse)
    text = scrape(OddJobCollector([], ["redis://user:secret@host:6379/0?prefix=shop&password=x"]))
    assert value(text, 'oddjob_store_up{store="redis://host:6379/0?prefix=shop"}') == 0


def test_counts_never_go_back_while_durations_are_added_up() -> None:
    """A moment in which some are missing would look like a restart, and so like a huge rate."""
    pool = oddjob.Pool("busy", 2)
    collector, seen = OddJobCollector([pool]), 0.0
    jobs = pool.submit_many(abs, range(20_000))
    while not jobs[-1].done():
        now = value(scrape(collector), 'oddjob_job_run_seconds_count{pool="busy"}')
        assert now >= seen
        seen = now


def test_a_pool_begins_to_count_in_buckets_when_it_is_asked() -> None:
    """Pools of which nobody asks that pay nothing."""
    with oddjob.Pool(1) as pool:
        list(pool.map(abs, range(5_000)))
        until(lambda: pool.stats().run_time.count == 5_000)
        before = pool.histograms().run_time.buckets[inf]
        assert before < 5_000
        list(pool.map(abs, range(5_000)))
        until(lambda: pool.histograms().run_time.buckets[inf] == before + 5_000)
