"""What imaginary users write, and the types that they rely on.

`mypy --strict` and pyright must agree with it. Each function is a promise of its own;
tests/unit/test_typing.py checks them one by one.
"""

import datetime as dt
import functools
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed, wait
from typing import Any, Literal, TypeVar, Unpack, assert_type

from typing_extensions import ReadOnly, TypedDict

import oddjob
from oddjob import Job, JobFunction, Pool

pool = Pool("email", 3)
Item = TypeVar("Item")


def send(to: str, *, copies: int = 1) -> bool:
    return bool(to) and copies > 0


def add(one: int, other: int) -> int:
    return one + other


async def fetch(url: str, *, limit: int = 1) -> bytes:
    return url.encode()[:limit]


async def steps_know_what_their_function_returns(job: Job[Any]) -> None:
    assert_type(job.step("send", send, "you", copies=2), bool)
    assert_type(await job.step("fetch", fetch, "url", limit=3), bytes)


def transactions_are_on_connections_of_the_standard_library(job: Job[Any]) -> None:
    with job.transaction() as connection:
        assert_type(connection, sqlite3.Connection)
        assert_type(pool.using(connection).submit(send, "you"), Job[bool])
        assert_type(pool.job(send).using(connection).submit("you"), Job[bool])


def submit_knows_the_result_of_a_function() -> None:
    job = pool.submit(send, "you", copies=2)
    assert_type(job, Job[bool])
    assert_type(job.result(), bool)
    assert_type(job.result(timeout=1.5), bool)
    assert_type(job.exception(), BaseException | None)
    assert_type(pool.submit(lambda: 3), Job[int])
    assert_type(pool.submit(int, "3"), Job[int])
    assert_type(pool.submit(functools.partial(send, copies=2), "you"), Job[bool])


def submit_knows_the_result_of_an_async_function() -> None:
    job = pool.submit(fetch, "url", limit=3)
    assert_type(job, Job[bytes])
    assert_type(job.result(), bytes)


def submit_many_knows_the_results_of_a_function() -> None:
    assert_type(pool.submit_many(send, ["you"]), list[Job[bool]])


def submit_many_knows_the_results_of_an_async_function() -> None:
    assert_type(pool.submit_many(fetch, ["url"]), list[Job[bytes]])


def map_knows_the_results_of_a_function() -> None:
    assert_type(pool.map(send, ["you"]), Iterator[bool])
    assert_type(pool.map(add, [2], [3], timeout=1.5, chunksize=2), Iterator[int])
    assert_type(pool.map(send, ["you"], timeout=1, buffersize=3), Iterator[bool])


def map_knows_the_results_of_an_async_function() -> None:
    assert_type(pool.map(fetch, ["url"]), Iterator[bytes])
    assert_type(pool.map(add, [2], [3], ordered=False, progress="sums"), Iterator[int])
    assert_type(pool.map(add, [2], [3], return_exceptions=True), Iterator[Any])
    assert_type(pool.starmap(add, [(2, 3)]), Iterator[int])
    assert_type(pool.starmap(fetch, [("url",)], buffersize=3), Iterator[bytes])


def perform_takes_the_arguments_of_the_function() -> None:
    pool.perform(send, "you", copies=2)
    pool.perform(fetch, "url")
    pool.perform_many(send, ["you"])
    pool.perform_many(fetch, ["url"])


def a_view_of_a_pool_is_typed_like_the_pool() -> None:
    view = pool.options(name="greeting")
    assert_type(view.submit(send, "you"), Job[bool])
    assert_type(view.submit(fetch, "url"), Job[bytes])
    assert_type(view.submit_many(send, ["you"]), list[Job[bool]])
    view.perform(send, "you")


async def a_pool_ends_in_a_coroutine() -> None:
    async with Pool("email", 3) as pool:
        assert_type(pool, Pool)
        assert_type(await pool.adrain(timeout=5), oddjob.DrainReport)
        await pool.options(priority=1).ashutdown(wait=True, cancel_futures=True, timeout=None)


