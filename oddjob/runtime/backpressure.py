"""Backpressure: the way into a queue of at most ``max_queue`` jobs, and what to do when it is full.

Submitters that wait for room stand in line. When there is room (a worker has taken a job, one was
cancelled) it is the turn of the first in line: it is woken, and puts in as many of its jobs as fit.
While there is a line, or it is the turn of one, all others line up, so none is overtaken.

No wake-up is lost: a submitter enters the line and then looks for room; a thread that makes room
looks at the line after that; a turn ends with another look.

Jobs that a timer brings have no thread that could wait for room, or run them. One thread of the
pool does that for all of them, in turn.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, Final

from oddjob.errors import JobDropped, QueueFull
from oddjob.locks import Wakeup
from oddjob.log import run_in_thread
from oddjob.runtime.execution import refuse
from oddjob.runtime.inline import run_in_caller
from oddjob.runtime.job import Job
from oddjob.schedule.clock import clock

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore

Wake = Callable[[], object]
_Fired = tuple[Sequence[Job[Any]], Callable[[Exception], object]]


class Backpressure:
    """The bound of a pool's queue, and the policies for a full one; without a bound, no job waits.

    Locking: ``_lock`` guards the line, and is held while jobs go in. It is reentrant: a destructor
    may submit or cancel at any time. Only wake-ups, which are quick, are called under it.
    """

    def __init__(self, core: "PoolCore") -> None:
        options = core.options
        self._core: Final = core
        self._max_queue: Final = inf if options.max_queue is None else options.max_queue
        self._when_full: Final = options.when_full
        self._patience: Final = options.submit_timeout
        self._lock: Final = threading.RLock()
        self.line: Final[deque[Wake]] = deque()
        self._turn: Wake | None = None  # of the one that was woken, and has left the line
        # Jobs of timers that wait for room, and what to call if they are refused.
        self._fired: Final[deque[_Fired]] = deque()
        self._is_putting_fired = False  # a thread does that

    def try_put(self, job: Job[Any]) -> bool:
        """Put a job into the queue; return False if there is no room."""
        dispatcher = self._core.dispatcher
        with self._lock:
            queue = dispatcher.fifo
            size = len(queue) if dispatcher.limited is None else len(dispatcher.limited)
            if size >= self._max_queue or self.line or self._turn:
                return False
            queue.append(job)
            if queue is not dispatcher.fifo:  # it was replaced meanwhile
                dispatcher.reclaim(queue)
        if dispatcher.parked:
            dispatcher.wake()
        return True

    def put(self, jobs: Sequence[Job[Any]]) -> None:
        """Put jobs into the queue, as the policy says.

        Raises:
            QueueFull: they were not let in; the caller withdraws those that were.
            PoolClosed, PoolBroken: the pool takes no more jobs.
        """
        rest = deque(jobs)
        self._enter(rest)
        if rest and self._when_full == "raise":
            raise self._full(f"has no room for {len(rest)} more")
        if rest and self._when_full == "block":
            self._wait(rest)
        while rest:
            if self._when_full == "drop_oldest":
                self._drop_oldest()
            elif run_in_caller(self._core, rest[0]):
                rest.popleft()
            else:  # a limit stops it: it waits as any job
                self._wait(deque([rest.popleft()]))
            self._enter(rest)
        self._core.state.check_open()

    def chunk_size(self) -> int:
        """Return how many jobs of an iterator to make and put in together."""
        if self._when_full == "raise":  # all or none: more than that never fit
            return int(self._max_queue) + self._core.options.pool_size + 1
        return max(1, int(self._room()))

    async def put_in_loop(self, job: Job[Any]) -> None:
        """Put a job in; await room if the policy is to wait, or to have the caller run it."""
        import asyncio

        rest = deque([job])
        self._enter(rest)
        if rest and self._when_full in ("raise", "drop_oldest"):
            self.put(rest)
        elif rest:
            loop = asyncio.get_running_loop()
            event = asyncio.Event()

            def wake() -> None:
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(event.set)

            try:
                async with asyncio.timeout(self._patience):
                    self._line_up(wake)
                    while not self._use_turn(rest, wake):
                        await event.wait()
                        event.clear()
            except TimeoutError:
                raise self._full_for_long() from None
            finally:
                self._leave_line(wake)
        self._core.state.check_open()

    def put_fired(
        self, jobs: Sequence[Job[Any]], refuse_all: Callable[[Exception], object]
    ) -> None:
        """Put in the jobs of a timer: now if there is room, else from a thread that waits.

        If they are refused later, `refuse_all` is called with the error.

        Raises:
            QueueFull: the policy is to raise, and there is no room.
            PoolClosed, PoolBroken: the pool takes no more jobs.
        """
        if self._when_full == "raise":
            self.put(jobs)
            return
        rest = deque(jobs)
        if not self._fired:
            self._enter(rest)
        if rest:
            with self._lock:
                self._fired.append((rest, refuse_all))
                is_first, self._is_putting_fired = not self._is_putting_fired, True
            if is_first:
                run_in_thread(self._put_all_fired, f"{self._core.label}-timers")
        self._core.state.check_open()

    def _put_all_fired(self) -> None:
        while True:
            with self._lock:
                if not self._fired:
                    self._is_putting_fired = False
                    return
                jobs, refuse_all = self._fired[0]
            try:
                if self._when_full == "drop_oldest":
                    self.put(jobs)
                else:
                    self._wait(deque(jobs))
                    self._core.state.check_open()
            except Exception as error:
                refuse_all(error)
            self._fired.popleft()

    def admit(self) -> None:
        """Give the first in line its turn if there is room."""
        if self._turn is not None or not self.line:
            return
        with self._lock:
            if self.line and self._turn is None and self._room_beside_line() > 0:
                self._turn = self.line.popleft()
                self._turn()

    def turn_away(self) -> None:
        """Wake all who stand in line: the pool takes no more jobs."""
        for wake in (*self.line, self._turn):
            if wake is not None:
                wake()

    def _enter(self, rest: deque[Job[Any]]) -> None:
        """Move as many jobs into the queue as there is room for; with ``"raise"``, all or none.

        But for ``"block"``, workers that are idle, or not started yet, count as room.
        """
        with self._lock:
            room = self._room()
            if room < len(rest) and self._when_full != "block" and not (self.line or self._turn):
                room = self._room_with_idle()
            if room >= len(rest) or self._when_full != "raise":
                self._move(rest, room)

    def _move(self, rest: deque[Job[Any]], room: float) -> None:
        count = int(min(max(0, room), len(rest)))
        self._core.dispatcher.put([rest.popleft() for _ in range(count)])

    def _room(self) -> float:
        return 0 if self.line or self._turn else self._room_beside_line()

    def _room_beside_line(self) -> float:
        dispatcher = self._core.dispatcher
        if len(dispatcher) >= self._max_queue and dispatcher.limited is not None:
            dispatcher.limited.tidy()  # cancelled jobs may still be in there
        return self._max_queue - len(dispatcher)

    def _room_with_idle(self) -> float:
        workers, room = self._core.workers, self._room_beside_line()
        while True:
            free = workers.free()
            before, room = room, self._room_beside_line()
            if room == before:  # else a worker has taken a job while it was counted
                return room + free

    def _wait(self, rest: deque[Job[Any]]) -> None:
        """Stand in line until all jobs are in."""
        wakeup = Wakeup()
        wake = wakeup.set
        deadline = inf if self._patience is None else clock.steady() + self._patience
        try:
            self._line_up(wake)
            while not self._use_turn(rest, wake):
                if not wakeup.wait(deadline):
                    raise self._full_for_long()
        finally:
            self._leave_line(wake)

    def _line_up(self, wake: Wake) -> None:
        if self._core.ending.is_own_thread():
            raise self._full("is full, and a thread of the pool itself cannot wait for room")
        self.line.append(wake)
        self.admit()

    def _use_turn(self, rest: deque[Job[Any]], wake: Wake) -> bool:
        """Put in what there is room for, if it is the turn; return whether all jobs are in."""
        self._core.state.check_open()
        with self._lock:
            if self._turn is not wake:
                return False
            self._move(rest, self._room_beside_line())
            if rest:
                self.line.appendleft(wake)
            self._turn = None
        self.admit()
        return not rest

    def _leave_line(self, wake: Wake) -> None:
        with self._lock:
            if self._turn is wake:
                self._turn = None
            elif wake in self.line:
                self.line.remove(wake)
        self.admit()

    def _full_for_long(self) -> QueueFull:
        return self._full(f"was full for {self._patience:g} s")

    def _full(self, what: str) -> QueueFull:
        waiting = f"{len(self._core.dispatcher)} of at most {self._max_queue} jobs wait"
        return QueueFull(f"the queue of pool {self._core.label} {what}: {waiting}")

    def _drop_oldest(self) -> None:
        """Make room at the expense of the job that has waited longest, of the lowest priority."""
        core = self._core
        limited = core.dispatcher.limited
        with suppress(IndexError):  # a worker was quicker, and there is room
            oldest = core.dispatcher.fifo.popleft() if limited is None else limited.pop_oldest()
            if oldest is not None:
                text = f"job {oldest.name} made room for a newer one, in pool {core.label}"
                refuse(oldest, JobDropped(text), core, "dropped")
        core.state.check_open()
