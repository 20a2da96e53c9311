"""Tallies: what the workers have done, counted where nobody else writes.

A worker takes its jobs out of the queue with a number on each, and keeps number and job in one
field, ``turn``. One write so tells both how many it has taken and which one it has in hand; what
became of that one is asked of the job itself. A job that succeeds needs no other count: those are
the turns that are left when all that ended otherwise, and were noted, are taken away. So a
snapshot adds up at any moment, and a job counts as ended as soon as anybody can see that it has.
"""

from _thread import RLock, get_ident
from collections import Counter
from contextlib import suppress
from typing import Any, Final, NamedTuple

from oddjob.job import Job
from oddjob.marks import Mark, mark_here
from oddjob.schedule.clock import clock
from oddjob.stats import Durations
from oddjob.workforce.durations import Histogram
from oddjob.workforce.lanes import Hold

__all__ = ["GROUP", "Ledger", "Tally"]

GROUP: Final = 0.001  # seconds that a group of short jobs takes at most, all but its last
_LAPS: Final = 64  # are kept as they are before they go into the histograms


class Tally:
    """What one worker has done.

    Locking: ``lock`` guards every field but ``turn`` and ``base``, which the worker's thread
    writes by itself (and reads the others, which nobody else writes), ``offered`` and ``hold``,
    which an agenda writes, and ``returned``, which whoever queues the job again does. It is
    reentrant: a destructor may ask for the numbers at any time.
    """

    __slots__ = (
        "_in_place",
        "_laps",
        "_measured",
        "_noted",
        "_others",
        "_runs",
        "_waits",
        "_were_in_place",
        "base",
        "hold",
        "lock",
        "mark",
        "offered",
        "returned",
        "thread",
        "turn",
    )

    def __init__(self) -> None:
        self.lock = RLock()
        self.turn: tuple[int, Job[Any] | None] = (0, None)
        self.offered: Job[Any] | None = None  # by an agenda: the job in hand, or about to be
        self.hold: Hold | None = None  # what limits that job counts against
        self.returned: Job[Any] | None = None  # the job in hand, if it was queued again
        self.base = 0.0  # when the group of jobs began that is being run
        self.thread: int | None = None
        self.mark: Mark | None = None
        self._noted = 0  # the last turn that is counted in _others
        self._others: Counter[str] = Counter()  # turns that did not succeed, by what they did
        self._measured = 0  # how many runs the laps and histograms tell of
        self._laps: list[tuple[int, float, float, float, float]] = []
        self._waits = Histogram()
        self._runs = Histogram()
        # Run while others wait for them: since when, and by which thread.
        self._in_place: dict[Job[Any], tuple[float, Mark]] = {}
        self._were_in_place: Counter[str] = Counter()  # by how they ended

    def note(self, job: Job[Any], *, was_run: bool) -> None:
        """Count the job in hand, which has not, or not simply, succeeded."""
        with self.lock:
            self._others[self._become_of(job) if was_run else "skipped"] += 1
            self._noted = self.turn[0]

    def lap(self, last: float, now: float) -> None:
        """Keep the times of a group of jobs: the last of them began at `last` and ended at `now`.

        All that came before it in the group took no longer than `GROUP` together.
        """
        taken, job = self.turn
        with self.lock:
            number = taken - self._unmeasured(self._others) - self._measured
            if number > 0 and job is not None:
                if job.verdict == "timed_out":  # it has ended before it returned
                    now, last = last, self.base + (last - self.base) * (number - 1) / number
                self._laps.append((number, self.base, last, now, job.queued_at))
                self._measured += number
                if len(self._laps) == _LAPS:
                    self._sort_in(self._waits, self._runs)
                    self._laps.clear()
            self.base = now

    def begin_in_place(self, job: Job[Any]) -> None:
        """Count a job that is to be run while another waits for it."""
        with self.lock:
            self._in_place[job] = clock.monotonic(), mark_here()

    def end_in_place(self, job: Job[Any], *, counts: bool) -> None:
        """Count how it ended, if it was run."""
        now = clock.monotonic()
        with self.lock:
            began, _ = self._in_place.pop(job, (None, None))
            if began is None or not counts:
                return
            self._were_in_place[job.verdict] += 1
            self._runs.add(now - began)
            self._waits.add(began - job.queued_at)

    def read(self, counts: Counter[str], waits: Histogram, runs: Histogram) -> None:
        """Add everything to somebody's sums; the moment is one and the same for all of it."""
        with self.lock:
            taken, job = self.turn
            counts.update(self._were_in_place)
            begun = [job for job, (_, thread) in self._in_place.items() if job.is_run_by(thread)]
            counts.update(job.verdict for job in begun)
            others = self._others.copy()
            if job is not None and self._noted < taken:
                others[self._become_of(job)] += 1
            counts.update(others)
            counts["succeeded"] += taken - others.total()
            waits.merge(self._waits)
            runs.merge(self._runs)
            self._sort_in(waits, runs)
            unmeasured = self._unmeasured(others) + others["running"] + others["queued"]
            number = taken - unmeasured - self._measured
            if number > 0 and job is not None:
                began = self.base
                waits.add(began - job.queued_at, number)
                runs.add(clock.monotonic() - began if number == 1 else GROUP / number, number)

    @staticmethod
    def _unmeasured(others: Counter[str]) -> int:
        """How many turns say nothing of how long a call takes."""
        return others["skipped"] + others["timed_out"]

    def _become_of(self, job: Job[Any]) -> str:
        """What became of a job in hand; ``skipped`` if this worker never runs it."""
        if job is self.returned:
            return "retried"
        if self.mark is not None and job.is_run_elsewhere(self.mark):
            return "skipped"
        verdict = job.verdict
        return "skipped" if verdict == "cancelled" else verdict

    def _sort_in(self, waits: Histogram, runs: Histogram) -> None:
        for number, base, last, now, queued_at in self._laps:
            waits.add(last - queued_at, number)
            runs.add(now - last)
            if number > 1:
                runs.add((last - base) / (number - 1), number - 1)


