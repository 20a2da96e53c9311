"""Retries: which failures trigger another attempt, how many, and after what delay."""

import logging
from collections.abc import Callable, Iterable
from math import inf
from typing import Any, Final, NamedTuple, Self

from oddjob.compat import override
from oddjob.hints import hinted
from oddjob.log import log
from oddjob.quantities import Seconds, as_delay, as_number, bounded

DEFAULT_DELAYS: Final = (0.25, 1.0, 20.0, 60.0, 150.0)  # in seconds

# One or more classes, or a predicate that takes an exception.
Exceptions = (
    type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], object]
)

_as_factor = bounded(as_number, lambda factor: 1 <= factor < inf, "1 or more and finite")
_as_fraction = bounded(as_number, lambda fraction: 0 <= fraction < inf, "0 or more and finite")


class _Backoff(NamedTuple):
    base: float
    factor: float
    maximum: float
    jitter: float


class Backoff(_Backoff):
    """Delays that grow exponentially: `base`, then `factor` times as long each time.

    Jitter spreads out the next attempts of jobs that failed together.

    Args:
        base: the first delay: seconds of 0 or more, or a ``timedelta``.
        factor: what the delay is multiplied by each time, 1 or more.
        maximum: the longest delay, jitter included: seconds, or a ``timedelta``.
        jitter: the maximum random extra delay, as a fraction of the delay (0.1 = up to 10 % more).

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is out of range.
    """

    __slots__ = ()

    @override
    @hinted
    def __new__(
        cls, base: Seconds = 1.0, factor: float = 2.0, maximum: Seconds = 300.0, jitter: float = 0.1
    ) -> Self:
        """Check the numbers."""
        return super().__new__(
            cls,
            as_delay("a backoff's base", base),
            _as_factor("a backoff's factor", factor),
            as_delay("a backoff's maximum", maximum),
            _as_fraction("a backoff's jitter", jitter),
        )

    def delay(self, retry: int) -> float:
        """Return the delay before a retry, in seconds; the first retry is number 1."""
        import random  # it takes time to load

        try:
            delay = self.base * self.factor ** (retry - 1)
        except OverflowError:
            delay = self.maximum
        # Jitter has to spread the longest delays as well, so these are shorter than the maximum.
        delay = min(delay, self.maximum / (1 + self.jitter))
        return delay * (1 + self.jitter * random.random())  # noqa: S311  (not for cryptography)


Delays = Backoff | tuple[float, ...]  # of a tuple, the last one stands for all further ones


class RetryPolicy(NamedTuple):
    """Decides whether, and when, a failed job is attempted again."""

    limit: int  # retries, at most
    delays: Delays = DEFAULT_DELAYS
    retry_on: Exceptions = Exception
    no_retry_on: Exceptions = ()

    def decide(self, error: BaseException, attempt: int) -> float | None:
        """Return the seconds until the next attempt after this one (1: the first), if any.

        An exception group stands for the exceptions in it: each may trigger or prevent a retry.
        """
        if attempt > self.limit:
            return None
        try:
            is_retried = _matches(error, self.retry_on) and not _matches(error, self.no_retry_on)
        except Exception as failure:  # of a predicate
            log(logging.ERROR, "cannot tell whether to retry after %r", error, error=failure)
            return None
        if not is_retried:
            return None
        if isinstance(self.delays, Backoff):
            return self.delays.delay(attempt)
        return self.delays[min(attempt, len(self.delays)) - 1]


def _matches(error: BaseException, exceptions: Exceptions) -> bool:
    members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    if isinstance(exceptions, type | tuple):
        is_match = isinstance(error, exceptions)
    else:
        is_match = not members and bool(exceptions(error))
    return is_match or any(_matches(member, exceptions) for member in members)


def as_delays(name: str, value: Any) -> Delays:
    """Return the delays that an option is given as a `Backoff`, seconds, or several of these."""
    if isinstance(value, Backoff):
        return value
    try:
        delays = tuple(
            as_delay(name, each) for each in (value if isinstance(value, Iterable) else [value])
        )
    except TypeError:
        wanted = "a Backoff, a number of seconds, or several of these"
        raise TypeError(f"{name} must be {wanted}, not {value!r}") from None
    if not delays:
        raise ValueError(f"{name} must be 0 or more and finite, not {value!r}")
    return delays
