"""Workforce: everything of a pool that must outlive the object in the user's hands.

Worker threads and jobs hold the workforce, never the pool: so an anonymous pool that nobody can
reach is collected, and its workforce finishes the queue and goes home.
"""

import logging
import threading
import weakref
from collections.abc import Collection, Coroutine, Sequence
from concurrent.futures import Future
from contextvars import Context
from time import monotonic
from typing import Any

from oddjob.errors import PoolClosed
from oddjob.job import Job
from oddjob.log import say
from oddjob.settings import PoolOptions
from oddjob.states import ENDED
from oddjob.stats import PoolStats
from oddjob.timed import TimedJob
from oddjob.workforce import lifecycle
from oddjob.workforce.deadlines import Watch
from oddjob.workforce.loop import JobLoop
from oddjob.workforce.roster import AFTER_EXIT, AFTER_SHUTDOWN, Roster, is_interpreters_end
from oddjob.workforce.supervisor import Supervisor, SupervisorInfo
from oddjob.workforce.tally import Tally
from oddjob.workforce.worker import Worker, WorkerInfo

__all__ = ["Workforce"]


class Workforce:
    """One pool's queue, workers and supervisor.

    Locking: none of its own; the roster's lock guards the cold paths. ``accept`` takes no lock
    while the roster is steady.
    """

    __slots__ = (
        "__weakref__",
        "_discarded",
        "_left_behind",
        "_options",
        "_pool",
        "_supervisor",
        "name",
        "roster",
    )

    def __init__(self, options: PoolOptions, name: str | None, label: str, pool: Any) -> None:
        self.name = name
        self._options = options
        self._left_behind: list[Collection[Job[Any]]] = []
        self._begin(label, pool)
        lifecycle.watch(self)

    def _begin(self, label: str, pool: Any) -> None:
        options = self._options
        self.roster = Roster(options, label)
        self._supervisor = Supervisor(
            self.roster,
            options.max_restarts,
            options.max_seconds,
            self._close_if_abandoned,
            self._bury,
        )
        self._discarded = False
        letters = self.roster.letters
        # The callback may strike anywhere, so it only writes a letter; that needs no lock.
        self._pool = weakref.ref(pool, lambda _: letters.put(None))

    def begin_anew(self) -> None:
        """In a forked child: no threads, no jobs, no locks that somebody else holds."""
        pool = self._pool()
        former = self.roster
        workers = [worker for worker in [*former.workers, *former.abandoned] if worker]
        running = [worker.job for worker in workers if worker.job is not None]
        self._left_behind += [former.queue.jobs, running]
        if pool is not None:
            self._begin(former.label, pool)
            if former.closed is not None:
                self.roster.close(former.closed)

    # What jobs ask of their crew.

    @property
    def pool(self) -> Any:
        """The pool object, or None once an anonymous one has been collected."""
        return self._pool()

    def is_crash(self, error: BaseException) -> bool:
        """Whether the worker that ran into it should be replaced."""
        return not isinstance(error, Exception) or isinstance(error, self._options.crash_on)

    def has_lost(self, job: Job[Any]) -> bool:
        """Whether the job stayed behind in the process that forked this one."""
        return any(job in jobs for jobs in self._left_behind)

    def count(self, what: str) -> None:
        """Count, for the statistics, what befell a job that no worker had."""
        self.roster.ledger.count(what)

    def watch(self, job: TimedJob[Any]) -> Watch:
        """Look after a job with a timeout, which the calling thread is about to run."""
        roster = self.roster
        worker, loop = roster.worker_here(), roster.loop_here()
        watch = Watch(job, monotonic() + job.timeout, threading.get_ident(), worker, loop)
        with roster.lock:
            is_next = roster.deadlines.add(watch)
        if is_next:
            roster.letters.put(None)
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

    def works_here(self) -> bool:
        """Whether the calling thread is one of this workforce's workers."""
        return self.roster.loop_here() is not None

    def run_in_place(self, job: Job[Any]) -> None:
        """Execute a job that the calling worker has claimed while it runs another.

        Whatever interrupts that (the stack may be as good as full), the job comes to its end: if
        not here, then in a place further up, or when the worker has nothing else to do.
        """
        here = self.roster.loop_here() or JobLoop(Tally())
        depth = len(here.in_place)
        here.begin_in_place(job)
        crash: BaseException = RuntimeError(f"{job.name} was interrupted while it ran in place")
        try:
            job.execute(claimed=True)
        except BaseException as error:
            crash = error
            raise
        finally:
            while len(here.in_place) > depth:
                if not here.in_place[-1].done():
                    here.in_place[-1].rescue(crash, threading.get_ident())
                here.end_in_place()
            self.roster.queue.take_back(job)

    def run_coroutine(self, coroutine: Coroutine[Any, Any, Any], context: Context) -> Any:
        """Run a coroutine on the event loop of the calling worker.

        While that is busy (a coroutine waits for a job, which then runs in its place), this one
        gets a thread and a loop of its own.
        """
        loop = self.roster.loop_here()
        if loop is not None and not loop.is_busy:
            return loop.run(coroutine, context)
        outcome: Future[Any] = Future()
        thread = threading.Thread(
            target=self._run_aside,
            args=(outcome, coroutine, context),
            kwargs={"worker": self.roster.worker_here()},
            name=f"{self.roster.label}-nested-loop",
        )
        thread.start()
        thread.join()
        return outcome.result()

    def _run_aside(
        self,
        outcome: Future[Any],
        coroutine: Coroutine[Any, Any, Any],
        context: Context,
        worker: Worker | None,
    ) -> None:
        loop = JobLoop(Tally() if worker is None else worker.tally)
        self.roster.lend(loop, worker)
        try:
            result = loop.run(coroutine, context)
        except BaseException as error:  # raised to the waiting worker
            outcome.set_exception(error)
        else:
            outcome.set_result(result)
        finally:
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

    # Taking jobs in.

    def accept(self, job: Job[Any]) -> None:
        """Queue a job and see that somebody comes for it.

        Raises:
            PoolClosed, PoolBroken: the job has not been queued, or not any more.
            Exception: no thread could be started, and there is none; it has not been queued.
        """
        roster = self.roster
        queue = roster.queue
        try:
            if roster.steady:
                queue.jobs.append(job)
                if queue.idle:
                    queue.wake_one()
                if not roster.steady:
                    self._reconsider(job)
            elif roster.is_open and queue.idle:
                queue.jobs.append(job)
                if not (queue.wake_one() and roster.is_open):
                    self._reconsider(job)
            else:
                self._admit([job])
        except BaseException:
            job.withdraw()  # interrupted, it may have been queued: whoever takes it drops it
            raise

    def accept_many(self, jobs: Sequence[Job[Any]]) -> None:
        """Queue jobs in one insertion, with nothing between them; raises like `accept`."""
        try:
            self._admit(jobs)
        except BaseException:
            for job in jobs:
                job.withdraw()
            raise

    def _admit(self, jobs: Sequence[Job[Any]]) -> None:
        """The careful way in: first make sure that somebody comes, then queue."""
        roster = self.roster
        with roster.lock:
            begins = self._supervisor.thread is None
            if begins and roster.is_open and not lifecycle.enrol(self):
                roster.close(AFTER_EXIT)
            refusal = roster.refusal()
            if refusal is not None:
                raise refusal
            if begins:
                self._supervisor.start()
            failure = self._hire_for(len(jobs))
            if failure is not None and not roster.staff():
                if is_interpreters_end(failure):
                    raise PoolClosed(AFTER_EXIT) from failure
                raise failure
            roster.queue.jobs.extend(jobs)
        roster.queue.wake(len(jobs))
        self._report_understaffed(failure)

    def _reconsider(self, job: Job[Any]) -> None:
        """A job was queued without the lock, and things may have changed meanwhile.

        If the pool has closed, a job that is still queued may have missed the last worker: it is
        taken back. One that is no longer queued was accepted. If nobody could be woken for it,
        and there is a place for another worker, that is filled.
        """
        roster = self.roster
        failure = None
        with roster.lock:
            refusal = roster.refusal()
            if refusal is None and roster.queue.jobs:
                failure = self._hire_for(1)
        if refusal is not None and roster.queue.take_back(job):
            raise refusal
        self._report_understaffed(failure)

    def _hire_for(self, count: int) -> Exception | None:
        """Start as many workers as `count` jobs need that idle ones cannot take."""
        roster = self.roster
        try:
            for _ in range(min(count - len(roster.queue.idle), roster.places())):
                roster.hire()
        except Exception as failure:
            return failure
        return None

    def _report_understaffed(self, failure: Exception | None) -> None:
        if failure is not None and not is_interpreters_end(failure):
            label = self.roster.label
            say(logging.WARNING, "pool %s could not start another worker", label, error=failure)

    def restart(self) -> None:
        """Replace all workers, and revive the pool if it is broken."""
        roster = self.roster
        with roster.lock:
            was_broken = roster.closed is None and roster.broken is not None
            if was_broken:
                roster.revive()
            refusal = roster.refusal()
        if refusal is not None:
            raise refusal
        roster.retire_all()
        roster.letters.put(None)
        roster.herald.tell("recovered" if was_broken else "pool_restart")

    # The end.

    def close(self, *, cancel_queued: bool = False, wait: bool = True) -> None:
        """Take no more jobs; run or cancel those that are queued."""
        if cancel_queued and not wait:
            self._discarded = True
        self._close(AFTER_SHUTDOWN)
        if cancel_queued:
            self.roster.queue.settle_all(lambda job: job.cancel())

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the last worker to be gone; false after `timeout` seconds.

        On a thread of this workforce there is no waiting, and the answer is false.
        """
        thread = self._supervisor.thread
        if thread is None:
            return True
        if not self.works_here() and thread is not threading.current_thread():
            thread.join(timeout)
        return not thread.is_alive()

    def close_at_exit(self) -> None:
        """Take no more jobs, because the interpreter ends."""
        self._close(AFTER_EXIT)

    def _close(self, why: str) -> None:
        if self.roster.close(why):
            self.roster.herald.tell("closed")

    def finish_at_exit(self) -> None:
        """Return when the queue has been run, or at once if the pool was to let go of it all."""
        if not self._discarded:
            self.join()

    def _close_if_abandoned(self) -> None:
        if self._pool() is None and self.roster.closed is None:
            self._close(AFTER_SHUTDOWN)

    def _bury(self) -> None:
        for thread in self.roster.threads():
            if thread is not threading.current_thread():  # it may have stood in
                thread.join()
        lifecycle.strike_off(self)

    # What there is to see.

    def workers(self) -> list[WorkerInfo]:
        """A snapshot of the workers."""
        return [worker.info for worker in self.roster.staff()]

    def supervisor(self) -> SupervisorInfo:
        """A snapshot of the supervisor."""
        return self._supervisor.info

    def stats(self) -> PoolStats:
        """A snapshot of what is being done and has been done."""
        roster = self.roster
        supervisor = self._supervisor.info
        counts, waits, runs = roster.ledger.read()
        hands = [worker.job for worker in roster.staff()]
        in_hand = counts["queued"]
        refused = counts["refused"]
        ended = counts["succeeded"] + counts["failed"] + counts["timed_out"]
        return PoolStats(
            state=roster.state,
            queued=in_hand + len(self.queued()),
            running=counts["running"],
            idle=sum(
                job is None or job.verdict in ENDED for job in hands
            ),  # timed_out: it is stuck
            started=counts["running"] + ended,
            succeeded=counts["succeeded"],
            failed=counts["failed"] + refused,
            cancelled=counts["cancelled"],
            timed_out=counts["timed_out"],
            dropped=counts["dropped"],
            refused=refused,
            crashes=supervisor.crashes,
            restarts=supervisor.pool_restarts,
            abandoned=len(roster.abandoned),
            queue_wait=waits,
            run_time=runs,
        )

    def queued(self) -> list[Job[Any]]:
        """A snapshot of the queue, in the order in which the jobs will start."""
        return self.roster.queue.pending()
