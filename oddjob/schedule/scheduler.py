"""Scheduler: one thread that sleeps until the next alarm is due, and fires it.

Guarantees: there is one thread for the whole process, and only while an alarm is set. Alarms fire
in the order of their times, those of the same time in the order in which they were set. An alarm
fires or is cancelled, never both. An exception that it raises is logged and stops no other alarm.
Assumes: an alarm's action is quick; a slow one starts a thread for its work.

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

_WALL_CLOCK_INTERVAL: Final = 1.0  # seconds between looks at the wall clock
_REPLACED_CLOCK_INTERVAL: Final = 0.005  # seconds, while a test has replaced the wall clock
_DEAD_ALLOWANCE: Final = 64  # dead entries that are left in a heap of any size


class Alarm:
    """An action that is due at a certain time; a subclass defines it in `_fire`.

    Locking: the scheduler's lock guards the fields; `_fire` is called without it.
    """

    __slots__ = ("_at", "_number", "_queue")

    _at: float  # when it is, or was, due: seconds of the queue's clock
    _number: int  # in the order in which alarms were set
    _queue: "_AlarmQueue"

    def _fire(self) -> None:
        raise NotImplementedError

    def _remaining(self) -> float:
        """Return the seconds until the alarm is due; negative if it is late."""
        return self._at - self._queue.now()


class _AlarmQueue:
    """The alarms that are set by one clock, in the order of their times.

    An alarm is set as long as `alarms` contains it. The entry of a cancelled alarm is dead: it
    stays in the heap until it comes first, or until most entries are dead. (Entries are tuples of
    numbers, which the garbage collector need not visit.)

    Locking: the scheduler's lock. It is reentrant: a signal handler or a destructor may change the
    heap during any call. So each method acts on the result of a test before it calls anything else.
    """

    __slots__ = ("alarms", "entries", "now")

    def __init__(self, now: Callable[[], float]) -> None:
        self.now: Final = now
        self.alarms: Final[dict[int, Alarm]] = {}  # by number
        self.entries: list[tuple[float, int]] = []  # time and number

    def first(self) -> Alarm | None:
        """Return the alarm that is due first, after removing dead entries before it."""
        while self.entries:
            number = self.entries[0][1]
            if number in self.alarms:
                return self.alarms[number]
            heappop(self.entries)
        return None

    def remove(self, alarm: Alarm) -> bool:
        """Remove an alarm; return False if it was not set."""
        if self.alarms.pop(alarm._number, None) is None:
            return False
        if len(self.entries) > 2 * len(self.alarms) + _DEAD_ALLOWANCE:
            entries, self.entries = self.entries, []  # alarms set meanwhile go into the new list
            alive = [entry for entry in entries if entry[1] in self.alarms]
            self.entries += alive
            heapify(self.entries)
        return True


class Scheduler:
    """The alarms of a process, and the thread that fires them.

    Locking: ``lock`` guards everything; a caller may hold it already, to change fields of its own
    in the same step. It is reentrant: signal handlers and destructors may set and cancel alarms,
    wherever they interrupt. No user code runs under it. ``firing`` is held while alarms are fired,
    so that the thread and a fake clock do not fire them at the same time.
    """

    def __init__(self) -> None:
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        self.lock: threading.RLock = threading.RLock()
        self.firing: threading.RLock = threading.RLock()
        self._monotonic = _AlarmQueue(lambda: clock.monotonic())  # noqa: PLW0108  (replaceable)
        self._wall = _AlarmQueue(clock.wall)
        self._numbers = count(1)
        self._keepers: set[Alarm] = set()  # the alarms that keep the process alive
        self._keepers_gone = Wakeup()
        self._thread: threading.Thread | None = None
        self._wakeup = Wakeup()

    def set_alarm(
        self, alarm: Alarm, at: float, is_wall: bool = False, keeps_process: bool = False
    ) -> None:
        """Set an alarm that is not set, or is firing; then call `ensure_thread`.

        Args:
            alarm: the alarm. One that is set again while it fires keeps the process as before.
            at: when it is due, in seconds of its clock.
            is_wall: whether its clock is the wall clock.
            keeps_process: whether the process must not end before it has fired or been cancelled.
        """
        with self.lock:
            alarm._at = at
            alarm._queue = queue = self._wall if is_wall else self._monotonic
            alarm._number = number = next(self._numbers)
            queue.alarms[number] = alarm
            heappush(queue.entries, (at, number))
            if keeps_process:
                self._keepers.add(alarm)
            if queue.entries[0][1] == number or (is_wall and clock.is_replaced):
                self._wakeup.set()

    def ensure_thread(self) -> None:
        """Start the thread, if there is none and an alarm is set.

        The caller holds no lock: a thread that is being started may have to run a destructor, which
        may set an alarm, or cancel a job.

        Raises:
            Exception: no thread could be started.
        """
        if self._thread is not None:
            return
        thread = ServiceThread(self._run, "oddjob-scheduler")
        with self.lock:
            is_needed = self._monotonic.alarms or self._wall.alarms
            if self._thread is not None or not is_needed:
                return
            self._thread = thread
        try:
            thread.start()
        except BaseException:
            self._thread = None
            raise

    def cancel(self, alarm: Alarm) -> float | None:
        """Cancel an alarm; return the seconds that were left, or None if it was not set."""
        with self.lock:
            if not alarm._queue.remove(alarm):
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
                if not alarm._queue.remove(alarm):
                    return True  # a signal handler or destructor has just cancelled it
            try:
                alarm._fire()
            except BaseException as error:
                log_in_thread(logging.ERROR, "a timer failed", error=error)
            finally:
                with self.lock:
                    if alarm._number not in alarm._queue.alarms:  # it was not set again
                        self._release(alarm)
            return True

    def is_current_thread(self) -> bool:
        """Return whether the calling thread is the scheduler's."""
        return self._thread is threading.current_thread()

    def clock_changed(self) -> None:
        """Make the thread look at the clocks again, after one was replaced or set."""
        self._wakeup.set()

    def wait_for_keepers(self) -> None:
        """Wait until no alarm keeps the process alive; only one thread may do so."""
        while self._keepers:
            self._keepers_gone.wait()

    def _release(self, alarm: Alarm) -> None:
        """Note that an alarm no longer keeps the process alive."""
        if alarm in self._keepers:
            self._keepers.discard(alarm)
            self._keepers_gone.set()

    def _first(self) -> Alarm | None:
        """Return the alarm that is due next, whichever its clock."""
        alarm, other = self._monotonic.first(), self._wall.first()
        if alarm is None or other is None:
            return alarm or other
        return min(alarm, other, key=lambda each: (each._remaining(), each._number))

    def _run(self) -> None:
        # `_sleep_or_end`, or an interrupted start, clears `_thread`.
        while self._thread is threading.current_thread():
            try:
                while self.run_one():
                    pass
                self._sleep_or_end()
            except BaseException as error:  # an asynchronous one
                log(logging.ERROR, "the scheduler was interrupted", error=error)

    def _sleep_or_end(self) -> None:
        with self.lock:
            # Between this test and the assignment there is no call, hence no point at which a
            # destructor could set an alarm for which no thread would be left.
            if not (self._monotonic.alarms or self._wall.alarms):
                self._thread = None
                return
        seconds = self.next_in()
        if self._wall.alarms:
            interval = _REPLACED_CLOCK_INTERVAL if clock.is_replaced else _WALL_CLOCK_INTERVAL
            seconds = min(seconds, interval)
        self._wakeup.wait(clock.steady() + seconds)


def log_in_thread(
    level: int, message: str, *details: object, error: BaseException | None = None
) -> None:
    """Log a message of an alarm in another thread: a log handler may take any time."""
    run_in_thread(partial(log, level, message, *details, error=error), "oddjob-log")


scheduler: Final = Scheduler()
