"""Job: one unit of work and its future in one object.

A `Job` is a ``concurrent.futures.Future`` that knows its callable. While nobody watches it, its
life is three plain writes by the worker that runs it; the first watcher installs a `Monitor`
under whose lock everything else happens. Three interleavings make the hand-over safe. In each,
either side writes one field of the job and then reads the other's, and the writes to one object
are ordered (by the interpreter's lock, or the object's own on free-threaded builds), so that at
least one side sees the other:

1. *Start against first watcher.* The worker writes ``_raw = RUNNING``, then reads ``_monitor``;
   the watcher writes ``_monitor`` (its lock held), then reads ``_raw``. If the worker finds no
   monitor, the watcher finds the job running and can neither cancel it nor take it. If it finds
   one, it claims the job under the monitor's lock, and whoever is second there gives way.
2. *End against first watcher.* The worker writes the outcome and ``_raw``, then reads
   ``_monitor``; the watcher as before. If the worker finds no monitor, the watcher finds the job
   ended and has nothing to wait for. If it finds one, it announces the end under the lock,
   which changes nothing for a watcher that had seen it already.
3. *Two ends* (cancel, late result, ``set_result``). All but the unwatched end take place under
   the monitor's lock; the first one counts.
"""

import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextvars import Context
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from oddjob.callables import describe, is_async
from oddjob.crew import Crew
from oddjob.errors import JobLost
from oddjob.fork import ProcessLock
from oddjob.monitor import Monitor
from oddjob.states import CANCELLED, ENDED, FAILED, PENDING, RUNNING, STANDARD, SUCCEEDED, State
from oddjob.traces import leave_out_outermost_frame

__all__ = ["OF_BATCH", "Job"]

T = TypeVar("T")

OF_BATCH: Final = object()
_every_job: Final = ProcessLock()  # held for a few instructions


