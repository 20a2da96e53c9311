"""Effects that happen once: steps, a job's own transaction, and jobs in a user's transaction."""

import asyncio
import gc
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from oddjob import JobLost, JobNotFound, Pool, QueueFull
from oddjob.durable.sqlite import database
from oddjob.durable.sqlite.database import Database
from oddjob.errors import StoreUnusable
from tests.durable import effect_jobs as jobs

WAIT = 10.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    jobs.effects.clear()
    jobs.gate.clear()
    yield
    jobs.gate.set()


@pytest.fixture
def pool(path: Path) -> Iterator[Pool]:
    options: dict[str, Any] = {"retries": 3, "backoff": 0.01}
    with Pool("effects", 2, store=f"sqlite:///{path}", **options) as pool:
        jobs.pools[:] = [pool]
        yield pool
        jobs.gate.set()


@pytest.fixture(params=["stored", "in memory"])
def any_pool(request: pytest.FixtureRequest, path: Path) -> Iterator[Pool]:
    store = f"sqlite:///{path}" if request.param == "stored" else None
    with Pool("effects", 2, store=store, retries=3, backoff=0.01) as pool:
        yield pool


# Steps.


def test_a_step_runs_once_however_often_its_job_is_tried(any_pool: Pool) -> None:
    assert any_pool.submit(jobs.in_steps, 2).result(WAIT) == [["one"], ["two"], ["one"]]
    assert jobs.effects == [["one"], ["two"]]


def test_a_step_may_be_a_coroutine(any_pool: Pool) -> None:
    assert any_pool.submit(jobs.in_async_steps, 1).result(WAIT) == ["one", "two"]
    assert jobs.effects == ["one", "two"]


def test_a_step_that_fails_is_tried_again(any_pool: Pool) -> None:
    assert any_pool.submit(jobs.with_failing_step).result(WAIT) == "done"
    assert jobs.effects == [1, 2]


def test_steps_are_for_the_running_job_itself(any_pool: Pool) -> None:
    job = any_pool.submit(jobs.in_steps, 0)
    job.result(WAIT)
    with pytest.raises(RuntimeError, match="only a running job can do this"):
        job.step("three", jobs.note, 3)


def test_a_finished_job_keeps_no_values_of_steps() -> None:
    with Pool(1) as pool:
        job = pool.submit(jobs.in_steps, 0)
        job.result(WAIT)
    assert job._details is not None
    assert job._details.steps is None


def test_a_value_that_cannot_be_stored_is_an_error_that_says_so(pool: Pool) -> None:
    error = pool.options(retries=0).submit(jobs.with_unstorable_step).exception(WAIT)
    assert isinstance(error, TypeError)
    assert "what step 'lock' has returned cannot be stored" in str(error)


def test_a_job_that_was_taken_over_can_save_no_step(pool: Pool, path: Path) -> None:
    pool.perform(jobs.lose)
    assert jobs.entered.acquire(timeout=WAIT)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE job SET token = token + 1")
    jobs.gate.set()
    pool.shutdown()
    assert jobs.effects[0] == "late"
    assert "was taken over" in jobs.effects[1]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM step").fetchall() == []


# A job's own transaction.


@pytest.fixture
def table(path: Path, pool: Pool) -> "Effects":
    return Effects(path)


