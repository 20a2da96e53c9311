"""The program that act 3 kills: it ships orders, from memory or from a store."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import oddjob

WORKERS, SECONDS_PER_ORDER = 4, 0.04


def ship(order: int) -> None:
    """Ship an order: a line in a file stands for what cannot be undone."""
    time.sleep(SECONDS_PER_ORDER)
    with Path(os.environ["SHIPPED"]).open("a") as shipped:
        shipped.write(f"{order}\n")


def from_memory(orders: int) -> None:
    """Ship new orders."""
    with ThreadPoolExecutor(WORKERS) as executor:
        for order in range(orders):
            executor.submit(ship, order)


def from_a_store(orders: int) -> None:
    """Ship new orders, and those that an earlier process has left."""
    with oddjob.Pool("orders", WORKERS, store="sqlite:///orders.db") as pool:
        pool.submit_many(ship, range(orders))
