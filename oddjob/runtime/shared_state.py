"""SharedState: the part of a job that several threads change; JobDetails: fields few jobs need.

Most jobs end before another thread waits for them. So a job starts without a lock, condition and
lists; its first waiter, callback or canceller, the *watcher*, installs a `SharedState`, whose lock
is held for each change from then on. Until then, the thread that runs the job makes three plain
writes: ``_fast_state = RUNNING``, the ``_outcome``, and the state of its end in ``_fast_state``.

Guarantees: a job ends once; then every waiter is woken and every callback runs. One exception: the
result of a plain job that is running in a pool may replace one that was set by hand.
Assumes: before a `SharedState` is installed, only the thread that took the job from the queue
writes to it.

Races. In each, one side writes a field and then reads the field that the other side writes. Writes
to one object are ordered (by the GIL, or by the object's own lock on free-threaded builds):

1. *Start against first watcher.* The worker writes ``_fast_state = RUNNING``, then reads
   ``_shared``. The watcher installs ``_shared`` (holding its lock), then reads
   ``_fast_state``. If the worker finds no `SharedState`, the watcher sees that the job runs, and
   can neither cancel nor claim it. If the worker finds one, it claims the job under its lock.
2. *End against first watcher.* The worker writes outcome and ``_fast_state``, then reads
   ``_shared``. If it finds none, the watcher sees that the job has ended and does not wait. If it
   finds one, it settles the job again under the lock, which changes nothing if it was settled.
3. *Two ends* (cancellation, timeout, late result, ``set_result``) both happen under the lock; the
   first one counts.
"""

import logging
import threading
from _thread import RLock
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final

from oddjob.locks import ProcessLock, Wakeup
from oddjob.log import log
from oddjob.runtime.job_state import CANCELLED, ENDED, FAILED, QUEUED, RUNNING, JobState, Progress
from oddjob.runtime.links import Links, WaitsFor
from oddjob.schedule.clock import clock

if TYPE_CHECKING:
    from oddjob.runtime.job import Job


install_lock: Final = ProcessLock()  # held for a few instructions, to install a lazy part


class QuickCallback:
    """A callback that runs no user code, so the supervisor may run it when a job has timed out.

    A group uses it to cancel its other jobs before the worker that replaces the stuck one starts
    them. `act` returns the cancelled jobs; the caller runs their callbacks.
    """

    __slots__ = ("act",)

    def __init__(self, act: "Callable[[Any], list[Job[Any]]]") -> None:
        self.act: Final = act

    def __call__(self, job: Any) -> None:
        """Act like any callback."""
        for cancelled in self.act(job):
            cancelled._ensure_shared().run_callbacks(cancelled)


