"""Admission: what becomes of jobs for which a bounded queue has no room."""

from collections.abc import Sequence
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, Final

from oddjob.bell import Bell
from oddjob.current import jobs_here, running
from oddjob.errors import JobDropped, QueueFull
from oddjob.fire_and_forget import FireAndForget
from oddjob.job import Job
from oddjob.marks import mark_here
from oddjob.schedule.clock import clock
from oddjob.settings import WhenFull
from oddjob.states import FAILED, PENDING
from oddjob.workforce import inline
from oddjob.workforce.agenda import Agenda
from oddjob.workforce.door import Door, Entrant
from oddjob.workforce.roster import Roster

if TYPE_CHECKING:
    import asyncio

__all__ = ["Admission"]


class Admission:
    """The policies of a pool for a full queue, and running jobs where they are submitted.

    Locking: none of its own.
    """

    __slots__ = ("_patience", "_roster", "_when_full")

    def __init__(self, roster: Roster, when_full: WhenFull, patience: float | None) -> None:
        self._roster: Final = roster
        self._when_full: Final = when_full
        self._patience: Final = patience

    def pass_door(self, jobs: Sequence[Job[Any]]) -> None:
        """Bring jobs into the bounded queue, as the policy has it.

        Raises:
            QueueFull: they were not let in; those that were, have to be withdrawn.
            PoolClosed, PoolBroken: the pool takes no more jobs.
        """
        door = self._door
        policy = self._when_full
        entered = door.enter(jobs, whole=policy == "raise")
        if entered < len(jobs) and policy != "block":
            # A worker that is idle, or not hired yet, is as good as room.
            entered += door.enter(jobs[entered:], self._room, whole=policy == "raise")
        rest = jobs[entered:]
        if rest:
            if policy == "raise":
                raise self._full()
            if policy == "drop_oldest":
                self._push_in(rest)
            elif policy == "caller_runs":
                self._run_or_enter(rest)
            else:
                self._wait(rest)
        self.see_that_it_is_open()

    async def wait_in_loop(self, jobs: Sequence[Job[Any]]) -> None:
        """Bring jobs in; waits in the running event loop if the policy is to wait, or to run them.

        Raises like `pass_door`, and what cancels the waiting task.
        """
        import asyncio

        if self._when_full in ("raise", "drop_oldest"):
            self.pass_door(jobs)
            return
        if self._door.enter(jobs) < len(jobs):
            if self._roster.is_house_here():
                raise self._full()
            loop = asyncio.get_running_loop()
            waiter: asyncio.Future[None] = loop.create_future()

            def wake() -> None:
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(_settle, waiter)

            entrant = self._door.line_up(jobs, wake)
            try:
                if self._roster.is_open:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(waiter, self._patience)
            except BaseException:
                self._door.step_out(entrant)
                raise
            self._leave_line(entrant)
        self.see_that_it_is_open()

    def run_here(self, job: Job[Any]) -> None:
        """Run a job, and its retries, in the calling thread.

        Raises:
            BaseException: what a job raised whose result nobody can read.
        """
        with running(job):
            job.execute()
            while job.state is PENDING:  # it is tried again
                job.execute()
        if job.state is FAILED:
            if isinstance(job, FireAndForget):
                job.result()
            inline.note_failure(job)

    # Inside.

    @property
    def _door(self) -> Door:
        assert self._roster.door is not None  # the queue has a bound  # noqa: S101
        return self._roster.door

    def _room(self) -> int:
        """How many jobs may come in if idle workers, and those not hired yet, count as room."""
        hands = [worker.tally for worker in self._roster.staff()]
        return self._door.limit + self._roster.size - self._agenda.load(hands)

    @property
    def _agenda(self) -> Agenda:
        assert self._roster.queue.agenda is not None  # the queue has a bound  # noqa: S101
        return self._roster.queue.agenda

    def _full(self, detail: str = "") -> QueueFull:
        waiting = f"{self._door.limit} jobs wait"
        return QueueFull(f"the queue of pool {self._roster.label} is full: {waiting}{detail}")

    def see_that_it_is_open(self) -> None:
        """Raise what the pool says to those for whom it is closed."""
        refusal = None if self._roster.is_open else self._roster.refusal()
        if refusal is not None:
            raise refusal

    def _wait(self, jobs: Sequence[Job[Any]]) -> None:
        if self._roster.is_house_here():
            raise self._full("; one of its own threads cannot wait for room")
        bell = Bell()
        deadline = inf if self._patience is None else clock.steady() + self._patience
        entrant = self._door.line_up(jobs, bell.ring)
        try:
            if self._roster.is_open:
                bell.wait(deadline)
        except BaseException:
            self._door.step_out(entrant)
            raise
        self._leave_line(entrant)

    def _leave_line(self, entrant: Entrant) -> None:
        if self._door.step_out(entrant):
            self.see_that_it_is_open()
            raise self._full(f", and none left within {self._patience:g} s")

    def _push_in(self, jobs: Sequence[Job[Any]]) -> None:
        """Make room by dropping those that have waited longest."""
        door = self._door
        for job in jobs:
            while not door.enter([job]):
                oldest = self._agenda.pop_oldest()
                if oldest is not None:  # else a worker was quicker, and there is room
                    self._drop(oldest)

    def _drop(self, job: Job[Any]) -> None:
        job.refuse(
            JobDropped(f"job {job.name} made room for a newer one, in pool {self._roster.label}"),
            "dropped",
        )

    def _run_or_enter(self, jobs: Sequence[Job[Any]]) -> None:
        """Run them here, one by one, unless there is room by then."""
        for number, job in enumerate(jobs):
            if self._door.enter([job]):
                continue
            turn = self._agenda.turn_of(job, jobs_here(), lambda _: None, is_queued=False)
            if turn.job is None:  # a limit stops it: it has to wait as anybody
                self._wait(jobs[number : number + 1])
                continue
            self._run_claimed(job)

    def _run_claimed(self, job: Job[Any]) -> None:
        thread = mark_here()
        try:
            with running(job):
                job.execute(claimed=True)
        except BaseException as error:
            job.rescue(error, thread)
            raise
        if job.done():
            self._agenda.release(job)
            self._roster.ledger.count(job.verdict)
            if isinstance(job.exception(), KeyboardInterrupt):  # meant for this thread
                job.result()


def _settle(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
