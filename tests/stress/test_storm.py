"""A storm: exceptions are thrown at the workers of a live pool, busy, idle and between two jobs.

Whatever moment they strike at, every job ends, no permit, line or entry is left in the queue, no
limit is exceeded, and the pool has all its workers afterwards. ``ODDJOB_STRESS_ROUNDS`` sets the
number of rounds; ``make stress`` runs more of them than the suite does.
"""

import logging
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any, NamedTuple

import pytest

from oddjob import Job, Pool, PredecessorFailed, Rate, current_job
from oddjob.runtime.worker import Worker
from tests.hang import until
from tests.long import IS_LONG
from tests.strikes import (
    WITH_LOSES_LOCKS,
    Meeting,
    disable_logging,
    end_unstruck,
    start_unstruck,
    strike_thread,
)

ROUNDS = range(int(os.environ.get("ODDJOB_STRESS_ROUNDS", "1")))  # two try every exception
STRIKES = 40 if IS_LONG else 15
WAIT = 30.0
BACKLOG = 200  # jobs
SIZE = 3  # of the pool
MANY = 10**9


class Struck(BaseException):
    """Thrown at workers."""


EXCEPTIONS = [Struck, SystemExit]


class Run(NamedTuple):
    """A call that was not struck: under which limit it ran, and when, in monotonic seconds."""

    tag: object
    start: float
    end: float


def work(tag: object) -> Run:
    start = time.monotonic()
    sum(range(3000))
    return Run(tag, start, time.monotonic())


def fail_at_first(tag: object) -> Run:
    job = current_job()
    assert job is not None
    if job.attempt == 1:
        raise OSError("as jobs do")
    return work(tag)


class Target(NamedTuple):
    """Where jobs are submitted, and with what."""

    view: Any
    fn: Callable[[object], Run]
    tag: object


class Kind(NamedTuple):
    """A kind of pool, and how many jobs of one tag may run at once in it."""

    targets: Callable[[Pool], list[Target]]
    at_once: int = SIZE
    options: dict[str, Any] = {}  # noqa: RUF012  (nothing changes it)
    outcomes: frozenset[type[BaseException]] = frozenset()  # besides those of any kind


def with_options(*options: dict[str, Any]) -> Callable[[Pool], list[Target]]:
    return lambda pool: [
        Target(pool.options(**each), work, each.get("key", "all")) for each in options
    ]


def retried(pool: Pool) -> list[Target]:
    """Serial jobs, with retries, and others that are retried as well."""
    serial = pool.options(key="serial", serial=True, retries=1, backoff=0.001)
    keyed = pool.options(key="retried", retries=1, backoff=0.0)
    return [Target(serial, fail_at_first, "serial"), Target(keyed, fail_at_first, "retried")]


def nested(pool: Pool) -> list[Target]:
    """Jobs that wait for another one, which runs in their place if its key allows it."""
    inner = pool.options(key="inner")

    def wait_for_another(tag: object) -> Run:
        return inner.submit(work, tag).result(WAIT)

    return [Target(pool, wait_for_another, "inner"), Target(inner, work, "inner")]


KINDS = {
    "plain": Kind(lambda pool: [Target(pool, work, "all")]),
    "bounded": Kind(lambda pool: [Target(pool, work, "all")], options={"max_queue": 50}),
    "priority": Kind(with_options(*({"priority": number} for number in range(3)))),
    "aging": Kind(
        with_options(*({"priority": number} for number in range(3))),
        options={"priority_aging": 0.01},
    ),
    "key": Kind(with_options(*({"key": number} for number in range(5))), at_once=1),
    "key_limit": Kind(
        with_options(*({"key": number, "key_limit": 2} for number in range(3))), at_once=2
    ),
    "concurrency": Kind(with_options({"max_concurrency": 2}), at_once=2),
    "rate": Kind(
        lambda pool: [Target(pool, work, "all")], options={"rate": Rate(10**6, burst=10**5)}
    ),
    # One that was asked to stop is not retried.
    "retried": Kind(retried, at_once=1, outcomes=frozenset({OSError})),
    "nested": Kind(nested, at_once=1),
}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Thousands of workers crash; some are struck in the interpreter's own code at their end."""
    monkeypatch.setattr(threading.Thread, "start", start_unstruck)
    monkeypatch.setattr(threading.Thread, "_delete", end_unstruck)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    disable_logging()
    yield
    logging.disable(logging.NOTSET)


