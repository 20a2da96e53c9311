"""Benchmarks of durable jobs on Redis: beside dramatiq, RQ and huey where these are installed.

``make bench-redis`` makes an environment that has them, and prints the table. Each measurement has
a server of its own on a socket of this machine, which keeps nothing on disk. Peers and OddJob take
turns in one process, with 4 worker threads (RQ's SimpleWorker has one) and a function that does
nothing; figures are medians of the rounds. Where it matters, the table says also how much of the
processor the server has used: unlike time, that says little about what else the machine does.
Options are those of ``durable.py``.
"""

import argparse
import logging
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import redis

import oddjob
from oddjob.durable.record import Capacity, Partition, State, Submit, Update
from oddjob.durable.redis.location import Location
from oddjob.durable.redis.store import RedisStore
from tests.bench.durable import (
    WORKERS,
    Lines,
    Speed,
    activity,
    at_once,
    counter,
    in_a_batch,
    now,
    one_by_one,
    ratio,
    timed,
    work,
)
from tests.redis_server import RedisServer

PARTITION: Final = Partition("bench", "f")


@contextmanager
def new_server() -> Iterator[RedisServer]:
    """Start a server, and end it."""
    server = RedisServer()
    try:
        yield server
    finally:
        server.close()


def info(server: RedisServer, section: str) -> dict[str, Any]:
    """Return what the server says of itself."""
    with redis.Redis(unix_socket_path=str(server.socket)) as client:
        found: dict[str, Any] = client.info(section)
    return found


def busy(server: RedisServer) -> float:
    """Return the seconds of the processor that the server has used."""
    found = info(server, "cpu")
    return float(found["used_cpu_sys"]) + float(found["used_cpu_user"])


def pool_on(server: RedisServer | str, **options: Any) -> oddjob.Pool:
    """Return a pool on a server, or at its URL."""
    url = server if isinstance(server, str) else server.url
    return oddjob.Pool("bench", options.pop("size", WORKERS), store=url, **options)


# Stored, then run.


def ours(count: int, submit: Callable[[oddjob.Pool, int], object]) -> Speed:
    """Store jobs, then run them with another pool, as peers' own benchmarks do."""
    counter.expect(count)
    with new_server() as server:
        sender = pool_on(server, consume=False)
        taken_in = timed(lambda: submit(sender, count))
        sender.shutdown()
        began = time.perf_counter()
        consumer = pool_on(server)
        counter.wait()
        drained = time.perf_counter() - began
        consumer.shutdown()
    return Speed(count / taken_in, count / drained, count / (taken_in + drained))


def theirs(count: int, submit: Callable[[int], object], start: Callable[[], object]) -> Speed:
    """Do the same with a peer: `start` starts its workers."""
    counter.expect(count)
    taken_in = timed(lambda: [submit(number) for number in range(count)])
    began = time.perf_counter()
    start()
    counter.wait()
    drained = time.perf_counter() - began
    return Speed(count / taken_in, count / drained, count / (taken_in + drained))


def dramatiq(count: int, prefetch: int = 0) -> Speed:
    """Do it with dramatiq; 0: as many messages ahead as it fetches by itself."""
    from dramatiq import Worker, actor, set_broker
    from dramatiq import worker as settings
    from dramatiq.brokers.redis import RedisBroker

    settings.QUEUE_PREFETCH = prefetch  # it reads this from the environment when it is imported
    with new_server() as server:
        broker = RedisBroker(url=server.url, middleware=[])
        set_broker(broker)
        task = actor(work, broker=broker)
        worker = Worker(broker, worker_threads=WORKERS, worker_timeout=100)
        try:
            return theirs(count, task.send, worker.start)
        finally:
            worker.stop()


def dramatiq_at_its_best(count: int) -> Speed:
    """Do it with dramatiq and the prefetch that was the fastest here."""
    return dramatiq(count, 200)


def rq(count: int) -> Speed:
    """Do it with RQ, whose SimpleWorker does not fork for each job."""
    from rq import Queue, SimpleWorker

    with new_server() as server, redis.Redis(unix_socket_path=str(server.socket)) as client:
        queue = Queue(connection=client)
        worker = SimpleWorker([queue], connection=client)
        return theirs(
            count, lambda number: queue.enqueue(work, number), lambda: worker.work(burst=True)
        )


