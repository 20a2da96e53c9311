"""JobHandle: connects the `Job` that a caller holds to the stored job whose outcome settles it.

The store thread learns the outcome. It may neither run user code nor import user modules, so
whatever could do that (to decode an outcome that is not plain data; callbacks of the job) is left
to the callback thread. Once the pool is detached, the calling thread does everything.
"""

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from oddjob.durable.record import State, Submitted
from oddjob.errors import BatchFailed, JobLost, PredecessorFailed
from oddjob.runtime.job import Job
from oddjob.runtime.job_state import CANCELLED, FAILED, SUCCEEDED, Failure
from oddjob.runtime.settling import release_call, run_callbacks, settle
from oddjob.runtime.stored_job import details_of, shared_state_of

if TYPE_CHECKING:
    from oddjob.durable.pool_store import PoolStore


class JobHandle:
    """Settles one `Job`, which its caller has submitted or, if `is_found`, looked up by its id.

    `is_shared`: other callers have submitted the same stored job.
    """

    __slots__ = ("id", "is_delayed", "is_found", "is_shared", "job", "store")

    def __init__(
        self, store: "PoolStore", job: Job[Any], *, is_delayed: bool = False, is_found: bool = False
    ) -> None:
        self.store: Final = store
        self.job: Final = job
        self.is_delayed: bool = is_delayed
        self.is_found: Final = is_found
        self.is_shared: bool = is_found
        self.id: Any = None

    def note_stored(self, submitted: Submitted) -> None:
        """Note that the job is stored: as a new job, or as the unfinished one that it equals."""
        self.id = submitted.id
        self.is_shared |= not submitted.is_new
        self.is_delayed |= submitted.is_delayed
        details_of(self.job).id = str(self.id)
        self.store.handles[self.job] = self

    def note_rollback(self) -> None:
        """Fail the job: the user's transaction in which it was stored was not committed."""
        self.store.handles.pop(self.job, None)
        what = f"the transaction in which job {self.id} was submitted was not committed"
        self.fail_locally(JobLost(what))

    def note_end(self, state: State, outcome: bytes | None, error: str | None) -> None:
        """Settle the job with a committed outcome, if need be in the callback thread."""
        self.store.handles.pop(self.job, None)
        is_plain = state is State.SUCCEEDED and (
            outcome is None or self.store.codec.is_plain(outcome)
        )
        runner = self.store.attached
        if state is State.CANCELLED or is_plain or runner is None:
            self.settle_with(state, outcome, error)
        else:  # to decode it may run user code
            runner.callbacks.run(partial(self.settle_with, state, outcome, error))

    def settle_with(self, state: State, outcome: bytes | None, error: str | None) -> None:
        """Settle the job with a stored outcome, or with the reason why it cannot be decoded."""
        if state is State.CANCELLED:
            self._settle(CANCELLED, None)
            return
        try:
            value = self.store.codec.decode_outcome(state, outcome, error, self.id)
        except BaseException as unreadable:
            value, state = unreadable, State.FAILED
        if state is State.SUCCEEDED:
            self._settle(SUCCEEDED, value)
            return
        failure = Failure(value)
        # Log an unseen failure in the process of its submitter only, and only for the job that
        # failed first, not for the jobs that failed because of it.
        is_followup = isinstance(value, BatchFailed | PredecessorFailed) and self._is_linked
        failure.is_seen = self.is_found or is_followup
        self._settle(FAILED, failure)

    @property
    def _is_linked(self) -> bool:
        return details_of(self.job).links is not None

    def fail_locally(self, error: Exception) -> None:
        """Fail the job for its caller alone: no stored job has failed, so no failure is logged."""
        failure = Failure(error)
        failure.is_seen = True
        self._settle(FAILED, failure)

    def _settle(self, state: Any, outcome: Any) -> None:
        """Settle the job, and leave its callbacks to the callback thread."""
        job, runner = self.job, self.store.attached
        if settle(job, state, outcome):
            release_call(job)
            if not shared_state_of(job).callbacks or runner is None or runner.callbacks.is_here:
                run_callbacks(job)
            else:
                runner.callbacks.run(partial(run_callbacks, job))
