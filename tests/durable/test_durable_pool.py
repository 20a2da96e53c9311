"""Pools whose jobs are stored: the same calls, with the same meanings."""

import asyncio
import os
import sqlite3
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

import oddjob
from oddjob import Pool, PoolClosed, QueueFull
from oddjob.durable.operation import Operation
from oddjob.durable.record import Update
from oddjob.durable.runner import Runner
from oddjob.durable.sqlite.store import SqliteStore
from tests.durable import jobs
from tests.hang import once, time_is_up, until

WAIT = 10.0


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    jobs.gate.clear()
    jobs.runs.clear()
    while jobs.entered.acquire(blocking=False):
        pass
    yield
    jobs.gate.set()


@pytest.fixture
def pool(any_url: str) -> Iterator[Pool]:
    with Pool("durable", 2, store=any_url) as pool:
        jobs.pools[:] = [pool]
        yield pool
        jobs.gate.set()


def test_a_result_and_an_exception_come_back(pool: Pool) -> None:
    assert pool.submit(jobs.note, [1, "two"]).result(WAIT) == [1, "two"]
    error = pool.submit(jobs.fail, "no").exception(WAIT)
    assert isinstance(error, OSError)
    assert error.args == ("no",)
    assert pool.submit(jobs.coroutine, 1).result(WAIT) == 2


def test_many_jobs_are_stored_at_once_and_map_keeps_their_order(pool: Pool) -> None:
    submitted = pool.submit_many(jobs.note, range(200))
    assert [job.result(WAIT) for job in submitted] == list(range(200))
    assert list(pool.map(jobs.note, range(50))) == list(range(50))


def test_a_job_can_be_awaited(pool: Pool) -> None:
    async def main() -> Any:
        return await pool.submit(jobs.note, 5)

    assert asyncio.run(main()) == 5


def test_a_lambda_is_refused_with_what_to_do(pool: Pool) -> None:
    with pytest.raises(TypeError, match=r"at the top level of a module. Or keep the job in"):
        pool.submit(lambda: None)


def test_arguments_that_cannot_be_stored_are_refused(pool: Pool) -> None:
    with pytest.raises(TypeError, match=r"the arguments of .*note cannot be stored"):
        pool.submit(jobs.note, lambda: None)


def test_a_result_that_cannot_be_stored_is_a_failure(pool: Pool) -> None:
    """And is not retried: the job has run."""
    job = pool.options(retries=3, backoff=0.01).submit(jobs.unstorable)
    error = job.exception(WAIT)
    assert isinstance(error, TypeError)
    assert "the result cannot be stored" in str(error)
    assert job.attempt == 1


def test_a_job_is_retried_and_counts_its_attempts(pool: Pool) -> None:
    view = pool.options(retries=3, backoff=0.01)
    assert view.submit(jobs.fail_first).result(WAIT) == 3
    assert jobs.runs == [1, 2, 3]


def test_a_worker_that_crashes_fails_its_job_and_is_replaced(pool: Pool) -> None:
    for _ in range(3):
        with pytest.raises(SystemExit):
            pool.submit(jobs.crash).result(WAIT)
    assert pool.submit(jobs.note, 1).result(WAIT) == 1


def test_a_job_that_waits_can_be_canceled_and_one_that_runs_cannot(pool: Pool) -> None:
    running = [pool.submit(jobs.hang) for _ in range(2)]
    for _ in running:
        assert jobs.entered.acquire(timeout=WAIT)
    waiting = [pool.submit(jobs.note, number) for number in range(30)]
    assert waiting[-1].cancel()
    assert not running[0].cancel()
    jobs.gate.set()
    assert running[0].result(WAIT) == "late"
    assert [job.result(WAIT) for job in waiting[:-1]] == list(range(29))
    assert waiting[-1].cancelled()


def test_jobs_of_a_key_run_in_order_one_at_a_time(pool: Pool) -> None:
    view = pool.options(key="k")
    submitted = [view.submit(jobs.note, number) for number in range(20)]
    assert [job.result(WAIT) for job in submitted] == list(range(20))
    assert jobs.runs == list(range(20))


def test_jobs_that_wait_for_jobs_of_their_own_pool_do_not_lock_it_up(pool: Pool) -> None:
    assert pool.submit(jobs.nest, 5).result(WAIT) == 5


