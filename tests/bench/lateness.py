"""Measure how late a `JobTimeout` comes when a thousand jobs hang.

Prints the delay between the timeout and the end of the job in milliseconds, for timeouts spread
over a second and for timeouts that all expire at the same moment. ``--jobs`` sets the number of
jobs.
"""

import argparse
import logging
import statistics
import threading
import time

from oddjob import Job, Pool


def timeout_delays(jobs: int, spread: float) -> list[float]:
    """Return how many seconds after its timeout each of `jobs` hanging jobs ended.

    The timeouts expire within `spread` seconds, evenly distributed.
    """
    started_at: dict[int, float] = {}
    release = threading.Event()

    def hang(number: int) -> None:
        started_at[number] = time.monotonic()
        release.wait()

    delays: list[float] = []
    with Pool(pool_size=jobs) as pool:
        hung: list[tuple[int, float, Job[None]]] = []
        for number in range(jobs):
            timeout = 2.0 + spread * number / jobs
            hung.append((number, timeout, pool.options(timeout=timeout).submit(hang, number)))
        for number, timeout, job in hung:
            job.exception()
            delays.append(time.monotonic() - started_at[number] - timeout)
        release.set()
    return delays


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    jobs = parser.parse_args().jobs
    logging.disable()  # every timeout is logged
    for title, spread in (("spread over a second", 1.0), ("at the same moment", 0.0)):
        delays = [each * 1000 for each in timeout_delays(jobs, spread)]
        median, longest = statistics.median(delays), max(delays)
        print(f"{jobs:,} timeouts {title}: median {median:.1f} ms late, at most {longest:.1f} ms")


if __name__ == "__main__":
    main()
