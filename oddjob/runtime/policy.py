"""JobPolicy: the options that all jobs of a pool or view share.

A pool has a policy, and so has every view that `options` derives. Everything that does not depend
on the job is decided here once, so that options cost nothing per job.

=============  =================================================================================
flag           meaning, and consequence
=============  =================================================================================
is_plain       no timeout, retries, serial key, middleware or store: `execution` calls and settles
               the job directly; any other job makes attempts
is_prepared    key functions, middleware or other jobs are involved: new jobs go through `prepare`
is_limited     priorities, keys, limits, retries or fair shares: the pool needs a `LimitedQueue`
is_durable     new jobs go to the store. (A job that has come from there has a policy that is not
               durable, but whose `settlement` is the store's.)
is_detached    no caller holds the job (`perform`): a failure is reported at once. `detach` returns
               the same policy with this flag, and keeps it in `detached`.
=============  =================================================================================
"""

from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, Final

from oddjob.keys import check_key
from oddjob.options import JobSettings
from oddjob.retry import RetryPolicy
from oddjob.runtime.links import Condition, Links
from oddjob.runtime.settlement import Settlement
from oddjob.threads import name_of_caller

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore
    from oddjob.runtime.job import Job

ONE_ARGUMENT: Final = object()  # as `kwargs`: `args` is the one argument, and the context is shared


def call_arguments(args: Any, kwargs: Any) -> tuple[Any, dict[str, Any]]:
    """Return the positional and keyword arguments of a call, given as a `Job` holds them."""
    return ((args,), {}) if kwargs is ONE_ARGUMENT else (args, kwargs or {})


class JobPolicy:
    """The options of a pool or view, ready for use by its jobs.

    Thread safety: immutable, except for `detached`: if two threads make it, either may be used.
    """

    __slots__ = ("_accepting", "_without_after", "accept", "core", "detached", "fair_by",
                 "fair_weights", "is_detached", "is_durable", "is_limited", "is_plain",
                 "is_prepared", "is_serial", "key_function", "key_limit", "limits", "middleware",
                 "name", "priority", "retry", "settings", "settlement", "timeout")  # fmt: skip

    def __init__(
        self,
        core: "PoolCore",
        settings: JobSettings,
        *,
        is_detached: bool = False,
        settlement: Settlement | None = None,
    ) -> None:
        self.core: Final = core
        self.settings: Final = settings
        self.is_detached: Final = is_detached
        self.detached: JobPolicy | None = None  # made on first use
        self.name: Final = settings.name
        self.priority: Final = settings.priority
        self.key_function: Final = settings.key
        self.is_serial: Final = settings.serial
        self.limits: Final = settings.limits
        options = settings.options
        self.fair_by: Final = options.fair_by
        self.fair_weights: Final = options.fair_weights or {}
        self.key_limit: Final = 1 if settings.serial else options.key_limit
        self.timeout: Final = None if options.timeout == inf else options.timeout
        retry = RetryPolicy(options.retries, options.backoff, options.retry_on, options.no_retry_on)
        self.retry: Final = retry if options.retries else None
        self.middleware: Final = options.middleware
        self.is_durable: Final = core.store is not None and settlement is None and settings.persist
        default = core.settlement if settings.persist else core.memory
        self.settlement: Final = settlement or default
        self.is_plain: Final = (
            self.timeout is None
            and self.retry is None
            and not self.is_serial
            and not self.middleware
            and self.settlement is core.memory
            and not self.is_durable
        )
        # (A constant key belongs to the view and is passed with each job.)
        self.is_limited: Final = bool(
            self.priority
            or self.key_function
            or self.is_serial
            or self.limits
            or self.retry
            or self.fair_by is not None
        )
        self.is_prepared: Final = bool(
            self.key_function
            or self.is_serial
            or self.middleware
            or settings.after
            or self.fair_by is not None
        )
        self._accepting: Final[Any] = core.store if self.is_durable else core.intake
        # The policy of jobs that wait for others: it does not keep those others alive, as
        # `settings.after` would while the job exists.
        self._without_after: Final = (
            JobPolicy(core, settings._replace(after=()), is_detached=is_detached)
            if settings.after
            else None
        )
        self.accept: Final[Callable[[Job[Any]], None]] = (
            self._prepare_and_accept if self.is_prepared else self._accepting.accept
        )

    def detach(self) -> "JobPolicy":
        """Return the same policy for jobs that no caller holds."""
        if self.detached is None:
            self.detached = JobPolicy(self.core, self.settings, is_detached=True)
        return self.detached

    def prepare(self, *jobs: "Job[Any]") -> None:
        """Compute the keys of new jobs, call the middleware, and set the jobs to wait for.

        Raises:
            TypeError: a key has a wrong type, or a serial job has no key.
            Exception: whatever a key function or the middleware raises.
        """
        for job in jobs:
            self._set_key(job)
        if self.middleware and jobs:
            self._call_middleware(jobs)
        if self._without_after is not None:
            after = tuple((other, Condition.SUCCESS) for other in self.settings.after)
            for job in jobs:
                job._policy = self._without_after
                details = job._ensure_details()
                details.links = (details.links or Links())._replace(after=after)

    def _set_key(self, job: "Job[Any]") -> None:
        if self.key_function is not None and job._key is None:
            job._key = _key_from(self.key_function, job)
        if self.fair_by is not None:
            fair_by = self.fair_by
            job._fair_key = _key_from(fair_by, job) if callable(fair_by) else fair_by
        if self.is_serial and job._key is None:
            raise TypeError(
                f"serial=True needs a key: it tells which jobs {job.name} is to wait for"
            )

    def _call_middleware(self, jobs: "Sequence[Job[Any]]") -> None:
        carriers, submitter = [], name_of_caller()
        for job in jobs:
            details = job._ensure_details()
            details.submitter = submitter
            carriers.append(details.carrier)
        for each in self.middleware:
            submit, submit_many = getattr(each, "submit", None), getattr(each, "submit_many", None)
            if submit_many is not None and len(jobs) > 1:
                submit_many(jobs, carriers)
            elif submit is not None:
                for job, carrier in zip(jobs, carriers, strict=True):
                    submit(job, carrier)

    def _prepare_and_accept(self, job: "Job[Any]") -> None:
        self.prepare(job)
        if self.settings.after:
            self.core.intake.accept_many([job])
        else:
            self._accepting.accept(job)


def _key_from(function: Callable[..., Any], job: "Job[Any]") -> Any:
    args, kwargs = call_arguments(job._args, job._kwargs)
    return check_key(function(*args, **kwargs))
