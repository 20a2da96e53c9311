"""Scheduler: one thread that sleeps until the next alarm is due, and rings it.

There is one for the whole process, and its thread lives only while an alarm is set. It rings what
is due in the order of the times for which it was set. What an alarm does takes no time, and
whatever it raises is logged: a bad one cannot stop the others.

What is set by monotonic time needs no look at the clock before it is due. A wall clock can be set,
and tells nobody; so, while an alarm is set by wall time, the thread looks at it every second (and
much more often where a test has put another clock in the place of the standard library's).
"""

import logging
import threading
from collections.abc import Callable
from functools import partial
from heapq import heapify, heappop, heappush
from math import inf
from typing import Final

from oddjob.aside import in_a_thread_of_its_own
from oddjob.bell import Bell
from oddjob.fork import ProcessLock, in_child
from oddjob.log import say_whatever_comes
from oddjob.schedule.clock import clock

__all__ = ["Alarm", "Scheduler", "scheduler"]

_LOOK: Final = 1.0  # seconds between looks at a wall clock
_LOOK_AT_REPLACED: Final = 0.005  # seconds between looks at one that is a test's
_FEW: Final = 64  # alarms that are off and need not be cleared away


class Alarm:
    """Something to be done at a time.

    Locking: the scheduler's lock.
    """

    __slots__ = ("act", "at", "is_wall", "keeps_process", "number")

    def __init__(
        self,
        act: Callable[[], object],
        at: float,
        *,
        is_wall: bool = False,
        keeps_process: bool = False,
    ) -> None:
        self.act: Callable[[], object] | None = act  # None: it has rung, or is off
        self.at: Final = at  # seconds, of monotonic or of wall time
        self.is_wall: Final = is_wall
        self.keeps_process: Final = keeps_process
        self.number = 0  # in the order in which alarms were set

    def rank(self) -> tuple[float, int]:
        """What tells which of two is first."""
        return self.remaining(), self.number

    def remaining(self) -> float:
        """In how many seconds it is due; negative if it is late."""
        return self.at - (clock.wall() if self.is_wall else clock.monotonic())


