"""Two calls at a time for each customer: with a semaphore for each, and with keys."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor

import oddjob

WORKERS, AT_ONCE = 10, 2
CUSTOMERS = ["big"] * 100 + [f"small {number}" for number in range(20)]
semaphores = {customer: threading.Semaphore(AT_ONCE) for customer in CUSTOMERS}
called: list[str] = []


def call(customer: str) -> None:
    """Call the customer's server."""
    time.sleep(0.01)
    called.append(customer)


def call_in_turn(customer: str) -> None:
    """Limit calls without keys: a thread that waits here does nothing else."""
    with semaphores[customer]:
        call(customer)


def big_calls_before_last_small(executor: Executor, fn: Callable[[str], None]) -> int:
    """Call all customers; return how many calls of the big one the small ones waited for."""
    called.clear()
    list(executor.map(fn, CUSTOMERS))
    last_small = max(place for place, customer in enumerate(called) if customer != "big")
    return called[:last_small].count("big")


with ThreadPoolExecutor(WORKERS) as executor:
    with_semaphores = big_calls_before_last_small(executor, call_in_turn)

with oddjob.Pool("customers", WORKERS) as pool:
    customers = pool.options(key=lambda customer: customer, key_limit=AT_ONCE)
    with_keys = big_calls_before_last_small(customers, call)

print("when the last of 20 small customers was called, the big one had been called")
print(f"  {with_semaphores:3} times with semaphores: its calls held all threads")
print(f"  {with_keys:3} times with keys: the small ones overtook")
assert with_keys < with_semaphores / 2
