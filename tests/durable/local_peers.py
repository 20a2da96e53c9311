"""Peers within one process: a store has several members in one test."""

import threading
from contextlib import suppress
from typing import Final

from oddjob.compat import override
from oddjob.durable.peers import Mark, Peers, this_place
from oddjob.durable.record import Claim


class LocalHub:
    """What the members of a store in one process share.

    Thread safety: ``turn`` is the writer's turn, and guards nothing here; ``members`` only grows.
    """

    def __init__(self) -> None:
        self.turn: Final = threading.Lock()
        self.members: Final[dict[int, LocalPeers]] = {}


class LocalPeers(Peers):
    """One member. To the others it dies with `leave`, unless the store has unregistered it."""

    def __init__(self, hub: LocalHub | None = None) -> None:
        self._hub: Final = hub or LocalHub()
        self._process: int | None = None
        self._watched: Final[set[int]] = set()
        self._marks: Final[dict[int, Mark]] = {}
        self._wakeups: Final = threading.Semaphore(0)

    @property
    @override
    def place(self) -> str:
        return this_place()

    @override
    def lock(self) -> None:
        self._hub.turn.acquire()

    @override
    def unlock(self) -> None:
        self._hub.turn.release()

    @override
    def enter(self, process: int) -> None:
        self._marks.clear()
        self._process = process
        self._hub.members[process] = self

    @override
    def leave(self) -> None:
        self._process = None
        for member in list(self._hub.members.values()):
            member.wake()

    @override
    def is_dead(self, process: int) -> bool:
        member = self._hub.members.get(process)
        return member is None or member._process != process

    @override
    def watch(self, process: int, pid: int, place: str) -> None:
        self._watched.add(process)

    @override
    def unwatch(self, process: int) -> None:
        self._watched.discard(process)

    @override
    def watched(self) -> set[int]:
        return set(self._watched)

    @override
    def send(self, process: int) -> None:
        if not self.is_dead(process):
            self._hub.members[process].wake()

    @override
    def wake(self) -> None:
        self._wakeups.release()

    @override
    def wait(self, timeout: float | None) -> list[int]:
        self._wakeups.acquire(timeout=timeout)
        self.take_wakeups()
        return [each for each in self._watched if self.is_dead(each)]

    def take_wakeups(self) -> int:
        """Return how many wake-ups have come since, without waiting."""
        taken = 0
        while self._wakeups.acquire(blocking=False):
            taken += 1
        return taken

    @override
    def mark(self, place: int, claim: Claim) -> None:
        self._marks[place] = (claim.id, claim.token)

    @override
    def unmark(self, place: int) -> None:
        self._marks.pop(place, None)

    @override
    def marks_of(self, process: int) -> set[Mark]:
        member = self._hub.members.get(process)
        return set() if member is None else set(member._marks.values())

    @override
    def close(self) -> None:
        with suppress(RuntimeError):
            self.leave()
