"""Middleware: code that runs around every job of a pool or view.

Contexts of frameworks, tracing, error reporting and log fields are middleware. Pass objects with
one or both of the methods below as ``Pool(middleware=[…])`` or ``pool.options(middleware=[…])``;
those of a view are added to those of its pool. The first one is the outermost. A pool without any
pays nothing for it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from oddjob.compat import TypeVar
from oddjob.errors import JobTimeout
from oddjob.runtime.settling import failure_of, was_stopped

if TYPE_CHECKING:
    from oddjob.runtime.job import Job
    from oddjob.schedule.triggers import Trigger

_recurrence: Final[ContextVar["Trigger | None"]] = ContextVar("recurrence", default=None)
R = TypeVar("R")


class Middleware:
    """A base class for middleware; any other object with a `submit` or a `run` method will do.

    Thread safety: `submit` and `run` are called from many threads at once.
    """

    def submit(self, job: "Job[Any]", carrier: dict[str, str]) -> None:
        """Act in the submitting thread, before the job is queued.

        Args:
            job: the job that is about to be queued. Of a pool with a store it has no `id` yet,
                which is an empty string: the store gives it when the job is committed. `run` sees
                the one by which `Pool.find` finds the job.
            carrier: what travels with the job to `run`, possibly in another process. Put in
                strings, such as trace identifiers: they join what both methods record.

        What this raises refuses the job: it is not queued, and the caller gets the exception.
        """

    def submit_many(self, jobs: "Sequence[Job[Any]]", carriers: Sequence[dict[str, str]]) -> None:
        """Act as `submit` does, for jobs that are queued together; by default, `submit` each.

        Args:
            jobs: two or more jobs of one function.
            carriers: the carrier of each of them.
        """
        for job, carrier in zip(jobs, carriers, strict=True):
            self.submit(job, carrier)

    def run(self, job: "Job[Any]", carrier: dict[str, str], call: Callable[[], R]) -> R:  # noqa: ARG002
        """Act around one attempt of a job, in the thread that runs it and the job's context.

        Args:
            job: the job. ``job.is_inline`` tells whether it runs in place of, or inside, other
                code of this thread, whose state must then be left alone.
            carrier: what `submit` has put in.
            call: runs the rest: the inner middleware, then the job's function (a coroutine runs
                to its end in there). Call it once, or not at all.

        Returns:
            The job's result, usually what `call` returned.

        What this raises is the job's failure.
        """
        return call()


def compose(
    middleware: Iterable[Any], job: "Job[Any]", carrier: dict[str, str], call: Callable[[], Any]
) -> Callable[[], Any]:
    """Return a callable that runs `call` inside the ``run`` methods of `middleware`."""
    for each in reversed(tuple(middleware)):
        run = getattr(each, "run", None)
        if run is not None:
            call = partial(run, job, carrier, call)
    return call


# What middleware of this package asks of a job.


def pool_of(job: "Job[Any]") -> str:
    """Return the name of a job's pool; of an anonymous one, what it is called in the log."""
    return job._policy.core.name or job._policy.core.label


def label_of_pool(pool: Any) -> str:
    """Return the name of a pool; of an anonymous one, what it is called in the log."""
    return pool.name or pool.supervisor().name.removesuffix("-supervisor")  # type: ignore[no-any-return]


def is_stored(job: "Job[Any]") -> bool:
    """Return whether a job that is being submitted goes to a store."""
    return job._policy.is_durable


def queued_for(job: "Job[Any]") -> float:
    """Return how long a running job was queued, in seconds; of a stored one, by its record."""
    times = job._times()
    if times.queued is None or times.started is None:
        return 0.0
    return max(0.0, (times.started - times.queued).total_seconds())


def recurrence_of_submit() -> "Trigger | None":
    """Return what the jobs that are being submitted recur by; None: they do not."""
    return _recurrence.get()


@contextmanager
def recurring_by(trigger: "Trigger") -> Iterator[None]:
    """Have `recurrence_of_submit` return a trigger in this block."""
    before = _recurrence.set(trigger)
    try:
        yield
    finally:
        _recurrence.reset(before)


def outcome_of(job: "Job[Any]", attempt: int, error: BaseException | None = None) -> str:
    """Return how an attempt ends whose function has just returned, or raised an exception.

    Args:
        job: the job.
        attempt: its number, as `Job.attempt` was when it began.
        error: the exception.

    Returns:
        ``succeeded``, ``failed``, ``retried``, ``timed_out``, or ``cancelled``: it was asked to
        stop, and has. An attempt whose time was up has ended before, with the job or without it.
    """
    details = job._ensure_details()
    if details.attempt != attempt:
        return "retried"
    if has_timed_out(job):
        return "timed_out"
    if job.cancelled() or was_stopped(job, error):
        return "cancelled"
    if details.concluder is not None or (error is not None and will_retry(job, error)):
        return "retried"
    return "succeeded" if error is None else "failed"


def has_timed_out(job: "Job[Any]") -> bool:
    """Return whether a job has ended because its time was up; this is no look at its failure."""
    failure = failure_of(job)
    return failure is not None and isinstance(failure.error, JobTimeout)


def will_retry(job: "Job[Any]", error: BaseException) -> bool:
    """Return whether a running job is going to be retried if it fails by this exception."""
    retry = job._policy.retry
    is_wanted = not job.cancel_requested and not job.done()
    return is_wanted and retry is not None and retry.decide(error, job.attempt) is not None
