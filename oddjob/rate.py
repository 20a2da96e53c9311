"""Rate: how many jobs may start within how many seconds."""

import math
import re
from typing import Any, Final, NamedTuple, Self

from oddjob.compat import override
from oddjob.quantities import Seconds, as_seconds, as_whole_number

_UNITS: Final = {
    "ms": 0.001,
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3_600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
}
_PATTERN: Final = re.compile(
    r"\s*(?P<limit>\d+)\s*(?:/|per\b)\s*(?P<count>\d+(?:\.\d+)?)?\s*(?P<unit>[a-z]+)\s*",
    re.IGNORECASE,
)


class _Rate(NamedTuple):
    limit: int
    per: float
    burst: int


class Rate(_Rate):
    """At most `limit` starts in any window of `per` seconds.

    The window slides: no interval of `per` seconds ever holds more than `limit` starts. Within
    that, `burst` starts may follow each other at once; further ones are spaced evenly, ``per /
    limit`` seconds apart. Unused time saves up `burst` starts, and no more.

    Args:
        limit: the number of starts, 1 or more.
        per: the length of the window: seconds greater than 0, or a ``timedelta``.
        burst: the number of starts that may happen at once, from 1 (always evenly spaced) to
            `limit`, which is the default.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is out of range.

    Thread safety: immutable.
    """

    __slots__ = ()

    @override
    def __new__(cls, limit: int, per: Seconds = 1.0, burst: int | None = None) -> Self:
        """Check the numbers."""
        limit = as_whole_number("a rate's limit", limit)
        seconds = as_seconds("a rate's per", per)
        burst = limit if burst is None else as_whole_number("a rate's burst", burst)
        if limit < 1:
            raise ValueError(f"a rate's limit must be 1 or more, not {limit!r}")
        if not 0 < seconds < math.inf:
            raise ValueError(f"a rate's per must be greater than 0 and finite, not {per!r}")
        if not 1 <= burst <= limit:
            raise ValueError(f"a rate's burst must be from 1 to its limit, {limit}, not {burst!r}")
        return super().__new__(cls, limit, seconds, burst)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a text like ``"100/minute"``, ``"5/s"``, ``"10 per hour"`` or ``"3/10s"``.

        Raises:
            ValueError: the text is not written like this, or has another unit.
        """
        match = _PATTERN.fullmatch(text)
        unit = None if match is None else _UNITS.get(match["unit"].lower())
        if match is None or unit is None:
            raise ValueError(
                f"a rate is written like '100/minute', '5/s' or '3/10s', not {text!r}; "
                f"the units are {', '.join(_UNITS)}"
            )
        return cls(int(match["limit"]), float(match["count"] or 1) * unit)


def as_rate(value: Any) -> Rate:
    """Return the rate that a `Rate`, or a text for `Rate.parse`, stands for.

    Raises:
        TypeError: it is neither.
        ValueError: as `Rate.parse` does.
    """
    if isinstance(value, Rate):
        return value
    if isinstance(value, str):
        return Rate.parse(value)
    raise TypeError(f"a rate must be a Rate or a text like '100/minute', not {value!r}")
