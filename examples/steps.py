"""A job of several steps resumes where it has failed, in whichever process it is tried again.

A step runs once, and its value is stored. Without steps, each retry would charge the customer.
"""

import logging
import tempfile
from pathlib import Path

import oddjob

FOLDER = tempfile.TemporaryDirectory()
FILE = Path(FOLDER.name) / "jobs.db"
shop = oddjob.Pool("shop", store=f"sqlite:///{FILE}", retries=5, backoff=0.01)
TRIES = 3
calls: list[str] = []


def charge(customer: str, amount: int) -> str:
    """Take the money, which is to happen once."""
    calls.append(f"charge {customer} {amount}")
    return f"payment {len(calls)}"


async def reserve(item: str) -> str:
    """Find out where the item is."""
    calls.append(f"reserve {item}")
    return f"{item} on shelf 7"


def ship(item: str) -> None:
    """Call the carrier, who answers when called again and again."""
    calls.append(f"ship {item}")
    if calls.count(calls[-1]) < TRIES:
        raise ConnectionError("the carrier does not answer")


@shop.job
async def order(customer: str, item: str) -> str:
    """Do all that an order needs."""
    job = oddjob.current_job()
    assert job is not None
    payment = job.step("charge", charge, customer, 20)
    place = await job.step("reserve", reserve, item)
    job.step("ship", ship, place)
    return payment


if __name__ == "__main__":
    logging.getLogger("oddjob").setLevel(logging.ERROR)  # nothing about retries
    with shop:
        payment = order.submit("Ada", "lamp").result()
    print(*calls, sep="\n")
    assert payment == "payment 1"
    assert calls == ["charge Ada 20", "reserve lamp"] + TRIES * ["ship lamp on shelf 7"]
    FOLDER.cleanup()
