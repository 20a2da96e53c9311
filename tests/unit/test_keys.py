"""Keys and concurrency limits: how many jobs of a key, or of a function, run at once."""

import datetime as dt
import decimal
import enum
import functools
import math
import operator
import os
import subprocess
import sys
import threading
import uuid
from collections import defaultdict
from typing import Any

import pytest

import oddjob
from oddjob import Pool
from oddjob.keys import decode_key, encode_key
from oddjob.runtime.limited_queue import LimitedQueue
from tests.hang import Hang, until
from tests.peak import Peak

WAIT = 10.0


def limited_queue(pool: Pool) -> LimitedQueue:
    """The queue of a pool whose jobs have keys."""
    queue = pool._core.dispatcher.limited
    assert queue is not None
    return queue


class Color(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    "key", ["a", 1, b"x", 1.5, True, (1, "a"), uuid.uuid4(), dt.date(2024, 1, 1), Color.RED]
)
def test_an_identifier_of_any_usual_kind_is_a_key(key: object) -> None:
    with Pool(2) as pool:
        job = pool.options(key=key).submit(abs, -1)
        assert job.result(WAIT) == 1
        assert job.key == key


class Customer:
    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Customer) and other.number == self.number

    def __hash__(self) -> int:
        return self.number


class NoZone(dt.tzinfo):
    """A class that `check_key` does not know, and unfinished."""


@pytest.mark.parametrize(
    "key",
    [
        *([], {}, Customer(1), (1, Customer(2)), ([],)),
        decimal.Decimal("sNaN"),
        memoryview(bytearray(b"x")),
        dt.datetime(2024, 1, 1, tzinfo=NoZone()),
    ],
)
def test_what_is_no_identifier_is_refused(key: object) -> None:
    """Keys are compared while a lock is held: code of the user's must have no part in that."""
    with Pool(2) as pool:
        with pytest.raises(TypeError, match="a key must be an identifier"):
            pool.options(key=key)
        with pytest.raises(TypeError, match="a key must be an identifier"):
            pool.options(key=lambda _: key).submit(abs, 1)
        assert pool.queue() == []


@pytest.mark.parametrize("key", [math.nan, decimal.Decimal("nan"), ("a", math.nan)])
def test_what_is_not_equal_to_itself_is_refused(key: object) -> None:
    """Jobs with the key NaN, of a row without a customer say, would all run at once."""
    with Pool(2) as pool:
        with pytest.raises(ValueError, match="cannot be a key: it is not equal to itself"):
            pool.options(key=key)
        with pytest.raises(ValueError, match="cannot be a key: it is not equal to itself"):
            pool.options(key=lambda _: key).submit(abs, 1)
        assert pool.queue() == []


def test_serial_jobs_with_a_key_limit_are_refused() -> None:
    """One of the two would silently lose."""
    with Pool(2, key_limit=2) as pool:
        for view, options in [
            (pool, {"serial": True, "key_limit": 3}),
            (pool.options(serial=True), {"key_limit": 3}),
        ]:
            with pytest.raises(ValueError, match=r"serial=True .* must be 1 or left out, not 3"):
                view.options(**options)  # type: ignore[arg-type]
        several = pool.options(key="a", key_limit=3)
        assert several.options(serial=True, key_limit=1)._policy.key_limit == 1
        assert several.options(serial=True)._policy.key_limit == 1
        assert several.options(serial=False, key_limit=3)._policy.key_limit == 3


def test_one_job_of_a_key_runs_at_once_in_order_and_others_overtake() -> None:
    """Two deliveries to one customer at once is what keys are there to prevent."""
    seen: defaultdict[int, list[int]] = defaultdict(list)
    peaks: defaultdict[int, Peak] = defaultdict(Peak)
    for key in range(7):
        peaks[key] = Peak()

    def work(key: int, number: int) -> None:
        with peaks[key].counted():
            seen[key].append(number)

    with Pool(4) as pool:
        hang = Hang()
        blocked = pool.options(key=0).submit(hang)
        jobs = [
            pool.options(key=number % 7).submit(work, number % 7, number) for number in range(700)
        ]
        for job in jobs:
            if job.key != 0:
                job.result(WAIT)
        assert not seen[0]
        hang.gate.set()
        blocked.result(WAIT)
        for job in jobs:
            job.result(WAIT)
    assert all(numbers == sorted(numbers) and len(numbers) == 100 for numbers in seen.values())
    assert {peak.most for peak in peaks.values()} == {1}