def huey(count: int) -> Speed:
    """Do it with huey; it drops a job from the server before the job runs."""
    from huey import RedisHuey

    with new_server() as server:
        app = RedisHuey(url=server.url, results=False)
        task = app.task()(work)
        consumer = app.create_consumer(workers=WORKERS, periodic=False, initial_delay=0.001,
                                       backoff=1.0, max_delay=0.01)  # fmt: skip
        try:
            return theirs(count, task, consumer.start)
        finally:
            consumer.stop(graceful=True)


_PEERS: Final = {  # with the share of the jobs that they get: the slow ones would take minutes
    "dramatiq": (dramatiq, 0.2),
    "dramatiq, best": (dramatiq_at_its_best, 1.0),
    "rq": (rq, 0.1),
    "huey": (huey, 1.0),
}


def against_peers(scale: float, rounds: int) -> Lines:
    """Jobs end to end, stored one by one and in batches."""
    count = max(20, int(5_000 * scale))
    peers = {}
    for name, (measure, share) in _PEERS.items():
        try:
            __import__(name.partition(",")[0])
        except ImportError:
            yield name, "not installed"
        else:
            peers[name] = measure, max(10, int(count * share))
    found: dict[str, list[Speed]] = {}
    for _ in range(rounds):
        for name, (measure, share) in peers.items():
            found.setdefault(name, []).append(measure(int(share)))
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
            yield f"{name} : {peer}", f"{ratio(ends)} end to end, {ratio(drains)} drain alone"


# The store alone.


@contextmanager
def store_on(server: RedisServer, pool: str = "bench") -> Iterator[RedisStore]:
    """Join the store of a server, as a runner does."""
    store = RedisStore(Location(server.url))
    try:
        store.join({pool: [PARTITION.function]}, 1)
        yield store
        store.leave()
    finally:
        store.close()


def fill(store: RedisStore, count: int, pool: str = "bench") -> None:
    """Submit jobs of 100 bytes."""
    partition = PARTITION._replace(pool=pool)
    for at in range(0, count, 500):
        few = min(500, count - at)
        store.turn([], [Submit(partition, b"x" * 100, wants_outcome=False)] * few, {})


def claim_and_settle(
    store: RedisStore, turns: int, batch: int = 256, pool: str = "bench", *, is_kept: bool = False
) -> int:
    """Claim jobs, and settle those of the turn before; return how many were claimed."""
    claims: list[Any] = []
    count = 0
    for _ in range(turns):
        updates = [Update(claim, State.SUCCEEDED, is_kept=is_kept) for claim in claims]
        claims = store.turn(updates, [], {pool: Capacity(1, batch)}).claims
        count += len(claims)
    return count


class Cost:
    """What some work has cost: seconds, and those of the server's processor."""

    def __init__(self, server: RedisServer, act: Callable[[], int]) -> None:
        before, began = busy(server), time.perf_counter()
        self.count = act()
        self.seconds = time.perf_counter() - began
        self.busy = busy(server) - before

    @property
    def rate(self) -> float:
        """Jobs per second."""
        return self.count / self.seconds

    @property
    def each(self) -> float:
        """Microseconds of the server's processor for a job."""
        return self.busy / self.count * 1e6


