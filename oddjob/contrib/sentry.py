"""Sentry: failed jobs as issues, and jobs as transactions.

Each attempt has an isolation scope of its own: without it, tags that a job sets would appear in
events of the request that has submitted it.

Assumes: ``sentry-sdk`` is installed; the application calls ``sentry_sdk.init``.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import sentry_sdk
from sentry_sdk.utils import event_from_exception

import oddjob
from oddjob.compat import T, override
from oddjob.runtime.middleware import pool_of, queued_for, will_retry

if TYPE_CHECKING:
    from oddjob.runtime.job import Job

_CAPTURED: Final = "_oddjob_sentry_captured"  # an attribute of exceptions


class Sentry(oddjob.Middleware):
    """Middleware that reports jobs, as ``Pool(middleware=[Sentry()])``.

    A job whose last attempt fails is reported once, also where the library's log reports it.

    Args:
        ignore: classes of exceptions that are not reported.
        report_retries: report attempts that are followed by another one, too.
    """

    def __init__(
        self,
        ignore: type[BaseException] | tuple[type[BaseException], ...] = (),
        *,
        report_retries: bool = False,
    ) -> None:
        self._ignored: Final = ignore
        self._reports_retries: Final = report_retries
        sentry_sdk.get_global_scope().add_event_processor(_drop_captured)

    @override
    def submit(self, job: "Job[Any]", carrier: dict[str, str]) -> None:
        with sentry_sdk.start_span(op="queue.publish", name=job.name) as span:
            span.set_data("messaging.destination.name", pool_of(job))
            carrier["sentry-trace"] = sentry_sdk.get_traceparent() or ""
            carrier["baggage"] = sentry_sdk.get_baggage() or ""

    @override
    def run(self, job: "Job[Any]", carrier: dict[str, str], call: Callable[[], T]) -> T:
        with sentry_sdk.isolation_scope() as scope:
            scope.clear_breadcrumbs()
            scope.set_tag("oddjob.pool", pool_of(job))
            scope.set_context("job", {"id": job.id, "name": job.name, "attempt": job.attempt})
            transaction = sentry_sdk.continue_trace(
                carrier, op="queue.process", name=job.name, source="task"
            )
            with sentry_sdk.start_transaction(transaction) as span:
                span.set_data("messaging.message.id", job.id)
                span.set_data("messaging.destination.name", pool_of(job))
                span.set_data("messaging.message.receive.latency", queued_for(job) * 1000)  # ms
                span.set_data("messaging.message.retry.count", job.attempt - 1)
                try:
                    result = call()
                except BaseException as error:
                    span.set_status("internal_error")
                    self._report(job, error)
                    raise
                finally:
                    del job, call  # a failure that is on its way refers to this frame
                span.set_status("ok")
                return result

    def _report(self, job: "Job[Any]", error: BaseException) -> None:
        if isinstance(error, self._ignored):
            return
        if will_retry(job, error) and not self._reports_retries:
            return
        event, hint = event_from_exception(
            sys.exc_info(), mechanism={"type": "oddjob", "handled": False}
        )
        sentry_sdk.capture_event(event, hint=hint)
        with suppress(Exception):  # an exception may be a frozen dataclass
            setattr(error, _CAPTURED, True)


def _drop_captured(event: Any, hint: dict[str, Any]) -> Any:
    """Drop what the library has logged about a failure that was reported; an event processor."""
    record = hint.get("log_record")
    error = (hint.get("exc_info") or (None, None))[1]
    is_logged = record is not None and record.name == "oddjob"
    return None if is_logged and getattr(error, _CAPTURED, False) else event
