"""Chains and batches: jobs that belong together, and operations on them as a whole.

A job without a call, the *batch job*, stands for a chain or batch, and ends when all members have
ended. The members of a chain wait for one another, each for the result of the previous one; those
of a batch are independent. See `oddjob.runtime.dependencies`, and `oddjob.durable.record`.

Guarantees: the jobs of a chain, or of a batch's block, are accepted as a whole: all, or none.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, Unpack

from oddjob.callables import describe
from oddjob.compat import override
from oddjob.errors import BatchFailed, PoolClosed, PredecessorFailed
from oddjob.options import JobOptions, JobSettings
from oddjob.quantities import Seconds, as_wait
from oddjob.runtime import inline
from oddjob.runtime.dependencies import (
    accept_whole,
    batch_of,
    cancel_members,
    new_linked,
    refuse_whole,
)
from oddjob.runtime.job import Job
from oddjob.runtime.job_state import FAILED, JobState, Progress
from oddjob.runtime.links import Condition, Links
from oddjob.runtime.policy import JobPolicy
from oddjob.runtime.slot import current_job
from oddjob.schedule.clock import clock

if TYPE_CHECKING:
    from oddjob.submitter import Submitter


def batch() -> None:  # (The names of these two are in the records of stored jobs.)
    """Stand for a batch, as the function of its batch job; it is never called."""


def chain() -> None:
    """Stand for a chain, as the function of its batch job; it is never called."""


class Call:
    """A call that is to become a job: what ``fn.s(…)`` and ``pool.s(fn, …)`` return."""

    __slots__ = ("_args", "_fn", "_kwargs", "_target")

    def __init__(
        self, target: "Submitter", fn: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> None:
        self._target = target
        self._fn = fn
        self._args = args
        self._kwargs = kwargs

    @override
    def __repr__(self) -> str:
        shown = [*map(repr, self._args), *(f"{n}={v!r}" for n, v in self._kwargs.items())]
        return f"<Call {describe(self._fn)}({', '.join(shown)}) in {self._target!r}>"

    def options(self, **options: Unpack[JobOptions]) -> "Call":
        """Return a copy of this call with other options; see `Pool.options`."""
        return Call(self._target.options(**options), self._fn, self._args, self._kwargs)


class _Part(NamedTuple):
    """A job of a workflow, and what is needed to make it again."""

    job: Job[Any]
    policy: JobPolicy
    call: Call
    links: Links

    @classmethod
    def of(cls, policy: JobPolicy, call: Call, links: Links) -> "_Part":
        """Make a part with a new job."""
        arguments = call._fn, call._args, call._kwargs or None, call._target._key
        return cls(new_linked(policy, *arguments, links), policy, call, links)


class Workflow:
    """The common base of chains and batches.

    Attributes:
        job: the job that stands for the whole: its state, its end, its record in a store.
        jobs: the members in order, except those added by `Batch.perform` and `perform_many`.
    """

    def __init__(
        self,
        target: "Submitter",
        kind: Callable[[], None],
        name: str,
        parent: "Batch | None",
        running: Job[Any] | None = None,
    ) -> None:
        of_members = target._policy.settings
        options = of_members.options._replace(fair_by=None)
        persist, connection = of_members.persist, of_members.connection
        settings = JobSettings(options, name, persist=persist, connection=connection)
        policy = JobPolicy(target._core, settings)
        self._is_stored: Final = policy.is_durable
        self._target: Final = target
        self._parent: Final = parent
        self._parts: list[_Part] = []  # which are accepted as a whole
        self.jobs: list[Job[Any]] = []
        if running is not None:  # accepted before; one of its jobs adds more
            self.job: Job[Any] = running
            return
        links = Links(is_batch=True, batch=None if parent is None else parent.job)
        self.job = new_linked(policy, kind, (), None, None, links)
        self._parts.append(_Part(self.job, policy, Call(target, kind, (), {}), links))

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.jobs)} jobs, {self.job!r}>"

    @property
    def id(self) -> str:
        """The identifier of the batch job; `Pool.find` finds it in a store."""
        return self.job.id

    @property
    def state(self) -> JobState:
        """``scheduled`` until all jobs have ended, then how they have ended: see `result`."""
        return self.job.state

    @property
    def progress(self) -> Progress:
        """The number of jobs that have ended, and of all jobs."""
        return self.job.progress or Progress(0, len(self.jobs))

    def done(self) -> bool:
        """Return whether all jobs have ended."""
        return self.job.done()

    def why(self) -> str:
        """Return why the workflow has not ended, or which job has failed; see `Job.why`."""
        failed = [job for job in self.jobs if self.done() and job.state == FAILED]
        ran = [job for job in failed if not isinstance(job.exception(), PredecessorFailed)]
        return f"job {ran[0].name}: {ran[0].why()}" if ran else self.job.why()

    def cancel(self) -> bool:
        """Cancel waiting jobs, ask running ones to stop; return whether the whole is cancelled."""
        cancel_members(self.job)
        return self.job.cancelled()

    def retry(self) -> bool:
        """Run failed and cancelled jobs again, and those that did not run because of them.

        New jobs take their places in `job` and `jobs`, as a future ends only once. In memory, all
        jobs must have ended. Returns False if there is nothing to run again.
        """
        store, before = self._target._core.store, [self.job, *self.jobs]
        if self._is_stored and not inline.is_on():
            if not store.call(lambda each: each.retry([before[0].id])):
                return False
            again = {job: store.live.find(job) for job in before if _is_to_be_retried(job)}
        elif not _is_to_be_retried(self.job):
            return False
        elif not (again := self._accept_again()):
            return False  # what `current_batch` returns knows none of the jobs
        self.job, *self.jobs = [again.get(job, job) for job in before]
        return True

    def _accept_again(self) -> dict[Job[Any], Job[Any]]:
        again: dict[Job[Any], Job[Any]] = {}
        parts = [*self._parts]
        for n, (job, policy, call, links) in enumerate(parts):
            # Its predecessor runs again, and had ended in another way than this job waits for. So
            # this job has ended without running, or is about to.
            is_lost = any(
                predecessor in again and not condition.is_met(predecessor.state)
                for predecessor, condition in links.after
            )
            if is_lost or _is_to_be_retried(job):
                after = tuple((again.get(each, each), condition) for each, condition in links.after)
                batch_job = None if links.batch is None else again.get(links.batch, links.batch)
                links = links._replace(after=after, batch=batch_job)  # noqa: PLW2901
                parts[n] = _Part.of(policy, call, links)
                again[job] = parts[n].job
        accept_whole(list(again.values()))
        self._parts[:] = parts
        return again

    def _add_call(
        self, call: "Call | Callable[..., Any]", links: Links, *, is_detached: bool = False
    ) -> Job[Any]:
        if not isinstance(call, Call):
            if not callable(call):
                raise TypeError(
                    f"chains and batches take functions, and calls that fn.s(…) and pool.s(fn, …) "
                    f"return, not {call!r}"
                )
            call = self._target.s(call)
        target = call._target
        policy = target._policy.detach() if is_detached else target._policy
        part = _Part.of(policy, call, links)
        self._parts.append(part)
        return part.job

    def _accept(self) -> None:
        """Accept all jobs, or leave that to the batch to which this workflow belongs."""
        if self._parent is None or not self._parent._is_open:
            accept_whole([part.job for part in self._parts])
        else:
            self._parent._parts += self._parts


class Chain(Workflow):
    """Jobs of which each receives the result of the previous one as its first argument.

    Each has the options of its own call, and starts when the previous job has succeeded. If a job
    fails, all later ones end with `PredecessorFailed`.
    """

    def __init__(
        self,
        target: "Submitter",
        calls: "tuple[Call | Callable[..., Any], ...]",
        parent: "Batch | None" = None,
    ) -> None:
        if not calls:
            raise TypeError("a chain needs calls: chain(fetch.s(url), parse, save)")
        names = " | ".join(describe(getattr(each, "_fn", each)) for each in calls)
        super().__init__(target, chain, names, parent)
        for call in calls:
            after = ((self.jobs[-1], Condition.VALUE),) if self.jobs else ()
            self.jobs.append(self._add_call(call, Links(after, self.job)))
        self._accept()

    def result(self, timeout: Seconds | None = None) -> Any:
        """Wait until the chain has ended, and return the result of its last job.

        Raises:
            TimeoutError: the chain has not ended within `timeout` seconds.
            CancelledError: a job was cancelled.
            BaseException: the exception of the job that failed.
        """
        deadline, result = clock.steady() + as_wait("timeout", timeout), None
        with suppress(BatchFailed):  # the failed job raises its own exception below
            self.job.result(timeout)
        for job in self.jobs:
            result = job.result(max(0.0, deadline - clock.steady()))
        return result


class Batch(Workflow):
    """Jobs that belong together, and calls to be made when all of them have ended.

    The jobs are accepted as a whole at the end of the ``with`` block; do not wait for them inside
    it. If the block raises, they are cancelled. Jobs of a batch add more with `current_batch`.

    Thread safety: a block must be used by a single thread.
    """

    def __init__(
        self,
        target: "Submitter",
        name: str | None = None,
        callbacks: "dict[Condition, Call | Callable[..., Any] | None] | None" = None,
        parent: "Batch | None" = None,
        running: Job[Any] | None = None,
    ) -> None:
        super().__init__(target, batch, name or "batch", parent, running)
        # Made by `current_batch`: there is no block, and each job is accepted when it is added.
        self._adds_to_running: Final = running is not None
        self._is_open = not self._adds_to_running  # the block has not ended
        for condition, call in (callbacks or {}).items():
            if call is not None:
                self._add_call(call, Links(((self.job, condition),)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._is_open = False
        if self._adds_to_running:
            return
        is_accepted = False
        try:
            if error is None:
                self._accept()
                is_accepted = True
        finally:
            if not is_accepted:
                refuse_whole([part.job for part in self._parts])

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Job[Any]:
        """Add ``fn(*args, **kwargs)``; return its job. See `Pool.submit`."""
        return self.add(self._target.s(fn, *args, **kwargs))[0]

    def submit_many(self, fn: Callable[..., Any], iterable: Iterable[Any]) -> list[Job[Any]]:
        """Add ``fn(item)`` for every item; return the jobs."""
        return self.add(*[self._target.s(fn, item) for item in iterable])

    def add(self, *calls: "Call | Callable[..., Any]") -> list[Job[Any]]:
        """Add calls made by ``fn.s(…)``, also of other pools; return the jobs."""
        jobs = self._add_all(calls, is_detached=False)
        self.jobs.extend(jobs)
        return jobs

    def perform(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        """Add ``fn(*args, **kwargs)`` without returning its job. See `Pool.perform`."""
        self._add_all([self._target.s(fn, *args, **kwargs)], is_detached=True)

    def perform_many(self, fn: Callable[..., Any], iterable: Iterable[Any]) -> None:
        """Add ``fn(item)`` for every item without returning the jobs."""
        self._add_all([self._target.s(fn, item) for item in iterable], is_detached=True)

    def _add_all(
        self, calls: "Iterable[Call | Callable[..., Any]]", *, is_detached: bool
    ) -> list[Job[Any]]:
        self._check_open()
        links, number = Links(batch=self.job), len(self._parts)
        try:
            jobs = [self._add_call(call, links, is_detached=is_detached) for call in calls]
        except BaseException:
            del self._parts[number:]  # all are added, or none
            raise
        if self._adds_to_running:
            accept_whole(jobs)
            self._parts.clear()
        return jobs

    def _check_open(self) -> None:
        if not (self._is_open or self._adds_to_running):
            raise RuntimeError(
                "the block of this batch has ended: only its own jobs may add to it now, with "
                "oddjob.current_batch()"
            )

    def chain(self, *calls: "Call | Callable[..., Any]") -> Chain:
        """Add a chain, which is one job of this batch; see `Pool.chain`."""
        self._check_open()
        return Chain(self._target, calls, self)

    def batch(
        self,
        *,
        on_success: "Call | Callable[..., Any] | None" = None,
        on_failure: "Call | Callable[..., Any] | None" = None,
        on_done: "Call | Callable[..., Any] | None" = None,
        name: str | None = None,
    ) -> "Batch":
        """Add a batch, which is one job of this one; see `Pool.batch`."""
        self._check_open()
        return Batch(self._target, name, _by_end(on_success, on_failure, on_done), self)

    def result(self, timeout: Seconds | None = None) -> None:
        """Wait until all jobs have ended.

        Raises:
            TimeoutError: some have not ended within `timeout` seconds.
            BatchFailed: at least one has failed.
            CancelledError: none has failed, and at least one was cancelled.
            RuntimeError: the block of the batch has not ended.
        """
        if self._is_open:
            raise RuntimeError("the jobs of a batch are submitted when its `with` block ends")
        self.job.result(timeout)


def current_batch() -> Batch | None:
    """Return the batch of the job that the calling thread is running, to add jobs to it.

    For a job of a chain it is the chain, which then ends after the added jobs. Returns None outside
    of jobs, and for a job that belongs to no batch.

    Raises:
        PoolClosed: the pool was anonymous, and has been garbage-collected.
    """
    job = current_job()
    batch_job = None if job is None else batch_of(job)
    if job is None or batch_job is None:
        return None
    if job.pool is None:
        raise PoolClosed("the pool of this batch was garbage-collected: it takes no more jobs")
    return Batch(job.pool, running=batch_job)


class WorkflowMethods:
    """Methods that submit jobs which belong together."""

    def s(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Call:
        """Return ``fn(*args, **kwargs)`` as a call for `chain` and `batch`, without submitting it.

        For a job function, ``fn.s(…)`` is shorter.
        """
        return Call(self, fn, args, kwargs)  # type: ignore[arg-type]

    def chain(self, *calls: Call | Callable[..., Any]) -> Chain:
        """Submit calls of which each receives the result of the previous one; see `Chain`.

        ::

            chain = pool.chain(fetch.s(url), parse, save.s(to="disk"))

        calls ``fetch(url)``, then ``parse(page)``, then ``save(text, to="disk")``.

        Args:
            *calls: functions, or calls made by `s`, also of other pools.

        Raises:
            TypeError: some jobs are to be stored, and some are not.
            PoolClosed, PoolBroken, StoreFull, StoreUnusable: as for `submit`. ``max_queue`` does
                not apply to jobs that are submitted as a whole.
        """
        return Chain(self, calls)  # type: ignore[arg-type]

    def batch(
        self,
        *,
        on_success: Call | Callable[..., Any] | None = None,
        on_failure: Call | Callable[..., Any] | None = None,
        on_done: Call | Callable[..., Any] | None = None,
        name: str | None = None,
    ) -> Batch:
        """Return a block whose jobs are submitted as a whole at its end; see `Batch`.

        ::

            with pool.batch(on_success=report.s(day)) as batch:
                batch.submit_many(convert, files)

        Args:
            on_success: a call to be made when all jobs of the batch have succeeded.
            on_failure: a call to be made when all have ended, and at least one has failed.
            on_done: a call to be made when all have ended.
            name: the name of the batch in logs.

        Each of these calls is a job of its own; the jobs of calls that are not made are cancelled.
        """
        return Batch(self, name, _by_end(on_success, on_failure, on_done))  # type: ignore[arg-type]


def _by_end(on_success: Any, on_failure: Any, on_done: Any) -> dict[Condition, Any]:
    return {
        Condition.IF_SUCCEEDED: on_success,
        Condition.IF_FAILED: on_failure,
        Condition.ENDED: on_done,
    }


def _is_to_be_retried(job: Job[Any]) -> bool:
    """Return whether a job has failed or was cancelled."""
    return job.done() and (job.cancelled() or job.exception() is not None)