def test_a_key_limit_lets_so_many_in() -> None:
    with Pool(6) as pool:
        hang = Hang()
        jobs = pool.options(key="host", key_limit=3).submit_many(hang, range(6))
        hang.wait_until_it_hangs(3)
        assert pool.submit(abs, -1).result(WAIT) == 1
        assert [job.state for job in jobs] == ["running"] * 3 + ["queued"] * 3
        hang.gate.set()
        assert [job.result(WAIT) for job in jobs] == ["late"] * 6


def test_a_key_can_be_told_from_the_arguments() -> None:
    with Pool(4) as pool:

        @pool.job(key=lambda customer, _: customer)
        def deliver(customer: str, parcel: int) -> tuple[str, int]:
            return customer, parcel

        jobs = [deliver.submit("ann", 1), deliver.submit("bob", 2)]
        assert [(job.key, job.result(WAIT)) for job in jobs] == [
            ("ann", ("ann", 1)),
            ("bob", ("bob", 2)),
        ]
        by_item = pool.options(key=lambda item: item % 3)
        assert [job.key for job in by_item.submit_many(abs, range(5))] == [0, 1, 2, 0, 1]


class Tenant:
    def __call__(self, row: tuple[int, ...]) -> int:
        return row[0]


@pytest.mark.parametrize(
    "key",
    [lambda row: row[0], operator.itemgetter(0), Tenant(), functools.lru_cache(Tenant()), min],
)
def test_a_callable_of_any_kind_computes_the_key(key: Any) -> None:
    """Taken for the key itself, it would be the same for all, and they would wait in one line."""
    with Pool(1) as pool:
        assert [pool.options(key=key).submit(len, (n,)).key for n in range(3)] == [0, 1, 2]
        assert [pool.options(key=key, priority=1).submit(len, (n,)).key for n in (4, 5)] == [4, 5]


def test_a_queue_is_shown_in_the_order_in_which_its_jobs_will_start() -> None:
    """The second of a key is behind the first, however urgent it is."""
    with Pool(1) as pool:
        hang = Hang()
        pool.submit(hang)
        hang.wait_until_it_hangs()
        keyed = pool.options(key="k")
        jobs = [
            keyed.submit(abs, 1),
            keyed.options(priority=9).submit(abs, 2),
            pool.options(priority=5).submit(abs, 3),
        ]
        assert pool.queue() == [jobs[2], jobs[0], jobs[1]]
        hang.gate.set()


def test_a_job_that_was_settled_by_hand_and_cleared_away_gives_its_key_back() -> None:
    with Pool(1) as pool:
        hang = Hang()
        pool.options(key="another").submit(hang)
        hang.wait_until_it_hangs()
        pool.options(key="k").submit(abs, 1).set_result(7)
        for job in [pool.options(key=number).submit(abs, 1) for number in range(3)]:
            job.cancel()
        behind = pool.options(key="k").submit(abs, -2)
        hang.gate.set()
        assert behind.result(WAIT) == 2


def test_keys_leave_nothing_behind() -> None:
    """A hundred thousand customers must not stay in memory when their jobs have gone."""
    with Pool(2) as pool:
        for key in range(2_000):
            pool.options(key=key).perform(abs, key)
        pool.submit(abs, 1).result(WAIT)
        until(lambda: pool.stats().succeeded == 2_001)
        queue = limited_queue(pool)
        until(lambda: not len(queue._lines) and not queue._holding)
        assert not queue._waiting


def test_a_key_costs_less_than_its_job() -> None:
    """A key that one job has for itself costs an entry in a dict, and no line."""
    with Pool(1) as pool:
        hang = Hang()
        pool.submit(hang)
        hang.wait_until_it_hangs()
        jobs = [pool.options(key=f"customer {number}").submit(abs, 1) for number in range(200)]
        assert len(pool.queue()) == 200
        lines = limited_queue(pool)._lines.by_key
        assert {*lines.values()} == {*jobs}
        jobs += [pool.options(key=f"customer {number}").submit(abs, 1) for number in range(200)]
        assert len(pool.queue()) == 400
        assert len(lines) == 200
        line: Any = next(iter(lines.values()))
        takes = sys.getsizeof(line) + sys.getsizeof(line.behind)
        assert takes <= 1_024, "a line of several jobs costs a deque"
        hang.gate.set()


