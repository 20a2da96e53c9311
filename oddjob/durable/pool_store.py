"""PoolStore: a pool's side of its store: it submits jobs, runs claims, and reports what came of them.

The job that a caller holds and the one that runs are two objects, be it in the same process: the
first is settled when the store says that the outcome is committed, wherever it was reached; the
second is made for each claim, and thrown away.

Locking: ``_lock`` guards the fields; nothing is called under it.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from math import inf
from typing import TYPE_CHECKING, Any, Final

from oddjob.compat import override
from oddjob.durable.codec import (
    Meta,
    decode_call,
    decode_meta,
    decode_outcome,
    describe_error,
    encode_call,
    encode_error,
    encode_key,
    encode_meta,
    encode_result,
    find_function,
    name_of,
)
from oddjob.durable.record import Capacity, Claim, Lane, Limiter, State, Submit, Turn, Update
from oddjob.durable.runner import Consumer, Runner
from oddjob.durable.store import StartedMarks
from oddjob.errors import QueueFull
from oddjob.options import JobSettings
from oddjob.runtime.job import Job
from oddjob.runtime.limits import ConcurrencyLimit, Limit, RateLimiter
from oddjob.runtime.policy import JobPolicy, Settlement
from oddjob.runtime.settling import end
from oddjob.runtime.watchers import CANCELLED, FAILED, SUCCEEDED, Failure
from oddjob.schedule.clock import clock

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore

_LOOKAHEAD: Final = 0.02  # seconds of work that are claimed ahead of the workers
_MOST_CLAIMS: Final = 512
_SHORT: Final = 1e-6  # seconds; of a job, for the division
_STORED_OPTIONS: Final = ("timeout", "retries", "backoff", "retry_on", "no_retry_on")
_STATES: Final = {
    State.SUCCEEDED: SUCCEEDED,
    State.FAILED: FAILED,
    State.CANCELLED: CANCELLED,
}


class PoolStore(Consumer, Settlement):
    """What connects one pool to a runner."""

    def __init__(self, core: "PoolCore", name: str, runner: Runner, marks: StartedMarks) -> None:
        self.name = name
        self.keep_succeeded = 1000
        self.keep_failed = 30 * 86400.0
        self._core: Final = core
        self._runner: Final = runner
        self._marks: Final = marks
        self._lock: Final = threading.Lock()
        self._functions: Final[dict[str, JobPolicy | None]] = {}  # None: the pool's own
        self._policies: Final[dict[str, JobPolicy]] = {}  # of claims, by function
        self._held: Final[dict[Any, Job[Any]]] = {}  # claims that are not reported, by job id
        self._claims: Final[dict[Job[Any], Claim]] = {}
        self._places: Final = list(range(4096))  # for marks, that are free
        self._mean = _LOOKAHEAD  # seconds that a job took of late
        self._is_draining = False

    # Submitting.

    def knows(self, name: str, policy: JobPolicy | None) -> None:
        """Run jobs of a function with that name, under that policy (None: the pool's own)."""
        with self._lock:
            self._functions[name] = policy
            self._policies.pop(name, None)

    def accept(self, job: Job[Any]) -> None:
        """Store a job; raises like `PoolCore.accept`, and `StoreFull` or `StoreUnusable`."""
        self.accept_many([job])

    def accept_many(self, jobs: Sequence[Job[Any]], delay: float | None = None) -> None:
        """Store jobs in one commit."""
        self._core.state.check_open()
        submits = [self._submit_of(job, delay) for job in jobs]
        calls = [None if job._policy.is_detached else _ender(job) for job in jobs]
        for job, answer in zip(jobs, self._runner.submit(submits, calls), strict=True):
            if answer.id is None:
                end(job, FAILED, Failure(QueueFull(f"pool {self.name} is full")))
                raise QueueFull(f"pool {self.name} is full")
            job._add_details().id = str(answer.id)

    def _submit_of(self, job: Job[Any], delay: float | None) -> Submit:
        policy = job._policy
        fn = job._fn
        name = name_of(fn)
        if name not in self._functions:
            self.knows(name, None)
        details = job._details
        carrier = {} if details is None else details.carrier
        return Submit(
            Lane(self.name, name, _limiters(policy)),
            encode_call(name, job._args, job._kwargs),
            name=job.name,
            priority=policy.priority,
            delay=delay,
            key=encode_key(job._key),
            key_limit=policy.key_limit,
            is_serial=policy.is_serial,
            meta=encode_meta(Meta(carrier, self._options_of(policy, name))),
            wants_outcome=not policy.is_detached,
            max_queue=self._core.options.max_queue,
        )

    def _options_of(self, policy: JobPolicy, name: str) -> dict[str, Any]:
        """Return the options of a call that whoever runs it cannot know from its function."""
        base = self._base_policy(name)
        return {
            option: value
            for option in _STORED_OPTIONS
            if (value := getattr(policy.settings.options, option)) != getattr(base.options, option)
        }

    def _base_policy(self, name: str) -> JobSettings:
        policy = self._functions.get(name)
        return self._core.pool._policy.settings if policy is None else policy.settings

    # What the runner asks for, in the store thread.

    @override
    def functions(self) -> Iterable[str]:
        with self._lock:
            return list(self._functions)

    @override
    def capacity(self) -> Capacity:
        may_take = self._core.state.is_open and not self._is_draining
        size = self._core.workers.size if may_take else 0
        with self._lock:
            held = len(self._held)
        ahead = _MOST_CLAIMS if self._mean < _SHORT else int(size * _LOOKAHEAD / self._mean)
        busy = len(self._core.running())
        idle = max(0, size - held)
        limit = max(0, min(_MOST_CLAIMS, size + ahead) - held) if size else 0
        return Capacity(idle, limit, has_spare=held > busy)

    @override
    def start(self, claims: list[Claim]) -> None:
        jobs = []
        for claim in claims:
            try:
                jobs.append(self._job_of(claim))
            except Exception as error:
                self._report(claim, State.FAILED, error)
        if jobs:
            try:
                self._core._start_workers(len(jobs), and_queue=jobs)
            except Exception:  # the pool takes no jobs any more
                for job in jobs:
                    self._give_up(job)

    def _job_of(self, claim: Claim) -> Job[Any]:
        fn = find_function(claim.function)
        if fn is None:
            raise LookupError(f"{claim.function} is not found in its module any more")
        fn = getattr(fn, "__wrapped__", fn) if hasattr(fn, "_target") else fn
        args, kwargs = decode_call(claim.payload)
        meta = decode_meta(claim.meta)
        job: Job[Any] = Job(
            fn, args, kwargs, Context(), self._policy_of(claim, meta), clock.monotonic()
        )
        job._key = claim.key
        job._name = claim.name or None
        details = job._add_details()
        details.id, details.attempt, details.carrier = str(claim.id), claim.attempt, meta.carrier
        with self._lock:
            self._held[claim.id] = job
            self._claims[job] = claim
        return job

    def _policy_of(self, claim: Claim, meta: Meta) -> JobPolicy:
        known = None if meta.options else self._policies.get(claim.function)
        if known is None:
            known = self._new_policy(claim, meta)
            if not meta.options:
                self._policies[claim.function] = known
        return known

    def _new_policy(self, claim: Claim, meta: Meta) -> JobPolicy:
        settings = self._base_policy(claim.function)
        options = settings.options._replace(**meta.options)
        options = options._replace(middleware=(self, *options.middleware))
        settings = settings._replace(options=options, key=None, serial=False, limits=(), priority=0)
        return JobPolicy(self._core, settings, settlement=self)

    def wait(self, job: Job[Any], deadline: float) -> bool:
        """Wait for a job on a worker of this pool, while another one stands in for it."""
        workers = self._core.workers
        with self._core.state.lock:
            workers.size += 1
            self._core.refresh()
        self._runner.wake()
        try:
            return job._watch().wait(deadline)
        finally:
            with self._core.state.lock:
                workers.size -= 1
                self._core.refresh()

    def run(self, job: Job[Any], _carrier: dict[str, str], call: Callable[[], Any]) -> Any:
        """Run an attempt as the outermost middleware: mark that it has begun."""
        claim = self._claims[job]
        place = self._places.pop()
        self._marks.mark(place, claim)
        began = clock.monotonic()
        try:
            return call()
        finally:
            self._mean += (clock.monotonic() - began - self._mean) / 16
            self._marks.unmark(place)
            self._places.append(place)

    @override
    def take_back(self) -> list[Claim]:
        taken = []
        for job in list(self._held.values()):
            if job._watch().claim_queued(self):
                self._core.dispatcher.remove(job)
                taken.append(self._forget(job))
        self._mean = max(self._mean, _LOOKAHEAD)  # they take longer than was thought: claim less
        return [claim for claim in taken if claim is not None]

    @override
    def stop(self, job: Any) -> None:
        held = self._held.get(job)
        if held is not None:
            self._cancel(held)

    def _cancel(self, job: Job[Any]) -> bool:
        """Cancel a claim that has not begun, or ask it to stop."""
        claim = self._claims.get(job)
        is_cancelled = job.cancel()
        if is_cancelled and claim is not None:
            self._report(claim, State.CANCELLED)
        return is_cancelled

    @override
    def drop_all(self) -> None:
        for job in list(self._held.values()):
            self._forget(job)
            job.cancel()

    @override
    def fire(self, turn: Turn) -> None:
        """Submit what recurring entries are due."""

    # What execution tells of an attempt: see `Settlement`.

    @override
    def succeeded(self, job: Job[Any], result: Any) -> None:
        claim = self._claims[job]
        outcome = None if claim.origin is None else encode_result(result)
        self._report(claim, State.SUCCEEDED, outcome=outcome)

    @override
    def failed(self, job: Job[Any], error: BaseException) -> float | None:
        claim = self._claims.get(job)
        if claim is None:
            return None
        retry = job._policy.retry
        delay = None if retry is None else retry.decide(error, job.attempt)
        if job.cancel_requested:
            delay = None
        state = State.FAILED if delay is None else State.SCHEDULED
        self._report(claim, state, error, delay=delay or 0.0)
        return delay

    @override
    def cancelled(self, job: Job[Any]) -> bool:
        details = job._details
        if not job._policy.is_durable or details is None or details.id is None:
            return True  # it is a claim's, or was not stored
        stored = int(details.id)
        held = self._held.get(stored)
        if held is not None and self._cancel(held):
            return True
        self._runner.call(lambda store: store.cancel([stored]))
        record = self._runner.call(lambda store: store.reader.record(stored))
        return record is None or record.state is State.CANCELLED

    def ended(self, job: Job[Any]) -> None:
        """Report a job that ended without an attempt's coming to its end: its worker crashed."""
        claim = self._claims.get(job)
        if claim is not None and job.done():
            error = None if job.cancelled() else job._outcome.error
            self._report(claim, State.CANCELLED if error is None else State.FAILED, error)

    def _report(
        self,
        claim: Claim,
        state: State,
        error: BaseException | None = None,
        *,
        outcome: bytes | None = None,
        delay: float = 0.0,
    ) -> None:
        with self._lock:
            job = self._held.pop(claim.id, None)
            self._claims.pop(job, None)  # type: ignore[arg-type]  # None is not in there
        line = trace = None
        if error is not None:
            from traceback import format_exception

            outcome, line = encode_error(error), describe_error(error)
            trace = "".join(format_exception(error))
        update = Update(claim, state, outcome, line, delay, None, trace)
        self._runner.report(update, bool)

    def _forget(self, job: Job[Any]) -> Claim | None:
        with self._lock:
            claim = self._claims.pop(job, None)
            if claim is not None:
                del self._held[claim.id]
        return claim

    def _give_up(self, job: Job[Any]) -> None:
        claim = self._forget(job)
        if claim is not None:
            self._runner.report(Update(claim, State.QUEUED), bool)

    def drain(self) -> None:
        """Take no more jobs; hand back those that have not begun."""
        self._is_draining = True
        for claim in self.take_back():
            self._runner.report(Update(claim, State.QUEUED), bool)


def _ender(job: Job[Any]) -> Callable[[State, bytes | None, str | None], object]:
    """Return what settles the job in a caller's hands when its end is committed."""

    def on_end(state: State, outcome: bytes | None, error: str | None) -> None:
        if state is State.CANCELLED:
            job.cancel()
            return
        try:
            value = decode_outcome(state, outcome, error)
        except Exception as failure:
            end(job, FAILED, Failure(failure))
            return
        ending: Any = _STATES[state]
        end(job, ending, value if state is State.SUCCEEDED else Failure(value))

    return on_end


def _limiters(policy: JobPolicy) -> tuple[Limiter, ...]:
    return tuple(_limiter(limit, number) for number, limit in enumerate(policy.limits))


def _limiter(limit: Limit, number: int) -> Limiter:
    if isinstance(limit, ConcurrencyLimit):
        return Limiter(f"concurrency {number}", max_running=limit.limit)
    assert isinstance(limit, RateLimiter)
    rate = limit.rate
    return Limiter(f"rate {number}", None, rate.limit, rate.per, rate.burst or rate.limit)


__all__ = ["CANCELLED", "PoolStore", "inf"]
