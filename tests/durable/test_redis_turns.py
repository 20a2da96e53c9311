"""Turns on Redis whose answers are lost, or that fail in the middle: nothing of them is."""

import itertools
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from oddjob import StoreFull, StoreUnusable
from oddjob.durable.record import Capacity, Reference, State, Submit, Update
from oddjob.durable.redis.store import RedisStore
from tests.durable.test_redis_faults import ALL, PARTITION, member
from tests.redis_server import RedisServer


@pytest.mark.parametrize("is_done", [True, False])
def test_a_turn_whose_answer_never_came_is_finished_with_the_next_one(
    redis_url: str, tmp_path: Path, is_done: bool
) -> None:
    """It may have been done, or not: no outcome is lost, and none is taken for a foreign one."""
    store = member(redis_url, tmp_path, lease=15.0)
    store.turn([], [Submit(PARTITION, b"")] * 3, {"pool": Capacity(0, 0)})
    (claim,) = store.turn([], [], {"pool": Capacity(1, 1)}).claims
    update = Update(claim, State.SUCCEEDED)
    run_all = store._connection.run_all

    def lose(calls: Any) -> Any:
        if is_done:
            run_all(calls)
        raise StoreUnusable("no answer")

    store._connection.run_all = lose  # type: ignore[method-assign]
    with pytest.raises(StoreUnusable):
        store.turn([update], [Submit(PARTITION, b"")], {"pool": Capacity(1, 1)})
    store._connection.run_all = run_all  # type: ignore[method-assign]
    turn = store.turn([update], [], {"pool": Capacity(1, 1)})
    assert turn.refused == []
    assert len({each.id for each in turn.claims}) == 2  # of the turn before, and of this one
    assert store.reader.record(claim.id).state is State.SUCCEEDED  # type: ignore[union-attr]
    counts = store.reader.counts("pool")
    assert (counts[State.RUNNING], counts[State.QUEUED]) == (2, int(is_done))
    store.leave()
    store.close()


def lose_answers(store: RedisStore, *calls: int) -> None:
    """Lose the answers to the calls of these numbers, counted from now on from 0."""
    run_all, number = store._connection.run_all, itertools.count()

    def run(batch: Any) -> Any:
        answers = run_all(batch)
        if next(number) in calls:
            raise StoreUnusable("no answer")
        return answers

    store._connection.run_all = run  # type: ignore[method-assign]


@pytest.mark.parametrize("lost", range(3))
def test_submits_after_an_outage_have_ids_of_their_own(
    redis_url: str, tmp_path: Path, lost: int
) -> None:
    """Whichever of the answers for a batch was lost; its jobs were said to be."""
    store = member(redis_url, tmp_path, lease=15.0)
    lose_answers(store, lost)
    members = [Submit(PARTITION, b"", batch=Reference(distance=n + 1)) for n in range(4)]
    batch = [Submit(PARTITION, b"", is_batch=True), *members]
    with suppress(StoreUnusable):
        store.turn([], batch, {"pool": Capacity(0, 0)})
    del batch, members
    submits = [Submit(PARTITION, b"%d" % n) for n in range(5)]
    submitted = store.turn([], submits, {"pool": Capacity(0, 0)}).submitted
    records = [store.reader.record(each.id) for each in submitted]
    assert [each and each.payload for each in records] == [each.payload for each in submits]
    store.leave()
    store.close()


@pytest.mark.parametrize(
    "wrong",
    [
        Submit(PARTITION, b"", batch=Reference("other:0000000000000001")),
        Submit(PARTITION, b"", key="k" * 2**16),
    ],
)
def test_a_job_that_is_refused_does_not_lose_the_claims_of_a_turn_before(
    redis_url: str, tmp_path: Path, wrong: Submit
) -> None:
    """Whose answer was late."""
    store = member(redis_url, tmp_path, lease=15.0)
    store.turn([], [Submit(PARTITION, b"")], {"pool": Capacity(0, 0)})
    lose_answers(store, 0)
    with pytest.raises(StoreUnusable):
        store.turn([], [], {"pool": ALL})
    with pytest.raises((TypeError, ValueError)):
        store.turn([], [wrong], {"pool": ALL})
    assert len(store.turn([], [], {"pool": ALL}).claims) == 1
    store.leave()
    store.close()


def test_a_batch_that_a_full_server_refuses_does_not_hold_up_outcomes(
    redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """All of the pool's jobs of that turn are refused, and stored when there is room."""
    store = member(redis_url, tmp_path, lease=15.0)
    store.turn([], [Submit(PARTITION, b"")], {"pool": Capacity(0, 0)})
    (claim,) = store.turn([], [], {"pool": ALL}).claims
    submits = [
        Submit(PARTITION, b"", is_batch=True),
        Submit(PARTITION, b"", batch=Reference(distance=1)),
        Submit(PARTITION, b""),
    ]
    redis_server.ask("CONFIG", "SET", "maxmemory", "1")
    try:
        turn = store.turn([Update(claim, State.SUCCEEDED)], submits, {"pool": ALL})
    finally:
        redis_server.ask("CONFIG", "SET", "maxmemory", "0")
    assert [type(each.error) for each in turn.submitted] == [StoreFull] * 3
    assert turn.refused == []
    assert store.reader.counts("pool")[State.SUCCEEDED] == 1
    assert all(each.is_new for each in store.turn([], submits, {"pool": ALL}).submitted)
    store.leave()
    store.close()
