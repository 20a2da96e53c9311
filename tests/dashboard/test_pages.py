"""What the pages show, of stores and of pools in memory."""

import json
import re
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from oddjob import Pool
from oddjob.dashboard import NO_AUTH, Dashboard
from oddjob.dashboard.search import STATES
from oddjob.dashboard.views import MOST, total_of
from oddjob.operations import PoolOperations
from oddjob.operations.access import StoreAccess
from oddjob.operations.memory_operations import MemoryOperations
from tests.dashboard import jobs
from tests.dashboard.conftest import Client
from tests.hang import until

SCREENS = ["/", "/jobs", "/errors", "/pools", "/pools/mail", "/scheduled", "/recurring", "/runners",
           "/about"]  # fmt: skip


def pages_of(client: Client) -> list[str]:
    """Return the ids of all jobs, as one page after the other lists them."""
    seen: list[str] = []
    query = ""
    while query is not None:
        data = json.loads(client.get(f"/api/jobs?before={query}").html)
        seen += [each["id"] for each in data["jobs"]]
        query = data["next"]
    return seen


def test_every_screen_shows_a_store_with_jobs_and_is_json_as_well(
    filled: Pool, client: Client
) -> None:
    for screen in SCREENS:
        page = client.get(screen)
        assert page.status == 200, screen
        assert "<h1>" in page.html
        page = client.get(f"/api{screen}")
        assert page.headers["content-type"] == "application/json"
        assert isinstance(json.loads(page.html), dict)


def test_every_screen_shows_an_empty_store(pool: Pool, client: Client) -> None:
    for screen in SCREENS:
        assert client.get(screen).status == (404 if screen == "/pools/mail" else 200), screen


def test_the_overview_says_how_many_jobs_are_in_each_state(filled: Pool, client: Client) -> None:
    data = json.loads(client.get("/api/").html)
    assert data["counts"] == {
        "scheduled": 1, "queued": 2, "running": 0, "succeeded": 1, "failed": 3, "cancelled": 0,
    }  # fmt: skip
    assert sum(data["ended"]["failed"]) == 3
    assert "3 failed" in client.get("/").text


def test_jobs_are_found_by_what_is_known_of_them(filled: Pool, client: Client) -> None:
    def found(**query: str) -> int:
        return len(json.loads(client.get("/api/jobs?" + urlencode(query)).html)["jobs"])

    assert found() == 7
    assert found(state="failed") == 3
    assert found(pool="mail", name="send", key="ann") == 3
    assert found(error="no address") == 3
    assert found(q="NO ADDRESS: B") == 3
    assert found(q="nothing like that") == 0
    assert found(pool="another") == 0


def test_pages_of_jobs_follow_each_other_without_a_gap(
    pool: Pool, open_dashboard: Callable[..., Client]
) -> None:
    ids = [each.id for each in pool.submit_many(jobs.send, ["a@b"] * 7)]
    assert pages_of(open_dashboard(page_size=3)) == ids[::-1]


def test_a_page_of_jobs_goes_on_although_the_last_one_was_deleted(
    pool: Pool, open_dashboard: Callable[..., Client]
) -> None:
    ids = [each.id for each in pool.submit_many(jobs.send, ["a@b"] * 4)]
    client = open_dashboard(page_size=2)
    following = json.loads(client.get("/api/jobs").html)["next"]
    next(iter(pool.records(before=next(iter(pool.records()))))).delete()
    data = json.loads(client.get(f"/api/jobs?before={following}").html)
    assert [each["id"] for each in data["jobs"]] == [ids[1], ids[0]]


def test_a_failed_job_shows_why_with_its_arguments_and_the_traceback(
    filled: Pool, client: Client
) -> None:
    (failed, *_) = filled.records(state="failed")
    page = client.get(f"/jobs/{failed.id}")
    assert "ValueError: no address: bob" in page.text
    assert "tests.dashboard.jobs:send" in page.text
    assert "'bob'" in page.text
    assert "Traceback (most recent call last)" in page.text


def test_failures_are_grouped_by_class_and_function(filled: Pool, client: Client) -> None:
    (group,) = json.loads(client.get("/api/errors").html)["groups"]
    assert (group["type"], group["count"]) == ("ValueError", 3)
    assert group["function"] == "tests.dashboard.jobs:send"


def test_recurring_jobs_show_their_next_five_firings_and_what_changes_of_clocks_do(
    pool: Pool, client: Client
) -> None:
    pool.cron("30 2 * * *", tz="Europe/Berlin").perform(jobs.tick)
    (entry,) = json.loads(client.get("/api/recurring").html)["entries"]
    assert len(entry["upcoming"]) == 5
    assert entry["upcoming"] == sorted(entry["upcoming"])
    assert "clocks are set" in client.get("/recurring").text


