"""Service: what a workforce does for the jobs that it has taken, while they run."""

import logging
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import Future
from contextvars import Context
from functools import partial
from time import monotonic
from typing import Any

from oddjob.job import Job
from oddjob.log import say
from oddjob.settings import PoolOptions
from oddjob.timed import TimedJob
from oddjob.workforce.deadlines import Watch
from oddjob.workforce.loop import JobLoop
from oddjob.workforce.roster import Roster
from oddjob.workforce.tally import Tally
from oddjob.workforce.worker import JobThread, Worker

__all__ = ["Service"]


class Service:
    """The crew that jobs know; see `oddjob.crew.Crew`.

    Locking: none of its own; the roster's lock guards its deadlines.
    """

    __slots__ = ("_born", "_options", "_pool", "name", "roster")

    name: str | None
    roster: Roster
    _options: PoolOptions
    _pool: weakref.ref[Any]
    _born: float  # when this process was forked, in monotonic seconds; -inf if it was not

    @property
    def pool(self) -> Any:
        """The pool object, or None once an anonymous one has been collected."""
        return self._pool()

    def is_crash(self, error: BaseException) -> bool:
        """Whether the worker that ran into it should be replaced."""
        return not isinstance(error, Exception) or isinstance(error, self._options.crash_on)

    def has_lost(self, job: Job[Any]) -> bool:
        """Whether the job stayed behind in the process that forked this one."""
        return job.queued_at <= self._born

    def count(self, what: str) -> None:
        """Count, for the statistics, what befell a job that no worker had."""
        self.roster.ledger.count(what)

    def watch(self, job: TimedJob[Any]) -> Watch:
        """Look after a job with a timeout, which the calling thread is about to run."""
        roster = self.roster
        deadline = monotonic() + job.timeout
        watch = Watch(job, deadline, threading.get_ident(), roster.worker_here())
        with roster.lock:
            roster.deadlines.add(watch, partial(roster.letters.put, None))
        return watch

    def unwatch(self, watch: Watch) -> None:
        """Be told that the run is over."""
        roster = self.roster
        with roster.lock:
            frees_place = roster.deadlines.remove(watch)
        if frees_place:
            roster.letters.put(None)

    def note_failure(self, job: Job[Any], error: BaseException) -> None:
        """Be told that a call has raised something."""
        self.roster.herald.tell("job_failed", job=job, error=error)

    def run_in_place(self, job: Job[Any]) -> bool:
        """Execute a job in the calling thread while that runs another, which waits for it.

        Only a worker does so, and only if the job is still queued; else this returns false.
        Whatever interrupts it (the stack may be as good as full), the job comes to its end: if not
        here, then in a place further up, or when the worker has nothing else to do.
        """
        here = self.roster.loop_here()
        if here is None:
            return False
        depth = len(here.in_place)
        crash: BaseException = RuntimeError(f"{job.name} was interrupted while it ran in place")
        has_it = False
        try:
            here.begin_in_place(job)  # first: once it is claimed, only this thread can end it
            has_it = job.claim_queued()
            if has_it:
                self.roster.queue.take_back(job)
                job.execute(claimed=True)
        except BaseException as error:
            crash = error
            raise
        finally:
            here.clear_places(depth, crash)
        return has_it

    def run_coroutine(
        self, job: Job[Any], coroutine: Coroutine[Any, Any, Any], context: Context
    ) -> Any:
        """Run the coroutine of a job on the event loop of the calling worker.

        While that is busy (a coroutine waits for a job, which then runs in its place), this one
        gets a thread and a loop of its own.
        """
        loop = self.roster.loop_here()
        if loop is not None and not loop.is_busy:
            return loop.run(job, coroutine, context)
        outcome: Future[Any] = Future()
        call = job, coroutine, context
        thread = JobThread(
            target=self._run_aside,
            args=(outcome, call, self.roster.worker_here()),
            name=f"{self.roster.label}-nested-loop",
        )
        thread.start()
        thread.join()
        try:
            if not outcome.done():
                raise RuntimeError(f"{thread.name} was killed before it could run {job.name}")
            return outcome.result()
        finally:
            coroutine.close()  # in case that it was never begun
            del outcome  # what is raised holds this frame

    def _run_aside(
        self,
        outcome: Future[Any],
        call: tuple[Job[Any], Coroutine[Any, Any, Any], Context],
        worker: Worker | None,
    ) -> None:
        asides = [] if worker is None else worker.asides
        loop = JobLoop(Tally() if worker is None else worker.tally)
        try:
            self.roster.lend(loop, worker)
            asides.append(loop)
            result = loop.run(*call)
        except BaseException as error:  # raised to the waiting worker
            outcome.set_exception(error)
        else:
            outcome.set_result(result)
        finally:
            del call
            if loop in asides:
                asides.remove(loop)
            loop.close()

    def report_failure(self, job: Job[Any], error: BaseException, context: Context) -> None:
        """Log the failure of a job that nobody waits for, and tell ``on_error``."""
        context.run(self._report_failure, job, error)

    def _report_failure(self, job: Job[Any], error: BaseException) -> None:
        label = self.roster.label
        say(logging.ERROR, "job %s of pool %s failed", job.name, label, error=error)
        if self._options.on_error is not None:
            try:
                self._options.on_error(job, error)
            except Exception as second:
                what = "on_error of pool %s raised, for job %s"
                say(logging.ERROR, what, label, job.name, error=second)
