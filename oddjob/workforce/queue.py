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
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any

from oddjob.job import Job
from oddjob.settling import remove, snapshot
from oddjob.workforce.agenda import Agenda
from oddjob.workforce.lanes import Taker
from oddjob.workforce.race import Race

__all__ = ["JobQueue"]


class JobQueue:
    """Jobs in the order they will start, and the bells of the workers that have none.

    Locking: none; see the module's text.
    """

    __slots__ = ("agenda", "idle", "jobs")

    def __init__(self) -> None:
        self.jobs: deque[Job[Any]] = deque()
        self.idle: deque[Callable[[], None]] = deque()
        self.agenda: Agenda | None = None  # what puts the jobs in order, where arrival does not

    def organise(
        self,
        ageing: float | None,
        takers: Callable[[], Iterable[Taker]],
        knock: Callable[[], object],
    ) -> Agenda:
        """Have an agenda decide from now on which job is next; `knock` wakes the supervisor.

        Workers that have not heard of it go on taking what has arrived before. What still comes
        there, from those who have not heard either, the agenda finds: nothing is lost, and
        whoever organises it has his jobs in order. (The agenda is there before the new inbox is;
        `taker` reads them the other way round.)
        """
        if self.agenda is not None:
            return self.agenda
        inbox: deque[Job[Any]] = deque()
        agenda = Agenda((self.jobs, inbox), Race(ageing), takers, self.idle, self.wake_one, knock)
        if self.agenda is None:  # no call stands here: no signal handler has been quicker
            self.agenda = agenda
            self.jobs = inbox
        return self.agenda

    def taker(self, taker: Taker) -> Callable[[], Job[Any] | None]:
        """What hands a worker the next job; there is none when it returns None or raises."""
        jobs = self.jobs
        agenda = self.agenda
        return jobs.popleft if agenda is None else partial(agenda.take, taker)

    def __len__(self) -> int:
        """How many jobs wait, those included that were cancelled and have not been cleared away."""
        jobs = self.jobs  # first, as everywhere: see `organise`
        return len(jobs) if self.agenda is None else len(self.agenda)

    def count(self) -> int:
        """How many jobs wait that have not ended."""
        return len(self.pending()) if self.agenda is None else self.agenda.count()

    def has_jobs(self) -> bool:
        """Whether there is anything left for workers to do, now or later."""
        return len(self) > 0

    def is_promising(self) -> bool:
        """Whether a worker that looks now may find a job."""
        jobs = self.jobs
        return bool(jobs) if self.agenda is None else self.agenda.is_promising()

    @property
    def alarm(self) -> float:
        """When a worker is to look for jobs that had to wait until then, in monotonic seconds."""
        return inf if self.agenda is None else self.agenda.alarm

    def ring_alarm(self) -> None:
        """See that somebody looks for them, and for what somebody interrupted has left undone."""
        if self.agenda is not None:
            self.agenda.ring_alarm()

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
        if self.agenda is not None:
            return self.agenda.pending()
        return [job for job in snapshot(self.jobs) if not job.done()]

    def ready(self) -> list[Job[Any]]:
        """Jobs of which one, at least, can start now; none if none can."""
        if self.agenda is not None:
            return self.agenda.ready()
        return self.pending()

    def take_back(self, job: Job[Any]) -> bool:
        """Remove a job again; false if it was no longer queued."""
        return remove(self.jobs, job) or (self.agenda is not None and self.agenda.remove(job))

    def forget_bell(self, ring: Callable[[], None]) -> None:
        """Remove the bell of a worker that will not answer it."""
        remove(self.idle, ring)

    def move_all(self, there: deque[Job[Any]]) -> None:
        """Move what is queued now to the end of another queue, one by one, in order."""
        if self.agenda is not None:
            self.agenda.move_all(there)
            return
        for _ in range(len(self.jobs)):
            with suppress(IndexError):
                there.append(self.jobs.popleft())
