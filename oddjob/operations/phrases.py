"""Phrases: counts, times and keys as people say them, in the command and the dashboard."""

from datetime import UTC, datetime
from typing import Final

from oddjob.keys import Key, decode_key

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


def counted(count: int, noun: str = "job") -> str:
    """Return how many there are of something: "1 job", "1,000 jobs", "2 processes"."""
    plural = f"{noun}es" if noun.endswith(("s", "sh")) else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def changed(count: int, asked: int, done: str, will: str = "") -> str:
    """Return what was done to jobs: "1 job canceled, 2 running jobs asked to stop".

    Args:
        count: how many there are.
        asked: how many of these run, and were only asked to stop.
        done: what was done to the others.
        will: "will be " or "would be ", if it was not done yet.
    """
    parts = [f"{counted(count - asked)} {will}{done}"] if count > asked or not asked else []
    parts += [f"{counted(asked, 'running job')} {will}asked to stop"] if asked else []
    return ", ".join(parts)


def lasting(seconds: float | None) -> str:
    """Return a time in the unit that suits it: "350 ms", "12 s", "4 min", "3 h", "2 d"."""
    if seconds is None:
        return "-"
    for unit, name in _UNITS:
        if seconds >= unit:
            return f"{seconds // unit:,.0f} {name}"
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def ago(when: datetime | None) -> str:
    """Return how long ago that is, or in how long it will be."""
    if when is None:
        return "-"
    seconds = (datetime.now(UTC) - when).total_seconds()
    return f"in {lasting(-seconds)}" if seconds < 0 else f"{lasting(seconds)} ago"


def exact(when: datetime) -> str:
    """Return a time in UTC."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def read_key(text: str) -> Key:
    """Read a key: a string as it is, a tuple as Python writes it, anything else after a "="."""
    return decode_key(f"={text}" if text.startswith("(") else text)
