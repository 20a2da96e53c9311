"""Act 2: a callback ends its worker and a call hangs, twice; what capacity is left?"""

import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from functools import partial
from time import sleep

import oddjob
from examples.demo.screen import OTHER, OURS, Bar, heading, say, side_by_side, table

WORKERS = 4
TIMEOUT = 0.3  # seconds that a call may take
CALLS, SECONDS_PER_CALL = 20, 0.05


def run(rounds: int) -> None:
    """Do both the same harm, and show how many calls each runs at once after each round."""
    heading("2. A callback ends its worker, and a call hangs")
    say(
        f"Each has {WORKERS} workers. In each round a callback raises SystemExit in one of them, "
        "and a call\nto a server that does not answer hangs in another.\n"
    )
    server_is_back = threading.Event()
    with (
        ThreadPoolExecutor(WORKERS) as executor,
        oddjob.Pool("calls", WORKERS, timeout=TIMEOUT) as pool,
    ):
        try:
            other, ours = side_by_side(
                partial(suffer, executor, rounds, server_is_back),
                partial(suffer, pool, rounds, server_is_back),
                WORKERS,
            )
        finally:
            server_is_back.set()  # or else the executor would keep the process from ending
    times = ("before", *(f"after round {number}" for number in range(1, rounds + 1)))
    table(
        ("calls that run at once", OTHER, OURS),
        *(
            (when, f"{left[0]} of {WORKERS}", f"{left[1]} of {WORKERS}")
            for when, *left in zip(times, other, ours, strict=True)
        ),
    )
    say(
        "\nA thread cannot be killed. OddJob ends the job that hangs with a JobTimeout, which shows"
        "\nwhere it hangs, and replaces its thread, as it replaces the worker that crashed:\n\n"
        f'    Pool("calls", {WORKERS}, timeout={TIMEOUT})'
    )


def suffer(executor: Executor, rounds: int, server_is_back: threading.Event, bar: Bar) -> list[int]:
    """Measure the capacity, do harm, and measure it again."""
    capacities = [capacity(executor)]
    bar.done = capacities[-1]
    for number in range(1, rounds + 1):
        executor.submit(server_is_back.wait)
        has_callback = threading.Event()
        executor.submit(has_callback.wait).add_done_callback(end_this_worker)
        has_callback.set()
        sleep(2 * TIMEOUT)
        capacities.append(capacity(executor))
        bar.done, bar.note = capacities[-1], f"after round {number}"
    return capacities


def end_this_worker(_: Future[bool]) -> None:
    """Do what a callback with a mistake in it may do."""
    raise SystemExit("a callback ended its worker")


def capacity(executor: Executor) -> int:
    """Return how many calls run at once, at most, of a number of short ones."""
    lock, running, most = threading.Lock(), 0, 0

    def call() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        sleep(SECONDS_PER_CALL)
        with lock:
            running -= 1

    calls = [executor.submit(call) for _ in range(CALLS)]
    wait(calls, timeout=1.0)
    for each in calls:
        each.cancel()
    return most
