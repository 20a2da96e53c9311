"""One customer imports ten thousand rows, the others a few: with and without fair shares."""

import threading
from typing import Any

import oddjob

ROWS = ["big"] * 10_000 + [f"small {number % 9}" for number in range(90)]
imported: list[str] = []


def jobs_until_the_small_ones_are_done(**options: Any) -> int:
    """Import all rows; return how many there were when the last of the small ones was done."""
    imported.clear()
    gate = threading.Event()
    with oddjob.Pool("imports", 1) as pool:
        pool.submit(gate.wait)  # all rows are there before the first one is imported
        pool.options(**options).perform_many(imported.append, ROWS)
        gate.set()
    return max(place for place, customer in enumerate(imported, 1) if customer != "big")


one_line = jobs_until_the_small_ones_are_done()
in_turns = jobs_until_the_small_ones_are_done(fair_by=lambda customer: customer)
weighted = jobs_until_the_small_ones_are_done(
    fair_by=lambda customer: customer, fair_weights={"big": 3}
)

print("90 rows of nine small customers were done after")
print(f"  {one_line:6,} rows in order of arrival")
print(f"  {in_turns:6,} rows with fair_by: the customers take turns")
print(f"  {weighted:6,} rows if the big one has three turns in a round")
assert in_turns < weighted < 130 < one_line
