"""Chains, batches and dependencies in memory: races, and what goes wrong half-way."""

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import wait
from typing import Any

import pytest

import oddjob
from oddjob import BatchFailed, Job, Pool, PoolBroken, PredecessorFailed
from oddjob.runtime.dependencies import _Members, awaited_by
from oddjob.testing import inline
from tests.hang import WAIT, Hang, until


class Crash(BaseException):
    """What breaks a pool."""


def nothing(*_: Any) -> None:
    pass


def fail() -> None:
    raise ValueError("as jobs do")


def cancel(pool: Pool, first: Job[Any]) -> Job[Any]:
    job: Job[Any] = pool.options(after=first).submit(nothing)
    job.cancel()
    return job


def run_after(pool: Pool, first: Job[Any]) -> Job[Any]:
    return pool.options(after=first).submit(nothing)


def run_batch(pool: Pool, first: Job[Any]) -> Job[Any]:
    with pool.options(after=first).batch() as batch:
        batch.submit(nothing)
    return batch.job


@pytest.mark.parametrize("make", [cancel, run_after, run_batch])
@pytest.mark.parametrize("end", [nothing, fail])
def test_a_linked_job_that_has_ended_keeps_no_job_that_it_has_waited_for(
    make: Callable[[Pool, Job[Any]], Job[Any]], end: Callable[[], None]
) -> None:
    """Nor their results: a caller that keeps many jobs would keep them all."""
    gate = threading.Event()
    with Pool(1) as pool:
        pool.submit(gate.wait, WAIT)
        first = pool.submit(end)
        job, freed = make(pool, first), weakref.ref(first)
        gate.set()
        wait([first, job], WAIT)
        first.exception()
        del first
        pool.submit(nothing).result(WAIT)
        gc.collect()
        assert freed() is None
        assert job.done()


