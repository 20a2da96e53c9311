"""Peers of a store in memory, which no other process can use."""

import threading
from typing import Final

from oddjob.compat import override
from oddjob.durable.peers import Mark, Marked, Peers


class LocalPeers(Peers):
    """This process alone: it watches no peers, and no peer could read its begun marks."""

    def __init__(self) -> None:
        self._turn: Final = threading.Lock()
        self._wakeups: Final = threading.Semaphore(0)
        self._process: int | None = None

    @property
    @override
    def place(self) -> str:
        return ""

    @override
    def lock(self) -> None:
        self._turn.acquire()

    @override
    def unlock(self) -> None:
        self._turn.release()

    @override
    def enter(self, process: int) -> None:
        self._process = process

    @override
    def leave(self) -> None:
        self._process = None

    @override
    def is_dead(self, process: int) -> bool:
        return process != self._process

    @override
    def watched(self) -> set[int]:
        return set()

    @override
    def wake(self) -> None:
        self._wakeups.release()

    @override
    def wait(self, timeout: float | None) -> list[int]:
        self._wakeups.acquire(timeout=timeout)
        while self._wakeups.acquire(blocking=False):
            pass  # one turn answers all wake-ups
        return []

    @override
    def marks_of(self, process: int) -> set[Mark]:
        return set()

    @override
    def watch(self, process: int, pid: int, place: str) -> None: ...

    @override
    def unwatch(self, process: int) -> None: ...

    @override
    def send(self, process: int) -> None: ...

    @override
    def mark(self, place: int, claim: Marked) -> None: ...

    @override
    def unmark(self, place: int) -> None: ...

    @override
    def close(self) -> None: ...
