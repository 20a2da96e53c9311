"""Submissions: makes the `Submit` that a store keeps of a job.

What jobs of one function and policy have in common is computed once for all of them that follow
each other, as programs submit many of a kind in a row.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from oddjob.durable.claimed_jobs import ClaimedJobs
from oddjob.durable.codec import Meta, encode_call, encode_meta, name_of
from oddjob.durable.limiters import LimiterNames
from oddjob.durable.record import Partition, Submit
from oddjob.durable.unique import unique_of
from oddjob.keys import encode_key
from oddjob.runtime.job import Job
from oddjob.runtime.policy import JobPolicy
from oddjob.runtime.stored_job import parts_of


class _Call(NamedTuple):
    """What jobs of one function and policy have in common."""

    policy: JobPolicy
    fn: Callable[..., Any]
    partition: Partition
    label: str
    options: dict[str, Any]


_NO_CALL: Final = _Call(*[None] * 5)  # type: ignore[arg-type]


class Submissions:
    """Makes the `Submit` of jobs.

    Thread safety: any thread may call everything; what is kept between calls is one tuple.
    """

    def __init__(self, pool: str, claimed: ClaimedJobs, max_queue: int | None) -> None:
        self._pool: Final = pool
        self._claimed: Final = claimed
        self._max_queue: Final = max_queue
        self._limiters: Final = LimiterNames()
        self._latest = _NO_CALL

    def note_policy(self, function: str, policy: JobPolicy, outer: JobPolicy) -> None:
        """Note the policy of a decorated function; `outer` is that of the pool or view."""
        self._limiters.add(function, policy, outer)
        self._latest = _NO_CALL

    def partition_of(self, policy: JobPolicy, function: str) -> Partition:
        """Return the partition of a function's jobs under a policy."""
        return Partition(self._pool, function, self._limiters.of(policy))

    def submit_of(self, job: Job[Any]) -> Submit:
        """Return what the store is to keep of a job."""
        return next(self.submits_of([job]))

    def submits_of(self, jobs: Sequence[Job[Any]], delay: float | None = None) -> Iterator[Submit]:
        """Yield what the store is to keep of jobs; `max_queue` does not apply to delayed ones.

        Raises:
            TypeError: a function or its arguments cannot be stored.
        """
        max_queue = None if delay is not None else self._max_queue
        call = self._latest
        for job in jobs:
            policy, fn, args, kwargs, key, details = parts_of(job)
            if policy is not call.policy or fn is not call.fn:
                name = name_of(fn)
                options = self._claimed.options_of(policy, name)
                call = _Call(policy, fn, self.partition_of(policy, name), job.name, options)
                self._latest = call
            meta = None
            if call.options or details is not None:
                meta = encode_meta(Meta({} if details is None else details.carrier, call.options))
            yield Submit(
                call.partition,
                encode_call(call.partition.function, args, kwargs),
                call.label,
                policy.priority,
                delay,
                encode_key(key),
                policy.key_limit,
                policy.is_serial,
                unique_of(policy.settings.unique, call.partition.function, fn, job),
                meta,
                not policy.is_detached,
                max_queue=max_queue,
            )
