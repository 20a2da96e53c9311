"""Timers against what the standard library has: ``sched``, and a ``threading.Timer`` for each.

Prints what it takes to set and fire many, to set and cancel many, how late they come when ten
thousand are due in a second, and how long a day of a crontab takes on a fake clock. ``--scale
0.01`` makes the work small, to see that everything still runs.
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

AHEAD = 0.5  # seconds between setting timers and the first being due
LONG_AHEAD = 2.0  # where all of them are to be set by then


class Countdown:
    """Calls, of which the last is waited for."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._lock = threading.Lock()
        self._over = threading.Event()

    def __call__(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._over.set()

    def wait(self) -> None:
        self._over.wait()


def ours(count: int) -> float:
    """Set timers in a pool, and have them fire; the time that the machine was busy."""
    calls = Countdown(count)
    with Pool(None, 2) as pool:
        began = time.process_time()
        for number in range(count):
            pool.after(AHEAD + number * 1e-6).perform(calls)
        calls.wait()
        return time.process_time() - began


def by_sched(count: int) -> float:
    """The same with ``sched``, which runs calls where it is run."""
    calls = Countdown(count)
    scheduler = sched.scheduler(time.monotonic)
    began = time.process_time()
    start = time.monotonic()
    for number in range(count):
        scheduler.enterabs(start + AHEAD + number * 1e-6, 0, calls)
    scheduler.run()
    return time.process_time() - began


def by_threads(count: int) -> float:
    """The same with a ``threading.Timer`` for each."""
    calls = Countdown(count)
    began = time.process_time()
    for _ in range(count):
        threading.Timer(AHEAD, calls).start()
    calls.wait()
    return time.process_time() - began


def compare(title: str, theirs: Callable[[int], float], count: int, rounds: int) -> None:
    """Run both in turn and print what each timer takes."""
    pairs = [(theirs(count), ours(count)) for _ in range(rounds)]
    ratios = [one / other for one, other in pairs]
    their_cost, our_cost = (statistics.median(column) / count * 1e6 for column in zip(*pairs))  # noqa: B905
    print(
        f"| {title} | {their_cost:.1f} µs | {our_cost:.1f} µs | "
        f"**{statistics.median(ratios):.2f}x** ({min(ratios):.2f} to {max(ratios):.2f}) |",
        flush=True,
    )


def cancelled(count: int) -> tuple[float, int]:
    """Seconds to set and cancel so many jobs, and the bytes that are left in use."""
    with Pool(None, 1) as pool:
        later = pool.after(3600)
        later.submit(int).cancel()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        sample = [later.submit(int) for _ in range(min(count, 10_000))]
        for job in sample:
            job.cancel()
        del sample, job
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        began = time.perf_counter()
        for job in [later.submit(int) for _ in range(count)]:
            job.cancel()
        return time.perf_counter() - began, used - before


def lateness(count: int) -> tuple[float, float, float]:
    """How late timers come, in milliseconds, if so many are due in a second: median, p99, most."""
    late: list[float] = []
    with Pool(None, 2) as pool:
        start = time.monotonic() + LONG_AHEAD
        for number in range(count):
            due = start + number / count
            later = pool.after(max(0.0, due - time.monotonic()))
            later.perform(lambda due=due: late.append(time.monotonic() - due))  # type: ignore[misc]  # a default
        while len(late) < count:
            time.sleep(0.05)
    late.sort()
    return late[count // 2] * 1e3, late[count * 99 // 100] * 1e3, late[-1] * 1e3


def crontab() -> tuple[int, float]:
    """A day of fifty entries: how many firings, and in how many seconds."""
    entries = [
        f"{number % 60} {hours} * * *" if number % 3 else f"*/{5 + number % 20} * * * *"
        for number, hours in enumerate(["*", "1", "2,14", "*/6", "8-18"] * 10)
    ]
    start = datetime(2026, 3, 28, 12, tzinfo=UTC)
    with inline(), FakeClock(start) as clock, Pool(None, 1) as pool:
        timers = [pool.cron(entry, tz="Europe/Berlin").perform(int) for entry in entries]
        began = time.perf_counter()
        clock.advance(days=1)
        return sum(timer.fired for timer in timers), time.perf_counter() - began


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()

    def scaled(count: int) -> int:
        return max(20, int(count * options.scale))

    print("| timers, processor time each | standard library | OddJob | ratio |")
    print("|---|---|---|---|")
    compare("100,000 set and fired, `sched`", by_sched, scaled(100_000), options.rounds)
    compare("1,000 of `threading.Timer`", by_threads, scaled(1_000), options.rounds)
    seconds, left = cancelled(scaled(1_000_000))
    print(f"\nA million set and cancelled: {seconds:.1f} s; {left:,} bytes are left in use.")
    rounds = [lateness(scaled(10_000)) for _ in range(options.rounds)]
    middle, most, worst = (statistics.median(column) for column in zip(*rounds))  # noqa: B905
    print(
        f"10,000 due in a second: {middle:.2f} ms late in the middle, {most:.2f} ms at the 99th "
        f"percentile, {worst:.1f} ms at most (medians of the rounds)."
    )
    fired, took = crontab()
    print(f"A day of a crontab of 50 entries on a fake clock: {fired:,} firings in {took:.2f} s.")


if __name__ == "__main__":
    main()