class SharedState:
    """The state of a watched job, and its waiters and callbacks.

    Locking: ``lock`` guards every field, except that callbacks are removed from ``callbacks``
    without it, one by one; each removal is atomic. It is reentrant, since a signal handler may call
    a method of the very job whose lock its thread holds. Only the waiters of the standard library
    are called under it; callbacks run after its release.
    """

    __slots__ = ("callbacks", "cancel_requested", "condition", "lock", "owner", "sleepers", "state",
                 "waiters")  # fmt: skip

    def __init__(self, state: JobState) -> None:
        self.lock: threading.RLock = RLock()
        self.state: JobState = state
        self.owner: object = None  # the slot of the thread that has claimed the job to run it
        self.cancel_requested: bool = False
        self.condition: threading.Condition | None = None
        # Lists that are made when needed.
        self.sleepers: list[Wakeup] | None = None
        self.waiters: list[Any] | None = None
        self.callbacks: list[tuple[Callable[[Any], object]]] | None = None

    def claim(self, owner: object) -> bool:
        """Claim the job for `owner` to run; return False if it has ended or has another owner.

        Idempotent.
        """
        with self.lock:
            if self.state in ENDED or not (self.owner is None or self.owner is owner):
                return False
            self.owner = owner
            self.state = RUNNING
            return True

    def claim_queued(self, owner: object) -> bool:
        """Claim the job if it is still queued; return False if it is not."""
        with self.lock:
            return self.state is QUEUED and self.claim(owner)

    def announce(self, job: "Job[Any]", *, again: bool = False) -> None:
        """Wake every waiter of a job that has ended; the caller holds the lock.

        The end becomes visible in the same critical section, so ``as_completed`` yields every
        cancelled job. If an interruption may have cut the call short, it is repeated with `again`:
        waiters that have received the job are then skipped.
        """
        for waiter in self.waiters or ():
            if again and job in getattr(waiter, "finished_futures", ()):
                continue
            if self.state is CANCELLED:
                waiter.add_cancelled(job)
            elif self.state is FAILED:
                waiter.add_exception(job)
            else:
                waiter.add_result(job)
        if self.condition is not None:
            self.condition.notify_all()
        for sleeper in self.sleepers or ():
            sleeper.set()

    def add_sleeper(self, sleeper: Wakeup) -> bool:
        """Wake a thread when the job ends; return False if it has ended."""
        with self.lock:
            if self.state in ENDED:
                return False
            if self.sleepers is None:
                self.sleepers = []
            self.sleepers.append(sleeper)
            return True

    def remove_sleeper(self, sleeper: Wakeup) -> None:
        """Remove a thread that has been woken for another reason."""
        with self.lock:
            if self.sleepers is not None and sleeper in self.sleepers:
                self.sleepers.remove(sleeper)

    def wait(self, deadline: float) -> bool:
        """Sleep until the job has ended; return False at `deadline`, in steady seconds."""
        wakeup = Wakeup()
        if not self.add_sleeper(wakeup):
            return True
        if deadline == inf:
            return wakeup.lock.acquire()
        woken = False
        try:
            woken = wakeup.wait(deadline)
        finally:
            if not woken:
                self.remove_sleeper(wakeup)
        return woken or self.state in ENDED

    def add_callback(self, job: "Job[Any]", callback: Callable[[Any], object]) -> None:
        """Call a callback when the job ends, or now if it has ended."""
        with self.lock:
            if self.callbacks is None:
                self.callbacks = []
            self.callbacks.append((callback,))
            has_ended = self.state in ENDED
        if has_ended:
            self.run_callbacks(job)

    def remove_callback(self, callback: Callable[[Any], object]) -> None:
        """Remove a callback that is not needed any more, unless the job has ended."""
        with self.lock:
            if self.state not in ENDED and self.callbacks is not None:
                self.callbacks = [each for each in self.callbacks if each[0] is not callback]

    def run_quick_callbacks(self, job: "Job[Any]") -> "list[Job[Any]]":
        """Run the callbacks of the library, not the user's; return the jobs that they cancel."""
        cancelled: list[Job[Any]] = []
        callbacks = self.callbacks or []
        for each in [*callbacks]:
            if isinstance(each[0], QuickCallback):
                with suppress(ValueError):  # another thread has removed it to run it
                    callbacks.remove(each)
                    cancelled += each[0].act(job)
        return cancelled

    def run_callbacks(self, job: "Job[Any]") -> None:
        """Run the callbacks that have not run yet, in the order in which they were added.

        An ``Exception`` is logged. Any other ``BaseException`` is raised once all have run.
        """
        if self.callbacks is None:
            return
        crash: BaseException | None = None
        try:
            # The loop over a C iterator removes each callback: no asynchronous exception can be
            # raised between the removal and the call. (Each callback is in a tuple, since `iter`
            # compares items with its sentinel.)
            for (callback,) in iter(partial(self.callbacks.pop, 0), None):
                try:
                    callback(job)
                except Exception as error:
                    log(logging.ERROR, "exception calling callback for %r", job, error=error)
                except BaseException as error:
                    crash = crash or error
        except IndexError:  # raised by `pop`: no callback is left
            if crash is not None:
                raise crash from None
        finally:
            del crash  # its traceback refers to this frame


class JobDetails:
    """The fields that only some jobs need, made on demand.

    An attempt is concluded by the thread that makes it, or by the watchdog if its time is up:
    `conclude` decides for the first one that calls it.

    Locking: the lock of the job's `SharedState` for ``concluder`` (but for `begin_attempt`) and
    ``finished``, ``install_lock`` for ``id``. Each other field has one writer at a time, named
    below; the *runner* is the thread that makes the attempt.
    """

    __slots__ = ("attempt", "carrier", "claim", "concluder", "deadline", "finished", "id",
                 "is_inline", "links", "progress", "started", "steps", "submitter",
                 "waits_for")  # fmt: skip

    def __init__(self) -> None:
        # Any thread:
        self.id: str | None = None
        self.concluder: object = None  # of the latest attempt
        self.finished: float | None = None  # when the job ended, in monotonic seconds
        # The submitter, before the job is queued:
        self.submitter: str | None = None  # the name of its thread or task
        self.carrier: dict[str, str] = {}  # filled by middleware
        self.links: Links | None = None  # cleared when the job ends
        self.waits_for: WaitsFor | None = None  # cleared when the job is queued, or ends unqueued
        # The runner (and, for a job from a store, the thread that receives it):
        self.claim: Any = None  # what entitles this process to run a job from a store
        self.attempt: int = 0  # the number of the latest attempt
        self.deadline: float | None = None  # of the latest attempt, in steady seconds
        self.started: float | None = None  # when that began, in monotonic seconds
        self.is_inline: bool = False
        self.progress: Progress | None = None
        self.steps: dict[str, Any] | None = None  # values by name; pickled if the job is stored

    def begin_attempt(self) -> int:
        """Begin the next attempt, in the runner; return its number."""
        self.attempt += 1
        self.started = clock.monotonic()
        self.concluder = None  # last: before that, the watchdog cannot conclude the attempt
        return self.attempt

    def conclude(self, shared: SharedState, number: int, concluder: object) -> bool:
        """Let `concluder` decide how an attempt ends; return False if it is over.

        Calling this again with the same concluder returns the same answer.
        """
        with shared.lock:
            if shared.state is not RUNNING or self.attempt != number:
                return False
            if self.concluder is None:
                self.concluder = concluder
            return self.concluder is concluder
