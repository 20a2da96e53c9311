"""A program with a durable pool, for the tests of the command."""

import os
import time

import oddjob

pool = oddjob.Pool("mail", 2, store=os.environ["SHOP_STORE"])
other = oddjob.Pool("other", 2, store=os.environ["SHOP_STORE"])
memory = oddjob.Pool("memory", 2)


@pool.job(retries=1, backoff=0.01)
def send(to: str, copies: int = 1) -> str:
    if to == "bad":
        raise ConnectionError("no route to bad")
    return f"sent {copies} to {to}"


@pool.job
def wait(path: str) -> None:
    """Leave a mark, and wait until there is a file."""
    with open(f"{path}.begun", "a") as marks:  # noqa: PTH123
        marks.write("x")
    while not os.path.exists(path):  # noqa: PTH110
        time.sleep(0.01)


@other.job
def elsewhere() -> int:
    return os.getpid()


@memory.job
def forget() -> None:
    raise AssertionError("this would run in the process of the command")


@pool.job(every=86_400, name="nightly")
def nightly() -> str:
    return "done"


memory.options(name="keeper").after(3600, daemon=False).perform(print)  # no command waits for it
