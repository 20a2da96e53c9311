"""The Sentry middleware, on a transport that keeps what it is given."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import oddjob
from tests.hang import WAIT, until

sentry_sdk = pytest.importorskip("sentry_sdk", reason="it is not installed")

from sentry_sdk.integrations.logging import LoggingIntegration  # noqa: E402
from sentry_sdk.transport import Transport  # noqa: E402

from oddjob.contrib.sentry import Sentry  # noqa: E402


class Kept(Transport):
    """What would have been sent."""

    def __init__(self) -> None:
        super().__init__()
        self.items: list[Any] = []

    def capture_envelope(self, envelope: Any) -> None:
        self.items += [item.payload.json for item in envelope.items if item.payload.json]

    @property
    def errors(self) -> list[Any]:
        return [item for item in self.items if "exception" in item]

    @property
    def transactions(self) -> list[Any]:
        return [item for item in self.items if item.get("type") == "transaction"]

    @property
    def check_ins(self) -> list[Any]:
        return [item for item in self.items if "monitor_slug" in item]


@pytest.fixture
def sentry() -> Iterator[Kept]:
    transport = Kept()
    sentry_sdk.init(
        dsn="https://key@localhost/1",
        transport=transport,
        traces_sample_rate=1.0,
        default_integrations=False,
        enable_backpressure_handling=False,  # a thread that would outlive the test
        integrations=[LoggingIntegration()],
    )
    yield transport
    sentry_sdk.get_client().close(timeout=0)
    sentry_sdk.get_global_scope().set_client(None)


def test_a_failure_is_reported_once_also_where_it_is_logged(sentry: Kept) -> None:
    with oddjob.Pool("mail", 1, middleware=[Sentry()], retries=1, backoff=0) as pool:
        pool.options(name="send").perform(int, "no number")
    [event] = sentry.errors
    assert event["exception"]["values"][-1]["type"] == "ValueError"
    assert event["exception"]["values"][-1]["mechanism"] == {"type": "oddjob", "handled": False}
    assert event["contexts"]["job"]["name"] == "send"
    assert event["contexts"]["job"]["attempt"] == 2
    assert event["tags"]["oddjob.pool"] == "mail"


def test_retries_are_reported_on_request_and_ignored_classes_never(sentry: Kept) -> None:
    middleware = [Sentry(ignore=ZeroDivisionError, report_retries=True)]
    with oddjob.Pool("mail", 1, middleware=middleware, retries=1, backoff=0) as pool:
        pool.submit(int, "no number").exception(10)
        pool.submit(divmod, 1, 0).exception(10)
    assert len(sentry.errors) == 2


def test_tags_of_a_job_do_not_reach_its_submitter(sentry: Kept) -> None:
    with oddjob.Pool("mail", 1, middleware=[Sentry()]) as pool:
        pool.submit(sentry_sdk.set_tag, "customer", "ann").result(10)
    sentry_sdk.capture_exception(ValueError("the request's own"))
    assert "customer" not in sentry.errors[-1].get("tags", {})


def test_a_job_is_a_transaction_in_the_trace_of_its_submitter(sentry: Kept) -> None:
    with (
        oddjob.Pool("mail", 1, middleware=[Sentry()]) as pool,
        sentry_sdk.start_transaction(op="http.server", name="/signup") as request,
    ):
        job = pool.options(name="send").submit(pow, 2, 3)
        job.result(10)
    found = {item["transaction"]: item for item in sentry.transactions}
    trace = found["send"]["contexts"]["trace"]
    assert trace["op"] == "queue.process"
    assert trace["trace_id"] == request.trace_id
    assert trace["data"]["messaging.destination.name"] == "mail"
    assert trace["data"]["messaging.message.retry.count"] == 0
    assert [span["op"] for span in found["/signup"]["spans"]] == ["queue.publish"]


def test_a_hundred_instances_look_at_each_event_once(sentry: Kept) -> None:
    """Sentry forgets the processors of a scope, also those of others, when they are too many."""
    seen = []
    sentry_sdk.get_global_scope().add_event_processor(lambda event, _hint: seen.append(1) or event)
    for _ in range(100):
        Sentry()
    with oddjob.Pool("mail", 1, middleware=[Sentry()]) as pool:
        pool.perform(int, "no number")
    assert len(sentry.errors) == 1
    assert seen


@pytest.mark.parametrize("store", [None, "sqlite"])
def test_recurring_jobs_check_in(store: str | None, sentry: Kept, tmp_path: Path) -> None:
    """Sentry tells when a nightly job has failed, or has not run at all."""
    url = store and f"sqlite:///{tmp_path}/jobs.db"
    with oddjob.Pool("mail", 1, middleware=[Sentry(monitor=True)], store=url) as pool:
        nightly = pool.options(name="Nightly report").daily("03:00", tz="Europe/Paris")
        hourly = pool.options(name="parse").every(3600)
        for timer in (nightly.perform(abs, -1), hourly.perform(int, "no number")):
            timer.run_now()
        pool.submit(abs, -1).result(WAIT)  # does not recur
        until(lambda: len(sentry.check_ins) == 2)
    found = {each["monitor_slug"]: each for each in sentry.check_ins}
    assert found["nightly-report"]["status"] == "ok"
    assert found["nightly-report"]["monitor_config"] == {
        "schedule": {"type": "crontab", "value": "0 3 * * *"},
        "timezone": "Europe/Paris",
    }
    assert found["parse"]["status"] == "error"
    assert found["parse"]["monitor_config"] == {
        "schedule": {"type": "interval", "value": 60, "unit": "minute"}
    }


def test_recurring_jobs_check_in_on_request_only(sentry: Kept) -> None:
    with oddjob.Pool("mail", 1, middleware=[Sentry()]) as pool:
        timer = pool.every(3600).submit(abs, -1)
        timer.run_now()
        timer.jobs[0].result(WAIT)
    assert sentry.check_ins == []
