"""How late a `JobTimeout` comes, with a thousand jobs that hang.

Prints the lateness in milliseconds: of timeouts spread over a second, and of all of them falling
due at the same moment. ``--jobs`` sets how many there are.
"""

import argparse
import logging
import statistics
import threading
import time

from oddjob import Job, Pool


def lateness(jobs: int, spread: float) -> list[float]:
    """Hang `jobs` jobs, their timeouts spread over so many seconds; how late each ended."""
    began: dict[int, float] = {}
    release = threading.Event()

    def hang(number: int) -> None:
        began[number] = time.monotonic()
        release.wait()

    late: list[float] = []
    with Pool(pool_size=jobs) as pool:
        hung: list[tuple[int, float, Job[None]]] = []
        for number in range(jobs):
            timeout = 2.0 + spread * number / jobs
            hung.append((number, timeout, pool.options(timeout=timeout).submit(hang, number)))
        for number, timeout, job in hung:
            job.exception()
            late.append(time.monotonic() - began[number] - timeout)
        release.set()
    return late


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    jobs = parser.parse_args().jobs
    logging.disable()  # else it tells of each
    for what, spread in (("spread over a second", 1.0), ("all but at once", 0.0)):
        late = [each * 1000 for each in lateness(jobs, spread)]
        middle, last = statistics.median(late), max(late)
        print(
            f"{jobs:,} timeouts {what}: {middle:.1f} ms late in the middle, {last:.1f} ms at most"
        )


if __name__ == "__main__":
    main()
