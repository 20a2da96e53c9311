"""JobQueue: what waits for a worker, and the workers that wait for work.

Dispatch is a discipline, not a thread: whoever queues a job wakes an idle worker; a worker that
has finished a job takes the next one itself. Nothing here takes a lock of its own, so a job can
be queued from a signal handler, a destructor or a done-callback wherever that strikes.

Why no wake-up is lost:

1. *Queue against park.* The submitter appends to ``jobs``, then looks at ``idle``; the worker
   appends its bell to ``idle``, then looks at ``jobs``. Appends are ordered by the containers'
   own synchronisation, so at least one of the two sees the other: the submitter rings, or the
   worker does (itself or another; either takes the job).
2. *Whoever takes a bell rings it.* Taking it and the call that rings it happen between two points
   at which the interpreter handles signals and asynchronous exceptions: the item of a ``for``
   over ``iter(pop, None)`` is bound and called without such a point in between. The same idiom
   makes sure that a worker never holds a job that nobody knows of.
3. *Close against park.* The closer sets its flag, then rings all idle bells; the worker appends
   its bell, then looks at the flag, and if it is set rings all of them, its own included.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from oddjob.job import Job
from oddjob.settling import remove

__all__ = ["JobQueue"]


class JobQueue:
    """Jobs in the order they will start, and the bells of the workers that have none.

    Locking: none; see the module's text.
    """

    __slots__ = ("idle", "jobs")

    def __init__(self) -> None:
        self.jobs: deque[Job[Any]] = deque()
        self.idle: deque[Callable[[], None]] = deque()

    def wake_one(self) -> bool:
        """Ring the bell of the worker that went idle last; false if none is idle."""
        try:
            for ring in iter(self.idle.pop, None):
                ring()
                return True
        except IndexError:
            pass
        return False

    def wake_all(self) -> None:
        """Ring every idle worker's bell."""
        while self.wake_one():
            pass

    def wake(self, count: int) -> None:
        """Ring the bells of up to `count` idle workers."""
        for _ in range(min(count, len(self.idle))):
            self.wake_one()

    def pending(self) -> list[Job[Any]]:
        """A snapshot of the jobs that have not ended, in the order in which they will start."""
        while True:
            try:
                return [job for job in self.jobs.copy() if not job.done()]
            except RuntimeError:  # it changed while it was copied, without the GIL: copy again
                continue

    def take_back(self, job: Job[Any]) -> bool:
        """Remove a job again; false if it was no longer queued."""
        return remove(self.jobs, job)

    def forget_bell(self, ring: Callable[[], None]) -> None:
        """Remove the bell of a worker that will not answer it."""
        remove(self.idle, ring)

    def move_all(self, there: deque[Job[Any]]) -> None:
        """Move what is queued now to the end of another queue, one by one, in order."""
        for _ in range(len(self.jobs)):
            with suppress(IndexError):
                there.append(self.jobs.popleft())
