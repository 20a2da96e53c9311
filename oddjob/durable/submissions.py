"""Submissions: makes the `Submit` that a store keeps of a job.

A submit says what another process cannot know from the function alone: arguments, key, and options
that differ from those of the decorator. Programs submit many jobs of one function and policy in a
row; what these have in common is computed for the first one, and kept until another kind comes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from oddjob.durable.codec import Codec, Meta, name_of
from oddjob.durable.definitions import check_name
from oddjob.durable.record import Dependency, Limiter, Partition, Reference, Submit
from oddjob.durable.unique import unique_of
from oddjob.keys import encode_key
from oddjob.runtime.job import Job
from oddjob.runtime.limits import ConcurrencyLimit, Limit, RateLimiter, uncertainty_of
from oddjob.runtime.links import Links
from oddjob.runtime.policy import JobPolicy
from oddjob.runtime.stored_job import details_of, fair_key_of, parts_of, policy_of
from oddjob.schedule.clock import clock

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore

_STORED_OPTIONS: Final = ("timeout", "retries", "backoff", "retry_on", "no_retry_on")


class _Call(NamedTuple):
    """What jobs of one function and policy have in common."""

    policy: JobPolicy
    fn: Callable[..., Any]
    partition: Partition
    label: str
    options: dict[str, Any]


class Submissions:
    """Makes the `Submit` of each job of one pool.

    Thread safety: any thread may call everything; `_latest` is replaced, and never changed.
    """

    def __init__(self, pool: str, core: "PoolCore", codec: Codec, priority_bits: int) -> None:
        self._pool: Final = pool
        self._priority_bits: Final = priority_bits  # in which the store keeps a priority
        self._core: Final = core
        self._codec: Final = codec
        self.policies: Final[dict[str, JobPolicy]] = {}  # of functions that were decorated
        self._limiters: Final = LimiterNames()
        self._latest: _Call | None = None

    def note_policy(self, function: str, policy: JobPolicy, outer: JobPolicy) -> None:
        """Note the policy of a decorated function; `outer` is that of the pool or view."""
        self.policies[function] = policy
        self._limiters.add(function, policy, outer)
        self._latest = None

    def base_policy(self, function: str) -> JobPolicy:
        """Return the policy for calls of a function without options of their own."""
        return self.policies.get(function) or self._core.policy

    def partition_of(self, policy: JobPolicy, function: str) -> Partition:
        """Return the partition of a function's jobs under a policy."""
        return Partition(self._pool, function, self._limiters.of(policy))

    def submit_of(self, job: Job[Any]) -> Submit:
        """Return the submit of one job."""
        return next(self.submits_of([job]))

    def submits_of(
        self,
        jobs: Sequence[Job[Any]],
        delay: float | None = None,
        positions: Mapping[Job[Any], int] | None = None,
    ) -> Iterator[Submit]:
        """Yield the submit of each job.

        `max_queue` bounds neither delayed jobs nor jobs that are linked to others.

        Args:
            jobs: the jobs.
            delay: seconds until the jobs are due; None: they are due now.
            positions: the position of each job, and of the jobs that are submitted with them in
                one commit, so that they can refer to each other before they have ids.

        Raises:
            TypeError: a function or its arguments cannot be stored.
            ValueError: a number or a text cannot be stored.
        """
        max_queue = None if delay is not None else self._core.options.max_queue
        call, checked = self._latest, None
        for job in jobs:
            policy, fn, args, kwargs, key, details = parts_of(job)
            if call is None or policy is not call.policy or fn is not call.fn:
                call = self._latest = self._call_of(policy, fn, job.name)
            function = call.partition.function
            if fn is not checked:  # since the latest submit its name may have been bound anew
                check_name(function, fn)
                checked = fn
            meta = None
            if call.options or details is not None:
                carrier = {} if details is None else details.carrier
                meta = self._codec.encode_meta(Meta(carrier, call.options), call.partition)
            links = None if details is None else details.links
            takes_value = links is not None and links.takes_value
            submit = Submit(
                call.partition,
                self._codec.encode_call(call.partition, args, kwargs, takes_value=takes_value),
                name=call.label,
                priority=policy.priority,
                delay=delay,
                key=encode_key(key),
                key_limit=policy.key_limit,
                is_serial=policy.is_serial,
                unique=unique_of(policy.settings.unique, function, fn, job),
                meta=meta,
                wants_outcome=not policy.is_detached,
                max_queue=max_queue if links is None else None,
                replaces=bool(policy.settings.replaces),
                replaces_time=policy.settings.replaces == "time",
            )
            if policy.fair_by is not None:
                fair = fair_key_of(job)
                submit.fair_key = encode_key(fair, "fair_by") or ""
                submit.fair_step = 1.0 / policy.fair_weights.get(fair, 1.0)
            if links is not None:
                self._link(submit, job, links, positions or {})
            yield submit

    def _call_of(self, policy: JobPolicy, fn: Callable[..., Any], label: str) -> _Call:
        name = name_of(fn)
        options = self._options_of(policy, name)
        check_number("priority", policy.priority, self._priority_bits)
        check_number("key_limit", policy.key_limit)
        return _Call(policy, fn, self.partition_of(policy, name), label, options)

    def _link(
        self, submit: Submit, job: Job[Any], links: Links, positions: Mapping[Job[Any], int]
    ) -> None:
        """Let the submit of a job refer to the jobs that this one is linked to."""
        submit.after = tuple(
            Dependency(self._reference(job, other, positions), condition)
            for other, condition in links.after
        )
        submit.is_batch = links.is_batch
        if links.batch is not None:
            submit.batch = self._reference(job, links.batch, positions)

    def _reference(
        self, job: Job[Any], other: Job[Any], positions: Mapping[Job[Any], int]
    ) -> Reference:
        """Return how the submit of a job refers to another job."""
        if other in positions:
            return Reference(distance=positions[job] - positions[other])
        store: Any = policy_of(other).core.store
        details = details_of(other)
        is_stored = policy_of(other).is_durable or details.claim is not None
        if not is_stored or store.url != self._core.store.url:
            raise TypeError(
                f"job {job.name} is stored, and can only wait for jobs in the same store, not for "
                f"{other!r}"
            )
        if details.id is None:
            raise ValueError(f"job {job.name} cannot wait for {other!r}, which is not stored")
        return Reference(details.id)

    def _options_of(self, policy: JobPolicy, function: str) -> dict[str, Any]:
        """Return the options of a policy that differ from those of the function."""
        base, options = self.base_policy(function).settings.options, policy.settings.options
        return {
            name: value
            for name in _STORED_OPTIONS
            if (value := getattr(options, name)) != getattr(base, name)
        }


