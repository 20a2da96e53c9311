"""Middleware: code around every job of a pool or view."""

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

import pytest

import oddjob
from oddjob import Job, Middleware, Pool
from tests.hang import WAIT


class Tracer:
    """Middleware that writes down its calls; it need not derive from `Middleware`."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self.name = name
        self.seen = seen

    def submit(self, job: Job[Any], carrier: dict[str, str]) -> None:
        carrier[self.name] = f"{job.name} of {self.name}"
        self.seen.append(f"{self.name} submit {job.state}")

    def run(self, job: Job[Any], carrier: dict[str, str], call: Callable[[], Any]) -> Any:
        self.seen.append(f"{self.name} before {carrier[self.name]}")
        try:
            return call()
        finally:
            self.seen.append(f"{self.name} after")


def test_the_first_middleware_is_the_outermost_and_those_of_a_view_are_inside() -> None:
    seen: list[str] = []
    with Pool(1, middleware=[Tracer("outer", seen)]) as pool:
        view = pool.options(middleware=[Tracer("inner", seen)])
        assert view.submit(abs, -3).result(WAIT) == 3
        assert seen == [
            "outer submit queued",
            "inner submit queued",
            "outer before abs of outer",
            "inner before abs of inner",
            "inner after",
            "outer after",
        ]
        seen.clear()
        assert pool.submit(abs, -4).result(WAIT) == 4
        assert [each for each in seen if "inner" in each] == []


@pytest.mark.parametrize("way", ["submit", "perform", "submit_many", "map", "asubmit", "after"])
def test_every_way_in_passes_the_middleware(way: str) -> None:
    seen: list[str] = []
    with Pool(1, middleware=[Tracer("m", seen)]) as pool:
        if way == "submit_many":
            pool.submit_many(abs, [1])
        elif way == "map":
            list(pool.map(abs, [1]))
        elif way == "asubmit":
            asyncio.run(pool.asubmit(abs, 1))
        elif way == "after":
            pool.after(0).submit(abs, 1).result(WAIT)
        else:
            getattr(pool, way)(abs, 1)
    assert seen == ["m submit scheduled" if way == "after" else "m submit queued",
                    "m before abs of m", "m after"]  # fmt: skip


def test_what_submit_raises_refuses_the_job_and_leaves_nothing() -> None:
    class Refusing(Middleware):
        def submit(self, job: Job[Any], carrier: dict[str, str]) -> None:
            raise PermissionError

    with Pool(1, middleware=[Refusing()]) as pool:
        with pytest.raises(PermissionError):
            pool.submit(abs, 1)
        assert pool.queue() == []
        assert pool.stats().started == 0


def test_run_may_change_the_result_fail_the_job_or_not_call_it() -> None:
    class Doubling(Middleware):
        def run(self, job: Job[Any], carrier: dict[str, str], call: Callable[[], Any]) -> Any:
            return call() * 2

    class Failing(Middleware):
        def run(self, job: Job[Any], carrier: dict[str, str], call: Callable[[], Any]) -> Any:
            raise LookupError(call())

    class Cached(Middleware):
        def run(self, job: Job[Any], carrier: dict[str, str], call: Callable[[], Any]) -> Any:
            return "cached"

    calls: list[int] = []
    with Pool(1) as pool:
        assert pool.options(middleware=[Doubling()]).submit(abs, -3).result(WAIT) == 6
        assert isinstance(
            pool.options(middleware=[Failing()]).submit(abs, -3).exception(WAIT), LookupError
        )
        assert pool.options(middleware=[Cached()]).submit(calls.append, 1).result(WAIT) == "cached"
    assert calls == []


def test_every_attempt_passes_and_coroutines_run_to_their_end_inside() -> None:
    seen: list[str] = []
    attempts = [0]

    async def flaky() -> str:
        attempts[0] += 1
        await asyncio.sleep(0)
        if attempts[0] < 3:
            raise OSError
        return "done"

    with Pool(1, middleware=[Tracer("m", seen)], retries=2, backoff=0.001) as pool:
        assert pool.submit(flaky).result(WAIT) == "done"
    assert seen.count("m after") == 3
    assert seen.count("m submit queued") == 1


def test_run_is_inside_the_context_of_the_job() -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request")

    class Reading(Middleware):
        def run(self, job: Job[Any], carrier: dict[str, str], call: Callable[[], Any]) -> Any:
            return request.get(), call()

    request.set("r-1")
    with Pool(1, middleware=[Reading()]) as pool:
        assert pool.submit(request.get).result(WAIT) == ("r-1", "r-1")


def test_a_job_knows_whether_it_runs_inside_other_code() -> None:
    inline: dict[str, bool] = {}

    class Watching(Middleware):
        def run(self, job: Job[Any], carrier: dict[str, str], call: Callable[[], Any]) -> Any:
            inline[job.name] = job.is_inline
            return call()

    with Pool(1, middleware=[Watching()]) as pool:

        def outer() -> int:
            return pool.options(name="in place").submit(abs, -1).result(WAIT)

        assert pool.options(name="on a worker").submit(outer).result(WAIT) == 1
        with oddjob.testing.inline():
            pool.options(name="inline").submit(abs, -1)
    assert inline == {"on a worker": False, "in place": True, "inline": True}


def test_a_pool_without_middleware_makes_plain_jobs() -> None:
    """It costs nothing where there is none: jobs take the shortest way."""
    with Pool(1) as pool:
        assert pool._policy.is_plain
        assert pool._policy.accept == pool._core.intake.accept
        assert not pool.options(middleware=[Middleware()])._policy.is_plain  # type: ignore[attr-defined]


def test_jobs_that_are_queued_together_are_shown_together() -> None:
    """A trace has one span for all of them; each has its own carrier."""

    class Batches(Middleware):
        def submit_many(self, jobs: Any, carriers: Any) -> None:
            for number, carrier in enumerate(carriers):
                carrier["place"] = f"{number} of {len(jobs)}"

        def run(self, job: Job[Any], carrier: dict[str, str], call: Callable[[], Any]) -> Any:
            return carrier.get("place")

    with Pool(1, middleware=[Batches()]) as pool:
        jobs = pool.submit_many(abs, [1, 2])
        assert [job.result(WAIT) for job in jobs] == ["0 of 2", "1 of 2"]
        assert pool.submit(abs, 1).result(WAIT) is None


def test_middleware_with_submit_alone_sees_each_job_of_a_batch() -> None:
    seen: list[str] = []
    middleware = [Tracer("m", seen), Tracing()]
    with Pool(1, middleware=middleware) as pool:
        [job.result(WAIT) for job in pool.submit_many(abs, [1, 2])]
    assert seen.count("m submit queued") == 2
    assert Tracing.submitted == 2


class Tracing(Middleware):
    """Middleware that counts what is submitted."""

    submitted = 0

    def submit(self, job: Job[Any], carrier: dict[str, str]) -> None:
        Tracing.submitted += 1
