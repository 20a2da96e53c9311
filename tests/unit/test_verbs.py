"""The module-level functions: a name or a Pool, and the same promises for both."""

import inspect
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

import oddjob
from oddjob import verbs

WAIT = 10.0

Address = Callable[[oddjob.Pool], str | oddjob.Pool]


@pytest.fixture(params=["by name", "by Pool"])
def email(request: pytest.FixtureRequest) -> str | oddjob.Pool:
    """A pool of one worker, by name and as an object."""
    pool = oddjob.Pool("email", 1)
    return "email" if request.param == "by name" else pool


@contextmanager
def held_up(pool: str | oddjob.Pool) -> Iterator[oddjob.Job[bool]]:
    """Yield a job that occupies one worker until the block ends; it returns True."""
    gate, started = threading.Event(), threading.Event()

    def stand() -> bool:
        started.set()
        return gate.wait(WAIT)

    job = oddjob.pool(pool).submit(stand)
    assert started.wait(WAIT)
    try:
        yield job
    finally:
        gate.set()


def spin_until(true: Callable[[], bool]) -> None:
    """Wait for something that a worker does after its job has ended."""
    deadline = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < deadline


def everything(*args: object, **kwargs: object) -> tuple[object, ...]:
    return args, kwargs


def boom() -> None:
    raise KeyError("boom")


async def half(number: int) -> float:
    return number / 2


# perform and perform_many: fire and forget.


def test_perform_runs_the_call_in_the_pool_and_returns_none(email: str | oddjob.Pool) -> None:
    """The simplest way to have something done in the background."""
    ran = threading.Event()
    seen: list[object] = []

    def call(*args: object, **kwargs: object) -> None:
        seen.extend((threading.current_thread().name, args, kwargs))
        ran.set()

    assert oddjob.perform(email, call, 1, "two", three=3) is None
    assert ran.wait(WAIT)
    assert seen == ["email_0", (1, "two"), {"three": 3}]


@pytest.mark.parametrize("verb", [oddjob.perform, oddjob.async_perform])
def test_any_keyword_reaches_the_function_even_one_named_like_a_parameter(
    verb: Callable[..., Any], email: str | oddjob.Pool
) -> None:
    """A function with an argument called "pool" or "fn" is nothing unusual."""
    seen: list[object] = []
    verb(email, lambda **kwargs: seen.append(kwargs), pool=1, fn=2, self=3, name=4, timeout=5)
    oddjob.shutdown_all(WAIT)
    assert seen == [{"pool": 1, "fn": 2, "self": 3, "name": 4, "timeout": 5}]


def test_perform_reports_a_failure_with_the_jobs_name_and_its_traceback(
    email: str | oddjob.Pool, caplog: pytest.LogCaptureFixture
) -> None:
    """The result is not read, so the log is where an e-mail that failed is seen."""
    oddjob.perform(email, boom)
    oddjob.shutdown_all(WAIT)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("oddjob", logging.ERROR)
    assert record.getMessage() == "job boom of pool email failed"
    assert record.exc_info
    assert record.exc_info[0] is KeyError


def test_perform_many_runs_the_call_for_every_item_in_order(email: str | oddjob.Pool) -> None:
    """A hundred thousand mails in one call."""
    seen: list[int] = []
    with held_up(email):
        assert oddjob.perform_many(email, seen.append, iter(range(50))) is None
        assert len(oddjob.queue(email)) == 50
    oddjob.shutdown_all(WAIT)
    assert seen == list(range(50))


def test_perform_many_reports_every_failure(
    email: str | oddjob.Pool, caplog: pytest.LogCaptureFixture
) -> None:
    """The second failure is reported as well."""
    oddjob.perform_many(email, [10, 20].index, [10, 11, 20, 21])
    oddjob.shutdown_all(WAIT)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ValueError] * 2


