"""Sentry: failed jobs as issues, and jobs as transactions.

Each attempt has an isolation scope of its own: without it, tags that a job sets would appear in
events of the request that has submitted it.

Assumes: ``sentry-sdk`` is installed; the application calls ``sentry_sdk.init``.
"""

import json
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import sentry_sdk
from sentry_sdk.crons import capture_checkin
from sentry_sdk.scope import add_global_event_processor
from sentry_sdk.utils import event_from_exception

import oddjob
from oddjob.compat import T, override
from oddjob.runtime.middleware import (
    outcome_of,
    pool_of,
    queued_for,
    recurrence_of_submit,
)
from oddjob.schedule.triggers import CronTrigger, EveryTrigger, Trigger

if TYPE_CHECKING:
    from oddjob.runtime.job import Job

_MONITOR: Final = "oddjob-sentry-monitor"  # in carriers: the schedule of the monitor
_MINUTE: Final = 60.0
_LONGEST_SLUG: Final = 50
_STATUS: Final = {"succeeded": "ok", "cancelled": "cancelled", "timed_out": "deadline_exceeded"}
_CAPTURED: Final = "_oddjob_sentry_captured"  # an attribute of exceptions


class Sentry(oddjob.Middleware):
    """Middleware that reports jobs, as ``Pool(middleware=[Sentry()])``.

    A job whose last attempt fails is reported once, also where the library's log reports it.

    Args:
        ignore: classes of exceptions that are not reported.
        report_retries: report attempts that are followed by another one, too.
        monitor: send a check-in whenever a job of `Pool.every`, `Pool.cron` or `Pool.daily` has
            ended. The monitor is called as the job, and made when it is not there.
    """

    def __init__(
        self,
        ignore: type[BaseException] | tuple[type[BaseException], ...] = (),
        *,
        report_retries: bool = False,
        monitor: bool = False,
    ) -> None:
        self._ignored: Final = ignore
        self._reports_retries: Final = report_retries
        self._monitors: Final = monitor

    @override
    def submit(self, job: "Job[Any]", carrier: dict[str, str]) -> None:
        with sentry_sdk.start_span(op="queue.publish", name=job.name) as span:
            span.set_data("messaging.destination.name", pool_of(job))
            carrier["sentry-trace"] = sentry_sdk.get_traceparent() or ""
            carrier["baggage"] = sentry_sdk.get_baggage() or ""
        recurrence = recurrence_of_submit()
        if self._monitors and recurrence is not None:
            carrier[_MONITOR] = json.dumps(_schedule(recurrence))

    @override
    def run(self, job: "Job[Any]", carrier: dict[str, str], call: Callable[[], T]) -> T:
        attempt, began = job.attempt, time.monotonic()
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
                outcome = "failed"
                try:
                    result = call()
                    outcome = outcome_of(job, attempt)
                except BaseException as error:
                    outcome = outcome_of(job, attempt, error)
                    self._report(error, outcome)
                    raise
                finally:
                    span.set_status(_STATUS.get(outcome, "internal_error"))
                    if _MONITOR in carrier and outcome != "retried":
                        _check_in(job.name, carrier, outcome, time.monotonic() - began)
                    del job, call  # a failure that is on its way refers to this frame
                return result

    def _report(self, error: BaseException, outcome: str) -> None:
        if isinstance(error, self._ignored) or outcome == "cancelled":
            return
        if outcome == "retried" and not self._reports_retries:
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


add_global_event_processor(_drop_captured)  # once for all: events pass through each of them


def _schedule(trigger: Trigger) -> dict[str, Any]:
    """Return what Sentry is told of a recurrence; nothing if it cannot be told.

    It knows no intervals that are not whole minutes, and zones by name alone.
    """
    if isinstance(trigger, CronTrigger):
        zone = getattr(trigger.zone, "key", None)
        schedule = {"type": "crontab", "value": trigger.expression}
        return {"schedule": schedule, **({"timezone": zone} if zone else {})}
    if isinstance(trigger, EveryTrigger) and trigger.period % _MINUTE == 0:
        minutes = int(trigger.period // _MINUTE)
        return {"schedule": {"type": "interval", "value": minutes, "unit": "minute"}}
    return {}


def _check_in(name: str, carrier: dict[str, str], outcome: str, duration: float) -> None:
    capture_checkin(
        monitor_slug=re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-")[:_LONGEST_SLUG],
        status="ok" if outcome == "succeeded" else "error",
        duration=duration,
        monitor_config=json.loads(carrier[_MONITOR]) or None,
    )
