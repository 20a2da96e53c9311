"""The OpenTelemetry middleware, on the SDK's exporters in memory."""

import asyncio
import threading
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

import oddjob
from tests.hang import WAIT, until

pytest.importorskip("opentelemetry.sdk", reason="it is not installed")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import (
    InMemorySpanExporter,
)
from opentelemetry.trace import SpanKind, StatusCode

from oddjob.contrib.opentelemetry import OpenTelemetry


class Telemetry:
    """Providers whose spans and metrics stay here."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def middleware(self, **options: Any) -> OpenTelemetry:
        return OpenTelemetry(self.tracers, self.meters, **options)

    def spans(self) -> list[Any]:
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def metrics(self) -> dict[str, list[Any]]:
        found: Any = self.reader.get_metrics_data()
        scopes = found.resource_metrics[0].scope_metrics
        return {
            metric.name: list(metric.data.data_points)
            for scope in scopes
            for metric in scope.metrics
        }


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


def test_the_span_of_a_job_is_a_child_of_its_submitters(telemetry: Telemetry) -> None:
    with (
        oddjob.Pool("mail", 1, middleware=[telemetry.middleware()]) as pool,
        telemetry.tracers.get_tracer("web").start_as_current_span("request") as request,
    ):
        job = pool.options(name="send").submit(pow, 2, 3)
        job.result(10)
    [span] = [each for each in telemetry.spans() if each.name == "process mail"]
    assert span.kind is SpanKind.CONSUMER
    assert span.parent.span_id == request.get_span_context().span_id
    assert span.attributes["messaging.system"] == "oddjob"
    assert span.attributes["messaging.message.id"] == job.id
    assert span.attributes["oddjob.job.name"] == "send"
    assert span.attributes["oddjob.job.outcome"] == "succeeded"


def test_only_the_last_attempt_is_an_error(telemetry: Telemetry) -> None:
    middleware = telemetry.middleware()
    with oddjob.Pool("mail", 1, middleware=[middleware], retries=1, backoff=0) as pool:
        pool.submit(int, "no number").exception(10)
    first, second = telemetry.spans()
    assert [event.name for event in first.events] == ["exception", "retry"]
    assert first.status.status_code is StatusCode.UNSET
    assert second.status.status_code is StatusCode.ERROR
    assert second.attributes["error.type"] == "ValueError"
    assert (first.attributes["oddjob.job.attempt"], second.attributes["oddjob.job.attempt"]) == (
        1,
        2,
    )


@pytest.mark.parametrize("is_linked", [True, False])
def test_the_trace_of_a_stored_job_leads_to_its_submitter(
    is_linked: bool, telemetry: Telemetry, tmp_path: Path
) -> None:
    middleware = telemetry.middleware(link=is_linked)
    url = f"sqlite:///{tmp_path}/jobs.db"
    with oddjob.Pool("mail", 1, store=url, middleware=[middleware]) as pool:
        pool.submit(abs, -2).result(10)
    send, process = telemetry.spans()
    assert (send.name, send.kind) == ("send mail", SpanKind.PRODUCER)
    assert (process.name, process.kind) == ("process mail", SpanKind.CONSUMER)
    links = [link.context.span_id for link in process.links]
    parents = [] if process.parent is None else [process.parent.span_id]
    assert (links if is_linked else parents) == [send.context.span_id]
    assert (parents if is_linked else links) == []


def test_jobs_and_pools_are_measured(telemetry: Telemetry) -> None:
    middleware = telemetry.middleware(semantic_metrics=True)
    pool = oddjob.Pool("mail", 3, middleware=[middleware], retries=1, backoff=0)
    pool.submit(abs, -2).result(10)
    pool.submit(int, "no number").exception(10)
    assert pool.drain(10).running == []
    pool = oddjob.Pool("mail", 3)
    metrics = telemetry.metrics()
    counts = {
        point.attributes["oddjob.job.outcome"]: point.value for point in metrics["oddjob.job.count"]
    }
    assert counts == {"succeeded": 1, "failed": 1}
    assert sum(point.count for point in metrics["oddjob.job.duration"]) == 3
    assert sum(point.count for point in metrics["oddjob.job.queue.duration"]) == 3
    [size] = metrics["oddjob.pool.size"]
    assert (size.value, size.attributes["oddjob.pool"]) == (3, "mail")
    assert metrics["messaging.client.consumed.messages"][0].value == 3


def test_spans_and_metrics_can_be_left_out(telemetry: Telemetry) -> None:
    middleware = telemetry.middleware(spans=False, metrics=False)
    with oddjob.Pool("mail", 1, middleware=[middleware]) as pool:
        assert pool.submit(abs, -2).result(10) == 2
    assert telemetry.spans() == []
    assert telemetry.reader.get_metrics_data() is None


def test_a_batch_is_sent_once_and_says_how_many_there_are(
    telemetry: Telemetry, tmp_path: Path
) -> None:
    """A thousand jobs are one span more in the trace of the request, not a thousand."""
    middleware = telemetry.middleware(semantic_metrics=True)
    with oddjob.Pool(
        "mail", 1, store=f"sqlite:///{tmp_path}/j.db", middleware=[middleware]
    ) as pool:
        assert [job.result(WAIT) for job in pool.submit_many(abs, [-1, -2, -3])] == [1, 2, 3]
    [send] = [span for span in telemetry.spans() if span.name == "send mail"]
    processed = [span for span in telemetry.spans() if span.name == "process mail"]
    assert send.attributes["messaging.batch.message_count"] == 3
    assert {link.context.span_id for span in processed for link in span.links} == {
        send.context.span_id
    }
    assert telemetry.metrics()["messaging.client.sent.messages"][0].value == 3


async def until_cancelled(started: threading.Event) -> None:
    started.set()
    await asyncio.Event().wait()


def outcomes(telemetry: Telemetry) -> dict[str, int]:
    points = telemetry.metrics()["oddjob.job.count"]
    return {point.attributes["oddjob.job.outcome"]: point.value for point in points}


def test_a_job_that_was_cancelled_is_no_error_and_has_not_timed_out(telemetry: Telemetry) -> None:
    started = threading.Event()
    with oddjob.Pool("mail", 1, middleware=[telemetry.middleware()], retries=3) as pool:
        job = pool.submit(until_cancelled, started)
        assert started.wait(WAIT)
        job.cancel()
        with pytest.raises(CancelledError):
            job.result(WAIT)
    [span] = telemetry.spans()
    assert span.attributes["oddjob.job.outcome"] == "cancelled"
    assert span.status.status_code is StatusCode.UNSET
    assert outcomes(telemetry) == {"cancelled": 1}


def test_a_job_that_is_cancelled_before_its_retry_has_not_timed_out(telemetry: Telemetry) -> None:
    """Its first attempt was over its time, and comes back when the job has been cancelled."""
    let_go, options = threading.Event(), {"timeout": 0.01, "retries": 1, "backoff": 60}
    with oddjob.Pool("mail", 1, middleware=[telemetry.middleware()], **options) as pool:
        job = pool.submit(let_go.wait, WAIT)
        until(lambda: pool.stats().retried == 1)
        assert job.cancel()
        let_go.set()
    until(lambda: len(telemetry.spans()) == 1)
    assert outcomes(telemetry) == {"cancelled": 1}


def test_a_job_that_has_timed_out_says_so(telemetry: Telemetry) -> None:
    let_go = threading.Event()
    with oddjob.Pool("mail", 1, middleware=[telemetry.middleware()], timeout=0.01) as pool:
        assert isinstance(pool.submit(let_go.wait, WAIT).exception(WAIT), oddjob.JobTimeout)
        let_go.set()
    until(lambda: len(telemetry.spans()) == 1)
    assert telemetry.spans()[0].status.status_code is StatusCode.ERROR
    assert outcomes(telemetry) == {"timed_out": 1}
