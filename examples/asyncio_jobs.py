"""Await jobs: a limited pool does the blocking work, and the event loop stays free."""

import asyncio
import hashlib
import threading

import oddjob

PASSWORDS = [f"secret {number}" for number in range(20)]


def derive(password: str) -> bytes:
    """Keep a processor busy for some milliseconds."""
    return hashlib.pbkdf2_hmac("sha256", password.encode(), b"salt", 20_000)


async def worker_name() -> str:
    """Return the name of the thread that runs this coroutine."""
    await asyncio.sleep(0)
    return threading.current_thread().name


async def count_turns(turns: list[int]) -> None:
    """Count the turns of the event loop."""
    while True:
        turns.append(len(turns))
        await asyncio.sleep(0.001)


async def hash_all(pool: oddjob.Pool) -> None:
    """Await twenty jobs while the event loop goes on."""
    turns: list[int] = []
    ticker = asyncio.create_task(count_turns(turns))
    keys = await asyncio.gather(*pool.submit_many(derive, PASSWORDS))
    ticker.cancel()
    print(f"{len(keys)} keys derived during {len(turns)} turns of the event loop")

    where = await pool.submit(worker_name)
    print(f"a coroutine ran in {where}")

    assert keys == [derive(password) for password in PASSWORDS]
    assert len(turns) > 1, "the event loop was blocked"
    assert where != threading.current_thread().name


def main() -> None:
    """Make the pool and start the event loop."""
    with oddjob.Pool("hashing", 2) as pool:
        asyncio.run(hash_all(pool))


if __name__ == "__main__":
    main()
