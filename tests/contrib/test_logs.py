"""Log fields: which job has written a record."""

import io
import logging
from collections.abc import Iterator

import pytest

import oddjob
from oddjob.contrib import logs

log = logging.getLogger("shop")


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    form = "%(pool_name)s/%(job_name)s#%(attempt)d %(message)s"
    handler.setFormatter(logging.Formatter(form))
    logs.install(handler)
    log.addHandler(handler)
    yield written
    log.removeHandler(handler)


def test_records_name_the_job_that_has_written_them(lines: io.StringIO) -> None:
    with oddjob.Pool("mail", 1) as pool:
        pool.options(name="send").perform(log.warning, "sent")
    assert lines.getvalue() == "mail/send#1 sent\n"


def test_records_from_outside_of_jobs_have_empty_fields(lines: io.StringIO) -> None:
    log.warning("hello")
    assert lines.getvalue() == "/#0 hello\n"


def test_to_install_it_twice_changes_nothing() -> None:
    handler = logging.NullHandler()
    logs.install(handler)
    logs.install(handler)
    assert len(handler.filters) == 1


def test_a_job_has_its_own_id_in_its_records() -> None:
    with oddjob.Pool(1) as pool:
        job = pool.submit(logs.fields)
        assert job.result(10)["job_id"] == job.id
    assert logs.fields() == {}


def test_structlog_gets_the_fields_and_keeps_what_is_bound() -> None:
    def process() -> object:
        return logs.structlog_processor(None, "info", {"event": "sent", "job_name": "mine"})

    with oddjob.Pool("mail", 1) as pool:
        event = pool.submit(process).result(10)
    assert isinstance(event, dict)
    assert (event["job_name"], event["pool_name"], event["attempt"]) == ("mine", "mail", 1)


def test_every_attempt_is_logged_with_its_outcome(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "oddjob.jobs")
    with oddjob.Pool("mail", 1, middleware=[logs.JobLog()], retries=1, backoff=0) as pool:
        pool.submit(pow, 2, 3).result(10)
        pool.submit(int, "no number").exception(10)
    records = [each for each in caplog.records if each.name == "oddjob.jobs"]
    outcomes = [(vars(each)["outcome"], vars(each)["attempt"]) for each in records]
    assert outcomes == [("succeeded", 1), ("retried", 1), ("failed", 2)]
    assert all(0 <= vars(each)["queue_time"] < 10 for each in records)
