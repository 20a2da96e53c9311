"""Quantities: counts and seconds as users pass them, of Python's types or of NumPy's.

Each check takes the name of an option, for its messages, and a value, and returns an ``int`` or a
``float``. It raises a ``TypeError`` for a value that is no number, or not meant as one (``True``),
and a ``ValueError`` for a number that is out of range.
"""

import operator
import re
from collections.abc import Callable
from datetime import timedelta
from math import inf
from typing import Any, Final

from oddjob.compat import T

Seconds = float | timedelta

UNITS: Final = {
    "ms": 0.001,
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3_600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
}


def as_whole_number(name: str, value: Any) -> int:
    """Return a whole number as an ``int``."""
    if not hasattr(value, "__index__") or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    return operator.index(value)


def as_number(name: str, value: Any, wanted: str = "a number") -> float:
    """Return a number as a ``float``."""
    is_number = hasattr(value, "__float__") or hasattr(value, "__index__")
    if not is_number or isinstance(value, bool):
        raise TypeError(f"{name} must be {wanted}, not {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} is too large") from None


def as_seconds(name: str, value: Any) -> float:
    """Return a number of seconds, or a ``timedelta``, as a ``float``."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    return as_number(name, value, "a number of seconds or a timedelta")


def as_wait(name: str, value: Any) -> float:
    """Return the longest wait in seconds; None and ``math.inf`` mean no limit.

    It may be negative, as in the standard library: what is left of a time that is over.
    """
    return inf if value is None else as_seconds(name, value)


def bounded(
    convert: Callable[[str, Any], T], fits: Callable[[T], bool], wanted: str
) -> Callable[[str, Any], T]:
    """Return a check that converts a value, and refuses numbers that do not fit."""

    def check(name: str, value: Any) -> T:
        number = convert(name, value)
        if not fits(number):
            raise ValueError(f"{name} must be {wanted}, not {value!r}")
        return number

    return check


as_size: Final = bounded(as_whole_number, lambda number: number > 0, "greater than 0")
as_count: Final = bounded(as_whole_number, lambda number: number >= 0, "0 or more")
as_delay: Final = bounded(as_seconds, lambda time: 0 <= time < inf, "0 or more and finite")
as_period: Final = bounded(as_seconds, lambda time: 0 < time < inf, "greater than 0 and finite")
as_time_limit: Final = bounded(
    as_seconds, lambda time: time > 0, "greater than 0 (math.inf: no limit)"
)
as_patience: Final = bounded(as_wait, lambda time: time >= 0, "0 or more (math.inf: no limit)")


def as_retention(name: str, value: Any) -> float:
    """Return a time as a ``float`` of seconds, 0 or more; also of a text such as ``"30 days"``."""
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", value.lower())
        if found is None or found[2] not in UNITS:
            raise ValueError(
                f'{name} must be a time such as "30 days" or "12 hours", not {value!r}'
            )
        value = float(found[1]) * UNITS[found[2]]
    return as_patience(name, value)


def as_bytes(name: str, value: Any) -> float:
    """Return a number of bytes, above 0, as a ``float``; also of a text such as ``"256 MB"``."""
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)b\s*", value.lower())
        if found is None:
            raise ValueError(f'{name} must be a size such as "256 MB" or "1 GB", not {value!r}')
        value = float(found[1]) * 1000 ** " kmgt".index(found[2] or " ")
    size = as_number(name, value, 'a number of bytes, or a text such as "256 MB"')
    if not size > 0:
        raise ValueError(f"{name} must be greater than 0 (math.inf: no limit), not {value!r}")
    return size
