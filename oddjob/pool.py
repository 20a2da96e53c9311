"""Pool: a named, supervised group of worker threads with one queue; an ``Executor``."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from oddjob.events import OnEvent
from oddjob.fork import in_child
from oddjob.job import Job
from oddjob.rate import Rate
from oddjob.registry import Registry
from oddjob.settings import (
    CrashOn,
    Delays,
    Exceptions,
    OnError,
    PoolOptions,
    WhenFull,
    check_name,
    check_observer,
    check_size,
)
from oddjob.stats import PoolState, PoolStats
from oddjob.submitter import Submitter
from oddjob.terms import Terms
from oddjob.workforce.report import DrainReport
from oddjob.workforce.supervisor import SupervisorInfo
from oddjob.workforce.worker import WorkerInfo
from oddjob.workforce.workforce import Workforce

__all__ = ["Pool", "registry", "use_defaults"]

registry: Final[Registry["Pool"]] = Registry()
in_child(registry.remake_lock)
_numbers: Final = itertools.count(1)


class _Defaults:
    """What ``configure`` says of pools that do not say it themselves; replaced as a whole."""

    options = PoolOptions()


def use_defaults(options: PoolOptions) -> None:
    """Let pools made from now on take these options where they are given none."""
    _Defaults.options = options


class Pool(Submitter, ThreadPoolExecutor):
    """A group of worker threads that runs at most `pool_size` jobs at once, in order of arrival.

    Use it wherever a ``concurrent.futures.ThreadPoolExecutor`` is used; it is a subclass, though
    nothing of that class runs. Threads start on demand, none before the first job. A worker that
    crashes is replaced; one that has crashed too often brings in a fresh set, and only a pool
    whose fresh sets keep crashing too breaks.

    Args:
        name: the pool's name in the registry, where the module-level verbs find it until it is
            shut down. None makes an anonymous pool, which ends when nobody refers to it any more,
            after finishing its queue. A number in this place is taken for `pool_size`, and a
            string after it for `thread_name_prefix`, as ``ThreadPoolExecutor`` has them.
        pool_size: how many jobs may run at once, 1 or more.
        initializer: called with `initargs` at the start of every worker thread; if it raises,
            the worker counts as crashed.
        max_workers: the standard library's word for `pool_size`.
        max_restarts: how many crashes within `max_seconds` are met by replacing single workers,
            0 or more.
        max_seconds: the length of that time, in seconds.
        thread_name_prefix: what the threads are called, before ``_0``, ``_1`` and so on.
        on_error: called as ``on_error(job, exception)`` when a job given to `perform` fails, in
            the thread that ran it.
        crash_on: exceptions, a class or a tuple of classes, that count as a crash of the worker
            when a job raises them, as everything does that is no ``Exception``.
            ``crash_on=Exception`` gives every failure a fresh thread.
        timeout: for how long a job may run, in seconds, if its own options do not say;
            ``math.inf`` for as long as it takes. One that runs longer ends with `JobTimeout`, and
            its thread, which cannot be stopped, is replaced.
        max_abandoned: how many such threads there may be, 0 or more, `pool_size` if not given.
            Beyond that they are not replaced, and the pool is ``degraded`` until one comes back.
        exit_timeout: for how long the end of the process waits for the pool's jobs, in seconds, 0
            or more; ``math.inf`` for as long as they take. Then what is queued is cancelled, and
            what is running is left behind.
        on_event: called with a `PoolEvent` when something happens that an operator may want to
            know, in the thread in which it happens. What it raises is logged.
        max_queue: how many jobs may wait for a worker, or to be tried again, 1 or more; without
            bound if not given.
        when_full: what becomes of a job for which there is no room. ``"block"``: whoever submits
            it waits for room, in order of arrival (a job of the pool itself gets `QueueFull`);
            ``"raise"``: he gets `QueueFull`; ``"caller_runs"``: he runs it himself, unless a limit
            stops it; ``"drop_oldest"``: the job that has waited longest, of the least urgent, ends
            with `JobDropped`.
        submit_timeout: for how long ``"block"`` waits, in seconds, 0 or more; then `QueueFull`.
        rate: how many jobs may start in how much time: a `Rate`, or a text like ``"100/minute"``.
        key_limit, retries, backoff, retry_on, give_up_on: what `options` says of them, for every
            job that does not say otherwise.
        ageing: in how many seconds a job that waits becomes as urgent as one whose priority is
            higher by one, so that none waits for ever; never if not given.

    What is not given is taken from `oddjob.configure`, else it is 5 workers and 3 restarts in 5
    seconds.

    Raises:
        PoolNameTaken: a live pool has that name.
        TypeError: an argument is of the wrong type, or `pool_size` is given twice.
        ValueError: a number is out of range.

    Thread safety: all methods may be called from any thread.
    """

    def __init__(
        self,
        name: str | int | None = None,
        pool_size: int | str | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] | list[Any] | None = None,
        *,
        max_workers: int | None = None,
        max_restarts: int | None = None,
        max_seconds: float | None = None,
        thread_name_prefix: str = "",
        on_error: OnError | None = None,
        crash_on: CrashOn | None = None,
        timeout: float | None = None,
        max_abandoned: int | None = None,
        exit_timeout: float | None = None,
        on_event: OnEvent | None = None,
        max_queue: int | None = None,
        when_full: WhenFull | None = None,
        submit_timeout: float | None = None,
        rate: Rate | str | None = None,
        key_limit: int | None = None,
        ageing: float | None = None,
        retries: int | None = None,
        backoff: Delays | None = None,
        retry_on: Exceptions | None = None,
        give_up_on: Exceptions | None = None,
    ) -> None:
        if isinstance(pool_size, str) and not pool_size.isdecimal():
            # The standard library has its second argument, the prefix, in this place.
            thread_name_prefix, pool_size = pool_size, None
        if isinstance(name, int):
            if pool_size is not None:
                raise TypeError("pool_size is given twice")
            name, pool_size = None, name
        if max_workers is not None:
            if pool_size is not None:
                raise TypeError("pool_size and max_workers are one and the same: give only one")
            pool_size = check_size("max_workers", max_workers)
        elif pool_size is not None:
            pool_size = check_size("pool_size", pool_size)
        if name is not None:
            check_name("name", name)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        options = _Defaults.options.but(
            pool_size=pool_size,
            max_restarts=max_restarts,
            max_seconds=max_seconds,
            initializer=initializer,
            initargs=tuple(initargs) if isinstance(initargs, list) else initargs,
            thread_name_prefix=thread_name_prefix or None,
            on_error=on_error,
            crash_on=crash_on,
            timeout=timeout,
            max_abandoned=max_abandoned,
            exit_timeout=exit_timeout,
            on_event=on_event,
            max_queue=max_queue,
            when_full=when_full,
            submit_timeout=submit_timeout,
            rate=rate,
            key_limit=key_limit,
            ageing=ageing,
            retries=retries,
            backoff=backoff,
            retry_on=retry_on,
            give_up_on=give_up_on,
        )
        self._open(name, options)

    @classmethod
    def from_options(cls, name: str | None, options: PoolOptions) -> "Pool":
        """Make a pool with just these options, whatever the configured defaults are."""
        pool = cls.__new__(cls)
        pool._open(name, options)
        return pool

    def _open(self, name: str | None, options: PoolOptions) -> None:
        self._name = name
        self._options = options
        label = name or f"oddjob-{next(_numbers)}"
        workforce = Workforce(options, name, label, self)
        self._offer(workforce, Terms.of_pool(options))
        if name is not None:
            registry.add(name, self)

    @property
    def name(self) -> str | None:
        """The name in the registry; None for an anonymous pool."""
        return self._name

    @property
    def pool_size(self) -> int:
        """How many jobs may run at once."""
        return self._options.pool_size

    @property
    def configuration(self) -> PoolOptions:
        """The options in force, those not given included."""
        return self._options

    @property
    def on_event(self) -> OnEvent | None:
        """The observer, called as ``on_event(event)``; another one may be set at any time."""
        return self._workforce.roster.herald.observer

    @on_event.setter
    def on_event(self, observer: OnEvent | None) -> None:
        check_observer("on_event", observer)
        self._workforce.roster.herald.observer = observer

    @property
    def state(self) -> PoolState:
        """What the pool as a whole is doing.

        ::

                        too many crashes, or restart()
            running ──────────────────────────────────▶ restarting   all workers are replaced,
             ▲ │ ▲ ◀─────────────────────────────────── │            each after its job
             │ │ │               done                   │
             │ │ └──────── one comes back ──┐           │ too many restarts
             │ └── too many stuck threads ─▶ degraded   ▼
             │                                        broken         takes no jobs
             └─────────────── restart() ────────────────┘

            any of them ── shutdown(), drain(), the end of the process ──▶ closed
        """
        return self._workforce.roster.state

    def __repr__(self) -> str:
        name = "anonymous" if self._name is None else repr(self._name)
        queued = len(self._workforce.roster.queue)
        return f"<Pool {name}, {self.state}, pool_size={self.pool_size}, {queued} queued>"

    def workers(self) -> list[WorkerInfo]:
        """A snapshot of the workers: name, thread identifier, state and job of each."""
        return self._workforce.workers()

    def supervisor(self) -> SupervisorInfo:
        """A snapshot of the supervisor: its limits, and what it has had to do so far."""
        return self._workforce.supervisor()

    def queued(self) -> list[Job[Any]]:
        """A snapshot of the jobs that wait for a worker, in the order in which they will start."""
        return self._workforce.queued()

    def stats(self) -> PoolStats:
        """A snapshot of what the pool is doing and has done: counts, waiting and run times.

        The numbers are of one moment for each worker, and add up; a job counts as ended no later
        than anybody can see that it has. Takes time in proportion to the queue.
        """
        return self._workforce.stats()

    def restart(self) -> None:
        """Replace all workers, each after the job in its hands; revive the pool if it is broken.

        The queue is kept; that of a broken pool is empty. Does not wait.

        Raises:
            PoolClosed: the pool has been shut down.
        """
        self._workforce.restart()

    def drain(self, timeout: float | None = None) -> DrainReport:
        """Take no more jobs, run those that are queued until the time is up, cancel the rest.

        The name is free at once.

        Args:
            timeout: for how long to go on, in seconds; None until the last job has ended. When
                it is up, jobs that have not started are cancelled, and those that are running are
                left behind: not even the end of the process waits for them.

        Returns what was finished, cancelled and left running of the jobs that were queued or
        running.

        Raises:
            RuntimeError: it was called by a job of the pool, which cannot wait for its own end.

        Blocks until all jobs have ended or the time is up.
        """
        if self._name is not None:
            registry.remove(self._name, self)
        return self._workforce.drain(timeout)

    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, timeout: float | None = None
    ) -> None:
        """Take no more jobs, finish those that are queued, and let the workers go.

        The name is free at once. Called again, it does what the first call left out. On a worker
        of the pool itself it never waits.

        Args:
            wait: return when the last job has run and all threads have ended.
            cancel_futures: cancel what is queued. Together with ``wait=False`` not even the end
                of the process waits for the jobs that are still running.
            timeout: for how long to wait, in seconds; None without limit. What is not done then
                goes on as with ``wait=False``, and `join` tells whether it is. `drain` is for
                those who want an end of it.

        Blocks, with `wait`, until every running job has returned, but for those that have timed
        out.
        """
        if self._name is not None:
            registry.remove(self._name, self)
        self._workforce.close(cancel_queued=cancel_futures, wait=wait)
        if wait:
            self._workforce.join(timeout)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for a closed pool's threads to end; false after `timeout` seconds.

        Returns false at once on a worker of the pool itself, which cannot wait for its own end.
        """
        return self._workforce.join(timeout)

    # What code written for ThreadPoolExecutor is known to look at.

    if not TYPE_CHECKING:

        @property
        def _max_workers(self) -> int:
            return self._options.pool_size

        @property
        def _threads(self) -> set[threading.Thread]:
            return {worker.thread for worker in self._workforce.roster.staff()}

        @property
        def _shutdown(self) -> bool:
            return self._workforce.roster.closed is not None

        @property
        def _broken(self) -> bool:
            return self._workforce.roster.broken is not None

        @property
        def _work_queue(self) -> "_QueueView":
            return _QueueView(self._workforce)


class _QueueView:
    """The one thing people ask of an executor's ``_work_queue``: how long it is."""

    def __init__(self, workforce: Workforce) -> None:
        self._workforce = workforce

    def qsize(self) -> int:
        """How many jobs are queued."""
        return len(self._workforce.roster.queue)

    def empty(self) -> bool:
        """Whether no job is queued."""
        return not self.qsize()