def test_serial_jobs_wait_until_the_one_before_has_succeeded_its_retries_included() -> None:
    """An invoice has to be registered before it can be paid."""
    events: list[str] = []
    attempts = [0]

    def register() -> None:
        attempts[0] += 1
        events.append(f"register {attempts[0]}")
        if attempts[0] < 3:
            raise OSError("not now")

    with Pool(3) as pool:
        invoice = pool.options(key="invoice 7", serial=True, retries=3, backoff=0.02)
        jobs = [invoice.submit(register), invoice.submit(events.append, "pay")]
        other = pool.options(key="invoice 8", serial=True).submit(events.append, "other")
        for job in [*jobs, other]:
            job.result(WAIT)
    assert [each for each in events if each != "other"] == [
        *("register 1", "register 2", "register 3"),
        "pay",
    ]
    assert jobs[0].attempt == 3


def test_a_cancelled_serial_job_lets_the_next_go_on() -> None:
    with Pool(2) as pool:
        hang = Hang()
        line = pool.options(key=1, serial=True)
        line.submit(hang)
        hang.wait_until_it_hangs()
        second, third = line.submit_many(abs, [-2, -3])
        assert second.cancel()
        hang.gate.set()
        assert third.result(WAIT) == 3


def test_a_serial_job_cancelled_between_its_attempts_lets_the_next_go_on() -> None:
    with Pool(2) as pool:
        line = pool.options(key=1, serial=True, retries=1, backoff=3600.0)
        failing = line.submit(int, "no number")
        second = line.submit(abs, -2)
        until(lambda: failing.attempt == 1 and failing.state == "queued")
        assert second.state == "queued"
        assert failing.cancel()
        assert second.result(WAIT) == 2


def test_serial_without_a_key_is_refused() -> None:
    with Pool(2) as pool:
        with pytest.raises(TypeError, match="serial=True needs a key"):
            pool.options(serial=True).submit(abs, 1)
        with pytest.raises(TypeError, match="serial=True needs a key"):
            pool.options(serial=True, key=lambda _: None).submit(abs, 1)


def test_each_function_has_its_own_ceiling() -> None:
    """As Toniq's workers have: one pool, and no kind of work takes all of it."""
    peaks = {"mail": Peak(), "scan": Peak(), "all": Peak()}
    together = threading.Semaphore(0)

    def work(kind: str) -> None:
        with peaks[kind].counted(), peaks["all"].counted():
            together.acquire(timeout=0.002)

    with Pool(6) as pool:
        mail, scan = pool.job(max_concurrency=2)(work), pool.job(max_concurrency=3)(work)
        jobs = [*mail.submit_many(["mail"] * 60), *scan.submit_many(["scan"] * 60)]
        for job in jobs:
            job.result(WAIT)
    assert (peaks["mail"].most, peaks["scan"].most) == (2, 3)
    assert peaks["all"].most == 5


@pytest.mark.parametrize("at_most", [1, 5])
def test_a_view_keeps_the_limits_of_the_view_that_it_is_derived_from(at_most: int) -> None:
    """Otherwise a library that is given a limited view could take the limit off, unknowingly."""
    peak, together = Peak(), threading.Semaphore(0)

    def work() -> None:
        with peak.counted():
            together.acquire(timeout=0.002)

    with Pool(8) as pool:
        outer = pool.options(max_concurrency=2, rate="10/hour")
        inner = outer.options(max_concurrency=at_most, rate="100/hour")
        jobs = [view.submit(work) for view in (outer, inner) * 8]
        until(lambda: sum(job.done() for job in jobs) == 10)
        assert pool.stats().queued == 6
        assert peak.most == 2
        pool.shutdown(cancel_futures=True)


def test_a_ceiling_comes_back_however_its_jobs_end() -> None:
    class Crash(BaseException):
        """Ends the worker."""

    def crash() -> None:
        raise Crash

    with Pool(3, max_restarts=100) as pool:
        one = pool.options(max_concurrency=1, key="k")
        hang = Hang()
        assert isinstance(one.submit(crash).exception(WAIT), Crash)
        stuck = one.options(timeout=0.05).submit(hang)
        assert isinstance(stuck.exception(WAIT), oddjob.JobTimeout)
        assert isinstance(one.submit(int, "x").exception(WAIT), ValueError)
        cancelled = one.options(timeout=WAIT).submit_many(hang, range(3))
        hang.wait_until_it_hangs(2)
        assert cancelled[1].cancel()
        hang.gate.set()
        assert cancelled[2].result(WAIT) == "late"
        assert one.submit(abs, -4).result(WAIT) == 4


