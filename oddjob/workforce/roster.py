"""Roster: who works here, how many may, and whether the place is open."""

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from oddjob.current import set_base
from oddjob.errors import PoolBroken, PoolClosed
from oddjob.events import Herald
from oddjob.job import Job
from oddjob.marks import mark_here
from oddjob.settings import PoolOptions
from oddjob.stats import PoolState
from oddjob.workforce import inline
from oddjob.workforce.agenda import Agenda
from oddjob.workforce.deadlines import Deadlines, Watch
from oddjob.workforce.door import Door
from oddjob.workforce.letters import Letters
from oddjob.workforce.loop import JobLoop
from oddjob.workforce.queue import JobQueue
from oddjob.workforce.tally import Ledger
from oddjob.workforce.worker import Worker

__all__ = ["Roster", "is_interpreters_end"]

AFTER_SHUTDOWN: Final = "cannot schedule new futures after shutdown"
AFTER_EXIT: Final = "cannot schedule new futures after interpreter shutdown"


def is_interpreters_end(error: BaseException) -> bool:
    """Whether no thread can be started because the interpreter is shutting down (3.12 on)."""
    return isinstance(error, RuntimeError) and "interpreter shutdown" in str(error)


class Roster:
    """The workers of one pool, by place; an empty place is one whose worker has gone.

    Locking: ``lock`` guards ``workers``, ``gone``, ``abandoned``, ``deadlines``, ``closed``,
    ``broken`` and what follows from them. It is reentrant, since a signal handler or a destructor
    may submit while its thread holds it; `hire` sees to it that this starts no two threads for one
    place. A new thread takes it once, to check in. Nothing of the user's is called and nothing
    logged under it.

    ``_here`` is each thread's own: what it runs jobs with, if it may, and what it is to the pool.
    ``is_open``, ``is_staffed`` (fully), ``is_free`` (open, and its queue takes whatever comes) and
    ``steady`` (free and fully staffed) let submitters queue without the lock; they read them
    before, and once more after, they have queued. Workers so read ``closed``.
    """

    def __init__(self, options: PoolOptions, label: str) -> None:
        self.label = label
        self.queue = JobQueue()
        self.ledger = Ledger()
        self.herald = Herald(label, options.on_event)
        self.deadlines = Deadlines()
        self.letters: Letters[Worker | None] = Letters()
        self.size = options.pool_size
        self.initializer = options.initializer
        self.initargs = options.initargs
        self._prefix = options.thread_name_prefix or label
        self.lock = threading.RLock()
        self.workers: list[Worker | None] = []
        self._here = threading.local()
        self._hiring = False
        self._wanted = 0
        self.gone: list[threading.Thread] = []
        self.abandoned: set[Worker] = set()
        self._max_abandoned = (
            options.pool_size if options.max_abandoned is None else options.max_abandoned
        )
        self.replaced: deque[str] = deque()
        self.refused: deque[Job[Any]] = deque()
        self.closed: str | None = None
        self.broken: BaseException | None = None
        self.is_open = True
        self.door = None if options.max_queue is None else Door(self.queue, options.max_queue)
        self._ageing = options.ageing
        if self.door is not None:
            agenda = self.organise()
            agenda.bound(self.door.line, self.door.let_in)
        self._look_around()

    def organise(self) -> Agenda:
        """Have the queue put in order by more than arrival, from now on."""
        with self.lock:
            is_news = self.queue.agenda is None
            agenda = self.queue.organise(self._ageing, self.ledger.tallies, self.letters.knock)
        if is_news:
            agenda.tend()
        return agenda

    def staff(self) -> list[Worker]:
        """The workers there are, in the order of their places."""
        with self.lock:
            return [worker for worker in self.workers if worker is not None]

    def threads(self) -> list[threading.Thread]:
        """All threads not known to have ended: those of the staff, and of who has just left."""
        with self.lock:
            return [worker.thread for worker in self.staff()] + self.gone

    def refusal(self) -> Exception | None:
        """Why the pool takes no jobs, as an exception to raise; None while it does."""
        if self.closed is not None:
            closed = PoolClosed(self.closed)
            closed.add_note(f"pool: {self.label}")
            return closed
        return self.breakdown() if self.broken is not None else None

    def breakdown(self) -> PoolBroken:
        """What broke the pool, as an exception to raise or to settle a job with."""
        broken = PoolBroken(f"pool {self.label} is broken: its workers kept crashing")
        broken.__cause__ = self.broken
        return broken

    def vacancies(self) -> int:
        """How many workers have gone that should be replaced."""
        with self.lock:
            if self.broken is not None or (self.closed and not self.queue.has_jobs()):
                return 0
            return self.workers.count(None)

    def places(self) -> int:
        """How many more workers there may be."""
        with self.lock:
            return self.size - len(self.workers) + self.workers.count(None)

    def send_home(self) -> None:
        """Wake those who wait for jobs of a closed pool that nobody will bring any more."""
        if self.closed is not None and not self.queue.has_jobs():
            self.queue.wake_all()

    def is_deserted(self) -> bool:
        """Whether it is closed, with nobody left in it and nothing left to do."""
        with self.lock:
            done = self.broken is not None or not self.queue.has_jobs()
            busy = self.staff() or any(not worker.is_through() for worker in self.abandoned)
            return bool(self.closed) and done and not busy

    def hire(self) -> None:
        """Start a worker in the first empty place, or in a new one if there is room.

        The supervisor is told of what it has to see to, unless it is the one that asks.

        Asked for by a signal handler or destructor in the middle of this very method, it is done
        when this is.

        Raises whatever starting a thread raises; then nothing has changed.
        """
        with self.lock:
            # Nothing can strike between this test and the next step: no call stands there.
            if self._hiring:
                self._wanted += 1
                return
            self._hiring = True
            try:
                self._hire_one()
                while self._wanted:
                    self._wanted -= 1
                    self._hire_one()
            finally:
                self._wanted = 0
                self._hiring = False

    def _hire_one(self) -> None:
        is_new_place = None not in self.workers
        if is_new_place:
            if len(self.workers) == self.size:
                return
            self.workers.append(None)
        index = self.workers.index(None)
        worker = self.workers[index] = Worker(self, index, f"{self._prefix}_{index}")
        try:
            worker.start()
        except BaseException:
            # Interrupted after the thread was made, it may still come: to a closed door.
            worker.disowned = True
            self.ledger.discard(worker.tally)
            self.workers[index] = None
            # A place that somebody's job counts on stays, for the supervisor to fill.
            if is_new_place and not self.queue.has_jobs():
                self.workers.pop()
            else:
                self._tell_supervisor()
            raise
        if not is_new_place:
            self.replaced.append(worker.thread.name)
            self._tell_supervisor()
        self._look_around()

    def _tell_supervisor(self) -> None:
        if not getattr(self._here, "supervises", False):
            self.letters.put(None)

    def supervise(self) -> None:
        """Let the calling thread be known as the supervisor."""
        self._here.is_house = self._here.supervises = True

    def belong(self) -> None:
        """Let the calling thread be known as one that cannot wait for the end of the pool."""
        self._here.is_house = True

    def is_house_here(self) -> bool:
        """Whether the pool's end has to wait for the calling thread."""
        return getattr(self._here, "is_house", False)

    def stand_in(self) -> None:
        """Be a worker, in the calling thread, until a closed pool's queue is empty."""
        with self.lock:
            worker = Worker(self, 0, f"{self._prefix}_0")
            worker.thread = threading.current_thread()
            self.workers[:1] = [worker]
        worker.work()

    def check_in(self, worker: Worker) -> bool:
        """Put the calling thread on the list; false if nobody waits for it any more."""
        with self.lock:
            if not worker.disowned:
                self.lend(worker.loop, worker)
            return not worker.disowned

    def loop_here(self) -> JobLoop | None:
        """What the calling thread runs jobs with, if it is one that does."""
        return getattr(self._here, "loop", None)

    def worker_here(self) -> Worker | None:
        """The worker that the calling thread is, or stands in for."""
        return getattr(self._here, "worker", None)

    def worker_of(self, job: Job[Any]) -> Worker | None:
        """The worker that runs a job."""
        with self.lock:
            workers = [*self.staff(), *self.abandoned]
        for worker in workers:
            if worker.tally.mark is not None and job.is_run_by(worker.tally.mark):
                return worker
        return next((worker for worker in workers if job in worker.jobs()), None)

    def lend(self, loop: JobLoop, worker: Worker | None, waiting: Sequence[Job[Any]] = ()) -> None:
        """Let the calling thread run jobs, as that worker or in place of it while it waits.

        `waiting` are the jobs that do so.
        """
        loop.thread = mark_here()
        self._here.is_house = True
        self._here.loop = loop
        self._here.worker = worker
        set_base(loop.base, waiting)

    def discharge(self, worker: Worker) -> bool:
        """Take a worker that has gone off the list; false if it was not (or no longer) on it."""
        with self.lock:
            self.abandoned.discard(worker)
            if not self._has(worker):
                return False
            self.workers[worker.index] = None
            self.gone = [thread for thread in self.gone if thread.is_alive()]
            self.gone.append(worker.thread)
            self._look_around()
        self.queue.forget_bell(worker.ring)
        return True

    def abandon(self, watch: Watch) -> None:
        """Give up a worker that is stuck, so that it is replaced; or not, if there are too many."""
        worker = watch.worker
        with self.lock:
            is_held = not watch.has_returned and worker is not None and watch.job in worker.jobs()
            is_missed = is_held and worker is not None and self._has(worker)
            is_one_too_many = self.closed is None and len(self.abandoned) >= self._max_abandoned
            watch.holds_place = is_missed and is_one_too_many
            if not watch.holds_place:
                self.deadlines.stuck.pop(watch, None)
            if worker is not None and is_missed and not is_one_too_many:
                worker.leaving = True
                worker.thread.name += "-abandoned"
                self.abandoned.add(worker)
                self.workers[worker.index] = None
                self._look_around()
        if is_held and worker is not None and not watch.is_cancelled:
            watch.is_cancelled = True
            loop = worker.loop_of(watch.job)
            if loop is not None:
                loop.cancel(watch.job)

    def see_off(self, thread: threading.Thread) -> None:
        """Count a thread among those that are waited for at the end."""
        with self.lock:
            self.gone = [each for each in self.gone if each.is_alive()]
            self.gone.append(thread)

    def _has(self, worker: Worker) -> bool:
        return worker.index < len(self.workers) and self.workers[worker.index] is worker

    def retire_all(self) -> None:
        """Tell every worker to leave, after the job in its hands."""
        for worker in self.staff():
            worker.leaving = True
        self.queue.wake_all()

    def close(self, why: str) -> bool:
        """Take no more jobs; what is queued will be run. False if it was closed before."""
        with self.lock:
            is_news = self.closed is None
            if is_news:
                self.closed = why
            self._look_around()
        self._turn_away()
        self.queue.wake_all()
        self.letters.put(None)
        return is_news

    def _turn_away(self) -> None:
        if self.door is not None:
            self.door.turn_away()

    def look_around(self) -> None:
        """Take note of what has changed outside."""
        with self.lock:
            self._look_around()

    @property
    def state(self) -> PoolState:
        """What the pool as a whole is doing."""
        if self.closed is not None:
            return "closed"
        if self.broken is not None:
            return "broken"
        if self.deadlines.is_short_of_places():
            return "degraded"
        leaving = any(worker.leaving for worker in self.staff())
        return "restarting" if leaving else "running"

    def revive(self) -> None:
        """Be no longer broken; the caller holds the lock."""
        self.broken = None
        self._look_around()

    def give_up(self, cause: BaseException) -> None:
        """Become broken: take no more jobs, and send everybody home.

        What is queued comes to ``refused``: jobs that are accepted after a revival are others.
        """
        with self.lock:
            self.broken = cause
            self._look_around()
            if self.queue.agenda is None:
                self.queue.move_all(self.refused)
        self.refuse_all()
        self._turn_away()
        self.retire_all()

    def refuse_all(self) -> None:
        """Have a broken pool's jobs end; those of an agenda, whose lock comes before this one."""
        if self.queue.agenda is not None:
            self.queue.agenda.move_all(self.refused)
            self.letters.put(None)

    def _look_around(self) -> None:
        self.is_open = self.closed is None and self.broken is None
        self.is_staffed = len(self.workers) == self.size and None not in self.workers
        is_taking = self.is_open and not inline.is_on()
        self.is_free = is_taking and self.door is None
        self.bounded_door = self.door if is_taking and self.is_staffed else None
        self.steady = self.is_free and self.is_staffed