class Storm:
    """One pool in a storm."""

    def __init__(self, kind: Kind, seed: int, exception: type[BaseException]) -> None:
        self.random = random.Random(seed)
        self.kind = kind
        self.exception = exception
        self.pool = Pool(pool_size=SIZE, max_restarts=MANY, **kind.options)
        self.targets = kind.targets(self.pool)
        self.jobs: list[Job[Run]] = []
        self.strikes = 0

    def rage(self) -> None:
        """Submit, cancel and strike."""
        end = time.monotonic() + WAIT
        while self.strikes < STRIKES and time.monotonic() < end:
            for _ in range(60 if self.pool.stats().queued < BACKLOG else 0):
                view, fn, tag = self.random.choice(self.targets)
                self.jobs.append(view.submit(fn, tag))
            if self.random.random() < 0.2:
                self.random.choice(self.jobs[-20:]).cancel()
            time.sleep(self.random.random() * 0.002)
            for worker in self.pool._core.workers.all():
                if self.random.random() < 0.15:
                    self.strikes += self.strike(worker)

    def strike(self, worker: Worker) -> bool:
        """Strike a worker that has begun: a thread that has not could not say that it ends."""
        return worker.has_begun and strike_thread(worker.thread, self.exception)

    def check(self) -> None:
        self.check_jobs()
        self.check_overlaps()
        self.check_targets()
        self.check_capacity()
        until(lambda: (self.pool.stats().queued, self.pool.stats().running) == (0, 0))
        queue = self.pool._core.dispatcher.limited
        if queue is not None:
            until(lambda: not (queue._holding or queue._waiting or queue._delayed))
            assert not len(queue._lines)
            assert not any(getattr(limit, "_running", 0) for limit in queue.gate.adopted())

    def check_jobs(self) -> None:
        """Every job has ended, in a way that is explained."""
        expected = {type(None), self.exception, CancelledError, PredecessorFailed}
        expected |= self.kind.outcomes
        outcomes = Counter(type(self.outcome(job)) for job in self.jobs)
        assert set(outcomes) <= expected, outcomes
        assert outcomes[type(None)] > 0

    def outcome(self, job: Job[Any]) -> BaseException | None:
        try:
            return job.exception(WAIT)
        except TimeoutError:
            raise AssertionError(f"{job!r} never ends") from None
        except CancelledError as error:
            return error

    def check_overlaps(self) -> None:
        """No more calls of one tag ran at once than the limit allows."""
        moments: list[tuple[float, int, object]] = []
        for job in self.jobs:
            if not job.cancelled() and job.exception() is None:
                tag, start, end = job.result()
                moments += [(start, 1, tag), (end, -1, tag)]
        running: Counter[object] = Counter()
        for _, change, tag in sorted(moments, key=lambda moment: moment[:2]):
            running[tag] += change
            assert running[tag] <= self.kind.at_once, f"{running[tag]} of {tag!r} ran at once"

    def check_targets(self) -> None:
        """Every limit lets a job pass."""
        for view, _, tag in self.targets:
            for _ in range(20):  # a worker that was struck, and does not know it yet, may take one
                if self.outcome(view.submit(work, tag)) is None:
                    break
            else:
                raise AssertionError(f"{view!r} lets no job pass")

    def check_capacity(self) -> None:
        """As many jobs as there are workers run at once: they meet."""
        for _ in range(20):  # as above
            barrier = Meeting(SIZE)
            jobs = [self.pool.submit(barrier.wait, 1) for _ in range(SIZE)]
            if all(self.outcome(job) is None for job in jobs):
                return
        raise AssertionError(f"workers are lost: {self.pool.workers()}")


@pytest.mark.skipif(WITH_LOSES_LOCKS, reason="a struck `with` block of CPython keeps its lock")
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("tiny_switch_interval")
@pytest.mark.parametrize("seed", ROUNDS)
@pytest.mark.parametrize("kind", KINDS)
def test_exceptions_thrown_at_workers_cost_no_job_no_permit_and_no_worker(
    kind: str, seed: int
) -> None:
    number = seed + list(KINDS).index(kind)
    storm = Storm(KINDS[kind], seed, EXCEPTIONS[number % len(EXCEPTIONS)])
    try:
        storm.rage()
        storm.check()
    finally:
        storm.pool.shutdown(timeout=WAIT, cancel_futures=True)
    assert storm.pool.join(0)
