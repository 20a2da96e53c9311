"""Operations: records are listed, retried, canceled and purged, and pools paused, from Python."""

import inspect
import re
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import randbytes

import pytest

import oddjob
from oddjob import JobNotFound, Pool, PoolClosed, Progress, StoreUnusable
from oddjob.durable.store import Store
from oddjob.durable.stores import runner_of
from oddjob.operations import PoolOperations, Record, StoreOperations
from oddjob.operations.memory_operations import MemoryOperations
from tests.durable import jobs
from tests.hang import until

WAIT = 10.0


@pytest.fixture
def url(any_url: str) -> str:
    return any_url


@pytest.fixture
def pool(url: str) -> Iterator[Pool]:
    """A pool that only submits: nothing happens to its jobs by itself."""
    with Pool("durable", 2, store=url, consume=False, signing_keys=jobs.KEYS) as pool:
        yield pool


@pytest.fixture
def running(url: str) -> Iterator[Pool]:
    """A pool that runs its jobs."""
    jobs.gate.clear()
    with Pool("durable", 2, store=url, signing_keys=jobs.KEYS) as pool:
        yield pool
        jobs.gate.set()


def read(path: str, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(path.removeprefix("sqlite:///")) as connection:
        rows = connection.execute(query).fetchall()
    connection.close()
    return rows


# Records.


@pytest.mark.parametrize(
    "url",
    [
        "redys://user:hush@host/0", "redis//:hush@host", "sqlite://me:hush@host/x", "me:hush@host",
        "redys://me:h@hush@host", "redys://host?password=hush", "redys://:1/hush@host",
    ],
)  # fmt: skip
def test_a_wrong_url_is_shown_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="host") as raised:
        StoreOperations(url)
    assert "hush" not in str(raised.value)


def test_records_are_kept_up_to_a_number_of_bytes(any_url: str) -> None:
    for _ in range(2):
        with Pool("durable", 1, store=any_url, keep_bytes="1 MB") as pool:
            for _ in range(15):
                assert pool.submit(jobs.note, randbytes(50_000).hex()).result(WAIT)
    with Pool("durable", 1, store=any_url, consume=False) as pool:
        assert 15 < pool.counts()["succeeded"] < 25


def test_a_process_that_runs_few_jobs_deletes_old_ones_too(any_url: str) -> None:
    """As one that a crontab starts does, again and again."""
    for _ in range(2):
        with Pool("durable", 1, store=any_url, keep_succeeded=3) as pool:
            for n in range(5):
                pool.submit(jobs.note, n).result(WAIT)
    with Pool("durable", 1, store=any_url, consume=False) as pool:
        assert pool.counts()["succeeded"] < 10


def test_records_are_listed_with_the_newest_first(pool: Pool) -> None:
    pool.perform_many(jobs.note, range(250))  # three pages
    records = list(pool.records())
    assert [record.arguments() for record in records] == [((n,), {}) for n in range(249, -1, -1)]
    assert [record.id for record in pool.records(limit=3)] == [each.id for each in records[:3]]
    assert [r.id for r in pool.records(before=records[247])] == [each.id for each in records[248:]]
    records[247].delete()
    page = pool.records(before_id=records[247].id, limit=2)
    assert [record.id for record in page] == [each.id for each in records[248:]]
    assert list(pool.records(limit=0)) == []


def test_records_are_asked_for_in_the_same_words_everywhere() -> None:
    def parameters(method: object) -> list[tuple[str, object]]:
        found = inspect.signature(method).parameters.values()  # type: ignore[arg-type]
        return [(each.name, each.default) for each in found]

    own = parameters(Pool.records)
    assert parameters(PoolOperations.records) == parameters(MemoryOperations.records) == own
    assert parameters(Pool.retry_failed) == [each for each in own if each[0] != "state"]


def test_no_snapshot_is_held_between_two_pages(pool: Pool, url: str) -> None:
    """A list that is left half-read must not keep the store from tidying up."""
    if not url.startswith("sqlite:"):
        pytest.skip("it is about a file")
    pool.perform_many(jobs.note, range(150))
    records = pool.records()
    next(records)
    (busy, log, moved), *_ = read(url, "PRAGMA wal_checkpoint(TRUNCATE)")
    assert (busy, log, moved) == (0, 0, 0)
    assert sum(1 for _ in records) == 149


