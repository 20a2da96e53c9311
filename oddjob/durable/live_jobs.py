"""LiveJobs: the state, attempt and progress of jobs that callers hold, read when asked for.

A handle hears of the end of its job only. For everything else there is one short look: at the
claimed job, if this process runs it, else at the record in the store.

Guarantees: a job has ended for its holder when its handle has heard of it, so `Job.state` never
says so before `Job.done` does. Any number of `find`s of a job that has not ended return one object.
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
    """The jobs of one pool that callers hold."""

    def __init__(self, store: "PoolStore") -> None:
        self._store: Final = store
        self._inline: Final[dict[str, Job[Any]]] = {}  # have run in inline mode, by id

    def state_of(self, job: Job[Any]) -> JobState:
        """Return the state of a job that has not ended here."""
        found = self._look(job)
        if found is None:
            return local_state_of(job)
        if isinstance(found, Job):
            state = local_state_of(found)
            return RUNNING if state in ENDED else state
        # Its end is on the way to its handle.
        return RUNNING if found.state.has_ended else found.state.label

    def attempt_of(self, job: Job[Any]) -> int:
        """Return the number of the latest attempt of a job."""
        found = self._look(job)
        if found is None:
            return int(local_state_of(job) in (SUCCEEDED, FAILED))
        # The record counts an attempt when that has ended.
        return found.attempt + (isinstance(found, Record) and found.state is State.RUNNING)

    def progress_of(self, job: Job[Any]) -> Progress | None:
        """Return what a job has reported last."""
        found = self._look(job)
        if isinstance(found, Job):
            return found.progress
        return None if found is None else decode_progress(found.progress)

    def times_of(self, job: Job[Any]) -> JobTimes | None:
        """Return when the store has had a job queued, started and finished; None: it has not."""
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
        """Return the job that runs here for another one, or its record; None: neither is known."""
        details, handle = details_of(job), self._store.handles.get(job)
        if details.id is None:
            return None  # it has not been stored
        here = None if handle is None else self._store.claimed.held.get(handle.id)
        if here is not None and not here[0].is_over:  # else only what is committed counts
            return here[1]
        return self._in_store(details.id)

    def _in_store(self, job: str | None) -> Record | None:
        """Return the record of a job; None if there is none, or the store is gone with the pool."""
        if job is None:
            return None
        try:
            reader = self._store.last_reader or self._store.runner().reader
            return reader.record(job)
        except Exception:
            if not self._store.is_closing:
                raise
            return None  # its store may be closed, or gone

    def note_inline(self, job: Job[Any]) -> None:
        """Note that a job has run in inline mode: it is found, although it was never stored."""
        self._inline[job.id] = job

    def find(self, job: object) -> Job[Any]:
        """Do what `Pool.find` says."""
        if isinstance(job, Job):
            job = job.id
        if not isinstance(job, str | int):
            raise TypeError(f"find() takes the id of a job, not {job!r}")
        if job in self._inline:
            return self._inline[str(job)]
        runner = self._store.runner()
        record = runner.reader.record(str(job))
        if record is not None and record.pool != self._store.name:
            raise JobNotFound(f"job {job} is one of pool {record.pool!r}, not {self._store.name!r}")
        if record is not None and not record.state.has_ended:
            stored = record.id
            found: Job[Any] | Record | None = runner.call(lambda store: self._watch(store, stored))
            if isinstance(found, Job):
                return found
            record = found
        if record is None:
            raise JobNotFound(
                f"no job {job} in the store of pool {self._store.name!r}: there was none of that "
                "id, or its record has been deleted"
            )
        return self._ended(record)

    def _watch(self, store: Store, stored: Any) -> Job[Any] | Record | None:
        """Return a job that will hear of its end; or how it has ended. In the store thread."""
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
        """Return a job that stands for a stored one; it has no call."""
        settings = self._store.submissions.base_policy(record.function).settings
        settings = settings._replace(
            priority=record.priority, persist=True, key=None, serial=False, limits=()
        )
        policy = JobPolicy(self._store.core, settings)
        name = record.name or record.function
        return new_stored_job(None, policy, decode_key(record.key), name)
