"""Chaos over Redis: everything that can happen to processes, a server and the way to it, at random.

Processes that submit and run jobs are killed and paused, some for longer than their lease; half of
them are on another machine, as far as they know. The server is killed, paused and filled, forgets
its scripts and hangs up; connections are cut in the middle of a reply or go silent. At the end each
acknowledged job must have ended, none may have run again but after a process was killed or paused,
no process may have ended by itself, and every limit lets jobs pass.

``make chaos-redis`` runs it by hand: ``--seconds 600 --seeds 1 2 3``.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis

import oddjob
from oddjob.durable.record import MAX_CRASHES
from oddjob.operations import StoreOperations
from tests.redis_proxy import RedisProxy
from tests.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
POOL = "work"
WAIT = 120.0
LONGEST_PAUSE = 40.0  # seconds, of a process: its lease has ended, and it was taken over
CONSUMERS = 4
_REFUSALS = (oddjob.StoreUnusable, oddjob.StoreFull)  # it may have been stored all the same
_log = -1


def note(*words: object) -> None:
    os.write(_log, (" ".join(map(str, words)) + "\n").encode())


def work(seconds: float, failures: int = 0) -> None:
    """Say which attempt of which job runs in which process; fail that often."""
    job = oddjob.current_job()
    assert job is not None
    note(job.id, job.attempt, os.getpid())
    time.sleep(seconds)
    if job.attempt <= failures:
        raise OSError("as jobs do")


def views(pool: Any) -> list[Any]:
    """Return a pool with all that jobs may have to wait for."""
    return [
        pool,
        pool.options(priority=1),
        pool.options(key="serial", serial=True),
        *[pool.options(key=key, key_limit=2) for key in ("a", "b")],
        pool.options(retries=2, backoff=(0.0, 0.05)),
        pool.options(name="few", max_concurrency=2),
        pool.options(name="slow", rate="2000/second"),
    ]


def run(kind: str, url: str, log: str) -> None:
    """Submit jobs, or run them, until this process is killed."""
    global _log  # noqa: PLW0603  (of this program)
    _log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        with suppress(*_REFUSALS):
            pool = oddjob.Pool(POOL, 4, store=url, consume=kind == "runs", keep_succeeded=10**6)
            break
        time.sleep(0.1)
    while kind == "runs":
        signal.pause()
    chosen = views(pool)
    while True:
        view = random.choice(chosen)
        if random.random() < 0.3:
            view = view.after(random.uniform(0.0, 2.0))
        failures = 2 if view is chosen[5] else 0
        for _ in range(20):
            with suppress(*_REFUSALS):
                note(view.submit(work, random.uniform(0.0, 0.005), failures).id)
        time.sleep(random.uniform(0.0, 0.05))


class Chaos:
    """A server, processes that use it, and what becomes of them."""

    def __init__(self, seed: int, folder: Path, *, is_short: bool = False) -> None:
        self.is_short = is_short  # nothing takes longer than it has to, and all is on one machine
        self.random = random.Random(seed)
        self.folder = folder
        self.counts: Counter[str] = Counter()
        self.server = RedisServer("--appendonly", "yes", "--appendfsync", "always")
        self.proxy = RedisProxy(self.server.socket, folder)
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.is_at_work = True  # the server
        self.hurt: set[int] = set()  # processes that were killed, or were paused for long
        self.kinds = ["fed"] + ["runs"] * 2 if is_short else ["fed"] * 2 + ["runs"] * CONSUMERS
        self.paused: set[int] = set()  # by their places
        self.errors = (folder / "errors").open("w")
        self.processes = [self.start(place) for place in range(len(self.kinds))]

    def start(self, place: int) -> "subprocess.Popen[bytes]":
        machine = self.folder / f"machine-{0 if self.is_short else place % 2}"
        machine.mkdir(exist_ok=True)
        kind = self.kinds[place]
        url = self.server.url if place < len(self.kinds) // 2 else self.proxy.url
        return subprocess.Popen(
            [sys.executable, "-m", "tests.stress.chaos_redis", kind, url, str(self.folder / kind)],
            cwd=ROOT,
            env={**os.environ, "XDG_RUNTIME_DIR": str(machine), "PYTHONPATH": str(ROOT)},
            stderr=self.errors,
        )

    # What happens.

    def kill(self) -> None:
        place = self.random.randrange(len(self.processes))
        process = self.processes[place]
        assert process.poll() is None, f"a process has ended by itself, see {self.errors.name}"
        process.kill()
        process.wait()
        self.hurt.add(process.pid)
        self.paused.discard(place)
        self.processes[place] = self.start(place)

    def pause(self) -> None:
        place = self.random.randrange(len(self.processes))
        process, seconds = self.processes[place], self.choose([0.5, 5.0, LONGEST_PAUSE])
        if place in self.paused:
            return
        self.paused.add(place)
        if seconds == LONGEST_PAUSE:
            self.hurt.add(process.pid)
            self.counts["pauses beyond the lease"] += 1
        process.send_signal(signal.SIGSTOP)

        def go_on() -> None:
            if self.processes[place] is process:
                process.send_signal(signal.SIGCONT)
                self.paused.discard(place)

        self.after(seconds, go_on)

    def choose(self, times: list[float]) -> float:
        return times[0] if self.is_short else self.random.choice(times)

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self.later.append((time.monotonic() + seconds, call))

    def kill_server(self) -> None:
        self.server.kill()
        time.sleep(self.choose([0.0, 0.5, 5.0]))
        self.server.start()

    def pause_server(self) -> None:
        server = self.server.process
        assert server is not None
        server.send_signal(signal.SIGSTOP)
        time.sleep(self.choose([0.1, 2.0, 8.0]))
        server.send_signal(signal.SIGCONT)

    def fill_server(self) -> None:
        self.server.ask("CONFIG", "SET", "maxmemory", "1")
        self.after(self.random.uniform(0.0, 3.0), self.empty_server)

    def empty_server(self) -> None:
        self.server.ask("CONFIG", "SET", "maxmemory", "0")

    def flush_scripts(self) -> None:
        self.server.ask("SCRIPT", "FLUSH")

    def hang_up(self) -> None:
        self.server.ask("CLIENT", "KILL", "TYPE", self.random.choice(["normal", "pubsub"]))

    def cut(self) -> None:
        self.proxy.cuts += self.random.randrange(1, 10)

    def freeze(self) -> None:
        self.proxy.freeze()

    def torment(self, seconds: float) -> None:
        acts: dict[Callable[[], None], int] = {
            self.kill: 10, self.pause: 5, self.kill_server: 2, self.pause_server: 2,
            self.fill_server: 3, self.flush_scripts: 3, self.hang_up: 5, self.cut: 10,
            self.freeze: 1,
        }  # fmt: skip
        while not all((self.folder / kind).exists() for kind in self.kinds):
            time.sleep(0.05)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(self.random.uniform(0.0, 0.4))
            (act,) = self.random.choices([*acts], [*acts.values()])
            with suppress(redis.ConnectionError):  # of this program's own
                act()
            self.counts[act.__name__] += 1
            self.do_what_is_due(time.monotonic())
        self.do_what_is_due(float("inf"))
        self.empty_server()
        self.proxy.cuts = 0

    def do_what_is_due(self, now: float) -> None:
        for moment, call in [*self.later]:
            if moment <= now:
                self.later.remove((moment, call))
                call()

    # The end, and what must hold then.

    def check(self) -> None:
        for place, kind in enumerate(self.kinds):
            if kind == "fed":
                self.processes[place].kill()
        deadline = time.monotonic() + WAIT
        with StoreOperations(self.server.url) as store:
            jobs = store.pool(POOL)
            while any((left := jobs.counts())[each] for each in ("scheduled", "queued", "running")):
                assert time.monotonic() < deadline, f"jobs that do not end: {left}"
                time.sleep(0.1)
            records = {job.id: job for job in jobs.records()}
        with oddjob.Pool(POOL, 1, store=self.server.url, consume=False) as pool:
            last = [view.submit(work, 0.0) for view in views(pool) for _ in range(3)]
            for job in last:
                job.result(WAIT)
        ended = [process.pid for place, process in enumerate(self.processes)
                 if self.kinds[place] == "runs" and process.poll() is not None]  # fmt: skip
        assert not ended, f"processes have ended by themselves, see {self.errors.name}: {ended}"
        acknowledged = (self.folder / "fed").read_text().split()
        lost = [job for job in acknowledged if job not in records]
        assert not lost, f"{len(lost)} acknowledged jobs are lost: {lost[:5]}"
        failed = [job for job in records.values() if job.state != "succeeded"]
        without_reason = [job for job in failed if job.crashes < MAX_CRASHES]
        assert not without_reason, f"jobs that failed: {without_reason[:5]}"
        runs: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for line in (self.folder / "runs").read_text().splitlines():
            job_id, attempt, pid = line.split()
            runs[job_id, attempt].append(int(pid))
        again = {each: pids for each, pids in runs.items() if len(pids) > 1}
        needless = {each: pids for each, pids in again.items() if not self.hurt & set(pids)}
        assert not needless, f"jobs that ran again without need: {needless}"
        missing = [job for job in acknowledged if (job, "1") not in runs]
        assert not missing, f"jobs that ended and never ran: {missing[:5]}"
        self.counts["jobs"] = len(records)
        self.counts["acknowledged"] = len(acknowledged)
        self.counts["runs again after a kill or a long pause"] = len(again)
        self.counts["failed, as three processes died in them"] = len(failed)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.proxy.close()
        self.server.close()
        self.errors.close()


def main() -> int:
    """Run the seeds that were asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all seeds together")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--short", action="store_true", help="without long pauses")
    asked = parser.parse_args()
    for seed in asked.seeds:
        folder = Path(tempfile.mkdtemp(prefix="oddjob-chaos-"))
        os.environ["XDG_RUNTIME_DIR"] = str(folder)
        chaos = Chaos(seed, folder, is_short=asked.short)
        try:
            chaos.torment(asked.seconds / len(asked.seeds))
            chaos.check()
        finally:
            happened = ", ".join(f"{what} {number:,}" for what, number in chaos.counts.items())
            print(f"seed {seed}: {happened}", flush=True)  # noqa: T201
            chaos.close()
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    # Jobs run in the module of that name, which is another one than the program.
    from tests.stress import chaos_redis  # noqa: PLW0406

    if sys.argv[1:2] in (["fed"], ["runs"]):
        chaos_redis.run(*sys.argv[1:])
    sys.exit(chaos_redis.main())
