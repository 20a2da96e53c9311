"""Benchmarks of timers beside `sched` and `threading.Timer`.

Prints the processor time to set and fire many timers, to set and cancel many, how late timers fire
when ten thousand are due within a second, and how long a day of a crontab takes on a fake clock.
``--scale 0.01`` shrinks the work, to check that everything still runs.
"""

import argparse
import sched
import statistics
import threading
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime

from oddjob import Pool
from oddjob.testing import FakeClock, inline

AHEAD = 0.5  # seconds between setting the first timer and its firing
AHEAD_OF_SPREAD = 2.0  # the same in `delays`, where all timers must be set before the first fires


class Countdown:
    """A callable that can be waited for until it has been called `count` times."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._lock = threading.Lock()
        self._is_done = threading.Event()

    def __call__(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._is_done.set()

    def wait(self) -> None:
        self._is_done.wait()


def with_pool(count: int) -> float:
    """Set timers in a pool and let them fire; return the processor time."""
    calls = Countdown(count)
    with Pool(None, 2) as pool:
        start = time.process_time()
        for number in range(count):
            pool.after(AHEAD + number * 1e-6).perform(calls)
        calls.wait()
        return time.process_time() - start


def with_sched(count: int) -> float:
    """Do the same with `sched`, which makes the calls in the thread that runs it."""
    calls = Countdown(count)
    scheduler = sched.scheduler(time.monotonic)
    start_of_cpu = time.process_time()
    start = time.monotonic()
    for number in range(count):
        scheduler.enterabs(start + AHEAD + number * 1e-6, 0, calls)
    scheduler.run()
    return time.process_time() - start_of_cpu


def with_threads(count: int) -> float:
    """Do the same with a `threading.Timer` for each."""
    calls = Countdown(count)
    start = time.process_time()
    for _ in range(count):
        threading.Timer(AHEAD, calls).start()
    calls.wait()
    return time.process_time() - start


def print_row(title: str, with_stdlib: Callable[[int], float], count: int, rounds: int) -> None:
    """Measure both in turn and print the processor time of each timer."""
    pairs = [(with_stdlib(count), with_pool(count)) for _ in range(rounds)]
    ratios = [stdlib / ours for stdlib, ours in pairs]
    stdlib, ours = (statistics.median(column) / count * 1e6 for column in zip(*pairs, strict=True))
    print(
        f"| {title} | {stdlib:.1f} µs | {ours:.1f} µs | "
        f"**{statistics.median(ratios):.2f}x** ({min(ratios):.2f} to {max(ratios):.2f}) |",
        flush=True,
    )


def set_and_cancel(count: int) -> tuple[float, int]:
    """Return the seconds to set and cancel `count` jobs, and the bytes that remain in use."""
    with Pool(None, 1) as pool:
        in_an_hour = pool.after(3600)
        in_an_hour.submit(int).cancel()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        sample = [in_an_hour.submit(int) for _ in range(min(count, 10_000))]
        for job in sample:
            job.cancel()
        del sample, job
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        start = time.perf_counter()
        for job in [in_an_hour.submit(int) for _ in range(count)]:
            job.cancel()
        return time.perf_counter() - start, used - before


def delays(count: int) -> tuple[float, float, float]:
    """Fire `count` timers in a second; return median, 99th percentile and longest delay (ms)."""
    found: list[float] = []

    def note(due: float) -> None:
        found.append(time.monotonic() - due)

    with Pool(None, 2) as pool:
        start = time.monotonic() + AHEAD_OF_SPREAD
        for number in range(count):
            due = start + number / count
            pool.after(max(0.0, due - time.monotonic())).perform(note, due)
        while len(found) < count:
            time.sleep(0.05)
    found.sort()
    return found[count // 2] * 1e3, found[count * 99 // 100] * 1e3, found[-1] * 1e3


def crontab() -> tuple[int, float]:
    """Run a day of fifty entries on a fake clock; return the number of firings and the seconds."""
    entries = [
        f"{number % 60} {hours} * * *" if number % 3 else f"*/{5 + number % 20} * * * *"
        for number, hours in enumerate(["*", "1", "2,14", "*/6", "8-18"] * 10)
    ]
    noon = datetime(2026, 3, 28, 12, tzinfo=UTC)
    with inline(), FakeClock(noon) as clock, Pool(None, 1) as pool:
        timers = [pool.cron(entry, tz="Europe/Berlin").perform(int) for entry in entries]
        start = time.perf_counter()
        clock.advance(days=1)
        return sum(timer.fired for timer in timers), time.perf_counter() - start


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()

    def scaled(count: int) -> int:
        return max(20, int(count * options.scale))

    print("| timers, processor time of each | standard library | OddJob | ratio |")
    print("|---|---|---|---|")
    print_row("100,000 set and fired, `sched`", with_sched, scaled(100_000), options.rounds)
    print_row("1,000 of `threading.Timer`", with_threads, scaled(1_000), options.rounds)
    seconds, left = set_and_cancel(scaled(1_000_000))
    print(f"\nA million set and cancelled: {seconds:.1f} s; {left:,} bytes remain in use.")
    rounds = [delays(scaled(10_000)) for _ in range(options.rounds)]
    median, late, latest = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(
        f"10,000 due within a second: median delay {median:.2f} ms, 99th percentile {late:.2f} ms, "
        f"maximum {latest:.1f} ms (medians of the rounds)."
    )
    fired, took = crontab()
    print(f"A day of a crontab of 50 entries on a fake clock: {fired:,} firings in {took:.2f} s.")


if __name__ == "__main__":
    main()