class Job(Future[T]):
    """One call, on its way through a pool, and the future of its result.

    Thread safety: all methods may be called from any thread, and from signal handlers.
    """

    # A call is ``fn(*args)`` if kwargs is None, else ``fn(*args, **kwargs)``, in a context of its
    # own. If kwargs is OF_BATCH, args is the one argument itself, and the context is shared: it is
    # copied at the start. A batch so makes one object per job that the collector has to visit.

    __slots__ = ("_args", "_context", "_crew", "_fn", "_id", "_kwargs", "_monitor", "_name",
                 "_outcome", "_raw")  # fmt: skip

    _outcome: Any  # what was returned or raised; unset until the job has ended
    _id: str  # unset until asked for

    def __init__(
        self,
        fn: Callable[..., T],
        args: Any,
        kwargs: Any,
        context: Context,
        crew: Crew,
        name: str | None = None,
    ) -> None:
        # The base class is not initialised: its condition and lists are what a job does without.
        self._fn: Any = fn
        self._args: Any = args
        self._kwargs: Any = kwargs
        self._context: Any = context
        self._crew = crew
        self._name = name
        self._raw: State = PENDING
        self._monitor: Monitor | None = None

    # What a job says of itself.

    @property
    def id(self) -> str:
        """A name for this job alone: 32 hexadecimal digits, drawn when first asked for."""
        if not hasattr(self, "_id"):
            fresh = os.urandom(16).hex()
            with _every_job.lock:
                if not hasattr(self, "_id"):
                    self._id = fresh
        return self._id

    @property
    def name(self) -> str:
        """The name given with ``options(name=…)``, else the callable's qualified name."""
        return self._name or describe(self._fn)

    @property
    def pool(self) -> Any:
        """The pool it was submitted to; None once an anonymous pool has been collected."""
        return self._crew.pool

    @property
    def state(self) -> State:
        """One of ``queued``, ``running``, ``succeeded``, ``failed``, ``cancelled``."""
        raw = self._raw  # Read before the monitor: it tells the truth while there is none.
        monitor = self._monitor
        return raw if monitor is None or raw is SUCCEEDED or raw is FAILED else monitor.state

    def __repr__(self) -> str:
        state = self.state
        said = f"<Job {self.name} {state}"
        if state is SUCCEEDED:
            said += f", returned {type(self._outcome).__name__}"
        elif state is FAILED:
            said += f", raised {type(self._outcome).__name__}"
        where = f"pool {self._crew.name!r}" if self._crew.name else "an anonymous pool"
        return f"{said}, in {where}, id {self.id}>"

    # The future.

    def running(self) -> bool:
        """Whether a thread is running the call now."""
        return self.state is RUNNING

    def done(self) -> bool:
        """Whether the job has ended: succeeded, failed or cancelled."""
        return self.state in ENDED

    def cancelled(self) -> bool:
        """Whether the job was cancelled before it started."""
        return self.state is CANCELLED

    def cancel(self) -> bool:
        """Cancel the job if it has not started.

        Returns true if it is now (or was before) cancelled, false if it runs or has ended.
        Done-callbacks run in the calling thread.
        """
        monitor = self._watch()
        with monitor.lock:
            if monitor.state is not PENDING:
                return monitor.state is CANCELLED
            self._raw = CANCELLED
            monitor.announce(self, CANCELLED)
        self._release()
        monitor.call_back(self)
        return True

    def result(self, timeout: float | None = None) -> T:
        """Wait for the job to end and return what it returned.

        Called on a worker of the job's own pool while the job is still queued, this runs the job
        there and then, so that jobs which wait for their own pool cannot lock it up; the timeout
        does not interrupt such a run.

        Args:
            timeout: the longest wait, in seconds; None waits without limit.

        Raises:
            TimeoutError: the job had not ended after `timeout` seconds.
            CancelledError: the job was cancelled.
            JobLost: this process was forked while the job was pending.
            BaseException: whatever the job raised.
        """
        if self._raw is SUCCEEDED:
            return self._outcome  # type: ignore[no-any-return]  # one slot holds either end
        self._join(timeout)
        try:
            return self._read()
        finally:
            # An exception raised here holds this frame: without this they would hold each other.
            del self

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait and raise like `result`; return what the job raised, or None if it succeeded."""
        self._join(timeout)
        state = self.state
        if state is CANCELLED:
            raise CancelledError
        return self._outcome if state is FAILED else None

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Call ``fn(job)`` when the job has ended, at once if it has.

        Callbacks run in the order they were added, in the thread that ends the job. What they
        raise is logged; an exception that is no ``Exception`` also goes on, once all have run,
        to the thread that ran them (a worker is then replaced).
        """
        monitor = self._watch()
        if not monitor.add_callback(fn):
            monitor.call_back(self)

    def __await__(self) -> Generator[Any, None, T]:
        from oddjob.bridge import wait_in_loop  # asyncio is loaded only by those who use it

        yield from wait_in_loop(self)
        return self._read()

    # For executors: the pool's own workers, and the standard library's callers.

    def execute(self, *, claimed: bool = False) -> BaseException | None:
        """Run the call, unless it was cancelled or taken before, and settle.

        Returns what the call raised if the thread should end with it: it is no ``Exception``, or
        one that the pool takes for a crash.
        """
        self._raw = RUNNING
        monitor = self._monitor
        if monitor is not None and not claimed and not monitor.claim():
            self._raw = monitor.state
            monitor.tell_rest(self)
            return None
        fn = self._fn
        context = self._context
        kwargs = self._kwargs
        try:
            if kwargs is None:
                result = context.run(fn, *self._args)
            elif kwargs is OF_BATCH:
                context = context.copy()
                result = context.run(fn, self._args)
            else:
                result = context.run(fn, *self._args, **kwargs)
            if type(result) is CoroutineType and is_async(fn):
                result = self._crew.run_coroutine(result, context)
        except BaseException as error:
            try:
                leave_out_outermost_frame(error)
                self.fail(error)
                return error if self._crew.is_crash(error) else None
            finally:
                del self
        if self._name is None:
            self._name = describe(fn)
        self._fn = self._args = self._kwargs = self._context = None
        if self._monitor is None:
            self._outcome = result
            self._raw = SUCCEEDED
            if self._monitor is None:
                return None
        self._end(SUCCEEDED, result)
        return None

    def run_here(self) -> bool:
        """Run the job in the calling thread, if that is a worker of its pool and it is queued.

        Raises:
            JobLost: nobody will run it in this process.
        """
        if self._crew.has_lost(self):
            raise JobLost(f"pending when this process was forked, and its parent's: {self!r}")
        if self._crew.works_here() and self._watch().claim_queued():
            self._crew.run_in_place(self)
            return True
        return False

    def fail(self, error: BaseException) -> bool:
        """Settle as failed, by the thread that has the job; false if it had ended before."""
        self._release()
        if self._monitor is None:
            self._outcome = error
            self._raw = FAILED
            if self._monitor is None:
                return True
            self._end(FAILED, error)
            return True
        return self._end(FAILED, error)

    def refuse(self, error: BaseException) -> None:
        """Settle as failed without running: for a job just taken out of the queue."""
        self._raw = RUNNING
        monitor = self._monitor
        if monitor is not None and not monitor.claim():
            self._raw = monitor.state
        else:
            self.fail(error)

    def rescue(self, crash: BaseException, worker: int) -> None:
        """Bring to its end what `execute` left undone in the thread of that identifier."""
        monitor = self._monitor
        if monitor is not None and monitor.is_foreign(worker):
            return
        if self._raw in ENDED:
            self._end(self._raw, self._outcome)
        else:
            self.fail(crash)
        monitor = self._watch()
        monitor.tell_rest(self)
        monitor.call_back(self)

    def set_running_or_notify_cancel(self) -> bool:
        """Take the job for running elsewhere; false if it was cancelled."""
        monitor = self._watch()
        with monitor.lock:
            if monitor.claim_queued():
                self._raw = RUNNING
                return True
            if monitor.state is CANCELLED:
                return False
        raise RuntimeError(f"job in unexpected state: {self!r}")

    def set_result(self, result: T) -> None:
        """Settle with a result; an ``InvalidStateError`` if it had ended."""
        if not self._end(SUCCEEDED, result):
            raise InvalidStateError(f"{self.state}: {self!r}")

    def set_exception(self, exception: BaseException | None) -> None:
        """Settle with an exception; an ``InvalidStateError`` if the job had ended."""
        state: State = SUCCEEDED if exception is None else FAILED
        if not self._end(state, exception):
            raise InvalidStateError(f"{self.state}: {self!r}")

    # What the standard library's wait(), as_completed() and asyncio look at; type checkers are
    # shown the base class's plain attributes, which as_completed() asks for.

    if not TYPE_CHECKING:

        @property
        def _state(self) -> str:
            return STANDARD[self.state]

        @property
        def _condition(self) -> threading.Condition:
            monitor = self._watch()
            with monitor.lock:
                if monitor.condition is None:
                    monitor.condition = threading.Condition(monitor.lock)
                return monitor.condition

        @property
        def _waiters(self) -> list[Any]:
            monitor = self._watch()
            with monitor.lock:
                if monitor.waiters is None:
                    monitor.waiters = []
                return monitor.waiters

    def _get_snapshot(self) -> tuple[bool, bool, Any, BaseException | None]:
        state = self.state
        result = self._outcome if state is SUCCEEDED else None
        error = self._outcome if state is FAILED else None
        return state in ENDED, state is CANCELLED, result, error

    # Inside.

    def _watch(self) -> Monitor:
        """The job's monitor; the first call installs it (interleavings 1 and 2)."""
        monitor = self._monitor
        if monitor is None:
            monitor = Monitor()
            with monitor.lock:
                with _every_job.lock:
                    # No call stands between test and write: a signal handler cannot slip in.
                    if self._monitor is None:
                        self._monitor = monitor
                if self._monitor is monitor:
                    monitor.state = self._raw
            monitor = self._monitor
        return monitor

    def _join(self, timeout: float | None) -> None:
        if self.done():
            return
        patient = timeout is None or timeout > 0
        if not (patient and self.run_here()) and not self._watch().wait(timeout):
            raise TimeoutError

    def _read(self) -> T:
        state = self.state
        if state is CANCELLED:
            raise CancelledError
        if state is FAILED:
            try:
                raise self._outcome
            finally:
                del self
        return self._outcome  # type: ignore[no-any-return]  # one slot holds either end

    def _end(self, state: State, outcome: Any) -> bool:
        """Settle under the monitor's lock (interleaving 3); false if the job had ended."""
        monitor = self._watch()
        with monitor.lock:
            if monitor.state in ENDED:
                return False
            self._outcome = outcome
            self._raw = state
            monitor.announce(self, state)
        self._release()
        monitor.call_back(self)
        return True

    def _release(self) -> None:
        """Let go of the call: what it was given must not live as long as its future."""
        fn = self._fn
        if fn is not None:
            if self._name is None:
                self._name = describe(fn)
            self._fn = self._args = self._kwargs = self._context = None
