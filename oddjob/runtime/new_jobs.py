"""Make the jobs of one `submit_many`, or of one firing of a timer."""

from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any

from oddjob.keys import Key
from oddjob.runtime.job import Job
from oddjob.runtime.policy import ONE_ARGUMENT, JobPolicy


def new_jobs(
    policy: JobPolicy,
    fn: Callable[..., Any],
    calls: Sequence[Any],
    kwargs: Any,
    context: Context,
    key: Key | None,
    queued_at: float,
    models: Sequence[Job[Any]] = (),
) -> list[Job[Any]]:
    """Make the jobs of several calls.

    Each item of `calls` is a tuple of arguments or, if `kwargs` is ONE_ARGUMENT, a single argument.
    `models` are jobs that were made of the same calls before: their keys, carriers and submitters
    are copied, and no user code runs.
    """
    shares_context = kwargs is ONE_ARGUMENT
    jobs: list[Job[Any]] = [
        Job(fn, call, kwargs, context if shares_context else context.copy(), policy, queued_at, key)
        for call in calls
    ]
    if models:
        for job, model in zip(jobs, models, strict=True):
            job._key = model._key
            if policy.fair_by is not None:
                job._fair_key = model._fair_key
            if model._details is not None:
                details = job._ensure_details()
                details.carrier = model._details.carrier.copy()
                details.submitter = model._details.submitter
    elif policy.is_prepared:
        policy.prepare(*jobs)
    return jobs
