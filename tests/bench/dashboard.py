"""How long the dashboard takes for its pages, with a million jobs in the store.

``python tests/bench/dashboard.py --jobs 1000000`` prints milliseconds of server time for each page:
the median of some requests, of which the first one counts anew what is cached for some seconds.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from oddjob import Pool
from oddjob.dashboard import NO_AUTH, Dashboard, Request
from oddjob.dashboard.request import parse_query
from tests.dashboard import jobs

PAGES = ["/jobs", "/jobs?state=queued", "/jobs?state=failed", "/jobs?pool=small", "/", "/errors",
         "/pools/mail", "/scheduled", "/runners"]  # fmt: skip
_SLICE = 50_000


def fill(url: str, count: int) -> None:
    """Store that many jobs, nearly all of them queued, and a few in another pool."""
    with Pool("small", 2, store=url) as small:
        for each in small.submit_many(jobs.send, ["bob"] * 100):
            each.exception()
    with Pool("mail", 2, store=url, consume=False) as pool:
        for start in range(0, count, _SLICE):
            pool.submit_many(jobs.send, ["ada@example.org"] * min(_SLICE, count - start))


def measure(dashboard: Dashboard, page: str, rounds: int) -> tuple[float, float]:
    """Return the milliseconds of the first request for a page, and the median of all."""
    path, _, query = page.partition("?")
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        response = dashboard.handle(Request("GET", path, "", parse_query(query), {}))
        taken.append((time.perf_counter() - start) * 1000)
        assert response.status == 200, page
    return taken[0], statistics.median(taken)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill a store, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--store", help="a store for these jobs; a new SQLite file if not given")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        url = given.store or f"sqlite:///{folder}/jobs.db?durability=normal"
        start = time.perf_counter()
        fill(url, given.jobs)
        print(f"{given.jobs:,} jobs stored in {time.perf_counter() - start:.1f} s")
        dashboard = Dashboard(url, auth=NO_AUTH)
        deep, following = 40, ""  # pages
        for _ in range(deep):
            request = Request("GET", "/api/jobs", "", {"before": [following or ""]}, {})
            following = json.loads(dashboard.handle(request).body)["next"]
        print(f"{'page':24}{'first, ms':>12}{'median, ms':>12}")
        for page in [*PAGES, *([f"/jobs?before={following}"] if following else [])]:
            first, median = measure(dashboard, page, given.rounds)
            print(f"{page[:22]:24}{first:12.1f}{median:12.1f}")
        dashboard.close()
        while [*Path(folder).glob("*/*.sock")]:  # its thread is closing the store
            time.sleep(0.01)


if __name__ == "__main__":
    main()
