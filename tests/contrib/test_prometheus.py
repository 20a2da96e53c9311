"""The Prometheus collector."""

import asyncio
import re
import sys
import threading
from concurrent.futures import CancelledError
from math import inf
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

import oddjob
from tests.hang import WAIT, until

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
    text = scrape(OddJobCollector([pool, anonymous, pool], namespace="shop"))
    assert value(text, 'shop_pool_size{pool="shown"}') == 1
    assert "hidden" not in text
    anonymous.shutdown()


def test_an_anonymous_pool_has_one_label_the_one_of_the_log() -> None:
    collector = OddJobCollector((), per_job=True)
    with oddjob.Pool(1, middleware=[collector]) as pool:
        pool.options(name="abs").submit(abs, 1).result(WAIT)
        [started] = re.findall(r'jobs_started_total{job="abs",pool="(.*?)"}', scrape(collector))
        assert f'oddjob_pool_size{{pool="{started}"}} 1.0' in scrape(OddJobCollector([pool]))


def test_a_second_collector_of_the_same_names_is_refused_when_it_is_registered(
    tmp_path: Path,
) -> None:
    """Not at each scrape, by Prometheus. To register it reads no store, which may be away."""
    registry = prometheus_client.CollectorRegistry()
    registry.register(OddJobCollector())
    with pytest.raises(ValueError, match=r"Duplicated timeseries.*oddjob_pool_size"):
        registry.register(OddJobCollector(stores=[f"sqlite:///{tmp_path}/none.db"]))
    registry.register(OddJobCollector(namespace="other"))


def test_a_text_is_no_list_of_stores() -> None:
    with pytest.raises(TypeError, match=r"stores must be a list of URLs, as .'memory:'., not"):
        OddJobCollector(stores="memory:")


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
    text = scrape(
        OddJobCollector([], ["redis://user:secret@host:6379/0?prefix=shop&accept_eviction=1"])
    )
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


def test_jobs_are_told_apart_by_their_names_on_request() -> None:
    collector = OddJobCollector(per_job=True)
    pool = oddjob.Pool("mail", 1, middleware=[collector], retries=1, backoff=0)
    list(pool.options(name="send").map(abs, range(3)))
    pool.options(name="parse").submit(int, "no number").exception(WAIT)
    begun = threading.Event()

    async def poll() -> None:
        begun.set()
        await asyncio.Event().wait()

    polling = pool.submit(poll)
    assert begun.wait(WAIT)
    polling.cancel()
    with pytest.raises(CancelledError):
        polling.result(WAIT)
    pool.pause()
    assert pool.submit(abs, 1).cancel()
    pool.resume()
    text = scrape(collector)
    for series, expected in {
        'oddjob_jobs_started_total{job="send",pool="mail"}': 3,
        'oddjob_jobs_ended_total{job="send",outcome="succeeded",pool="mail"}': 3,
        'oddjob_jobs_ended_total{job="parse",outcome="failed",pool="mail"}': 1,
        'oddjob_jobs_ended_total{job="",outcome="cancelled",pool="mail"}': 1,
        f'oddjob_jobs_ended_total{{job="{polling.name}",outcome="cancelled",pool="mail"}}': 1,
        'oddjob_job_retries_total{job="parse",pool="mail"}': 1,
        'oddjob_job_run_seconds_count{job="send",pool="mail"}': 3,
        'oddjob_job_queue_seconds_bucket{job="parse",le="600.0",pool="mail"}': 2,
        'oddjob_pool_size{pool="mail"}': 1,
    }.items():
        assert value(text, series) == expected, series


def test_a_job_that_hangs_is_counted_when_its_time_is_up() -> None:
    """Its thread may never come back to say so."""
    collector, let_go = OddJobCollector(per_job=True), threading.Event()
    with oddjob.Pool("mail", 1, middleware=[collector], timeout=0.01) as pool:
        job = pool.options(name="hangs").submit(let_go.wait, WAIT)
        assert isinstance(job.exception(WAIT), oddjob.JobTimeout)
        series = 'oddjob_jobs_ended_total{job="hangs",outcome="timed_out",pool="mail"}'
        until(lambda: value(scrape(collector), series) == 1)
        let_go.set()


def test_names_of_jobs_without_end_do_not_fill_the_memory() -> None:
    collector = OddJobCollector(per_job=True)
    with oddjob.Pool("mail", 1, middleware=[collector]) as pool:
        for number in range(120):
            pool.options(name=f"order {number}").perform(abs, number)
    text = scrape(collector)
    assert value(text, 'oddjob_jobs_started_total{job="other",pool="mail"}') == 20


@pytest.mark.parametrize("wrong", ["mail", ["mail"], [None]])
def test_what_is_no_pool_is_refused_at_once(wrong: object) -> None:
    """A scrape, later and elsewhere, would fail for a reason that nobody sees."""
    with pytest.raises(TypeError, match="a list of pools"):
        OddJobCollector(wrong)  # type: ignore[arg-type]


def test_errors_of_a_store_are_counted_by_operation(tmp_path: Path) -> None:
    url, label = f"sqlite:///{tmp_path}/jobs.db", f'store="sqlite:///{tmp_path}/jobs.db"'
    collector = OddJobCollector([], [url])
    pool = oddjob.Pool("mail", 1, store=url)
    pool.submit(abs, -1).result(WAIT)
    series = f'oddjob_store_errors_total{{operation="submit",{label}}}'
    assert value(scrape(collector), series) == 0
    (tmp_path / "jobs.db-wal").unlink()
    with pytest.raises(oddjob.StoreUnusable):
        pool.submit(abs, -1)
    assert value(scrape(collector), series) == 1
    pool.shutdown(wait=False)


OF_A_PROCESS = """
import sys, time
import oddjob

pool = oddjob.Pool("mail", 1, store=sys.argv[1])
job = pool.submit(time.sleep, 60)
while not job.running():
    pass
print("running", flush=True)
time.sleep(60)
"""


def test_jobs_of_dead_processes_are_counted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    process = Popen([sys.executable, "-c", OF_A_PROCESS, url], stdout=PIPE)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        oddjob.Pool("mail", 1, store=url, consume=False).submit(abs, 1)
        process.kill()
    series = f'oddjob_store_takeovers_total{{store="{url}"}}'
    until(lambda: value(scrape(OddJobCollector([], [url])), series) == 1)
