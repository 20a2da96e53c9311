"""Failures of stored jobs that nobody looks at: each is reported once, by one process."""

import gc
import logging
from pathlib import Path

import pytest

from oddjob import Pool
from tests.durable import jobs
from tests.hang import WAIT, until


def open_pool(folder: Path, *, consume: bool = True) -> Pool:
    return Pool("durable", 2, store=f"sqlite:///{folder}/jobs.db", consume=consume)


def failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    gc.collect()
    errors = [each for each in caplog.records if each.levelno >= logging.ERROR]
    return [each.getMessage() for each in errors]


def test_a_failure_that_nobody_has_looked_at_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The job that runs, and the one that the caller holds, are two objects."""
    with open_pool(tmp_path) as pool:
        pool.submit(jobs.fail, "unread")
        assert isinstance(pool.submit(jobs.fail, "read").exception(WAIT), OSError)
    assert failures(caplog) == ["job fail of pool durable failed, and nobody has looked at that"]
    assert "OSError: unread" in caplog.text


def test_to_find_a_failed_job_in_the_store_logs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_pool(tmp_path) as pool:
        job = pool.submit(jobs.fail, "read")
        assert isinstance(job.exception(WAIT), OSError)
        for _ in range(3):
            assert pool.find(job.id).state == "failed"
    assert failures(caplog) == []


def test_a_deploy_logs_nothing_of_jobs_that_live_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pool = open_pool(tmp_path, consume=False)
    pool.submit_many(jobs.note, range(3))
    pool.drain()
    assert failures(caplog) == []


def test_a_failure_is_logged_where_the_job_ran_if_its_submitter_has_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    former = open_pool(tmp_path, consume=False)
    former.submit(jobs.fail, "orphaned")
    former.drain()
    with open_pool(tmp_path) as pool:
        until(lambda: pool.counts()["failed"] == 1)
    assert failures(caplog) == ["job fail of pool durable failed"]


def test_a_job_that_fails_because_nobody_knows_its_function_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process runs it, so none would report it."""
    with open_pool(tmp_path, consume=False) as former:
        former.perform(jobs.note, 1)
    monkeypatch.delattr(jobs, "note")
    with Pool("durable", 1, store=f"sqlite:///{tmp_path}/jobs.db", unknown_after=0.05) as pool:
        until(lambda: pool.counts()["failed"] == 1)
    (said,) = failures(caplog)
    assert said.startswith("job 1 failed: UnknownFunction: ")


def test_a_job_whose_function_has_left_its_module_meanwhile_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_pool(tmp_path) as pool:
        pool.submit(jobs.note, 1).result(WAIT)
        pool.after(0.1).perform(jobs.note, 2)
        monkeypatch.delattr(jobs, "note")
        until(lambda: pool.counts()["failed"] == 1)
    assert failures(caplog) == ["job note failed"]
