"""Scheduler: one thread that sleeps until the next alarm is due, and fires it.

Guarantees: there is one thread for the whole process, and only while an alarm is set. Alarms fire
in the order of their times, those of the same time in the order in which they were set. An alarm
fires or is cancelled, never both. What it raises is logged, and stops no other.
Assumes: what an alarm does is quick; anything else runs in a thread of its own.

A wall clock may be set at any time, without notice; so while an alarm is set by wall time, the
thread looks at that clock every second (more often where a test has replaced ``time.time``).
"""

import logging
import threading
from collections.abc import Callable
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Final

from oddjob.locks import Wakeup, after_fork_in_child
from oddjob.log import log, run_in_thread
from oddjob.schedule.clock import clock
from oddjob.threads import ServiceThread

_LOOK: Final = 1.0  # seconds between looks at the wall clock
_LOOK_IF_REPLACED: Final = 0.005  # the same where a test has replaced it
_FEW: Final = 64  # dead entries that a heap of any size may have


class Alarm:
    """Something that happens at a time; a subclass says what, in `_fire`.

    Locking: the scheduler's lock guards the fields; `_fire` is called without it.
    """

    __slots__ = ("_at", "_heap", "_number")

    _at: float  # when it is due, or was, in seconds of the heap's clock
    _heap: "_Heap"
    _number: int  # in the order in which alarms were set

    def _fire(self) -> None:
        raise NotImplementedError

    def _remaining(self) -> float:
        """Return the seconds until the alarm is due; negative if it is late."""
        return self._at - self._heap.now()


class _Heap:
    """The alarms that are set by one clock, and their order.

    An alarm is set as long as `alarms` has it. When it is cancelled, its entry stays in the heap
    until it is the first one, or until most entries are dead. (Entries are tuples of numbers, which
    the garbage collector need not visit.)

    Locking: the scheduler's lock. It is reentrant: a signal handler or a destructor may change the
    heap whenever a call has returned, so what a test has found is acted on before the next call.
    """

    __slots__ = ("alarms", "entries", "now")

    def __init__(self, now: Callable[[], float]) -> None:
        self.now: Final = now
        self.alarms: Final[dict[int, Alarm]] = {}  # by number
        self.entries: list[tuple[float, int]] = []  # time and number

    def first(self) -> Alarm | None:
        while self.entries:
            number = self.entries[0][1]
            if number in self.alarms:
                return self.alarms[number]
            heappop(self.entries)
        return None

    def remove(self, alarm: Alarm) -> bool:
        """Take out an alarm; return False if it was not set."""
        if self.alarms.pop(alarm._number, None) is None:
            return False
        if len(self.entries) > 2 * len(self.alarms) + _FEW:
            entries, self.entries = self.entries, []  # alarms that are set meanwhile go in there
            alive = [entry for entry in entries if entry[1] in self.alarms]
            self.entries += alive
            heapify(self.entries)
        return True


