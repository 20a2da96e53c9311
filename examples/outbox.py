"""Orders and the jobs that follow from them, in one transaction: there are both, or neither.

The shop keeps its tables in the file of the store. A job is submitted in the shop's own
transaction, and what the job writes is committed together with its end: it happens once.
"""

import logging
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path

import oddjob

FOLDER = tempfile.TemporaryDirectory()
FILE = Path(FOLDER.name) / "shop.db"
shop = oddjob.Pool("shop", 2, store=f"sqlite:///{FILE}", retries=3, backoff=0.01)


@shop.job
def send_invoice(order: str) -> str:
    """Write an invoice, and fail after that, the first time."""
    job = oddjob.current_job()
    assert job is not None
    with job.transaction() as connection:
        connection.execute("INSERT INTO invoices VALUES (?)", (order,))
    if job.attempt == 1:
        raise OSError("the network is down")  # so there is no invoice yet
    return f"invoice for {order}"


def buy(connection: sqlite3.Connection, order: str, *, is_paid: bool) -> oddjob.Job[str]:
    """Store an order with its job, in a transaction that is rolled back if it is not paid."""
    with connection:
        connection.execute("INSERT INTO orders VALUES (?)", (order,))
        job = send_invoice.using(connection).submit(order)
        if not is_paid:
            raise ValueError(order)
    return job


def main() -> None:
    """Take three orders, one of which is not paid."""
    logging.getLogger("oddjob").setLevel(logging.ERROR)  # nothing about retries
    with closing(sqlite3.connect(FILE)) as connection, shop:
        connection.executescript("CREATE TABLE orders (name); CREATE TABLE invoices (name)")
        jobs = [buy(connection, order, is_paid=True) for order in ("a book", "a lamp")]
        with suppress(ValueError):
            buy(connection, "a house", is_paid=False)
        print("\n".join(job.result() for job in jobs))
        orders = connection.execute("SELECT name FROM orders").fetchall()
        invoices = connection.execute("SELECT name FROM invoices ORDER BY name").fetchall()
    assert orders == invoices == [("a book",), ("a lamp",)]


if __name__ == "__main__":
    main()
    FOLDER.cleanup()
