"""Inline mode: jobs run at once, in the thread that submits them.

Made for the tests of those who use pools; see `oddjob.testing.inline`.
"""

from typing import Any, Final

from oddjob.fork import ProcessLock
from oddjob.job import Job

__all__ = ["begin", "end", "is_on", "note_failure", "note_seen"]


class _Inline(ProcessLock):
    """Whether it is on, and what has failed that nobody has looked at.

    Locking: ``lock`` guards both fields; nothing is called while it is held.
    """

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0
        self.unseen: list[dict[Job[Any], None]] = []


_inline: Final = _Inline()


def is_on() -> bool:
    """Whether jobs run where they are submitted."""
    return _inline.depth > 0


def begin() -> None:
    """Run jobs where they are submitted, from now on."""
    with _inline.lock:
        _inline.depth += 1
        _inline.unseen.append({})


def end() -> list[Job[Any]]:
    """Do so no longer; returns what has failed since then without anybody looking at it."""
    with _inline.lock:
        _inline.depth -= 1
        return list(_inline.unseen.pop())


def note_failure(job: Job[Any]) -> None:
    """Be told that a job has failed."""
    with _inline.lock:
        if _inline.unseen:
            _inline.unseen[-1][job] = None


def note_seen(job: Job[Any]) -> None:
    """Be told that somebody has looked at how a job ended."""
    with _inline.lock:
        for jobs in _inline.unseen:
            jobs.pop(job, None)