async def a_job_is_awaited_for_its_result() -> None:
    assert_type(await pool.submit(send, "you"), bool)
    assert_type(await pool.submit(fetch, "url"), bytes)


def a_job_is_a_future_and_a_pool_is_an_executor() -> None:
    def standard(
        executor: Executor, thread_pool: ThreadPoolExecutor, futures: list[Future[bool]]
    ) -> None:
        assert_type(executor.submit(send, "you"), Future[bool])
        assert_type(thread_pool.submit(send, "you"), Future[bool])
        assert_type(next(as_completed(futures)).result(), bool)
        wait(futures)

    standard(pool, pool, [pool.submit(send, "you")])
    with Pool(None, 2) as anonymous:
        assert_type(anonymous, Pool)
    job = pool.submit(send, "you")
    job.add_done_callback(lambda done: done.result())
    assert_type(job.name, str)
    assert_type(job.id, str)
    assert_type(job.cancel(), bool)


class Tracing(oddjob.Middleware):
    def submit(self, job: Job[Any], carrier: dict[str, str]) -> None:
        carrier["trace"] = job.id


def every_way_to_create_a_pool_is_typed() -> None:
    def on_error(job: Job[Any], error: BaseException) -> None:
        raise RuntimeError(job.name) from error

    Pool()
    Pool(3)
    Pool(3, "prefix")
    Pool(max_workers=3)
    Pool("report", 3, print, ("hello",))
    Pool(
        "thumbnails",
        pool_size=3,
        max_restarts=0,
        max_seconds=1.5,
        initializer=print,
        initargs=("hello",),
        thread_name_prefix="t",
        on_error=on_error,
        timeout=dt.timedelta(minutes=1),
        middleware=[Tracing()],
    )
    assert_type(pool.name, str | None)
    assert_type(pool.pool_size, int)


@pool.job
def greet(to: str, *, copies: int = 1) -> bool:
    return send(to, copies=copies)


@pool.job(name="greeting")
def greet_by_name(to: str, *, copies: int = 1) -> bool:
    return send(to, copies=copies)


@pool.job
async def download(url: str, *, limit: int = 1) -> bytes:
    return await fetch(url, limit=limit)


@pool.job(name="download")
async def download_by_name(url: str, *, limit: int = 1) -> bytes:
    return await fetch(url, limit=limit)


def a_decorated_function_is_called_with_its_own_types() -> None:
    assert_type(greet("you", copies=2), bool)
    assert_type(greet_by_name("you"), bool)
    as_callable: Callable[[str], bool] = greet
    as_callable("you")
    assert_type(greet.__name__, str)
    greet.__wrapped__("you", copies=3)


async def a_decorated_async_function_is_awaited_with_its_own_types() -> None:
    assert_type(await download("url", limit=2), bytes)
    assert_type(await download_by_name("url"), bytes)
    as_callable: Callable[[str], Coroutine[Any, Any, bytes]] = download
    await as_callable("url")


def a_decorated_function_is_submitted_with_its_own_types() -> None:
    assert_type(greet.submit("you", copies=2), Job[bool])
    assert_type(greet.submit("you").result(), bool)
    assert_type(greet_by_name.submit("you", copies=2), Job[bool])
    assert_type(greet.submit_many(["you"]), list[Job[bool]])
    assert_type(greet.map(["you"]), Iterator[bool])
    assert_type(greet.map(["you"], timeout=1, chunksize=2, buffersize=3), Iterator[bool])
    greet.perform("you", copies=2)
    greet.perform_many(["you"])


def a_decorated_async_function_is_submitted_with_its_own_types() -> None:
    assert_type(download.submit("url", limit=2), Job[bytes])
    assert_type(download.submit("url").result(), bytes)
    assert_type(download_by_name.submit("url", limit=2), Job[bytes])
    assert_type(download.submit_many(["url"]), list[Job[bytes]])
    assert_type(download.map(["url"]), Iterator[bytes])
    assert_type(download.starmap([("url",)]), Iterator[bytes])
    assert_type(greet.starmap([("you",)], return_exceptions=True), Iterator[Any])
    download.perform("url")
    download.perform_many(["url"])