def test_a_batch_does_not_succeed_while_its_last_job_is_being_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last one fails; a thread that has counted another one looks at the batch meanwhile."""
    looks_at_last, has_looked = threading.Event(), threading.Event()
    gate, may_fail = threading.Event(), threading.Event()
    end_if_over = _Members._end_if_over
    first: list[int] = []

    class Counts(dict[Any, int]):
        def __setitem__(self, state: Any, count: int) -> None:
            if state == "failed":
                looks_at_last.set()
                has_looked.wait(WAIT)
            super().__setitem__(state, count)

    class Lock:
        def __init__(self, lock: Any) -> None:
            self.lock = lock

        def __enter__(self) -> None:
            if looks_at_last.is_set():
                has_looked.set()  # it is about to wait for the other thread
            self.lock.acquire()

        def __exit__(self, *_: object) -> None:
            self.lock.release()

    def look(members: Any) -> None:
        if threading.current_thread() is not threading.main_thread() and not first:
            first.append(threading.get_ident())
            may_fail.set()
            looks_at_last.wait(WAIT)
        end_if_over(members)
        if first == [threading.get_ident()]:
            has_looked.set()

    monkeypatch.setattr(_Members, "_end_if_over", look)
    with Pool(pool_size=2) as pool:
        with pool.batch() as batch:
            succeeds = batch.submit(gate.wait)
            fails = batch.submit(lambda: (may_fail.wait(), fail()))
        until(lambda: not batch.job._ensure_details().waits_for._is_open)  # type: ignore[union-attr]
        members: Any = batch.job._ensure_details().waits_for
        members._counts = Counts(members._counts)
        members._lock = Lock(members._lock)
        gate.set()
        with pytest.raises(BatchFailed):
            batch.result(WAIT)
        wait([succeeds, fails], WAIT)
        assert fails.exception() is not None


def test_no_jobs_may_be_added_to_a_running_batch() -> None:
    """As a job does that has found nothing left to do."""

    def add_none() -> list[Job[Any]]:
        batch = oddjob.current_batch()
        assert batch is not None
        return [*batch.submit_many(nothing, []), *batch.add()]

    with Pool(pool_size=1) as pool, pool.batch() as batch:
        job = batch.submit(add_none)
    assert job.result(WAIT) == []
    batch.result(WAIT)


def test_calls_are_added_to_a_batch_all_together_or_not_at_all() -> None:
    not_a_call: Any = 3
    with Pool(pool_size=1) as pool, pool.batch() as batch:
        with pytest.raises(TypeError, match="batches take functions"):
            batch.add(nothing, not_a_call)
        job = batch.submit(nothing)
    batch.result(WAIT)
    assert (batch.jobs, batch.progress.total) == ([job], 1)


def test_what_current_batch_returns_retries_none_of_the_jobs_that_it_has_not_added() -> None:
    found: list[oddjob.Batch] = []

    def find_batch_and_fail() -> None:
        batch = oddjob.current_batch()
        assert batch is not None
        found.append(batch)
        raise ValueError

    with Pool(pool_size=1) as pool:
        with pool.batch() as batch:
            job = batch.submit(find_batch_and_fail)
        assert isinstance(job.exception(WAIT), ValueError)
        assert not found[0].retry()


@pytest.mark.parametrize("add", [lambda batch: batch.chain(nothing), lambda batch: batch.batch()])
def test_a_batch_whose_block_has_ended_takes_no_chains_and_batches(
    add: Callable[[Any], object],
) -> None:
    with Pool(pool_size=1) as pool:
        with pool.batch() as batch:
            batch.submit(nothing)
        with pytest.raises(RuntimeError, match="has ended"):
            add(batch)


def test_a_workflow_that_a_broken_pool_has_refused_is_retried_once_the_pool_is_restarted() -> None:
    may_pass, calls = threading.Event(), [0]

    def fail_at_first() -> int:
        calls[0] += 1
        if not may_pass.is_set():
            raise ValueError("not yet")
        return calls[0]

    with Pool(pool_size=1, max_restarts=0) as pool:
        chain = pool.chain(fail_at_first)
        with pytest.raises(ValueError, match="not yet"):
            chain.result(WAIT)

        def crash() -> None:
            raise Crash

        for _ in range(3):  # the first ones restart the pool
            if pool.stats().state != "broken":
                with pytest.raises((Crash, PoolBroken)):
                    pool.submit(crash).result(WAIT)
        until(lambda: pool.stats().state == "broken")
        with pytest.raises(PoolBroken):
            chain.retry()
        pool.restart()
        may_pass.set()
        assert chain.retry()
        assert chain.result(WAIT) == 2


def test_what_a_job_waits_for_is_found_once_each_however_many_ways_lead_to_it() -> None:
    """Of jobs that wait for two others each, in layers, the number of ways doubles with each."""
    hang = Hang()
    with Pool(pool_size=1) as pool:
        first = pool.submit(hang)
        layer = [pool.options(after=[first]).submit(nothing) for _ in range(2)]
        layers = [layer]
        for _ in range(60):
            layer = [pool.options(after=layer).submit(nothing) for _ in range(2)]
            layers.append(layer)
        last = pool.options(after=layer).submit(nothing)
        found = awaited_by(last)
        assert found[0] is first
        assert [{*found[at : at + 2]} for at in range(1, len(found), 2)] == [*map(set, layers)]
        hang.gate.set()
        last.result(WAIT)


def test_a_batch_that_one_of_its_pools_refuses_leaves_alone_what_another_pool_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hang = Hang()
    with Pool(pool_size=1) as pool, Pool(pool_size=1) as other:

        def refuse(_: object) -> None:
            hang.wait_until_it_hangs()
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(other._core.intake, "run_claimed", refuse)
        batch = pool.batch()
        running, (refused,) = batch.submit(hang), batch.add(other.s(nothing))
        with pytest.raises(RuntimeError, match="new thread"):
            batch.__exit__(None, None, None)
        assert running.running()
        assert refused.cancelled()
        hang.gate.set()
        assert running.result(WAIT) == "late"


LINKS = 1000  # more than the recursion limit allows, if each end were passed on within the last


def test_a_chain_of_any_length_fails_whole() -> None:
    with Pool(pool_size=1) as pool:
        chain = pool.chain(fail, *[abs] * LINKS)
        with pytest.raises(ValueError, match="as jobs do"):
            chain.result(WAIT)
        assert all(isinstance(job.exception(WAIT), PredecessorFailed) for job in chain.jobs[1:])


@pytest.mark.parametrize("end", [lambda job: job.cancel(), lambda _: None])
def test_jobs_that_wait_for_each_other_end_however_many_they_are(
    end: Callable[[Job[Any]], object],
) -> None:
    hang = Hang()
    with Pool(pool_size=1) as pool:
        pool.submit(hang)
        head = last = pool.submit(fail)
        for _ in range(LINKS):
            last = pool.options(after=last).submit(abs, -1)
        end(head)
        hang.gate.set()
        wait([last], WAIT)
        assert last.done()


def test_a_chain_of_any_length_runs_inline() -> None:
    with inline(), Pool(pool_size=1) as pool:
        assert pool.chain(pool.s(abs, -1), *[abs] * LINKS).result(WAIT) == 1


def test_a_callback_of_a_job_that_waited_may_wait_for_a_chain() -> None:
    """It runs while the end of that job's predecessor is passed on, in a pool of one."""
    results: list[int] = []

    def run_chain(_: object) -> None:
        results.append(pool.chain(pool.s(abs, -1), abs, abs).result(WAIT / 2))

    with Pool(pool_size=1) as pool:
        hang = Hang()
        pool.submit(hang)
        first = pool.submit(fail)
        pool.options(after=first).submit(abs, -1).add_done_callback(run_chain)
        hang.gate.set()
        until(lambda: results)
        assert isinstance(first.exception(WAIT), ValueError)
    assert results == [1]
