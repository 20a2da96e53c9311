"""Benchmarks of durable jobs: beside huey, flexiq and taskito where these are installed.

``make bench-durable`` makes an environment that has them, and prints the table. Peers and OddJob
take turns in one process, on the same disk, with the same durability (every acknowledged job is on
the disk), 4 worker threads and a function that does nothing; figures are medians of the rounds.
``--only`` selects rows by a part of their name, ``--scale 0.01`` shrinks the work, ``--rounds``
sets the number of rounds. ``TMPDIR`` says where the files are.
"""

import argparse
import logging
import os
import platform
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count as count_up
from pathlib import Path
from typing import Any, Final, NamedTuple

import oddjob

WORKERS: Final = 4
_numbers: Final = count_up()


class Speed(NamedTuple):
    """Jobs per second: going in, coming out, and from the first one in to the last one out."""

    taken_in: float
    drained: float
    end_to_end: float


@contextmanager
def folder() -> Iterator[Path]:
    """Make a folder, and remove it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as path:
        yield Path(path)


class Counter:
    """Counts calls, and tells when there have been enough."""

    def __init__(self) -> None:
        self.left = 0
        self.enough = threading.Event()
        self._lock = threading.Lock()

    def expect(self, count: int) -> None:
        """Begin anew."""
        self.left = count
        self.enough.clear()

    def count(self) -> None:
        """Count a call."""
        with self._lock:
            self.left -= 1
            if not self.left:
                self.enough.set()

    def wait(self) -> None:
        """Wait for the last one."""
        if not self.enough.wait(300):
            raise TimeoutError(f"{self.left} jobs have not run")


counter: Final = Counter()


def work(_number: int) -> None:
    """Do nothing, and be counted."""
    counter.count()


def now() -> float:
    """Return when the job starts."""
    return time.time()


def pool_at(path: Path, **options: Any) -> oddjob.Pool:
    """Return a pool on a store in that folder."""
    return oddjob.Pool("bench", WORKERS, store=f"sqlite:///{path}/jobs.db", **options)


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def ours(count: int, submit: Callable[[oddjob.Pool, int], object]) -> Speed:
    """Store jobs, then run them with another pool, as peers' own benchmarks do."""
    counter.expect(count)
    with folder() as path:
        sender = pool_at(path, consume=False)
        taken_in = timed(lambda: submit(sender, count))
        sender.shutdown()
        began = time.perf_counter()
        consumer = pool_at(path)
        counter.wait()
        drained = time.perf_counter() - began
        consumer.shutdown()
    return Speed(count / taken_in, count / drained, count / (taken_in + drained))


def one_by_one(pool: oddjob.Pool, count: int) -> None:
    """Store jobs in a commit each."""
    for number in range(count):
        pool.perform(work, number)


def at_once(pool: oddjob.Pool, count: int) -> None:
    """Store jobs in one commit."""
    pool.perform_many(work, range(count))


def huey(count: int) -> Speed:
    """Do the same with huey; it drops a job from its file before the job runs."""
    from huey import SqliteHuey

    counter.expect(count)
    with folder() as path:
        app = SqliteHuey(filename=str(path / "huey.db"), results=False, fsync=True)
        task = app.task()(work)

        def submit() -> None:
            for number in range(count):
                task(number)

        taken_in = timed(submit)
        consumer = app.create_consumer(workers=WORKERS, periodic=False, initial_delay=0.001,
                                       backoff=1.0, max_delay=0.01)  # fmt: skip
        began = time.perf_counter()
        consumer.start()
        counter.wait()
        drained = time.perf_counter() - began
        consumer.stop(graceful=True)
    return Speed(count / taken_in, count / drained, count / (taken_in + drained))


def queue_of(module: str) -> Callable[[int], Speed]:
    """Return the same for taskito, or flexiq, which is its new name."""

    def measure(count: int) -> Speed:
        peer = __import__(module)
        counter.expect(count)
        with folder() as path:
            app = peer.Queue(db_path=str(path / "queue.db"), workers=WORKERS)
            task = app.task()(work)

            def submit() -> None:
                for number in range(count):
                    task.delay(number)

            taken_in = timed(submit)
            began = time.perf_counter()
            worker = threading.Thread(target=app.run_worker, daemon=True)
            worker.start()
            counter.wait()
            drained = time.perf_counter() - began
            with suppress(Exception):
                app._inner.request_shutdown()
            worker.join(10)
        return Speed(count / taken_in, count / drained, count / (taken_in + drained))

    return measure


# Rows. Each takes the scale and the number of rounds, and yields lines of the table.

Lines = Iterator[tuple[str, str]]