class _Former(NamedTuple):
    """The sums of those workers that have gone, `latest` being the last of them."""

    counts: Counter[str]
    waits: Histogram
    runs: Histogram
    latest: Tally | None


class Ledger:
    """What a pool's workers have done, those that are there and those that have gone.

    Locking: none, so that it can be written to under any lock, and from a destructor. Lists and
    dicts keep themselves whole; each thread counts in cells of its own; `close` is called by the
    supervisor's thread alone. A worker is taken off the list after its sums are among those of the
    former ones, and until then a reader finds it in both places: as the `latest`, which it skips.
    """

    def __init__(self) -> None:
        self._tallies: list[Tally] = []
        self._former = _Former(Counter(), Histogram(), Histogram(), None)
        self._cells: dict[tuple[int, str], int] = {}

    def open(self) -> Tally:
        """A tally for a new worker."""
        tally = Tally()
        self._tallies.append(tally)
        return tally

    def tallies(self) -> list[Tally]:
        """Those of the workers that are there."""
        return self._tallies.copy()

    def discard(self, tally: Tally) -> None:
        """Forget a worker that has done nothing."""
        with suppress(ValueError):
            self._tallies.remove(tally)

    def close(self, tally: Tally) -> None:
        """Keep the sums of a worker that has gone, and whose last job has ended."""
        if tally in self._tallies and tally is not self._former.latest:
            counts, waits, runs = self._former.counts.copy(), Histogram(), Histogram()
            waits.merge(self._former.waits)
            runs.merge(self._former.runs)
            tally.read(counts, waits, runs)
            self._former = _Former(counts, waits, runs, tally)
        self.discard(tally)

    def count(self, what: str) -> None:
        """Count what befell a job outside of any worker's hands."""
        cell = (get_ident(), what)
        self._cells.setdefault(cell, 0)
        self._cells[cell] += 1  # no call, and so no interruption, between reading and writing

    def read(self) -> tuple[Counter[str], Durations, Durations]:
        """What there is of everything, the waits in the queue, and the runs."""
        former, tallies = self._former, self._tallies.copy()
        while former is not self._former:
            former, tallies = self._former, self._tallies.copy()
        counts, waits, runs = former.counts.copy(), Histogram(), Histogram()
        waits.merge(former.waits)
        runs.merge(former.runs)
        for tally in tallies:
            if tally is not former.latest:
                tally.read(counts, waits, runs)
        for (_, what), number in list(self._cells.items()):
            counts[what] += number
        return counts, waits.summary(), runs.summary()
