"""Keys of `fair_by` take turns, however many jobs each of them has waiting."""

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oddjob
from oddjob import Pool
from oddjob.runtime.job import Job
from tests.hang import Hang
from tests.lone_queue import LoneQueue, start
from tests.long import examples

WAIT = 10.0
WEIGHTS: dict[Any, Any] = {"a": 1, "b": 2, "c": Fraction(1, 2)}


@pytest.fixture
def order() -> list[Any]:
    return []


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool("fair", 1, fair_by=lambda customer, *_: customer) as pool:
        yield pool


@pytest.fixture
def hang(pool: Pool) -> Iterator[Hang]:
    """Keep the one worker busy until the end, or until `gate` is set."""
    hang = Hang()
    pool.submit(lambda _: hang(), "hang")
    hang.wait_until_it_hangs()
    yield hang
    hang.gate.set()


def test_one_customer_with_nine_tenths_of_the_jobs_holds_up_nobody(
    pool: Pool, hang: Hang, order: list[str]
) -> None:
    """Nine small ones are done as soon as if there were ten customers of their size."""
    note = order.append
    pool.submit_many(note, ["big"] * 9_000)
    small = [f"small {number}" for number in range(9)]
    pool.submit_many(note, [name for name in small for _ in range(111)])
    hang.gate.set()
    pool.drain(WAIT)
    last = max(place for place, name in enumerate(order) if name != "big")
    assert last == 10 * 111 - 1
    assert all(
        Counter(order[at : at + 10]) == Counter(["big", *small]) for at in range(0, last, 10)
    )


def test_a_customer_who_comes_late_waits_for_one_round_only(
    pool: Pool, hang: Hang, order: list[Any]
) -> None:
    for number in range(100):
        pool.submit(lambda *call: order.append(call), "big", number)
    pool.submit(lambda *call: order.append(call), "late", 0)
    hang.gate.set()
    pool.drain(WAIT)
    assert order.index(("late", 0)) <= 1
    assert [each for each in order if each[0] == "big"] == [
        ("big", number) for number in range(100)
    ]


def test_weights_are_turns_in_a_round(hang: Hang, pool: Pool, order: list[str]) -> None:
    view = pool.options(fair_weights={"gold": 3})
    view.submit_many(order.append, ["gold"] * 30 + ["tin"] * 30)
    hang.gate.set()
    pool.drain(WAIT)
    assert Counter(order[:40]) == {"gold": 30, "tin": 10}


def test_a_higher_priority_goes_first_and_takes_turns_of_its_own(
    pool: Pool, hang: Hang, order: list[str]
) -> None:
    pool.submit_many(order.append, ["big"] * 50)
    urgent = pool.options(priority=1)
    urgent.submit_many(order.append, ["big", "big", "small", "small"])
    hang.gate.set()
    pool.drain(WAIT)
    assert Counter(order[:2]) == Counter(order[2:4]) == {"big": 1, "small": 1}


def test_what_a_limit_stops_keeps_its_turn(pool: Pool, hang: Hang, order: list[str]) -> None:
    """Its turn came while a job of the same key ran, so it is the next one after that."""
    gate = Hang()
    keyed = pool.options(key="account", fair_by="stopped")
    pool.resize(2)
    first = keyed.submit(gate)
    gate.wait_until_it_hangs()
    keyed.submit(order.append, "stopped")
    jobs = pool.submit_many(order.append, ["big"] * 20)
    hang.gate.set()
    jobs[9].result(WAIT)
    pool.pause()
    gate.gate.set()
    first.result(WAIT)
    done = len(order)
    pool.resize(1)
    pool.resume()
    pool.drain(WAIT)
    assert order.index("stopped") <= done + 2


def test_a_customer_whose_jobs_were_cancelled_begins_anew(
    pool: Pool, hang: Hang, order: list[str]
) -> None:
    pool.submit_many(order.append, ["other"] * 20)
    for job in pool.submit_many(order.append, ["sorry"] * 1000):
        job.cancel()
    assert len(pool.queue()) == 20
    pool.submit(order.append, "sorry")
    hang.gate.set()
    pool.drain(WAIT)
    assert order.index("sorry") <= 1


def test_a_job_that_runs_out_of_its_turn_puts_nobody_back(order: list[str]) -> None:
    hang = Hang()
    with Pool(
        "fair", 1, fair_by=lambda customer: customer, max_queue=20, when_full="caller_runs"
    ) as pool:
        pool.submit(lambda _: hang(), "hang")
        hang.wait_until_it_hangs()
        pool.submit_many(order.append, ["big"] * 20)
        pool.submit(order.append, "big")  # it runs here: the queue is full
        assert order == ["big"]
        pool.queue()[-1].cancel()
        pool.submit(order.append, "small")
        hang.gate.set()
    assert order.index("small") == 2


