"""dump: what all pools are doing, as text, for people who wonder why a program is stuck.

Guarantees: nothing is changed, and nothing is waited for but the short locks of the pools. What the
text says is of slightly different moments.
"""

import signal
import sys
from collections.abc import Iterable
from textwrap import indent
from types import FrameType
from typing import Final, TextIO

from oddjob.log import run_in_thread
from oddjob.runtime import lifecycle
from oddjob.runtime.core import PoolCore
from oddjob.runtime.job import Job
from oddjob.runtime.metrics import state_of
from oddjob.runtime.worker import Worker

_LISTED: Final = 10  # jobs, and timers, of each pool


def dump(file: TextIO | None = None) -> None:
    """Write what every pool of the process is doing: workers, their jobs and stacks, the queue.

    The text is for people, and may change. `Pool.dump` returns that of one pool.

    Args:
        file: where to write; ``sys.stderr`` by default.

    Thread safety: may be called from any thread; from signal handlers, use `dump_on_signal`.
    """
    cores = [core for core in lifecycle.known_cores() if not core.is_finished()]
    cores.sort(key=lambda core: core.label)
    text = "\n".join(map(text_of, cores)) or "there are no pools\n"
    print(text, end="", file=sys.stderr if file is None else file, flush=True)


def dump_on_signal(number: int) -> None:
    """Have the process `dump` to stderr whenever it receives a signal; from the main thread.

    ``oddjob.dump_on_signal(signal.SIGUSR1)``, then ``kill -USR1 <pid>``. The dump is written by
    another thread, as the signal may have interrupted code that holds a lock.

    Args:
        number: the signal. A handler that it has now is replaced.

    Raises:
        ValueError: the caller is not the main thread, or there is no such signal.
    """

    def handle(_number: int, _frame: FrameType | None) -> None:
        run_in_thread(dump, "oddjob-dump")

    signal.signal(number, handle)


def text_of(core: PoolCore) -> str:
    """Return what a pool is doing, as text."""
    workers, queue = core.workers.all_alive(), core.dispatcher.waiting()
    busy = sum(worker.slot.job is not None for worker in workers)
    what = f"{busy} of {core.pool_size} workers busy, {len(queue)} jobs queued"
    lines = [f"pool {core.label}: {state_of(core)}, {what}"]
    for worker in workers:
        lines += _lines_of(worker)
    lines += _listed([f"queued {job.name}: {job.why()}" for job in queue[:_LISTED]], len(queue))
    timers = list(core.timers)
    lines += _listed(map(repr, timers[:_LISTED]), len(timers))
    return "".join(f"{line}\n" for line in lines)


def _lines_of(worker: Worker) -> list[str]:
    info, jobs = worker.info, worker.slot.jobs()
    if not jobs:
        return [f"  worker {info.name}: idle"]
    lines = [f"  worker {info.name}: {_described(job)}" for job in jobs]
    return [*lines, indent(info.stack().rstrip(), "    ")]


def _described(job: Job[object]) -> str:
    by = job.submitted_by
    return f"{job.name}: {job.why()}" + (f"; submitted by {by}" if by else "")


def _listed(lines: Iterable[str], count: int) -> list[str]:
    more = [f"  and {count - _LISTED} more"] if count > _LISTED else []
    return [*(f"  {line}" for line in lines), *more]
