"""Chaos: everything that can go wrong in a pool, at once, at random, for as long as you like.

Jobs return, raise, exit their thread, hang past their timeout, fork, submit more, wait for each
other, cancel each other, come later by timers, once or again and again, and are struck by
asynchronous exceptions, with priorities, keys, limits and retries, while pools are restarted,
broken, revived and drained. At the end every accepted job must have ended, each pool must have the
capacity that it was configured with, each limit let jobs pass, and no thread may be left.

``make chaos`` runs it by hand: ``--seconds 600 --seeds 1 2 3``.
"""

import argparse
import asyncio
import faulthandler
import os
import random
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import wait
from contextlib import suppress
from typing import Any

import oddjob
from oddjob.runtime.coroutines import CoroutineRunner
from tests.strikes import (
    WITH_LOSES_LOCKS,
    Meeting,
    Struck,
    disable_logging,
    end_unstruck,
    no_strikes,
    start_unstruck,
    strike_thread,
)

WAIT = 30.0
BACKLOG = 300
RARE = ["breakdowns", "drains", "forks"] + ["strikes"] * (not WITH_LOSES_LOCKS)


def unstruck_in_asyncio(run: Callable[..., Any]) -> Callable[..., Any]:
    """Asyncio catches what strikes it in a callback, and may then wait for ever."""

    def run_unstruck(*args: Any, **kwargs: Any) -> Any:
        with no_strikes:
            harmless()  # what was thrown before is raised here
            return run(*args, **kwargs)

    return run_unstruck


class Crash(BaseException):
    """Not an Exception: it ends the worker."""


def harmless() -> bool:
    return True


def fail() -> None:
    raise ValueError("as jobs do")


TANTRUMS = (SystemExit, KeyboardInterrupt, GeneratorExit, Crash)


def leave() -> None:
    raise random.choice(TANTRUMS)


async def coroutine() -> bool:
    await asyncio.sleep(0.0005)
    return True


def show_all() -> None:
    """Print where every thread is, and what every pool does: the reason is in there."""
    faulthandler.dump_traceback()
    print(oddjob.dump())


