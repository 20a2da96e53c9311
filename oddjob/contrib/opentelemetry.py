"""OpenTelemetry: a span and metrics for every job.

The span of a job in memory is a child of its submitter's. A stored job, which another process may
run much later, begins a trace of its own that is linked to the submitter's, or continues that with
``link=False``: the trace context travels with the job.

There are no conventions for jobs. The attributes are those of messaging, where they fit, and
``oddjob.…``; durations are in seconds.

Assumes: ``opentelemetry-api`` is installed; the application configures an SDK.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as contexts
from opentelemetry import metrics as metrics_api
from opentelemetry import propagate, trace
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider

import oddjob
from oddjob.compat import T, override
from oddjob.runtime.middleware import is_stored, outcome_of, pool_of, queued_for

if TYPE_CHECKING:
    from oddjob.runtime.job import Job

_NAME: Final = "oddjob"
_OF_POOLS: Final = {
    "queued": "{job}",
    "running": "{job}",
    "crashes": "{crash}",
}


class OpenTelemetry(oddjob.Middleware):
    """Middleware that traces and measures jobs, as ``Pool(middleware=[OpenTelemetry()])``.

    Args:
        tracer_provider: where spans go; None: the global one.
        meter_provider: where metrics go; None: the global one.
        link: link the span of a stored job to its submitter's; False: make it a child.
        spans: make spans.
        metrics: measure: ``oddjob.job.duration``, ``oddjob.job.queue.duration`` and
            ``oddjob.job.count``, by pool, job and outcome; and of all named pools
            ``oddjob.pool.size``, ``.queued``, ``.running`` and ``.crashes``.
        semantic_metrics: measure ``messaging.process.duration``,
            ``messaging.client.sent.messages`` and ``messaging.client.consumed.messages`` as well,
            whose conventions are not stable yet.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        link: bool = True,
        spans: bool = True,
        metrics: bool = True,
        semantic_metrics: bool = False,
    ) -> None:
        provider = tracer_provider if spans else trace.NoOpTracerProvider()
        self._tracer: Final = trace.get_tracer(_NAME, oddjob.__version__, provider)
        self._links: Final = link
        meter = metrics_api.get_meter(_NAME, oddjob.__version__, meter_provider)
        self._instruments: Final = _Instruments(meter) if metrics else None
        self._messaging: Final = _Messaging(meter) if semantic_metrics else None

    @override
    def submit(self, job: "Job[Any]", carrier: dict[str, str]) -> None:
        self._send([job], [carrier])

    @override
    def submit_many(self, jobs: "Sequence[Job[Any]]", carriers: Sequence[dict[str, str]]) -> None:
        self._send(jobs, carriers, **{"messaging.batch.message_count": len(jobs)})

    def _send(
        self,
        jobs: "Sequence[Job[Any]]",
        carriers: Sequence[dict[str, str]],
        **of_batch: int,
    ) -> None:
        context: dict[str, str] = {}
        if is_stored(jobs[0]):
            pool = pool_of(jobs[0])
            attributes = {**_attributes(jobs[0], pool, "send"), "messaging.operation.type": "send"}
            with self._tracer.start_as_current_span(
                f"send {pool}", kind=SpanKind.PRODUCER, attributes=attributes | of_batch
            ):
                propagate.inject(context)
            if self._messaging is not None:
                self._messaging.sent.add(len(jobs), _labels(pool, "send"))
        else:
            propagate.inject(context)
        for carrier in carriers:
            carrier.update(context)

    @override
    def run(self, job: "Job[Any]", carrier: dict[str, str], call: Callable[[], T]) -> T:
        began, waited, outcome = time.monotonic(), queued_for(job), "failed"
        attempt = job.attempt
        try:
            with self._span(job, carrier) as span:
                span.set_attribute("messaging.message.id", job.id)
                span.set_attribute("oddjob.job.attempt", attempt)
                span.set_attribute("oddjob.job.queue_time", waited)
                try:
                    result = call()
                except BaseException as error:
                    outcome = outcome_of(job, attempt, error)
                    _record(span, error, outcome)
                    raise
                outcome = outcome_of(job, attempt)
                span.set_attribute("oddjob.job.outcome", outcome)
                if outcome == "timed_out":
                    span.set_status(Status(StatusCode.ERROR, "the time of the job was up"))
                return result
        finally:
            self._measure(job, outcome, time.monotonic() - began, waited)
            del job, call  # a failure that is on its way refers to this frame

    @contextmanager
    def _span(self, job: "Job[Any]", carrier: dict[str, str]) -> Iterator[Span]:
        context, links = contexts.get_current(), []
        if not trace.get_current_span().get_span_context().is_valid:
            # It comes from a store, or from code without a span.
            submitted = propagate.extract(carrier)
            origin = trace.get_current_span(submitted).get_span_context()
            if origin.is_valid and self._links:
                links = [Link(origin)]
            else:
                context = submitted
        pool = pool_of(job)
        with self._tracer.start_as_current_span(
            f"process {pool}",
            context,
            SpanKind.CONSUMER,
            {**_attributes(job, pool, "process"), "messaging.operation.type": "process"},
            links,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield span

    def _measure(self, job: "Job[Any]", outcome: str, took: float, waited: float) -> None:
        pool = pool_of(job)
        if self._instruments is not None:
            labels = {"oddjob.pool": pool, "oddjob.job.name": job.name}
            self._instruments.waits.record(waited, labels)
            self._instruments.runs.record(took, {**labels, "oddjob.job.outcome": outcome})
            if outcome != "retried":
                self._instruments.count.add(1, {**labels, "oddjob.job.outcome": outcome})
        if self._messaging is not None:
            self._messaging.took.record(took, _labels(pool, "process"))
            self._messaging.consumed.add(1, _labels(pool, "process"))


class _Instruments:
    """The metrics of jobs and pools."""

    def __init__(self, meter: metrics_api.Meter) -> None:
        text = "How long attempts have run"
        self.runs: Final = meter.create_histogram("oddjob.job.duration", "s", text)
        text = "How long jobs were queued"
        self.waits: Final = meter.create_histogram("oddjob.job.queue.duration", "s", text)
        text = "Jobs that have ended"
        self.count: Final = meter.create_counter("oddjob.job.count", "{job}", text)
        meter.create_observable_gauge(
            "oddjob.pool.size", [_sizes], "{job}", "Jobs that may run at once"
        )
        for field, unit in _OF_POOLS.items():
            is_count = field == "crashes"
            create = meter.create_observable_counter if is_count else meter.create_observable_gauge
            create(f"oddjob.pool.{field}", [_observer(field)], unit)


class _Messaging:
    """The metrics that the conventions for messaging have."""

    def __init__(self, meter: metrics_api.Meter) -> None:
        self.took: Final = meter.create_histogram("messaging.process.duration", "s")
        self.sent: Final = meter.create_counter("messaging.client.sent.messages", "{message}")
        self.consumed: Final = meter.create_counter(
            "messaging.client.consumed.messages", "{message}"
        )


def _sizes(_: CallbackOptions) -> Iterable[Observation]:
    for name, pool in oddjob.pools().items():
        yield Observation(pool.pool_size, {"oddjob.pool": name})


def _observer(field: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        for name, pool in oddjob.pools().items():
            yield Observation(getattr(pool.stats(), field), {"oddjob.pool": name})

    return observe


def _labels(pool: str, operation: str) -> dict[str, str]:
    return {
        "messaging.system": _NAME,
        "messaging.destination.name": pool,
        "messaging.operation.name": operation,
    }


def _attributes(job: "Job[Any]", pool: str, operation: str) -> dict[str, Any]:
    return {
        **_labels(pool, operation),
        "code.function.name": job.name,
        "oddjob.job.name": job.name,
        "oddjob.job.priority": job.priority,
    }


def _record(span: Span, error: BaseException, outcome: str) -> None:
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    span.set_attribute("oddjob.job.outcome", outcome)
    span.set_attribute("error.type", name)
    span.record_exception(error)
    if outcome == "retried":
        span.add_event("retry")
    elif outcome != "cancelled":
        span.set_status(Status(StatusCode.ERROR, str(error)))