def test_a_page_that_is_the_same_is_not_sent_again(filled: Pool, client: Client) -> None:
    tag = client.get("/jobs").headers["etag"]
    again = client.get("/jobs", if_none_match=tag)
    assert (again.status, again.html) == (304, "")
    filled.submit(jobs.send, "e@example.org")
    assert client.get("/jobs", if_none_match=tag).status == 200


def test_a_page_is_sent_again_when_the_rights_of_who_asks_have_changed(
    filled: Pool, open_dashboard: Callable[..., Client]
) -> None:
    rights = iter(["read_only", "all"])
    client = open_dashboard(access=lambda _user: next(rights))
    page = client.get("/jobs")
    assert "Retry" not in page.html
    page = client.get("/jobs", if_none_match=page.headers["etag"])
    assert page.status == 200
    assert "Retry" in page.html


def test_a_page_of_pools_in_memory_that_is_the_same_is_not_sent_again(
    show: Callable[..., Client],
) -> None:
    with Pool("hands", 1) as pool:
        pool.pause()
        pool.submit_many(jobs.tick, [()] * 3)
        client = show(pool)
        tags = {client.get("/jobs").headers["etag"] for _ in range(20)}
        assert len(tags) == 1
        pool.resume()


def test_counts_that_stand_for_more_stand_for_more_in_a_sum() -> None:
    counts = dict.fromkeys(STATES, 1)
    many = counts | {"queued": MOST + 1}
    total = total_of([counts, many, counts])
    assert (total["queued"], total["failed"]) == (MOST + 1, 3)


def test_an_unknown_parameter_is_refused_by_the_api_and_ignored_by_a_page(
    filled: Pool, client: Client
) -> None:
    answer = client.get("/api/jobs?stat=failed")
    assert answer.status == 400
    assert "no parameter 'stat'. It takes state, pool, name" in answer.html
    assert "It takes none." in client.get("/api/pools?page=2").html
    assert client.get("/jobs?utm_source=mail&state=failed").status == 200


@pytest.mark.parametrize("option", ["page_size", "bulk_limit", "scan_limit", "refresh"])
def test_numbers_that_make_no_sense_are_refused(url: str, pool: Pool, option: str) -> None:
    with pytest.raises(ValueError, match=option):
        Dashboard(url, auth=NO_AUTH, **{option: -1})
    with pytest.raises(TypeError, match=option):
        Dashboard(url, auth=NO_AUTH, **{option: "many"})


def test_a_single_host_is_not_taken_for_a_list_of_characters(url: str, pool: Pool) -> None:
    with pytest.raises(TypeError, match=r"trusted_hosts must be a list .* \['jobs.example.org'\]"):
        Dashboard(url, auth=NO_AUTH, trusted_hosts="jobs.example.org")


def test_what_is_not_there_is_said_so(filled: Pool, client: Client) -> None:
    for path in "/jobs/99", "/jobs/x", "/pools/none", "/nothing", "/jobs/7~1":
        assert client.get(path).status == 404
    assert "aria-current" not in client.get("/nothing").html
    assert client.get("/jobs?state=lost").status == 400
    assert client.get("/jobs?before=x-y").status == 400
    assert client.get("/jobs?before=1-no id").status == 400
    assert json.loads(client.get("/api/jobs/99").html)["error"]["code"] == 404


def test_probes_are_answered_before_anybody_logs_in(
    filled: Pool, open_dashboard: Callable[..., Client]
) -> None:
    page = open_dashboard(auth=None).get("/healthz")
    assert (page.status, page.html) == (200, "ok\n")


def test_prometheus_is_told_of_what_is_shown_if_that_is_wanted_and_it_is_let_in(
    filled: Pool, url: str, show: Callable[..., Client]
) -> None:
    pytest.importorskip("prometheus_client", reason="it is not installed")
    assert show(url).get("/metrics").status == 404
    assert show(url, auth=None, metrics=True).get("/metrics").status == 403
    with Pool("hands", 3) as hands:
        page = show([url, hands], metrics=True).get("/metrics")
        assert page.status == 200
        assert page.headers["content-type"].startswith("text/plain")
        assert 'oddjob_pool_size{pool="hands"} 3.0' in page.html
        assert re.search(
            r'oddjob_store_jobs\{pool="mail",state="failed",store=".*"\} 3.0', page.html
        )


