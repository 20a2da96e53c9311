"""Door: the way into a queue that has a bound.

Who finds the queue full and is to wait lines up. Whoever makes room, a worker that takes a job or
somebody who cancels one, puts in the jobs of the first in line himself, and wakes him when all of
his are in: so those who wait are served in the order in which they came, and one who has many jobs
is not woken for each. No wake-up is lost: who lines up looks for room once more when he stands in
line, and who has made room looks at the line after that.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from operator import length_hint
from typing import Any, Final

from oddjob.job import Job
from oddjob.workforce.queue import JobQueue

__all__ = ["Door", "Entrant"]


class Entrant:
    """Somebody in line, with jobs that are still outside.

    Locking: the door's lock.
    """

    __slots__ = ("_all", "is_in", "is_turned_away", "jobs", "wake")

    def __init__(self, jobs: Sequence[Job[Any]], wake: Callable[[], object]) -> None:
        self._all: Final = jobs
        self.jobs: Final = iter(jobs)
        self.wake: Final = wake  # may be called again, and takes no time
        self.is_in = False
        self.is_turned_away = False

    def brings(self, job: Job[Any]) -> bool:
        """Whether a job is, or was, one of its."""
        return job in self._all


class Door:
    """The way into a queue that holds no more than `limit` jobs.

    Locking: ``_lock`` guards the line, and is held while jobs go in. It is reentrant: a destructor
    may submit, or cancel, at any time. Workers are rung after it was released.

    ``_room`` is how many jobs may come in before the queue is measured again: while nobody else
    puts anything in, it can only get shorter.
    """

    def __init__(self, queue: JobQueue, limit: int) -> None:
        self._queue: Final = queue
        self.limit: Final = limit
        self._lock = threading.RLock()
        self.line: deque[Entrant] = deque()
        self._room = 0
        self._entered = 0  # how often somebody has

    def enter_one(self, job: Job[Any]) -> bool:
        """Put in a job; false if there is no room for it, or others are waiting for that."""
        queue = self._queue
        with self._lock:
            if self.line:
                return False
            while self._room <= 0:
                entered = self._entered
                room = self.limit - len(queue)
                if room <= 0:
                    return False
                # With no call, and so no interruption, in between.
                if entered == self._entered:
                    self._room = room
            self._room -= 1
            self._entered += 1
            queue.jobs.append(job)
        if queue.idle:
            queue.wake_one()
        return True

    def enter(
        self,
        jobs: Sequence[Job[Any]],
        measure: Callable[[], int] | None = None,
        *,
        whole: bool = False,
    ) -> int:
        """Put in as many jobs as there is room for; returns how many.

        `measure`: tells how much there is, with the lock held. `whole`: all of them or none.
        """
        with self._lock:
            room = self.limit - len(self._queue) if measure is None else measure()
            room = 0 if self.line else max(0, room)
            if whole and room < len(jobs):
                return 0
            self._room = 0
            self._entered += 1
            self._queue.jobs.extend(islice(jobs, room))
        entered = min(room, len(jobs))
        self._queue.wake(entered)
        return entered

    def line_up(self, jobs: Sequence[Job[Any]], wake: Callable[[], object]) -> Entrant:
        """Wait in line; `wake` is called when all the jobs are in, and `is_in` tells."""
        entrant = Entrant(jobs, wake)
        with self._lock:
            self.line.append(entrant)
        self.let_in()
        return entrant

    def step_out(self, entrant: Entrant) -> bool:
        """Wait no longer; false if one's jobs are all in."""
        with self._lock:
            if not entrant.is_in and entrant in self.line:
                self.line.remove(entrant)
        self.let_in()
        return not entrant.is_in

    def let_in(self) -> None:
        """Put in what there is room for."""
        entered = 0
        with self._lock:
            self._room = 0
            self._entered += 1
            while self.line:
                room = self.limit - len(self._queue)
                if room <= 0:
                    break
                first = self.line[0]
                left = length_hint(first.jobs)
                # In one step: no job is outside that is in, nor the other way round.
                self._queue.jobs.extend(islice(first.jobs, room))
                entered += min(room, left)
                if left <= room:
                    first.is_in = True
                    first.wake()
                    if self.line and self.line[0] is first:  # not so if somebody came in between
                        self.line.popleft()
        self._queue.wake(entered)

    def is_in_line(self, job: Job[Any]) -> bool:
        """Whether a job may still be outside."""
        with self._lock:
            return any(entrant.brings(job) for entrant in self.line)

    def measure_again(self) -> None:
        """Be told that jobs have come in by another way."""
        with self._lock:
            self._room = 0

    def turn_away(self) -> None:
        """Wake all who wait in line: they will find that the pool takes no more jobs."""
        with self._lock:
            while self.line:
                first = self.line[0]
                first.is_turned_away = True
                first.wake()
                if self.line and self.line[0] is first:
                    self.line.popleft()