def test_however_many_jobs_wait_for_others_these_run(tmp_path: Path) -> None:
    with Pool("durable", 1, store=f"sqlite:///{tmp_path}/jobs.db?durability=normal") as pool:
        jobs.pools[:] = [pool]
        assert pool.submit(jobs.nest, 550).result(3 * WAIT) == 550


def test_a_full_queue_refuses(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/full.db"
    pool = Pool("full", 1, max_queue=2, when_full="raise", store=url)
    jobs.gate.clear()
    pool.submit(jobs.hang)
    assert jobs.entered.acquire(timeout=WAIT)
    with pytest.raises(QueueFull):
        pool.perform_many(jobs.note, range(600))
    jobs.gate.set()
    pool.shutdown()


# Options.


def test_one_setting_gives_all_named_pools_a_store(tmp_path: Path) -> None:
    oddjob.configure({"store": f"sqlite:///{tmp_path}/all.db", "extra_pools": ["mail"]})
    assert oddjob.pool().submit(jobs.note, 1).result(WAIT) == 1
    assert oddjob.pool("mail").submit(jobs.note, 2).id.isdecimal()
    with Pool(priority_aging=5) as anonymous, Pool("own", store=False) as own:
        assert anonymous.configuration.store is None
        assert anonymous.submit(lambda: 3).result(WAIT) == 3
        assert own.submit(lambda: 4).result(WAIT) == 4


def test_a_pool_with_a_store_needs_a_name() -> None:
    with pytest.raises(TypeError, match="needs a name"):
        Pool(store="memory:")


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("jobs.db", ValueError),
        (3, TypeError),
        ("sqlite://jobs.db", ValueError),
        ("sqlite:///x.db?durability=low", ValueError),
    ],
)
def test_a_wrong_url_is_refused_and_the_message_shows_a_right_one(url: Any, kind: Any) -> None:
    with pytest.raises(kind, match=r"sqlite:///jobs.db|durability=full"):
        Pool("wrong", store=url)
    assert "wrong" not in oddjob.pools()