class Effects:
    """A table of the user's in the file of the store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with closing(self.connect()) as connection, connection:
            connection.execute("CREATE TABLE IF NOT EXISTS effect (value)")

    def connect(self, **options: Any) -> sqlite3.Connection:
        return sqlite3.connect(self.path, **options)

    def values(self, column: str = "value", table: str = "effect") -> list[Any]:
        with closing(self.connect()) as connection:
            rows = connection.execute(f"SELECT {column} FROM {table}").fetchall()
        return [value for (value,) in rows]


def test_what_a_job_writes_in_its_transaction_is_there_when_its_result_is(
    pool: Pool, table: Effects
) -> None:
    assert pool.submit(jobs.write_once, 1).result(WAIT) == 1
    assert table.values() == [1]
    assert pool.submit(jobs.write_once_in_loop, 2).result(WAIT) == 2
    assert table.values() == [1, 2]


def test_a_failed_attempt_leaves_nothing_behind(pool: Pool, table: Effects) -> None:
    """Although it fails after the block."""
    assert pool.submit(jobs.write_once, 1, 2).result(WAIT) == 1
    assert table.values() == [1]


def test_a_job_may_catch_what_its_block_raises_and_begin_again(pool: Pool, table: Effects) -> None:
    assert pool.submit(jobs.catch_failure, 1).result(WAIT) == "done"
    assert table.values() == [1]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("commit", "do not call commit"),
        ("COMMIT", "is committed when the job has succeeded: to begin or end it, or go on after"),
        ("script", "not authorized"),
        ("submit", "submit jobs with pool.using"),
        ("twice", "has a transaction"),
        ("close", "closed database"),
    ],
)
def test_misuse_of_a_transaction_is_an_error_and_undoes_it(
    pool: Pool, table: Effects, how: str, message: str
) -> None:
    error = pool.options(retries=0).submit(jobs.misuse, how).exception(WAIT)
    assert message in str(error)
    assert pool.submit(jobs.write_once, 1).result(WAIT) == 1  # it is not in the way
    assert table.values() == [1]


def test_a_transaction_needs_a_store_in_a_file(path: Path) -> None:
    with Pool(1) as pool:
        error = pool.submit(jobs.write_once, 1).exception(WAIT)
    assert isinstance(error, RuntimeError)
    assert "store in a file" in str(error)
    with Pool("in memory", 1, store="memory:") as pool:
        error = pool.submit(jobs.write_once, 1).exception(WAIT)
    assert "memory: is no file" in str(error)


def test_a_job_that_times_out_in_its_transaction_leaves_nothing_and_stops_nobody(
    pool: Pool, table: Effects
) -> None:
    with pytest.raises(TimeoutError):
        pool.options(timeout=0.3, retries=0).submit(jobs.hang_in_transaction).result(WAIT)
    assert pool.submit(jobs.write_once, 1).result(WAIT) == 1
    jobs.gate.set()
    assert [jobs.entered.acquire(timeout=WAIT) for _ in range(2)] == [True, True]
    assert table.values() == [1]
    assert str(jobs.effects[0]).endswith("or go on after its end, is not authorized")


def test_a_job_hands_on_to_the_next_one_in_its_transaction(pool: Pool, table: Effects) -> None:
    assert pool.submit(jobs.submit_next, 1).result(WAIT) == 1
    pool.shutdown()
    assert table.values() == [1, 2]
    assert table.values("name", "step") == ["in it"]


def test_a_job_that_was_taken_over_writes_nothing(pool: Pool, table: Effects) -> None:
    pool.perform(jobs.lose_transaction)
    assert jobs.entered.acquire(timeout=WAIT)
    with closing(table.connect()) as connection, connection:
        connection.execute("UPDATE job SET token = token + 1")
    jobs.gate.set()
    pool.shutdown()
    assert "was taken over" in jobs.effects[0]
    assert table.values() == []


def test_a_job_whose_process_was_taken_for_dead_leaves_no_transaction_open(
    pool: Pool, table: Effects
) -> None:
    pool.perform(jobs.hang_in_transaction)
    assert jobs.entered.acquire(timeout=WAIT)
    pool._core.store.claimed.drop_all()  # as after an eviction
    jobs.gate.set()
    with closing(table.connect(timeout=WAIT)) as connection, connection:
        connection.execute("INSERT INTO effect VALUES ('after it')")
    pool.shutdown()
    assert "after it" in table.values()
    assert "late" not in table.values()


def test_a_step_that_is_asked_for_twice_in_a_transaction_runs_once(
    pool: Pool, table: Effects
) -> None:
    assert pool.submit(jobs.step_twice).result(WAIT) == ["undone", "kept", "kept"]
    assert jobs.effects == ["undone", "undone", "kept"]


def test_the_end_of_a_job_that_commits_by_itself_is_heard_of_though_a_turn_fails(
    pool: Pool, table: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when this process was taken for dead before, and watches its jobs once more."""
    job = pool.submit(jobs.hang_in_transaction)
    assert jobs.entered.acquire(timeout=WAIT)
    runner = pool._core.store.open()
    watch, post, errors = runner.store.watch, runner.post, [StoreUnusable("gone")] * 2
    is_posted = threading.Event()

    def post_call(call: Any) -> None:
        post(call)
        is_posted.set()

    def fail_to_watch(job: Any) -> Any:
        if not is_posted.is_set():
            raise StoreUnusable("gone")
        if errors:
            raise errors.pop()
        return watch(job)

    monkeypatch.setattr(runner, "post", post_call)
    monkeypatch.setattr(runner.store, "watch", fail_to_watch)
    runner.post(lambda _store: runner.expected.watch_again())
    is_posted.clear()
    jobs.gate.set()
    assert job.result(WAIT) is None
    pool.shutdown()
    assert pool._core.store.is_done


def test_a_job_runs_again_if_there_was_no_room_for_its_outcome(pool: Pool, table: Effects) -> None:
    """It has done nothing, so no attempt is charged."""
    assert len(pool.options(retries=0).submit(jobs.fill_up).result(WAIT)) == 100_000
    assert jobs.effects == [1, 1]
    assert table.values() == [1]


