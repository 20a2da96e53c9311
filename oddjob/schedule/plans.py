"""Plans: when a timer fires, and when it does so again."""

from abc import ABC, abstractmethod
from datetime import UTC, datetime, time, tzinfo
from itertools import islice
from math import inf
from typing import Final, NamedTuple

from oddjob.schedule.clock import clock
from oddjob.schedule.cron import Cron
from oddjob.schedule.local import Dst, as_zone, check_dst, date_and_time, in_zone, next_strike

__all__ = ["After", "At", "Every", "Next", "OnCron", "Plan", "check_delay", "check_period"]

_LATE: Final = 60.0  # seconds; a firing that comes later than that has been slept through
_SHORTEST: Final = 0.001  # seconds between two firings
_LONGEST: Final = 10**15  # seconds
_COUNTED: Final = 1_000  # missed firings that are counted one by one


class Next(NamedTuple):
    """What comes after a firing."""

    at: float | None  # None: nothing
    missed: int = 0  # firings that are left out for good
    fires_now: bool = True  # whether the one that is due is not itself left out


class Plan(ABC):
    """When a timer fires, in seconds of monotonic or of wall time.

    Thread safety: none; its timer asks it, one thread at a time.
    """

    is_wall = False
    repeats = False
    zone: tzinfo = UTC

    @abstractmethod
    def first(self) -> float:
        """When it fires first."""

    def after(self, due: float) -> Next:  # noqa: ARG002  (of those that repeat)
        """What comes after a firing that was due then, and happens now."""
        return Next(None)

    def date_of(self, at: float) -> datetime:
        """A time of this plan's as a date, as far as can be told now."""
        moment = at if self.is_wall else clock.wall() + at - clock.monotonic()
        try:
            return in_zone(moment, self.zone)
        except (ValueError, OverflowError, OSError):  # later than dates go
            return datetime.max.replace(tzinfo=UTC)


class After(Plan):
    """Once, so many seconds from now."""

    def __init__(self, seconds: float) -> None:
        check_delay("after", seconds)
        self._seconds: Final = seconds

    def __repr__(self) -> str:
        return f"after {self._seconds:g} s"

    def first(self) -> float:
        """When it fires first."""
        return clock.monotonic() + self._seconds


class At(Plan):
    """Once, at a time on the wall clock."""

    is_wall = True

    def __init__(self, when: datetime | time, dst: Dst = "run_once") -> None:
        check_dst(dst, ("run_once", "skip"))
        if not isinstance(when, datetime | time):
            raise TypeError(f"at: a datetime or a time of day, not {when!r}")
        self._when: Final = when
        self._dst: Final[Dst] = dst
        self.zone = as_zone(when.tzinfo)

    def __repr__(self) -> str:
        return f"at {self._when}"

    def first(self) -> float:
        """When it fires first."""
        if isinstance(self._when, datetime):
            return date_and_time(self._when, self._dst)
        return next_strike(self._when, self.zone, self._dst)


class Every(Plan):
    """Again and again, with so many seconds in between, whatever happens."""

    repeats = True

    def __init__(self, seconds: float) -> None:
        check_period("every", seconds)
        self._seconds: Final = seconds

    def __repr__(self) -> str:
        return f"every {self._seconds:g} s"

    def first(self) -> float:
        """When it fires first."""
        self._start = clock.monotonic()
        self._number = 1
        return self._start + self._seconds

    def after(self, due: float) -> Next:  # noqa: ARG002  (it keeps count itself, and its phase)
        """What comes after a firing that was due then, and happens now."""
        passed = int((clock.monotonic() - self._start) / self._seconds)
        missed = max(0, passed - self._number)
        self._number += missed + 1
        return Next(self._start + self._number * self._seconds, missed)


class OnCron(Plan):
    """Whenever an entry of a crontab says so."""

    is_wall = True
    repeats = True

    def __init__(self, cron: Cron, *, catch_up: bool) -> None:
        self._cron: Final = cron
        self._catch_up: Final = catch_up
        self.zone = cron.zone

    def __repr__(self) -> str:
        return repr(self._cron)

    def first(self) -> float:
        """When it fires first."""
        at = self._cron.next_after(clock.wall())
        return inf if at is None else at

    def after(self, due: float) -> Next:
        """What comes after a firing that was due then, and happens now."""
        now = clock.wall()
        missed = sum(1 for _ in islice(self._cron.between(due, now), _COUNTED))
        following = self._cron.next_after(max(due, now))
        if now - due > _LATE and not self._catch_up:
            return Next(following, missed + 1, fires_now=False)
        return Next(following, missed)


def check_delay(name: str, seconds: object) -> None:
    """Refuse what is no number of seconds from 0 on."""
    _check_number(name, seconds)
    if not 0 <= seconds < inf:  # type: ignore[operator]  # a number by now
        raise ValueError(f"{name}: seconds must be 0 or more, and finite, not {seconds!r}")


def check_period(name: str, seconds: object) -> None:
    """Refuse what is no number of seconds, a millisecond at least."""
    _check_number(name, seconds)
    if not _SHORTEST <= seconds < inf:  # type: ignore[operator]  # a number by now
        raise ValueError(
            f"{name}: seconds must be {_SHORTEST} or more, and finite, not {seconds!r}"
        )


def _check_number(name: str, seconds: object) -> None:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise TypeError(f"{name}: a number of seconds, not {seconds!r}")
    if isinstance(seconds, int) and seconds > _LONGEST:
        raise ValueError(f"{name}: so many seconds are too many")