def test_records_can_be_picked(pool: Pool) -> None:
    pool.perform(jobs.note, 1)
    pool.options(key=("customer", 7)).perform(jobs.note, 2)
    pool.options(name="other").perform(jobs.note, 3)

    def found(**which: object) -> list[int]:
        return [record.arguments()[0][0] for record in pool.records(**which)]  # type: ignore[arg-type]

    assert found(name="other") == [3]
    assert found(key=("customer", 7)) == [2]
    assert found(state="queued") == [3, 2, 1]
    assert found(state="failed") == []
    assert found(since="1 hour") == found(since=3600) == [3, 2, 1]
    assert found(since=datetime.now(UTC) + timedelta(hours=1)) == []
    assert found(before=timedelta(hours=1)) == []
    assert found(before=datetime.now(UTC) + timedelta(hours=1)) == [3, 2, 1]
    with pytest.raises(ValueError, match="state must be one of 'scheduled', 'queued'"):
        found(state="dead")


def test_a_record_says_all_about_a_job(running: Pool) -> None:
    start = datetime.now(UTC)
    view = running.options(key="k", priority=3, name="mine")
    job = view.submit(jobs.report_often, 2)
    assert jobs.entered.acquire(timeout=WAIT)
    until(lambda: next(running.records()).progress == Progress(2, 2))
    (record,) = running.records()
    assert (record.id, record.pool, record.name, record.state) == (
        *(job.id, "durable", "mine", "running"),
    )
    assert (record.key, record.priority, record.attempt, record.crashes) == ("k", 3, 0, 0)
    assert record.function == "tests.durable.jobs:report_often"
    assert record.runner in {runner.id for runner in running.runners()}
    assert record.finished is None
    assert record.started is not None
    assert record.started >= record.created
    assert record.ran is not None
    jobs.gate.set()
    job.result(WAIT)
    (record,) = running.records()
    assert record.state == "succeeded"
    assert record.started is not None
    assert record.finished is not None
    assert start <= record.created <= record.started <= record.finished <= datetime.now(UTC)
    assert record.created.utcoffset() == timedelta(0)
    ran = (record.finished - record.started).total_seconds()
    assert record.ran == pytest.approx(ran, abs=1e-5)
    assert record.waited == pytest.approx(
        (record.started - record.created).total_seconds(), abs=1e-5
    )
    assert (record.runner, record.attempt, record.error) == (None, 1, None)


def test_a_record_has_the_tracebacks_of_its_attempts(running: Pool) -> None:
    view = running.options(retries=1, backoff=0.01)
    assert view.submit(jobs.fail, "disk").exception(WAIT)
    (record,) = running.records(error="disk")
    assert (record.state, record.attempt, record.error) == ("failed", 2, "OSError: disk")
    first, second = record.attempts()
    assert (first.number, second.number) == (1, 2)
    assert "raise OSError(message)" in first.traceback
    assert first.finished <= second.finished


def test_a_payload_that_cannot_be_read_does_no_harm(running: Pool) -> None:
    """Listing decodes nothing, and runs nothing of anybody's."""
    running.submit(jobs.note, jobs.Unreadable()).exception(WAIT)
    (record,) = running.records()
    assert record.state == "failed"
    assert b"refuse_to_be_read" in record.payload
    with pytest.raises(ValueError, match="its arguments cannot be read: RuntimeError: not here"):
        record.arguments()


def test_a_record_is_shown_without_its_payload(pool: Pool) -> None:
    pool.perform(jobs.note, "secret")
    (record,) = pool.records()
    assert "secret" not in repr(record)
    assert f"id={record.id!r}" in repr(record)


class Tag:
    def submit(self, _job: object, carrier: dict[str, str]) -> None:
        carrier["tag"] = "t"


def test_what_middleware_has_stored_is_shown(pool: Pool) -> None:
    pool.options(middleware=[Tag()]).perform(jobs.note, 1)
    (record,) = pool.records()
    assert record.carrier() == {"tag": "t"}


