"""What can be done on the pages, and who may do it."""

import json
import re
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from oddjob import Pool
from oddjob.daemon import SignalWaiter
from oddjob.runtime import lifecycle
from tests.dashboard import jobs
from tests.dashboard.conftest import Client
from tests.hang import until


def test_one_job_is_retried_at_once_and_the_page_it_came_from_says_so(
    filled: Pool, client: Client
) -> None:
    (failed, *_) = filled.records(state="failed")
    page = client.post("/jobs", action="retry", id=failed.id, back="/jobs?state=failed")
    assert page.status == 303
    where = urlsplit(page.headers["location"])
    assert (where.path, "state=failed" in where.query) == ("/jobs", True)
    assert "1 job queued again." in client.get(page.headers["location"]).text
    assert filled.counts()["failed"] == 2


def test_selected_jobs_are_asked_about_and_then_changed(filled: Pool, client: Client) -> None:
    ids = [each.id for each in filled.records(state="failed")]
    page = client.post("/jobs", action="retry", id=ids, back="/jobs")
    assert "3 jobs will be queued again." in page.text
    assert filled.counts()["failed"] == 3
    page = client.act("/jobs", action="retry", id=ids, back="/jobs", confirmed="yes", count="3")
    assert "3 jobs queued again." in page.text
    assert filled.counts()["failed"] == 0


def test_the_form_that_asks_sends_what_was_asked_about(filled: Pool, client: Client) -> None:
    page = client.post("/jobs", action="retry", scope="all", state="failed", back="/jobs")
    form = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page.html))
    assert client.act("/jobs", **form).status == 200
    assert filled.counts()["failed"] == 0


def test_all_that_match_are_changed_in_requests_of_limited_size(
    pool: Pool, open_dashboard: Callable[..., Client]
) -> None:
    pool.submit_many(jobs.send, ["a@b"] * 250)
    client = open_dashboard(bulk_limit=150)
    which = {"action": "cancel", "scope": "all", "state": "queued", "pool": "mail", "count": "250"}
    asked = client.post("/jobs", **which).text
    assert "250 jobs will be canceled. At once, 150 of them" in asked
    assert "Type 250 to confirm" in asked
    wrong = client.post("/jobs", **which, confirmed="yes", typed="25")
    assert "Type 250 to confirm" in wrong.text
    assert pool.counts()["cancelled"] == 0
    page = client.act("/jobs", **which, confirmed="yes", typed="250")
    assert "150 jobs canceled. 100 left that match: do it again to go on." in page.text
    assert pool.counts()["cancelled"] == 150


def test_what_is_in_another_state_by_now_is_said_to_be_refused(
    filled: Pool, client: Client
) -> None:
    (done,) = filled.records(state="succeeded")
    page = client.act("/jobs", action="cancel", id=done.id)
    assert "0 jobs canceled. 1 refused: in another state by now, or gone." in page.text


def test_a_selected_job_that_is_gone_keeps_no_other_from_being_changed(
    filled: Pool, client: Client
) -> None:
    gone, *ids = [each.id for each in filled.records(state="failed")]
    client.act("/jobs", action="delete", id=gone, confirmed="yes", count="1")
    form = {"action": "retry", "id": [gone, *ids], "confirmed": "yes", "count": "3"}
    assert (
        "2 jobs queued again. 1 refused: in another state by now, or gone."
        in client.act("/jobs", **form).text
    )
    assert filled.counts()["failed"] == 0


def test_no_more_jobs_are_changed_than_were_confirmed(pool: Pool, client: Client) -> None:
    which = {"action": "cancel", "scope": "all", "state": "queued", "pool": "mail"}
    for seen in 101, 50:
        pool.submit_many(jobs.send, ["a@b"] * 151)
        page = client.act("/jobs", **which, confirmed="yes", count=str(seen), typed=str(seen))
        assert f"{seen} jobs canceled." in page.text
        assert f"{pool.counts()['queued']} left that match: do it again to go on." in page.text
    assert pool.counts()["cancelled"] == 151


def test_deleting_always_asks(filled: Pool, client: Client) -> None:
    (done,) = filled.records(state="succeeded")
    assert "1 job will be deleted." in client.post("/jobs", action="delete", id=done.id).text
    client.act("/jobs", action="delete", id=done.id, confirmed="yes", count="1")
    assert filled.counts()["succeeded"] == 0


def test_a_scheduled_job_is_run_now(filled: Pool, client: Client) -> None:
    (later,) = filled.records(state="scheduled")
    assert "1 job started now." in client.act("/jobs", action="run", id=later.id).text
    assert filled.counts()["scheduled"] == 0


def test_a_pool_is_paused_and_goes_on(filled: Pool, client: Client) -> None:
    page = client.act("/pools", action="pause", pool="mail", back="/pools/mail")
    assert "paused" in page.text
    assert client.act("/pools", action="resume", pool="mail", back="/pools/mail").status == 200
    assert "Pause" in client.get("/pools/mail").text


