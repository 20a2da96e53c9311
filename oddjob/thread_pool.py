"""Pool: a named, supervised group of worker threads; an ``Executor``.

A pool is what its user holds. What runs its jobs, the core, is what its threads hold: so an
anonymous pool that is no longer referenced is collected, and its core finishes the queue.
"""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import FunctionType, SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, Unpack

from oddjob.compat import override
from oddjob.dumping import text_of
from oddjob.events import OnEvent
from oddjob.hints import hinted
from oddjob.log import run_in_thread
from oddjob.option_checks import as_callbacks, as_name
from oddjob.options import JobSettings, KeywordOptions, PoolOptions
from oddjob.quantities import Seconds, as_patience, as_size
from oddjob.runtime.core import PoolCore
from oddjob.runtime.job import Job
from oddjob.runtime.limits import RateLimiter
from oddjob.runtime.metrics import Histograms, PoolStats, StateName, state_of, stats_of
from oddjob.runtime.pool_ending import DrainReport
from oddjob.runtime.supervisor import SupervisorInfo
from oddjob.runtime.worker import WorkerInfo
from oddjob.schedule.timer import Timer, timers_of
from oddjob.stored_jobs import StoredJobs
from oddjob.view import PoolView

if TYPE_CHECKING:
    from oddjob.registry import Registry

_numbers: Final = itertools.count(1)  # of anonymous pools