def test_a_retry_takes_a_turn_like_any_other_job(order: list[str]) -> None:
    """So a customer whose jobs all fail has no more than others."""
    gate = Hang()

    def fail(customer: str) -> None:
        order.append(customer)
        raise OSError(customer)

    with Pool("fair", 1, fair_by=lambda customer: customer, retries=5, backoff=0) as pool:
        pool.submit(lambda _: gate(), "hang")
        gate.wait_until_it_hangs()
        pool.options(retry_on=OSError).perform_many(fail, ["down"] * 10)
        pool.perform_many(order.append, ["up"] * 10)
        gate.gate.set()
        pool.drain(WAIT)
    assert Counter(order[:20])["up"] >= 9
    assert Counter(order) == {"down": 60, "up": 10}


def test_jobs_that_have_waited_before_the_first_fair_one_are_not_forgotten(
    order: list[str],
) -> None:
    with Pool("late", 1) as pool:
        hang = Hang()
        pool.submit(hang)
        hang.wait_until_it_hangs()
        pool.submit_many(order.append, ["plain"] * 3)
        pool.options(priority=1).submit(order.append, "urgent")
        fair = pool.options(fair_by=lambda name: name)
        fair.submit_many(order.append, ["a", "a", "b"])
        pool.submit(order.append, "plain")
        hang.gate.set()
        pool.drain(WAIT)
    assert order[:4] == ["urgent", "plain", "plain", "plain"]
    assert sorted(order[4:7]) == ["a", "b", "plain"]


def test_a_function_that_returns_none_makes_a_job_without_a_key(order: list[str]) -> None:
    with Pool("fair", 1, fair_by=lambda _: None) as pool:
        pool.submit_many(order.append, "abc")
        pool.drain(WAIT)
    assert order == ["a", "b", "c"]


def test_what_is_no_key_is_refused_and_leaves_nothing(pool: Pool) -> None:
    with pytest.raises(TypeError, match="a key must be an identifier"):
        pool.submit(print, ["no", "key"])
    assert pool.queue() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fair_by": True}, "fair_by must be a key"),
        ({"fair_by": 1, "fair_weights": 3}, "fair_weights must be a dict"),
        ({"fair_by": 1, "fair_weights": {"gold": "3"}}, r"fair_weights\['gold'\] must be a number"),
        ({"fair_weights": {"gold": 3}}, "fair_weights needs fair_by="),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Pool(None, 1, **options)


@pytest.mark.parametrize("weight", [0, -1, float("inf"), float("nan")])
def test_weights_are_above_zero_and_finite(weight: float) -> None:
    with Pool(None, 1) as pool, pytest.raises(ValueError, match="above 0 and finite"):
        pool.options(fair_by="a", fair_weights={"a": weight})


def test_the_name_of_a_parameter_is_no_key() -> None:
    with Pool(None, 1) as pool, pytest.raises(ValueError, match="did you mean fair_by=lambda"):

        @pool.job(fair_by="customer")
        def bill(customer: str) -> None:
            del customer


def test_settings_give_fair_shares_to_a_pool(order: list[str]) -> None:
    oddjob.configure({"extra_pools": {"shop": {"pool_size": 1, "fair_by": len}}})
    with oddjob.pool("shop") as shop:
        shop.submit_many(order.append, ["a", "bb"])
        shop.drain(WAIT)
    assert order == ["a", "bb"]


steps = st.lists(
    st.tuples(st.sampled_from(["submit", "submit", "take", "cancel"]),
              st.sampled_from([None, *WEIGHTS]), st.integers(0, 1)),
    max_size=60,
)  # fmt: skip


@settings(max_examples=examples(100), deadline=None)
@given(steps=steps)
def test_turns_are_those_of_a_simple_model(steps: list[tuple[str, Any, int]]) -> None:
    """It keeps a list of what waits, and looks through all of it."""
    lone, slot = LoneQueue(), LoneQueue().new_slot()
    lone.queue.use_turns()
    waiting: list[tuple[int, float, Job[Any], Any]] = []
    latest = {0: 0.0, 1: 0.0}
    for act, key, priority in steps:
        of_level = [each for each in waiting if each[0] == -priority]
        if act == "submit":
            weights = None if key is None else WEIGHTS
            policy = lone.policy(fair_by=key, fair_weights=weights, priority=priority)
            before = [turn for _, turn, _, its_key in of_level if its_key == key]
            latest[priority] = latest[priority] if of_level else 0.0
            turn = max(before, default=latest[priority]) + 1 / float(WEIGHTS.get(key, 1))
            waiting.append((-priority, turn, lone.submit(policy), key))
            lone.queue.tidy()
        elif act == "take":
            expected = min(waiting, key=lambda each: each[:2], default=None)  # the first of equals
            slot.job = None
            job = lone.queue.take(slot)
            assert job is (expected and expected[2])
            if expected is not None and job is not None:
                waiting.remove(expected)
                latest[-expected[0]] = max(latest[-expected[0]], expected[1])
                assert start(job)
                job.set_result(None)
        elif waiting:
            gone = waiting.pop(len(steps) % len(waiting))
            assert gone[2].cancel()
            lone.queue.tidy()
    for *_, job, _ in waiting:
        job.cancel()
    slot.job = None
    assert lone.queue.take(slot) is None
    assert lone.is_empty()
