"""Crashes: one worker is replaced, or all of them, or the pool breaks."""

import logging
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from oddjob import Job, Pool, PoolBroken, PoolClosed
from oddjob.runtime.supervisor import RestartLimit
from oddjob.threads import ServiceThread
from tests.peak import Peak
from tests.strikes import WITH_LOSES_LOCKS

from .at_once import at_once

WAIT = 10.0


class Crash(BaseException):
    """Not an Exception: it ends the worker."""


def crash(error: BaseException) -> None:
    raise error


@pytest.fixture
def first_start_fails(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Threads named as in this list fail to start, once for each time they stand in it."""
    failing: list[str] = []
    start = threading.Thread.start

    def maybe_start(thread: threading.Thread) -> None:
        if thread.name in failing:
            failing.remove(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", maybe_start)
    yield failing
    assert failing == [], "the test expected more failures"


def refuse_start_of(name: str, patch: pytest.MonkeyPatch) -> None:
    """No thread of that name starts any more."""
    start = threading.Thread.start

    def maybe_start(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    patch.setattr(threading.Thread, "start", maybe_start)


def test_a_limit_is_exceeded_by_one_more_than_it_allows_within_its_time() -> None:
    limit = RestartLimit(2, 5.0)
    assert [limit.is_exceeded_by(now) for now in (0.0, 1.0, 2.0)] == [False, False, True]
    assert [limit.is_exceeded_by(now) for now in (2.1, 3.0)] == [False, False], "counted anew"
    assert [limit.is_exceeded_by(now) for now in (7.2, 7.9, 8.1)] == [False, True, False]


def test_a_limit_of_none_is_is_exceeded_by_once() -> None:
    assert RestartLimit(0, 5.0).is_exceeded_by(1.0)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), Crash()])
def test_a_crash_is_the_jobs_outcome_and_the_worker_is_replaced(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    with Pool("frail", 1) as pool:
        first = pool.submit(threading.current_thread).result(WAIT)
        job = pool.submit(crash, error)
        assert job.exception(WAIT) is error
        second = pool.submit(threading.current_thread).result(WAIT)
        assert second is not first
        assert second.name == first.name == "frail_0"
        assert pool.supervisor().crashes == 1
    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.getMessage() == "pool frail: worker frail_0 crashed and was replaced"


def test_a_failing_job_is_no_crash() -> None:
    with Pool(1) as pool:
        worker = pool.submit(threading.get_ident).result(WAIT)
        assert isinstance(pool.submit(crash, ValueError()).exception(WAIT), ValueError)
        assert pool.submit(threading.get_ident).result(WAIT) == worker
        assert pool.supervisor().crashes == 0


def test_a_replacement_runs_the_initializer_again() -> None:
    local = threading.local()
    with Pool(1, initializer=lambda: setattr(local, "ready", True)) as pool:
        pool.submit(crash, Crash()).exception(WAIT)
        assert pool.submit(lambda: local.ready).result(WAIT)


def test_an_initializer_that_fails_once_costs_nothing_but_time() -> None:
    failures = [ValueError("not yet"), ValueError("not yet")]

    def initialize() -> None:
        if failures:
            raise failures.pop()

    with Pool(1, initializer=initialize) as pool:
        assert pool.submit(pow, 2, 3).result(WAIT) == 8
        assert pool.supervisor().crashes == 2


def test_too_many_crashes_replace_all_workers_and_keep_the_queue_in_order() -> None:
    order: list[int] = []
    with Pool(2, max_restarts=1, max_seconds=1000) as pool:
        gate, arrived = threading.Event(), threading.Barrier(2)

        def stay() -> int:
            arrived.wait(WAIT)
            gate.wait(WAIT)
            return threading.get_ident()

        staying = pool.submit(stay)
        arrived.wait(WAIT)
        crashes = [pool.submit(crash, Crash()) for _ in range(2)]
        for job in crashes:
            assert isinstance(job.exception(WAIT), Crash)
        after = pool.submit_many(order.append, range(50))
        for job in after:
            job.result(WAIT)
        gate.set()
        staying.result(WAIT)
        assert order == list(range(50))
        # The one that stayed finished its job and went: two new ones meet.
        together = threading.Barrier(2)
        newcomers = [
            pool.submit(lambda: (together.wait(WAIT), threading.current_thread())[1])
            for _ in range(2)
        ]
        names = {job.result(WAIT).name for job in newcomers}
        assert len(names) == 2
        assert pool.supervisor().pool_restarts == 1


def test_never_more_than_pool_size_jobs_run_while_workers_are_replaced() -> None:
    """A limit on calls to an API matters most when things go wrong."""
    peak = Peak()

    def work(number: int) -> None:
        with peak.counted():
            threading.Event().wait(0.0005)
        if number % 7 == 0:
            raise Crash

    with Pool(3, max_restarts=2, max_seconds=0.01) as pool:
        jobs = [pool.submit(work, number) for number in range(300)]
        for job in jobs:
            job.exception(WAIT)
    assert peak.most <= 3


def test_a_pool_that_keeps_crashing_breaks_and_tells_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """max_restarts=1: every second crash restarts the pool; the second restart too many breaks."""
    error = Crash("for good")
    pool = Pool("doomed", 1, max_restarts=1, max_seconds=1000)
    gate = threading.Event()
    pool.submit(gate.wait, WAIT)
    crashes = [pool.submit(crash, error) for _ in range(4)]
    queued = [pool.submit(pow, 2, 3) for _ in range(3)]
    cancelled = pool.submit(pow, 2, 3)
    cancelled.cancel()
    gate.set()
    assert [job.exception(WAIT) for job in crashes] == [error] * 4
    for job in queued:
        broken = job.exception(WAIT)
        assert isinstance(broken, PoolBroken)
        assert broken.__cause__ is error
    assert cancelled.cancelled()
    with pytest.raises(
        PoolBroken, match=r"pool doomed is broken: .* restart\(\) revives it"
    ) as caught:
        pool.submit(pow, 2, 3)
    assert caught.value.__cause__ is error
    assert "broken" in repr(pool)
    pool.shutdown()
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "ERROR", "WARNING", "CRITICAL"]


def await_breakdown(pool: Pool) -> bool:
    """A job's end is known a moment before what comes of its crash."""
    while pool.state != "broken":
        threading.Event().wait(0.001)
    return True


def test_where_no_crash_is_allowed_the_first_one_replaces_all_workers() -> None:
    """It does not break the pool: a fresh set has not been tried yet."""
    starts = threading.Semaphore(0)
    with Pool(2, initializer=starts.release, max_restarts=0) as pool:
        together = threading.Barrier(3)
        pair = [pool.submit(together.wait, WAIT) for _ in range(2)]
        together.wait(WAIT)
        for job in pair:
            job.result(WAIT)
        assert isinstance(pool.submit(crash, Crash()).exception(WAIT), Crash)
        for _ in range(4):
            assert starts.acquire(timeout=WAIT)
        assert (pool.state, pool.stats().restarts) == ("running", 1)


def test_a_broken_pool_can_be_revived() -> None:
    pool = Pool("phoenix", 2, max_restarts=0, max_seconds=100)
    for _ in range(2):
        assert isinstance(pool.submit(crash, Crash()).exception(WAIT), Crash)
    assert await_breakdown(pool)
    with pytest.raises(PoolBroken):
        pool.submit(pow, 2, 3)
    pool.restart()
    assert pool.state != "broken"
    together = threading.Barrier(2)
    for job in [pool.submit(together.wait, WAIT) for _ in range(2)]:
        job.result(WAIT)
    pool.shutdown()
    assert pool.state == "closed"
    with pytest.raises(PoolClosed):
        pool.restart()


def test_a_revived_pool_ends_though_it_has_refused_a_job_that_waited_for_another_pools() -> None:
    gate = threading.Event()
    with Pool("other", 1) as other:
        first = other.submit(gate.wait, WAIT)
        pool = Pool("phoenix", 1, max_restarts=0)
        waiting = pool.options(after=first).submit(abs, -1)
        for _ in range(2):
            pool.submit(crash, Crash()).exception(WAIT)
        assert isinstance(waiting.exception(WAIT), PoolBroken)
        assert pool.queue() == []
        assert await_breakdown(pool)
        pool.restart()
        assert pool.submit(abs, -2).result(WAIT) == 2
        pool.shutdown(wait=False)
        assert pool.join(WAIT)
        gate.set()


def test_a_restart_replaces_every_worker_and_keeps_the_queue() -> None:
    order: list[int] = []
    with Pool(2) as pool:
        gate, arrived = threading.Event(), threading.Barrier(3)

        def stay() -> threading.Thread:
            arrived.wait(WAIT)
            gate.wait(WAIT)
            return threading.current_thread()

        staying = [pool.submit(stay) for _ in range(2)]
        arrived.wait(WAIT)
        queued = pool.submit_many(order.append, range(50))
        pool.restart()
        assert pool.state == "restarting"
        assert order == []
        gate.set()
        old = {job.result(WAIT) for job in staying}
        for job in queued:
            job.result(WAIT)
        together = threading.Barrier(2)
        new = [
            pool.submit(lambda: (together.wait(WAIT), threading.current_thread())[1])
            for _ in range(2)
        ]
        assert old.isdisjoint(job.result(WAIT) for job in new)
        assert sorted(order) == list(range(50))
        assert (pool.state, pool.supervisor().crashes) == ("running", 0)


@pytest.mark.parametrize("crash_on", [LookupError, (OSError, LookupError), Exception])
def test_a_pool_can_be_told_what_is_a_crash(
    crash_on: type[Exception] | tuple[type[Exception], ...],
) -> None:
    error = KeyError("let it crash")
    with Pool(1, crash_on=crash_on) as pool:
        before = pool.submit(threading.current_thread).result(WAIT)
        assert pool.submit(crash, error).exception(WAIT) is error
        assert pool.submit(threading.current_thread).result(WAIT) is not before
        assert pool.supervisor().crashes == 1


def test_jobs_of_perform_that_a_broken_pool_drops_are_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reported: list[BaseException] = []
    pool = Pool(1, max_restarts=0, on_error=lambda _, error: reported.append(error))
    gate = threading.Event()
    pool.submit(gate.wait, WAIT)
    crashing = [pool.submit(crash, Crash()) for _ in range(2)]
    last = pool.submit(pow, 2, 3)
    pool.perform(print, "never")
    gate.set()
    last.exception(WAIT)
    pool.shutdown()
    assert [type(error) for error in reported] == [PoolBroken]
    assert "job print of pool" in caplog.text
    assert all(job.exception() for job in crashing)


def test_a_replacement_that_cannot_start_is_tried_again(
    first_start_fails: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The queue waits; nothing is lost, and it is said once."""
    with Pool("tried", 1) as pool:
        gate = threading.Event()
        pool.submit(gate.wait, WAIT)
        crashed = pool.submit(crash, Crash())
        waiting = pool.submit(pow, 2, 3)
        first_start_fails += ["tried_0"] * 3
        gate.set()
        assert isinstance(crashed.exception(WAIT), Crash)
        assert waiting.result(WAIT) == 8
    assert caplog.text.count("no thread could be started") == 1


@pytest.mark.parametrize("options", [{}, {"max_queue": 10}])
@pytest.mark.parametrize("culprit", ["unlucky-supervisor", "unlucky_0"])
def test_a_first_worker_that_cannot_start_refuses_the_job_and_the_next_is_welcome(
    culprit: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    with Pool("unlucky", 1, **options) as pool:
        with monkeypatch.context() as patch:
            refuse_start_of(culprit, patch)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                pool.submit(ran.append, 1)
            assert pool.queue() == []
        pool.submit(ran.append, 2).result(WAIT)
    assert ran == [2]


@pytest.mark.parametrize("options", [{}, {"max_queue": 10}])
@pytest.mark.parametrize("culprit", ["late-supervisor", "late_0"])
def test_a_job_that_relies_on_a_thread_which_then_cannot_start_is_run_all_the_same(
    culprit: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is accepted while another submitter is starting the only worker."""
    start, first = threading.Thread.start, threading.Event()
    others: list[Any] = []

    def start_late(thread: threading.Thread) -> None:
        if thread.name != culprit or first.is_set():
            start(thread)
        else:
            first.set()
            others.extend(at_once(lambda: pool.submit(abs, -7)))
            raise RuntimeError("can't start new thread")

    with Pool("late", 1, **options) as pool:
        monkeypatch.setattr(threading.Thread, "start", start_late)
        with suppress(RuntimeError):  # it is refused, or accepted as well
            assert pool.submit(abs, -8).result(WAIT) == 8
        assert others[0].result(WAIT) == 7


@pytest.mark.parametrize("options", [{}, {"max_queue": 10}])
@pytest.mark.parametrize("name", ["young-supervisor", "young_0", "young_1"])
def test_a_destructor_may_submit_in_the_very_thread_that_is_being_started(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Thread.start` returns only when the new thread says that it runs."""
    set_ident = threading.Thread._set_ident  # type: ignore[attr-defined]
    jobs: list[Job[int]] = []
    gate, first = threading.Event(), threading.Event()

    def be_interrupted(thread: threading.Thread) -> None:
        set_ident(thread)
        if thread.name == name and not first.is_set():
            first.set()
            jobs.append(pool.submit(abs, -7))

    monkeypatch.setattr(threading.Thread, "_set_ident", be_interrupted)
    with Pool("young", 3, **options) as pool:
        waiting = [pool.submit(gate.wait, WAIT) for _ in range(2)]
        assert jobs[0].result(WAIT) == 7
        gate.set()
        assert all(job.result(WAIT) for job in waiting)


def test_a_further_worker_that_cannot_start_costs_only_speed(
    first_start_fails: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with Pool("short", 2) as pool:
        gate = threading.Event()
        standing = pool.submit(gate.wait, WAIT)
        first_start_fails.append("short_1")
        waiting = pool.submit(pow, 2, 3)
        assert "could not start another worker" in caplog.text
        gate.set()
        assert (standing.result(WAIT), waiting.result(WAIT)) == (True, 8)


def test_a_further_worker_that_cannot_start_is_tried_again_for_a_job_that_is_waited_for(
    first_start_fails: list[str],
) -> None:
    with Pool("nested", 2) as pool:
        first_start_fails.append("nested_1")
        outer = pool.submit(lambda: pool.submit_many(abs, [-8])[0].result(WAIT))
        assert outer.result(WAIT) == 8


@pytest.mark.skipif(WITH_LOSES_LOCKS, reason="a struck `with` block of CPython keeps its lock")
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # a file that it reads
@pytest.mark.parametrize("_", range(20))
def test_something_thrown_at_the_supervisor_does_not_cost_the_pool_its_supervision(_: int) -> None:
    import ctypes

    with Pool(1, max_restarts=10) as pool:
        pool.submit(crash, Crash()).exception(WAIT)
        pool.submit(pow, 2, 3).result(WAIT)  # by a second worker: the supervisor is in its loop
        ident = pool.supervisor().ident
        assert ident is not None
        for _ in range(3):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(ident), ctypes.py_object(SystemExit)
            )
            pool.submit(crash, Crash()).exception(WAIT)
            assert pool.submit(pow, 2, 3).result(WAIT) == 8
        assert pool.supervisor().is_alive


def test_a_shutdown_on_a_worker_does_not_wait_for_itself() -> None:
    pool = Pool(1)
    queued: list[object] = []

    def end() -> bool:
        queued.append(pool.submit(pow, 2, 3))
        pool.shutdown(wait=True)
        return pool.join(1)

    assert pool.submit(end).result(WAIT) is False
    assert queued[0].result(WAIT) == 8  # type: ignore[attr-defined]  # a job
    assert pool.join(WAIT) is True


@pytest.mark.parametrize("stop", ["shutdown", "cancel", "drain"])
def test_a_stop_that_comes_before_the_threads_have_begun_is_not_lost(
    stop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither supervisor nor worker gets to its loop before the pool is closed."""
    gate = threading.Event()
    start = threading.Thread.start

    def start_late(thread: threading.Thread) -> None:
        run = thread.run

        def wait_and_run() -> None:
            gate.wait(WAIT)
            run()

        thread.run = wait_and_run  # type: ignore[method-assign]
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_late)
    pool = Pool(1)
    job = pool.submit(pow, 2, 3)
    if stop == "drain":
        assert pool.drain(timeout=0).cancelled == [job]
    else:
        pool.shutdown(wait=False, cancel_futures=stop == "cancel")
    gate.set()
    assert pool.join(WAIT)
    assert job.cancelled() if stop != "shutdown" else job.result(0) == 8


def test_a_job_that_a_signal_handler_submits_while_the_supervisor_is_made_starts_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two supervisors would share the wake-ups, and one of them sleep for ever."""
    name = "oddjob.runtime.supervisor.ServiceThread"
    real, made = ServiceThread, list[threading.Thread]()
    pool = Pool(2)

    def interrupted(*args: Any, **options: Any) -> threading.Thread:
        monkeypatch.setattr(name, real)
        pool.perform(int)  # as the handler does
        made.append(real(*args, **options))
        return made[0]

    monkeypatch.setattr(name, interrupted)
    assert pool.submit(abs, -1).result(10) == 1
    pool.shutdown()
    assert made[0].ident is None, "it was started as well"
