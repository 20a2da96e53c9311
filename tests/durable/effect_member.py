"""A process whose jobs have effects: ``python -m tests.durable.effect_member KIND PATH``.

Kinds: ``work`` runs jobs for ever; ``order`` writes orders for ever, and submits a job for each in
the same transaction; ``once HOW`` waits for a line, submits a job that is to be unique, and prints
its id and its result: HOW is ``plain``, ``commit`` or ``rollback``.
"""

import itertools
import os
import sqlite3
import sys
import time
from math import inf
from typing import Any

import oddjob
from tests.durable import effect_jobs


def main(kind: str, path: str, how: str = "") -> None:
    keep: Any = {"keep_succeeded": 10**6, "keep_bytes": inf}  # all records: they are counted
    pool = oddjob.Pool("effects", 3, store=f"sqlite:///{path}", consume=kind == "work", **keep)
    for fn in (effect_jobs.note, effect_jobs.write_slowly, effect_jobs.log_steps):
        pool.job(fn)
    print("ready", flush=True)
    if kind == "work":
        while True:
            time.sleep(60)
    if kind == "order":
        write_orders(pool, path)
    submit_once(pool, path, how)
    pool.shutdown()


def write_orders(pool: oddjob.Pool, path: str) -> None:
    connection = sqlite3.connect(path, timeout=60)
    for number in itertools.count(os.getpid() * 1_000_000):
        with connection:
            connection.execute("INSERT INTO orders VALUES (?)", (number,))
            pool.using(connection).perform(effect_jobs.write_slowly, number)
        time.sleep(0.005)


def submit_once(pool: oddjob.Pool, path: str, how: str) -> None:
    sys.stdin.readline()
    view = pool.options(unique="key")
    if how == "plain":
        job = view.submit(effect_jobs.note, os.getpid())
    else:
        connection = sqlite3.connect(path, timeout=60, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        job = view.using(connection).submit(effect_jobs.note, os.getpid())
        time.sleep(0.01)
        connection.execute(how)
        connection.close()
    print(job.id, flush=True)
    try:
        print(job.result(60), flush=True)
    except oddjob.JobLost:
        print("lost", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
