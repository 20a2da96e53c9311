"""Act 1: one customer has 90 % of the calls to an API that has limits and fails now and then."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import monotonic

import oddjob
from examples.demo.api import CALLS_PER_SECOND, CONNECTIONS, FLAKY, Api, Refused
from examples.demo.screen import OTHER, OURS, Bar, heading, say, side_by_side, table

BIG = "big customer"
# The API counts calls as they arrive, and some are longer on their way than others.
RATE = "100/1.2s"


@dataclass
class Outcome:
    """What became of the calls that went one way."""

    refused: int  # by the API; some were tried again
    lost: int  # calls that were never answered
    waits: list[float]  # seconds from submission to answer, of the small customers' answered calls
    seconds: float


def run(calls: int) -> None:
    """Send the calls both ways, each to an API of its own, and show what was measured."""
    heading("1. A flaky API, and one customer who has 90 % of the calls")
    say(
        f"The API allows {CONNECTIONS} connections and {CALLS_PER_SECOND} calls a second; one call "
        f"in {FLAKY} fails.\n{calls} calls are submitted at once. Those of ten small customers "
        "come last.\n"
    )
    customers = [BIG] * (calls * 9 // 10)
    customers += [f"customer {number % 10}" for number in range(calls - len(customers))]
    other, ours = side_by_side(
        partial(with_an_executor, customers), partial(with_a_pool, customers), calls
    )
    small = calls - customers.count(BIG)
    both = other, ours
    table(
        ("", OTHER, OURS),
        ("refused by the API", *(each.refused for each in both)),
        ("calls lost", *(each.lost for each in both)),
        ("small customers' calls answered", *(f"{len(each.waits)} of {small}" for each in both)),
        ("  half of them waited less than", *(seconds(each.waits, median) for each in both)),
        ("  none of them waited more than", *(seconds(each.waits, max) for each in both)),
        ("all calls took", *(seconds([each.seconds], max) for each in both)),
    )
    say(
        "\nThe executor keeps to the connections but not to the rate, and loses what is refused."
        "\nYou can write limits, fairness and retries around it. With OddJob they are options:\n\n"
        f'    Pool("api", {CONNECTIONS}, rate="{RATE}", retries=5, backoff=0.2, retry_on=OSError)\n'
        f"    pool.options(key=customer, key_limit={CONNECTIONS // 2})"
    )


def seconds(times: list[float], statistic: Callable[[list[float]], float]) -> str:
    """Return a statistic of times, for people."""
    return f"{statistic(times):.1f} s" if times else "-"


def with_an_executor(customers: list[str], bar: Bar) -> Outcome:
    """Ten workers, for ten connections."""
    with Api() as api, ThreadPoolExecutor(CONNECTIONS) as executor:
        return measure(
            api, bar, lambda call: [executor.submit(call, customer) for customer in customers]
        )


def with_a_pool(customers: list[str], bar: Bar) -> Outcome:
    """The same ten workers, of which one customer has five at most."""
    limited = oddjob.Pool("api", CONNECTIONS, rate=RATE, retries=5, backoff=0.2, retry_on=OSError)
    with Api() as api, limited as pool:
        fair = pool.options(key=lambda customer: customer, key_limit=CONNECTIONS // 2)
        return measure(api, bar, lambda call: fair.submit_many(call, customers))


def measure(
    api: Api, bar: Bar, submit_all: Callable[[Callable[[str], None]], Iterable[Future[None]]]
) -> Outcome:
    """Submit a call for each customer, and see what becomes of them."""
    waits: list[float] = []
    began = monotonic()

    def call(customer: str) -> None:
        try:
            api.call()
        except Refused:
            bar.note = f"{api.refused} refused"
            raise
        if customer != BIG:
            waits.append(monotonic() - began)
        bar.done = api.served

    futures = list(submit_all(call))
    wait(futures)
    lost = sum(future.exception() is not None for future in futures)
    return Outcome(api.refused, lost, waits, monotonic() - began)
