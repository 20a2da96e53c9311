"""Backpressure: the way into a queue of at most ``max_queue`` jobs, and what to do when it is full.

Jobs that wait for room stand in a line. A thread that makes room (a worker that has taken a job, a
cancellation) moves as many of them into the queue as fit, and wakes each submitter whose last job
it has moved. While there is a line, all new jobs join its end, so none is overtaken.

No wake-up is lost: a submitter first enters the line, then looks for room; a thread first makes
room, then looks at the line.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Any, Final

from oddjob.callables import call_all
from oddjob.errors import JobDropped, QueueFull
from oddjob.locks import Wakeup, is_held_here
from oddjob.log import run_in_thread
from oddjob.runtime.caller_runs import run_in_caller
from oddjob.runtime.dispatcher import discard_from, snapshot
from oddjob.runtime.job import Job
from oddjob.runtime.settling import finish_failed, settle_refused
from oddjob.schedule.clock import clock

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


class _Waiter:
    """The jobs of one submitter that stand in line.

    Args:
        jobs: the jobs that are not in the queue yet.
        wake: called when all jobs are in the queue, or the pool takes no more jobs.
        refuse: for a timer's jobs, which no thread waits for: called with the error when they are
            refused.
        deadline: when `refuse` is to be called, in steady seconds.
    """

    __slots__ = ("deadline", "jobs", "refuse", "wake")

    def __init__(
        self,
        jobs: deque[Job[Any]],
        wake: Callable[[], object],
        refuse: Callable[[Exception], object] | None = None,
        deadline: float = inf,
    ) -> None:
        self.jobs: Final = jobs
        self.wake: Final = wake
        self.refuse: Final = refuse
        self.deadline: Final = deadline


class Backpressure:
    """The bound of a pool's queue, and the policies for a full queue.

    Locking: ``_lock`` is held while jobs enter the queue or leave the line; they enter the line
    without it. Under it, workers and submitters are woken, and the lock of the `LimitedQueue` may
    be acquired (never the other way round); no user code runs. It is reentrant: a signal handler or
    destructor may submit or cancel at any time. If it interrupts the holder, it does not wait for
    room, and its jobs exceed the bound.
    """

    def __init__(self, core: "PoolCore") -> None:
        options = core.options
        self._core: Final = core
        self._max_queue: Final = inf if options.max_queue is None else options.max_queue
        self._when_full: Final = options.when_full
        self._submit_timeout: Final = options.submit_timeout
        self._lock: Final = threading.RLock()
        self.line: Final[deque[_Waiter]] = deque()

    def try_put(self, job: Job[Any], queue: deque[Job[Any]]) -> bool:
        """Append a job to `queue`; return False if there is no room."""
        limited = self._core.dispatcher.limited
        with self._lock:
            size = len(queue) if limited is None else len(limited)
            if size >= self._max_queue or self.line:
                return False
            queue.append(job)
            return True

    def put(self, jobs: Sequence[Job[Any]]) -> None:
        """Put jobs into the queue, as ``when_full`` says.

        Raises:
            QueueFull: some jobs were refused; the caller withdraws the others.
            PoolClosed, PoolBroken: the pool takes no more jobs.
        """
        rest = deque(jobs)
        self._put_what_fits(rest)
        if rest and self._when_full == "block":
            self._wait_in_line(rest)
        elif rest and self._when_full == "drop_oldest":
            self._put_dropping(rest)
        elif rest:
            self._put_or_run(rest)

    async def put_in_loop(self, job: Job[Any]) -> None:
        """Put a job into the queue; with ``"block"`` or ``"caller_runs"``, await room for it."""
        import asyncio

        if self._when_full == "drop_oldest":
            self.put([job])
            return
        rest = deque([job])
        self._put_what_fits(rest)
        if not rest:
            return
        loop = asyncio.get_running_loop()
        event = asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(event.set)

        waiter = self._queue_up(rest, wake)
        try:
            async with asyncio.timeout(self._submit_timeout):
                while rest:
                    self._core.state.check_open()
                    await event.wait()
                    event.clear()
        except TimeoutError:
            pass
        finally:
            self._leave_line(waiter)
        if rest:
            raise self._timed_out()

    def put_fired(
        self, jobs: Sequence[Job[Any]], refuse_all: Callable[[Exception], object]
    ) -> None:
        """Put the jobs of a timer into the queue, without waiting for room or running any of them.

        If they have to wait for room, they stand in line without a thread, and the supervisor calls
        `refuse_all` when their time is up.

        Raises:
            QueueFull: there is no room, and ``when_full`` is ``"raise"``.
            PoolClosed, PoolBroken: the pool takes no more jobs.
        """
        core, rest = self._core, deque(jobs)
        self._put_what_fits(rest)
        dropped: list[Job[Any]] = []
        try:
            while rest and self._when_full == "drop_oldest":
                core.state.check_open()
                dropped += self._drop_oldest()
                self._put_what_fits(rest)
        finally:
            if dropped:  # callbacks may take any time
                finish = partial(call_all, [partial(finish_failed, each, core) for each in dropped])
                run_in_thread(finish, f"{core.label}-callbacks")
        if not rest:
            core.state.check_open()
            return
        wake = core.supervisor.notify
        self.line.append(_Waiter(rest, wake, refuse_all, self._deadline()))
        self.admit()
        self.refuse_overdue()  # the pool may have been closed, and its supervisor have ended
        wake()  # the supervisor takes note of the deadline

    def chunk_size(self) -> int:
        """Return how many jobs of an iterator to make and put into the queue together."""
        # One more than can ever fit, so that an iterator that is too long is refused as a whole.
        if self._when_full == "raise":
            return int(self._max_queue) + self._core.pool_size + 1
        return max(1, int(self._room()))

    def admit(self) -> None:
        """Move jobs from the line into the queue while there is room."""
        if not self.line:
            return
        with self._lock:
            while self.line and (room := self._room()) > 0:
                first = self.line[0]
                self._move_into_queue(first.jobs, room)
                if first.jobs:
                    return
                first.wake()
                self._leave_line(first)

    def turn_away(self) -> None:
        """Wake all submitters that stand in line, because the pool takes no more jobs."""
        for waiter in snapshot(self.line):
            waiter.wake()

    def refuse_overdue(self) -> float:
        """Refuse jobs of timers that have waited too long, or all if the pool takes no more jobs.

        Returns:
            When the supervisor is to call this again, in steady seconds.
        """
        if not self.line:
            return inf
        refusal, now = self._core.state.refusal(), clock.steady()
        with self._lock:
            fired = [each for each in snapshot(self.line) if each.refuse is not None]
            overdue = [each for each in fired if refusal is not None or each.deadline <= now]
            for waiter in overdue:
                discard_from(self.line, waiter)
        if overdue:
            error = refusal or self._timed_out()
            call_all(partial(each.refuse, error) for each in overdue if each.refuse is not None)
        return min((each.deadline for each in fired if each not in overdue), default=inf)

    def _room(self) -> float:
        dispatcher = self._core.dispatcher
        if len(dispatcher) >= self._max_queue and dispatcher.limited is not None:
            dispatcher.limited.tidy()  # it may contain cancelled jobs
        return self._max_queue - len(dispatcher)

    def _room_with_idle(self) -> float:
        """Return the room, counting workers that are idle, or not started yet, as room.

        A worker may take a job meanwhile. So repeat until two counts of room, before and after the
        count of workers, agree.
        """
        workers, room = self._core.workers, self._room()
        while True:
            free = workers.available()
            before, room = room, self._room()
            if room == before:
                return room + free

    def _put_what_fits(self, jobs: deque[Job[Any]]) -> None:
        """Move as many jobs into the queue as there is room for; with ``"raise"``, all or none.

        If the submitter is not going to wait, idle workers count as room: no job is refused,
        dropped or run by the caller while a worker is about to take one.
        """
        with self._lock:
            room = 0 if self.line else self._room()
            if room < len(jobs) and not self.line and not self._may_wait():
                room = self._room_with_idle()
            if room >= len(jobs) or self._when_full != "raise":
                self._move_into_queue(jobs, room)
        if jobs and self._when_full == "raise":
            raise self._full(f"has no room for {len(jobs)} more")
        if jobs and self._is_interrupted_here():
            # The interrupted holder cannot make room until this handler returns: exceed the bound.
            self._move_into_queue(jobs, len(jobs))

    def _is_interrupted_here(self) -> bool:
        """Return whether the caller, as a signal handler, has interrupted a holder of a lock."""
        limited = self._core.dispatcher.limited
        return is_held_here(self._lock) or (limited is not None and limited.is_interrupted_here())

    def _may_wait(self) -> bool:
        waits = self._when_full == "block" and self._submit_timeout != 0
        return waits and not self._core.ending.is_own_thread()

    def _put_dropping(self, rest: deque[Job[Any]]) -> None:
        """Put jobs into a full queue by dropping the oldest ones."""
        while rest:
            self._core.state.check_open()
            for dropped in self._drop_oldest():
                finish_failed(dropped, self._core)
            self._put_what_fits(rest)

    def _put_or_run(self, rest: deque[Job[Any]]) -> None:
        """Run jobs in the calling thread until the others fit into the queue."""
        while rest:
            self._core.state.check_open()
            if not self._core.workers.is_paused and run_in_caller(self._core, rest[0]):
                rest.popleft()
            else:  # a limit stops the job, or the pool is paused: it has to wait
                self._wait_in_line(deque([rest.popleft()]))
            self._put_what_fits(rest)

    def _move_into_queue(self, jobs: deque[Job[Any]], room: float) -> None:
        count = int(min(max(0, room), len(jobs)))
        # One C call removes and appends the jobs: an asynchronous exception loses none.
        self._core.dispatcher.put(islice(iter(jobs.popleft, None), count), count)

    def _wait_in_line(self, jobs: deque[Job[Any]]) -> None:
        """Wait until all jobs are in the queue."""
        wakeup, deadline = Wakeup(), self._deadline()
        waiter = self._queue_up(jobs, wakeup.set)
        try:
            while jobs:
                self._core.state.check_open()
                if not wakeup.wait(deadline):
                    break
        finally:
            self._leave_line(waiter)
        if jobs:
            raise self._timed_out()

    def _deadline(self) -> float:
        timeout = self._submit_timeout
        return inf if timeout is None else clock.steady() + timeout

    def _queue_up(self, jobs: deque[Job[Any]], wake: Callable[[], object]) -> _Waiter:
        if self._core.ending.is_own_thread():
            raise self._full("is full, and a thread of the pool itself cannot wait for room")
        waiter = _Waiter(jobs, wake)
        self.line.append(waiter)
        self.admit()
        return waiter

    def _leave_line(self, waiter: _Waiter) -> None:
        with self._lock:
            discard_from(self.line, waiter)  # it may have left before

    def _timed_out(self) -> QueueFull:
        return self._full(f"was full for {self._submit_timeout:g} s")

    def _full(self, what: str) -> QueueFull:
        waiting = f"{len(self._core.dispatcher)} of at most {self._max_queue} jobs wait"
        return QueueFull(f"the queue of pool {self._core.label} {what}: {waiting}")

    def _drop_oldest(self) -> list[Job[Any]]:
        """Drop the oldest job of the lowest priority; return it, for `finish_failed`.

        The list is empty if a worker was faster: then there is room.
        """
        core = self._core
        oldest = core.dispatcher.take_oldest()
        if oldest is None:
            return []
        error = JobDropped(f"job {oldest.name} made room for a newer one, in pool {core.label}")
        return [oldest] if settle_refused(oldest, error, core, "dropped") else []
