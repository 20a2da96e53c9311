"""LimiterNames: the names under which all processes count a limit together.

In memory a limit is an object, and those who share the object share the limit. In a store it needs
a name that is the same in all processes:

* of a limit that a decorator sets, ``@pool.job(max_concurrency=2)``: the function's;
* of the pool's own rate: the pool's;
* of any other view: what the limit is. So two views with equal limits share one.
"""

from typing import Any, Final

from oddjob.durable.record import Limiter
from oddjob.runtime.limits import ConcurrencyLimit, Limit, RateLimiter, uncertainty_of
from oddjob.runtime.policy import JobPolicy
from oddjob.schedule.clock import clock


class LimiterNames:
    """The limiters of one pool.

    Thread safety: two threads may name a limit at once, and give it the same name.
    """

    def __init__(self) -> None:
        self._owners: Final[dict[Limit, str]] = {}
        self._limiters: Final[dict[tuple[Any, ...], tuple[Limiter, ...]]] = {}  # by limits

    def add(self, function: str, policy: JobPolicy, outer: JobPolicy) -> None:
        """Note that limits belong to a function: those of its policy which `outer` has not."""
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
            return Limiter(f"{owner} max_concurrency={limit.limit}".strip(), limit.limit)
        assert isinstance(limit, RateLimiter)  # noqa: S101  (there is no third kind)
        starts, per, burst = limit.rate
        # A store counts claims. They begin after its commit, which may take longer now than then.
        period = per if clock.is_fake else per + uncertainty_of(limit.rate)
        return Limiter(f"{owner} rate={starts}/{per:g}s".strip(), None, starts, period, burst)