def pushes_and_pops(server: RedisServer, count: int) -> int:
    """Have redis-benchmark push entries of 100 bytes to a list, then pop them, 16 at a time."""
    command = ["redis-benchmark", "-s", str(server.socket), "-P", "16", "-n", str(count),
               "-d", "100", "-q", "-t", "lpush,rpop"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return count


def share(scale: float, rounds: int) -> Lines:
    """Claiming and settling, in turns of 256, beside redis-benchmark's LPUSH and RPOP at -P 16."""
    turns = max(4, int(200 * scale))
    rates: dict[str, list[Cost]] = {}
    for _ in range(rounds):
        with new_server() as server:
            pairs = max(1000, int(300_000 * scale))
            rates.setdefault("", []).append(
                Cost(server, lambda pairs=pairs, server=server: pushes_and_pops(server, pairs))
            )
            server.ask("FLUSHALL")
            with store_on(server) as store:
                for name, is_kept in (("nothing kept", False), ("results kept", True)):
                    fill(store, 256 * turns)
                    rates.setdefault(name, []).append(
                        Cost(
                            server,
                            lambda store=store, is_kept=is_kept: claim_and_settle(
                                store, turns, is_kept=is_kept
                            ),
                        )
                    )
    bare = rates.pop("")
    middle = statistics.median(each.rate for each in bare)
    yield (
        "LPUSH + RPOP",
        f"{middle:,.0f}/s, server {statistics.median(e.each for e in bare):.1f} µs",
    )
    for name, costs in rates.items():
        pairs_of = list(zip(costs, bare, strict=True))
        shares = ratio([mine.rate / other.rate for mine, other in pairs_of])
        of_server = ratio([other.each / mine.each for mine, other in pairs_of])
        middle = statistics.median(each.rate for each in costs)
        yield name, f"{middle:,.0f} jobs/s, {shares}; of the server's processor {of_server}"


def million(scale: float, rounds: int) -> Lines:
    """Claiming and settling with many jobs waiting, and with none besides."""
    waiting, turns = int(1_000_000 * scale), max(4, int(200 * scale))

    def measure(besides: int) -> Cost:
        with new_server() as server, store_on(server) as store:
            fill(store, besides + 256 * turns)
            return Cost(server, lambda: claim_and_settle(store, turns))

    pairs = [(measure(0), measure(waiting)) for _ in range(rounds)]
    rates = [full.rate / empty.rate for empty, full in pairs]
    of_server = [empty.each / full.each for empty, full in pairs]
    yield f"{waiting:,} waiting", f"{ratio(rates)}; of the server's processor {ratio(of_server)}"


def fair(scale: float, rounds: int) -> Lines:
    """One customer has nine tenths of the jobs, nine others come later: who waits for whom."""
    count = max(500, int(100_000 * scale))
    customers = ["big"] * (count * 9 // 10)
    customers += [f"small {number % 9}" for number in range(count - len(customers))]
    order: list[str] = []

    def submit(kind: str, customer: str) -> Submit:
        made = Submit(PARTITION, b"x" * 100, customer, wants_outcome=False)
        if kind == "keys":
            made.key, made.key_limit = customer, count
        elif kind == "fair shares":
            made.fair_key = customer
        return made

    def act(store: RedisStore, kind: str) -> int:
        order.clear()
        for at in range(0, count, 500):
            store.turn([], [submit(kind, each) for each in customers[at : at + 500]], {})
        claims: list[Any] = []
        while len(order) < count:
            updates = [Update(claim, State.SUCCEEDED, is_kept=False) for claim in claims]
            claims = store.turn(updates, [], {"bench": Capacity(1, 256)}).claims
            order.extend(claim.name for claim in claims)
        return count

    costs: dict[str, list[float]] = {}
    for _ in range(rounds):
        for kind in ("nothing", "keys", "fair shares"):
            with new_server() as server, store_on(server) as store:
                cost = Cost(server, lambda store=store, kind=kind: act(store, kind))
            costs.setdefault(kind, []).append(cost.each)
    done = max(place for place, customer in enumerate(order, 1) if customer != "big")
    yield "fair shares", f"of {count:,} jobs, the other nine are done after {done:,}"
    for kind, found in costs.items():
        ratios = ratio([mine / keys for mine, keys in zip(found, costs["keys"], strict=True)])
        yield f"with {kind}", f"server {statistics.median(found):.1f} µs, keys : {ratios}"


def memory(scale: float, _rounds: int) -> Lines:
    """Bytes of the server for a queued job whose payload has 100 bytes."""
    count = max(500, int(20_000 * scale))
    with new_server() as server, store_on(server) as store:
        before = info(server, "memory")["used_memory"]
        fill(store, count)
        yield "oddjob", f"{(info(server, 'memory')['used_memory'] - before) / count:,.0f}"
    try:
        from rq import Queue
    except ImportError:
        return
    with new_server() as server, redis.Redis(unix_socket_path=str(server.socket)) as client:
        queue, few = Queue(connection=client), count // 10
        before = info(server, "memory")["used_memory"]
        jobs = [Queue.prepare_data("os.path.join", ("x" * 100,)) for _ in range(few)]
        queue.enqueue_many(jobs)
        yield "rq", f"{(info(server, 'memory')['used_memory'] - before) / few:,.0f}"


# Several processes.


@contextmanager
def other_processes(count: int, *arguments: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Start this program several times, and end them; the block begins when they are ready."""
    command = [sys.executable, "-m", "tests.bench.durable_redis", *arguments]
    with ExitStack() as stack:
        children = [
            stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            for _ in range(count)
        ]
        for child in children:
            stack.callback(child.kill)
        for child in children:
            assert child.stdout is not None
            child.stdout.readline()
        yield children


def across(scale: float, _rounds: int) -> Lines:
    """Two processes: latency, and idleness."""
    count = max(20, int(300 * scale))
    with new_server() as server, other_processes(1, "--consume", server.url) as (child,):
        sender, starts, ends = pool_on(server, consume=False), [], []
        for _ in range(count):
            time.sleep(0.01)
            began = time.time()
            started = sender.submit(now).result(30)
            ends.append(time.time() - began)
            starts.append(started - began)
        for name, values in (("submit → start elsewhere", starts), ("submit → result here", ends)):
            values.sort()
            middle, late = values[count // 2], values[int(count * 0.99)]
            yield name, f"p50 {middle * 1e3:.2f} ms, p99 {late * 1e3:.2f} ms"
        seconds = 20 * max(scale, 0.01)
        time.sleep(seconds / 20)
        before, commands = activity(child.pid), commands_sent(server)
        time.sleep(seconds)
        commands = commands_sent(server) - commands
        ticks = activity(child.pid)[0] - before[0]
        sender.shutdown()
    yield "idle process", f"{ticks} ticks, {commands / 2 / seconds:.2f} commands per second"


def commands_sent(server: RedisServer) -> int:
    """Return how many commands clients have sent; scripts count once, and what they do does not."""
    found = info(server, "commandstats")
    sent = ("cmdstat_evalsha", "cmdstat_eval", "cmdstat_ping", "cmdstat_hgetall")
    return sum(found[each]["calls"] for each in sent if each in found)


def pause(_number: int) -> None:
    """Be a job that takes a millisecond."""
    time.sleep(0.001)


def processes(scale: float, rounds: int) -> Lines:
    """Worker processes, with jobs of 1 ms that use no processor."""
    most = max(some(scale, 2, 4))
    for size in some(scale, 1, WORKERS):
        pairs = [(_rate_of(most, size, scale), _rate_of(1, size, scale)) for _ in range(rounds)]
        middle = statistics.median(many for many, _ in pairs)
        ratios = ratio([many / one for many, one in pairs])
        yield f"{most} : 1, workers in each: {size}", f"{middle:,.0f} jobs/s, {ratios}"


def _rate_of(count: int, size: int, scale: float) -> float:
    jobs = max(20, int(2_000 * count * size * scale))
    with (
        new_server() as server,
        pool_on(server, consume=False, keep_succeeded=jobs) as sender,
        other_processes(count, "--consume", server.url, "--size", str(size)),
    ):
        began = time.perf_counter()
        sender.perform_many(pause, range(jobs))
        while sender.counts()["succeeded"] < jobs:
            time.sleep(0.005)
        return jobs / (time.perf_counter() - began)


def some(scale: float, *sizes: int) -> tuple[int, ...]:
    """Return sizes to measure: only the smallest one if this program is just tried out."""
    return sizes if scale >= 0.01 else sizes[:1]


def scaling(scale: float, _rounds: int) -> Lines:
    """Microseconds of the server's processor for a job, as there is more of everything."""
    turns = max(4, int(100 * scale))
    texts = []
    for pools in some(scale, 1, 10, 100):
        with new_server() as server, ExitStack() as stack:
            stores = [
                stack.enter_context(store_on(server, f"bench{number}")) for number in range(pools)
            ]
            each = max(1, turns // pools)
            for number, store in enumerate(stores):
                fill(store, 64 * each, f"bench{number}")

            def act(stores: list[RedisStore] = stores, each: int = each) -> int:
                return sum(
                    claim_and_settle(store, each + 1, 64, f"bench{number}")
                    for number, store in enumerate(stores)
                )

            texts.append(f"{pools}: {Cost(server, act).each:.1f}")
    yield "pools", ", ".join(texts)
    texts = []
    for waiting in some(scale, 1_000, 10_000, 100_000, 1_000_000):
        with new_server() as server, store_on(server) as store:
            fill(store, int(waiting * scale) + 256 * turns)

            def claim(store: RedisStore = store) -> int:
                return claim_and_settle(store, turns)

            texts.append(f"{int(waiting * scale):,}: {Cost(server, claim).each:.1f}")
    yield "waiting jobs, in turns of 256", ", ".join(texts)
    texts = []
    for idle in some(scale, 1, 8, 64):
        with new_server() as server:
            texts.append(f"{idle}: {_beside_idle_ones(server, idle, scale):.0f}")
    yield "idle processes, jobs one by one", ", ".join(texts)


def _beside_idle_ones(server: RedisServer, idle: int, scale: float) -> float:
    """Return the cost of a job that one of several idle processes is woken for."""
    with other_processes(1, "--idle", str(idle), server.url), store_on(server, "sender") as store:

        def submit(count: int) -> int:
            for _ in range(count):
                news = store.turn([], [Submit(PARTITION, b"x" * 100)], {}).news
                while not news:
                    store.wait(1)
                    news = store.turn([], [], {}).news
            return count

        submit(5)
        time.sleep(0.3)  # those who are new are noticed by all
        return Cost(server, lambda: submit(max(10, int(500 * scale)))).each


def consume(url: str, size: int) -> None:
    """Run jobs until the end of the process."""
    pool = pool_on(url, size=size, keep_succeeded=1_000_000)
    pool.job(pause)
    pool.job(now)
    print("ready", flush=True)
    threading.Event().wait()


def members(scale: float, rounds: int) -> Lines:
    """Jobs of a batch beside plain ones: CPU time of the server, from the first in to the end."""
    count, ratios = max(10, int(40_000 * scale)), []
    for _ in range(rounds):
        times = []
        for submit in (at_once, in_a_batch):
            counter.expect(count)
            with new_server() as server:
                began = busy(server)
                with pool_on(server, consume=False) as sender:
                    submit(sender, count)
                with pool_on(server):
                    counter.wait()
                times.append(busy(server) - began)
        ratios.append(times[1] / times[0])
    yield f"a batch of {count:,} jobs", ratio(ratios)


def idle_members(url: str, count: int) -> None:
    """Be several processes that wait for jobs, each on a machine of its own."""

    def run(directory: Path, started: threading.Barrier) -> None:
        store, updates = RedisStore(Location(url), directory=directory), list[Update]()
        store.join({PARTITION.pool: [PARTITION.function]}, 1)
        turn = store.turn([], [], {PARTITION.pool: Capacity(1, 1)})
        started.wait()
        while True:
            updates = [Update(claim, State.SUCCEEDED, is_kept=False) for claim in turn.claims]
            if not updates:
                store.wait(turn.next_look)
            turn = store.turn(updates, [], {PARTITION.pool: Capacity(1, 1)})

    started = threading.Barrier(count + 1)
    for _ in range(count):
        directory = Path(tempfile.mkdtemp())
        threading.Thread(target=run, args=(directory, started), daemon=True).start()
    started.wait()
    print("ready", flush=True)
    threading.Event().wait()


ROWS: Final = (*(against_peers, share, members, million, fair, memory, across, processes, scaling),)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--consume", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, default=WORKERS, help=argparse.SUPPRESS)
    parser.add_argument("--idle", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.consume:
        consume(options.consume, options.size)
    if options.idle:
        idle_members(options.idle[1], int(options.idle[0]))
    logging.disable(logging.CRITICAL)
    place = f"{platform.python_implementation()} {platform.python_version()}"
    with new_server() as server:
        version = info(server, "server")["redis_version"]
    print(f"durable jobs on Redis {version}, {place}, {oddjob.__file__}")
    for row in ROWS:
        if options.only in row.__name__:
            print(f"\n{row.__doc__}")
            for name, text in row(options.scale, options.rounds):
                print(f"  {name:34} {text}", flush=True)


if __name__ == "__main__":
    main()
