"""ClaimedJobs: the jobs that a pool has claimed from its store, on their way through its workers.

The store thread makes a `Job` for each claim and queues it (`start`). A worker runs the job, with
`run` as its outermost middleware, and reports the outcome (`succeeded`, `failed`). Then this `Job`
is discarded. The `Job` that a caller holds is another object, even in this process: see
`PoolStore`.

A pool claims a few jobs more than it has workers, so that no worker waits for a turn of the store.
`capacity` derives their number from the duration of recent jobs; `SpareClaims` hands claims back if
jobs take longer.

Guarantees: the end of a claim is reported once. Workers unpickle the payloads, within the attempt,
because unpickling runs user code, which may take long, or wait for a module that is being imported.

Thread safety: the store thread alone changes `held`. A claim that is over stays in `held` until its
report is on its way to the store.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from traceback import format_exception
from typing import TYPE_CHECKING, Any, Final

from oddjob.compat import override
from oddjob.durable.callbacks import guard
from oddjob.durable.codec import Codec, find_function
from oddjob.durable.operation import RunnerOver, in_transaction
from oddjob.durable.record import Capacity, Claim, State, Update, giver_of_value
from oddjob.durable.spare_claims import STANDSTILL
from oddjob.durable.store import OpenTransaction, Store
from oddjob.errors import JobLost, PayloadError, StoreFull, StoreUnusable, describe_error
from oddjob.keys import decode_key
from oddjob.log import log
from oddjob.runtime.job import Job
from oddjob.runtime.policy import JobPolicy
from oddjob.runtime.settlement import Settlement
from oddjob.runtime.settling import was_stopped
from oddjob.runtime.stored_job import (
    details_of,
    new_stored_job,
    policy_of,
    set_arguments,
    shared_state_of,
)
from oddjob.schedule.clock import clock

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore

_LOOKAHEAD: Final = 0.02  # seconds of work to claim ahead of the workers
_MOST_CLAIMS: Final = 512  # in one turn, and ahead of the workers
_SHORTEST: Final = 1e-6  # seconds: the least that a job is taken to last, to divide by
_LONG: Final = 0.1  # seconds: the mean after claims were taken back, so few are claimed ahead


class ClaimedJobs(Settlement):
    """The claims of one pool that are not reported yet.

    Args:
        core: the pool.
        base_policy: returns the policy for calls of a function without options of their own.
        codec: encodes and decodes the values in the store.
    """

    def __init__(
        self, core: "PoolCore", base_policy: Callable[[str], JobPolicy], codec: Codec
    ) -> None:
        self._core: Final = core
        self._base_policy: Final = base_policy
        self.codec: Final = codec
        self._is_closed = False
        self.runner: Any = None  # the `Runner`, once the pool is attached to one
        self.held: dict[Any, tuple[Claim, Job[Any]]] = {}  # by id of the job
        # For calls without options, by function, and whether nobody waits for the outcome.
        self._policies: Final[dict[tuple[str, bool], JobPolicy]] = {}
        self._marked: Final[set[int]] = set()  # places of the begun marks of running jobs
        self.mean: float = inf  # moving average of the seconds that jobs take
        self.latest_start: float = inf  # monotonic seconds: when a claim last came, or began
        self._transactions: dict[Any, OpenTransaction] = {}  # by id of the job, and token

    def reset_after_fork(self) -> None:
        """Forget the claims, which stay the parent's."""
        self.runner = None
        self.held = {}
        self._transactions = {}
        self._marked.clear()

    def capacity(self, workers: int) -> Capacity:
        """Return how many jobs can be claimed for that many workers, and ahead of them."""
        held, mean = len(self.held), self.mean
        if held >= workers and clock.monotonic() - self.latest_start >= STANDSTILL:
            mean = inf  # the running jobs take longer than the mean: claim none ahead
        ahead = int(min(_MOST_CLAIMS, workers * _LOOKAHEAD / max(mean, _SHORTEST)))
        limit = min(_MOST_CLAIMS, max(0, workers + ahead - held)) if workers else 0
        return Capacity(max(0, workers - held), limit, self.has_spare)

    @property
    def has_spare(self) -> bool:
        """Whether there are claims that no worker has begun."""
        return bool(self.held) and len(self.held) > len(self._core.running())

    # From a claim to a job.

    def start(self, claims: list[Claim]) -> None:
        """Queue claims for the workers, in this order."""
        jobs = []
        for claim in claims:
            if self._is_closed:
                self.runner.hand_back(claim)
                continue
            try:
                jobs.append(self._job_of(claim))
            except Exception as error:
                if claim.origin is None or self._is_gone(claim.origin):
                    log(logging.ERROR, "job %s failed", claim.name, error=error)
                self._report(claim, State.FAILED, error)
        if jobs:
            self.latest_start = clock.monotonic()
            try:
                self._core.intake.run_claimed(jobs)
            except Exception:  # there are no workers, and none can be started
                self.hand_back()
        if self._is_closed:  # by another thread, since the loop
            self.hand_back()

    def close(self) -> None:
        """Begin no more claims; hand back all that have not begun."""
        self._is_closed = True
        self.hand_back()

    def _job_of(self, claim: Claim) -> Job[Any]:
        fn = find_function(claim.function)
        if fn is None:
            raise LookupError(f"{claim.function} is not found in its module any more")
        meta = claim.meta and self.codec.decode_meta(claim.meta, claim.pool, claim.function)
        policy = self._policy_of(claim, meta.options if meta else {})
        job = new_stored_job(fn, policy, decode_key(claim.key), claim.name)
        details = details_of(job)
        details.id, details.attempt, details.claim = str(claim.id), claim.attempt, claim
        if meta:
            details.carrier = meta.carrier
        self.held[claim.id], claim.holder = (claim, job), self
        return job

    def _policy_of(self, claim: Claim, given: dict[str, Any]) -> JobPolicy:
        is_detached = claim.origin is None
        key = claim.function, is_detached
        policy = None if given else self._policies.get(key)
        if policy is None:
            settings = self._base_policy(claim.function).settings
            options = settings.options._replace(**given)
            options = options._replace(middleware=(self, *options.middleware), fair_by=None)
            # The store has applied these settings already, to decide when the job is claimed.
            settings = settings._replace(
                options=options, key=None, serial=False, limits=(), priority=0
            )
            policy = JobPolicy(self._core, settings, is_detached=is_detached, settlement=self)
            if not given:
                self._policies[key] = policy
        return policy

    def forget_policies(self) -> None:
        """Note that the policy of a function has changed."""
        self._policies.clear()

    def run(self, job: Job[Any], _carrier: dict[str, str], call: Callable[[], Any]) -> Any:
        """Run an attempt, as its outermost middleware: mark it as begun, and decode its call."""
        claim = details_of(job).claim
        claim.started, began = clock.wall(), clock.monotonic()
        self.latest_start = began
        runner = self.runner
        place = runner.marks.begin(claim)
        self._marked.add(place)
        try:
            stored = self.codec.decode_call(claim.payload, claim.pool, claim.function)
            args = stored.args
            if stored.takes_value:
                args = (self._predecessor_result(claim), *args)
            set_arguments(job, args, stored.kwargs)
            return call()
        finally:
            took = clock.monotonic() - began
            self.mean = took if self.mean == inf else self.mean + (took - self.mean) / 16
            if self.runner is runner:  # else this is a forked child, and the mark is its parent's
                self._marked.discard(place)
                runner.marks.end(place)
            del job, call  # an exception keeps this frame, which must not keep the job

    def _predecessor_result(self, claim: Claim) -> Any:
        """Return the result of the job before this one, which the store has kept as a step."""
        steps: dict[str, bytes] = self.runner.reader.steps(claim.id)
        for name, data in steps.items():
            if (giver := giver_of_value(name)) is not None:
                return self.codec.decode_outcome(State.SUCCEEDED, data or None, None, giver)
        raise PayloadError("the result of the job before it is not there any more")

    @override
    def progressed(self, job: Job[Any]) -> None:
        """Store the progress of a running job soon."""
        details = details_of(job)
        if not details.claim.is_over and details.progress is not None:
            self.runner.report_progress(details.claim, details.progress)

    # Effects: see `oddjob.runtime.effects`.

    @override
    def find_step(self, job: Job[Any], name: str, default: Any) -> Any:
        details = details_of(job)
        job_id = details.claim.id
        if details.steps is None:  # the attempt has not asked for a step before
            stored: dict[str, bytes] = self.runner.reader.steps(job_id)
            details.steps = stored
        data = details.steps.get(name)
        return default if data is None else self.codec.decode_step(name, data, job_id)

    @override
    def save_step(self, job: Job[Any], name: str, value: Any) -> Any:
        details = details_of(job)
        claim = details.claim
        data = self.codec.encode_step(name, value, claim.id)
        transaction = self._transactions.get((claim.id, claim.token))
        if transaction is not None and transaction.is_open:
            transaction.save_step(name, data)
            is_saved = True
        else:
            try:
                is_saved = self.runner.call(lambda store: store.save_step(claim, name, data))
            except RunnerOver:
                is_saved = False
        if not is_saved:
            raise JobLost(f"job {claim.id} was taken over: this attempt of it should end")
        if details.steps is not None:
            details.steps[name] = data
        return value

    @override
    @contextmanager
    def transaction(self, job: Job[Any]) -> Iterator[Any]:
        claim = details_of(job).claim
        key = claim.id, claim.token
        if key in self._transactions:
            raise RuntimeError(f"job {claim.id} has a transaction, which is open until it returns")
        transaction = self._transactions[key] = self.runner.store.transaction(claim)
        try:
            connection = transaction.begin()
            in_transaction.set((self.runner, transaction))
            yield connection
        except BaseException:
            transaction.rollback()
            self._transactions.pop(key, None)
            details_of(job).steps = None  # steps that the transaction saved are undone
            raise

    # The end of claims.

    @override
    def succeeded(self, job: Job[Any], result: Any) -> None:
        claim = details_of(job).claim
        outcome = self.codec.encode_result(result, claim.id)
        self._report(claim, State.SUCCEEDED, outcome=outcome)

    @override
    def failed(self, job: Job[Any], error: BaseException) -> float | None:
        claim = details_of(job).claim
        if claim.is_over:  # another process has taken the job over: this only ends a transaction
            self._report(claim, State.FAILED)
            return None
        retry = policy_of(job).retry
        delay = None
        if retry is not None and not job.cancel_requested and not isinstance(error, PayloadError):
            delay = retry.decide(error, job.attempt)
        state = State.FAILED if delay is None else State.SCHEDULED
        if was_stopped(job, error):
            self._report(claim, State.CANCELLED)
            return None
        if delay is None and claim.origin is not None and self._is_gone(claim.origin):
            self._core.report_failure(job, error)  # the submitter is gone, and cannot log it
        self._report(claim, state, error, delay=delay or 0.0)
        return delay

    def _is_gone(self, process: Any) -> bool:
        """Return whether a process has left the store; False if the store cannot be read."""
        try:
            return all(each.id != process for each in self.runner.reader.members())
        except StoreUnusable:
            return False

    @override
    def cancelled(self, job: Job[Any]) -> bool:
        return True

    def ended(self, job: Job[Any]) -> None:
        """Report a job whose worker has crashed, so neither `succeeded` nor `failed` was called."""
        claim = details_of(job).claim
        if claim is not None and job.done():
            error = None if job.cancelled() else job.exception()
            self._report(claim, State.CANCELLED if error is None else State.FAILED, error)

    def stop(self, job_id: Any) -> bool:
        """Cancel a claimed job, or ask it to stop if it has begun; return if it is cancelled."""
        held = self.held.get(job_id)
        if held is None or not held[1].cancel():
            return False
        self._report(held[0], State.CANCELLED)
        return True

    def take_back(self) -> list[Claim]:
        """Take the claims that have not begun from the workers' queue, for the caller to report."""
        taken = []
        for claim, job in list(self.held.values()):
            # `claim_queued` keeps a worker from beginning the job; no claim of the store is meant.
            if shared_state_of(job).claim_queued(self) and not claim.is_over:
                self._core.dispatcher.remove(job)
                taken.append(claim)
        if taken:
            self.mean = max(self.mean, _LONG)  # jobs take longer than the mean: claim fewer ahead
        return taken

    def hand_back(self) -> None:
        """Hand back all claims that have not begun."""
        for claim in self.take_back():
            self.runner.hand_back(claim)

    def drop_all(self) -> None:
        """Drop all claims, unreported, and ask running jobs to stop."""
        for claim, job in list(self.held.values()):
            claim.is_over = True
            job.cancel()
        self.held.clear()

    def abandon(self) -> None:
        """Remove the begun marks: the process ends on purpose, which is no crash of its jobs."""
        for place in self._marked.copy():
            self.runner.marks.unmark(place)

    def _report(
        self,
        claim: Claim,
        state: State,
        error: BaseException | None = None,
        *,
        outcome: bytes | None = None,
        delay: float = 0.0,
    ) -> None:
        transaction = self._transactions.pop((claim.id, claim.token), None)
        if claim.is_over:
            if transaction is not None:
                transaction.rollback()
            return
        line = trace = None
        if error is not None:
            trace = "".join(format_exception(error))
            outcome = self.codec.encode_error(error, trace, claim.id)
            line = describe_error(error)
        is_kept = self._core.options.keep_succeeded > 0
        update = Update(claim, state, outcome, line, delay, claim.started, trace, is_kept)
        if transaction is not None and state is State.SUCCEEDED:
            self._commit(update, transaction)
            return
        if transaction is not None:
            transaction.rollback()
        self.runner.report(update)

    def _commit(self, update: Update, transaction: OpenTransaction) -> None:
        """Commit a job's own transaction with its outcome; the store thread announces it."""
        claim, runner = update.claim, self.runner
        try:
            is_committed = transaction.commit(update)
        except StoreFull:  # the job's writes are undone: it can run again when there is room
            runner.hand_back(claim)
            return
        claim.is_over = True

        def announce(_store: Store) -> None:
            self.forget(claim)
            if is_committed:  # else the token was invalid
                guard(transaction.wake_peers)
                runner.note_end(update)

        runner.post(announce)

    def forget(self, claim: Claim) -> None:
        """Remove a claim from `held`: its report is on its way to the store; in the store thread.

        `held` may have a newer claim of the job: after an eviction this process can claim it again.
        """
        held = self.held.get(claim.id)
        if held is not None and held[0] is claim:
            del self.held[claim.id]
