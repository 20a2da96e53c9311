"""Chains, batches and dependencies: in memory, in a file of SQLite, and on Redis."""

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

import oddjob
from oddjob import Pool

made: list[Any] = []
may_pass = threading.Event()
MakePool = Callable[..., Pool]


def double(value: int) -> int:
    return 2 * value


def add(value: int, other: int = 1) -> int:
    return value + other


def fail_until_allowed(value: int) -> int:
    if not may_pass.is_set():
        raise ValueError("not yet")
    return value


def note(value: Any = None, *more: Any) -> Any:
    made.append((value, *more) if more else value)
    return value


def nothing(*_: Any) -> None:
    pass


def add_to_batch(depth: int) -> None:
    batch = oddjob.current_batch()
    assert batch is not None
    if depth:
        batch.submit(add_to_batch, depth - 1)
    note(depth)


def stop_when_asked() -> None:
    job = oddjob.current_job()
    assert job is not None
    may_pass.set()
    while not job.cancel_requested:
        threading.Event().wait(0.01)
    raise CancelledError


@pytest.fixture(autouse=True)
def begin() -> Iterator[None]:
    made.clear()
    may_pass.clear()
    yield
    may_pass.set()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def make_pool(request: pytest.FixtureRequest, tmp_path: Path) -> MakePool:
    """Return what makes pools, which share a store if they have one."""
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
    else:
        url = f"sqlite:///{tmp_path}/jobs.db" if request.param == "sqlite" else False

    def make(name: str = "pool", **options: Any) -> Pool:
        return Pool(name, 4, store=url, **options)

    return make


# Chains.


def test_each_link_gets_the_result_of_the_one_before(make_pool: MakePool) -> None:
    """As its first argument, before its own."""
    with make_pool() as pool:
        chain = pool.chain(pool.s(double, 1), double, pool.s(add, 10))
        assert chain.result(10) == 14
        assert [job.result() for job in chain.jobs] == [2, 4, 14]
        assert (chain.state, chain.progress) == ("succeeded", (3, 3, None))
        assert pool.chain(nothing, note).result(10) is None
        assert made == [None]


def test_the_end_of_a_pool_waits_for_chains(make_pool: MakePool) -> None:
    """They were accepted."""
    with make_pool() as pool:
        chain = pool.chain(pool.s(add, 1), *[add] * 20)
    assert chain.result() == 22


def test_a_failure_ends_what_follows_and_a_retry_resumes(make_pool: MakePool) -> None:
    """What has succeeded does not run again."""
    with make_pool() as pool:
        chain = pool.chain(pool.s(note, 5), fail_until_allowed, double, note)
        with pytest.raises(ValueError, match="not yet"):
            chain.result(10)
        with pytest.raises(oddjob.BatchFailed, match="3 of 4"):
            chain.job.result(10)
        failed = rf"job fail_until_allowed( \({chain.jobs[1].id}\))?, which it waits for, failed"
        with pytest.raises(oddjob.PredecessorFailed, match=failed):
            chain.jobs[2].result()
        with pytest.raises(oddjob.PredecessorFailed, match=r"job double.*, which it waits for"):
            chain.jobs[-1].result()
        assert chain.state == "failed"
        failure = "has failed: ValueError: not yet"
        assert chain.why() == f"job fail_until_allowed: it {failure}"
        assert chain.jobs[1].why() == f"it {failure}"
        may_pass.set()
        assert chain.retry()
        assert chain.result(10) == 10
        assert made == [5, 10]
        assert not chain.retry()


def test_links_have_their_own_options(make_pool: MakePool) -> None:
    """Such as retries; the next job starts when they are over."""
    with make_pool() as pool:
        tried = pool.options(retries=3, backoff=0)
        chain = pool.chain(pool.s(add, 1), tried.s(fail_twice), double)
        assert chain.result(10) == 4
        assert chain.jobs[1].attempt == 3


def fail_twice(value: int) -> int:
    job = oddjob.current_job()
    assert job is not None
    if job.attempt < 3:
        raise ValueError
    return value


def test_a_chain_is_cancelled_whole(make_pool: MakePool) -> None:
    """A job that runs is asked to stop."""
    with make_pool() as pool:
        chain = pool.chain(stop_when_asked, double, note)
        assert may_pass.wait(10)
        chain.cancel()
        with pytest.raises(CancelledError):
            chain.jobs[-1].result(10)
        with pytest.raises((CancelledError, oddjob.BatchFailed)):
            chain.job.result(10)
    assert made == []


def test_a_job_says_what_it_waits_for(make_pool: MakePool) -> None:
    """And is scheduled until then."""
    with make_pool() as pool:
        first = pool.submit(stop_when_asked)
        assert may_pass.wait(10)
        try:
            second = pool.options(after=[first]).submit(note)
            assert second.state == "scheduled"
            assert "it waits for" in second.why()
            assert "running" in second.why()
        finally:
            first.cancel()
        with pytest.raises(CancelledError):
            second.result(10)
        assert (first.state, second.state) == ("cancelled", "cancelled")


