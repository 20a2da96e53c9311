"""Work: the half of a job that its workers see, from the queue to the end.

While nobody watches it, the life of a job is three plain writes by the worker that runs it; the
first watcher installs a `Monitor` under whose lock everything else happens. Three interleavings
make the hand-over safe. In each, either side writes one field of the job and then reads the
other's, and the writes to one object are ordered (by the interpreter's lock, or the object's own
on free-threaded builds), so that at least one side sees the other:

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

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context
from math import inf
from types import CoroutineType, FunctionType
from typing import Any, Final, Literal, TypeVar

from oddjob.callables import describe, is_async
from oddjob.crew import Crew
from oddjob.fork import ProcessLock
from oddjob.keys import Key
from oddjob.limits import ANY_TIME, Line
from oddjob.marks import Mark
from oddjob.monitor import Monitor
from oddjob.states import ENDED, FAILED, PENDING, RUNNING, SCHEDULED, SUCCEEDED, State
from oddjob.traces import leave_out_outermost_frame

__all__ = ["OF_BATCH", "Work"]

T = TypeVar("T")

OF_BATCH: Final = object()
_every_job: Final = ProcessLock()  # held for a few instructions


class Work(Future[T]):
    """A call, and what becomes of it.

    Locking: none while nobody watches, then the monitor's; see the module's text.
    """

    # A call is ``fn(*args)`` if kwargs is None, else ``fn(*args, **kwargs)``, in a context of its
    # own. If kwargs is OF_BATCH, args is the one argument itself, and the context is shared: it is
    # copied at the start. A batch so makes one object per job that the collector has to visit.

    __slots__ = ("_args", "_context", "_crew", "_fn", "_id", "_kwargs", "_monitor", "_name",
                 "_outcome", "_raw", "queued_at")  # fmt: skip

    key: Key | None = None
    can_claim = False  # whether it may have its key for itself: see `oddjob.workforce.field`
    line: Line = ANY_TIME  # its priority, and the limits it has to pass
    _outcome: Any  # what was returned or raised; unset until the job has ended
    _id: str  # unset until asked for

    def __init__(
        self,
        fn: Callable[..., T],
        args: Any,
        kwargs: Any,
        context: Context,
        crew: Crew,
        name: str | None,
        queued_at: float,
    ) -> None:
        # The base class is not initialised: its condition and lists are what a job does without.
        self._fn: Any = fn
        self._args: Any = args
        self._kwargs: Any = kwargs
        self._context: Any = context
        self._crew = crew
        self._name = name
        # Monotonic seconds; for a retry, when that was queued; infinity before its time has come.
        self.queued_at = queued_at
        self._raw: State = PENDING
        self._monitor: Monitor | None = None

    @property
    def state(self) -> State:
        """``scheduled``, ``queued``, ``running``, ``succeeded``, ``failed`` or ``cancelled``."""
        state = self._raw  # Read before the monitor: it tells the truth while there is none.
        monitor = self._monitor
        if monitor is not None and state is not SUCCEEDED and state is not FAILED:
            state = monitor.state
        return SCHEDULED if state is PENDING and self.queued_at == inf else state

    @property
    def verdict(self) -> str:
        """What statistics count it as: its state, or ``timed_out``."""
        return self.state

    def is_run_elsewhere(self, thread: Mark) -> bool:
        """Whether another thread than that has taken it."""
        monitor = self._monitor
        return monitor is not None and monitor.is_foreign(thread)

    def is_run_by(self, thread: Mark) -> bool:
        """Whether that thread has taken it."""
        monitor = self._monitor
        return monitor is not None and monitor.owner is thread

    def claim_queued(self) -> bool:
        """Take it for the calling thread, if no worker can be about to run it."""
        return self._watch().claim_queued()

    def execute(self, *, claimed: bool = False) -> BaseException | bool | None:
        """Run the call, unless it was cancelled or taken before, and settle.

        Returns true if it succeeded, false if it was not run here; what the call raised, if the
        thread should end with it (it is no ``Exception``, or one that the pool takes for a crash);
        None otherwise.
        """
        self._raw = RUNNING
        monitor = self._monitor
        if monitor is not None and not claimed and not monitor.claim():
            return self._give_way(monitor)
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
                result = self._crew.run_coroutine(self, result, context)
        except BaseException as error:
            try:
                leave_out_outermost_frame(error)
                if self.fail(error):
                    self._crew.note_failure(self, error)
                return error if self._crew.is_crash(error) else None
            finally:
                del self
        if self._name is None:
            self._name = fn.__qualname__ if type(fn) is FunctionType else describe(fn)
        self._fn = self._args = self._kwargs = self._context = None
        if self._monitor is None:
            self._outcome = result
            self._raw = SUCCEEDED
            if self._monitor is None:
                return True
        return self._end(SUCCEEDED, result) or None

    def _give_way(self, monitor: Monitor) -> Literal[False]:
        """Leave it to whoever has taken, or cancelled, it."""
        self._raw = monitor.state
        monitor.tell_rest(self)
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

    def refuse(self, error: BaseException, what: str = "refused") -> None:
        """Settle as failed without running: for a job of the queue; twice does no harm.

        `what` is what statistics count it as.
        """
        if self._raw in ENDED:
            return
        self._raw = RUNNING
        monitor = self._monitor
        if monitor is not None and not monitor.claim():
            self._raw = monitor.state
        else:
            self._crew.count(what)
            self.fail(error)
            if self.key is not None:  # it may have kept its turn
                self._crew.release(self)

    def rescue(self, crash: BaseException, worker: Mark) -> None:
        """Bring to its end what `execute` left undone in that thread."""
        if self.is_run_elsewhere(worker):
            return
        if self._raw in ENDED:
            self._end(self._raw, self._outcome)
        elif self.fail(crash):
            self._crew.note_failure(self, crash)
        monitor = self._watch()
        monitor.tell_rest(self)
        monitor.call_back(self)

    # What an agenda asks of a job: this is one that has no wishes.

    def let_go(self) -> None:
        """Count no longer against limits."""

    def give_back(self, claims: dict[Key, Any]) -> bool:  # noqa: ARG002  (as of any job)
        """Have its key claimed no more, where that needs no lock; false if it does."""
        return True  # it has none

    @property
    def key_limit(self) -> int:
        """How many jobs of its key may run at once."""
        return 1

    @property
    def is_serial(self) -> bool:
        """Whether it waits until the one before it of its key has succeeded."""
        return False

    @property
    def may_come_back(self) -> bool:
        """Whether it may be queued again after it was run."""
        return False

    def reopen(self) -> bool:
        """Be queued again after an attempt that failed; false if it is not to be."""
        return False

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

    def _settle(self, state: State, outcome: Any) -> bool:
        """Settle under the monitor's lock (interleaving 3); false if the job had ended."""
        monitor = self._watch()
        with monitor.lock:
            if monitor.state in ENDED:
                return False
            self._outcome = outcome
            self._raw = state
            monitor.announce(self, state)
        return True

    def _end(self, state: State, outcome: Any) -> bool:
        """Settle, let go of the call and run the callbacks; false if the job had ended."""
        if not self._settle(state, outcome):
            return False
        self._release()
        self._watch().call_back(self)
        return True

    def _release(self) -> None:
        """Let go of the call: what it was given must not live as long as its future."""
        fn = self._fn
        if fn is not None:
            if self._name is None:
                self._name = describe(fn)
            self._fn = self._args = self._kwargs = self._context = None
