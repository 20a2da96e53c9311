"""Act 3: `kill -9` in the middle of a run; the program is started again, and finds what?"""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import sleep

import oddjob
from examples.demo.screen import OTHER, OURS, Bar, heading, say, side_by_side, table

ROOT = Path(__file__).parents[2]


@dataclass
class Outcome:
    """What became of the orders."""

    before: int  # shipped when the process was killed
    shipped: int  # different orders, in the end
    twice: int  # orders that were shipped more than once


def run(orders: int) -> None:
    """Kill both programs, start them again, and show what was shipped and what the store says."""
    heading("3. kill -9 in the middle of a run")
    say(f"{orders} orders are accepted. After a third the process is killed, and started again.\n")
    with tempfile.TemporaryDirectory() as folder:
        other, ours = side_by_side(
            partial(kill_and_restart, "from_memory", orders, Path(folder, "memory")),
            partial(kill_and_restart, "from_a_store", orders, Path(folder, "store")),
            orders,
        )
        states = states_of(Path(folder, "store", "orders.db"))
    table(
        ("", OTHER, OURS),
        ("shipped before the kill", other.before, ours.before),
        ("shipped in the end", f"{other.shipped} of {orders}", f"{ours.shipped} of {orders}"),
        ("orders lost", orders - other.shipped, orders - ours.shipped),
        ("shipped twice", other.twice, ours.twice),
    )
    say(
        f"\nThe store says: {', '.join(f'{number} {state}' for state, number in states.items())}"
        f"{': every job has ended once' if states == {'succeeded': orders} else ''}. A job that "
        "was running when\nthe process died is run again, as nobody can know how far it came; "
        "steps and transactions\nhelp where that matters.\n\n"
        '    Pool("orders", 4, store="sqlite:///orders.db")'
    )


def kill_and_restart(program: str, orders: int, folder: Path, bar: Bar) -> Outcome:
    """Run a program of `orders.py`, kill it, run it again without new orders, and count."""
    folder.mkdir()
    shipped = folder / "shipped"
    shipped.touch()
    with start(program, orders, folder) as first:
        while (before := count(shipped, bar)) < orders // 3 and first.poll() is None:
            sleep(0.02)
        first.kill()
    before = count(shipped, bar)
    bar.note = "killed, started again"
    with start(program, 0, folder) as second:
        while second.poll() is None:
            count(shipped, bar)
            sleep(0.02)
    times = Counter(shipped.read_text().splitlines())
    bar.done = len(times)
    return Outcome(before, len(times), sum(number > 1 for number in times.values()))


def start(program: str, orders: int, folder: Path) -> subprocess.Popen[bytes]:
    """Start a process that ships orders."""
    code = f"from examples.demo import orders; orders.{program}({orders})"
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "SHIPPED": str(folder / "shipped")}
    return subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=environment)


def count(shipped: Path, bar: Bar) -> int:
    """Count the different orders that were shipped, and show it."""
    bar.done = len(set(shipped.read_text().splitlines()))
    return bar.done


def states_of(store: Path) -> dict[str, int]:
    """Return how many jobs are in which state, as the store has it."""
    with oddjob.Pool("orders", store=f"sqlite:///{store}", consume=False) as pool:
        return {state: number for state, number in pool.counts().items() if number}