def test_a_job_of_a_pool_of_one_waits_for_a_chain(make_pool: MakePool) -> None:
    """The worker that waits runs the jobs, or lends itself."""
    with make_pool() as pool:
        pool.resize(1)
        assert pool.submit(run_chain, str(pool.name)).result(20) == 8


def test_a_coroutine_in_a_pool_of_one_awaits_a_chain(make_pool: MakePool) -> None:
    """Something else runs the jobs meanwhile."""
    with make_pool() as pool:
        pool.resize(1)
        assert pool.submit(await_chain, str(pool.name)).result(20) == 8


async def await_chain(pool: str) -> Any:
    chain = oddjob.pool(pool).chain(oddjob.pool(pool).s(double, 2), double)
    return await chain.jobs[-1]


def run_chain(pool: str) -> Any:
    chain = oddjob.pool(pool).chain(oddjob.pool(pool).s(double, 2), double)
    return chain.jobs[-1].result()


# Dependencies.


def test_a_job_starts_after_others(make_pool: MakePool) -> None:
    """After all of them; batches and chains may be among them."""
    with make_pool() as pool:
        with pool.batch() as batch:
            batch.submit(note, 1)
        jobs = [pool.submit(note, 2), pool.chain(pool.s(note, 3)), batch]
        last = pool.options(after=jobs).submit(note, 4)
        assert last.result(10) == 4
        assert made[-1] == 4
        again = pool.options(after=[last, *jobs]).submit_many(note, [5, 6])
        assert [job.result(10) for job in again] == [5, 6]


def test_what_cannot_be_waited_for_is_refused(make_pool: MakePool, tmp_path: Path) -> None:
    """With an error that says why."""
    with make_pool() as pool, Pool("other", store=f"sqlite:///{tmp_path}/other.db") as other:
        with pytest.raises(TypeError, match="after must be a job or a list of jobs"):
            pool.options(after=[1])
        with pytest.raises(TypeError, match="do not go together"):
            pool.options(after=[pool.submit(nothing)]).after(1).submit(nothing)
        with pytest.raises(TypeError, match="in the same store"):
            other.options(after=[pool.submit(nothing)]).submit(nothing)
        with pytest.raises(TypeError, match="a chain needs calls"):
            pool.chain()
        with pytest.raises((TypeError, ValueError), match="must"):
            pool.chain(nothing, other.s(nothing))


# Batches.


def test_callbacks_run_after_the_last_job(make_pool: MakePool) -> None:
    """Each once, and only those that fit."""
    with make_pool() as pool:
        with pool.batch(
            on_success=pool.s(note, "good"),
            on_failure=pool.s(note, "bad"),
            on_done=pool.s(note, "done"),
        ) as batch:
            jobs = batch.submit_many(note, range(5))
            batch.perform(note, 5)
            batch.perform_many(note, [6, 7])
        batch.result(10)
        assert [job.result() for job in jobs] == [0, 1, 2, 3, 4]
        assert batch.progress == (8, 8, None)
    assert sorted(made[:8]) == list(range(8))
    assert sorted(made[8:]) == ["done", "good"]


def test_a_failed_batch_is_resumed(make_pool: MakePool) -> None:
    """Then the callback for a success runs after all."""
    with make_pool() as pool:
        with pool.batch(on_success=pool.s(note, "good"), on_failure=pool.s(note, "bad")) as batch:
            batch.submit(note, 1)
            batch.submit(fail_until_allowed, 2)
        with pytest.raises(oddjob.BatchFailed, match="1 of 2 jobs failed"):
            batch.result(10)
        may_pass.set()
        assert batch.retry()
        batch.result(10)
    assert sorted(map(str, made)) == ["1", "bad", "good"]


def test_a_block_that_raises_submits_nothing(make_pool: MakePool) -> None:
    """And a batch takes no more jobs after its block."""
    with make_pool() as pool:
        with pytest.raises(ZeroDivisionError), pool.batch() as batch:
            batch.submit_many(note, (1 / n for n in (1, 0)))
        with pool.batch() as batch:
            pass
        batch.result(10)
        with pytest.raises(RuntimeError, match="current_batch"):
            batch.submit(note)
    assert made == []


def test_nobody_waits_for_the_jobs_of_a_block_that_raised(make_pool: MakePool) -> None:
    with make_pool() as pool:
        batch = pool.batch()
        job, chain = batch.submit(double, 1), batch.chain(pool.s(double, 1), double)
        with pytest.raises(KeyError), batch:
            raise KeyError("one")
        for each in (job, batch, chain):
            with pytest.raises(CancelledError):
                each.result(10)


