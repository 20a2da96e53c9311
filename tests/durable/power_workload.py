"""A process that uses a store, and says what it has been promised: a line for each answer.

``python -m tests.durable.power_workload PATH DURABILITY ROUNDS``. It has a single thread. A line is
a single write: ``stored ID...``, ``ended ID...`` or ``deleted ID...``.
"""

import os
import random
import sys

from oddjob.durable.record import Capacity, Partition, State, Submit, Update
from oddjob.durable.sqlite import database
from oddjob.durable.sqlite.store import SqliteStore
from oddjob.durable.store import Filter

PARTITION = Partition("pool", "function")
FINISHED = Filter(state=State.SUCCEEDED)


def say(verb: str, jobs: list[int]) -> None:
    if jobs:
        os.write(1, f"{verb} {' '.join(map(str, jobs))}\n".encode())


def main(path: str, durability: str, rounds: str) -> None:
    # Checkpoints and free pages come soon.
    database._IDLE_WAL, database._BUSY_WAL, database._MIN_WAL = 100_000, 150_000, 80_000
    database._FREE_PAGES = 8
    dice = random.Random(1)
    os.write(1, b"ready\n")
    sys.stdin.readline()
    for _ in range(2):  # the second time, it is there
        store = SqliteStore(path, is_durable=durability == "full")
        store.join({"pool": ["function"]}, 4)
        for _ in range(int(rounds)):
            size = dice.choice([10, 100, 5000])
            submits = [Submit(PARTITION, b"x" * size) for _ in range(dice.randrange(4))]
            turn = store.turn([], submits, {"pool": Capacity(2, 2)})
            say("stored", [each.id for each in turn.submitted])
            updates = [Update(each, State.SUCCEEDED, outcome=b"y" * 100) for each in turn.claims]
            store.turn(updates, [], {})
            say("ended", [each.claim.id for each in updates])
            if dice.random() < 0.2:
                first = store.reader.records("pool", FINISHED, limit=10_000)[3:]
                store.delete(each.id for each in first)
                say("deleted", [each.id for each in first])
            store.wait(0.0)
        store.leave()
        store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