def against_peers(scale: float, rounds: int) -> Lines:
    """Jobs end to end, in one commit each and in batches."""
    count = max(10, int(5_000 * scale))
    few = max(10, count // 10)
    peers: dict[str, Callable[[int], Speed]] = {}
    for name, measure in (
        ("huey", huey),
        ("flexiq", queue_of("flexiq")),
        ("taskito", queue_of("taskito")),
    ):
        try:
            __import__(name)
        except ImportError:
            yield name, "not installed"
        else:
            peers[name] = measure
    found: dict[str, list[Speed]] = {}
    for _ in range(rounds):
        for name, measure in peers.items():
            found.setdefault(name, []).append(measure(count if name == "huey" else few))
        found.setdefault("oddjob, perform", []).append(ours(count, one_by_one))
        found.setdefault("oddjob, perform_many", []).append(ours(count, at_once))
    for name, speeds in found.items():
        middle = Speed(*(statistics.median(each) for each in zip(*speeds, strict=True)))
        yield name, "in {:,.0f}, out {:,.0f}, end to end {:,.0f} jobs/s".format(*middle)
    for peer in peers:
        for name in ("oddjob, perform", "oddjob, perform_many"):
            pairs = list(zip(found[name], found[peer], strict=True))
            ends = [mine.end_to_end / other.end_to_end for mine, other in pairs]
            drains = [mine.drained / other.drained for mine, other in pairs]
            text = f"{ratio(ends)} end to end, {ratio(drains)} drain alone"
            yield f"{name} : {peer}", text


def ratio(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"


def batches(scale: float, rounds: int) -> Lines:
    """Jobs that are stored in one call."""
    count = max(10, int(100_000 * scale))
    for name in ("perform_many", "submit_many"):
        rates = []
        for _ in range(rounds):
            with folder() as path:
                pool = pool_at(path, consume=False)
                submit = getattr(pool, name)
                rates.append(count / timed(lambda submit=submit: submit(work, range(count))))
                pool.shutdown(cancel_futures=False)
        yield f"{name} of {count:,}", f"{statistics.median(rates):,.0f} jobs/s"


def in_a_batch(pool: oddjob.Pool, count: int) -> None:
    """Store jobs as a batch, which ends with the last of them."""
    with pool.batch() as batch:
        batch.perform_many(work, range(count))


def members(scale: float, rounds: int) -> Lines:
    """Jobs of a batch beside plain ones: CPU time of this process, from the first in to the end."""
    count, ratios = max(10, int(100_000 * scale)), []
    for _ in range(rounds):
        times = []
        for submit in (at_once, in_a_batch):
            began = time.process_time()
            ours(count, submit)
            times.append(time.process_time() - began)
        ratios.append(times[1] / times[0])
    yield f"a batch of {count:,} jobs", ratio(ratios)


def bare_commits(path: Path, seconds: float) -> float:
    """Return how many rows one thread can commit in a second, each by itself, in full sync."""
    connection = sqlite3.connect(path / "bare.db", isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 0"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
    done, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        connection.execute("INSERT INTO t (b) VALUES (?)", (b"x" * 100,))
        done += 1
    connection.close()
    return done / seconds


def acknowledged(scale: float, rounds: int) -> Lines:
    """Threads that each wait for their own submit, beside bare commits of one thread."""
    seconds = 1.5 * max(scale, 0.05)
    for threads in (1, 4, 16, 64):
        ratios, rates = [], []
        for _ in range(rounds):
            with folder() as path:
                pool = pool_at(path, consume=False)
                counts = [0] * threads
                bare = bare_commits(path, seconds / 3)
                end = time.perf_counter() + seconds

                def submit(place: int, pool: oddjob.Pool = pool, counts: list[int] = counts,
                           end: float = end) -> None:  # fmt: skip
                    while time.perf_counter() < end:
                        pool.perform(work, 1)
                        counts[place] += 1

                running = [threading.Thread(target=submit, args=(k,)) for k in range(threads)]
                for thread in running:
                    thread.start()
                for thread in running:
                    thread.join()
                rates.append(sum(counts) / seconds)
                ratios.append(rates[-1] / bare)
                pool.shutdown()
        yield (
            f"{threads} threads",
            f"{statistics.median(rates):,.0f}/s, {ratio(ratios)} of bare commits",
        )


def million(scale: float, rounds: int) -> Lines:
    """The rate of claiming and settling, with many jobs waiting and with none besides."""
    from oddjob.durable.record import Capacity, Partition, State, Submit, Update
    from oddjob.durable.sqlite.store import SqliteStore

    partition, batch, turns = Partition("bench", "f"), 256, max(4, int(200 * scale))

    def rate(waiting: int) -> float:
        with folder() as path:
            store = SqliteStore(str(path / "jobs.db"))
            store.join({"bench": ["f"]}, 1)
            for _ in range(0, waiting + batch * turns, 10_000):
                store.turn([], [Submit(partition, b"x" * 100, wants_outcome=False)] * 10_000, {})
            store.wait(0)  # it empties the write-ahead log
            claims: list[Any] = []
            began = time.perf_counter()
            for _ in range(turns):
                updates = [Update(claim, State.SUCCEEDED, is_kept=False) for claim in claims]
                claims = store.turn(updates, [], {"bench": Capacity(1, batch)}).claims
            took = time.perf_counter() - began
            store.leave()
            store.close()
        return batch * turns / took

    waiting = int(1_000_000 * scale)
    pairs = [(rate(0), rate(waiting)) for _ in range(rounds)]
    yield "nothing besides", f"{statistics.median(each[0] for each in pairs):,.0f} jobs/s"
    yield f"{waiting:,} waiting", ratio([full / empty for empty, full in pairs])


def round_trip(scale: float, rounds: int) -> Lines:
    """One job, from submit to result, in units of a bare commit."""
    count = max(20, int(1_000 * scale))
    ratios, medians = [], []
    for _ in range(rounds):
        with folder() as path, pool_at(path) as pool:
            bare = 1 / bare_commits(path, 0.3 * max(scale, 0.1))
            for _ in range(count // 2):
                pool.submit(now).result()
            times = sorted(timed(lambda: pool.submit(now).result()) for _ in range(count))
            medians.append(times[count // 2])
            ratios.append(medians[-1] / bare)
    yield (
        "submit → result",
        f"{statistics.median(medians) * 1e6:,.0f} µs, {ratio(ratios)} of a bare commit",
    )


@contextmanager
def other_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Have another process run the jobs."""
    command = [sys.executable, __file__, "--consume", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            yield child
        finally:
            child.kill()


def across(scale: float, _rounds: int) -> Lines:
    """Two processes: latency, idleness, and the death of one of them."""
    count = max(20, int(300 * scale))
    with folder() as path:
        sender = pool_at(path, consume=False)
        starts, ends = [], []
        with other_process(path) as child:
            for _ in range(count):
                time.sleep(0.01)
                began = time.time()
                started = sender.submit(now).result(30)
                ends.append(time.time() - began)
                starts.append(started - began)
            for name, values in (
                ("submit → start elsewhere", starts),
                ("submit → result here", ends),
            ):
                values.sort()
                middle, late = values[count // 2], values[int(count * 0.99)]
                yield name, f"p50 {middle * 1e3:.2f} ms, p99 {late * 1e3:.2f} ms"
            before = activity(child.pid)
            time.sleep(5 * max(scale, 0.1))
            ticks, sleeps = (b - a for a, b in zip(before, activity(child.pid), strict=True))
            yield "idle process", f"{ticks} ticks of the processor, {sleeps} wake-ups"
            began = time.perf_counter()
            os.kill(child.pid, signal.SIGKILL)
            query = "SELECT count(*) FROM process"
            reader = sqlite3.connect(f"file:{path}/jobs.db?mode=ro", uri=True)
            while reader.execute(query).fetchone()[0] > 1:
                time.sleep(0.0005)
            reader.close()
            yield "kill -9 → takeover", f"{(time.perf_counter() - began) * 1e3:.1f} ms"
        sender.shutdown()


def activity(pid: int) -> tuple[int, int]:
    """Return the ticks that a process has used, and how often its threads went to sleep."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")")[-1].split()
    tasks = Path(f"/proc/{pid}/task").glob("*/status")
    texts = [each.read_text("utf-8") for each in tasks]
    sleeps = sum(int(text.split("voluntary_ctxt_switches:")[1].split()[0]) for text in texts)
    return sum(map(int, fields[11:13])), sleeps


ROWS: Final = (against_peers, batches, members, acknowledged, million, round_trip, across)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--consume", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.consume:
        pool_at(options.consume)
        print("ready", flush=True)
        threading.Event().wait()
    logging.disable(logging.CRITICAL)
    place = f"{platform.python_implementation()} {platform.python_version()}"
    print(f"durable jobs, {place}, SQLite {sqlite3.sqlite_version}, {oddjob.__file__}")
    for row in ROWS:
        if options.only in row.__name__:
            print(f"\n{row.__doc__}")
            for name, text in row(options.scale, options.rounds):
                print(f"  {name:34} {text}", flush=True)


if __name__ == "__main__":
    main()