def test_to_wait_for_a_batch_inside_its_block_is_an_error(make_pool: MakePool) -> None:
    refused = pytest.raises(RuntimeError, match="when its `with` block ends")
    with make_pool() as pool, pool.batch() as batch, refused:
        batch.result()


@pytest.mark.parametrize("call", [2, "double", [double, double]])
def test_what_is_no_call_is_refused_with_what_is_one(make_pool: MakePool, call: Any) -> None:
    with (
        make_pool() as pool,
        pytest.raises(TypeError, match=r"take functions, and calls that fn\.s"),
    ):
        pool.chain(call)


def test_jobs_add_jobs_to_their_own_batch(make_pool: MakePool) -> None:
    """The batch ends after the last of them."""
    with make_pool() as pool:
        with pool.batch(on_success=pool.s(note, "done")) as batch:
            batch.submit(add_to_batch, 3)
        batch.result(10)
        assert batch.progress == (4, 4, None)
    assert sorted(made[:-1]) == [0, 1, 2, 3]
    assert made[-1] == "done"
    assert oddjob.current_batch() is None


def test_the_batch_of_a_pool_that_was_collected_takes_no_more_jobs() -> None:
    def add_late() -> None:
        may_pass.wait(10)
        oddjob.current_batch()

    def submit() -> oddjob.Job[None]:
        with Pool().batch() as batch:
            return batch.submit(add_late)

    job = submit()
    gc.collect()
    may_pass.set()
    with pytest.raises(oddjob.PoolClosed, match="the pool of this batch was garbage-collected"):
        job.result(10)


def test_middleware_sees_the_jobs_that_are_added_to_a_batch_and_no_others(
    make_pool: MakePool,
) -> None:
    class Names(oddjob.Middleware):
        def submit(self, job: oddjob.Job[Any], carrier: dict[str, str]) -> None:
            submitted.append(job.name)

    submitted: list[str] = []
    with make_pool(middleware=[Names()]) as pool:
        with pool.batch(name="whole") as batch:
            batch.submit(add_to_batch, 2)
        batch.result(10)
    assert sorted(submitted) == ["add_to_batch"] * 3 + ["whole"]


def test_batches_and_chains_nest(make_pool: MakePool) -> None:
    """The outer one ends after the inner ones."""
    with make_pool() as pool:
        with pool.batch() as outer:
            with outer.batch(on_done=pool.s(note, "inner")) as inner:
                inner.submit(note, 1)
            chain = outer.chain(pool.s(note, 2), double, note)
        outer.result(10)
        assert inner.done()
        assert chain.result() == 4
        assert outer.progress == (2, 2, None)
    assert sorted(map(str, made)) == ["1", "2", "4", "inner"]


def test_a_batch_is_cancelled_whole(make_pool: MakePool) -> None:
    """Its jobs, and the callback for a success."""
    with make_pool() as pool:
        blocker = pool.submit(stop_when_asked)
        assert may_pass.wait(10)
        with pool.options(after=blocker).batch(on_success=pool.s(note)) as batch:
            jobs = batch.submit_many(note, range(3))
        try:
            assert batch.cancel()
            for job in (*jobs, batch):
                with pytest.raises(CancelledError):
                    job.result(10)
        finally:
            blocker.cancel()
    assert made == []


def test_a_closed_pool_refuses_the_whole(make_pool: MakePool) -> None:
    """And nothing of it is left."""
    pool = make_pool()
    pool.shutdown()
    with pytest.raises(oddjob.PoolClosed):
        pool.chain(note, double)
    batch = pool.batch()
    with pytest.raises(oddjob.PoolClosed), batch:
        batch.submit(note)


# Jobs that take the place of others.


def test_a_document_is_indexed_at_most_once_in_a_while_with_its_latest_text(
    make_pool: MakePool,
) -> None:
    """Each submission returns the job that runs then."""
    with make_pool() as pool:
        if not pool.configuration.store:  # as in tests of a program: nothing is unique
            assert pool.options(unique=True, replace=True).submit(index, "a", "b").result(10) == "b"
            return
        view = pool.options(unique=index_key, replace=True)
        jobs = [view.after(60).submit(index, "a", text) for text in ("old", "new", "newest")]
        assert len({job.id for job in jobs}) == 1
        pool.options(unique=index_key, replace="time").submit(index, "a", "now")
        assert [job.result(10) for job in jobs] == ["now"] * 3
        with pytest.raises(TypeError, match="needs unique="):
            pool.options(replace=True)
        with pytest.raises(TypeError, match="replace must be"):
            pool.options(unique=True, replace="soon")  # type: ignore[typeddict-item]


def index_key(document: str, _text: str) -> str:
    return document


def index(_document: str, text: str) -> str:
    return text
