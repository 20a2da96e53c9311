"""trio: wait for jobs without blocking the event loop; AnyIO's programs do the same."""

import time

import trio

import oddjob
from oddjob.contrib.anyio import wait


async def main() -> None:
    """Run five blocking calls in a pool of five, and wait for all."""
    began = time.monotonic()
    with oddjob.Pool("io", 5) as pool:
        async with trio.open_nursery() as nursery:
            for job in pool.submit_many(time.sleep, [0.2] * 5):
                nursery.start_soon(wait, job)
    seconds = time.monotonic() - began
    print(f"five calls of 0.2 s took {seconds:.2f} s")
    assert seconds < 1.0


trio.run(main)