def options_keep_the_types_of_the_function() -> None:
    assert_type(greet.options(name="urgent").submit("you", copies=2), Job[bool])
    assert_type(greet.options(name="urgent")("you"), bool)
    assert_type(download.options(name="urgent").submit("url"), Job[bytes])


def a_decorator_on_a_view_keeps_the_types_of_the_function() -> None:
    assert_type(pool.options(name="x").job(send).submit("you", copies=2), Job[bool])
    assert_type(pool.options(name="x").job(fetch).submit("url"), Job[bytes])


def a_job_function_can_be_named_in_a_signature() -> None:
    def use(function: JobFunction[[str], bool]) -> Job[bool]:
        return function.submit("you")

    def use_any(function: JobFunction) -> Job:
        return function.submit("you")

    def use_async(function: JobFunction[[str], Coroutine[Any, Any, bytes]]) -> Job[bytes]:
        return function.submit("url")

    def plain(to: str) -> bool:
        return bool(to)

    async def load(url: str) -> bytes:
        return url.encode()

    assert_type(use(pool.job(plain)), Job[bool])
    use_any(pool.job(plain))
    assert_type(use_async(pool.job(load)), Job[bytes])


def a_job_can_be_named_in_a_signature() -> None:
    def name_of(job: Job) -> str:
        return job.name

    def result_of(job: Job[bool]) -> bool:
        return job.result()

    assert_type(name_of(pool.submit(send, "you")), str)
    assert_type(result_of(pool.submit(send, "you")), bool)


class Mailer:
    """A class with methods in every form that is decorated."""

    def __init__(self, sender: str) -> None:
        self.sender = sender

    @pool.job
    def send(self, to: str, *, copies: int = 1) -> bool:
        return send(to, copies=copies)

    @pool.job(name="named")
    def send_by_name(self, to: str) -> bool:
        return send(to)

    @pool.job
    async def fetch(self, url: str) -> bytes:
        return await fetch(url)

    @pool.job
    @staticmethod
    def static(to: str) -> bool:
        return send(to)

    def send_twice(self, to: str) -> list[Job[bool]]:
        return [self.send.submit(to), self.send.submit(to, copies=2)]


def a_decorated_method_is_bound_and_keeps_its_types() -> None:
    mailer = Mailer("me")
    assert_type(mailer.send("you", copies=2), bool)
    assert_type(mailer.send.submit("you", copies=2), Job[bool])
    assert_type(mailer.send_by_name.submit("you"), Job[bool])
    assert_type(mailer.send.map(["you"]), Iterator[bool])
    assert_type(mailer.send.submit_many(["you"]), list[Job[bool]])
    assert_type(mailer.send.options(name="urgent").submit("you"), Job[bool])
    assert_type(mailer.send_twice("you"), list[Job[bool]])
    assert_type(Mailer.send.submit(mailer, "you", copies=2), Job[bool])
    assert_type(Mailer.send(mailer, "you"), bool)


async def a_decorated_async_method_is_bound_and_keeps_its_types() -> None:
    mailer = Mailer("me")
    assert_type(await mailer.fetch("url"), bytes)
    assert_type(mailer.fetch.submit("url"), Job[bytes])
    assert_type(await mailer.fetch.submit("url"), bytes)


def a_decorated_static_method_keeps_its_types_on_the_class() -> None:
    assert_type(Mailer.static("you"), bool)
    assert_type(Mailer.static.submit("you"), Job[bool])


@pool.job
def first(items: list[Item]) -> Item:
    return items[0]


@pool.job(name="last")
async def last(items: list[Item]) -> Item:
    return items[-1]


@pool.job
def load(text: str) -> Any:
    return text


class Shelf:
    """A class with methods whose results are of any type."""

    @pool.job
    def pick(self, items: list[Item]) -> Item:
        return items[0]

    @pool.job
    def load(self, text: str) -> Any:
        return text


