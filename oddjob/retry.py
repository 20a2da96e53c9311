"""Retries: which failures are tried again, how often, and after how long."""

import math
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, Self

__all__ = ["DELAYS", "Backoff", "Retries", "as_delays"]

DELAYS: Final = (0.25, 1.0, 20.0, 60.0, 150.0)  # seconds; Toniq's


class _Backoff(NamedTuple):
    base: float = 1.0
    factor: float = 2.0
    maximum: float = 300.0
    jitter: float = 0.1


class Backoff(_Backoff):
    """Delays that grow: `base`, then `factor` times as long each time, up to `maximum`.

    Jitter keeps jobs that failed together from coming back together.

    Args:
        base: the first delay, in seconds, 0 or more.
        factor: by what the delay is multiplied each time, 1 or more.
        maximum: the longest delay, in seconds, jitter included.
        jitter: by what part of itself a delay is lengthened at random, at most; 0 for none, 1 for
            up to twice as long.

    Raises:
        TypeError: an argument is no number.
        ValueError: an argument is out of range.

    Thread safety: immutable.
    """

    __slots__ = ()

    def __new__(
        cls,
        base: float = 1.0,
        factor: float = 2.0,
        maximum: float = 300.0,
        jitter: float = 0.1,
    ) -> Self:
        """Check the numbers."""
        lowest = {"base": 0.0, "factor": 1.0, "maximum": 0.0, "jitter": 0.0}
        values = (base, factor, maximum, jitter)
        for (key, least), value in zip(lowest.items(), values, strict=True):
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise TypeError(f"a backoff's {key} must be a number, not {value!r}")
            if not least <= value < math.inf:
                raise ValueError(
                    f"a backoff's {key} must be {least:g} or more, and finite, not {value!r}"
                )
        return super().__new__(cls, *map(float, values))

    def delay(self, retry: int) -> float:
        """The delay before the retry of that number, 1 being the first, in seconds."""
        import random  # which takes some time to load

        try:
            delay = self.base * self.factor ** (retry - 1)
        except OverflowError:
            delay = self.maximum
        return min(delay * (1 + self.jitter * random.random()), self.maximum)  # noqa: S311  (no secret)


class Retries(NamedTuple):
    """What is done about a job's failures."""

    limit: int = 0
    delays: Backoff | tuple[float, ...] = DELAYS
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()

    def delay_after(self, error: BaseException, attempt: int) -> float | None:
        """Seconds until the next attempt, if that of number `attempt` raised `error`, or None."""
        is_worth_it = isinstance(error, self.retry_on) and not isinstance(error, self.give_up_on)
        if attempt > self.limit or not is_worth_it:
            return None
        if isinstance(self.delays, Backoff):
            return self.delays.delay(attempt)
        return self.delays[min(attempt, len(self.delays)) - 1]


def as_delays(value: Any) -> Backoff | tuple[float, ...]:
    """The delays that `value` (a `Backoff`, seconds, or several of these) stands for.

    Raises:
        TypeError: it is none of these.
        ValueError: a number is out of range.
    """
    if isinstance(value, Backoff):
        return value
    listed = (value,) if isinstance(value, int | float) else value
    wanted = "a Backoff, a number of seconds, or several of these"
    if isinstance(listed, str) or not isinstance(listed, Iterable):
        raise TypeError(f"backoff must be {wanted}, not {value!r}")
    delays = tuple(listed)
    for delay in delays:
        if not isinstance(delay, int | float) or isinstance(delay, bool):
            raise TypeError(f"backoff must be {wanted}, not {value!r}")
        if not 0 <= delay < math.inf:
            raise ValueError(f"a delay must be 0 or more and finite, not {delay!r}")
    if not delays:
        raise ValueError("backoff must name at least one delay")
    return tuple(map(float, delays))
