"""Service: what a workforce does for the jobs that it has taken, while they run."""

import logging
import threading
import weakref
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextvars import Context
from functools import partial
from math import inf
from typing import Any

from oddjob import timer
from oddjob.bell import Bell
from oddjob.current import jobs_here, running
from oddjob.errors import PredecessorFailed
from oddjob.job import Job
from oddjob.log import say
from oddjob.managed import ManagedJob
from oddjob.monitor import Prompt
from oddjob.schedule.clock import clock
from oddjob.settings import PoolOptions
from oddjob.workforce import inline
from oddjob.workforce.deadlines import Watch
from oddjob.workforce.loop import JobLoop
from oddjob.workforce.roster import Roster
from oddjob.workforce.tally import Tally
from oddjob.workforce.turns import Turn
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
        return job.queued_at <= self._born or timer.has_forgotten(job)

    def when_queued(self, job: Job[Any], act: Callable[[], object]) -> bool:
        """Have something called when a job's time has come; false if it need not wait for that."""
        return timer.when_queued(job, act)

    @property
    def label(self) -> str:
        """What the pool is called in the log."""
        return self.roster.label

    def count(self, what: str) -> None:
        """Count, for the statistics, what befell a job that no worker had."""
        self.roster.ledger.count(what)

    def watch(self, job: ManagedJob[Any], deadline: float) -> Watch | None:
        """Look after a job with a timeout, which the calling thread is about to run."""
        roster = self.roster
        if inline.is_on() and roster.worker_here() is None:
            return None
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

    def note_retry(self, job: Job[Any], error: BaseException) -> None:
        """Be told that a call has raised something, and that the job is tried again."""
        self.roster.herald.tell("retry", job=job, error=error)

    def note_loss(self, job: Job[Any]) -> None:
        """Be told that a queued job has been cancelled."""
        if job.queued_at == inf:
            timer.forget(job)
            return
        roster = self.roster
        if roster.queue.agenda is not None:
            roster.queue.agenda.note_cancelled(job)
            self.release(job)  # it may have kept its turn, or have its key for itself
            if roster.closed is not None and not roster.queue.has_jobs():
                roster.queue.wake_all()
                roster.letters.put(None)

    def note_seen(self, job: Job[Any]) -> None:
        """Be told that somebody has looked at a failure."""
        inline.note_seen(job)

    def in_hand(self) -> list[Job[Any]]:
        """The jobs that workers have begun with, and that have not ended."""
        roster = self.roster
        with roster.lock:
            workers = [*roster.staff(), *roster.abandoned]
        return [job for worker in workers for job in worker.jobs() if not job.done()]

    def next_alarm(self) -> float:
        """The next monotonic time for which something in the queue waits."""
        return self.roster.queue.alarm

    def ring_alarm(self) -> None:
        """See to what waits for this time."""
        self.roster.queue.ring_alarm()

    def busy_with(self) -> list[object]:
        """Jobs that run, or that can start now, and workers that are about to look for one."""
        roster = self.roster
        ready = roster.queue.ready()
        parked = list(roster.queue.idle)
        return [
            *[worker.job or worker for worker in roster.staff() if worker.ring not in parked],
            *self.in_hand(),
            *ready,
        ]

    def put_off(self, job: ManagedJob[Any], delay: float) -> bool:
        """Queue a job again that has failed; false if it has ended meanwhile."""
        if inline.is_on():
            return job.reopen()  # whoever runs it will see
        if self.roster.broken is not None:
            return False
        agenda = self.roster.organise()
        worker = self.roster.worker_of(job)
        if worker is not None:
            worker.tally.returned = job
        has_it = agenda.put_off(job, clock.monotonic() + delay)
        if self.roster.door is not None:
            self.roster.door.measure_again()
        if worker is not None and not has_it:
            worker.tally.returned = None
        if self.roster.broken is not None:  # since then
            self.roster.refuse_all()
        return has_it

    def release(self, job: Job[Any]) -> None:
        """Count a job no longer against limits."""
        agenda = self.roster.queue.agenda
        if agenda is not None:
            agenda.release(job)

    def forsake_line(self, job: Job[Any], since: float) -> None:
        """End those that waited for a job, which has failed at that time, to succeed."""
        agenda = self.roster.queue.agenda
        if agenda is not None:
            for each in agenda.line_behind(job):
                if each.queued_at >= since:
                    continue  # whoever queued it may have known
                error = PredecessorFailed(f"job {job.name}, before it in line {job.key!r}, failed")
                error.__cause__ = job.exception()
                each.refuse(error)

    def interrupt(self, job: Job[Any]) -> None:
        """Cancel the coroutine of a running job, if it is one."""
        worker = self.roster.worker_of(job)
        loop = None if worker is None else worker.loop_of(job)
        if loop is not None:
            loop.cancel(job)

    def run_in_place(self, job: Job[Any], timeout: float | None, *, stays: bool) -> bool:
        """Run a queued job in the calling thread while that runs another, which waits for it.

        Only a worker does so, and only while the job is queued; else this returns false. Where a
        limit stops the job it waits, at most `timeout` seconds, and runs others of the job's key
        that have to go first. With `stays` it waits, too, while another thread runs the job.
        """
        here = self.roster.loop_here()
        if here is None:
            return False
        deadline = inf if timeout is None else clock.steady() + timeout
        if job.queued_at == inf and not self._wait_for_time_of(job, deadline):
            return False
        agenda = self.roster.queue.agenda
        if agenda is None:
            return self._run_in_place(job, here)
        bell = Bell()
        job.add_done_callback(Prompt(bell.ring_for))
        agenda.stand_by(bell.ring)
        try:
            while not job.done():
                depth = len(here.in_place)
                turn = Turn()
                door = self.roster.door
                is_queued = door is None or not door.is_in_line(job)
                try:
                    turn = agenda.turn_of(
                        job, jobs_here(), begin=here.in_place.append, is_queued=is_queued
                    )
                    if turn.job is not None:
                        here.tally.begin_in_place(turn.job)
                        with running(turn.job):
                            turn.job.execute(claimed=True)
                finally:
                    crash = RuntimeError(f"{job.name} was interrupted while it ran in place")
                    here.clear_places(depth, crash)
                if turn.job is None:
                    if turn.look_again_at is None and not stays:
                        return False
                    bell.wait(min(deadline, clock.steady_time_of(turn.look_again_at or inf)))
                    if deadline <= clock.steady():
                        return False
        finally:
            agenda.stand_by_no_more(bell.ring)
        return True

    def _wait_for_time_of(self, job: Job[Any], deadline: float) -> bool:
        bell = Bell()
        if not timer.when_queued(job, bell.ring) or bell.wait(deadline):
            return True
        timer.when_queued_no_more(job, bell.ring)
        return False

    def _run_in_place(self, job: Job[Any], here: JobLoop) -> bool:
        """Do so where nothing can stop the job but that somebody else has it.

        Whatever interrupts it (the stack may be as good as full), the job comes to its end: if not
        here, then in a place further up, or when the worker has nothing else to do.
        """
        depth = len(here.in_place)
        crash: BaseException = RuntimeError(f"{job.name} was interrupted while it ran in place")
        has_it = False
        try:
            here.begin_in_place(job)  # first: once it is claimed, only this thread can end it
            has_it = job.claim_queued()
            if has_it:
                self.roster.queue.take_back(job)
                with running(job):
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
            args=(outcome, call, self.roster.worker_here(), jobs_here()),
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
        waiting: Sequence[Job[Any]],
    ) -> None:
        asides = [] if worker is None else worker.asides
        loop = JobLoop(Tally() if worker is None else worker.tally)
        try:
            self.roster.lend(loop, worker, waiting)
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
