"""StoredJob: access to the private parts of a `Job` for `oddjob.durable`.

Private attributes are read only inside their own folder, and `Job` is in this one.
"""

from collections.abc import Callable
from contextvars import Context
from typing import Any, Final, NamedTuple

from oddjob.keys import Key
from oddjob.runtime.job import Job
from oddjob.runtime.job_state import JobState
from oddjob.runtime.policy import JobPolicy, call_arguments
from oddjob.runtime.shared_state import JobDetails, SharedState
from oddjob.schedule.clock import clock

_EMPTY: Final = Context()  # each attempt runs in a copy of it


class StoredParts(NamedTuple):
    """What is to be stored of a job."""

    policy: JobPolicy
    fn: Callable[..., Any]
    args: Any
    kwargs: Any  # see `call_arguments`
    key: Key | None
    details: JobDetails | None


def parts_of(job: Job[Any]) -> StoredParts:
    """Return what is to be stored of a job."""
    return StoredParts(job._policy, job._fn, job._args, job._kwargs, job._key, job._details)


def fair_key_of(job: Job[Any]) -> Key | None:
    """Return the key of a job's option `fair_by`."""
    return getattr(job, "_fair_key", None)


def arguments_of(job: Job[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with which a job calls its function."""
    return call_arguments(job._args, job._kwargs)


def policy_of(job: Job[Any]) -> JobPolicy:
    """Return the policy of a job."""
    return job._policy


def details_of(job: Job[Any]) -> JobDetails:
    """Return the rarer fields of a job, which are made if they are not there."""
    return job._ensure_details()


def shared_state_of(job: Job[Any]) -> SharedState:
    """Return the half of a job that has a lock."""
    return job._ensure_shared()


def local_state_of(job: Job[Any]) -> JobState:
    """Return the state of a job, as far as this process knows it without asking the store."""
    return job._local_state


def new_stored_job(
    fn: Callable[..., Any] | None, policy: JobPolicy, key: Key | None, name: str
) -> Job[Any]:
    """Make a job that stands for a stored one: to run it here, or (without `fn`) to wait for it.

    Its arguments are set by `set_arguments`, when it runs.
    """
    job: Job[Any] = Job(fn, (), None, _EMPTY, policy, clock.monotonic(), key)  # type: ignore[arg-type]
    job._name = name or None
    return job


def set_arguments(job: Job[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Set the arguments of a job that was made without arguments."""
    job._args, job._kwargs = args, kwargs