def test_a_store_is_asked_once_for_its_processes_however_many_pools_it_has(
    pool: Pool, client: Client, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """And for what is paused, at most once a second: pages are looked at again and again."""
    asked: list[str] = []

    def note(name: str, ask: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any) -> Any:
            asked.append(name)
            return ask(*args)

        return noted

    monkeypatch.setattr(StoreAccess, "runners", note("runners", StoreAccess.runners))
    is_paused = note("paused", PoolOperations.is_paused.fget)  # type: ignore[attr-defined]
    monkeypatch.setattr(PoolOperations, "is_paused", property(is_paused))
    with Pool("other", store=url, consume=False) as other:
        pool.perform(jobs.send, "ada")
        other.perform(jobs.send, "ada")
        for _ in range(3):
            assert "other" in client.get("/pools").text
    assert sorted(asked) == ["paused", "paused", "runners"]


def test_a_store_is_not_counted_anew_each_time_prometheus_asks(
    url: str, filled: Pool, show: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    prometheus = pytest.importorskip("oddjob.contrib.prometheus", exc_type=ImportError)
    read, stores = prometheus._read, []
    monkeypatch.setattr(prometheus, "_FRESH", 60.0)
    monkeypatch.setattr(prometheus, "_read", lambda store: stores.append(store) or read(store))
    client = show(url, metrics=True)
    assert client.get("/metrics").html == client.get("/metrics").html
    assert len(stores) == 1


def test_runners_are_shown_with_the_name_that_they_were_given_and_when_their_hearts_beat(
    url: str, show: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODDJOB_NAME", "mail-1")
    with Pool("mail", store=url) as pool:
        pool.counts()
        (runner,) = json.loads(show(url).get("/api/runners").html)["runners"]
        assert {"id", "host", "pid", "joined_at", "seen_at", "version", "pools"} < runner.keys()
        assert runner["host"].startswith("mail-1@")
        is_leased = not url.startswith("sqlite")
        assert (runner["seen_at"] is not None) == is_leased
        assert ("lock held" in show(url).get("/runners").text) != is_leased


def test_a_pool_that_only_submits_here_is_stopped_and_its_durations_are_those_of_the_store(
    filled: Pool, show: Callable[..., Client]
) -> None:
    """Its own process has run none of its jobs."""
    data = json.loads(show(filled).get("/api/pools/mail").html)
    assert data["pool"]["state"] == "stopped"
    assert data["durations"]["ran"]["count"] == 1


def test_a_batch_and_its_members_are_jobs_like_others(pool: Pool, client: Client) -> None:
    with pool.batch(on_done=pool.s(jobs.tick), name="import") as batch:
        members = batch.submit_many(jobs.send, ["a@b", "c@d"])
    for each in batch.job, *members:
        page = client.get(f"/jobs/{each.id}")
        assert page.status == 200
    assert "import" in client.get("/scheduled").text
    assert "import" in client.get("/jobs").text


# Pools in memory.


def test_pools_in_memory_are_shown_with_what_runs_and_waits(
    show: Callable[..., Client],
) -> None:
    release, begun = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        release.wait()

    with Pool("hands", 1) as pool:
        pool.options(name="holder").perform(wait)
        begun.wait()
        waiting = pool.options(name="waiter", key="k").submit(jobs.tick)
        pool.after(3600).submit(jobs.tick)
        pool.every(60).perform(jobs.tick)
        client = show("all")
        assert json.loads(client.get("/api/").html)["counts"]["running"] == 1
        page = client.get("/pools/hands").text
        assert "holder" in page
        assert "release.wait()" in page  # its stack
        found = json.loads(client.get("/api/jobs").html)["jobs"]
        assert {each["state"] for each in found} == {"running", "queued", "scheduled"}
        assert {each["attempt"] for each in found} == {0}  # that have ended
        assert "waiter" in client.get(f"/jobs/{waiting.id}").text
        assert len(json.loads(client.get("/api/recurring").html)["entries"]) == 1
        assert len(json.loads(client.get("/api/scheduled").html)["jobs"]) == 1
        assert client.get("/runners").status == client.get("/about").status == 200
        release.set()


def test_a_thread_that_is_stuck_in_a_job_which_has_timed_out_is_shown_with_its_stack(
    show: Callable[..., Client],
) -> None:
    release = threading.Event()

    def hang() -> None:
        release.wait()

    with Pool("hands", 1, timeout=0.01) as pool:
        pool.submit(hang).exception()
        until(lambda: pool.stats().abandoned)
        found = json.loads(show(pool).get("/api/pools/hands").html)["workers"]
        (stuck,) = (each for each in found if each["state"] == "stuck")
        assert stuck["name"].endswith("-abandoned")
        assert "release.wait()" in stuck["stack"]
        release.set()


def test_pages_of_a_long_queue_in_memory_follow_each_other(
    show: Callable[..., Client],
) -> None:
    with Pool("hands", 1) as pool:
        pool.pause()
        pool.submit_many(jobs.tick, [()] * 7)
        seen = pages_of(show(pool, page_size=3))
        assert len(seen) == len(set(seen)) == 7
        pool.resume()


def test_a_job_far_back_in_a_queue_in_memory_is_found_by_the_id_that_its_program_knows(
    show: Callable[..., Client],
) -> None:
    with Pool("hands", 1) as pool:
        pool.pause()
        last = pool.submit_many(jobs.tick, [()] * 1_500)[-1]
        assert "queued" in show(pool).get(f"/jobs/{last.id}").text
        pool.resume()


def test_a_page_makes_nothing_of_a_long_queue_that_it_does_not_show(
    show: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for every two seconds."""
    made: list[object] = []
    make = MemoryOperations._record
    monkeypatch.setattr(
        MemoryOperations, "_record", lambda *given: (made.append(given), make(*given))[1]
    )
    with Pool("hands", 1) as pool:
        pool.pause()
        queue = pool.submit_many(jobs.send, ["a@b"] * 1_000)
        client = show(pool, page_size=10)
        for page in "/", "/jobs", "/jobs?state=failed", "/pools/hands", "/errors", "/scheduled":
            made.clear()
            assert client.get(page).status == 200
            assert len(made) < 50, page
        for job in queue:
            job.cancel()


def test_looking_keeps_no_job_alive(show: Callable[..., Client]) -> None:
    with Pool("hands", 1) as pool:
        pool.pause()
        job = pool.submit(jobs.tick)
        client, id_ = show(pool), job.id
        assert client.get(f"/jobs/{id_}").status == 200
        pool.resume()
        job.result()
        assert "succeeded" in client.get(f"/jobs/{id_}").text
        del job
        pool.submit(jobs.tick).result()
        assert client.get(f"/jobs/{id_}").status == 404


def test_stores_and_pools_in_memory_are_shown_together(
    filled: Pool, show: Callable[..., Client], url: str
) -> None:
    with Pool("hands", 1) as pool:
        pool.pause()
        job = pool.submit(jobs.tick)
        client = show([url, pool])
        pools: list[dict[str, Any]] = json.loads(client.get("/api/pools").html)["pools"]
        assert [each["name"] for each in pools] == ["mail", "hands"]
        assert client.get(f"/jobs/1~{job.id}").status == 200
        assert client.get("/pools/1~hands").status == 200
        pool.resume()


def test_pages_of_several_pools_have_every_job_once_whether_it_waits_for_a_timer_or_in_a_queue(
    pool: Pool, show: Callable[..., Client], url: str
) -> None:
    with Pool("hands", 1) as hands, Pool("feet", 1) as feet:
        wanted = {each.id for each in pool.submit_many(jobs.send, ["a@b"] * 3)}
        for each in hands, feet:
            each.pause()
            wanted |= {job.id for job in each.after(3600).submit_many(jobs.tick, [()] * 3)}
            for priority in 1, 0, 2, 0:
                wanted.add(each.options(priority=priority).submit(jobs.tick).id)
                wanted.add(pool.submit(jobs.send, "a@b").id)
        pages = pages_of(show([url, hands, feet], page_size=2))
        assert sorted(pages) == sorted(wanted)
        for each in hands, feet:
            each.resume()


def test_a_page_of_jobs_in_memory_goes_on_although_the_last_one_has_ended(
    show: Callable[..., Client],
) -> None:
    with Pool("hands", 1) as pool:
        pool.pause()
        waiting = {pool.after(3600).submit(jobs.tick).id: 0 for _ in range(4)}
        queued = [pool.submit(jobs.tick) for _ in range(4)]
        client = show(pool, page_size=2)
        first = json.loads(client.get("/api/jobs").html)
        client.act("/jobs", action="cancel", id=first["jobs"][-1]["ref"])
        second = json.loads(client.get(f"/api/jobs?before={first['next']}").html)
        assert {each["id"] for each in (*first["jobs"], *second["jobs"])} == {*waiting}
        third = json.loads(client.get(f"/api/jobs?before={second['next']}").html)
        queued[2].cancel()
        fourth = json.loads(client.get(f"/api/jobs?before={third['next']}").html)
        assert [each["id"] for each in fourth["jobs"]] == [queued[1].id, queued[0].id]
        pool.resume()
