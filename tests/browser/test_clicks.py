"""Everything that can be done on the pages, done by clicking."""

import re
from collections.abc import Callable
from typing import Any

from oddjob import Pool
from tests.dashboard import jobs

NewPage = Callable[..., Any]


def said(page: Any, text: str) -> None:
    page.locator("#notice", has_text=text).wait_for()


def test_a_failed_job_is_found_from_the_overview_and_retried(
    address: str, pool: Pool, new_page: NewPage
) -> None:
    page = new_page()
    page.goto(address)
    page.get_by_role("table", name="Failed last").get_by_role("link", name="send").first.click()
    page.get_by_role("heading", name="Tracebacks").wait_for()
    page.get_by_role("button", name="Retry").click()
    said(page, "1 job queued again.")
    page.wait_for_url(lambda url: "did=" not in url)  # to load it again says nothing
    assert pool.counts()["failed"] == 2


def test_selected_jobs_are_retried_after_a_question(
    address: str, pool: Pool, new_page: NewPage
) -> None:
    page = new_page()
    page.goto(f"{address}/jobs?state=failed")
    page.get_by_label("Select all on this page").check()
    page.get_by_text("3 selected").wait_for()
    page.get_by_label(re.compile("Select job")).first.uncheck()
    page.get_by_role("button", name="Retry").click()
    page.get_by_role("button", name="Retry 2 jobs").click()
    said(page, "2 jobs queued again.")
    assert pool.counts()["failed"] == 1


def test_all_that_match_are_canceled_when_their_number_is_typed(
    address: str, pool: Pool, new_page: NewPage
) -> None:
    pool.submit_many(jobs.send, ["a@b"] * 150)
    page = new_page()
    page.goto(f"{address}/jobs?state=queued")
    page.get_by_label("With").select_option("all that match")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_label(re.compile("Type 150")).fill("150")
    page.get_by_role("button", name="Cancel 150 jobs").click()
    said(page, "100 jobs canceled. 50 left that match")
    assert pool.counts()["queued"] == 50


def test_a_job_is_deleted_after_a_question(address: str, pool: Pool, new_page: NewPage) -> None:
    page = new_page()
    page.goto(f"{address}/jobs/1")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("link", name="Back").click()
    page.get_by_role("heading", name="Jobs").wait_for()
    page.goto(f"{address}/jobs/1")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete 1 job").click()
    said(page, "1 job deleted.")
    assert pool.counts()["succeeded"] == 0


def test_a_scheduled_job_is_run_now_or_canceled(
    address: str, pool: Pool, new_page: NewPage
) -> None:
    pool.after(7200).submit(jobs.send, "later@example.org")
    page = new_page()
    page.goto(f"{address}/scheduled")
    page.get_by_role("button", name="Run now").first.click()
    said(page, "1 job started now.")
    page.get_by_role("button", name="Cancel").click()
    said(page, "1 job canceled.")
    assert pool.counts()["scheduled"] == 0


def test_a_pool_is_paused_and_resumed(address: str, pool: Pool, new_page: NewPage) -> None:
    page = new_page()
    page.goto(f"{address}/pools")
    page.get_by_role("link", name="mail").click()
    page.get_by_role("button", name="Pause").click()
    said(page, "The pool is paused")
    page.get_by_role("button", name="Resume").click()
    said(page, "The pool goes on.")


def test_a_recurring_job_is_run_paused_and_resumed(
    address: str, pool: Pool, new_page: NewPage
) -> None:
    page = new_page()
    page.goto(f"{address}/recurring")
    page.get_by_role("button", name="Run now").click()
    said(page, "Its job was submitted.")
    assert pool.counts()["queued"] == 1
    page.get_by_role("button", name="Pause").click()
    said(page, "It is paused")
    page.get_by_role("button", name="Resume").click()
    said(page, "It fires again.")


def test_everything_works_without_javascript(address: str, pool: Pool, new_page: NewPage) -> None:
    page = new_page(java_script_enabled=False)
    page.goto(f"{address}/jobs")
    page.get_by_role("searchbox").fill("no address")
    page.get_by_role("button", name="Filter").click()
    assert page.locator("tbody tr").count() == 3
    page.get_by_label(re.compile("Select job")).first.check()
    page.get_by_role("button", name="Retry").click()
    assert "1 job queued again." in page.inner_text("#notice")
    assert pool.counts()["failed"] == 2


def test_a_page_follows_what_happens_and_keeps_what_was_chosen(
    address: str, pool: Pool, new_page: NewPage
) -> None:
    page = new_page()
    page.goto(f"{address}/jobs")
    page.get_by_label(re.compile("Select job")).last.check()
    page.get_by_label("With").select_option("all that match")
    page.get_by_label(re.compile("Select job")).last.focus()
    chosen = page.locator("input:checked").get_attribute("value")
    pool.options(name="newcomer").submit(jobs.send, "new@example.org")
    page.get_by_role("link", name="newcomer").wait_for()
    assert page.locator("input:checked").get_attribute("value") == chosen
    assert page.get_by_label("With").input_value() == "all"
    assert page.evaluate("document.activeElement.type") == "checkbox"


def test_what_was_opened_stays_open(address: str, pool: Pool, new_page: NewPage) -> None:
    page = new_page()
    page.goto(f"{address}/recurring")
    page.get_by_text("Next five").click()
    pool.options(name="another").every(3600).perform(jobs.tick)
    page.get_by_text("another").wait_for()
    assert page.locator("details[open]").count() == 1


def test_the_switch_stops_following_and_is_remembered(
    address: str, pool: Pool, new_page: NewPage
) -> None:
    page = new_page()
    page.goto(f"{address}/jobs")
    page.get_by_role("button", name="Live").click()
    page.goto(f"{address}/jobs")
    assert page.get_by_role("button", name="Live").get_attribute("aria-pressed") == "false"
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(500)  # more than two turns
    assert asked == []
    with page.expect_request("**/jobs"):
        page.get_by_role("button", name="Live").click()


def test_what_has_not_changed_is_not_sent_again(
    address: str, pool: Pool, new_page: NewPage
) -> None:
    page = new_page()
    page.goto(f"{address}/pools")
    with page.expect_response(lambda answer: answer.status == 304):
        pass