class Chaos:
    """One run.

    Locking: ``_lock`` guards ``counts``; the list of accepted jobs is only ever appended to.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.counts: Counter[str] = Counter()
        self.accepted: list[oddjob.Job[Any]] = []
        self.recent: deque[oddjob.Job[Any]] = deque(maxlen=100)
        self._lock = threading.Lock()
        self._over = threading.Event()
        many = 10**9
        self.sturdy = oddjob.Pool(f"sturdy {seed}", 4, max_restarts=many, max_abandoned=many)
        self.frail = oddjob.Pool(f"frail {seed}", 3, max_restarts=1, max_seconds=0.5)
        self.patient = oddjob.Pool(f"patient {seed}", 3, max_restarts=many, timeout=WAIT)
        self.pools = [self.sturdy, self.frail, self.patient]
        self.views = {pool: self.limit(pool) for pool in self.pools}
        self.beats = [pool.every(0.02).submit(harmless) for pool in self.pools]

    def limit(self, pool: oddjob.Pool) -> list[Any]:
        """The same pool with all that jobs may have to wait for."""
        return [
            *[pool.options(priority=priority) for priority in (-1, 1, 2)],
            *[pool.options(key=key, key_limit=2) for key in ("a", "b")],
            pool.options(key="c", serial=True, retries=1, backoff=0.001),
            pool.options(key="d", retries=2, backoff=(0.0, 0.002)),
            pool.options(max_concurrency=1),
            pool.options(rate=oddjob.Rate(2_000, burst=20)),
        ]

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    # What jobs do.

    def hang(self) -> None:
        # (Not in an event: a thread that is struck in its `wait` may keep the lock of it.)
        time.sleep(random.uniform(0.0, 0.2))

    def nest(self) -> object:
        """Wait for a job of this pool or a lower one: waiting in circles is the user's deadlock."""
        here = threading.current_thread().name
        height = next(i for i, pool in enumerate(self.pools) if here.startswith(str(pool.name)))
        pool = random.choice(self.pools[: height + 1])
        if random.random() < 0.1:
            return self.submit(self.impatient(pool), self.hang).result(WAIT)
        return self.submit(pool, harmless).result(WAIT)

    def impatient(self, pool: oddjob.Pool) -> Any:
        """The same pool with a timeout that some hanging jobs miss, and then a retry, perhaps."""
        options: dict[str, Any] = {"retries": 1, "backoff": 0.05} if random.random() < 0.5 else {}
        if random.random() < 0.5:
            options["key"] = "e"
        return pool.options(timeout=random.uniform(0.001, 0.05), **options)

    def spread(self) -> None:
        with self.sturdy.group() as group:
            group.submit_many(time.sleep, [0.0001] * 3)

    def cancel(self) -> None:
        with suppress(IndexError):
            random.choice(self.recent).cancel()

    def restart(self) -> None:
        random.choice(self.pools).restart()

    def fork(self) -> None:
        with no_strikes:
            harmless()  # what was thrown before is raised here, and not in the hooks of the fork
            child = os.fork()
        if child == 0:
            signal.alarm(int(WAIT / 2))  # a child that hangs is killed, and found to have been
            code = 1
            try:
                assert self.sturdy.submit(pow, 2, 3).result() == 8
                code = 0
            except Struck:
                code = 0  # on its way when the process forked
            finally:
                os._exit(code)
        self.count("forks")
        self.reap(child)

    def reap(self, child: int) -> bool:
        """Wait for a child; false if there is none."""
        try:
            _, status = os.waitpid(child, 0)
        except ChildProcessError:
            return False
        if status:
            self.count("children that failed")
        return True

    # What is done to pools.

    def submit(self, pool: Any, fn: Callable[[], object]) -> oddjob.Job[Any]:
        job = pool.submit(fn)
        self.accepted.append(job)
        self.recent.append(job)
        if random.random() < 0.05:
            with suppress(*TANTRUMS):  # it has ended, and they are raised here
                job.add_done_callback(lambda _: random.choice([harmless, fail, leave])())
        return job  # type: ignore[no-any-return]  # a view is a pool to us

    def submit_something(self) -> None:
        pool: Any = random.choice(self.pools)
        kind, fn = random.choices(*self.menu)[0]
        if kind == "hangs":
            pool = self.impatient(self.sturdy)
        elif kind == "coroutine":
            pool = pool.options(timeout=WAIT)
        elif random.random() < 0.4:
            pool = random.choice(self.views[pool])
        try:
            if random.random() < 0.1:
                pool = pool.after(random.uniform(0.0, 0.01))
                self.count("later")
            self.submit(pool, fn)
            self.count(kind)
        except oddjob.PoolBroken:
            self.count("refused by a broken pool")
            time.sleep(0.001)

    @property
    def menu(self) -> tuple[list[tuple[str, Callable[[], object]]], list[int]]:
        dishes: list[tuple[str, Callable[[], object], int]] = [
            ("return", harmless, 40),
            ("raise", fail, 15),
            ("exit", leave, 6),
            ("coroutine", coroutine, 6),
            ("hangs", self.hang, 4),
            ("nest", self.nest, 10),
            ("group", self.spread, 4),
            ("cancel others", self.cancel, 10),
            ("restart a pool", self.restart, 1),
            ("fork", self.fork, 1),
        ]
        return [(kind, fn) for kind, fn, _ in dishes], [weight for _, _, weight in dishes]

    def keep_submitting(self) -> None:
        while not self._over.is_set():
            while any(len(pool.queue()) > BACKLOG for pool in self.pools):
                time.sleep(0.001)
            self.submit_something()

    def keep_tormenting(self) -> None:
        while not self._over.is_set():
            time.sleep(random.uniform(0.0, 0.01))
            random.choices([self.strike, self.look, self.revive, self.drain], [6, 3, 3, 1])[0]()

    def strike(self) -> None:
        """Throw something into a worker, busy or idle."""
        # One that has not begun could not say that it ends.
        workers = [each for each in random.choice(self.pools)._core.workers.all() if each.has_begun]
        if workers and not WITH_LOSES_LOCKS:
            self.counts["strikes"] += strike_thread(random.choice(workers).thread, Struck)

    def look(self) -> None:
        """Check that the numbers add up, whatever is going on."""
        stats = random.choice(self.pools).stats()
        ended = stats.succeeded + stats.failed - stats.refused + stats.timed_out
        assert stats.started == stats.running + ended + stats.retried + stats.stopped, stats
        assert min(stats[1:16]) >= 0, stats

    def revive(self) -> None:
        if self.frail.state == "broken":
            self.count("breakdowns")
            self.frail.restart()

    def drain(self) -> None:
        """A pool of its own, filled and drained."""
        pool = oddjob.Pool(2)
        jobs = [self.submit(pool, random.choice([harmless, fail, self.hang])) for _ in range(20)]
        jobs += [self.submit(pool.after(random.uniform(0.0, 0.05)), harmless) for _ in range(20)]
        with suppress(*TANTRUMS):  # of callbacks of those that it cancels
            pool.drain(random.uniform(0.0, 0.05))
        assert pool.join(WAIT), "a drained pool did not end"
        assert not wait(jobs, WAIT).not_done  # some are refused by a thread of their own
        self.count("drains")

    # The end, and what must hold then.

    def run(self, seconds: float) -> None:
        random.seed(self.seed)
        failures: list[BaseException] = []

        def guarded(work: Callable[[], None]) -> None:
            try:
                work()
            except BaseException as error:
                show_all()
                failures.append(error)
                self._over.set()
                raise

        works = [self.keep_submitting] * 3 + [self.keep_tormenting]
        threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        self._over.wait(seconds)
        deadline = time.monotonic() + WAIT
        while not all(self.counts[each] for each in RARE) and time.monotonic() < deadline:
            self._over.wait(0.1)  # on a slow machine
        self._over.set()
        for thread in threads:
            thread.join()
        assert not failures
        self.check()

    def check(self) -> None:
        deadline = time.monotonic() + WAIT
        self.revive()
        for beat in self.beats:
            assert beat.fired, f"{beat!r} never fired"
            assert beat.cancel() is not False, f"{beat!r} did not go on"
            self.counts["beats"] += beat.fired
        for job in self.accepted:
            with suppress(BaseException):
                job.exception(max(0.0, deadline - time.monotonic()))
        unfinished = [job for job in self.accepted if not job.done()]
        if unfinished:
            show_all()
        assert not unfinished, f"{len(unfinished)} jobs never ended: {unfinished[:5]}"
        for pool in self.pools:
            self.check_capacity(pool)
            self.check_limits(pool)
        self.counts.update(job.state for job in self.accepted)
        before = [pool.stats() for pool in self.pools]
        for pool in self.pools:
            pool.shutdown(timeout=WAIT)
            assert pool.join(0), f"{pool!r} did not end"
        while self.reap(-1):
            pass
        assert not self.counts["children that failed"], self.counts
        for name in ("crashes", "restarts", "retried", "timed_out"):
            self.counts[name] = sum(getattr(stats, name) for stats in before)
        left = set(threading.enumerate()) - {threading.main_thread()}
        for thread in left:
            thread.join(WAIT)
        assert not [thread for thread in left if thread.is_alive()]

    def check_capacity(self, pool: oddjob.Pool) -> None:
        """As many jobs as were configured run at once: they meet."""
        deadline = time.monotonic() + WAIT
        while True:
            together = Meeting(pool.pool_size)
            # What was still to strike, or to crash, does so now; then they must meet all the same.
            with suppress(oddjob.PoolBroken):
                jobs = [pool.submit(together.wait, 1) for _ in range(pool.pool_size)]
                if all(job.exception(WAIT) is None for job in jobs):
                    break
            assert time.monotonic() < deadline, f"{pool!r} has lost capacity: {pool.stats()}"
            if pool.state == "broken":
                pool.restart()
        while pool.state != "running" or pool.stats().abandoned:
            assert time.monotonic() < deadline, f"{pool!r} does not recover: {pool.stats()}"
            time.sleep(0.001)

    def check_limits(self, pool: oddjob.Pool) -> None:
        """Check that no limit is held by a job that has ended."""
        for view in self.views[pool]:
            for _ in range(20):  # what was still to strike may do so
                jobs = [view.submit(harmless) for _ in range(3)]
                if all(job.exception(WAIT) is None for job in jobs):
                    break
            else:
                raise AssertionError(f"a limit of {view!r} lets no job pass: {jobs}")


def main() -> int:
    """Run the seeds that were asked for, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="for all seeds together")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--switch-interval", type=float, default=0.0005)
    asked = parser.parse_args()
    disable_logging()
    threading.Thread.start = start_unstruck  # type: ignore[method-assign]
    threading.Thread._delete = end_unstruck  # type: ignore[attr-defined]
    for method in ("run", "close"):
        setattr(CoroutineRunner, method, unstruck_in_asyncio(getattr(CoroutineRunner, method)))
    faulthandler.register(signal.SIGALRM, chain=True)
    faulthandler.dump_traceback_later(asked.seconds + 3 * WAIT, exit=True)
    sys.setswitchinterval(asked.switch_interval)
    for seed in asked.seeds:
        chaos = Chaos(seed)
        chaos.run(asked.seconds / len(asked.seeds))
        listed = ", ".join(f"{what} {number:,}" for what, number in sorted(chaos.counts.items()))
        print(f"seed {seed}: {len(chaos.accepted):,} jobs accepted, all ended: {listed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
