"""SharedState: the half of a job that other threads may touch, made when the first one does.

Also here: `JobDetails`, the fields that few jobs need.

Most jobs end before anybody asks for them. So a job starts without lock, condition and lists; its
first waiter, callback or canceller, the *watcher*, installs a `SharedState`, under whose lock
everything happens from then on. Until then its life is three plain writes by the thread that runs
it.

Guarantees: a job ends once, and every waiter and callback hears of it.
Assumes: while a job is not watched, only the thread that took it from the queue writes to it.

Races. In each, one side writes one field and then reads the field that the other side writes, and
writes to one object are ordered (by the GIL, or by the object's own lock on free-threaded builds):

1. *Start against first watcher.* The worker writes ``_fast_state = RUNNING``, then reads
   ``_shared``. The watcher installs ``_shared`` (holding its lock), then reads
   ``_fast_state``. If the worker sees none, the watcher sees that the job runs, and can neither
   cancel nor claim it. If the worker sees it, it claims the job under its lock.
2. *End against first watcher.* The worker writes outcome and ``_fast_state``, then reads
   ``_shared``. If it sees none, the watcher sees that the job has ended and does not wait. If it
   sees one, it settles again under its lock, which changes nothing if that was done before.
3. *Two ends* (cancel, timeout, late result, ``set_result``) both happen under the lock of the
   shared state; the first one counts. (But the result of a plain job that is running in a pool may
   replace one that was set by hand.)
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


install_lock: Final = ProcessLock()  # held for a few instructions, to install a lazy part of a job


class QuickCallback:
    """A callback of our own, which the supervisor may run at once when a job has timed out.

    So a group cancels its other jobs before the worker that replaces the stuck one can start them.
    It returns those that it has cancelled: their callbacks are run by the thread that has called.
    """

    __slots__ = ("act",)

    def __init__(self, act: "Callable[[Any], list[Job[Any]]]") -> None:
        self.act: Final = act

    def __call__(self, job: Any) -> None:
        """Act as any callback."""
        for cancelled in self.act(job):
            cancelled._ensure_shared().run_callbacks(cancelled)


class SharedState:
    """The state of a job that is watched, and who wants to know of its end.

    Locking: ``lock`` guards every field. It is reentrant, since a signal handler may ask about the
    very job whose lock its thread holds. Only the standard library's own waiters are called under
    it; callbacks run when it has been released.
    """

    __slots__ = ("callbacks", "cancel_requested", "condition", "lock", "owner", "sleepers", "state",
                 "waiters")  # fmt: skip

    def __init__(self, state: JobState) -> None:
        self.lock: threading.RLock = RLock()
        self.state: JobState = state
        self.owner: object = None  # the slot of the thread that has claimed the job to run it
        self.cancel_requested: bool = False
        self.condition: threading.Condition | None = None
        # Made when needed: most stay empty.
        self.sleepers: list[Wakeup] | None = None
        self.waiters: list[Any] | None = None
        self.callbacks: list[tuple[Callable[[Any], object]]] | None = None

    def claim(self, owner: object) -> bool:
        """Claim the job for `owner` to run; again does no harm.

        False: it has ended, or another thread has claimed it.
        """
        with self.lock:
            if self.state in ENDED or not (self.owner is None or self.owner is owner):
                return False
            self.owner = owner
            self.state = RUNNING
            return True

    def claim_queued(self, owner: object) -> bool:
        """Claim the job if it is still queued; return whether this was so."""
        with self.lock:
            return self.state is QUEUED and self.claim(owner)

    def announce(self, job: "Job[Any]", *, again: bool = False) -> None:
        """Wake every waiter of a job that has ended; the caller holds the lock.

        It happens in the same critical section in which the end becomes visible, so
        ``as_completed`` hears of every cancelled job. If a thread was interrupted in here, it is
        done `again`, for those that have not heard of it.
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
        """Wake a thread when the job has ended; return False if it has."""
        with self.lock:
            if self.state in ENDED:
                return False
            if self.sleepers is None:
                self.sleepers = []
            self.sleepers.append(sleeper)
            return True

    def remove_sleeper(self, sleeper: Wakeup) -> None:
        """Forget a thread that has been woken by something else."""
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
        """Call a user's callback when the job has ended, or now."""
        with self.lock:
            if self.callbacks is None:
                self.callbacks = []
            self.callbacks.append((callback,))
            has_ended = self.state in ENDED
        if has_ended:
            self.run_callbacks(job)

    def run_quick_callbacks(self, job: "Job[Any]") -> "list[Job[Any]]":
        """Run our own callbacks, leaving the user's; return the jobs that these have cancelled."""
        cancelled: list[Job[Any]] = []
        callbacks = self.callbacks or []
        for each in [*callbacks]:
            if isinstance(each[0], QuickCallback):
                with suppress(ValueError):  # another thread has taken it to run it
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
            # Taken by a loop over a C iterator: an asynchronous exception cannot come between
            # taking a callback and calling it. (Each is wrapped, since `iter` compares.)
            for (callback,) in iter(partial(self.callbacks.pop, 0), None):
                try:
                    callback(job)
                except Exception as error:
                    log(logging.ERROR, "exception calling callback for %r", job, error=error)
                except BaseException as error:
                    crash = crash or error
        except IndexError:  # that was the last one
            if crash is not None:
                raise crash from None
        finally:
            del crash  # its traceback refers to this frame


class JobDetails:
    """The rarer fields of a job, made when needed: what it must know of its attempts.

    Whether the thread that makes an attempt says how it ends, or the watchdog because its time is
    up, is decided by `conclude`: the first one has it.

    Locking: that of the job's `SharedState`, for `conclude`; each other field is written by one
    thread at a time.
    """

    __slots__ = ("attempt", "carrier", "claim", "concluder", "deadline", "finished", "id",
                 "is_inline", "links", "progress", "started", "steps", "submitter",
                 "waits_for")  # fmt: skip

    def __init__(self) -> None:
        self.id: str | None = None
        self.attempt: int = 0  # the number of the latest one
        self.deadline: float | None = None  # of that attempt, in steady seconds
        self.concluder: object = None  # of that attempt
        self.started: float | None = None  # when that began, in monotonic seconds
        self.finished: float | None = None  # when the job ended
        self.submitter: str | None = None  # the name of the thread or task
        self.is_inline: bool = False
        self.progress: Progress | None = None
        self.carrier: dict[str, str] = {}  # of middleware
        self.waits_for: WaitsFor | None = None
        self.links: Links | None = None
        self.claim: Any = None  # of a job from a store: what entitles this process to run it
        self.steps: dict[str, Any] | None = None  # values by name; of a stored job, pickled

    def begin_attempt(self) -> int:
        """Begin the next attempt; return its number."""
        self.attempt += 1
        self.started = clock.monotonic()
        self.concluder = None  # after that: until then the watchdog cannot conclude it
        return self.attempt

    def conclude(self, shared: SharedState, number: int, concluder: object) -> bool:
        """Decide that `concluder` says how an attempt ends; return False if it is over.

        It may ask again.
        """
        with shared.lock:
            if shared.state is not RUNNING or self.attempt != number:
                return False
            if self.concluder is None:
                self.concluder = concluder
            return self.concluder is concluder
