"""Benchmarks against the standard library: the same work on both, in turn, in one process.

``make bench`` prints the table. Each figure is the median of several rounds of "standard library,
then OddJob", with the lowest and the highest round beside it: load from other processes changes
the times, but hardly the ratio of two neighboring measurements. ``--rounds`` sets the number of
rounds, ``--only`` selects rows by a part of their title, ``--scale 0.01`` shrinks the work, to
check that everything still runs. ``PYTHONPATH`` selects another checkout of OddJob; the heading
names the one that was measured.
"""

import argparse
import asyncio
import gc
import os
import platform
import sched
import statistics
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count as count_up
from itertools import cycle, repeat
from pathlib import Path
from typing import Any, NamedTuple

import oddjob
from oddjob import Pool, Rate

MakeExecutor = Callable[..., Executor]
Measure = Callable[[MakeExecutor, int], float]

SLEEP = 0.005  # seconds
HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()
CAN_PIN = hasattr(os, "sched_setaffinity")


def nothing() -> None:
    """Do no work: the time that remains is the executor's own."""


def ignore(item: object) -> None:
    """Do no work, with one argument."""


def wait_for(jobs: list[Future[None]]) -> None:
    """Read all results."""
    for job in jobs:
        job.result()


# Measurements. Each takes `Pool` or `ThreadPoolExecutor` and a number of jobs, and returns seconds
# unless its docstring says otherwise.


def one_at_a_time(make: MakeExecutor, count: int) -> float:
    """Submit a job and wait for its result, again and again."""
    with make(5) as executor:
        executor.submit(nothing).result()
        start = time.perf_counter()
        for _ in range(count):
            executor.submit(nothing).result()
        return time.perf_counter() - start