class Scheduler:
    """The alarms of a process, and the thread that fires them.

    Locking: ``lock`` guards everything. It is reentrant: signal handlers and destructors may set
    and cancel alarms, wherever they interrupt. No code of a user runs under it. ``firing`` is held
    while alarms are fired, so that the thread and a fake clock do not do so at the same time.
    """

    def __init__(self) -> None:
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        self.lock: threading.RLock = threading.RLock()
        self.firing: threading.RLock = threading.RLock()
        self._monotonic = _Heap(lambda: clock.monotonic())  # noqa: PLW0108  (it may be replaced)
        self._wall = _Heap(clock.wall)
        self._numbers = count(1)
        self._keepers: set[Alarm] = set()  # the alarms that keep the process alive
        self._keepers_gone = Wakeup()
        self._thread: threading.Thread | None = None
        self._wakeup = Wakeup()

    def set_alarm(
        self, alarm: Alarm, at: float, is_wall: bool = False, keeps_process: bool = False
    ) -> None:
        """Set an alarm that is not set, or is firing; the caller holds the lock.

        An alarm that `keeps_process` has to fire, or be cancelled, before the process ends. One
        that is set again while it fires keeps the process as before. If no thread can be started,
        that is raised, and the alarm is not set.
        """
        alarm._at = at
        alarm._heap = heap = self._wall if is_wall else self._monotonic
        alarm._number = number = next(self._numbers)
        heap.alarms[number] = alarm
        heappush(heap.entries, (at, number))
        if keeps_process:
            self._keepers.add(alarm)
        if self._thread is None:
            self._start_thread(alarm)
        if heap.entries[0][1] == number or (is_wall and clock.is_replaced):
            self._wakeup.set()

    def cancel(self, alarm: Alarm) -> float | None:
        """Cancel an alarm; return the seconds that were left, or None if it has fired."""
        with self.lock:
            if not alarm._heap.remove(alarm):
                return None
            self._release(alarm)
            if not (self._monotonic.alarms or self._wall.alarms):
                self._wakeup.set()  # the thread can end
        return max(0.0, alarm._remaining())

    def next_in(self) -> float:
        """Return the seconds until the next alarm is due; 0 or less if one is, inf without any."""
        with self.lock:
            alarm = self._first()
            return inf if alarm is None else alarm._remaining()

    def run_one(self) -> bool:
        """Fire the first alarm that is due; return False if there is none."""
        with self.firing:
            with self.lock:
                alarm = self._first()
                if alarm is None or alarm._remaining() > 0:
                    return False
                if not alarm._heap.remove(alarm):
                    return True  # a signal handler or destructor has just cancelled it
            try:
                alarm._fire()
            except BaseException as error:
                log_in_thread(logging.ERROR, "a timer failed", error=error)
            finally:
                with self.lock:
                    if alarm._number not in alarm._heap.alarms:  # else it has been set again
                        self._release(alarm)
            return True

    def is_current_thread(self) -> bool:
        """Return whether the calling thread is the scheduler's."""
        return self._thread is threading.current_thread()

    def clock_changed(self) -> None:
        """Look at the clocks again, since they have been replaced or set."""
        self._wakeup.set()

    def wait_for_keepers(self) -> None:
        """Wait until no alarm keeps the process alive; only one thread may do so."""
        while self._keepers:
            self._keepers_gone.wait()

    def _release(self, alarm: Alarm) -> None:
        """Let an alarm keep the process alive no more."""
        if alarm in self._keepers:
            self._keepers.discard(alarm)
            self._keepers_gone.set()

    def _first(self) -> Alarm | None:
        """Return the alarm that is due next, by either clock."""
        alarm, other = self._monotonic.first(), self._wall.first()
        if alarm is None or other is None:
            return alarm or other
        return min(alarm, other, key=lambda each: (each._remaining(), each._number))

    def _start_thread(self, alarm: Alarm) -> None:
        thread = ServiceThread(self._run, "oddjob-scheduler")
        if self._thread is not None:  # a signal handler has set an alarm meanwhile
            return
        self._thread = thread
        try:
            thread.start()
        except BaseException:
            self._thread = None
            alarm._heap.remove(alarm)
            self._release(alarm)
            raise

    def _run(self) -> None:
        while self._thread is threading.current_thread():  # else its start was interrupted
            try:
                while self.run_one():
                    pass
                self._sleep_or_end()
            except BaseException as error:  # an asynchronous one
                log(logging.ERROR, "the scheduler was interrupted", error=error)

    def _sleep_or_end(self) -> None:
        with self.lock:
            # No call comes in between, so a destructor cannot set an alarm there.
            if not (self._monotonic.alarms or self._wall.alarms):
                self._thread = None
                return
        patience = self.next_in()
        if self._wall.alarms:
            patience = min(patience, _LOOK_IF_REPLACED if clock.is_replaced else _LOOK)
        self._wakeup.wait(clock.steady() + patience)


def log_in_thread(
    level: int, message: str, *details: object, error: BaseException | None = None
) -> None:
    """Log what an alarm has to say, without waiting: a log handler may take any time."""
    run_in_thread(partial(log, level, message, *details, error=error), "oddjob-log")


scheduler: Final = Scheduler()