class _Row:
    """Alarms in the order in which they are due.

    Locking: the scheduler's lock. Where its own thread is interrupted, by a signal handler or a
    destructor that comes to the same row, nothing is lost: what was looked at is changed with no
    call in between, and so no interruption.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Alarm]] = []
        self._number = 0  # of the latest
        self._off = 0  # how many of them are off

    def add(self, alarm: Alarm) -> None:
        """Put in an alarm."""
        self._number += 1
        entry = (alarm.at, self._number, alarm)
        heappush(self._entries, entry)

    def first(self) -> Alarm | None:
        """The first that is not off."""
        while True:  # an interruption comes before a test and its consequence, not in between
            if not self._entries:
                return None
            if self._entries[0][2].act is not None:
                return self._entries[0][2]
            heappop(self._entries)
            self._off -= 1

    def take(self, alarm: Alarm) -> Callable[[], object] | None:
        """Take out the first, if it is that one, and return what it does."""
        if not self._entries or self._entries[0][2] is not alarm:
            return None
        heappop(self._entries)
        act, alarm.act = alarm.act, None
        return act

    def switch_off(self, alarm: Alarm) -> None:
        """Forget one; the room it takes is given back in time."""
        alarm.act = None
        self._off += 1
        while self._off > _FEW and self._off * 2 > len(self._entries):
            number = self._number
            left = [entry for entry in self._entries if entry[2].act is not None]
            heapify(left)
            if number == self._number:
                self._entries = left
                self._off = 0


class Scheduler(ProcessLock):
    """The alarms of this process.

    Locking: ``lock`` guards the fields. It is reentrant: a signal handler or a destructor may set
    an alarm, or switch one off, wherever it strikes. Nothing is called while it is held.
    ``ringing`` is held by whoever rings what is due, one after the other, so that this happens in
    order; it is no guard of anything.
    """

    def __init__(self) -> None:
        super().__init__()
        self._begin()
        in_child(self._begin)

    def _begin(self) -> None:
        self.ringing = threading.RLock()
        self._monotonic = _Row()
        self._wall = _Row()
        self._keepers: set[Alarm] = set()
        self._unkept: list[Bell] = []  # of those who wait until nothing keeps the process
        self._thread: threading.Thread | None = None
        self._wakes_at = -inf  # steady seconds; minus infinity while it is awake
        self._sets = 0  # how often an alarm was set
        self._bell = Bell()

    def set(self, alarm: Alarm) -> None:
        """Have an alarm ring at its time.

        Raises:
            Exception: no thread could be started for it; it is not set.
        """
        with self.lock:
            self._sets += 1
            alarm.number = self._sets
            self._row_of(alarm).add(alarm)
            if alarm.keeps_process:
                self._keepers.add(alarm)
            if self._thread is None:
                try:
                    self._start()
                except BaseException:
                    self._switch_off(alarm)
                    raise
            due_in = alarm.remaining()
            due_in = min(due_in, _LOOK) if alarm.is_wall else due_in
            is_news = self._wakes_at > clock.steady() + due_in
        if is_news or (alarm.is_wall and clock.is_replaced):
            self._bell.ring()

    def switch_off(self, alarm: Alarm) -> float | None:
        """Have an alarm not ring; returns the seconds that were left, None if it has rung."""
        with self.lock:
            if alarm.act is None:
                return None
            self._switch_off(alarm)
            is_last = not (self._monotonic.first() or self._wall.first())
        if is_last:
            self._bell.ring()  # the thread can go
        return max(0.0, alarm.remaining())

    def _switch_off(self, alarm: Alarm) -> None:
        self._row_of(alarm).switch_off(alarm)
        self._release(alarm)

    def _row_of(self, alarm: Alarm) -> _Row:
        return self._wall if alarm.is_wall else self._monotonic

    def next_in(self) -> float:
        """In how many seconds the next alarm is due, 0 or less if one is; infinite if none is."""
        with self.lock:
            firsts = [self._monotonic.first(), self._wall.first()]
        return min((alarm.remaining() for alarm in firsts if alarm is not None), default=inf)

    def ring_due(self) -> None:
        """Ring all that is due now, in order."""
        while self.ring_one():
            pass

    def ring_one(self) -> bool:
        """Ring the first that is due now; false if none is."""
        with self.ringing:
            due = self._take_due()
            if due is not None:
                alarm, act = due
                try:
                    act()
                except BaseException as error:
                    tell = partial(say_whatever_comes, logging.ERROR, "a timer failed", error=error)
                    in_a_thread_of_its_own(tell, "oddjob-error")  # log handlers may take any time
                    del error, tell
                finally:
                    with self.lock:
                        self._release(alarm)
            return due is not None

    def is_here(self) -> bool:
        """Whether the calling thread is the scheduler's."""
        return self._thread is threading.current_thread()

    def look_again(self) -> None:
        """Be told that the clock has been replaced, or set."""
        self._bell.ring()

    def wait_for_keepers(self) -> None:
        """Return when no alarm is set any more that keeps the process alive."""
        bell = Bell()
        with self.lock:
            if not self._keepers:
                return
            self._unkept.append(bell)
        bell.wait(inf)

    # Inside.

    def _release(self, alarm: Alarm) -> None:
        self._keepers.discard(alarm)
        while self._unkept and not self._keepers:
            self._unkept.pop().ring()

    def _take_due(self) -> tuple[Alarm, Callable[[], object]] | None:
        with self.lock:
            while True:
                firsts = [each for each in (self._monotonic.first(), self._wall.first()) if each]
                alarm = min(firsts, key=Alarm.rank, default=None)
                if alarm is None or alarm.remaining() > 0:
                    return None
                act = self._row_of(alarm).take(alarm)
                if act is not None:
                    return alarm, act

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="oddjob-scheduler", daemon=True)
        self._wakes_at = -inf
        try:
            self._thread.start()
        except BaseException:
            self._thread = None
            raise

    def _run(self) -> None:
        """The thread's life. Nothing that is thrown at it may stop the alarms."""
        while True:
            try:
                if not self._serve():
                    return
            except BaseException as error:
                say_whatever_comes(logging.ERROR, "the scheduler was interrupted", error=error)

    def _serve(self) -> bool:
        """Ring what is due, then sleep; false if there is nothing to sleep for."""
        self.ring_due()
        with self.lock:
            if self._thread is not threading.current_thread():
                return False  # its start was interrupted
            # A destructor that sets an alarm meanwhile rings, or is seen by what it has counted.
            self._wakes_at = inf
            sets = self._sets
            is_over = not (self._monotonic.first() or self._wall.first())
            if is_over and sets == self._sets:
                self._thread = None
                return False
            until = self._wakes_at = clock.steady() + self._patience()
        self._bell.wait(until)
        self._wakes_at = -inf
        return True

    def _patience(self) -> float:
        """For how many seconds there is nothing to do."""
        patience = max(0.0, self.next_in())
        if self._wall.first() is not None:
            patience = min(patience, _LOOK_AT_REPLACED if clock.is_replaced else _LOOK)
        return patience


scheduler: Final = Scheduler()