@contextmanager
def one_core() -> Iterator[None]:
    """Pin this thread, and the threads that it starts meanwhile, to one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def one_at_a_time_on_one_core(make: MakeExecutor, count: int) -> float:
    """Submit a job and wait for its result, again and again, with all threads on one core."""
    with one_core():
        return one_at_a_time(make, count)


def submit_all(make: MakeExecutor, count: int, *, workers: int = 5) -> float:
    """Submit no-op jobs one by one, then read all results."""
    with make(workers) as executor:
        start = time.perf_counter()
        wait_for([executor.submit(nothing) for _ in range(count)])
        return time.perf_counter() - start


def submit_many(make: MakeExecutor, count: int) -> float:
    """Submit no-op jobs in one batch, where the executor has batches, then read all results."""
    with make(5) as executor:
        start = time.perf_counter()
        if isinstance(executor, Pool):
            wait_for(executor.submit_many(ignore, range(count)))
        else:
            wait_for([executor.submit(ignore, item) for item in range(count)])
        return time.perf_counter() - start


def submit_limited(make: MakeExecutor, count: int, *, kind: str) -> float:
    """Submit no-op jobs one by one, to a pool with a limit, then read all results."""
    options: dict[str, Any] = {}
    if make is Pool and kind == "max_queue":
        options["max_queue"] = 1000
    if make is Pool and kind == "rate":
        options["rate"] = Rate(10**7, burst=10**6)
    with make(5, **options) as executor:
        targets = limited_targets(executor, kind)
        start = time.perf_counter()
        wait_for([next(targets).submit(nothing) for _ in range(count)])
        return time.perf_counter() - start


def limited_targets(executor: Executor, kind: str) -> Iterator[Executor]:
    """Return, job by job, the view to submit to; the executor itself if it has no views."""
    if isinstance(executor, Pool):
        if kind == "priorities":
            return cycle([executor.options(priority=priority) for priority in range(10)])
        if kind == "key for each":
            return (executor.options(key=key) for key in count_up())
        if kind == "hot keys":
            return cycle([executor.options(key=key) for key in range(20)])
        if kind == "fair shares":
            return cycle([executor.options(fair_by=key) for key in range(20)])
        if kind == "concurrency":
            return repeat(executor.options(max_concurrency=4))
    return repeat(executor)


def bytes_per_pending_job(make: MakeExecutor, count: int) -> float:
    """Return the bytes of memory that a queued job occupies."""
    gate = threading.Event()
    with make(1) as executor:
        executor.submit(gate.wait)
        jobs: list[Future[None] | None] = [None] * count
        gc.collect()
        tracemalloc.start()
        for index in range(count):
            jobs[index] = executor.submit(nothing)
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        gate.set()
    return used / count


def set_timers(make: MakeExecutor, count: int) -> float:
    """Set timers an hour ahead: in a pool, or in `sched`, which stores a call and makes no job."""
    if make is not Pool:
        scheduler = sched.scheduler(time.monotonic)
        start = time.perf_counter()
        for number in range(count):
            scheduler.enterabs(start + 3600 + number * 1e-6, 0, nothing)
        return time.perf_counter() - start
    with Pool(None, 1) as pool:
        start = time.perf_counter()
        for number in range(count):
            pool.after(3600 + number * 1e-6).perform(nothing)
        return time.perf_counter() - start


def map_all(make: MakeExecutor, count: int) -> float:
    """Iterate over the results of `map`."""
    with make(5) as executor:
        start = time.perf_counter()
        for _ in executor.map(ignore, range(count)):
            pass
        return time.perf_counter() - start


def await_all(make: MakeExecutor, count: int) -> float:
    """Await all jobs in one `gather`: each by itself, or through `run_in_executor`."""

    async def main(executor: Executor) -> float:
        loop = asyncio.get_running_loop()

        async def one() -> None:
            if isinstance(executor, Pool):
                await executor.submit(nothing)
            else:
                await loop.run_in_executor(executor, nothing)

        start = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(count)))
        return time.perf_counter() - start

    with make(5) as executor:
        return asyncio.run(main(executor))


def four_submitters(make: MakeExecutor, count: int) -> float:
    """Submit from four threads at once; each then reads its results."""
    with make(5) as executor:
        barrier = threading.Barrier(5)

        def submit() -> None:
            barrier.wait()
            wait_for([executor.submit(nothing) for _ in range(count // 4)])

        threads = [threading.Thread(target=submit) for _ in range(4)]
        for thread in threads:
            thread.start()
        barrier.wait()
        start = time.perf_counter()
        for thread in threads:
            thread.join()
        return time.perf_counter() - start


def sleeping_jobs(make: MakeExecutor, count: int) -> float:
    """Run jobs that sleep on 50 workers; return the time as a multiple of the ideal."""
    with make(50) as executor:
        start = time.perf_counter()
        wait_for([executor.submit(time.sleep, SLEEP) for _ in range(count)])
        return (time.perf_counter() - start) / (count * SLEEP / 50)


class Row(NamedTuple):
    """A row of the table.

    `at_least` and `aim` are ratios to the standard library; None means that nothing is promised.
    Where a measurement is short and noisy, `repeats` multiplies the number of rounds.
    """

    title: str
    measure: Measure
    count: int
    at_least: float | None
    aim: float | None = None
    repeats: int = 1


def limited_row(title: str, kind: str, at_least: float, aim: float) -> Row:
    """Make a row for jobs with a limit. Free-threaded builds print it without a bound."""
    measure = partial(submit_limited, kind=kind)
    return Row(title, measure, 20_000, *((at_least, aim) if HAS_GIL else (None, None)))


IS_3_13 = sys.version_info >= (3, 13)
PLAIN_AT_LEAST, PLAIN_AIM = (6.0, 7.0 if IS_3_13 else 9.0) if HAS_GIL else (3.0, None)

ROWS = [
    Row("one at a time, submit → result, two cores free", one_at_a_time, 500, 1.0, 1.3, repeats=15),
    Row(
        "one at a time, submit → result, pinned to one core",
        one_at_a_time_on_one_core,
        500,
        1.0,
        1.3,
        repeats=15,
    ),
    Row("50,000 no-ops, 5 workers", submit_all, 50_000, PLAIN_AT_LEAST, PLAIN_AIM),
    Row("`submit_many` of 50,000", submit_many, 50_000, 9, 15),
    limited_row("`max_queue=1000`", "max_queue", 5, 6),
    limited_row("ten priorities", "priorities", 3, 4),
    limited_row("a rate far above the load", "rate", 3, 4),
    limited_row("a key for each job", "key for each", 2.5, 3.5),
    limited_row("`max_concurrency=4` of 5 workers", "concurrency", 2.4, 3.3),
    limited_row("20 hot keys", "hot keys", 2.4, 3.3),
    limited_row("fair shares of 20 keys", "fair shares", 1.6, 2.2),
    Row("bytes per pending job", bytes_per_pending_job, 20_000, 6),
    Row("setting 100,000 timers, beside `sched`", set_timers, 100_000, 0.25, 0.4),
    Row("50,000 no-ops, 1 worker", partial(submit_all, workers=1), 50_000, PLAIN_AT_LEAST),
    Row("50,000 no-ops, 50 workers", partial(submit_all, workers=50), 50_000, PLAIN_AT_LEAST),
    Row("`map` over 50,000", map_all, 50_000, 5, 8),
    Row("20,000 `await job` beside `run_in_executor`", await_all, 20_000, 1.5, 3),
    Row("four threads submitting at once", four_submitters, 50_000, 4, 8),
    Row("5,000 sleeps of 5 ms on 50 workers", sleeping_jobs, 5_000, 1.0, 1.0),
]


class Round(NamedTuple):
    """Two neighboring measurements."""

    stdlib: float
    oddjob: float

    @property
    def ratio(self) -> float:
        return self.stdlib / self.oddjob


def run(row: Row, rounds: int, count: int) -> list[Round]:
    """Measure the standard library and OddJob in turn."""
    found = []
    for _ in range(rounds * row.repeats):
        gc.collect()
        stdlib = row.measure(ThreadPoolExecutor, count)
        gc.collect()
        found.append(Round(stdlib, row.measure(Pool, count)))
    return found


def as_text(row: Row, value: float, count: int) -> str:
    """Show a measurement in the unit in which it is understood."""
    if row.measure is bytes_per_pending_job:
        return f"{value:,.0f}"
    if row.measure is sleeping_jobs:
        return f"{1 / value:.1%} of ideal"
    return f"{value / count * 1e6:.1f} µs"


def bound_as_text(bound: float | None) -> str:
    return "" if bound is None else f"{bound:g}x"


def print_row(row: Row, rounds: int, scale: float) -> None:
    count = max(100, int(row.count * scale))
    found = run(row, rounds, count)
    ratios = [each.ratio for each in found]
    stdlib = as_text(row, statistics.median(each.stdlib for each in found), count)
    ours = as_text(row, statistics.median(each.oddjob for each in found), count)
    print(
        f"| {row.title} | {stdlib} | {ours} | **{statistics.median(ratios):.2f}x** "
        f"({min(ratios):.2f} to {max(ratios):.2f}) "
        f"| {bound_as_text(row.at_least)} | {bound_as_text(row.aim)} |",
        flush=True,
    )


def seconds_for_ten_thousand_at_a_rate() -> float:
    """Run ten thousand jobs at a rate of a thousand a second, which takes at least 10 seconds."""
    with Pool(pool_size=5, rate=Rate(1000, burst=1)) as pool:
        start = time.perf_counter()
        wait_for(pool.submit_many(ignore, range(10_000)))
        return time.perf_counter() - start


def place_of_the_last_small_job(count: int, *, has_big: bool, **options: Any) -> int:
    """Return how many jobs there are until nine customers, with a tenth of all, are served.

    One more customer, the big one, has submitted the other nine tenths before them.
    """
    small = [f"small {number % 9}" for number in range(count // 10)]
    started, gate = list[str](), threading.Event()
    with Pool(pool_size=1) as pool:
        pool.submit(gate.wait)
        submit = pool.options(**options).submit_many
        submit(started.append, ["big"] * (count - len(small)) * has_big + small)
        gate.set()
    return max(place for place, customer in enumerate(started, 1) if customer != "big")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", default="", help="measure rows whose title contains this text")
    options = parser.parse_args()
    build = "" if HAS_GIL else " free-threaded"
    print(
        f"OddJob {oddjob.__version__} from {Path(oddjob.__file__).parent}, "
        f"CPython {platform.python_version()}{build}, {os.cpu_count()} cores, "
        f"medians of {options.rounds} interleaved rounds (lowest to highest)\n"
    )
    print("| work | standard library | OddJob | ratio | at least | aim |")
    print("|---|---|---|---|---|---|")
    for row in ROWS:
        if row.measure is one_at_a_time_on_one_core and not CAN_PIN:
            continue
        if options.only in row.title:
            print_row(row, options.rounds, options.scale)
    count = max(100, int(100_000 * options.scale))
    alone, before = (place_of_the_last_small_job(count, has_big=each) for each in (False, True))
    fair = place_of_the_last_small_job(count, has_big=True, fair_by=lambda customer: customer)
    print(
        f"\nNine customers with a tenth of {count:,} jobs are served after {before:,} jobs, "
        f"after {fair:,} with fair shares, and after {alone:,} without the tenth customer."
    )
    if not options.only and options.scale >= 1:
        took = seconds_for_ten_thousand_at_a_rate()
        print(f"\n10,000 jobs at 1,000 a second took {took:.2f} s.")


if __name__ == "__main__":
    main()
