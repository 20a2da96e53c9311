"""PoolOperations: the stored jobs of one pool, to look at and to act on in bulk.

Guarantees
  * Records are read a page at a time, and no snapshot is held between two pages.
  * What acts on many jobs does so in slices, each in a commit of its own: others get their turn in
    between. If it is interrupted, a second call goes on where the first one stopped.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from heapq import merge
from itertools import chain, islice
from typing import Any, Final, get_args

from oddjob.durable.record import State
from oddjob.durable.store import Filter
from oddjob.errors import JobNotFound
from oddjob.keys import Key, encode_key
from oddjob.operations.access import RunnerInfo, StoreAccess, When, seconds_of, time_of
from oddjob.operations.record import Record, record_of, stored_id
from oddjob.operations.recurring import RecurringEntry, entry_of
from oddjob.quantities import Seconds, as_count
from oddjob.runtime.job_state import JobState

_PAGE: Final = 100  # records


class PoolOperations:
    """The stored jobs of one pool. The methods of `Pool` of the same names say what each does."""

    def __init__(self, name: str, access: StoreAccess) -> None:
        self.name: Final = name
        self._access: Final = access

    def record(self, job: object) -> Record:
        """Return the record of one job.

        Raises:
            JobNotFound: the pool has no job of that id.
        """
        stored = self._access.reader.record(str(job))
        if stored is None or stored.pool != self.name:
            raise JobNotFound(f"no job {job} in the store of pool {self.name!r}")
        return record_of(stored, self._access)

    def records(
        self,
        *,
        state: JobState | Iterable[JobState] | None = None,
        name: str | None = None,
        key: Key | None = None,
        error: str | None = None,
        since: When | None = None,
        before: When | Record | None = None,
        before_id: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Record]:
        """Iterate over jobs, the newest first; see `Pool.records`.

        `before_id` is the id of a job of any pool of the store, which may be gone: only jobs that
        were submitted before that one are meant.
        """
        until = None if before is None or isinstance(before, Record) else before
        for option, value in ("name", name), ("error", error):
            if value is not None and not isinstance(value, str):
                raise TypeError(f"{option} must be a string, not {value!r}")
        which = Filter(
            None,
            name,
            encode_key(key),
            error,
            None if since is None else seconds_of("since", since),
            None if until is None else seconds_of("before", until),
        )
        left = None if limit is None else as_count("limit", limit)
        states = [None] if state is None else _states_of(state)
        first = stored_id(before) if isinstance(before, Record) else before_id
        found = [self._pages(which._replace(state=each), first) for each in states]
        return islice(merge(*found, key=_number_of, reverse=True), left)

    def _pages(self, which: Filter, last: Any = None) -> Iterator[Record]:
        while page := self._access.reader.records(self.name, which, last, _PAGE):
            last = page[-1].id
            for stored in page:
                yield record_of(stored, self._access)

    def counts(self, most: int | None = None) -> dict[JobState, int]:
        """Return how many jobs are in each state.

        With `most`, which is quicker, more than that may be counted as one more than that.
        """
        found = self._access.reader.counts(self.name, most)
        return {state.label: count for state, count in found.items()}

    def oldest_waiting(self) -> datetime | None:
        """Return when the first of the queued jobs was submitted; None: none waits."""
        return time_of(self._access.reader.oldest_waiting(self.name))

    def ended_since(self, since: When) -> dict[JobState, int]:
        """Return how many jobs have ended since then in each way, of those that are kept."""
        found = self._access.reader.ended_since(self.name, seconds_of("since", since))
        return {state.label: count for state, count in found.items()}

    def ended_by_period(self, since: When, period: float, number: int) -> dict[JobState, list[int]]:
        """Return how many jobs have ended in each of some periods of seconds, one after another.

        Jobs whose records are gone are not counted.
        """
        start = seconds_of("since", since)
        found = self._access.reader.ended_by_period(self.name, start, period, number)
        return {state.label: counts for state, counts in found.items()}

    def retry(self, records: Iterable[Record]) -> int:
        """Queue failed and canceled jobs again, scheduled ones at once; return how many."""
        return self._access.change_jobs("retry", map(stored_id, records))

    def cancel(self, records: Iterable[Record]) -> int:
        """Cancel jobs that wait, and ask running ones to stop; return how many."""
        return self._access.change_jobs("cancel", map(stored_id, records))

    def delete(self, records: Iterable[Record]) -> int:
        """Delete jobs that do not run; return how many."""
        return self._access.change_jobs("delete", map(stored_id, records))

    def purge(self, states: JobState | Iterable[JobState], older_than: Seconds | str = 0.0) -> int:
        """Delete the records of jobs that have ended; see `Pool.purge`."""
        return self.delete(self.ended(states, older_than))

    def ended(
        self, states: JobState | Iterable[JobState], older_than: Seconds | str = 0.0
    ) -> Iterator[Record]:
        """Iterate over the jobs that `purge` deletes."""
        wanted = _states_of(states)
        for state in wanted:
            if not state.has_ended:
                raise ValueError(f"a {state.label} job has not ended: cancel() it, or delete() it")
        before = seconds_of("older_than", older_than)
        return chain.from_iterable(
            self._pages(Filter(state, ended_before=before)) for state in wanted
        )

    def pause(self, reason: str = "") -> None:
        """Let no process start jobs of the pool; people are shown the reason, in one line.

        See `Pool.pause`.
        """
        line = " ".join(reason.split())
        self._access.change("pause", self.name, is_paused=True, reason=line)

    def resume(self) -> None:
        """Let them be started again."""
        self._access.change("pause", self.name, is_paused=False)

    @property
    def is_paused(self) -> bool:
        """Whether no process starts jobs of the pool at present."""
        return self._access.reader.pools().get(self.name, False)

    @property
    def pause_reason(self) -> str:
        """Why it is paused; "" if it is not, or nobody has said."""
        return self._access.reader.pause_reason(self.name)

    def recurring(self) -> list[RecurringEntry]:
        """Return the recurring entries, by their names."""
        return [entry_of(each, self._access) for each in self._access.reader.entries(self.name)]

    def runners(self) -> list[RunnerInfo]:
        """Return the processes that use the store, whichever pools they run jobs of."""
        return self._access.runners()


def _number_of(record: Record) -> tuple[int, str]:
    return len(record.id), record.id  # all ids of a pool end in a number, after the same characters


def _states_of(states: JobState | Iterable[JobState]) -> list[State]:
    return [_state_of(each) for each in ([states] if isinstance(states, str) else states)]


def _state_of(word: str) -> State:
    known = get_args(JobState)
    if word not in known:
        raise ValueError(f"state must be one of {', '.join(map(repr, known))}, not {word!r}")
    return State[word.upper()]
