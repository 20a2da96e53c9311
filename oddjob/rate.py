"""Rate: how many jobs may start within how many seconds."""

import re
from typing import Any, Final, NamedTuple, Self

from oddjob.compat import override
from oddjob.hints import hinted
from oddjob.quantities import UNITS, Seconds, as_period, as_size, as_whole_number

_PATTERN: Final = (  # compiled when it is used: that takes time
    r"(?i)\s*(?P<limit>\d+)\s*(?:/|per\b)\s*(?P<count>\d+(?:\.\d+)?)?\s*(?P<unit>[a-z]+)\s*"
)


class _Rate(NamedTuple):
    limit: int
    per: float
    burst: int


class Rate(_Rate):
    """At most `limit` starts in any window of `per` seconds, wherever the window begins.

    Within that, `burst` starts may follow each other at once; further ones are spaced evenly,
    ``per / limit`` seconds apart. Unused time saves up `burst` starts, and no more.

    Args:
        limit: the number of starts, 1 or more.
        per: the length of the window: seconds greater than 0, or a ``timedelta``.
        burst: the number of starts that may happen at once, from 1 (always evenly spaced) to
            `limit`, which is the default.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is out of range.
    """

    __slots__ = ()

    @override
    @hinted
    def __new__(cls, limit: int, per: Seconds = 1.0, burst: int | None = None) -> Self:
        """Check the numbers."""
        limit = as_size("a rate's limit", limit)
        seconds = as_period("a rate's per", per)
        burst = limit if burst is None else as_whole_number("a rate's burst", burst)
        if not 1 <= burst <= limit:
            raise ValueError(f"a rate's burst must be from 1 to its limit, {limit}, not {burst!r}")
        return super().__new__(cls, limit, seconds, burst)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a text like ``"100/minute"``, ``"5/s"``, ``"10 per hour"`` or ``"3/10s"``.

        Raises:
            ValueError: the text is not written like this, or has another unit.
        """
        match = re.fullmatch(_PATTERN, text)
        unit = None if match is None else UNITS.get(match["unit"].lower())
        if match is None or unit is None:
            raise ValueError(
                f"a rate is written like '100/minute', '5/s' or '3/10s', not {text!r}; "
                f"the units are {', '.join(UNITS)}"
            )
        return cls(int(match["limit"]), float(match["count"] or 1) * unit)


def as_rate(name: str, value: Any) -> Rate:
    """Return the rate that an option is given as a `Rate`, or as a text for `Rate.parse`."""
    refusal = f"{name} must be a Rate or a text like '100/minute', not {value!r}"
    try:
        return value if isinstance(value, Rate) else Rate.parse(value)
    except TypeError:
        raise TypeError(refusal) from None
    except ValueError as error:
        raise ValueError(f"{refusal}: {error}") from None
