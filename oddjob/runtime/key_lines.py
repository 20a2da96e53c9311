"""KeyLines: which job of a key may start.

At most ``key_limit`` jobs of a key run at once, and they start in the order of arrival. So of those
that wait, one at a time is *startable*; the others stand behind it in the *line* of the key.

Most keys have one job at a time, which has the key *for itself*, waiting or running: that job is
all there is to such a key. A `_Line` is made when a second one comes. Entries may be stale, as in
`ReadyOrder`. Locking: that of the queue.
"""

from collections import deque
from collections.abc import Container
from typing import Any, Final

from oddjob.keys import Key
from oddjob.runtime.job import Job
from oddjob.runtime.ready_order import ReadyOrder


class _Line:
    """The jobs of one key."""

    __slots__ = ("behind", "head", "running")

    def __init__(self, running: int, head: Job[Any] | None) -> None:
        self.running: int = running  # have started and count
        self.head: Job[Any] | None = head  # may start
        self.behind: deque[Job[Any]] = deque()


class KeyLines:
    """The lines of all keys in use: ``by_key[key]`` is the one job of a key, or its line.

    For the sake of speed, the queue handles a job that has its key for itself without a call: it
    adds the entry in `by_key`, and deletes it when the job has ended.

    Args:
        ready: takes the jobs that become startable.
        waiting: the jobs that wait; any other one in a line is stale.
        running: the jobs that count. A serial one that is retried may be in both.
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
        """Forget all entries."""
        self.by_key.clear()

    def add(self, job: Job[Any]) -> bool:
        """Add a job at the end of its line; return whether it may start."""
        line = self.by_key.setdefault(job._key, job)
        return line is job or self.enter(job, line)

    def enter(self, job: Job[Any], line: "Job[Any] | _Line") -> bool:
        """Add a job at the end of a line, or behind the one job that has had the key for itself."""
        if not isinstance(line, _Line):
            line = self._make_line(line)
        if line.head is None and not line.behind and line.running < job._policy.key_limit:
            line.head = job
            return True
        line.behind.append(job)
        return False

    def add_running(self, job: Job[Any]) -> None:
        """Count a job that holds a place of its key; for a rebuild, before others are added."""
        line = self.by_key.setdefault(job._key, _Line(0, None))
        if isinstance(line, _Line):
            line.running += 1

    def _make_line(self, alone: Job[Any]) -> _Line:
        is_waiting = alone in self._waiting and alone not in self._running
        line = self.by_key[alone._key] = _Line(0, alone) if is_waiting else _Line(1, None)
        return line

    def start(self, job: Job[Any]) -> None:
        """Count a startable job as running, and let another one be startable."""
        line = self.by_key[job._key]
        if not isinstance(line, _Line) or line.head is not job:
            return  # it has the key for itself, or has kept its turn
        line.head = None
        line.running = running = line.running + 1
        behind = line.behind
        # (If the first one is stale, the next job that leaves has `_advance` look again.)
        if behind and running < behind[0]._policy.key_limit:
            self._advance(job._key, line)

    def start_claimed(self, job: Job[Any]) -> None:
        """Count a job as running that `first_of` has returned, whether it was startable or not."""
        line = self.by_key[job._key]
        if isinstance(line, _Line) and line.head is not job:
            line.behind.remove(job)  # it may come back
            line.running += 1
        else:
            self.start(job)

    def leave(self, job: Job[Any]) -> None:
        """Count a job of a line no longer as running, and let the next one be startable."""
        line = self.by_key[job._key]
        if isinstance(line, _Line):
            line.running -= 1
            self._advance(job._key, line)

    def cancel(self, job: Job[Any]) -> None:
        """Forget a waiting job."""
        line = self.by_key.get(job._key)
        if line is job:
            del self.by_key[job._key]
        elif isinstance(line, _Line) and line.head is job:
            line.head = None
            self._advance(job._key, line)

    def first_of(self, job: Job[Any], held: int) -> Job[Any] | None:
        """Return the job that has to run first so that a waiting job can; None: not now.

        `held` running jobs of the key are no obstacle, as they wait for this one.
        """
        line = self.by_key[job._key]
        if not isinstance(line, _Line):
            return job
        if line.head is not None:
            return line.head
        first = next(each for each in line.behind if each in self._waiting)
        return first if line.running - held < first._policy.key_limit else None

    def is_startable(self, job: Job[Any]) -> bool:
        """Return whether a waiting job may start, as far as its key is concerned."""
        line = self.by_key.get(job._key)
        return line is job or (isinstance(line, _Line) and line.head is job)

    def waiting_behind(self, job: Job[Any]) -> list[Job[Any]]:
        """Return the jobs that wait for a running one, in their order."""
        line = self.by_key.get(job._key)
        if not isinstance(line, _Line):
            return []
        found = [*(() if line.head is None else (line.head,)), *line.behind]
        return [each for each in found if each is not job and each in self._waiting]

    def _advance(self, key: Key, line: _Line) -> None:
        """Make the next job startable, if there is none and the limit allows it."""
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
