"""Pools in memory, of which only this process knows."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from oddjob import Pool
from oddjob.dashboard.chart import History
from oddjob.operations.memory_operations import MemoryOperations
from tests.dashboard import jobs
from tests.dashboard.conftest import Client

WAIT = 10.0


def test_a_job_that_runs_while_the_one_that_submitted_it_waits_is_shown(
    show: Callable[..., Client],
) -> None:
    """It runs in place of that, on the same worker."""
    entered, gate = threading.Event(), threading.Event()

    def inner() -> None:
        entered.set()
        gate.wait(WAIT)

    with Pool("hands", 1) as pool:
        outer = pool.submit(lambda: pool.options(name="inner").submit(inner).result(WAIT))
        assert entered.wait(WAIT)
        found = MemoryOperations("hands", pool).records(state="running")
        (id_,) = [each.id for each in found if each.name == "inner"]
        assert show(pool).get(f"/jobs/{id_}").status == 200
        gate.set()
        outer.result(WAIT)


def test_two_who_ask_for_metrics_at_once_are_both_answered(
    show: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one asks while the pools are made known for the first one."""
    prometheus = pytest.importorskip("prometheus_client", reason="it is not installed")
    register, answers = prometheus.CollectorRegistry.register, list[str]()

    def ask_meanwhile(registry: Any, collector: Any) -> None:
        if not answers:
            answers.append("")
            answers.append(client.get("/metrics").html)
        register(registry, collector)

    with Pool("hands", 3) as pool:
        client = show(pool, metrics=True)
        monkeypatch.setattr(prometheus.CollectorRegistry, "register", ask_meanwhile)
        answers.append(client.get("/metrics").html)
    assert all('oddjob_pool_size{pool="hands"} 3.0' in each for each in answers[1:])


def test_a_pool_that_takes_the_place_of_another_one_is_counted_by_itself() -> None:
    """From the first look at it."""
    history = History()
    for failures in 2, 1:
        with Pool("hands", 1) as pool:
            for _ in range(failures):
                pool.submit(jobs.send, "nowhere").exception(WAIT)
            assert sum(history.ended(MemoryOperations("hands", pool))["failed"]) == 0


def test_a_timer_is_never_taken_for_one_that_has_ended() -> None:
    """Though it may have its address: a page may be looked at for long."""
    with Pool("hands", 1) as pool:
        operations, seen = MemoryOperations("hands", pool), set()
        for _ in range(50):
            recurring = pool.every(3600).perform(jobs.tick)
            later = pool.after(3600).perform(jobs.tick)
            (entry,) = operations.recurring()
            (job,) = operations.records(state="scheduled")
            seen |= {entry.id, job.id}
            assert recurring.cancel()
            assert later.cancel()
            del recurring, later, entry, job
        assert len(seen) == 100