@pytest.mark.parametrize("verb", [oddjob.perform_many, oddjob.async_perform_many])
def test_a_batch_whose_items_cannot_all_be_read_queues_nothing(
    verb: Callable[..., Any], email: str | oddjob.Pool
) -> None:
    """Law 2: no half of a batch is sent twice when the caller tries again."""
    seen: list[int] = []

    def items() -> Iterator[int]:
        yield from range(5)
        raise OSError("the file ended early")

    with pytest.raises(OSError, match="ended early"):
        verb(email, seen.append, items())
    with pytest.raises(TypeError, match="not iterable"):
        verb(email, seen.append, 5)
    oddjob.shutdown_all(WAIT)
    assert seen == []


# async_perform and async_perform_many: jobs to wait for.


def test_async_perform_returns_the_job_of_the_call(email: str | oddjob.Pool) -> None:
    """Start now, read later."""
    job = oddjob.async_perform(email, everything, 1, "two", three=3)
    assert isinstance(job, oddjob.Job)
    assert job.pool is oddjob.pool("email")
    assert job.result(WAIT) == ((1, "two"), {"three": 3})


def test_async_perform_keeps_a_failure_for_the_caller(
    email: str | oddjob.Pool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is raised where the result is read, and not logged as well."""
    job = oddjob.async_perform(email, boom)
    with pytest.raises(KeyError, match="boom"):
        job.result(WAIT)
    oddjob.shutdown_all(WAIT)
    assert caplog.records == []


def test_async_perform_many_returns_a_job_for_every_item_in_order(
    email: str | oddjob.Pool,
) -> None:
    """`await_many` pairs the results with the items by their order."""
    with held_up(email):
        jobs = oddjob.async_perform_many(email, str, iter(range(50)))
        assert oddjob.queue(email) == jobs
    assert isinstance(jobs, list)
    assert [job.result(WAIT) for job in jobs] == [str(number) for number in range(50)]


def test_every_function_runs_coroutine_functions_to_their_end(email: str | oddjob.Pool) -> None:
    """An async client library is used from a pool like any other function."""
    ran: list[float] = []

    async def note(number: int) -> None:
        ran.append(await half(number))

    assert oddjob.async_perform(email, half, 3).result(WAIT) == 1.5
    jobs = oddjob.async_perform_many(email, half, [1, 2])
    assert oddjob.await_many(jobs, WAIT) == [0.5, 1.0]
    oddjob.perform(email, note, 10)
    oddjob.perform_many(email, note, [12, 14])
    oddjob.shutdown_all(WAIT)
    assert ran == [5.0, 6.0, 7.0]


# All of them: which pool, and what is wrong with the arguments.

VERBS: dict[str, Callable[..., Any]] = {
    "perform": lambda pool: oddjob.perform(pool, int),
    "perform_many": lambda pool: oddjob.perform_many(pool, int, ["1"]),
    "async_perform": lambda pool: oddjob.async_perform(pool, int),
    "async_perform_many": lambda pool: oddjob.async_perform_many(pool, int, ["1"]),
    "perform_this": lambda pool: oddjob.perform_this(pool)(int),
    "perform_this, async": lambda pool: oddjob.perform_this(pool, async_=True)(int),
    "workers": oddjob.workers,
    "queue": oddjob.queue,
    "supervisor": oddjob.supervisor,
    "pool": oddjob.pool,
}
EVERY_VERB = pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)


@EVERY_VERB
def test_an_unknown_name_is_not_found_and_the_known_ones_are_listed(
    verb: Callable[..., Any],
) -> None:
    """Whichever function it is passed to."""
    oddjob.Pool("email", 1)
    with pytest.raises(oddjob.PoolNotFound, match=r"no pool named 'emial'.*: 'email'$"):
        verb("emial")
    assert list(oddjob.pools()) == ["email"]


@EVERY_VERB
def test_the_name_of_a_closed_pool_is_closed(verb: Callable[..., Any]) -> None:
    """Law 6: it is not "not found"."""
    oddjob.Pool("email", 1).shutdown()
    with pytest.raises(oddjob.PoolClosed, match="'email'"):
        verb("email")


@EVERY_VERB
@pytest.mark.parametrize("junk", [3, b"email", ["email"]])
def test_anything_but_a_name_or_a_pool_is_a_type_error(
    verb: Callable[..., Any], junk: object
) -> None:
    """The arguments may be in the wrong order: the message shows what came first."""
    with pytest.raises(TypeError, match="a pool is given by its name or as a Pool, not "):
        verb(junk)
    assert oddjob.pools() == {}


@EVERY_VERB
def test_the_default_pool_is_there_for_every_function(verb: Callable[..., Any]) -> None:
    """The name "job" needs no configuration, whichever function comes first."""
    verb("job")
    assert list(oddjob.pools()) == ["job"]


@EVERY_VERB
def test_an_anonymous_pool_is_as_good_as_a_named_one(verb: Callable[..., Any]) -> None:
    """A Pool object needs no name."""
    with oddjob.Pool(None, 1) as pool:
        verb(pool)
    assert oddjob.pools() == {}


@pytest.mark.parametrize("verb", [name for name in VERBS if "perform" in name])
def test_a_closed_pool_object_accepts_no_jobs(verb: str) -> None:
    """It refuses them at once."""
    pool = oddjob.Pool("email", 1)
    pool.shutdown()
    with pytest.raises(oddjob.PoolClosed, match="cannot schedule new futures after shutdown"):
        VERBS[verb](pool)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: oddjob.perform("email"), "'fn'"),
        (lambda: oddjob.async_perform("email"), "'fn'"),
        (oddjob.perform, "'pool' and 'fn'"),
        (lambda: oddjob.perform_many("email", int), "'iterable'"),
        (lambda: oddjob.async_perform_many("email", int), "'iterable'"),
        (lambda: oddjob.perform(pool="email", fn=int), "positional"),
        (oddjob.perform_this, "'pool'"),
        (lambda: oddjob.perform_this("email", 1), "positional"),
        (oddjob.await_, "'job'"),
        (oddjob.await_many, "'jobs'"),
    ],
)
def test_a_missing_or_misplaced_argument_is_a_type_error_and_queues_nothing(
    call: Callable[[], Any], says: str
) -> None:
    """The mistake is seen at the call, not in a log much later."""
    oddjob.Pool("email", 1)
    with pytest.raises(TypeError, match=says):
        call()
    assert oddjob.supervisor("email").is_alive is False


# await_


def test_await_returns_what_the_job_returned(email: str | oddjob.Pool) -> None:
    """Elixir's `await`, with Python's results."""
    assert oddjob.await_(oddjob.async_perform(email, int, "3")) == 3


def test_await_raises_what_the_job_raised(email: str | oddjob.Pool) -> None:
    """The very exception, not a wrapper."""
    job = oddjob.async_perform(email, boom)
    with pytest.raises(KeyError) as caught:
        oddjob.await_(job)
    assert caught.value is job.exception()


def test_await_gives_up_after_its_timeout_and_the_job_goes_on(email: str | oddjob.Pool) -> None:
    """The end of the wait is not the end of the work."""
    with held_up(email) as job:
        for timeout in (0, 0.01, -1):
            with pytest.raises(TimeoutError):
                oddjob.await_(job, timeout)
        assert job.running()
    assert oddjob.await_(job, None) is True


@pytest.mark.parametrize("verb", [oddjob.await_, oddjob.await_many])
def test_a_wait_ends_after_five_seconds_by_default(verb: Callable[..., Any]) -> None:
    """The documented default, and Elixir's."""
    assert inspect.signature(verb).parameters["timeout"].default == 5.0


def test_await_raises_if_the_job_was_cancelled(email: str | oddjob.Pool) -> None:
    """It does not wait for the timeout first."""
    with held_up(email):
        job = oddjob.async_perform(email, int)
        assert job.cancel()
        with pytest.raises(CancelledError):
            oddjob.await_(job, None)


def test_await_takes_any_future_of_the_standard_library() -> None:
    """Programs move over one call at a time."""
    future: Future[int] = Future()
    with pytest.raises(TimeoutError):
        oddjob.await_(future, 0.01)
    future.set_result(3)
    assert oddjob.await_(future) == 3
    with ThreadPoolExecutor(1) as executor, pytest.raises(KeyError):
        oddjob.await_(executor.submit(boom))


@pytest.mark.parametrize("timeout", [math.inf, None, timedelta(seconds=WAIT), 10])
def test_a_timeout_may_be_infinite_or_a_timedelta(timeout: Any) -> None:
    """The same values that options take: `drain(math.inf)` works, so this does, too."""
    plain: Future[int] = Future()
    plain.set_result(1)
    with oddjob.Pool(None, 1) as pool:
        assert oddjob.await_(pool.submit(int, "3"), timeout) == 3
        assert oddjob.await_(plain, timeout) == 1
        assert oddjob.await_many([pool.submit(int, "3"), plain], timeout) == [3, 1]
        assert list(pool.map(abs, [-1, -2], timeout=timeout)) == [1, 2]
        pool.shutdown(timeout=timeout)
        assert pool.join(timeout)
        assert pool.drain(timeout).running == []
    assert oddjob.shutdown_all(timeout)


def test_a_timedelta_limits_a_wait() -> None:
    """`timedelta(milliseconds=10)` is ten milliseconds."""
    future: Future[int] = Future()
    with pytest.raises(TimeoutError):
        oddjob.await_(future, timedelta(milliseconds=10))
    with pytest.raises(TimeoutError):
        oddjob.await_many([future], timedelta(milliseconds=10))


# await_many


def test_await_many_returns_results_in_the_order_given_whatever_ends_first() -> None:
    """Results are paired with their questions by position."""
    second_ended = threading.Event()
    with oddjob.Pool(None, 2) as pool:
        first = pool.submit(lambda: second_ended.wait(WAIT) and "first")
        second = pool.submit(lambda: "second")
        second.add_done_callback(lambda _: second_ended.set())
        assert oddjob.await_many([first, second], WAIT) == ["first", "second"]
        assert oddjob.await_many([second, first]) == ["second", "first"]


def test_await_many_raises_a_failure_before_slower_jobs_have_ended() -> None:
    """If all of ten pages are needed, one that is missing is an error at once."""
    with oddjob.Pool(None, 2) as pool, held_up(pool) as slow:
        failing = pool.submit(boom)
        with pytest.raises(KeyError):
            oddjob.await_many([slow, failing], None)
        assert slow.running()


def test_await_many_raises_the_first_failure_in_the_order_given() -> None:
    """The same run gives the same error, whichever thread was faster."""
    futures: list[Future[int]] = [Future() for _ in range(4)]
    futures[3].set_exception(OSError("fourth"))
    futures[1].set_exception(KeyError("second"))
    futures[0].set_result(1)
    futures[2].set_result(3)
    with pytest.raises(KeyError, match="second"):
        oddjob.await_many(futures)
    with pytest.raises(OSError, match="fourth"):
        oddjob.await_many(reversed(futures))


def test_await_many_raises_the_first_failure_in_the_order_given_while_others_go_on() -> None:
    """The same where jobs before, between and after have not ended."""
    futures: list[Future[int]] = [Future() for _ in range(5)]
    futures[3].set_exception(OSError("fourth"))
    futures[1].set_exception(KeyError("second"))
    with pytest.raises(KeyError, match="second"):
        oddjob.await_many(futures, None)


def test_the_timeout_of_await_many_tells_how_many_are_missing_and_they_go_on() -> None:
    """It is a deadline for all; the missing ones are not thrown away."""
    with oddjob.Pool(None, 2) as pool:
        with held_up(pool) as slow, held_up(pool) as slower:
            done = oddjob.Pool("other", 1).submit(int)
            done.result(WAIT)
            for timeout in (0, 0.01, -1):
                with pytest.raises(TimeoutError, match="2 of 3 jobs had not ended in time"):
                    oddjob.await_many([done, slow, slower], timeout)
            assert slow.running()
            assert slower.running()
        assert oddjob.await_many([done, slow, slower], None) == [0, True, True]


def test_the_timeout_of_await_many_is_for_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten jobs and 5 seconds are 5 seconds; what was spent running one here counts."""
    clock = SimpleNamespace(now=100.0)
    asked: list[float | None] = []
    wait = verbs.wait

    def asking(jobs: Any, timeout: float | None, **how: Any) -> Any:
        asked.append(timeout)
        return wait(jobs, WAIT, **how)

    monkeypatch.setattr(verbs, "clock", SimpleNamespace(steady=lambda: clock.now))
    monkeypatch.setattr(verbs, "wait", asking)

    def take(seconds: float) -> float:
        clock.now += seconds
        return seconds

    with oddjob.Pool(None, 1) as pool:

        def outer(timeout: float | None) -> list[float]:
            return oddjob.await_many(pool.submit_many(take, [1.0, 2.0]), timeout)

        assert pool.submit(outer, 5.0).result(WAIT) == [1.0, 2.0]
        assert pool.submit(outer, None).result(WAIT) == [1.0, 2.0]
    assert asked == [2.0, None]


def test_await_many_raises_if_a_job_was_cancelled() -> None:
    """Without its result there is no list of all results."""
    with oddjob.Pool(None, 1) as pool:
        with held_up(pool) as first:
            second = pool.submit(int)
            second.cancel()
        with pytest.raises(CancelledError):
            oddjob.await_many([first, second], WAIT)


def test_await_many_reports_a_cancelled_job_rather_than_the_timeout() -> None:
    """Waiting longer would not have helped."""
    with oddjob.Pool(None, 1) as pool, held_up(pool) as slow:
        cancelled = pool.submit(int)
        cancelled.cancel()
        with pytest.raises(CancelledError):
            oddjob.await_many([slow, cancelled], 0.01)


def test_await_many_takes_jobs_and_futures_mixed_from_any_iterable() -> None:
    """Programs move over one call at a time, and write generators."""
    future: Future[int] = Future()
    with ThreadPoolExecutor(1) as executor, oddjob.Pool(None, 1) as pool:
        mixed = [executor.submit(int, "1"), pool.submit(int, "2"), future]
        future.set_result(3)
        assert oddjob.await_many((each for each in mixed), WAIT) == [1, 2, 3]
        with pytest.raises(KeyError):
            oddjob.await_many([Future(), executor.submit(boom)], None)


def test_await_many_of_nothing_is_an_empty_list() -> None:
    """A batch may turn out to be empty."""
    assert oddjob.await_many([]) == []
    assert oddjob.await_many([], None) == []


def test_await_many_of_one_job_twice_has_its_result_twice(email: str | oddjob.Pool) -> None:
    """Results are in the places of their jobs."""
    one, other = oddjob.async_perform(email, int, "1"), oddjob.async_perform(email, int, "2")
    assert oddjob.await_many([one, other, one], WAIT) == [1, 2, 1]


# Waiting on a worker of the same pool.


@pytest.mark.parametrize("timeout", [WAIT, None])
def test_waiting_for_jobs_of_the_same_pool_of_one_worker_comes_to_an_end(
    email: str | oddjob.Pool, timeout: float | None
) -> None:
    """No deadlock: a job may fan out into the pool that it runs in, to any depth."""

    def count_leaves(depth: int) -> int:
        if depth == 0:
            return 1
        jobs = oddjob.async_perform_many(email, count_leaves, [depth - 1] * 3)
        extra = oddjob.async_perform(email, count_leaves, 0)
        return sum(oddjob.await_many(jobs, timeout)) + oddjob.await_(extra, timeout)

    assert oddjob.async_perform(email, count_leaves, 3).result(WAIT) == 40


@pytest.mark.parametrize("ended", [False, True], ids=["fails here", "had failed before"])
def test_await_many_on_a_worker_raises_a_failure_before_it_runs_the_other_jobs(ended: bool) -> None:
    """Hours of work are not done in vain before the error is seen."""
    ran: list[str] = []
    with oddjob.Pool(None, 1) as pool:

        def outer() -> list[str]:
            failing = pool.submit(boom)
            jobs = [failing, pool.submit(ran.append, "later")]
            if ended:
                failing.exception()
                jobs.reverse()
            with pytest.raises(KeyError):
                oddjob.await_many(jobs, None)
            return list(ran)

        assert pool.submit(outer).result(WAIT) == []
    assert ran == ["later"]


def test_a_wait_without_any_time_starts_no_job_on_a_worker() -> None:
    """A timeout of 0 looks whether results are there, and does no work."""
    ran: list[str] = []
    with oddjob.Pool(None, 1) as pool:

        def outer() -> list[str]:
            job = pool.submit(ran.append, "later")
            with pytest.raises(TimeoutError):
                oddjob.await_(job, 0)
            with pytest.raises(TimeoutError):
                oddjob.await_many([job], 0)
            return list(ran)

        assert pool.submit(outer).result(WAIT) == []
    assert ran == ["later"]


# perform_this


def test_perform_this_runs_the_body_once_in_the_pool(email: str | oddjob.Pool) -> None:
    """The block form: the body runs in a worker, now."""
    threads: list[str] = []

    @oddjob.perform_this(email)
    def body() -> None:
        threads.append(threading.current_thread().name)

    assert body is None
    oddjob.shutdown_all(WAIT)
    assert threads == ["email_0"]


def test_perform_this_reports_the_failure_of_its_body(
    email: str | oddjob.Pool, caplog: pytest.LogCaptureFixture
) -> None:
    """Fire and forget, like `perform`: under the name of the body."""

    @oddjob.perform_this(email)
    def greet_everybody() -> None:
        raise KeyError("nobody there")

    oddjob.shutdown_all(WAIT)
    (record,) = caplog.records
    assert "greet_everybody" in record.getMessage()
    assert record.exc_info
    assert record.exc_info[0] is KeyError


def test_perform_this_with_async_binds_the_name_to_the_job(email: str | oddjob.Pool) -> None:
    """The name of the body is where its result is read."""

    @oddjob.perform_this(email, async_=True)
    def answer() -> tuple[str, int]:
        return threading.current_thread().name, 42

    @oddjob.perform_this(email, async_=True)
    async def later() -> float:
        return await half(3)

    assert isinstance(answer, oddjob.Job)
    assert oddjob.await_(answer, WAIT) == ("email_0", 42)
    assert oddjob.await_(later, WAIT) == 1.5
    assert answer.name.endswith("answer")


def test_perform_this_keeps_the_failure_of_its_body_for_the_reader(
    email: str | oddjob.Pool, caplog: pytest.LogCaptureFixture
) -> None:
    """With `async_=True` the result is read, so nothing is logged."""
    job = oddjob.perform_this(email, async_=True)(boom)
    assert job is not None
    with pytest.raises(KeyError):
        job.result(WAIT)
    oddjob.shutdown_all(WAIT)
    assert caplog.records == []


# Snapshots.


def test_workers_shows_what_each_worker_is_doing(email: str | oddjob.Pool) -> None:
    """If nothing moves, the snapshot shows which jobs occupy the workers."""
    assert oddjob.workers(email) == []
    with held_up(email) as job:
        (worker,) = oddjob.workers(email)
        assert isinstance(worker, oddjob.WorkerInfo)
        assert worker.name == "email_0"
        assert worker.state == "running"
        assert worker.job is job
        assert worker.ident in {
            thread.ident for thread in threading.enumerate() if thread.name == "email_0"
        }
    spin_until(lambda: oddjob.workers(email)[0].job is None)
    assert oddjob.workers(email)[0].state == "idle"
    assert worker.state == "running"  # a snapshot stays as it was


def test_workers_shows_every_worker_of_its_pool_alone() -> None:
    """The workers of two pools are not mixed up."""
    email, report = oddjob.Pool("email", 2), oddjob.Pool("report", 1)
    with held_up(email) as one, held_up(email) as two, held_up(report) as three:
        assert [worker.job for worker in oddjob.workers("email")] == [one, two]
        assert [worker.name for worker in oddjob.workers("email")] == ["email_0", "email_1"]
        assert [worker.job for worker in oddjob.workers("report")] == [three]


def test_queue_shows_queued_jobs_in_the_order_in_which_they_will_start(
    email: str | oddjob.Pool,
) -> None:
    """Running and cancelled jobs are not among them."""
    assert oddjob.queue(email) == []
    with held_up(email):
        jobs = [oddjob.async_perform(email, int), *oddjob.async_perform_many(email, int, "123")]
        assert jobs[2].cancel()
        assert oddjob.queue(email) == [jobs[0], jobs[1], jobs[3]]
        snapshot = oddjob.queue(email)
        snapshot.clear()
        assert len(oddjob.queue(email)) == 3
    assert jobs[3].result(WAIT) == 3
    assert oddjob.queue(email) == []


def test_queue_shows_fire_and_forget_jobs_too(email: str | oddjob.Pool) -> None:
    """They are most of what a pool does."""
    with held_up(email):
        oddjob.perform(email, boom.__class__, boom.__code__, {})
        oddjob.perform_many(email, int, ["1", "2"])
        assert [job.state for job in oddjob.queue(email)] == ["queued"] * 3
        assert [job.name for job in oddjob.queue(email)] == ["function", "int", "int"]


def test_supervisor_shows_its_limits_and_whether_it_is_alive() -> None:
    """A status page tells an unused pool from one that watches its workers."""
    pool = oddjob.Pool("email", 1, max_restarts=7, max_seconds=60)
    for address in ("email", pool):
        before = oddjob.supervisor(address)
        assert isinstance(before, oddjob.SupervisorInfo)
        assert before == ("email-supervisor", None, False, 7, 60, 0, 0)
    pool.submit(int).result(WAIT)
    for address in ("email", pool):
        now = oddjob.supervisor(address)
        threads = {thread.name: thread.ident for thread in threading.enumerate()}
        assert now == ("email-supervisor", threads["email-supervisor"], True, 7, 60, 0, 0)


def test_supervisor_counts_the_crashes_it_has_seen(caplog: pytest.LogCaptureFixture) -> None:
    """Workers that keep crashing are visible before the pool breaks."""
    pool = oddjob.Pool("email", 1)
    with pytest.raises(SystemExit):
        pool.submit(exit_now).result(WAIT)
    assert pool.submit(int).result(WAIT) == 0
    spin_until(lambda: oddjob.supervisor("email").crashes == 1)
    oddjob.shutdown_all(WAIT)
    assert "pool email: worker email_0 crashed and was replaced" in caplog.text


def exit_now() -> None:
    raise SystemExit


def test_without_a_name_the_default_pool_is_shown() -> None:
    """And not just any pool."""
    oddjob.configure({"default_pool": "work", "max_restarts": 8, "extra_pools": ["email"]})
    work, email = oddjob.pool("work"), oddjob.pool("email")
    with held_up(work) as shown, held_up(email):
        assert [worker.job for worker in oddjob.workers()] == [shown]
        assert [worker.job for worker in oddjob.workers(None)] == [shown]
        assert oddjob.supervisor().name == oddjob.supervisor(None).name == "work-supervisor"
        assert oddjob.queue() == oddjob.queue(None) == []
        for _ in range(work.pool_size):
            work.perform(int)
        assert oddjob.queue("email") == []
