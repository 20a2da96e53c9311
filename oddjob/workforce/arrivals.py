"""Arrivals: jobs of timers, which come to a pool when nobody is there who could wait, or run them.

What does not get in ends with the error that says why. That is done in a thread of its own, as it
runs callbacks, which may take any time: the thread that brings the jobs is everybody's.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from oddjob.aside import in_a_thread_of_its_own
from oddjob.errors import PoolClosed
from oddjob.job import Job
from oddjob.schedule.clock import clock
from oddjob.schedule.scheduler import Alarm, scheduler
from oddjob.workforce import inline
from oddjob.workforce.admission import Admission
from oddjob.workforce.door import Entrant

__all__ = ["Arrivals"]


class Arrivals(Admission):
    """An admission that knows what to do when nobody waits.

    Locking: none of its own.
    """

    __slots__ = ()

    def enter_unattended(
        self, jobs: Sequence[Job[Any]], note: Callable[[Exception], object]
    ) -> Exception | None:
        """Bring jobs into the bounded queue, as far as possible as the policy has it.

        Where others would wait for room, or run the job themselves, they line up. Returns why some
        of them have ended instead, as the pool does not take them any more; or tells `note` later.

        Raises:
            QueueFull: the policy is to raise, and there is no room; none of them is in.
        """
        door = self._door
        policy = self._when_full
        entered = door.enter(jobs, whole=policy == "raise")
        if entered < len(jobs) and policy in ("raise", "drop_oldest"):
            entered += door.enter(jobs[entered:], self._room, whole=policy == "raise")
        rest = jobs[entered:]
        if rest and policy == "raise":
            raise self._full()
        if rest and policy == "drop_oldest":
            in_a_thread_of_its_own(partial(self._push_in_unattended, rest), self._thread_name)
        elif rest:
            self._line_up(rest, note)
        return self.look_back(jobs[:entered])

    def _push_in_unattended(self, jobs: Sequence[Job[Any]]) -> None:
        try:
            self._push_in(jobs)
        finally:
            self.look_back(jobs)

    def look_back(self, jobs: Sequence[Job[Any]]) -> Exception | None:
        """See whether the pool was closed, or broke, while jobs were put in: who would run them?"""
        refusal = None if self._roster.is_open else self._roster.refusal()
        if refusal is not None:
            self.end([job for job in jobs if self._roster.queue.take_back(job)], refusal)
        return refusal

    def run_unattended(self, jobs: Sequence[Job[Any]]) -> None:
        """Run jobs here and now; what they raise is kept for the end of the inline block."""
        if scheduler.is_here():  # which is everybody's
            in_a_thread_of_its_own(partial(self._run_all, jobs), self._thread_name)
        else:
            self._run_all(jobs)

    def _run_all(self, jobs: Sequence[Job[Any]]) -> None:
        for job in jobs:
            try:
                self.run_here(job)
            except BaseException:  # of a job whose result nobody can read
                inline.note_failure(job)

    def end(self, jobs: Sequence[Job[Any]], error: Exception) -> None:
        """End jobs that were not let in, elsewhere."""
        in_a_thread_of_its_own(partial(_end, jobs, error), self._thread_name)

    @property
    def _thread_name(self) -> str:
        return f"{self._roster.label}-callbacks"

    def _line_up(self, jobs: Sequence[Job[Any]], note: Callable[[Exception], object]) -> None:
        alarm: Alarm | None = None
        entrants: list[Entrant] = []

        def look() -> None:
            """See whether they are in, or were turned away."""
            if entrants and (entrants[0].is_in or entrants[0].is_turned_away):
                if alarm is not None:
                    scheduler.switch_off(alarm)
                self._leave(entrants[0], note)

        def wake() -> None:  # the door's lock is held
            try:
                scheduler.set(Alarm(look, clock.monotonic()))
            except Exception:  # no thread to be had
                look()

        entrants.append(self._door.line_up(jobs, wake))
        if self._patience is not None:
            alarm = Alarm(
                partial(self._leave, entrants[0], note), clock.monotonic() + self._patience
            )
            scheduler.set(alarm)
        if not self._roster.is_open:
            self._leave(entrants[0], note)
        look()

    def _leave(self, entrant: Entrant, note: Callable[[Exception], object]) -> None:
        if self._door.step_out(entrant):
            error = self._roster.refusal() or self._full()
            left = list(entrant.jobs)
            if left:
                note(error)
                self.end(left, error)


def _end(jobs: Sequence[Job[Any]], error: Exception) -> None:
    for job in jobs:
        if not isinstance(error, PoolClosed):
            job.refuse(error)
        elif job.call_off():
            job.follow_up()
