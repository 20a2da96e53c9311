"""FairTurns: the order of jobs whose keys take turns, as the option `fair_by` says.

When a job is queued, it is given its *turn*, a number: the turn of the previous job of its key plus
``1 / weight``. If no job of the key waits, the turn of the latest started job takes the place of
the previous one. Among jobs of equal priority, the lowest turn starts first. (This is self-clocked
fair queueing.)

Guarantees: the jobs of a key keep their order. A key without waiting jobs begins at the latest
start, however many jobs other keys have. Nothing is stored about a key without waiting jobs.

Locking: every method needs the queue's lock.
"""

from typing import Any, Final

from oddjob.keys import Key
from oddjob.runtime.job import Job


class _Level:
    """The waiting jobs of one priority."""

    __slots__ = ("lines", "priority", "virtual_time")

    def __init__(self, priority: int) -> None:
        self.priority: Final = priority
        self.virtual_time = 0.0  # the highest turn of the jobs that have started in turn
        self.lines: dict[Key | None, _Line] = {}


class _Line:
    """The waiting jobs of one key and priority."""

    __slots__ = ("key", "last", "level", "step", "waiting")

    def __init__(self, level: _Level, key: Key | None, weight: float) -> None:
        self.level: Final = level
        self.key: Final = key
        self.step: Final = 1.0 / weight
        self.last = 0.0  # the turn of the job that was queued last
        self.waiting = 0  # number of jobs


Place = tuple[float, int, _Line]  # a job's turn, its number (which is unique), its line


class FairTurns:
    """The turns of all keys in a queue. Jobs without a key share one more key, None."""

    __slots__ = ("_levels",)

    def __init__(self) -> None:
        self._levels: Final[dict[int, _Level]] = {}  # by priority

    def give(self, job: Job[Any], number: int) -> Place:
        """Return the place of a job that begins to wait; lower places start first."""
        line = self._line_of(job)
        line.last = turn = max(line.last, line.level.virtual_time) + line.step
        line.waiting += 1
        return turn, number, line

    def leave(self, job: Job[Any], *, is_started: bool) -> None:
        """Remove a job that waits no longer; `is_started`: it has started in turn."""
        turn, _, line = job._number
        level = line.level
        if is_started and turn > level.virtual_time:
            level.virtual_time = turn
        line.waiting -= 1
        if not line.waiting:
            del level.lines[line.key]
            if not level.lines:
                del self._levels[level.priority]

    def recount(self, waiting: list[Job[Any]]) -> None:
        """Make all lines anew; jobs that were queued before there were turns come first."""
        for level in self._levels.values():
            level.lines.clear()
        for job in waiting:
            place, line = job._number, self._line_of(job)
            turn, number = place[:2] if isinstance(place, tuple) else (0.0, place)
            job._number = (turn, number, line)
            line.last = max(line.last, turn)
            line.waiting += 1
        for priority in [each for each, level in self._levels.items() if not level.lines]:
            del self._levels[priority]

    def _line_of(self, job: Job[Any]) -> _Line:
        policy = job._policy
        priority, key = policy.priority, None if policy.fair_by is None else job._fair_key
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = _Level(priority)
        line = level.lines.get(key)
        if line is None:
            weight = policy.fair_weights.get(key, 1.0)
            line = level.lines[key] = _Line(level, key, weight)
        return line