def test_the_reason_of_a_pause_is_shown(filled: Pool, client: Client) -> None:
    assert 'name="reason"' in client.get("/pools/mail").html
    page = client.act("/pools", action="pause", pool="mail", back="/pools/mail", reason="it leaks")
    assert "paused it leaks" in page.text
    client.act("/pools", action="resume", pool="mail")
    assert "it leaks" not in client.get("/pools/mail").text


def test_a_recurring_job_is_run_and_paused(pool: Pool, client: Client) -> None:
    pool.options(name="nightly").every(3600).perform(jobs.tick)
    entry = pool.recurring()[0].name
    client.act("/recurring", action="run", pool="mail", entry=entry)
    assert pool.counts()["queued"] == 1
    assert "It is paused" in client.act("/recurring", action="pause", pool="mail", entry=entry).text
    assert pool.recurring()[0].is_paused
    client.act("/recurring", action="resume", pool="mail", entry=entry)
    assert not pool.recurring()[0].is_paused
    assert client.post("/recurring", action="run", pool="mail", entry="gone").status == 404


def test_a_process_is_asked_to_end(
    url: str, pool: Pool, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """One that does not wait for a signal says in its log that it goes on."""
    with Pool("other", 2, store=url) as running:
        running.submit(jobs.tick).result(10)
        asked = client.post("/runners", action="drain", runner=runner_of(client))
        assert "did=runner-drain" in asked.headers["location"]
        until(lambda: "is asked to end, and does not" in caplog.text)
        assert running.submit(jobs.tick).result(10) is None
        with SignalWaiter(print) as waiter:
            lifecycle.set_end_handler(waiter.wake)
            said = client.act("/runners", action="drain", runner=runner_of(client), back="/runners")
            assert "The process was asked to end" in said.text
            waiter.wait(10)
            lifecycle.set_end_handler(None)
    assert client.post("/runners", action="drain", runner="gone").status == 404
    assert client.post("/runners", action="pause", runner="gone").status == 400


def runner_of(client: Client) -> str:
    [runner] = json.loads(client.get("/api/runners").html)["runners"]
    return str(runner["ref"])


@pytest.mark.parametrize("is_stored", [True, False])
def test_a_running_job_is_said_to_be_asked_to_stop(
    url: str, show: Callable[..., Client], is_stored: bool
) -> None:
    """It may not look whether it was."""
    jobs.gate.clear()
    with Pool("mail", 1, store=url if is_stored else False) as pool:
        client, job = show(pool), pool.submit(jobs.stand)
        until(lambda: job.state == "running")
        page = client.act("/jobs", action="cancel", id=job.id)
        jobs.gate.set()
        assert "1 running job asked to stop." in page.text


def test_jobs_and_timers_in_memory_are_acted_on_as_well(
    show: Callable[..., Client],
) -> None:
    with Pool("hands", 1) as pool:
        client = show(pool)
        client.act("/pools", action="pause", pool="hands")
        assert pool.state == "paused"
        job, later = pool.submit(jobs.tick), pool.after(3600).submit(jobs.tick)
        assert "1 job canceled." in client.act("/jobs", action="cancel", id=job.id).text
        assert job.cancelled()
        assert "1 job started now." in client.act("/jobs", action="run", id=later.id).text
        client.act("/pools", action="resume", pool="hands")
        assert later.result(10) is None
        timer = pool.every(3600).perform(jobs.tick)
        entry = json.loads(client.get("/api/recurring").html)["entries"][0]["ref"]
        client.act("/recurring", action="pause", pool="hands", entry=entry)
        assert timer.next is None
        client.act("/recurring", action="resume", pool="hands", entry=entry)
        assert timer.next is not None
        client.act("/recurring", action="run", pool="hands", entry=entry)
        assert timer.fired == 1


@pytest.mark.parametrize(
    "back", ["//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"]
)
def test_an_action_never_leads_to_another_site(filled: Pool, client: Client, back: str) -> None:
    (job, *_) = filled.records(state="failed")
    page = client.post("/jobs", action="retry", id=job.id, back=back)
    assert page.headers["location"].startswith("/?did=")
    asks = client.post("/jobs", action="delete", id=job.id, back=back)
    assert 'href="/"' in asks.html
    assert f'href="{back}' not in asks.html


def test_nothing_is_done_that_no_page_offers(filled: Pool, client: Client) -> None:
    assert client.post("/jobs", action="explode", id="1").status == 400
    assert client.post("/jobs", action="pause", id="1").status == 400
    assert client.post("/pools", action="delete", pool="mail").status == 400
    assert client.post("/errors", action="retry").status == 405
    assert "Nothing is selected" in client.act("/jobs", action="retry").text
