"""Figures against ``ThreadPoolExecutor``: the same work on both, in turn, in one process.

``make bench`` prints the table of the README. Each figure is the median of several rounds of
"standard library, then OddJob" and stands with the lowest and highest round: what a busy machine
cannot spoil is the ratio of two neighbours. ``--rounds`` sets how many, ``--scale 0.01`` makes
the work small, to see that everything still runs.
"""

import argparse
import asyncio
import gc
import os
import platform
import statistics
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import count, cycle, repeat
from typing import Any, NamedTuple

from oddjob import Pool, Rate

Make = Callable[..., Executor]
NAP = 0.005  # seconds


def nothing() -> None:
    """Do no work: what remains is the executor's own."""


def settle(jobs: list[Future[None]]) -> None:
    for job in jobs:
        job.result()


def submit_all(make: Make, count: int, workers: int = 5) -> float:
    """Submit no-op jobs, then read all results."""
    with make(workers) as executor:
        start = time.perf_counter()
        settle([executor.submit(nothing) for _ in range(count)])
        return time.perf_counter() - start


def submit_many(make: Make, count: int) -> float:
    """The same in one batch, where there are batches."""
    with make(5) as executor:
        start = time.perf_counter()
        if isinstance(executor, Pool):
            settle(executor.submit_many(no_matter_what, range(count)))
        else:
            settle([executor.submit(no_matter_what, item) for item in range(count)])
        return time.perf_counter() - start


def no_matter_what(item: object) -> None:
    """Take one item and do nothing with it."""


def map_all(make: Make, count: int) -> float:
    """Iterate over the results of a map."""
    with make(5) as executor:
        start = time.perf_counter()
        for _ in executor.map(no_matter_what, range(count)):
            pass
        return time.perf_counter() - start


def one_at_a_time(make: Make, count: int) -> float:
    """Submit a job and wait for it, again and again."""
    with make(5) as executor:
        executor.submit(nothing).result()
        start = time.perf_counter()
        for _ in range(count):
            executor.submit(nothing).result()
        return time.perf_counter() - start


def await_all(make: Make, count: int) -> float:
    """Await jobs in one gather: as OddJob's users do, and as the standard library's do."""

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


