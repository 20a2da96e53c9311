"""Deadlines: which jobs may run only for so long, and which of their threads are stuck."""

from collections.abc import Callable, Iterable
from math import inf
from typing import Any

from oddjob.managed import ManagedJob
from oddjob.workforce.worker import Worker

__all__ = ["Deadlines", "Watch"]


class Watch:
    """One run of a job with a timeout.

    Locking: the roster's lock guards ``has_returned`` and ``holds_place``.
    """

    __slots__ = (
        "attempt",
        "deadline",
        "has_returned",
        "holds_place",
        "is_cancelled",
        "job",
        "thread",
        "worker",
    )

    def __init__(
        self,
        job: ManagedJob[Any],
        deadline: float,
        thread: int,
        worker: Worker | None,
    ) -> None:
        self.job = job
        self.attempt = job.attempt
        self.deadline = deadline  # monotonic seconds
        self.thread = thread
        self.worker = worker  # None for a thread that is none of the pool's
        self.has_returned = False
        self.is_cancelled = False  # its coroutine has been asked to stop
        self.holds_place = False  # it is stuck, and its worker could not be replaced


class Deadlines:
    """The runs that are being watched.

    There are never many more than workers, so they are looked through rather than sorted.

    Locking: none of its own; the caller holds the roster's lock.
    """

    def __init__(self) -> None:
        self._running: set[Watch] = set()
        self.stuck: dict[Watch, None] = {}  # in order; their workers have not been replaced yet
        self.next = inf  # when the supervisor means to look, in monotonic seconds

    def add(self, watch: Watch, wake: Callable[[], object]) -> None:
        """Watch a run; the supervisor is woken if it has less time now than it thinks.

        In this order: an exception that strikes in between can only make it wake in vain.
        """
        self._running.add(watch)
        if watch.deadline < self.next:
            wake()
            self.next = watch.deadline

    def remove(self, watch: Watch) -> bool:
        """Be told that a run is over; true if it was stuck, and held up a worker's place."""
        watch.has_returned = True
        self._running.discard(watch)
        self.stuck.pop(watch, None)
        return watch.holds_place

    def due(self, now: float) -> list[Watch]:
        """Those whose time is up, the earliest first, until they are `settled`."""
        due = [watch for watch in self._running if watch.deadline <= now]
        return sorted(due, key=lambda watch: watch.deadline)

    def settled(self, due: Iterable[Watch]) -> None:
        """Take those for stuck from now on that have not returned."""
        for watch in due:
            if watch in self._running:
                self.stuck[watch] = None
                self._running.discard(watch)
        self.next = self._earliest()

    def look_ahead(self) -> float:
        """When to look, in monotonic seconds; a run that is over meanwhile does not put it off."""
        self.next = min(self.next, self._earliest())
        return self.next

    def _earliest(self) -> float:
        return min((watch.deadline for watch in self._running), default=inf)

    def is_short_of_places(self) -> bool:
        """Whether stuck threads hold places of workers."""
        return any(watch.holds_place for watch in list(self.stuck))