async def a_decorated_generic_function_stays_generic() -> None:
    assert_type(first([1]), int)
    assert_type(first.submit([1]), Job[int])
    assert_type(first.after(1).submit(["a"]), Job[str])
    assert_type(await first.submit(["a"]), str)
    assert_type(await last([1]), int)
    assert_type(last.submit([1]), Job[int])
    assert_type(Shelf().pick([1]), int)
    assert_type(Shelf().pick.submit(["a"]), Job[str])


def a_decorated_function_that_returns_anything_is_no_async_function() -> None:
    load("text")  # no coroutine, which would have to be awaited
    assert_type(load("text"), Any)
    assert_type(load.submit("text").result(), Any)
    assert_type(Shelf().load("text"), Any)
    assert_type(Shelf().load.submit("text").result(), Any)


def module_level_functions_know_the_results_of_a_function() -> None:
    for where in ("email", pool):
        oddjob.perform(where, send, "you", copies=2)
        oddjob.perform_many(where, send, ["you"])
        assert_type(oddjob.async_perform(where, send, "you", copies=2), Job[bool])
        assert_type(oddjob.async_perform_many(where, send, ["you"]), list[Job[bool]])


def module_level_functions_know_the_results_of_an_async_function() -> None:
    for where in ("email", pool):
        oddjob.perform(where, fetch, "url", limit=2)
        oddjob.perform_many(where, fetch, ["url"])
        assert_type(oddjob.async_perform(where, fetch, "url", limit=2), Job[bytes])
        assert_type(oddjob.async_perform_many(where, fetch, ["url"]), list[Job[bytes]])


def await_knows_what_it_waits_for() -> None:
    plain: Future[int] = Future()
    assert_type(oddjob.await_(pool.submit(send, "you")), bool)
    assert_type(oddjob.await_(pool.submit(fetch, "url"), timeout=None), bytes)
    assert_type(oddjob.await_(greet.submit("you"), 1.5), bool)
    assert_type(oddjob.await_(plain), int)


def await_many_knows_what_it_waits_for() -> None:
    plain: list[Future[int]] = [Future()]
    assert_type(oddjob.await_many(pool.submit_many(send, ["you"])), list[bool])
    assert_type(oddjob.await_many([pool.submit(fetch, "url")], timeout=None), list[bytes])
    assert_type(oddjob.await_many(greet.submit(to) for to in ("a", "b")), list[bool])
    assert_type(oddjob.await_many(plain, 1.5), list[int])


def perform_this_runs_a_body() -> None:
    @oddjob.perform_this("email")
    def body() -> None:
        send("elsewhere")

    @oddjob.perform_this(pool)
    def number() -> int:
        return 3


def perform_this_with_async_is_the_job_of_the_body() -> None:
    @oddjob.perform_this("email", async_=True)
    def number() -> int:
        return 3

    assert_type(number, Job[int])
    assert_type(oddjob.await_(number), int)


def perform_this_with_async_is_the_job_of_an_async_body() -> None:
    @oddjob.perform_this(pool, async_=True)
    async def number() -> int:
        return 3

    assert_type(number, Job[int])


def snapshots_are_typed() -> None:
    worker = oddjob.workers("email")[0]
    assert_type(worker.name, str)
    assert_type(worker.ident, int | None)
    assert_type(worker.state, str)
    assert_type(oddjob.queue(pool), list[Job[Any]])
    assert_type(oddjob.supervisor().crashes, int)
    assert_type(oddjob.supervisor("email").max_seconds, float)
    assert_type(oddjob.pool(), Pool)
    assert_type(oddjob.pool("email"), Pool)
    assert_type(oddjob.pools(), dict[str, Pool])


def what_a_pool_reports_is_typed() -> None:
    def observe(event: oddjob.PoolEvent) -> None:
        assert_type(event.pool, str)
        assert_type(event.error, BaseException | None)

    with Pool("observed", timeout=3, on_event=observe) as observed:
        assert_type(observed.stats().run_time.p99, float)
        assert_type(observed.stats().queued, int)
        assert_type(observed.drain(2.5), oddjob.DrainReport)
        assert_type(observed.drain().running, list[Job[Any]])


