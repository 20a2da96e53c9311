"""KeyLines: which job of a key may start.

At most ``key_limit`` jobs of a key run at once, and they start in the order of arrival. So of those
that wait, one at a time is *startable*; the others stand behind it in the *line* of the key.

Most keys have one job at a time, waiting or running, which has the key *for itself*: the index then
holds that job alone. A `_Line` is made when a second job comes. Entries may be stale, as in
`ReadyOrder`.

Locking: every method needs the queue's lock.
"""

from collections import deque
from collections.abc import Container
from typing import Any, Final

from oddjob.keys import Key
from oddjob.runtime.job import Job
from oddjob.runtime.ready_order import ReadyOrder


class _Line:
    """The jobs of one key: how many hold a place, which may start next, and those behind it."""

    __slots__ = ("behind", "head", "running")

    def __init__(self, running: int, head: Job[Any] | None) -> None:
        self.running: int = running  # number of jobs of this key that hold a place
        self.head: Job[Any] | None = head  # the one startable job, which is in `ready`
        self.behind: deque[Job[Any]] = deque()


class KeyLines:
    """The lines of all keys in use: ``by_key[key]`` is the one job of a key, or its line.

    To save calls, `LimitedQueue` handles a job that has its key for itself by accessing `by_key`
    directly: `_sort_in` adds the entry (as `add` does), `_start_next` leaves it as it is (as
    `start` does), and `_release` deletes it.

    Args:
        ready: receives the jobs that become startable.
        waiting: the jobs that wait. A job behind another one that is not among them is stale.
        running: the jobs that hold a place. A serial job that is retried may be in both.
    """

    __slots__ = ("_ready", "_running", "_waiting", "by_key")

    def __init__(
        self, ready: ReadyOrder, waiting: Container[Job[Any]], running: Container[Job[Any]]
    ) -> None:
        self._ready: Final = ready
        self._waiting: Final = waiting
        self._running: Final = running
        self.by_key: Final[dict[Key, Job[Any] | _Line]] = {}

    def __len__(self) -> int:
        return len(self.by_key)

    def clear(self) -> None:
        """Remove all entries."""
        self.by_key.clear()

    def add(self, job: Job[Any]) -> bool:
        """Add a job at the end of its line; return whether it is startable."""
        line = self.by_key.setdefault(job._key, job)
        return line is job or self.add_behind(job, line)

    def add_behind(self, job: Job[Any], line: "Job[Any] | _Line") -> bool:
        """Add a job at the end of a line, or behind the one job that has had the key for itself.

        Returns whether the job is startable.
        """
        if not isinstance(line, _Line):
            line = self._make_line(line)
        if line.head is None and not line.behind and line.running < job._policy.key_limit:
            line.head = job
            return True
        line.behind.append(job)
        return False

    def restore_running(self, job: Job[Any]) -> None:
        """Count a job that holds a place of its key; for a rebuild, before others are added."""
        line = self.by_key.setdefault(job._key, _Line(0, None))
        if isinstance(line, _Line):
            line.running += 1

    def _make_line(self, alone: Job[Any]) -> _Line:
        is_waiting = alone in self._waiting and alone not in self._running
        line = self.by_key[alone._key] = _Line(0, alone) if is_waiting else _Line(1, None)
        return line

    def start(self, job: Job[Any]) -> None:
        """Count a startable job as running, and make the next one startable."""
        line = self.by_key[job._key]
        if not isinstance(line, _Line) or line.head is not job:
            return  # it has the key for itself, or it is serial and has kept its place
        line.head = None
        line.running += 1
        if line.behind:
            self._advance(job._key, line)

    def start_out_of_turn(self, job: Job[Any]) -> None:
        """Count a job that `first_of` has returned as running, whether it was startable or not."""
        line = self.by_key[job._key]
        if isinstance(line, _Line) and line.head is not job:
            line.behind.remove(job)  # it may be retried, and its old entry would be valid again
            line.running += 1
        else:
            self.start(job)

    def release(self, job: Job[Any]) -> None:
        """Release the place of a job in a line, and make the next one startable."""
        line = self.by_key[job._key]
        if isinstance(line, _Line):
            line.running -= 1
            self._advance(job._key, line)

    def withdraw(self, job: Job[Any]) -> None:
        """Remove a waiting job; behind another one, its entry becomes stale."""
        line = self.by_key.get(job._key)
        if line is job:
            del self.by_key[job._key]
        elif isinstance(line, _Line) and line.head is job:
            line.head = None
            self._advance(job._key, line)

    def first_of(self, job: Job[Any], held: int) -> Job[Any] | None:
        """Return the job of this key that must run before `job` can; it may be `job` itself.

        Return None if the limit of the key is reached.

        Args:
            job: a waiting job.
            held: number of running jobs of the key that wait for `job`; their places count as free.
        """
        line = self.by_key[job._key]
        if not isinstance(line, _Line):
            return job
        if line.head is not None:
            return line.head
        first = next(each for each in line.behind if each in self._waiting)  # `job` at the latest
        return first if line.running - held < first._policy.key_limit else None

    def is_startable(self, job: Job[Any]) -> bool:
        """Return whether a waiting job may start, as far as its key is concerned."""
        line = self.by_key.get(job._key)
        return line is job or (isinstance(line, _Line) and line.head is job)

    def waiting_behind(self, job: Job[Any]) -> list[Job[Any]]:
        """Return the jobs of its key that wait for a running job, in their order."""
        line = self.by_key.get(job._key)
        if not isinstance(line, _Line):
            return []
        found = [*(() if line.head is None else (line.head,)), *line.behind]
        return [each for each in found if each is not job and each in self._waiting]

    def _advance(self, key: Key, line: _Line) -> None:
        """Make the next job startable, if none is and the limit allows it; drop stale entries."""
        behind = line.behind
        while behind and line.head is None:
            first = behind[0]
            if first in self._waiting:
                if line.running >= first._policy.key_limit:
                    return
                line.head = first
                self._ready.insert(first)
            behind.popleft()
        if not line.running and line.head is None:
            del self.by_key[key]
