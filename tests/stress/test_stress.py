"""Many rounds under a switch interval so short that threads are switched as often as possible.

``ODDJOB_STRESS_ROUNDS`` sets how many; ``make stress`` runs more than the suite does.
"""

import asyncio
import gc
import itertools
import os
import random
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, as_completed, wait
from contextlib import contextmanager

import pytest

from oddjob import Job, Pool, PoolClosed

ROUNDS = range(int(os.environ.get("ODDJOB_STRESS_ROUNDS", "1")))
DELAYS = range(0, 20, 1 if "ODDJOB_STRESS_ROUNDS" in os.environ else 5)  # milliseconds
WAIT = 30.0

pytestmark = [
    pytest.mark.usefixtures("tiny_switch_interval"),
    pytest.mark.parametrize("seed", ROUNDS),
    pytest.mark.timeout(120),
]


@contextmanager
def in_threads(count: int, act: Callable[[int], None]) -> Iterator[None]:
    """Run ``act(number)`` in `count` threads that start together, beside the block."""
    together = threading.Barrier(count + 1)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        together.wait(WAIT)
        try:
            act(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    together.wait(WAIT)
    yield
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()
    assert errors == []


@pytest.mark.parametrize("size", [1, 5, 50])
def test_every_result_reaches_its_submitter(seed: int, size: int) -> None:
    with Pool(size) as pool:

        def submit(number: int) -> None:
            jobs = [pool.submit(divmod, index, number + 1) for index in range(1000)]
            assert [job.result(WAIT) for job in jobs] == [
                divmod(index, number + 1) for index in range(1000)
            ]
            assert pool.submit(pow, number, 2).result(WAIT) == number**2

        with in_threads(4, submit):
            pass


def test_one_at_a_time_never_waits_for_ever(seed: int) -> None:
    """Between the jobs workers park: this is where a wake-up could be lost."""
    with Pool(3) as pool:

        def submit(number: int) -> None:
            for index in range(500):
                assert pool.submit(pow, index, 2).result(WAIT) == index**2

        with in_threads(3, submit):
            pass


def test_batches_keep_together(seed: int) -> None:
    order: list[tuple[int, int, int]] = []
    with Pool(1) as pool:

        def submit(number: int) -> None:
            for batch in range(20):
                pool.perform_many(order.append, [(number, batch, index) for index in range(20)])

        with in_threads(4, submit):
            pass
    assert len(order) == 4 * 20 * 20
    for start in range(0, len(order), 20):
        number, batch, _ = order[start]
        assert order[start : start + 20] == [(number, batch, index) for index in range(20)]


def test_what_was_accepted_runs_and_what_was_refused_does_not(seed: int) -> None:
    """Shutdown in the middle of submits: each submit must say correctly whether its job runs."""
    for delay in DELAYS:
        pool = Pool(2)
        ran: list[tuple[int, int]] = []
        accepted: list[list[tuple[int, int]]] = [[] for _ in range(3)]

        def submit(number: int) -> None:
            for index in itertools.count():
                try:
                    pool.perform(ran.append, (number, index))  # noqa: B023 - ends with the round
                except PoolClosed:
                    return
                accepted[number].append((number, index))  # noqa: B023 - ends with the round

        with in_threads(3, submit):
            threading.Event().wait(0.001 * delay)
            pool.shutdown()
        assert sorted(ran) == sorted(itertools.chain(*accepted))


def test_shutdown_ends_every_accepted_job(seed: int) -> None:
    for delay in DELAYS:
        pool = Pool(2)
        accepted: list[Job[float]] = []

        def submit(number: int) -> None:
            try:
                while True:
                    accepted.append(pool.submit(pow, number, 2))  # noqa: B023 - ends with the round
            except PoolClosed:
                return

        with in_threads(3, submit):
            threading.Event().wait(0.001 * delay)
            pool.shutdown(wait=False, cancel_futures=True)
        assert wait(accepted, WAIT).not_done == set()


def test_a_cancelled_job_never_runs_and_any_other_runs_once(seed: int) -> None:
    ran: Counter[int] = Counter()
    with Pool(3) as pool:
        jobs = [pool.submit(ran.update, [number]) for number in range(3000)]
        cancelled: list[set[int]] = [set(), set()]

        def cancel(number: int) -> None:
            order = list(range(3000))
            random.Random(seed + number).shuffle(order)
            cancelled[number].update(index for index in order if jobs[index].cancel())

        with in_threads(2, cancel):
            pass
    assert cancelled[0] == cancelled[1] or cancelled[0] ^ cancelled[1] <= set(ran)
    both = cancelled[0] | cancelled[1]
    assert both.isdisjoint(ran)
    assert set(ran) == set(range(3000)) - both
    assert set(ran.values()) <= {1}


def test_waiters_are_woken_and_callbacks_are_called_once_each(seed: int) -> None:
    called: Counter[Future[float]] = Counter()
    with Pool(4) as pool:

        def watch(number: int) -> None:
            jobs = [pool.submit(pow, number, 2) for _ in range(300)]
            for job in jobs[::2]:
                job.add_done_callback(lambda done: called.update([done]))
            assert wait(jobs[::3], WAIT).not_done == set()
            assert Counter(as_completed(jobs, WAIT)) == Counter(jobs)

        with in_threads(4, watch):
            pass
    assert len(called) == 4 * 150
    assert set(called.values()) == {1}


def test_fan_out_inside_a_small_pool_terminates(seed: int) -> None:
    with Pool(2) as pool:

        def count(depth: int) -> int:
            if depth == 0:
                return 1
            return sum(job.result(WAIT) for job in pool.submit_many(count, [depth - 1] * 3))

        assert [job.result(WAIT) for job in pool.submit_many(count, [5] * 3)] == [3**5] * 3


def test_awaiting_loops_miss_nothing(seed: int) -> None:
    """Several event loops wait for the jobs of one pool, one by one and all at once."""
    with Pool(4) as pool:

        async def main() -> None:
            for number in range(100):
                assert await pool.submit(pow, number, 2) == number**2
            jobs = pool.submit_many(abs, range(1000))
            assert await asyncio.gather(*jobs) == list(range(1000))

        with in_threads(3, lambda _: asyncio.run(main())):
            pass


def test_pools_to_which_nothing_refers_disappear(seed: int) -> None:
    cores = []
    before = set(threading.enumerate())
    for number in range(50):
        pool = Pool(2)
        jobs = pool.submit_many(abs, range(number))
        cores.append(weakref.ref(pool._core))
        del pool
        assert [job.result(WAIT) for job in jobs] == list(range(number))
        del jobs
    for thread in set(threading.enumerate()) - before:
        thread.join(WAIT)
    gc.collect()
    assert [ref for ref in cores if ref() is not None] == []
