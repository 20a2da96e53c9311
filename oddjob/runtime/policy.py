"""JobPolicy: what all jobs that are submitted in one place have in common.

A pool has one, and so has every view that `options` derives. All that can be decided per view is
decided here, once, so a job costs the same to make however many options it has.
"""

from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, Final

from oddjob.keys import check_key
from oddjob.options import JobSettings
from oddjob.retry import RetryPolicy
from oddjob.runtime.job_host import JobHost, Settlement
from oddjob.runtime.links import Condition, Links
from oddjob.threads import name_of_caller

if TYPE_CHECKING:
    from oddjob.runtime.job import Job

ONE_ARGUMENT: Final = object()  # as `kwargs`: `args` is the one argument, and the context is shared


class JobPolicy:
    """The options of a pool or view, ready for use by its jobs.

    Thread safety: immutable, but for `detached`, which two threads may make twice without harm.
    """

    __slots__ = ("_accepting", "_without_after", "accept", "detached", "fair_by", "fair_weights",
                 "host", "is_detached", "is_durable", "is_limited", "is_plain", "is_prepared",
                 "is_serial", "key_function", "key_limit", "limits", "middleware", "name",
                 "priority", "retry", "settings", "settlement", "timeout")  # fmt: skip

    def __init__(
        self,
        host: JobHost,
        settings: JobSettings,
        *,
        is_detached: bool = False,
        settlement: Settlement | None = None,
    ) -> None:
        self.host: Final = host
        self.settings: Final = settings
        self.is_detached: Final = is_detached  # nobody waits: a failure is reported at once
        self.detached: JobPolicy | None = None  # the same for `perform`, made on first use
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
        # Whether its jobs go to the store; those that come from there have a settlement.
        self.is_durable: Final = host.store is not None and settlement is None and settings.persist
        default = host.settlement if settings.persist else host.memory
        self.settlement: Final = settlement or default
        # A plain job is called and settled; any other one makes attempts that are accounted for.
        self.is_plain: Final = (
            self.timeout is None
            and self.retry is None
            and not self.is_serial
            and not self.middleware
            and self.settlement is host.memory
            and not self.is_durable
        )
        # Whether its jobs need more than a FIFO queue. (A constant key is a view's, not its own.)
        self.is_limited: Final = bool(
            self.priority
            or self.key_function
            or self.is_serial
            or self.limits
            or self.retry
            or self.fair_by is not None
        )
        # Whether `prepare` has anything to do.
        self.is_prepared: Final = bool(
            self.key_function
            or self.is_serial
            or self.middleware
            or settings.after
            or self.fair_by is not None
        )
        self._accepting: Final[Any] = host.store if self.is_durable else host.intake
        # Of its jobs that wait for others: they are not to keep these for as long as they live.
        self._without_after: Final = (
            JobPolicy(host, settings._replace(after=()), is_detached=is_detached)
            if settings.after
            else None
        )
        self.accept: Final[Callable[[Job[Any]], None]] = (
            self._prepare_and_accept if self.is_prepared else self._accepting.accept
        )

    def detach(self) -> "JobPolicy":
        """Return the same policy for jobs that nobody waits for."""
        if self.detached is None:
            self.detached = JobPolicy(self.host, self.settings, is_detached=True)
        return self.detached

    def prepare(self, *jobs: "Job[Any]") -> None:
        """Compute the keys of new jobs from their arguments, and show them to the middleware.

        Raises:
            TypeError: a key is no key, or a serial job has none.
            Exception: whatever a key function or the middleware raises.
        """
        for job in jobs:
            self._set_key(job)
        if self.middleware and jobs:
            self._show_to_middleware(jobs)
        if self._without_after is not None:
            after = tuple((other, Condition.SUCCESS) for other in self.settings.after)
            for job in jobs:
                job._policy, details = self._without_after, job._ensure_details()
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

    def _show_to_middleware(self, jobs: "Sequence[Job[Any]]") -> None:
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
            self.host.intake.accept_many([job])
        else:
            self._accepting.accept(job)


def _key_from(function: Callable[..., Any], job: "Job[Any]") -> Any:
    is_item = job._kwargs is ONE_ARGUMENT
    args, kwargs = ((job._args,), {}) if is_item else (job._args, job._kwargs or {})
    return check_key(function(*args, **kwargs))
