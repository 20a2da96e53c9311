"""Interruptions: whatever moment an exception strikes at, no job, limit or worker is lost.

Each test does one thing again and again, and throws an exception into the thread that does it at
the first moment at which that can happen, at the second, and so on, until there are no more. The
suite tries a part of the moments, ``make stress`` (ODDJOB_STRESS_ROUNDS) all of them.
"""

import gc
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import oddjob
from oddjob import Job, Pool, Rate
from tests.hang import Hang, until
from tests.long import IS_LONG
from tests.strikes import WITH_LOSES_LOCKS, Striker, Struck

pytestmark = [
    pytest.mark.skipif(
        sys.version_info[:2] == (3, 12),
        reason="CPython 3.12 crashes if instructions are traced that other threads are executing",
    ),
    pytest.mark.skipif(WITH_LOSES_LOCKS, reason="a struck `with` block of CPython keeps its lock"),
]

WAIT = 10.0
MANY = 10**9
STEP = 1 if IS_LONG else 16

LIMITS: dict[str, dict[str, Any]] = {
    "priority": {"priority": 1},
    "key": {"key": "k"},
    "serial": {"key": "k", "serial": True, "retries": 1, "backoff": 0.002},
    "retries": {"retries": 1, "backoff": 0.002},
    "ceiling": {"max_concurrency": 1},
    "rate": {"rate": Rate(1_000, per=1, burst=10)},
    "timeout": {"timeout": WAIT},
}


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """Thousands of workers crash here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def fail() -> None:
    raise OSError("as jobs do")


class Scene:
    """A pool of two with one kind of limit, and what has been submitted to it."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.pool = Pool(2, max_restarts=MANY)
        self.view: Any = self.pool.options(**options)
        self.view.submit(abs, 1).result(WAIT)
        self.jobs: list[Job[Any]] = []

    def submit(self, where: Any, fn: Callable[..., Any], *args: Any) -> Job[Any]:
        job: Job[Any] = where.submit(fn, *args)
        self.jobs.append(job)
        return job

    def check(self, where: str | None) -> None:
        """Everything has its end, limits let others pass, and there are as many workers."""
        for job in self.jobs:
            with suppress(Exception, Struck):
                job.exception(WAIT)
            assert job.done(), f"struck in {where}: {job!r} never ends"
        until(lambda: not self.pool.queue())
        for target in (self.view, self.pool):
            attempts = 0
            while not self.lets_pass(target, where):
                attempts += 1
                assert attempts < 10, f"struck in {where}: {target!r}"
        self.pool.shutdown(timeout=WAIT)
        assert self.pool.join(0), f"struck in {where}: the pool does not end"
        stats = self.pool.stats()
        assert (stats.queued, stats.running) == (0, 0), f"struck in {where}: {stats}"

    def lets_pass(self, target: Any, where: str | None) -> bool:
        """Whether two jobs run; a worker that is about to end because it was struck may take one.

        In the pool itself they have to meet.
        """
        together = threading.Barrier(2 if target is self.pool else 1)
        jobs = [target.submit(together.wait, 1) for _ in range(2)]
        try:
            return all(job.exception(WAIT) is None for job in jobs)
        except TimeoutError:
            raise AssertionError(f"struck in {where}: {jobs} wait for ever") from None


def strike_everywhere(options: dict[str, Any], act: Callable[[Scene, Striker], object]) -> int:
    """Strike at the first moment of `act`, at the second, and so on; return how many there were.

    Not every run takes the same path, and some paths are longer.
    """
    number = misses = 0
    gc.disable()  # destructors of what came before are not meant
    try:
        while misses < 3:
            scene = Scene(options)
            striker = Striker(number)
            act(scene, striker)
            scene.check(striker.where)
            misses += striker.where is None
            number += STEP
    finally:
        gc.enable()
    return number - misses * STEP


def struck(striker: Striker, act: Callable[[], object]) -> None:
    sys.settrace(striker.trace)
    try:
        act()
    except Struck:
        pass
    finally:
        sys.settrace(None)


@pytest.mark.parametrize("limit", ["priority", "key", "serial", "ceiling", "rate"])
def test_a_cancellation_may_be_interrupted_anywhere(limit: str) -> None:
    """By Ctrl-C, for example: the pool does not know that the thread was interrupted."""

    def cancel(scene: Scene, striker: Striker) -> None:
        hang = Hang()
        scene.submit(scene.view, hang)
        scene.submit(scene.pool, hang)
        hang.wait_until_it_hangs(2)
        first = scene.submit(scene.view, abs, -1)
        scene.submit(scene.view, abs, -2)
        told: list[Job[Any]] = []
        first.add_done_callback(told.append)
        struck(striker, first.cancel)
        hang.gate.set()
        first.exception(WAIT) if not first.cancelled() else None
        until(lambda: told == [first])

    assert strike_everywhere(LIMITS[limit], cancel) > 20


@pytest.mark.parametrize("limit", ["serial", "retries"])
def test_the_cancellation_of_a_job_that_waits_for_its_retry_may_be_interrupted(limit: str) -> None:
    """It has kept its key for that time, and no other thread gives that back."""

    def cancel(scene: Scene, striker: Striker) -> None:
        job = scene.submit(scene.view, fail)
        until(lambda: job.done() or (job.attempt == 1 and job.state == "queued"))
        struck(striker, job.cancel)

    options = {**LIMITS[limit], "backoff": 0.02}
    assert strike_everywhere(options, cancel) > 20


@pytest.mark.parametrize("limit", ["key", "rate", "timeout"])
def test_a_submission_may_be_interrupted_anywhere(limit: str) -> None:
    def submit(scene: Scene, striker: Striker) -> None:
        struck(striker, lambda: scene.submit(scene.view, abs, -1))
        struck(striker, lambda: scene.jobs.extend(scene.view.submit_many(abs, range(3))))

    assert strike_everywhere(LIMITS[limit], submit) > 50


@pytest.mark.timeout(180)
@pytest.mark.parametrize("limit", ["key", "serial", "rate"])
def test_a_worker_may_be_interrupted_anywhere(limit: str) -> None:
    """Between jobs, too: where it counts a job, gives back its permits, and takes the next one."""

    def work(scene: Scene, striker: Striker) -> None:
        others: list[Job[Any]] = []

        def first() -> None:
            others.extend(scene.view.submit(abs, -1) for _ in range(3))
            sys.settrace(striker.trace)  # for what this thread calls from now on
            if limit in ("serial", "retries") and oddjob.current_job().attempt == 1:
                fail()

        with suppress(Struck, OSError):
            scene.submit(scene.view, first).result(WAIT)
        scene.jobs += others
        for job in others:
            with suppress(Struck):
                job.exception(WAIT)

    assert strike_everywhere(LIMITS[limit], work) > 50
