"""Progress: the progress that running jobs report, on its way to the store.

Guarantees: the latest progress of each job is stored. However often jobs report, that takes at most
one commit in `_INTERVAL` seconds, for all jobs of the process.

Thread safety: any thread may call `put` and `take_last`, each of which is one operation of a dict;
the rest is for the store thread.
"""

import json
from math import inf
from typing import Any, Final

from oddjob.durable.record import Claim, State, Update
from oddjob.runtime.job_state import Progress
from oddjob.schedule.clock import clock

_INTERVAL: Final = 0.2  # seconds
_PLAIN: Final = (int, float, type(None))  # JSON has these as they are
_TEXT: Final = (str, type(None))


class LatestProgress:
    """The progress of running jobs that is not stored yet."""

    def __init__(self) -> None:
        self._latest: Final[dict[Any, tuple[Claim, Progress]]] = {}  # by job
        self._next = -inf  # steady seconds: when progress may be stored again

    def put(self, claim: Claim, progress: Progress) -> None:
        """Queue the progress of a job, in place of what it has reported before.

        Raises:
            TypeError, ValueError: `done` or `total` is not a number.
        """
        done, total, note = progress
        if not (isinstance(done, _PLAIN) and isinstance(total, _PLAIN) and isinstance(note, _TEXT)):
            progress = Progress(
                float(done),
                None if total is None else float(total),
                None if note is None else str(note),
            )
        self._latest[claim.id] = claim, progress

    def put_back(self, update: Update) -> None:
        """Queue progress again that could not be stored, unless its job has reported meanwhile."""
        progress = decode_progress(update.outcome)
        if progress is not None:
            self._latest.setdefault(update.claim.id, (update.claim, progress))

    def take_last(self, claim: Claim) -> list[Update]:
        """Take the progress of a job that ends now: a list of at most one update."""
        _, progress = self._latest.pop(claim.id, (claim, None))
        return [] if progress is None else [_update_of(claim, progress)]

    def seconds_left(self) -> float:
        """Return the seconds until `take` returns updates; infinity if none are queued."""
        return max(0.0, self._next - clock.steady()) if self._latest else inf

    def take(self) -> list[Update]:
        """Take all progress, unless the latest `take` was less than `_INTERVAL` ago."""
        if self.seconds_left() > 0.0:
            return []
        self._next = clock.steady() + _INTERVAL
        updates = []
        for _ in range(len(self._latest)):
            try:
                _, (claim, progress) = self._latest.popitem()
            except KeyError:  # `take_last` has taken it
                break
            updates.append(_update_of(claim, progress))
        return updates


def _update_of(claim: Claim, progress: Progress) -> Update:
    return Update(claim, State.RUNNING, encode_progress(progress))


def encode_progress(progress: Progress) -> bytes:
    """Return the bytes of a progress; to decode them never runs user code."""
    return json.dumps(progress).encode()


def decode_progress(data: bytes | None) -> Progress | None:
    """Return the progress of these bytes; None if there are none, or they are no progress."""
    try:
        return None if data is None else Progress(*json.loads(data))
    except (TypeError, ValueError):
        return None