# One job.


def test_a_record_can_be_canceled_retried_and_deleted(pool: Pool) -> None:
    pool.perform(jobs.note, 1)

    def record() -> Record:
        return next(pool.records())

    assert not record().retry()  # it is queued
    assert record().cancel()
    assert not record().cancel()
    assert record().state == "cancelled"
    assert record().retry()
    assert record().state == "queued"
    former = record()
    assert former.delete()
    assert not former.delete()
    assert list(pool.records()) == []


def test_a_job_that_is_deleted_ends_for_who_waits_for_it(pool: Pool) -> None:
    job = pool.submit(jobs.note, 1)
    (record,) = pool.records()
    assert record.delete()
    until(job.cancelled)
    with pytest.raises(JobNotFound):
        pool.find(record.id)


def test_a_running_job_is_asked_to_stop_and_is_not_deleted(running: Pool) -> None:
    job = running.submit(jobs.stop_when_asked)
    until(lambda: job.state == "running")
    (record,) = running.records()
    assert not record.delete()
    assert record.cancel()
    assert job.result(WAIT) == "cancel_requested: True"


def test_a_job_that_is_queued_again_is_a_new_future_to_those_who_find_it(running: Pool) -> None:
    held = running.submit(jobs.fail, "no")
    assert held.exception(WAIT)
    for retry in (lambda: running.retry_failed() == 1, lambda: next(running.records()).retry()):
        running.pause()
        assert retry()
        found = running.find(held.id)
        assert (held.state, found.state) == ("failed", "queued")
        running.resume()
        assert found.exception(WAIT)


# Many jobs.


def test_counts_have_every_state(pool: Pool) -> None:
    pool.perform_many(jobs.note, range(3))
    next(pool.records()).cancel()
    counts = pool.counts()
    assert list(counts) == ["scheduled", "queued", "running", "succeeded", "failed", "cancelled"]
    assert list(counts.values()) == [0, 2, 0, 0, 0, 1]


def test_failed_jobs_are_queued_again_in_slices(running: Pool) -> None:
    submitted = running.submit_many(jobs.fail, ["disk"] * 450)
    for job in submitted:
        job.exception(WAIT)
    running.pause()
    assert running.retry_failed(error="nothing of the kind") == 0
    assert running.retry_failed(error="disk", limit=10) == 10
    assert running.retry_failed(name="fail", since="1 hour") == 440
    assert running.counts()["queued"] == 450
    assert running.retry_failed() == 0
    running.resume()
    until(lambda: running.counts()["failed"] == 450)


def test_records_of_ended_jobs_are_purged_by_state_and_age(running: Pool) -> None:
    running.submit(jobs.fail, "no").exception(WAIT)
    for job in running.submit_many(jobs.note, range(300)):
        job.result(WAIT)
    assert running.purge(["failed", "cancelled"], older_than="1 hour") == 0
    assert running.purge("succeeded") == 300
    assert running.counts()["failed"] == 1
    assert running.purge(("succeeded", "failed")) == 1
    with pytest.raises(ValueError, match="a queued job has not ended"):
        running.purge("queued")


# The pool.


def test_a_paused_pool_starts_no_jobs_in_any_process(running: Pool, url: str) -> None:
    with StoreOperations(url) as store:
        assert not store.pool("durable").is_paused
        running.pause()
        assert store.pool("durable").is_paused
        job = running.submit(jobs.note, 1)
        with pytest.raises(TimeoutError):
            job.result(0.05)
        assert job.state == "queued"
        store.pool("durable").resume()
        assert job.result(WAIT) == 1


def test_the_record_of_a_job_that_was_too_slow_has_one_line(running: Pool) -> None:
    """Where its thread was is in the traceback of its attempt."""
    job = running.options(timeout=0.01, retries=0).submit(jobs.hang)
    assert isinstance(job.exception(WAIT), oddjob.JobTimeout)
    (record,) = running.records()
    assert record.error == "JobTimeout: job hang of pool durable ran for more than 0.01 s"
    (attempt,) = record.attempts()
    assert "in hang" in attempt.traceback