class Pool(StoredJobs, ThreadPoolExecutor):
    """A supervised group of worker threads, and a drop-in for ``ThreadPoolExecutor``.

    It runs at most `pool_size` jobs at once, first in, first out. Every accepted job ends with a
    result, an exception or a cancellation. Threads start on demand, none before the first job.

    ::

        with oddjob.Pool("api", 10, rate="100/minute", timeout=30) as api:
            job = api.submit(fetch, url)  # a Job: result(), state, why(), cancel(), await
            pages = list(api.map(fetch, urls))  # results, in order
            api.perform(notify, "done")  # fire and forget; a failure is logged

    Its methods, by what they are for:

    - submit: `submit`, `submit_many`, `map`, `starmap`, `perform`, `perform_many`, `asubmit`,
      `group`
    - submit later, or repeatedly: `after`, `at`, `every`, `cron`, `daily`
    - decorate functions, and give options to some of the jobs: `job`, `options`
    - look: `stats`, `workers`, `queue`, `timers`, `supervisor`, `dump`
    - change: `resize`, `pause`, `resume`, `restart`
    - end: `shutdown`, `drain`, `join`, a ``with`` block
    - with a store: `find`, `records`, `counts`, `retry_failed`, `purge`, `recurring`, `runners`,
      `using`

    An option that is not given, or None, is taken from `oddjob.configure`, or else has its default,
    in parentheses below. Seconds may be numbers or ``timedelta`` objects.

    Args:
        name: the name under which module-level functions find the pool until it is shut down.
            None makes an anonymous pool, which is shut down when garbage-collected. As in
            ``ThreadPoolExecutor``, a number in this place is taken as `pool_size`, and a string
            after it as `thread_name_prefix`.
        pool_size: how many jobs may run at once, 1 or more (5).
        initializer: called with `initargs` at the start of every worker thread (none). If it
            raises, the worker counts as crashed.
        initargs: the arguments of `initializer`.
        max_workers: the standard library's word for `pool_size`.
        thread_name_prefix: the first part of thread names (the pool's name).
        max_restarts: crashes of workers tolerated within `max_seconds` before all workers are
            restarted, 0 or more (3). After as many such restarts within `max_seconds` the pool is
            broken: its queued jobs end with `PoolBroken`, and `restart` revives it.
        max_seconds: the length of that period, in seconds (5.0).
        crash_on: exceptions that count as a crash of the worker when a job raises them: a class
            or a tuple of classes (none). What is not an ``Exception`` always does.
        timeout: how long a job may run, in seconds (no limit); see `options`. The thread of a job
            that runs longer cannot be stopped, and is replaced.
        max_abandoned: how many such threads are replaced, 0 or more (`pool_size`). Beyond that the
            pool is ``degraded`` until one of them returns.
        exit_timeout: how long the end of the process waits for the pool's jobs, in seconds, 0 or
            more (no limit). Then they are cancelled or abandoned.
        max_queue: how many jobs may be queued or waiting for a retry, 1 or more (no limit).
        when_full: what happens to a job when `max_queue` jobs wait. ``"block"`` (the default): the
            caller blocks until there is room, first come, first served (a job of the pool itself
            gets `QueueFull`). ``"raise"``: the caller gets `QueueFull`. ``"caller_runs"``: the
            caller runs the job, unless a limit stops it; in a pool with a store only one without
            key, limit, retries and ``unique``, which is not stored then. ``"drop_oldest"``: the job
            that has waited longest, among those with the lowest priority, ends with `JobDropped`.
        submit_timeout: how long a job waits for room, in seconds, 0 or more (no limit); then
            `QueueFull`. (With ``"caller_runs"``, only those wait that the caller cannot run.)
        priority_aging: the seconds after which a waiting job counts as one priority level higher,
            so that none waits for ever (priorities do not age). Those of stored jobs never do: for
            a pool with a store it is a ``TypeError``, and of no effect as a configured default.
        rate: how many jobs of the pool may start in a period: a `Rate`, or a text such as
            ``"100/minute"`` (no limit).
        key_limit: how many jobs of one key may run at once, 1 or more (1); see `options`.
        fair_by: whose turn a job takes: an identifier, or a function that derives one from the
            job's arguments (none); see `options`. With `priority_aging` it has no effect.
        fair_weights: how many turns such a key has in a round (1).
        retries: how often a failed job is retried, 0 or more (0).
        backoff: the delays before retries: a `Backoff`, a number of seconds, or several of them,
            the last one being repeated (0.25, 1, 20, 60 and 150 seconds).
        retry_on: exceptions that trigger a retry: a class, a tuple of classes, or a function that
            takes the exception and returns a bool (``Exception``).
        no_retry_on: exceptions that are never retried, in the same forms (none).
        middleware: objects that are called around every job, the first one outermost (none); see
            `Middleware`.
        on_error: called as ``on_error(job, exception)`` when a job given to `perform` fails, in
            the thread that ran it; and when a failed job is garbage-collected whose result and
            exception nobody has asked for, in the thread in which that happens, as a destructor:
            it should not wait for a lock (none).
        on_event: called with a `PoolEvent`, in the thread in which that happens; or a list of
            callables, which are all called (none). What one raises is logged.
        store: where jobs are kept, so that they survive the process (nowhere, or False): the URL
            ``"sqlite:///jobs.db"``, a file which all processes of a machine may share;
            ``"redis://user:password@host:6379/0?prefix=oddjob"``, a server for many machines; or
            ``"memory:"``. The pool needs a name. False, for one pool, does without the store that
            `configure` gives to all, or that a test is not to use: the options below, and
            ``unique`` and ``persist`` of jobs, are then accepted and have no effect. In a pool that
            is given no store, they are a ``TypeError``, but for ``persist``.
        signing_keys: secrets of 16 bytes or more, as texts or bytes, with which payloads in the
            store are signed: the first one signs, all of them verify (none). With them, jobs on
            Redis take what pickle carries; without, what JSON does.
        consume: run jobs from the store (True). False: only submit them, for others to run.
        keep_succeeded: how many records of succeeded jobs the store keeps (1000).
        keep_failed: how long it keeps records of failed and cancelled jobs, as a text such as
            ``"30 days"`` or in seconds (2592000.0).
        keep_bytes: about how many bytes of records it keeps at most of those that succeeded, of
            those that failed, and of cancelled ones, as a number or a text such as ``"1 GB"``
            (256000000.0); the oldest ones go first. The mean of some records stands for all.
        unknown_after: the seconds after which stored jobs fail if no process knows their function
            (600.0).

    Raises:
        PoolNameTaken: a live pool has that name.
        StoreUnusable: the store cannot be opened.
        TypeError: an argument is of the wrong type, or `pool_size` is given twice.
        ValueError: a number is out of range.

    Thread safety: all methods may be called from any thread.
    """

    _view_class: ClassVar[type[PoolView]] = PoolView
    _registry: "ClassVar[Registry]"  # set by its module, which knows this class

    def __init__(
        self,
        name: str | int | None = None,
        pool_size: int | str | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] | list[Any] | None = None,
        *,
        max_workers: int | None = None,
        **options: Unpack[KeywordOptions],
    ) -> None:
        given: dict[str, Any] = {**options}
        if isinstance(pool_size, str) and not pool_size.isdecimal():
            given["thread_name_prefix"], pool_size = pool_size, None
        if name is not None and hasattr(name, "__index__"):
            if pool_size is not None:
                raise TypeError("pool_size is given twice")
            name, pool_size = None, name
        given.update(pool_size=pool_size, initializer=initializer, initargs=initargs)
        name = None if name is None else as_name("name", name)
        if name is None and given.get("store"):
            raise TypeError("a pool with a store needs a name, by which other processes find it")
        defaults = self._registry.plan.defaults
        if name is None and defaults.store:  # no other process could find its jobs
            defaults = defaults._replace(store=None)
        self._open(name, defaults.replace(max_workers=max_workers, **given))
        self._open_store()

    @classmethod
    def _from_options(cls, name: str, options: PoolOptions) -> Self:
        """Make a pool with exactly these options, whatever the configured defaults are."""
        pool = cls.__new__(cls)
        pool._open(name, options)
        return pool

    def _open(self, name: str | None, options: PoolOptions) -> None:
        label = name or f"oddjob-{next(_numbers)}"
        limits = () if options.rate is None else (RateLimiter(options.rate),)
        self._use(PoolCore(options, name, label, self), JobSettings(options, limits=limits))
        self._core.policy = self._policy
        if name is not None:
            self._registry.add(name, self)

    def _open_store(self) -> None:
        """Begin to run what is in the store; close the pool if that cannot be used."""
        if self._core.store is not None:
            try:
                self._core.store.open()
            except BaseException:
                self.shutdown(wait=False)
                raise

    @property
    def name(self) -> str | None:
        """The pool's name; None for an anonymous pool."""
        return self._core.name

    @property
    def pool_size(self) -> int:
        """How many jobs may run at once; see `resize`."""
        return self._core.pool_size

    @property
    def configuration(self) -> PoolOptions:
        """All options with which the pool was made, those that were not given included."""
        return self._core.options

    @property
    def on_event(self) -> OnEvent | None:
        """The callback for events, or a tuple of several; may be set at any time."""
        return self._core.events.callbacks

    @on_event.setter
    def on_event(self, callback: OnEvent | None) -> None:
        given = None if callback is None else as_callbacks("on_event", callback)
        self._core.events.callbacks = given

    @property
    def state(self) -> StateName:
        """The state of the pool as a whole.

        ``running``; ``paused``, in a pool without a store, until `resume`; ``restarting`` while all
        workers are replaced, each after its job; ``broken``, after too many restarts, until
        `restart`; ``degraded`` while too many jobs hang; ``closed``.
        """
        return state_of(self._core)

    @override
    def __repr__(self) -> str:
        name = "anonymous" if self.name is None else repr(self.name)
        queued = len(self._core.dispatcher)
        return f"<Pool {name}, {self.state}, pool_size={self.pool_size}, {queued} queued>"

    def workers(self) -> list[WorkerInfo]:
        """Return a snapshot of the workers: name, thread identifier, state and job of each."""
        return [worker.info for worker in self._core.workers.all()]

    def supervisor(self) -> SupervisorInfo:
        """Return a snapshot of the supervisor: its limits, and the crashes it has handled."""
        return self._core.supervisor.info

    def queue(self) -> list[Job[Any]]:
        """Return a snapshot of the queued jobs, in the order in which they will start."""
        return self._core.dispatcher.waiting()

    def stats(self) -> PoolStats:
        """Return counts of jobs, crashes and restarts, and how long jobs have waited and run."""
        return stats_of(self._core)

    def histograms(self) -> Histograms:
        """Return how long jobs have waited and run, in buckets, as for Prometheus.

        The first call begins to count, so that pools of which nobody asks this pay nothing.
        """
        return self._core.metrics.histograms()

    def dump(self) -> str:
        """Return what the pool is doing, as text for people, which may change.

        Every worker, which job it runs and for how long, its stack; the first queued jobs, and why
        each of them waits; timers. `oddjob.dump` writes that of all pools.
        """
        return text_of(self._core)

    def pause(self) -> None:
        """Let no jobs of the pool start, until `resume`; those that run go on.

        In a pool with a store this is for all processes that run its jobs, whether they run now or
        later; those jobs go on, too, that a process has claimed to run them next. (Jobs with
        ``persist=False`` are not affected.) In any other pool the worker threads end meanwhile, and
        jobs for which running ones of the pool wait are run inside these. Jobs may be submitted as
        ever, and fill the queue; to shut the pool down ends the pause.

        Raises:
            PoolClosed, PoolBroken: the pool runs no jobs anyway.
            StoreUnusable: the store cannot be used.
        """
        if self._core.store is None:
            self._core.workers.pause()
        else:
            self._operations().pause()

    def resume(self) -> None:
        """Let the pool's jobs be started again, after `pause`; otherwise do nothing."""
        if self._core.store is None:
            self._core.workers.resume()
        else:
            self._operations().resume()

    @hinted
    def resize(self, pool_size: int) -> None:
        """Change how many jobs may run at once, in this process.

        With a lower number, the jobs that run go on, and no other one starts before fewer than
        `pool_size` are left. (A worker that is just taking a job has it.)

        Args:
            pool_size: the new number, 1 or more.

        Raises:
            PoolClosed: the pool has been shut down.
            TypeError: it is not a whole number.
            ValueError: it is less than 1; see `pause`.
        """
        self._core.workers.set_pool_size(as_size("pool_size", pool_size))

    def timers(self) -> list[Timer]:
        """Return the timers of the pool that are to fire, or are paused, the next one first.

        In a pool with a store, that includes those of its recurring entries, whichever process has
        declared them. Jobs that wait there for their time are in ``records(state="scheduled")``.
        """
        return timers_of(self._core)

    def restart(self) -> None:
        """Replace all workers, each after its current job, and revive a broken pool; do not wait.

        Raises:
            PoolClosed: the pool has been shut down.
        """
        self._core.ending.restart()

    @hinted
    def drain(self, timeout: Seconds | None = None) -> DrainReport:
        """Accept no more jobs, run the queued ones until the time is up, and cancel the rest.

        The name is free at once.

        Args:
            timeout: how long to go on, in seconds, 0 or more; None or ``math.inf``: until the last
                job has ended. Then jobs that have not started are cancelled, and running ones
                abandoned: not even the end of the process waits for them.

        Returns:
            What became of the queued and running jobs, and which timers were cancelled.

        Raises:
            RuntimeError: a job of the pool called this; it cannot wait for its own end.
            ValueError: `timeout` is negative.
        """
        seconds = as_patience("timeout", timeout)
        self._registry.remove(self.name, self)
        return self._core.ending.drain(seconds)

    async def adrain(
        self,
        timeout: Seconds | None = None,  # noqa: ASYNC109  (then it goes on, in another way)
    ) -> DrainReport:
        """Drain the pool as `drain` does, without blocking the event loop. Raises like `drain`.

        If the task that waits is cancelled, the time is up.
        """
        import asyncio

        from oddjob.runtime.event_loops import call_in_thread

        if self._core.ending.is_own_thread():
            return self.drain(timeout)  # it refuses
        name = f"{self._core.label}-drain"
        try:
            return await call_in_thread(partial(self.drain, timeout), name)
        except asyncio.CancelledError:
            run_in_thread(partial(self.drain, 0), name)
            raise

    @override
    @hinted
    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, timeout: Seconds | None = None
    ) -> None:
        """Accept no more jobs, finish the queued ones, and end the worker threads.

        The name is free at once. In a job of the pool itself this never waits.

        Args:
            wait: return when the last job and all threads have ended. Jobs that have timed out
                are not waited for.
            cancel_futures: cancel the queued jobs. With ``wait=False``, not even the end of the
                process waits for the running ones.
            timeout: how long to wait, in seconds, 0 or more; None or ``math.inf``: no limit. What
                is not done then goes on as with ``wait=False``; see `join`, and `drain`, which ends
                it.
        """
        seconds = as_patience("timeout", timeout)
        self._registry.remove(self.name, self)
        self._core.ending.shut_down(cancel_queued=cancel_futures, will_wait=wait)
        if wait:
            self._core.ending.join(seconds)

    def join(self, timeout: Seconds | None = None) -> bool:
        """Wait until all threads of a pool that was shut down have ended; return whether they have.

        In a job of the pool itself that is False at once.

        Args:
            timeout: the longest wait, in seconds, 0 or more; None or ``math.inf``: no limit.

        Raises:
            RuntimeError: the pool has not been shut down, so its threads would not end.
        """
        if self._core.state.closed_because is None:
            raise RuntimeError(f"join() needs shutdown() or drain() first: {self!r} is open")
        return self._core.ending.join(as_patience("timeout", timeout))

    if not TYPE_CHECKING:
        # Private attributes of ThreadPoolExecutor that existing code is known to use.
        _max_workers = property(lambda self: self.pool_size, lambda self, size: self.resize(size))
        _threads = property(lambda self: {each.thread for each in self._core.workers.all()})
        _shutdown = property(lambda self: self._core.state.closed_because is not None)
        _broken = property(lambda self: self._core.state.broken_by is not None)

        @property
        def _work_queue(self) -> Any:
            queue = self._core.dispatcher
            return SimpleNamespace(qsize=queue.__len__, empty=lambda: not len(queue))


for _base in Pool.__mro__[1:]:
    if _base.__module__.startswith("oddjob."):
        for _each in vars(_base).values():  # Python begins errors about arguments with these names
            if isinstance(_each, FunctionType):
                getattr(_each, "__wrapped__", _each).__qualname__ = f"Pool.{_each.__name__}"