async def a_group_is_typed_like_its_pool() -> None:
    with pool.group() as group:
        assert_type(group.submit(fetch, "a"), Job[bytes])
        assert_type(group.submit_many(fetch, ["a"]), list[Job[bytes]])
    async with pool.options(timeout=5).group() as group:
        assert_type(group.submit(fetch, "a"), Job[bytes])


def limits_are_options() -> None:
    urgent = pool.options(priority=5, key="a", key_limit=2, serial=False, max_concurrency=3)
    assert_type(urgent.submit(fetch, "a"), Job[bytes])
    tried = pool.options(
        rate="100/minute", retries=3, backoff=oddjob.Backoff(0.5), retry_on=OSError
    )
    assert_type(
        tried.options(rate=oddjob.Rate(5), no_retry_on=(KeyError,)).submit(fetch, "a"), Job[bytes]
    )

    def key_of(url: str) -> str:
        return url

    def is_temporary(error: BaseException) -> bool:
        return "503" in str(error)

    assert_type(
        tried.options(key=key_of, backoff=[1, 2.5]).submit_many(fetch, ["a"]),
        list[Job[bytes]],
    )
    tried.options(retry_on=is_temporary, backoff=dt.timedelta(seconds=1), timeout=dt.timedelta(1))
    tried.options(middleware=[Tracing()])
    bounded = Pool(
        "bounded", max_queue=10, when_full="caller_runs", submit_timeout=1, priority_aging=5
    )
    assert_type(bounded.map(fetch, ["a"], progress=True), Iterator[bytes])


async def waiting_for_room_is_typed_like_submit() -> None:
    assert_type(await pool.asubmit(fetch, "a"), Job[bytes])


def a_job_finds_itself() -> None:
    job = oddjob.current_job()
    if job is not None:
        job.report(1, 2, note="half")
        assert_type(job.progress, oddjob.Progress | None)
        assert_type(job.deadline, float | None)
        assert_type(job.cancel_requested, bool)
        assert_type(job.attempt, int)
    for each in oddjob.progress([pool.submit(fetch, "a")], title="fetching"):
        assert_type(each, Job[bytes])


def settings_are_a_plain_dict() -> None:
    settings: Mapping[str, object] = {"pool_size": 10, "extra_pools": ["email"]}
    oddjob.configure(settings)
    oddjob.configure(
        {
            "default_pool": False,
            "extra_pools": ["email", {"external_app": {"pool_size": 10, "max_restarts": 2}}],
        }
    )
    assert_type(oddjob.start_pool("report", pool_size=3), Pool)
    assert_type(oddjob.start_pool("report", pool_size=3, exist_ok=True, replace=True), Pool)
    assert_type(oddjob.shutdown_all(1.5), bool)


def settings_may_be_declared_as_such() -> None:
    settings: oddjob.Settings = {
        "default_pool": False,
        "pool_size": 10,
        "when_full": "raise",
        "timeout": dt.timedelta(minutes=1),
        "extra_pools": ["email", {"app": {"pool_size": 2, "timeout": None}, "other": None}],
    }
    oddjob.configure(settings)
    app: oddjob.PoolSettings = {"pool_size": 2, "max_restarts": 5}
    oddjob.configure({"extra_pools": {"app": app}})
    oddjob.configure(oddjob.Settings(pool_size=2))


def options_can_be_passed_on_by_functions_of_ones_own() -> None:
    def service_pool(name: str, **options: Unpack[oddjob.PoolArguments]) -> Pool:
        oddjob.start_pool(name, **options)
        return Pool(name, **options)

    def enqueue(to: str, **options: Unpack[oddjob.JobOptions]) -> Job[bool]:
        greet.options(**options).perform(to)
        return pool.options(**options).submit(send, to)

    class Urgent(oddjob.JobOptions, total=False):
        pass

    class Narrow(TypedDict, total=False, closed=True):
        priority: Literal[1, 2]
        retries: ReadOnly[int]

    urgent: Urgent = {"priority": 10, "key": "a"}
    narrow: Narrow = {"priority": 2}
    as_options: oddjob.JobOptions = narrow
    pool.options(**as_options)
    assert_type(service_pool("api", pool_size=3, retries=2), Pool)
    assert_type(enqueue("you", priority=3, retries=2), Job[bool])
    assert_type(enqueue("you", **urgent), Job[bool])


