"""A process that uses a store, for tests: ``python -m tests.durable.member KIND PATH NAME``.

Kinds: ``consume`` runs jobs for ever, and writes a line for each run before it settles it;
``feed`` submits jobs for ever, and writes the ids of those that are acknowledged; ``hold`` claims
what there is and hangs; ``write N`` waits for a line, says that it has submitted N times, and
submits until the next line; ``idle`` waits.
A line is a single write: it is there, or it is not.
"""

import os
import sys
import threading
import time
from pathlib import Path

from oddjob.durable.record import Capacity, Partition, State, Submit, Update
from oddjob.durable.sqlite.store import SqliteStore
from oddjob.durable.store import Evicted

PARTITION = Partition("pool", "function")
POISON = b"poison"
BATCH = 16


def main(kind: str, path: str, name: str, *rest: str) -> None:
    store = SqliteStore(path)
    store.join({} if kind in ("feed", "write") else {"pool": ["function"]}, 4)
    log = os.open(f"{path}-{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    print("ready", flush=True)
    if kind == "consume":
        consume(store, log)
    elif kind == "feed":
        while True:
            jobs = [Submit(PARTITION, b"x", wants_outcome=False) for _ in range(8)]
            turn = store.turn([], jobs, {})
            os.write(log, "".join(f"{each.id}\n" for each in turn.submitted).encode())
            time.sleep(0.002)
    elif kind == "hold":
        turn = store.turn([], [], {"pool": Capacity(100, 100)})
        for place, claim in enumerate(turn.claims[:1]):
            store.marks.mark(place, claim)
        print(len(turn.claims), flush=True)
        time.sleep(60)
    elif kind == "write":
        write(store, int(rest[0]))
    else:
        while True:
            turn = store.turn([], [], {"pool": Capacity(1, 1)})
            print("woken", len(turn.claims), flush=True)
            for process in store.wait(turn.next_look):
                store.takeover(process)


def write(store: SqliteStore, times: int) -> None:
    sys.stdin.readline()
    is_over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), is_over.set()), daemon=True).start()
    number = 0
    while not is_over.is_set():
        store.turn([], [Submit(PARTITION, b"x")], {})
        number += 1
        if number == times:
            print("written", flush=True)
    print(number, flush=True)


def consume(store: SqliteStore, log: int) -> None:
    updates: list[Update] = []
    while True:
        try:
            turn = store.turn(updates, [], {"pool": Capacity(4, BATCH)})
        except Evicted:
            store.join({"pool": ["function"]}, 4)
            updates = []
            continue
        updates = []
        claims = turn.claims
        if suspects := [claim for claim in claims if claim.is_suspect]:  # each alone
            updates += [Update(claim, State.QUEUED) for claim in claims if claim is not suspects[0]]
            claims = suspects[:1]
        for claim in claims:
            store.marks.mark(0, claim)
            os.write(log, f"{claim.id} {os.getpid()}\n".encode())
            if claim.payload == POISON:
                os.kill(os.getpid(), 9)
            time.sleep(0.0005)
            store.marks.unmark(0)
            updates.append(Update(claim, State.SUCCEEDED))
        if not updates:
            for process in store.wait(turn.next_look):
                store.takeover(process)


if __name__ == "__main__":
    Path(sys.argv[2]).parent.mkdir(exist_ok=True)
    main(*sys.argv[1:])
