"""Worker: a thread that runs one job after another."""

import threading
from _thread import LockType, allocate_lock
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, Protocol

from oddjob.job import Job
from oddjob.marks import mark_here
from oddjob.schedule.clock import clock
from oddjob.workforce.letters import Letters
from oddjob.workforce.loop import JobLoop
from oddjob.workforce.queue import JobQueue
from oddjob.workforce.tally import GROUP, Ledger

__all__ = ["Employer", "JobThread", "Worker", "WorkerInfo", "start_safely"]


_PATIENCE: Final = 0.1  # seconds


def start_safely(thread: threading.Thread, arrival: LockType) -> None:
    """Start a thread and see it, if it hurries, to where it can be killed only with a trace.

    It releases `arrival` there. Raises what starting a thread raises, or a RuntimeError if
    something thrown at the thread has killed it on its way.
    """
    thread.start()
    # Not for ever: it may be waiting for a lock of the interpreter's that this thread holds.
    if not arrival.acquire(timeout=_PATIENCE) and not thread.is_alive():
        raise RuntimeError(f"{thread.name} was killed before it could begin")


class WorkerInfo(NamedTuple):
    """What one worker was doing at the moment of asking."""

    name: str
    ident: int | None
    job: Job[object] | None

    @property
    def state(self) -> str:
        """``idle`` or ``running``."""
        return "idle" if self.job is None else "running"


class Employer(Protocol):
    """What a worker knows of the workforce it belongs to."""

    queue: JobQueue
    closed: str | None
    letters: Letters["Worker | None"]
    ledger: Ledger
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]

    def check_in(self, worker: "Worker") -> bool:
        """Put the calling thread on the list; false if nobody waits for it any more."""


class JobThread(threading.Thread):
    """A thread that runs jobs: the interpreter waits for its children's ends, and not for its own.

    The exit of the process waits for jobs by its own rules, so to the interpreter a worker is a
    daemon. A thread that a job starts must not inherit that: it would die with the main thread.
    """

    serving = False

    @property
    def daemon(self) -> bool:
        """Whether the interpreter does not wait for it; false where a child takes it over."""
        return not self.serving

    @daemon.setter
    def daemon(self, value: bool) -> None:
        raise RuntimeError(f"a worker thread is a daemon, and cannot be made {value!r}")

    def run(self) -> None:
        """Run the target, and let no child inherit what this thread is."""
        self.serving = True
        super().run()