def every_error_is_an_oddjob_error_and_a_standard_one() -> None:
    errors: list[type[oddjob.OddJobError]] = [
        oddjob.PoolBroken,
        oddjob.PoolClosed,
        oddjob.PoolNameTaken,
        oddjob.PoolNotFound,
        oddjob.SettingsError,
    ]
    standard: list[type[RuntimeError | ValueError | LookupError]] = [
        *(oddjob.PoolBroken, oddjob.PoolClosed),
        *(oddjob.PoolNameTaken, oddjob.SettingsError),
        oddjob.PoolNotFound,
    ]
    assert len(errors) == len(standard)


async def jobs_can_be_awaited_side_by_side() -> AsyncIterator[bytes]:
    for job in pool.submit_many(fetch, ["a", "b"]):
        yield await job


def delayed_calls_have_jobs_or_a_timer() -> None:
    assert_type(pool.after(5).submit(send, "you"), Job[bool])
    assert_type(pool.after(5).submit(fetch, "url"), Job[bytes])
    assert_type(pool.after(5).perform(send, "you"), oddjob.Timer)
    assert_type(pool.at(dt.time(7)).submit_many(send, ["you"]), list[Job[bool]])
    assert_type(pool.at(dt.datetime.now(dt.UTC)).submit_many(fetch, ["u"]), list[Job[bytes]])
    assert_type(pool.after(dt.timedelta(hours=1)), oddjob.Delayed)
    assert_type(greet.after(5, daemon=False).submit("you"), Job[bool])
    assert_type(greet.at(dt.time(7), dst="skip").perform("you"), oddjob.Timer)
    assert_type(greet.after(5).submit_many(["you"]), list[Job[bool]])


def recurring_calls_have_a_timer() -> None:
    assert_type(pool.every(60), oddjob.Recurring)
    timer = pool.every(60).submit(send, "you")
    assert_type(timer, oddjob.Timer)
    assert_type(pool.cron("30 1 * * *", tz="UTC").perform(send, "you"), oddjob.Timer)
    assert_type(greet.every(60, overlap=True).perform("you"), oddjob.Timer)
    assert_type(timer.remaining(), float | Literal[False])
    assert_type(timer.cancel(), float | Literal[False])
    assert_type(timer.next, dt.datetime | None)


def functions_for_timers() -> None:
    timer = oddjob.perform_after(5, "email", send, "you")
    assert_type(timer, oddjob.Timer)
    assert_type(oddjob.perform_at(dt.time(7), pool, send, "you"), oddjob.Timer)
    assert_type(oddjob.perform_many_after(5, pool, send, ["you"]), oddjob.Timer)
    assert_type(oddjob.read_timer(timer), float | Literal[False])
    assert_type(oddjob.cancel_timer(timer), float | Literal[False])

    @oddjob.perform_this("email", after=5)
    def later() -> None: ...

    assert_type(later, oddjob.Timer)

    @oddjob.perform_this("email", at=dt.time(7), async_=True)
    def number() -> int:
        return 3

    assert_type(number, Job[int])


def a_decorated_function_that_recurs_is_typed() -> None:
    @pool.job(every=60)
    def beat() -> None: ...

    @pool.job(cron="30 1 * * *", tz="Europe/Berlin", dst="run_once", name="nightly")
    def nightly() -> int:
        return 1

    @pool.job(every=dt.timedelta(minutes=5), overlap=True, daemon=False)
    def tick() -> None: ...

    @pool.job(cron="@daily", catch_up=False, overlap=False, daemon=True, key="reports")
    def report() -> None: ...

    assert_type(beat.timer, oddjob.Timer | None)
    assert_type(nightly.submit(), Job[int])
