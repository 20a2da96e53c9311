"""Rate: how many jobs may start in how much time."""

import math
import re
from typing import Any, Final, NamedTuple, Self

__all__ = ["Rate", "as_rate"]

_UNITS: Final = {
    "s": 1.0, "sec": 1.0, "second": 1.0,
    "m": 60.0, "min": 60.0, "minute": 60.0,
    "h": 3_600.0, "hr": 3_600.0, "hour": 3_600.0,
    "d": 86_400.0, "day": 86_400.0,
}  # fmt: skip
_WRITTEN: Final = re.compile(
    r"\s*(\d+)\s*(?:/|per\b)\s*(\d+(?:\.\d+)?)?\s*([a-z]+)\s*", re.IGNORECASE
)


class _Rate(NamedTuple):
    limit: int
    per: float = 1.0
    burst: int = 1


class Rate(_Rate):
    """At most `limit` starts in any `per` seconds, evenly spread; `burst` at once after a pause.

    The window slides: wherever one lays `per` seconds, no more than `limit` starts are in them,
    those of a burst included. An idle pool saves up `burst` starts and no more. The even spread
    is a leaky bucket's; what a burst may add, the window takes back.

    Args:
        limit: how many starts, 1 or more.
        per: in how many seconds, above 0.
        burst: how many starts may follow each other at once after a pause, from 1 (evenly spread
            always) to `limit`.

    Raises:
        TypeError: an argument is no number.
        ValueError: an argument is out of range.

    Thread safety: immutable.
    """

    __slots__ = ()

    def __new__(cls, limit: int, per: float = 1.0, burst: int = 1) -> Self:
        """Check the numbers."""
        for key, value in (("limit", limit), ("burst", burst)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"a rate's {key} must be a whole number, not {value!r}")
        if not isinstance(per, int | float) or isinstance(per, bool):
            raise TypeError(f"a rate's per must be a number of seconds, not {per!r}")
        if limit < 1:
            raise ValueError(f"a rate's limit must be 1 or more, not {limit!r}")
        if not 0 < per < math.inf:
            raise ValueError(f"a rate's per must be greater than 0 and finite, not {per!r}")
        if not 1 <= burst <= limit:
            raise ValueError(f"a rate's burst must be from 1 to its limit, {limit}, not {burst!r}")
        return super().__new__(cls, limit, float(per), burst)

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Read ``"100/minute"``, ``"5/s"``, ``"10 per hour"`` or ``"3/10s"``.

        Raises:
            ValueError: it is written in no such way.
        """
        found = _WRITTEN.fullmatch(text)
        unit = None
        if found is not None:
            word = found[3].lower()
            unit = _UNITS.get(word) or _UNITS.get(word.removesuffix("s"))
        if found is None or unit is None:
            raise ValueError(
                f"a rate is written like '100/minute', '5/s' or '3/10s', not {text!r}; "
                "the units are second, minute, hour and day"
            )
        return cls(int(found[1]), float(found[2] or 1) * unit)


def as_rate(value: Any) -> Rate:
    """The rate that `value`, a `Rate` or a text that `Rate.parse` reads, stands for.

    Raises:
        TypeError: it is neither.
        ValueError: as `Rate.parse` does.
    """
    if isinstance(value, Rate):
        return value
    if isinstance(value, str):
        return Rate.parse(value)
    raise TypeError(f"a rate must be a Rate or a text like '100/minute', not {value!r}")
