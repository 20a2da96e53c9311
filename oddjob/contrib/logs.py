"""Log fields: which job has written a log record.

Needs no other package. The fields are ``job_id``, ``job_name``, ``pool_name`` and ``attempt``;
outside of jobs they are empty, and 0, so that a format may name them.
"""

import logging
import time
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from oddjob import Middleware, current_job
from oddjob.compat import T, override
from oddjob.runtime.middleware import outcome_of, pool_of, queued_for

if TYPE_CHECKING:
    from oddjob.runtime.job import Job

_log: Final = logging.getLogger("oddjob.jobs")


def fields() -> dict[str, Any]:
    """Return the fields of the job that the calling thread runs; empty outside of jobs."""
    job = current_job()
    return {} if job is None else _fields_of(job)


def _fields_of(job: "Job[Any]") -> dict[str, Any]:
    return {
        "job_id": job.id,
        "job_name": job.name,
        "pool_name": pool_of(job),
        "attempt": job.attempt,
    }


class JobFilter(logging.Filter):
    """A filter for handlers that lets all records pass, and gives them the fields.

    Fields that a record has already, by ``extra=``, stay as they are.
    """

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        found = {"job_id": "", "job_name": "", "pool_name": "", "attempt": 0, **fields()}
        for name, value in found.items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


def install(*handlers: logging.Handler) -> None:
    """Give the records of these handlers the fields; without any, those of the root logger.

    Call it when logging has been configured. A second call changes nothing.
    """
    for handler in handlers or logging.getLogger().handlers:
        if not any(isinstance(each, JobFilter) for each in handler.filters):
            handler.addFilter(JobFilter())


def structlog_processor(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Add the fields to an event of structlog, if a job has written it; a processor."""
    for name, value in fields().items():
        event.setdefault(name, value)
    return event


class JobLog(Middleware):
    """Middleware that logs a record for every attempt, at DEBUG, by the logger ``oddjob.jobs``.

    Its ``extra`` is the fields, and ``outcome`` (``succeeded``, ``failed``, ``retried``,
    ``cancelled``, ``timed_out``), ``duration`` and ``queue_time``, in seconds.
    """

    @override
    def run(self, job: "Job[Any]", carrier: dict[str, str], call: Callable[[], T]) -> T:
        if not _log.isEnabledFor(logging.DEBUG):
            return call()
        began, outcome, attempt = time.monotonic(), "failed", job.attempt
        try:
            result = call()
            outcome = outcome_of(job, attempt)
            return result  # noqa: TRY300
        except BaseException as error:
            outcome = outcome_of(job, attempt, error)
            raise
        finally:
            duration = time.monotonic() - began
            times = {"outcome": outcome, "duration": duration, "queue_time": queued_for(job)}
            what = "job %s of pool %s %s in attempt %d, after %.3f s"
            details = (job.name, pool_of(job), outcome, attempt, duration)
            _log.debug(what, *details, extra={**_fields_of(job), **times, "attempt": attempt})
            del job, call  # a failure that is on its way refers to this frame
