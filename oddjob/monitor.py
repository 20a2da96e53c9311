"""What a job grows when somebody watches it: the locked half of its state.

Most jobs end before anybody asks for them. A job therefore starts with no lock, no condition and
no lists, and gets a `Monitor` from its first watcher: a waiter, a callback, a canceller. From
then on the monitor's ``state`` is the truth about the job.
"""

import logging
import threading
from _thread import LockType, RLock, allocate_lock
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from oddjob.log import say
from oddjob.marks import Mark, mark_here
from oddjob.states import CANCELLED, ENDED, FAILED, PENDING, RUNNING, State

__all__ = ["Monitor", "Prompt"]


class Monitor:
    """The watched side of one job: its state, who sleeps on it and who wants to be called.

    Locking: ``lock`` guards every field. It is reentrant, because a signal handler may ask about
    the job whose lock its thread holds. Nothing but the standard library's own waiters is called
    while it is held; done-callbacks run after it is released. Each sleeper has a lock of its own,
    released once, when the job has ended.
    """

    __slots__ = (
        "callbacks",
        "cancel_requested",
        "condition",
        "lock",
        "owner",
        "progress",
        "sleepers",
        "state",
        "untold",
        "waiters",
    )

    def __init__(self) -> None:
        self.lock = RLock()
        self.state: State = PENDING
        self.owner: Mark | None = None
        self.cancel_requested = False
        self.progress: Any = None  # what the job has reported last
        self.condition: threading.Condition | None = None
        # Lists for those who come, made when the first one does: most stay empty.
        self.sleepers: list[LockType] | None = None
        self.waiters: list[Any] | None = None
        self.untold: list[Any] | None = None
        self.callbacks: list[tuple[Callable[[Any], object]]] | None = None

    def claim(self) -> bool:
        """Take the job for this thread to run; false if it was cancelled, or taken, before."""
        with self.lock:
            if self.owner is not None or self.state in ENDED:
                return False
            self.owner = mark_here()
            self.state = RUNNING
            return True

    def claim_queued(self) -> bool:
        """Take the job only if no worker can be about to run it."""
        with self.lock:
            return self.state is PENDING and self.claim()

    def is_foreign(self, thread: Mark) -> bool:
        """Whether another thread than this one has taken the job."""
        return self.owner is not None and self.owner is not thread

    def add_callback(self, callback: Callable[[Any], object]) -> bool:
        """Have something called when the job has ended; false if it has, and the call is due."""
        with self.lock:
            if self.callbacks is None:
                self.callbacks = []
            self.callbacks.append((callback,))
            return self.state not in ENDED

    def announce(self, job: Any, state: State) -> None:
        """Enter an end state and wake whoever waits; the caller holds the lock.

        The standard library's waiters hear of every end here, in the same step that makes it
        visible: no cancelled job can be one that ``as_completed`` never hears of.
        """
        self.untold = self.waiters and list(self.waiters)
        self.state = state
        self._tell(job)

    def tell_rest(self, job: Any) -> None:
        """Go on with an announcement that an exception thrown into its thread has cut short."""
        with self.lock:
            if self.state in ENDED:
                while self.untold and job in getattr(self.untold[-1], "finished_futures", ()):
                    self.untold.pop()
                self._tell(job)

    def _tell(self, job: Any) -> None:
        while self.untold:
            waiter = self.untold[-1]
            if self.state is CANCELLED:
                waiter.add_cancelled(job)
            elif self.state is FAILED:
                waiter.add_exception(job)
            else:
                waiter.add_result(job)
            self.untold.pop()
        if self.condition is not None:
            self.condition.notify_all()
        for sleeper in self.sleepers or ():
            # One that was released before and has been taken since is locked again: no matter.
            if sleeper.locked():
                sleeper.release()

    def call_prompt(self, job: Any) -> list[Any]:
        """Run those callbacks that are our own; returns the jobs that they have ended."""
        with self.lock:
            prompt = [each for each in self.callbacks or () if type(each[0]) is Prompt]
        ended: list[Any] = []
        for each in prompt:
            with suppress(ValueError):  # somebody else has called it
                self.callbacks.remove(each)  # type: ignore[union-attr]  # it is from there
                ended += each[0].at_once(job)  # type: ignore[attr-defined]  # a Prompt
        return ended

    def call_back(self, job: Any) -> None:
        """Run the done-callbacks that have not run yet, in the order they were added.

        An ``Exception`` is logged. Any other ``BaseException`` is raised, after the last
        callback has run. Calling this again goes on where an interrupted call stopped.
        """
        if self.callbacks is None:
            return
        crash: BaseException | None = None
        try:
            # Taken by a loop: nothing can interrupt between taking a callback and calling it.
            # (Each in a tuple of its own: what is taken is compared, and must not be asked.)
            for (callback,) in iter(partial(self.callbacks.pop, 0), None):
                try:
                    callback(job)
                except Exception as error:
                    say(logging.ERROR, "exception calling callback for %r", job, error=error)
                except BaseException as error:  # raised below, the others run first
                    crash = crash or error
        except IndexError:
            if crash is not None:
                raise crash from None
        finally:
            del crash  # what is raised holds this frame

    def wait(self, timeout: float | None) -> bool:
        """Sleep until the job has ended; false after `timeout` seconds."""
        sleeper = allocate_lock()
        sleeper.acquire()
        with self.lock:
            if self.state in ENDED:
                return True
            if self.sleepers is None:
                self.sleepers = []
            self.sleepers.append(sleeper)
        woken = False
        try:
            if timeout is None:
                woken = sleeper.acquire()
            else:
                woken = (
                    sleeper.acquire(timeout=timeout)
                    if timeout > 0
                    else sleeper.acquire(blocking=False)
                )
        finally:
            if not woken:
                with self.lock:
                    self.sleepers.remove(sleeper)
        return woken or self.state in ENDED


class Prompt:
    """A callback of our own: quick, and harmless in any thread, the supervisor's included.

    It may hand back jobs that it has ended; whoever calls it sees to their callbacks.
    """

    __slots__ = ("_act",)

    def __init__(self, act: Callable[[Any], Iterable[Any]]) -> None:
        self._act = act

    def at_once(self, job: Any) -> list[Any]:
        """Act; returns the jobs that are to be followed up."""
        return list(self._act(job))

    def __call__(self, job: Any) -> None:  # noqa: D102  (as a callback)
        for each in self.at_once(job):
            each.follow_up()