def test_a_job_that_waits_for_one_of_its_own_key_does_not_lock_up() -> None:
    """While it waits, it does nothing else that the key could be there to prevent."""
    with Pool(1) as pool:
        keyed = pool.options(key="k", max_concurrency=1)

        def nested(depth: int) -> int:
            return depth if depth == 0 else keyed.submit(nested, depth - 1).result(WAIT) + 1

        assert keyed.submit(nested, 5).result(WAIT) == 5


def test_a_worker_that_waits_runs_those_of_the_key_that_come_before() -> None:
    order: list[int] = []

    def wait_for_the_last() -> None:
        jobs = [keyed.submit(order.append, number) for number in range(3)]
        jobs[-1].result(WAIT)

    with Pool(1) as pool:
        keyed = pool.options(key="k")
        pool.submit(wait_for_the_last).result(WAIT)
        pool.submit(abs, 1).result(WAIT)
    assert order == [0, 1, 2]


def test_a_worker_that_waits_for_a_limit_is_woken_when_it_opens() -> None:
    """Both workers wait for a key that a third thread's end sets free."""
    with Pool(2) as pool:
        hang = Hang()
        keyed = pool.options(key="k")
        release = keyed.submit(hang)
        hang.wait_until_it_hangs()
        waiting = pool.submit(lambda: keyed.submit(abs, -7).result(WAIT))
        until(lambda: len(pool.queue()) == 1)
        hang.gate.set()
        assert waiting.result(WAIT) == 7
        assert release.result(WAIT) == "late"


@pytest.mark.parametrize(
    "options", [{"key": "k"}, {"key": "k", "serial": True}, {"max_concurrency": 1}]
)
def test_coroutines_of_one_key_may_await_each_other_however_deep(options: Any) -> None:
    """Each runs on a loop and a thread of its own, while those before it hold the key."""
    with Pool(1) as pool:
        view = pool.options(**options)

        async def descend(depth: int) -> int:
            return 0 if depth == 0 else 1 + await view.submit(descend, depth - 1)

        assert view.submit(descend, 4).result(WAIT) == 4


@pytest.mark.parametrize("more", [{"priority": 1}, {"timeout": 9.0}, {"name": "n"}, {}])
def test_a_view_for_each_job_makes_no_class_for_each_job(more: Any) -> None:
    """A class would take more memory than the job, and a hundred times as long to make."""
    with Pool(1) as pool:
        jobs = [pool.options(key=number, **more).submit(abs, 1) for number in range(3)]
        jobs.append(pool.options(key=4).options(**more).submit(abs, 1))
        assert len({type(job) for job in jobs}) == 1
        assert [job.key for job in jobs] == [0, 1, 2, 4]


def test_a_backoff_that_has_no_hash_is_as_good_as_any() -> None:
    with Pool(1) as pool:
        view = pool.options(key="k", retries=1, backoff=[0.0])  # type: ignore[arg-type]
        assert view.submit(abs, -1).result(WAIT) == 1


@pytest.mark.parametrize(
    "key", ["a", "=a", "=", 1, -1.5, b"x", True, (), (1, ("a",)), 10**30, 1j, "\x00é"]
)
def test_a_key_is_read_back_from_its_text_as_it_was(key: object) -> None:
    text = encode_key(key)
    assert isinstance(text, str)
    assert (decode_key(text), type(decode_key(text))) == (key, type(key))


def test_a_key_that_has_no_literal_is_shown_by_its_repr() -> None:
    assert decode_key(encode_key(dt.date(2024, 1, 1))) == "datetime.date(2024, 1, 1)"
    assert decode_key(encode_key(Color.RED)) == "<Color.RED: 1>"


def test_a_set_has_the_same_text_in_every_process() -> None:
    """Its order is not the same: strings have other hashes in each process."""
    script = (
        "from oddjob.keys import encode_key; "
        "print(encode_key((1, frozenset({'a', 'b', 'c', 'd', 'e'}))))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "123"
    }
    assert len(texts) == 1
