"""LiveJobs: the state, attempt and progress of jobs that callers hold, read when asked for.

A handle is notified of the end of its job only. Everything else is read when it is asked for: from
the claimed job, if this process runs it, else from the record in the store.

Guarantees: `Job.state` never says that a job has ended before `Job.done` does, because both change
when the handle is notified. `find` returns the same object each time, until the job has ended.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from oddjob.durable.job_handle import JobHandle
from oddjob.durable.progress import decode_progress
from oddjob.durable.record import Record, State, Submitted
from oddjob.durable.store import Store
from oddjob.errors import JobNotFound
from oddjob.keys import decode_key
from oddjob.runtime.job import Job
from oddjob.runtime.job_state import ENDED, FAILED, RUNNING, SUCCEEDED, JobState, Progress
from oddjob.runtime.policy import JobPolicy
from oddjob.runtime.reasons import JobTimes
from oddjob.runtime.stored_job import details_of, local_state_of, new_stored_job

if TYPE_CHECKING:
    from oddjob.durable.pool_store import PoolStore


class LiveJobs:
    """Reads the current state of jobs of one pool, for the callers that hold them."""

    def __init__(self, store: "PoolStore") -> None:
        self._store: Final = store
        self._inline: Final[dict[str, Job[Any]]] = {}  # by id: those of inline mode

    def state_of(self, job: Job[Any]) -> JobState:
        """Return the state of a job that has not ended here."""
        found = self._look(job)
        if found is None:
            return local_state_of(job)
        if isinstance(found, Job):
            state = local_state_of(found)
            return RUNNING if state in ENDED else state
        # If the job has ended, its handle is about to be notified.
        return RUNNING if found.state.has_ended else found.state.label

    def attempt_of(self, job: Job[Any]) -> int:
        """Return the number of the latest attempt of a job."""
        found = self._look(job)
        if found is None:
            return int(local_state_of(job) in (SUCCEEDED, FAILED))
        # The record counts an attempt once it has ended.
        return found.attempt + (isinstance(found, Record) and found.state is State.RUNNING)

    def progress_of(self, job: Job[Any]) -> Progress | None:
        """Return the latest progress of a job."""
        found = self._look(job)
        if isinstance(found, Job):
            return found.progress
        return None if found is None else decode_progress(found.progress)

    def times_of(self, job: Job[Any]) -> JobTimes | None:
        """Return when a job was queued, started and finished; None if it is not in the store."""
        record = self._in_store(details_of(job).id)
        if record is None:
            return None
        is_queued = record.state is not State.SCHEDULED
        has_begun = record.state in (State.RUNNING, State.SUCCEEDED, State.FAILED)
        times = record.created if is_queued else None, record.started, record.finished
        dates = [None if each is None else datetime.fromtimestamp(each, UTC) for each in times]
        return JobTimes(dates[0], dates[1] if has_begun else None, dates[2])

    def why(self, job: Job[Any]) -> str:
        """Return why a stored job has not ended; see `Job.why`."""
        found = self._look(job)
        if isinstance(found, Job):
            return found.why()
        if found is None:
            return "it is not in the store: its transaction is not committed, or it is deleted"
        from oddjob.operations.access import StoreAccess
        from oddjob.operations.reasons import reasons_of
        from oddjob.operations.record import record_of

        access = StoreAccess(self._store.runner, self._store.codec)
        return "; ".join(reasons_of(record_of(found, access), access))

    def _look(self, job: Job[Any]) -> Job[Any] | Record | None:
        """Return the claimed `Job` in this process, or the record; None if there is neither."""
        details, handle = details_of(job), self._store.handles.get(job)
        if details.id is None:
            return None  # it has not been stored
        held = None if handle is None else self._store.claimed.held.get(handle.id)
        if held is not None and not held[0].is_over:  # once it is over, only the record counts
            return held[1]
        return self._in_store(details.id)

    def _in_store(self, job_id: str | None) -> Record | None:
        """Return the record of a job; None if there is none, or the pool's store is closed."""
        if job_id is None:
            return None
        try:
            reader = self._store.last_reader or self._store.runner().reader
            return reader.record(job_id)
        except Exception:
            if not self._store.is_closing:
                raise
            return None  # the store may be closed, or its file removed

    def note_inline(self, job: Job[Any]) -> None:
        """Let `find` return a job that has run in inline mode, and was never stored."""
        self._inline[job.id] = job

    def find(self, job: object) -> Job[Any]:
        """Return a job of the pool, given a `Job` or an id; see `Pool.find`."""
        given = job.id if isinstance(job, Job) else job
        if not isinstance(given, str | int):
            raise TypeError(f"find() takes the id of a job, not {given!r}")
        job_id = str(given)
        if job_id in self._inline:
            return self._inline[job_id]
        runner = self._store.runner()
        record = runner.reader.record(job_id)
        if record is not None and record.pool != self._store.name:
            raise JobNotFound(
                f"job {job_id} is one of pool {record.pool!r}, not {self._store.name!r}"
            )
        if record is not None and not record.state.has_ended:
            stored = record.id
            found: Job[Any] | Record | None = runner.call(lambda store: self._watch(store, stored))
            if isinstance(found, Job):
                return found
            record = found
        if record is None:
            raise JobNotFound(
                f"no job {job_id} in the store of pool {self._store.name!r}: there was none of "
                "that id, or its record has been deleted"
            )
        return self._ended(record)

    def _watch(self, store: Store, stored: Any) -> Job[Any] | Record | None:
        """Return a `Job` that is settled at its end, or the record of an ended job, or None.

        In the store thread.
        """
        runner = self._store.runner()
        for handle in runner.expected.handles_of(stored):
            if handle.store is self._store:
                return handle.job
        record = store.watch(stored)
        if record is None or record.state.has_ended:
            return record
        job = self._job_of(record)
        handle = JobHandle(self._store, job, is_found=True)
        handle.note_stored(Submitted(stored, is_new=False))
        runner.expected.add(stored, handle)
        return job

    def _ended(self, record: Record) -> Job[Any]:
        job = self._job_of(record)
        details = details_of(job)
        details.id, details.attempt = str(record.id), record.attempt
        details.progress = decode_progress(record.progress)
        handle = JobHandle(self._store, job, is_found=True)
        handle.id = record.id
        handle.settle_with(record.state, record.outcome, record.error)
        return job

    def _job_of(self, record: Record) -> Job[Any]:
        """Return a `Job` without a call, for callers to hold."""
        settings = self._store.submissions.base_policy(record.function).settings
        settings = settings._replace(
            priority=record.priority, persist=True, key=None, serial=False, limits=()
        )
        policy = JobPolicy(self._store.core, settings)
        name = record.name or record.function
        return new_stored_job(None, policy, decode_key(record.key), name)