def check_number(option: str, number: int, bits: int = 64) -> int:
    """Return a number that a store can keep; raise a ``ValueError`` if it has too many bits."""
    if abs(number) >> (bits - 1):
        raise ValueError(
            f"{option} must fit in {bits} bits, between -2**{bits - 1} and 2**{bits - 1}, in a "
            f"pool with this store, not {number}"
        )
    return number


class LimiterNames:
    """The names by which all processes identify a limit of one pool.

    In memory a limit is an object, shared by all that refer to it. In a store it needs a name that
    is the same in all processes:

    * a limit that a decorator sets, ``@pool.job(max_concurrency=2)``: the name of the function, and
      the numbers of the limit;
    * any other limit, of the pool or of a view: its numbers. So views with equal limits share one.

    Thread safety: two threads may name a limit at once, and give it the same name.
    """

    def __init__(self) -> None:
        self._owners: Final[dict[Limit, str]] = {}
        self._limiters: Final[dict[tuple[Any, ...], tuple[Limiter, ...]]] = {}  # by limits

    def add(self, function: str, policy: JobPolicy, outer: JobPolicy) -> None:
        """Note that limits belong to a function: those of its policy that `outer` does not have."""
        for limit in policy.limits:
            if limit not in outer.limits:
                self._owners.setdefault(limit, function)

    def of(self, policy: JobPolicy) -> tuple[Limiter, ...]:
        """Return the limiters of a policy."""
        if not policy.limits:
            return ()
        known = self._limiters.get(policy.limits)
        if known is None:
            known = self._limiters[policy.limits] = tuple(map(self._limiter, policy.limits))
        return known

    def _limiter(self, limit: Limit) -> Limiter:
        owner = self._owners.get(limit, "")
        if isinstance(limit, ConcurrencyLimit):
            size = check_number("max_concurrency", limit.limit)
            return Limiter(f"{owner} max_concurrency={size}".strip(), size)
        assert isinstance(limit, RateLimiter)  # noqa: S101  (there is no third kind)
        starts, per, burst = limit.rate
        check_number("the limit of rate", starts)
        # A store counts claims, and a job starts after the commit of its claim. Commits differ in
        # duration, so starts can be closer together than claims: a longer period makes up for that.
        period = per if clock.is_fake else per + uncertainty_of(limit.rate)
        return Limiter(f"{owner} rate={starts}/{per:g}s".strip(), None, starts, period, burst)
