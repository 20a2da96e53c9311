"""JobHandle: connects the `Job` that a caller holds to the stored job whose outcome settles it.

The store thread hears of the outcome. It may neither run code of users nor import their modules,
so whatever could do that (an outcome that is not plain data, callbacks of the job) is left to the
callback thread.
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
    """The job of a caller who has submitted it, or (`is_found`) looked it up in the store."""

    __slots__ = ("id", "is_delayed", "is_found", "is_shared", "job", "store")

    def __init__(
        self, store: "PoolStore", job: Job[Any], *, is_delayed: bool = False, is_found: bool = False
    ) -> None:
        self.store: Final = store
        self.job: Final = job
        self.is_delayed: bool = is_delayed
        self.is_found: Final = is_found
        self.is_shared: bool = is_found  # with those who have submitted it
        self.id: Any = None

    def stored(self, submitted: Submitted) -> None:
        """Note what a commit has made of the job; it is not new if others have submitted it."""
        self.id = submitted.id
        self.is_shared |= not submitted.is_new
        self.is_delayed |= submitted.is_delayed
        details_of(self.job).id = str(self.id)
        self.store.handles[self.job] = self

    def rolled_back(self) -> None:
        """Fail the job: the user's transaction in which it was stored was not committed."""
        self.store.handles.pop(self.job, None)
        what = f"the transaction in which job {self.id} was submitted was not committed"
        self.leave(JobLost(what))

    def ended(self, state: State, outcome: bytes | None, error: str | None) -> None:
        """Settle the job with an outcome that is committed."""
        self.store.handles.pop(self.job, None)
        is_plain = state is State.SUCCEEDED and (
            outcome is None or self.store.codec.is_plain(outcome)
        )
        runner = self.store.attached
        if state is State.CANCELLED or is_plain or runner is None:
            self.decode(state, outcome, error)
        else:  # to read it may run code of users
            runner.callbacks.run(partial(self.decode, state, outcome, error))

    def decode(self, state: State, outcome: bytes | None, error: str | None) -> None:
        """Settle the job with a stored outcome, or with the reason why that cannot be read."""
        if state is State.CANCELLED:
            self.end(CANCELLED, None)
            return
        try:
            value = self.store.codec.decode_outcome(state, outcome, error, self.id)
        except BaseException as unreadable:
            value, state = unreadable, State.FAILED
        if state is State.SUCCEEDED:
            self.end(SUCCEEDED, value)
            return
        failure = Failure(value)
        # Only its submitter has to look at a failure; and at that of the job which others have
        # failed with, not at theirs.
        is_followup = isinstance(value, BatchFailed | PredecessorFailed) and self._is_linked
        failure.is_seen = self.is_found or is_followup
        self.end(FAILED, failure)

    @property
    def _is_linked(self) -> bool:
        return details_of(self.job).links is not None

    def leave(self, error: Exception) -> None:
        """End the job for its holder alone; it lives on, so nothing is logged as a failure."""
        failure = Failure(error)
        failure.is_seen = True
        self.end(FAILED, failure)

    def end(self, state: Any, outcome: Any) -> None:
        """Settle the job, and leave its callbacks to the callback thread."""
        job, runner = self.job, self.store.attached
        if settle(job, state, outcome):
            release_call(job)
            if not shared_state_of(job).callbacks or runner is None or runner.callbacks.is_here:
                run_callbacks(job)
            else:
                runner.callbacks.run(partial(run_callbacks, job))