class Worker:
    """One thread of a workforce.

    Locking: none. The worker's thread alone writes its tally; ``leaving`` is set by others and
    looked at between jobs; ``bell`` is held except for the moment after a ring; ``arrival``
    is released once, as the thread's first act.
    """

    __slots__ = (
        "arrival",
        "asides",
        "began",
        "bell",
        "crash",
        "disowned",
        "employer",
        "index",
        "leaving",
        "loop",
        "ring",
        "say_farewell",
        "tally",
        "thread",
    )

    def __init__(self, employer: Employer, index: int, name: str) -> None:
        self.employer = employer
        self.index = index
        self.arrival = allocate_lock()
        self.arrival.acquire()
        self.bell = allocate_lock()
        self.bell.acquire()
        self.ring = self.bell.release
        self.say_farewell = employer.letters.ready(self)
        self.tally = employer.ledger.open()
        self.leaving = False
        self.began = False
        self.disowned = False
        self.crash: BaseException | None = None
        self.loop = JobLoop(self.tally)
        self.asides: list[JobLoop] = []  # of threads that run coroutines while this one waits
        self.thread: threading.Thread = JobThread(target=self.work, name=name)

    @property
    def job(self) -> Job[Any] | None:
        """The job in hand."""
        return self.tally.turn[1]

    @property
    def info(self) -> WorkerInfo:
        """A snapshot for people."""
        return WorkerInfo(self.thread.name, self.thread.ident, self.job)

    def start(self) -> None:
        """Start the thread; raises like `start_safely`."""
        start_safely(self.thread, self.arrival)

    def work(self) -> None:
        """The thread's life: serve until told to go or crashed, then say so."""
        employer = self.employer
        try:
            self.tally.thread, self.tally.mark = threading.get_ident(), mark_here()
            self.arrival.release()
            if employer.check_in(self):
                try:
                    if employer.initializer is not None:
                        employer.initializer(*employer.initargs)
                    self.began = True
                    self.crash = self._serve(employer)
                finally:
                    self.loop.close()
        except BaseException as crash:  # the supervisor deals with it
            self.crash = crash
            self.rescue_jobs(crash)
        finally:
            # One call, with no interruption before or in it: a death is always heard of.
            try:  # noqa: SIM105
                self.say_farewell()
            except RuntimeError:  # the supervisor is awake
                pass

    def _serve(self, employer: Employer) -> BaseException | None:
        """Run jobs until it is time to go; returns what the last one crashed with, if it did."""
        tally = self.tally
        while True:
            ending = self._run_queue(employer.queue)
            if ending is not True:
                return ending
            if self.loop.in_place:
                self.rescue_jobs(RuntimeError("the job was interrupted"))
            tally.turn = (tally.turn[0], None)  # an idle worker keeps no job alive
            tally.returned = None
            if not self._rest(employer):
                return None

    def _run_queue(self, queue: JobQueue) -> BaseException | Literal[True] | None:
        """Run jobs until the queue is empty, and return true; or else a crash, or None to leave."""
        tally = self.tally
        number = tally.turn[0]
        before = last = tally.base = clock.monotonic()
        due = last + GROUP
        job: Job[Any] | None = None
        ending = None
        try:
            # Taken by a loop, and kept before the next call: nothing can interrupt in between.
            for job in iter(queue.taker(tally), None):
                number += 1
                tally.turn = (number, job)
                ending = job.execute()
                if ending is not True:
                    tally.note(job, was_run=ending is not False)
                    if isinstance(ending, BaseException):
                        tally.lap(last, clock.monotonic())
                        return ending
                before, last = last, clock.monotonic()
                if last > due:
                    tally.lap(before, last)
                    due = last + GROUP
                if self.leaving:
                    return None
        except IndexError as error:
            # The queue is empty (so says a deque); or else one was thrown in, deeper down.
            if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                raise
        finally:
            del job, ending  # a failed job's traceback leads to this frame
        tally.lap(before, last)
        return True

    def _rest(self, employer: Employer) -> bool:
        """Wait until the bell rings; false if it is time to go."""
        queue = employer.queue
        if self.leaving or (employer.closed and not queue.has_jobs()):
            if queue.agenda is not None:
                queue.wake_all()  # others may wait for jobs that come back, and none will
            return False
        queue.idle.append(self.ring)
        if self.leaving or (employer.closed and not queue.has_jobs()):
            queue.wake_all()
        elif queue.is_promising():
            queue.wake_one()
        self.bell.acquire()
        return True

    def rescue_jobs(self, crash: BaseException) -> None:
        """End the jobs that a crash interrupted, the innermost first; twice does no harm."""
        thread = self.tally.mark
        if thread is None:
            return
        for loop in [*self.asides, self.loop]:
            loop.clear_places(0, crash)
        job = self.job
        if job is not None and (job is not self.tally.returned or job.is_run_by(thread)):
            job.rescue(crash, thread)
        offered = self.tally.offered
        if offered is not None and offered is not job and not self._is_waiting(offered):
            offered.rescue(crash, thread)

    def _is_waiting(self, job: Job[Any]) -> bool:
        agenda = self.employer.queue.agenda
        return agenda is not None and agenda.is_waiting(job)

    def jobs(self) -> list[Job[Any]]:
        """The job in hand, and those that run in its place, also in threads that stand in."""
        in_hand = self.job
        found = [] if in_hand is None else [in_hand]
        for loop in [self.loop, *self.asides]:
            found += loop.in_place.copy()
        return found

    def is_through(self) -> bool:
        """Whether all its jobs have ended, though their calls may not have returned."""
        return all(job.done() for job in self.jobs())

    def loop_of(self, job: Job[Any]) -> JobLoop | None:
        """The event loop on which the coroutine of that job runs."""
        loops = (loop for loop in [self.loop, *self.asides] if loop.job is job)
        return next(loops, None)

    def forget(self) -> None:
        """Hold nothing of the user's any more."""
        self.tally.turn = (self.tally.turn[0], None)
        self.tally.returned = self.tally.offered = None
        self.crash = None
