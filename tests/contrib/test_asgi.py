"""Pools that live as long as an ASGI application."""

import asyncio
import logging
from contextlib import AbstractAsyncContextManager
from types import SimpleNamespace
from typing import Any

import pytest

import oddjob
from oddjob.contrib.asgi import Lifespan, lifespan
from tests.hang import Hang


def serve(start: Lifespan) -> AbstractAsyncContextManager[dict[str, Any]]:
    """Do what a server does with the lifespan of an application."""
    return start(SimpleNamespace(state=SimpleNamespace()))


async def submit_one(start: Lifespan) -> oddjob.Job[int]:
    async with serve(start) as state:
        job: oddjob.Job[int] = state["oddjob"].submit(pow, 2, 3)
    return job


def test_what_was_submitted_in_requests_is_done_before_the_application_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "oddjob")
    job = asyncio.run(submit_one(lifespan(oddjob.Pool("mail", 1))))
    assert job.result(0) == 8
    assert "pool mail drained" in caplog.text


def test_an_application_that_starts_again_gets_a_pool_with_the_same_options() -> None:
    """As it does in each test with a test client."""
    start = lifespan(oddjob.Pool("mail", 2, max_queue=7))

    async def options() -> Any:
        async with serve(start) as state:
            return state["oddjob"].name, state["oddjob"].configuration

    assert asyncio.run(options()) == asyncio.run(options())


def test_it_gets_them_also_where_other_defaults_were_configured() -> None:
    """Even if they are the library's own."""
    oddjob.configure({"retries": 3})
    start = lifespan(oddjob.Pool("mail", retries=0))

    async def retries() -> Any:
        async with serve(start) as state:
            return state["oddjob"].configuration.retries

    assert [asyncio.run(retries()) for _ in range(2)] == [0, 0]


def test_settings_make_all_pools_for_as_long_as_the_application_runs() -> None:
    start = lifespan({"default_pool": "web", "extra_pools": [{"mail": {"pool_size": 2}}]})

    async def names() -> list[str]:
        app = SimpleNamespace(state=SimpleNamespace())
        async with start(app) as state:
            assert app.state.oddjob is state["oddjob"] is oddjob.pool("web")
            assert await oddjob.pool("mail").submit(pow, 2, 3) == 8
            return list(oddjob.pools())

    for _ in range(2):
        assert asyncio.run(names()) == ["web", "mail"]
        assert not oddjob.pools()


def test_an_application_waits_no_longer_than_it_was_told() -> None:
    hang = Hang()

    async def run() -> oddjob.Job[Any]:
        async with serve(lifespan(oddjob.Pool("slow", 1), drain=0)) as state:
            job: oddjob.Job[Any] = state["oddjob"].submit(hang)
            hang.wait_until_it_hangs()
        return job

    job = asyncio.run(run())
    assert job.running()
    hang.gate.set()
    assert job.exception(10) is None


def test_what_is_no_pool_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="takes a Pool or a settings dict, not 'mail'"):
        lifespan("mail")  # type: ignore[arg-type]


def test_a_negative_time_to_drain_is_refused_before_the_application_starts() -> None:
    with pytest.raises(ValueError, match="drain must be 0 or more"):
        lifespan(oddjob.Pool("mail"), drain=-1)
