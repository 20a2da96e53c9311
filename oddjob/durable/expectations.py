"""Expectations: which handles wait for the end of which job.

A store leaves news of the end of a job for the process that has submitted it, or watches it. In two
cases no news may come: after an eviction, when it was left for the former process; and after
the store has lost its latest data, and jobs with them. Then all jobs are watched again.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from oddjob.durable.callbacks import guard
from oddjob.durable.record import State
from oddjob.durable.store import Store

if TYPE_CHECKING:
    from oddjob.durable.job_handle import JobHandle

_NO_RECORD: Final = (
    "JobLost: the store has no record of it: it ended while this process was taken for dead, or "
    "the store has lost its latest data"
)


class Expectations:
    """The handles that wait.

    Thread safety: the store thread alone uses it.
    """

    def __init__(self) -> None:
        self._handles: Final[dict[Any, list[JobHandle]]] = {}  # by id of the job
        self._unwatched: Final[set[Any]] = set()  # ids of jobs to watch again

    def add(self, job: Any, handle: "JobHandle") -> None:
        """Notify a handle of the end of a job."""
        self._handles.setdefault(job, []).append(handle)

    def handles_of(self, job: Any) -> Sequence["JobHandle"]:
        """Return the handles that wait for the end of a job."""
        return self._handles.get(job, ())

    def announce(self, job: Any, state: State, outcome: bytes | None, error: str | None) -> None:
        """Notify the handles of a job that it has ended."""
        for handle in self._handles.pop(job, ()):
            guard(handle.note_end, state, outcome, error)

    def watch_again(self) -> None:
        """Let the next `tell_store` watch all jobs again."""
        self._unwatched.update(self._handles)

    def tell_store(self, store: Store) -> None:
        """Watch jobs as `watch_again` has asked; if that fails, the next call goes on."""
        while self._unwatched:
            job = next(iter(self._unwatched))
            record = store.watch(job)
            if record is None:
                self.announce(job, State.FAILED, None, _NO_RECORD)
            elif record.state.has_ended:
                self.announce(job, record.state, record.outcome, record.error)
            self._unwatched.discard(job)
