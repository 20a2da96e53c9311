"""A request id travels with every job, from the thread that submits it into its log lines.

Context variables travel by themselves. What a framework keeps in a thread-local needs middleware.
"""

import io
import logging
import threading
from collections.abc import Callable
from typing import Any

import oddjob

current = threading.local()  # stands for a framework that keeps its request here
log = logging.getLogger("shop")


class RequestId(oddjob.Middleware):
    """Carries the request id of the submitting thread to the worker."""

    def submit(self, job: oddjob.Job, carrier: dict[str, str]) -> None:  # noqa: ARG002
        """Run in the submitting thread, before the job is queued."""
        carrier["request_id"] = current.request_id

    def run(self, job: oddjob.Job, carrier: dict[str, str], call: Callable[[], Any]) -> Any:  # noqa: ARG002
        """Run in the worker, around the job."""
        before = getattr(current, "request_id", None)
        current.request_id = carrier["request_id"]
        try:
            return call()
        finally:
            current.request_id = before  # the worker's next job may be another request's


def add_request_id(record: logging.LogRecord) -> bool:
    """Put the request id of the current thread into a log record."""
    record.request_id = current.request_id
    return True


output = io.StringIO()
handler = logging.StreamHandler(output)
handler.setFormatter(logging.Formatter("[%(request_id)s] %(message)s"))
handler.addFilter(add_request_id)
log.addHandler(handler)

with oddjob.Pool("mail", 1, middleware=[RequestId()]) as mail:
    for number, user in enumerate(["ann", "bob"], 1):
        current.request_id = f"request {number}"
        mail.perform(log.warning, "mail to %s", user)

print(output.getvalue())
assert output.getvalue().splitlines() == ["[request 1] mail to ann", "[request 2] mail to bob"]