def test_runners_are_the_processes_that_use_the_store(running: Pool) -> None:
    running.submit(jobs.note, 1).result(WAIT)
    (runner,) = running.runners()
    assert runner.pools == ("durable",)
    assert runner.version == oddjob.__version__
    assert runner.joined <= datetime.now(UTC)


def test_a_closed_pool_says_so(url: str) -> None:
    pool = Pool("durable", 1, store=url)
    pool.shutdown()
    for ask in (pool.counts, pool.records().__next__, pool.retry_failed, lambda: pool.find("1")):
        with pytest.raises(PoolClosed, match=r"is closed. What it has .*StoreOperations") as caught:
            ask()
    (advice,) = re.findall(r"oddjob\.operations\.(.*)", str(caught.value))
    assert list(eval(advice, {"StoreOperations": StoreOperations}).records()) == []
    StoreOperations(url).close()


def test_a_store_is_seen_without_any_pool(url: str) -> None:
    """As by a command, which has nothing but its URL."""
    with Pool("durable", 1, store=url, consume=False) as pool:
        pool.perform(jobs.note, 1)
    with StoreOperations(url) as store:
        assert list(store.pools()) == ["durable"]
        operations = store.pool("durable")
        (record,) = operations.records()
        assert operations.record(record.id) == record
        assert operations.cancel([record]) == 1
        assert operations.counts()["cancelled"] == 1
        assert operations.delete(operations.records()) == 1
        with pytest.raises(JobNotFound):
            operations.record(record.id)
        assert len(store.runners()) == 1


def test_a_store_is_closed_when_the_block_that_looked_at_it_ends(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the next command of the same process opens it anew, and its file may be removed."""
    with Pool("durable", 1, store=url, consume=False):
        store = type(runner_of(url).store)
    left, leave = list[object](), store.leave

    def leave_slowly(self: Store) -> None:
        time.sleep(0.05)
        leave(self)
        left.append(self)

    monkeypatch.setattr(store, "leave", leave_slowly)
    for closed in (1, 2):
        with StoreOperations(url) as operations:
            assert len(operations.runners()) == 1
        assert len(left) == closed


def test_to_look_at_a_store_that_is_not_there_makes_none(url: str, tmp_path: Path) -> None:
    """As ``oddjob status`` with a typo in the path would do."""
    if not url.startswith("sqlite:"):
        pytest.skip("it is about a file")
    with pytest.raises(StoreUnusable, match=f"there is no store in {tmp_path}/jobs.db"):
        StoreOperations(url)
    assert list(tmp_path.iterdir()) == []


def test_recurring_entries_are_listed_run_paused_and_deleted(running: Pool, url: str) -> None:
    running.options(name="nightly").every(86_400).perform(jobs.note, 0)
    (found,) = running.recurring()
    assert (found.name, found.function) == ("nightly", "tests.durable.jobs:note")
    assert (found.last_run, found.last_job) == (None, None)
    assert found.next_run > datetime.now(UTC)
    assert found.pause()
    assert running.recurring()[0].is_paused
    assert running.find(found.run()).result(WAIT) == 0
    assert next(running.records()).entry == "nightly"
    assert found.resume()
    assert not running.recurring()[0].is_paused
    assert found.delete()
    assert not found.delete()
    assert running.recurring() == []
    running.every(86_400).perform_many(jobs.note, [])
    assert running.recurring()[0].run() == ""


def test_the_record_of_a_batch_has_members(running: Pool) -> None:
    """And what is done to it is done to them."""
    with running.batch() as batch:
        members = batch.submit_many(jobs.note, range(3))
    chain = running.chain(running.s(jobs.note, 1), jobs.note)
    batch.result(WAIT)
    chain.result(WAIT)
    records = {record.id: record for record in running.records()}
    record = records[batch.id]
    assert (record.kind, record.batch, record.state) == ("batch", None, "succeeded")
    assert [each.id for each in record.members()] == [job.id for job in members[::-1]]
    assert {each.batch for each in record.members()} == {batch.id}
    assert (records[chain.id].kind, records[members[0].id].kind) == ("chain", "job")
    assert record.delete()
    assert len(list(running.records())) == 3
