"""Two calls at a time for each customer: with a semaphore for each, and with keys."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import oddjob

WORKERS, AT_ONCE = 10, 2
CUSTOMERS = ["big"] * 100 + [f"small {number}" for number in range(20)]
semaphores = {customer: threading.Semaphore(AT_ONCE) for customer in CUSTOMERS}


def call(_: str) -> float:
    """Stands for a call to that customer's server."""
    time.sleep(0.01)
    return time.monotonic()


def call_in_turn(customer: str) -> float:
    """What people write without keys: a thread that waits here does nothing else."""
    with semaphores[customer]:
        return call(customer)


with ThreadPoolExecutor(WORKERS) as executor:
    began = time.monotonic()
    ends = list(executor.map(call_in_turn, CUSTOMERS))
    with_semaphores = max(ends[100:]) - began

with oddjob.Pool("customers", WORKERS) as pool:
    began = time.monotonic()
    ends = list(pool.options(key=lambda customer: customer, key_limit=AT_ONCE).map(call, CUSTOMERS))
    with_keys = max(ends[100:]) - began

print("the last of 20 small customers was called after")
print(f"  {with_semaphores:.2f} s with semaphores: the big one's calls held all threads")
print(f"  {with_keys:.2f} s with keys: they overtook")
assert with_keys < with_semaphores / 2
