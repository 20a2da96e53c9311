"""Keys of `fair_by` take turns in a store, however many jobs each of them has waiting."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from oddjob import Pool
from oddjob.durable.record import Capacity, Claim, Partition, State, Submit, Update
from oddjob.durable.sqlite.store import SqliteStore
from oddjob.durable.submissions import Submissions
from tests.durable.local_peers import LocalHub
from tests.durable.statements import PeersWithTurn, StatementLog
from tests.hang import until

POOL = "fair"
PLACES = Partition(POOL, "function"), Partition(POOL, "other")
ONE_WEIGHT = {"gold": 1 / 3}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(str(tmp_path / "jobs.db"), is_durable=False)
    store.join({POOL: ["function", "other"]}, 5)
    yield store
    store.leave()
    store.close()


def submits(
    keys: Sequence[str | None], *, priority: int = 0, delay: float | None = None
) -> list[Submit]:
    return [
        Submit(PLACES[number % 2], b"", priority=priority, delay=delay, fair_key=key,
               name=str(key), fair_step=ONE_WEIGHT.get(str(key), 1.0))
        for number, key in enumerate(keys)
    ]  # fmt: skip


def claim(store: SqliteStore, most: int, *updates: Update) -> list[Claim]:
    return store.turn(updates, [], {POOL: Capacity(most, most)}).claims


def names(claims: list[Claim]) -> list[str]:
    return [each.name for each in claims]


def test_one_customer_with_nine_tenths_of_the_jobs_holds_up_nobody(store: SqliteStore) -> None:
    """Nine small ones are done as soon as if there were ten customers of their size."""
    small = [f"small {number}" for number in range(9)]
    store.turn([], submits(["big"] * 900), {})
    store.turn([], submits([name for name in small for _ in range(11)]), {})
    for _ in range(11):
        assert Counter(names(claim(store, 10))) == Counter(["big", *small])
    assert names(claim(store, 5)) == ["big"] * 5


def test_a_key_keeps_its_order_and_a_late_one_waits_for_one_round_only(store: SqliteStore) -> None:
    jobs = [each.id for each in store.turn([], submits(["big"] * 100), {}).submitted]
    assert [each.id for each in claim(store, 10)] == jobs[:10]
    (late,) = store.turn([], submits(["late"]), {}).submitted
    assert [each.id for each in claim(store, 3)] == [jobs[10], late.id, jobs[11]]


def test_weights_are_turns_in_a_round(store: SqliteStore) -> None:
    store.turn([], submits(["gold"] * 30 + ["tin"] * 30), {})
    assert Counter(names(claim(store, 40))) == {"gold": 30, "tin": 10}


def test_a_higher_priority_goes_first_and_takes_turns_of_its_own(store: SqliteStore) -> None:
    store.turn([], submits(["big"] * 20), {})
    store.turn([], submits(["big", "big", "small", "small"], priority=1), {})
    assert Counter(names(claim(store, 2))) == Counter(names(claim(store, 2)))
    assert names(claim(store, 2)) == ["big", "big"]


def test_jobs_without_a_key_share_the_turns_of_one_more(store: SqliteStore) -> None:
    """And those that were there before the first fair one come first."""
    store.turn([], submits([None] * 2), {})
    store.turn([], submits(["a"] * 3), {})
    store.turn([], submits([None] * 3), {})
    assert names(claim(store, 2)) == ["None", "None"]
    assert [Counter(names(claim(store, 2))) for _ in range(3)] == [Counter(["a", "None"])] * 3


def test_a_customer_whose_jobs_were_cancelled_begins_anew(store: SqliteStore) -> None:
    store.turn([], submits(["other"] * 20), {})
    gone = store.turn([], submits(["sorry"] * 100), {}).submitted
    assert store.cancel(each.id for each in gone) == 100
    store.turn([], submits(["sorry"]), {})
    assert Counter(names(claim(store, 2))) == {"other": 1, "sorry": 1}


def test_a_retry_takes_a_turn_and_what_is_handed_back_keeps_its_own(store: SqliteStore) -> None:
    store.turn([], submits(["down"] * 3 + ["up"] * 3), {})
    first, second = claim(store, 2)
    updates = Update(first, State.SCHEDULED, delay=0.0), Update(second, State.QUEUED)
    claims = claim(store, 5, *updates)
    assert claims[0].id == second.id
    assert names(claims) == ["up", "down", "up", "down", "up"]
    assert [each.id for each in claim(store, 1)] == [first.id]


def test_a_job_takes_its_turn_when_it_is_due(store: SqliteStore) -> None:
    store.turn([], submits(["big"] * 10), {})
    store.turn([], submits(["big", "late"], delay=0.001), {})
    store.wait(0.01)
    assert "late" in names(claim(store, 2))
    assert names(claim(store, 20)) == ["big"] * 10


def test_jobs_take_turns_also_when_none_of_them_is_queued_at_once(store: SqliteStore) -> None:
    store.turn([], submits(["big"] * 10 + ["late"], delay=0.001), {})
    store.wait(0.01)
    assert "late" in names(claim(store, 2))


def test_claims_and_submits_neither_scan_nor_sort(tmp_path: Path) -> None:
    peers = PeersWithTurn(LocalHub())
    store = SqliteStore(str(tmp_path / "plans.db"), is_durable=False, peers=peers)
    log = StatementLog(store, peers)
    store.join({POOL: ["function", "other"]}, 5)
    store.turn([], submits(["big"] * 10 + ["small"]), {})
    store.turn([], submits(["big"], delay=0.001), {})
    store.wait(0.01)
    claims = claim(store, 5)
    assert len(claims) == 5
    claim(store, 20, Update(claims[0], State.SCHEDULED, delay=0.0))
    log.check()
    store.leave()
    store.close()


ORDER: list[str] = []


def note(customer: str, number: int) -> None:
    """Note a call."""
    ORDER.append(f"{customer} {number}")


def test_a_pool_with_a_store_takes_turns(tmp_path: Path) -> None:
    """Its jobs are claimed many at a time, and run in the order of their turns."""
    url = f"sqlite:///{tmp_path}/pool.db"
    ORDER.clear()
    with Pool(
        "shop", 1, store=url, consume=False, fair_by=lambda customer, _: customer,
        fair_weights={"gold": 2},
    ) as pool:  # fmt: skip
        for number in range(4):
            pool.perform(note, "big", number)
        for customer in ("gold", "gold", "small"):
            pool.perform(note, customer, 9)
    with Pool("shop", 1, store=url) as pool:
        pool.job(note)
        until(lambda: len(ORDER) == 7)
    assert ORDER == ["gold 9", "big 0", "gold 9", "small 9", "big 1", "big 2", "big 3"]


def test_a_pool_on_redis_refuses_what_it_cannot_do() -> None:
    """Instead of running jobs in another order than was asked for."""
    pool = Pool("shop", 1, fair_by="ann", store=False)
    submissions = Submissions("shop", pool._core, None)  # type: ignore[arg-type]
    submissions._url = "redis://localhost"  # type: ignore[misc]
    job = pool.submit(note, "ann", 0)
    with pytest.raises(TypeError, match="a pool on Redis takes no turns yet"):
        submissions.submit_of(job)
    pool.shutdown()