def four_submitters(make: Make, count: int) -> float:
    """Four threads submit and read at once."""
    with make(5) as executor:
        together = threading.Barrier(5)

        def submit() -> None:
            together.wait()
            settle([executor.submit(nothing) for _ in range(count // 4)])

        threads = [threading.Thread(target=submit) for _ in range(4)]
        for thread in threads:
            thread.start()
        together.wait()
        start = time.perf_counter()
        for thread in threads:
            thread.join()
        return time.perf_counter() - start


def memory(make: Make, count: int) -> float:
    """Bytes that each pending job takes."""
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


def naps(make: Make, count: int) -> float:
    """Jobs that sleep, on 50 workers: the time, as a multiple of the ideal."""
    with make(50) as executor:
        start = time.perf_counter()
        settle([executor.submit(time.sleep, NAP) for _ in range(count)])
        return (time.perf_counter() - start) / (count * NAP / 50)


def limited(executor: Executor, kind: str) -> Iterator[Executor]:
    """Where jobs are submitted, one after the other; nothing but itself if it knows no limits."""
    if not isinstance(executor, Pool) or kind in ("bound", "rate"):
        return repeat(executor)
    if kind == "priority":
        return cycle([executor.options(priority=priority) for priority in range(10)])
    return (executor.options(key=key) for key in count())


def submit_limited(make: Make, count: int, kind: str) -> float:
    """Submit no-op jobs to a pool that has to look after more than arrival."""
    options: dict[str, Any] = {}
    if make is Pool:
        bound, rate = {"max_queue": 1_000}, {"rate": Rate(10**7, burst=10**6)}
        options = {"bound": bound, "rate": rate}.get(kind, {})
    with make(5, **options) as executor:
        targets = limited(executor, kind)
        start = time.perf_counter()
        settle([next(targets).submit(nothing) for _ in range(count)])
        return time.perf_counter() - start


def ten_thousand_at_a_rate() -> float:
    """Seconds that ten thousand jobs take at a thousand a second: 10, says arithmetic."""
    with Pool(pool_size=5, rate=Rate(1000)) as pool:
        start = time.perf_counter()
        settle(pool.submit_many(no_matter_what, range(10_000)))
        return time.perf_counter() - start


class Figure(NamedTuple):
    """A row of the table: what is done, how, how often, and what is asked for."""

    title: str
    measure: Callable[[Make, int], float]
    count: int
    at_least: float
    aim: float
    repeats: int = 1  # how many times as many rounds: short ones, where the machine's noise is loud


FIGURES = [
    Figure(
        f"50,000 no-op jobs, {workers} worker{'s' * (workers > 1)}",
        lambda make, count, workers=workers: submit_all(make, count, workers),  # type: ignore[misc]  # a default
        50_000, 6, 10,
    )
    for workers in (1, 5, 50)
] + [
    Figure("the same through `submit_many`", submit_many, 50_000, 8, 15),
    Figure("`map` over 50,000", map_all, 50_000, 5, 8),
    Figure("submit → result, one at a time", one_at_a_time, 500, 1.0, 1.3, repeats=15),
    Figure("20,000 `await job` against `run_in_executor`", await_all, 20_000, 1.5, 3),
    Figure("four threads submitting at once", four_submitters, 50_000, 4, 8),
    *[
        Figure(
            title, lambda make, count, kind=kind: submit_limited(make, count, kind), 20_000, 3, 5
        )  # type: ignore[misc]  # a default
        for title, kind in [
            ("a queue of at most 1,000", "bound"),
            ("ten priorities", "priority"),
            ("a key for each job", "key"),
            ("a rate far above the load", "rate"),
        ]
    ],
    Figure("bytes per pending job", memory, 20_000, 4, 6),
    Figure("5,000 sleeps of 5 ms on 50 workers", naps, 5_000, 1.0, 1.0),
]  # fmt: skip


def rounds_of(figure: Figure, rounds: int, scale: float) -> Iterator[tuple[float, float]]:
    """What the standard library and OddJob took, round by round."""
    count = max(100, int(figure.count * scale))
    for _ in range(rounds * figure.repeats):
        theirs = figure.measure(ThreadPoolExecutor, count)
        ours = figure.measure(Pool, count)
        yield theirs, ours


def shown(figure: Figure, theirs: float, ours: float) -> tuple[str, str]:
    """A measurement in the unit it is understood in."""
    if figure.measure is memory:
        return f"{theirs:,.0f}", f"{ours:,.0f}"
    if figure.measure is naps:
        return f"{1 / theirs:.1%} of ideal", f"{1 / ours:.1%} of ideal"
    return f"{theirs / figure.count * 1e6:.1f} µs", f"{ours / figure.count * 1e6:.1f} µs"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", default="", help="figures whose title contains this")
    options = parser.parse_args()
    build = "" if getattr(sys, "_is_gil_enabled", lambda: True)() else ", free-threaded"
    print(
        f"CPython {platform.python_version()}{build}, {os.cpu_count()} cores, "
        f"medians of {options.rounds} interleaved rounds (lowest to highest)\n"
    )
    print("| work | ThreadPoolExecutor | OddJob | ratio | asked | aim |")
    print("|---|---|---|---|---|---|")
    for figure in FIGURES:
        if options.only not in figure.title:
            continue
        pairs = list(rounds_of(figure, options.rounds, options.scale))
        ratios = [theirs / ours for theirs, ours in pairs]
        theirs, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
        said = shown(figure, theirs / options.scale, ours / options.scale)
        if figure.measure in (memory, naps):
            said = shown(figure, theirs, ours)
        print(
            f"| {figure.title} | {said[0]} | {said[1]} | **{statistics.median(ratios):.2f}x** "
            f"({min(ratios):.2f} to {max(ratios):.2f}) | {figure.at_least}x | {figure.aim}x |",
            flush=True,
        )
    if not options.only and options.scale >= 1:
        took = ten_thousand_at_a_rate()
        print(f"\n10,000 jobs at 1,000 a second took {took:.2f} s.")


if __name__ == "__main__":
    main()
