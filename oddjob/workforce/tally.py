"""Tallies: what the workers have done, counted where nobody else writes.

A worker takes its jobs out of the queue with a number on each, and keeps number and job in one
field, ``turn``. One write so tells both how many it has taken and which one it has in hand; what
became of that one is asked of the job itself. A job that succeeds needs no other count: those are
the turns that are left when all that ended otherwise, and were noted, are taken away. So a
snapshot adds up at any moment, and a job counts as ended as soon as anybody can see that it has.
"""

from _thread import RLock
from collections import Counter
from time import monotonic
from typing import Any, Final

from oddjob.job import Job
from oddjob.stats import Durations
from oddjob.workforce.durations import Histogram

__all__ = ["GROUP", "Ledger", "Tally"]

GROUP: Final = 0.001  # seconds that a group of short jobs takes at most, all but its last
_LAPS: Final = 64  # are kept as they are before they go into the histograms


class Tally:
    """What one worker has done.

    Locking: ``lock`` guards every field but ``turn`` and ``base``, which the worker's thread
    writes by itself (and reads the others, which nobody else writes). It is reentrant: a destructor
    may ask for the numbers at any time.
    """

    __slots__ = ("_in_place", "_laps", "_measured", "_noted", "_others", "_runs", "_waits",
                 "_were_in_place", "base", "lock", "thread", "turn")  # fmt: skip

    def __init__(self) -> None:
        self.lock = RLock()
        self.turn: tuple[int, Job[Any] | None] = (0, None)
        self.base = 0.0  # when the group of jobs began that is being run
        self.thread: int | None = None
        self._noted = 0  # the last turn that is counted in _others
        self._others: Counter[str] = Counter()  # turns that did not succeed, by what they did
        self._measured = 0  # how many runs the laps and histograms tell of
        self._laps: list[tuple[int, float, float, float, float]] = []
        self._waits = Histogram()
        self._runs = Histogram()
        self._in_place: dict[Job[Any], float] = {}  # run while others wait for them, since then
        self._were_in_place: Counter[str] = Counter()  # by how they ended

    def note(self, job: Job[Any]) -> None:
        """Count the job in hand, which has not, or not simply, succeeded."""
        with self.lock:
            self._others[self._become_of(job)] += 1
            self._noted = self.turn[0]

    def lap(self, last: float, now: float) -> None:
        """Keep the times of a group of jobs: the last of them began at `last` and ended at `now`.

        All that came before it in the group took no longer than `GROUP` together.
        """
        taken, job = self.turn
        with self.lock:
            number = taken - self._others["skipped"] - self._measured
            if number > 0 and job is not None:
                self._laps.append((number, self.base, last, now, job.queued_at))
                self._measured += number
                if len(self._laps) == _LAPS:
                    self._sort_in(self._waits, self._runs)
                    self._laps.clear()
            self.base = now

    def begin_in_place(self, job: Job[Any]) -> None:
        """Count a job that is run while another waits for it."""
        with self.lock:
            self._in_place[job] = monotonic()

    def end_in_place(self, job: Job[Any]) -> None:
        """Count how it ended."""
        now = monotonic()
        with self.lock:
            began = self._in_place.pop(job, now)
            self._were_in_place[job.verdict] += 1
            self._runs.add(now - began)
            self._waits.add(began - job.queued_at)

    def read(self, counts: Counter[str], waits: Histogram, runs: Histogram) -> None:
        """Add everything to somebody's sums; the moment is one and the same for all of it."""
        with self.lock:
            taken, job = self.turn
            counts.update(self._were_in_place)
            counts.update(each.verdict for each in self._in_place)
            others = self._others.copy()
            if job is not None and self._noted < taken:
                others[self._become_of(job)] += 1
            counts.update(others)
            counts["succeeded"] += taken - others.total()
            waits.merge(self._waits)
            runs.merge(self._runs)
            self._sort_in(waits, runs)
            ended = taken - others["skipped"] - others["running"] - others["queued"]
            number = ended - self._measured
            if number > 0 and job is not None:
                began = self.base
                waits.add(began - job.queued_at, number)
                runs.add(monotonic() - began if number == 1 else GROUP / number, number)

    def _become_of(self, job: Job[Any]) -> str:
        """What became of a job in hand; ``skipped`` if this worker never runs it."""
        if self.thread is not None and job.is_run_elsewhere(self.thread):
            return "skipped"
        verdict = job.verdict
        return "skipped" if verdict == "cancelled" else verdict

    def _sort_in(self, waits: Histogram, runs: Histogram) -> None:
        for number, base, last, now, queued_at in self._laps:
            waits.add(last - queued_at, number)
            runs.add(now - last)
            if number > 1:
                runs.add((last - base) / (number - 1), number - 1)


class Ledger:
    """What a pool's workers have done, those that are there and those that have gone.

    Locking: ``lock`` guards the fields; the tallies' own are taken while it is held. Reentrant, as
    theirs.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self._tallies: list[Tally] = []
        self._counts: Counter[str] = Counter()
        self._waits = Histogram()
        self._runs = Histogram()

    def open(self) -> Tally:
        """A tally for a new worker."""
        tally = Tally()
        with self.lock:
            self._tallies.append(tally)
        return tally

    def close(self, tally: Tally) -> None:
        """Keep the sums of a worker that has gone, and whose last job has ended."""
        with self.lock:
            if tally in self._tallies:
                self._tallies.remove(tally)
                tally.read(self._counts, self._waits, self._runs)

    def count(self, what: str) -> None:
        """Count what befell a job outside of any worker's hands."""
        with self.lock:
            self._counts[what] += 1

    def read(self) -> tuple[Counter[str], Durations, Durations]:
        """What there is of everything, the waits in the queue, and the runs."""
        waits, runs = Histogram(), Histogram()
        with self.lock:
            counts = self._counts.copy()
            waits.merge(self._waits)
            runs.merge(self._runs)
            for tally in self._tallies:
                tally.read(counts, waits, runs)
        return counts, waits.summary(), runs.summary()