def test_a_job_fails_once_whose_outcome_is_too_large(
    pool: Pool, table: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There will not be room for it at any time."""
    monkeypatch.setattr("oddjob.durable.codec._MOST_BYTES", 50_000)
    error = pool.options(retries=5).submit(jobs.return_too_much).exception(WAIT)
    assert "the result cannot be stored: 100,009 bytes, of at most 50,000" in str(error)
    assert len(jobs.effects) == 1
    assert table.values() == []


def test_a_job_fails_if_its_transaction_cannot_be_committed(pool: Pool, table: Effects) -> None:
    error = pool.options(retries=0).submit(jobs.leave_cursor).exception(WAIT)
    assert "statements in progress" in str(error)
    assert pool.submit(jobs.write_once, 1).result(WAIT) == 1
    assert table.values() == [1]
    jobs.effects.clear()


def test_a_job_that_submits_outside_of_its_transaction_is_told_so(
    pool: Pool, table: Effects
) -> None:
    """In the event loop, too, where it would wait for itself."""
    error = pool.options(retries=0).submit(jobs.submit_in_loop).exception(WAIT)
    assert "submit jobs with pool.using" in str(error)


def test_steps_of_a_job_that_is_not_kept_are_not_kept_either(path: Path) -> None:
    with Pool("brief", 1, store=f"sqlite:///{path}", keep_succeeded=0) as pool:
        assert pool.submit(jobs.in_steps, 0).result(WAIT)
    assert Effects(path).values("name", "step") == []


def test_transactions_of_many_jobs_take_their_turns(pool: Pool, table: Effects) -> None:
    submitted = pool.submit_many(jobs.write_once, range(100))
    mixed = pool.submit_many(jobs.note, range(100))
    assert [job.result(WAIT) for job in submitted] == list(range(100))
    assert [job.result(WAIT) for job in mixed] == list(range(100))
    assert sorted(table.values()) == list(range(100))


# Jobs in a user's transaction.


def test_a_job_in_a_users_transaction_runs_after_the_commit(pool: Pool, table: Effects) -> None:
    with closing(table.connect()) as connection:
        with connection:
            connection.execute("INSERT INTO effect VALUES ('theirs')")
            job = pool.using(connection).submit(jobs.note, 1)
            assert not job.done()
            assert job.id.isdecimal()
            assert table.values("id", "job") == []
        assert job.result(WAIT) == 1
    assert table.values() == ["theirs"]


def test_a_job_in_a_transaction_that_is_rolled_back_was_never_there(
    pool: Pool, table: Effects
) -> None:
    with closing(table.connect()) as connection:
        job = pool.using(connection).submit(jobs.note, 1)  # which begins the transaction
        pool.using(connection).perform(jobs.note, 2)
        assert connection.in_transaction
        assert not job.cancel()
        connection.rollback()
        error = job.exception(WAIT)
    assert isinstance(error, JobLost)
    assert "was not committed" in str(error)
    other = pool.submit(jobs.note, 3)
    assert other.result(WAIT) == 3
    assert jobs.effects == [3]


def test_the_id_of_a_job_that_was_rolled_back_is_no_other_jobs(pool: Pool, table: Effects) -> None:
    """A user who has the id would see the job of another one."""
    with closing(table.connect()) as connection:
        ids = [pool.submit(jobs.note, 0).id]
        for ends in [connection.rollback, connection.rollback, connection.commit]:
            ids += [job.id for job in pool.using(connection).submit_many(jobs.note, [1, 2])]
            ends()
    ids.append(pool.submit(jobs.note, 3).id)
    assert len({*ids}) == len(ids)
    assert sorted(ids, key=int) == ids
    with pytest.raises(JobNotFound):
        pool.find(ids[1])


def test_only_what_is_kept_of_a_transaction_is_submitted(pool: Pool, table: Effects) -> None:
    with closing(table.connect(isolation_level=None)) as connection:
        connection.execute("BEGIN")
        kept = pool.using(connection).submit(jobs.note, 1)
        connection.execute("SAVEPOINT mine")
        undone = pool.using(connection).submit(jobs.note, 2)
        connection.execute("ROLLBACK TO mine")
        many = pool.using(connection).submit_many(jobs.note, [3, 4])
        connection.execute("COMMIT")
        assert kept.result(WAIT) == 1
        assert [job.result(WAIT) for job in many] == [3, 4]
        assert isinstance(undone.exception(WAIT), JobLost)
    assert sorted(jobs.effects) == [1, 3, 4]


def test_views_and_decorated_functions_submit_in_a_transaction(pool: Pool, table: Effects) -> None:
    decorated = pool.job(jobs.note)
    with closing(table.connect()) as connection:
        connection.row_factory = lambda _, row: {"row": row}
        view = pool.options(priority=3).using(connection).options(name="named")
        assert "connection" in repr(pool.using(connection))
        submitted = [view.submit(jobs.note, 1), decorated.using(connection).submit(2)]
        assert [submitted[0].name, submitted[0].priority] == ["named", 3]
        assert connection.execute("SELECT 1").fetchone() == {"row": (1,)}
        connection.commit()
        assert [job.result(WAIT) for job in submitted] == [1, 2]


def test_it_can_be_awaited_in_a_transaction(pool: Pool, table: Effects) -> None:
    async def main(connection: sqlite3.Connection) -> Any:
        job = await pool.using(connection).asubmit(jobs.note, 1)
        connection.commit()
        return await job

    with closing(table.connect()) as connection:
        assert asyncio.run(main(connection)) == 1


def test_a_full_queue_refuses_a_batch_and_leaves_the_transaction_alone(path: Path) -> None:
    url = f"sqlite:///{path}"
    with Pool("full", 1, max_queue=3, consume=False, store=url) as pool:
        table = Effects(path)
        with closing(table.connect()) as connection:
            connection.execute("INSERT INTO effect VALUES (1)")
            kept = pool.using(connection).submit_many(jobs.note, range(2))
            with pytest.raises(QueueFull):
                pool.using(connection).submit_many(jobs.note, range(2))
            connection.commit()
        assert table.values() == [1]
        assert table.values("id", "job") == [int(job.id) for job in kept]


def test_a_full_disk_in_a_users_transaction_is_said_to_be_full(pool: Pool, table: Effects) -> None:
    """SQLite undoes the whole transaction by itself."""
    with closing(table.connect()) as connection:
        connection.execute("PRAGMA max_page_count = 1")  # as many as there are
        connection.execute("INSERT INTO effect VALUES (1)")
        with pytest.raises(sqlite3.OperationalError, match="is full"):
            pool.using(connection).submit(jobs.note, "x" * 1_000_000)
        assert not connection.in_transaction
    assert table.values() == []


def test_a_connection_must_be_one_to_the_file_of_the_store(
    pool: Pool, path: Path, tmp_path: Path
) -> None:
    with pytest.raises(TypeError, match=r"standard library's sqlite3 module, not builtins\.str"):
        pool.using(str(path))  # type: ignore[arg-type]
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        with pytest.raises(ValueError, match=r"not to .*other\.db"):
            pool.using(other)
        with Pool(1) as plain, pytest.raises(ValueError, match="stored in a file"):
            plain.using(other)
        with Pool("in memory", 1, store="memory:") as memory, pytest.raises(ValueError):
            memory.using(other)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        with pytest.raises(RuntimeError, match="BEGIN IMMEDIATE"):
            pool.using(connection).submit(jobs.note, 1)
        with pytest.raises(ValueError, match="persist=False"):
            pool.using(connection).options(persist=False)


@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
def test_a_transaction_that_its_user_lets_go_of_is_rolled_back(pool: Pool, table: Effects) -> None:
    """As in a request that raises before its commit."""

    def request() -> Any:
        connection = table.connect()
        connection.execute("INSERT INTO effect VALUES (1)")
        return pool.using(connection).options(priority=1).submit(jobs.note, 1)

    job = request()
    assert not job.cancel()
    gc.collect()
    assert isinstance(job.exception(WAIT), JobLost)
    assert pool.submit(jobs.note, 2).result(WAIT) == 2
    assert table.values() == []


def test_a_submit_is_refused_with_the_turn_that_has_waited_for_a_foreign_transaction(
    pool: Pool, table: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not wait for 60 seconds more."""
    runner: Any = pool._core.store and pool._core.store.open()
    begin, is_waiting = Database.begin, threading.Event()

    def now() -> float:
        is_waiting.set()
        return 1000.0 if runner._submits else 0.0

    def begin_turn(*arguments: Any) -> None:
        if is_waiting.is_set():  # this is the next turn
            connection.rollback()
        begin(*arguments)

    with closing(table.connect(check_same_thread=False)) as connection:
        monkeypatch.setattr(Database, "begin", begin_turn)
        monkeypatch.setattr(database, "time", SimpleNamespace(monotonic=now, sleep=time.sleep))
        connection.execute("INSERT INTO effect VALUES (1)")
        pool.using(connection).perform(jobs.note, 1)
        assert is_waiting.wait(WAIT)
        with pytest.raises(StoreUnusable, match="has been locked"):
            pool.submit(jobs.note, 2)
        assert pool.submit(jobs.note, 3).result(WAIT) == 3
    assert jobs.effects == [3]


def test_a_thread_that_forgets_its_transaction_hears_of_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_LONGEST_WAIT", 0.1)
    with Pool("effects", 1, store=f"sqlite:///{path}") as pool:
        table = Effects(path)
        with closing(table.connect()) as connection:
            connection.execute("INSERT INTO effect VALUES (1)")
            with pytest.raises(StoreUnusable, match="has this thread begun one"):
                pool.submit(jobs.note, 1)
        assert pool.submit(jobs.note, 2).result(WAIT) == 2