def test_a_store_that_cannot_be_opened_leaves_no_pool(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_text("this is a text, and long enough to be no database" * 99)
    with pytest.raises(oddjob.StoreUnusable, match=r"jobs\.db is no SQLite database"):
        Pool("broken", store=f"sqlite:///{tmp_path}/jobs.db")
    with pytest.raises(oddjob.StoreUnusable):
        oddjob.configure({"store": f"sqlite:///{tmp_path}/jobs.db"})
    assert not oddjob.pools()


def test_no_stored_job_is_dropped_for_a_newer_one() -> None:
    with pytest.raises(TypeError, match="drop_oldest"):
        Pool("x", max_queue=3, when_full="drop_oldest", store="memory:")


def test_priorities_of_stored_jobs_do_not_age(tmp_path: Path) -> None:
    """Which is an error for the pool that asks for it, and not for one that has it by default."""
    said = r"^priority_aging=5 is not for pools with a store, .* leave it out, or give urgent jobs"
    with pytest.raises(TypeError, match=said):
        Pool("x", priority_aging=5, store="memory:")
    with pytest.raises(oddjob.SettingsError, match=said[1:]):
        oddjob.configure({"store": "memory:", "extra_pools": {"x": {"priority_aging": 5}}})
    oddjob.configure({"priority_aging": 5, "store": f"sqlite:///{tmp_path}/jobs.db"})
    Pool("x").shutdown()
    Pool("y", priority_aging=5, store=False).shutdown()


def test_what_is_not_to_persist_stays_in_memory(pool: Pool) -> None:
    view = pool.options(persist=False)
    assert view.submit(lambda: "closure").result(WAIT) == "closure"
    assert not view.submit(jobs.note, 1).id.isdecimal()


def test_a_call_may_have_options_that_its_function_has_not(pool: Pool) -> None:
    error = pool.options(timeout=0.05).submit(jobs.hang).exception(WAIT)
    assert isinstance(error, oddjob.JobTimeout)
    view = pool.options(retries=2, backoff=0, retry_on=KeyError)
    assert isinstance(view.submit(jobs.fail, "no").exception(WAIT), OSError)


def test_a_stuck_attempt_that_another_one_follows_does_not_keep_its_pool(url: str) -> None:
    """Its thread stays where it is, but what it does counts no more."""
    pool = Pool("durable", 1, store=url)
    job = pool.options(timeout=3600, retries=1, backoff=0).submit(jobs.hang_first)
    assert jobs.entered.acquire(timeout=WAIT)
    time_is_up(pool)
    assert job.result(WAIT) == 2
    until(lambda: pool.stats().running == 0)
    assert (pool.stats().started, pool.stats().abandoned) == (2, 1)
    assert not pool.drain(WAIT / 2).running
    assert not jobs.gate.is_set()


def test_a_store_in_memory_is_gone_with_its_last_pool() -> None:
    """And what one worker does while the store thread counts those that are free is not missed."""
    for _ in range(60):
        with Pool("mem", 1, store="memory:") as pool:
            assert [job.id for job in pool.submit_many(jobs.note, "ab")] == ["1", "2"]


# Limits.


def test_at_most_so_many_jobs_of_a_view_run_at_once(pool: Pool) -> None:
    view = pool.options(max_concurrency=1)
    jobs_ = view.submit_many(jobs.overlap, range(8))
    assert max(job.result(WAIT) for job in jobs_) == 1


def test_two_functions_with_equal_limits_do_not_share_them(pool: Pool) -> None:
    policies = [pool.job(max_concurrency=1)(fn)._target._policy for fn in (jobs.note, jobs.fail)]
    partitions = [pool._core.store.submissions.partition_of(policy, "f") for policy in policies]
    assert len({partition.limiters[0].name for partition in partitions}) == 2


def test_the_more_urgent_job_starts_first(tmp_path: Path) -> None:
    with Pool("one", 1, store=f"sqlite:///{tmp_path}/x.db") as pool:
        blocker = pool.submit(jobs.hang)
        assert jobs.entered.acquire(timeout=WAIT)
        waiting = [pool.options(priority=p).submit(jobs.note, p) for p in (0, 5, 2, 5)]
        jobs.gate.set()
        blocker.result(WAIT)
        for job in waiting:
            job.result(WAIT)
        assert jobs.runs == [5, 5, 2, 0]


def test_a_unique_job_is_stored_once_and_its_handles_end_together(pool: Pool) -> None:
    running = [pool.submit(jobs.hang) for _ in range(2)]
    for _ in running:
        assert jobs.entered.acquire(timeout=WAIT)
    view = pool.options(unique=True)
    first, second = view.submit(jobs.note, {"a": 1}), view.submit(jobs.note, {"a": 1})
    other = view.submit(jobs.note, {"a": 2})
    by_key = pool.options(unique=lambda value: value % 2)
    odd = {by_key.submit(jobs.note, number).id for number in (1, 3, 5)}
    jobs.gate.set()
    assert first.id == second.id != other.id
    assert len(odd) == 1
    assert first.result(WAIT) == second.result(WAIT) == {"a": 1}
    assert view.submit(jobs.note, {"a": 1}).id != first.id  # that one has ended


def test_a_unique_job_of_a_workflow_ends_with_the_one_that_is_just_ending(pool: Pool) -> None:
    """Redis stores the second one before the end of the first, of which the same turn tells it."""
    before = pool.submit(abs, -1)
    assert before.result(WAIT) == 1
    first = pool.options(unique="one").submit(jobs.hang)
    assert jobs.entered.acquire(timeout=WAIT)
    second = pool.options(unique="one", after=before)
    runner = pool._core.store.open()
    found: list[oddjob.Job[str]] = []

    def end_first(_store: object) -> None:
        jobs.gate.set()
        until(lambda: runner._reports)

    def submit_second(_store: object) -> None:
        threading.Thread(target=lambda: found.append(second.submit(jobs.hang))).start()
        until(lambda: runner._submits)
        runner._calls.append(Operation(call=end_first))  # comes before that submit

    runner.call(submit_second)
    until(lambda: found)
    assert first.result(WAIT) == found[0].result(WAIT) == "late"


def test_a_call_is_the_same_however_its_arguments_are_passed(tmp_path: Path) -> None:
    with Pool("idle", store=f"sqlite:///{tmp_path}/jobs.db", consume=False) as pool:
        greet = pool.job(unique=True)(jobs.greet)
        same = [
            greet.submit("Ann"),
            greet.submit(name="Ann"),
            greet.submit("Ann", "."),
            greet.submit(mark=".", name="Ann"),
        ]
        assert len({job.id for job in same}) == 1
        assert greet.submit("Ann", mark="!").id != same[0].id
        assert greet.submit().id != same[0].id  # type: ignore[call-arg]  # it will fail


class IdReader:
    """Middleware that notes which ids its methods see."""

    def __init__(self) -> None:
        self.submitted: list[str] = []
        self.run_as: list[str] = []

    def submit(self, job: oddjob.Job[Any], _carrier: dict[str, str]) -> None:
        self.submitted.append(job.id)

    def run(self, job: oddjob.Job[Any], _carrier: dict[str, str], call: Callable[[], Any]) -> Any:
        self.run_as.append(job.id)
        return call()


def test_middleware_sees_no_id_before_the_store_has_given_it(tmp_path: Path) -> None:
    reader = IdReader()
    with Pool("ids", store=f"sqlite:///{tmp_path}/jobs.db", middleware=[reader]) as pool:
        job = pool.submit(jobs.note, 1)
        job.result(WAIT)
        assert (reader.submitted, reader.run_as) == ([""], [job.id])
        assert pool.find(job.id).result(WAIT) == 1
        memory = pool.options(persist=False).submit(jobs.note, 2)
        memory.result(WAIT)
        assert reader.submitted[1:] == reader.run_as[1:] == [memory.id]


def test_a_key_is_seen_as_it_was_given(pool: Pool) -> None:
    for key in (7, "7", ("customer", 7), b"raw", "=7"):
        job = pool.options(key=key).submit(jobs.read_key)
        assert job.result(WAIT) == repr(key)
        assert job.key == pool.find(job.id).key == key
        (record,) = pool.records(key=key)
        assert (record.id, record.key) == (job.id, key)
    serial = pool.options(key=7, serial=True)
    pool.pause()
    first, second = serial.submit(jobs.fail, "no"), serial.submit(jobs.note, 1)
    pool.resume()
    assert first.exception(WAIT)
    failed = rf"job fail \({first.id}\), before it in line 7, failed"
    with pytest.raises(oddjob.PredecessorFailed, match=failed):
        second.result(WAIT)


def test_a_full_queue_blocks_until_there_is_room(tmp_path: Path) -> None:
    with Pool("full", 1, max_queue=3, store=f"sqlite:///{tmp_path}/full.db") as pool:
        hanging = pool.submit(jobs.hang)
        assert jobs.entered.acquire(timeout=WAIT)
        thread = threading.Thread(target=lambda: pool.perform_many(jobs.note, range(100)))
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
        jobs.gate.set()
        thread.join(WAIT)
        assert not thread.is_alive()
        hanging.result(WAIT)
    assert jobs.runs == list(range(100))


def test_room_is_waited_for_as_long_as_submit_timeout_says(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/full.db"
    with Pool("full", 1, max_queue=1, submit_timeout=0.05, store=url, consume=False) as pool:
        pool.perform(jobs.note, 1)
        with pytest.raises(QueueFull, match="holds 1 job"):
            pool.perform(jobs.note, 2)


def test_the_caller_runs_what_finds_no_room(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/full.db"
    with Pool("full", 1, max_queue=1, when_full="caller_runs", store=url, consume=False) as pool:
        pool.perform(jobs.note, 1)
        job = pool.submit(threading.get_ident)
        assert job.result(0) == threading.get_ident()


@pytest.mark.parametrize(
    "options",
    [
        {"key": "one"},
        {"key": lambda: "one"},
        {"max_concurrency": 1},
        {"rate": "5/minute"},
        {"retries": 1},
        {"unique": True},
    ],
)
def test_the_caller_runs_nothing_of_which_the_store_keeps_count(any_url: str, options: Any) -> None:
    """Keys, limits and unique jobs hold for all processes, and retries outlive this one."""
    with Pool(
        "full", 1, max_queue=1, when_full="caller_runs", submit_timeout=0,
        store=any_url, consume=False,
    ) as pool:  # fmt: skip
        pool.perform(jobs.note, 1)
        with pytest.raises(QueueFull, match="holds 1 job"):
            pool.options(**options).submit(threading.get_ident)
        important = pool.options(priority=1).submit(threading.get_ident)
        assert important.result(0) == threading.get_ident()


def test_no_caller_runs_a_stored_job_of_a_paused_pool(any_url: str) -> None:
    with Pool(
        "full", 1, max_queue=1, when_full="caller_runs", submit_timeout=0,
        store=any_url, consume=False,
    ) as pool:  # fmt: skip
        pool.perform(jobs.note, 1)
        pool.pause()
        with pytest.raises(QueueFull):
            pool.submit(threading.get_ident)
        pool.resume()
        assert pool.submit(threading.get_ident).result(0) == threading.get_ident()


# Callbacks.


def test_a_callback_may_submit_and_wait_and_raise(pool: Pool) -> None:
    seen: list[Any] = []
    done = threading.Event()

    def callback(job: Any) -> None:
        seen.append(pool.submit(jobs.note, f"not {job.result()}").result(WAIT))
        done.set()
        raise SystemExit

    pool.submit(jobs.hang).add_done_callback(callback)  # it has not ended yet
    jobs.gate.set()
    assert done.wait(WAIT)
    assert seen == ["not late"]
    assert pool.submit(jobs.note, 3).result(WAIT) == 3


def test_a_performed_job_that_fails_is_reported_at_once(tmp_path: Path) -> None:
    reported: list[Any] = []
    done = threading.Event()

    def on_error(job: Any, error: BaseException) -> None:
        reported.append((job.name, str(error)))
        done.set()

    with Pool("loud", 1, store=f"sqlite:///{tmp_path}/x.db", on_error=on_error) as pool:
        pool.perform(jobs.fail, "unseen")
        assert done.wait(WAIT)
    assert reported == [("fail", "unseen")]


# The end.


def test_shutdown_finishes_what_was_submitted(tmp_path: Path) -> None:
    with Pool("x", 2, store=f"sqlite:///{tmp_path}/x.db") as pool:
        submitted = pool.submit_many(jobs.note, range(2_000))
        pool.perform(jobs.note, "performed")
    assert all(job.done() for job in submitted)
    assert len(jobs.runs) == 2_001


def test_the_files_of_a_store_may_be_removed_when_its_last_pool_is_shut_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is closed by then, however long that takes: nothing is made again or left open."""
    events = []

    def close_slowly(store: SqliteStore) -> None:
        assert is_shutting_down.wait(WAIT)
        close(store)
        events.append("closed")

    close, is_shutting_down = SqliteStore.close, threading.Event()
    monkeypatch.setattr(SqliteStore, "close", close_slowly)
    pool = Pool("work", 1, store=f"sqlite:///{tmp_path / 'jobs.db'}")
    assert pool.submit(abs, -1).result(WAIT) == 1
    once(lambda: pool.state != "open", is_shutting_down.set)
    pool.shutdown()
    events.append("shut down")
    assert events == ["closed", "shut down"]


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_a_pool_leaves_no_file_of_its_store_open(tmp_path: Path) -> None:
    with Pool("x", 1, store=f"sqlite:///{tmp_path}/x.db") as pool:
        pool.submit(jobs.note, 1).result(WAIT)
    files = [os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()]
    assert [file for file in files if file.startswith(str(tmp_path))] == []


def test_shutdown_waits_for_retries(tmp_path: Path) -> None:
    with Pool("x", 1, store=f"sqlite:///{tmp_path}/x.db") as pool:
        job = pool.options(retries=3, backoff=0.05).submit(jobs.fail_first)
    assert job.result(0) == 3


def test_a_drained_pool_hands_back_what_has_not_begun(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    pool = Pool("x", 1, store=url)
    running = pool.submit(jobs.hang)
    assert jobs.entered.acquire(timeout=WAIT)
    waiting = pool.submit_many(jobs.note, range(20))
    once(lambda: pool.state == "closed", threading.Timer(0.1, jobs.gate.set).start)
    report = pool.drain(WAIT)
    assert [job.id for job in report.finished] == [running.id]
    assert not jobs.runs
    for job in waiting:
        with pytest.raises(PoolClosed, match=f"job {job.id} lives on in the store"):
            job.result(WAIT)
    with Pool("x", 1, store=url) as pool:
        pool.submit(jobs.note, "last").result(WAIT)
    assert jobs.runs == [*range(20), "last"]


def test_an_outcome_that_is_being_reported_while_the_pool_ends_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool does not let go of the store between the end of a job and its report."""
    url = f"sqlite:///{tmp_path}/jobs.db"
    reporting, go_on = threading.Event(), threading.Event()
    report = Runner.report

    def report_late(runner: Runner, update: Update) -> None:
        reporting.set()
        assert go_on.wait(WAIT)
        report(runner, update)

    with Pool("pool", 1, store=url) as pool:
        monkeypatch.setattr(Runner, "report", report_late)
        job_id = pool.submit(jobs.note, 1).id
        assert reporting.wait(WAIT)
        store = pool._core.store
        runner = store.attached
        store.close(hands_back=True)
        for _ in range(2):  # turns in which the pool could end, and the runner with it
            until(lambda: runner._is_asleep or runner.is_over)
            runner.call(lambda _store: None)
        assert store.attached is runner
        go_on.set()
    with Pool("pool", 1, store=url, consume=False) as pool:
        assert pool.find(job_id).state == "succeeded"


def test_shutdown_can_cancel_what_callers_wait_for(tmp_path: Path) -> None:
    pool = Pool("x", 1, store=f"sqlite:///{tmp_path}/x.db")
    running = pool.submit(jobs.hang)
    assert jobs.entered.acquire(timeout=WAIT)
    waiting = pool.submit_many(jobs.note, range(50))
    once(lambda: all(job.done() for job in waiting), jobs.gate.set)
    pool.shutdown(cancel_futures=True)
    assert running.result(WAIT) == "late"
    for job in waiting:
        with pytest.raises(CancelledError):
            job.result(0)
    assert not jobs.runs


def test_a_closed_pool_refuses(tmp_path: Path) -> None:
    pool = Pool("x", store=f"sqlite:///{tmp_path}/x.db")
    pool.shutdown()
    with pytest.raises(PoolClosed):
        pool.submit(jobs.note, 1)


# Waiting for jobs of one's own pool, when others were claimed ahead.


def test_a_warm_pool_of_one_does_not_lock_up(tmp_path: Path) -> None:
    """Claims that are ahead of the workers are run while the only worker waits for them."""
    with Pool("one", 1, store=f"sqlite:///{tmp_path}/x.db") as pool:
        jobs.pools[:] = [pool]
        for _ in range(30):
            pool.submit(jobs.note, 0).result(WAIT)
        for _ in range(5):
            assert pool.submit(jobs.nest, 3).result(WAIT) == 3
            assert pool.submit(jobs.nest_in_loop, 2).result(WAIT) == 2
        parents = pool.submit_many(jobs.nest, [1] * 10)
        assert [parent.result(WAIT) for parent in parents] == [1] * 10


def test_a_pool_is_replaced_by_one_of_the_same_name(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    oddjob.start_pool("same", pool_size=1, store=url)
    running = oddjob.pool("same").submit(jobs.hang)
    assert jobs.entered.acquire(timeout=WAIT)
    pool = oddjob.start_pool("same", pool_size=2, store=url, replace=True)
    assert pool.submit(jobs.note, 1).result(WAIT) == 1
    jobs.gate.set()
    assert running.result(WAIT) == "late"


def test_a_canceled_asubmit_cancels_what_is_stored(
    pool: Pool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Unless it has run by then; also if the event loop has ended."""
    foreign = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")

    async def main() -> None:
        task = asyncio.create_task(pool.asubmit(jobs.note, "canceled"))
        await asyncio.sleep(0)  # it has begun
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        foreign.execute("ROLLBACK")

    asyncio.run(main())
    foreign.close()
    pool.submit(jobs.note, "last").result(WAIT)
    assert caplog.records == []


def test_a_failure_keeps_its_class_and_shows_where_it_came_from(pool: Pool) -> None:
    error = pool.submit(jobs.fail_oddly).exception(WAIT)
    assert isinstance(error, jobs.NeedsTwo)
    assert (error.first, error.args) == (1, ("1 and 2",))
    assert "in fail_oddly" in "".join(traceback.format_exception(error))
    assert "ZeroDivisionError" in "".join(traceback.format_exception(error))


def test_jobs_of_a_pool_that_breaks_end_and_live_on_in_the_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    pool = Pool("broken", 1, store=url, max_restarts=0, initializer=jobs.fail, initargs=("no",))
    job = pool.submit(jobs.note, "later")
    with pytest.raises(oddjob.PoolBroken):
        job.result(WAIT)
    pool.shutdown()
    with Pool("broken", 1, store=url) as pool:
        assert pool.find(job.id).result(WAIT) == "later"
