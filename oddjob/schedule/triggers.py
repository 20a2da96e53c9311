"""Triggers: when a timer fires first, and when it fires again.

Guarantees: a trigger is checked completely when it is made, and immutable from then on. Any number
of timers may share it.
"""

from abc import ABC, abstractmethod
from contextlib import suppress
from datetime import UTC, datetime, time, tzinfo
from itertools import islice
from math import inf
from random import uniform
from typing import Final, NamedTuple

from oddjob.compat import override
from oddjob.quantities import Seconds, as_delay, as_seconds
from oddjob.schedule.clock import clock
from oddjob.schedule.cron import CronExpression
from oddjob.schedule.local_time import (
    Dst,
    as_zone,
    check_dst,
    moment_of_datetime,
    next_time_of_day,
)

_SLEPT_THROUGH: Final = 60.0  # seconds; a firing that is later than this is not merely late
_SHORTEST_PERIOD: Final = 0.001  # seconds
_MOST_COUNTED: Final = 1_000  # missed firings, which are counted one by one


def as_time(name: str, value: object) -> datetime | time:
    """Return a ``datetime`` or a time of day, also of a text such as ``"03:00"`` or ``"3:00"``.

    Raises:
        TypeError: it is neither.
        ValueError: it is another text.
    """
    if isinstance(value, str):
        text = f"0{value}" if value[1:2] == ":" else value
        is_time = text[2:3] == ":"  # without this test, "20300131" would be a time of day
        with suppress(ValueError):
            return time.fromisoformat(text) if is_time else datetime.fromisoformat(text)
        raise ValueError(
            f'{name} must be a time such as "03:00" or "2030-01-31 03:00", not {value!r}'
        )
    if not isinstance(value, datetime | time):
        raise TypeError(f"{name} must be a datetime or a time of day, not {value!r}")
    return value


class NextFiring(NamedTuple):
    """What follows a firing: when the next one is due (None: never), and what is left out."""

    at: float | None
    missed: int = 0  # how many firings are left out for good
    fires_now: bool = True  # False: the firing that is due now is one of those left out


class Trigger(ABC):
    """Tells when a timer fires, in seconds of monotonic or of wall time."""

    __slots__ = ()

    is_wall = False
    repeats = False
    jitter: float = 0.0  # the longest random delay of a firing, in seconds
    zone: tzinfo = UTC  # of the dates that users are shown

    @abstractmethod
    def first(self) -> float:
        """Return when a timer fires first that is set now."""

    def after(self, due: float, now: float) -> NextFiring:  # noqa: ARG002  (some need them)
        """Return what follows a firing that was due at `due` and happens `now`."""
        return NextFiring(None)

    def random_delay(self) -> float:
        """Return by how much to delay a firing, in seconds."""
        return uniform(0.0, self.jitter) if self.jitter else 0.0  # noqa: S311  (no secret)

    def date_of(self, at: float) -> datetime:
        """Return a time of this trigger as a date, as far as that can be known now."""
        return self.date_at(self.moment_of(at))

    def moment_of(self, at: float) -> float:
        """Return a time of this trigger in wall time, as far as that can be known now."""
        return at if self.is_wall else clock.wall() + at - clock.monotonic()

    def date_at(self, moment: float) -> datetime:
        """Return a moment as a date."""
        try:
            return datetime.fromtimestamp(moment, self.zone)
        except (ValueError, OverflowError, OSError):  # beyond all dates
            return datetime.max.replace(tzinfo=UTC)


class AfterTrigger(Trigger):
    """Fires once, after a delay."""

    __slots__ = ("_delay",)

    def __init__(self, seconds: Seconds) -> None:
        delay = as_seconds("after", seconds)
        if not 0 <= delay < inf:
            raise ValueError(f"after must be 0 or more, and finite, not {seconds!r}")
        self._delay: Final = delay

    @override
    def __repr__(self) -> str:
        return f"after {self._delay:g} s"

    @override
    def first(self) -> float:
        return clock.monotonic() + self._delay


class AtTrigger(Trigger):
    """Fires once, at a date that is not past, or the next time that clocks show a time of day."""

    __slots__ = ("_dst", "_when", "zone")

    is_wall = True

    def __init__(self, when: datetime | time | str, dst: Dst = "run_once") -> None:
        check_dst(dst, ("run_once", "skip"))
        when = as_time("at", when)
        self._when: Final = when
        self._dst: Final[Dst] = dst
        self.zone: tzinfo = as_zone(when.tzinfo)
        self.first()

    @override
    def __repr__(self) -> str:
        return f"at {self._when}"

    @override
    def first(self) -> float:
        if isinstance(self._when, datetime):
            return moment_of_datetime(self._when, self._dst)
        return next_time_of_day(self._when, self.zone, self._dst)


class EveryTrigger(Trigger):
    """Fires again and again, a whole number of periods after the timer was set."""

    __slots__ = ("jitter", "period")

    repeats = True

    def __init__(self, seconds: Seconds, jitter: Seconds = 0.0) -> None:
        period = as_seconds("every", seconds)
        if not _SHORTEST_PERIOD <= period < inf:
            raise ValueError(
                f"every must be {_SHORTEST_PERIOD} or more, and finite, not {seconds!r}"
            )
        self.period: Final = period
        self.jitter: float = as_delay("jitter", jitter)
        if self.jitter >= period:
            raise ValueError(f"jitter must be less than the interval, not {jitter!r}")

    @override
    def __repr__(self) -> str:
        return f"every {self.period:g} s"

    @override
    def first(self) -> float:
        return clock.monotonic() + self.period

    @override
    def after(self, due: float, now: float) -> NextFiring:
        missed = max(0, int((now - due) / self.period))
        return NextFiring(due + (missed + 1) * self.period, missed)


class CronTrigger(Trigger):
    """Fires whenever a cron expression says so, and never a second time for the same date.

    After a pause of the machine, several firings may be due at once. One of them happens, late, if
    `catch_up` is set; otherwise all that are more than a minute late are left out.
    """

    __slots__ = ("_cron", "catch_up", "dst", "jitter", "zone")

    is_wall = True
    repeats = True

    def __init__(
        self,
        expression: str,
        tz: str | tzinfo | None = None,
        dst: Dst = "run_once",
        *,
        catch_up: bool = True,
        jitter: Seconds = 0.0,
    ) -> None:
        self._cron: Final = CronExpression(expression, tz, dst)
        self.catch_up: Final = catch_up
        self.jitter: float = as_delay("jitter", jitter)
        self.dst: Final = dst
        self.zone: tzinfo = self._cron.zone

    @override
    def __repr__(self) -> str:
        return repr(self._cron)

    @property
    def expression(self) -> str:
        """The cron expression."""
        return self._cron.expression

    @override
    def first(self) -> float:
        at = self._cron.next_after(clock.wall())
        return inf if at is None else at

    @override
    def after(self, due: float, now: float) -> NextFiring:
        missed = sum(1 for _ in islice(self._cron.between(due, now), _MOST_COUNTED))
        following = self._cron.next_after(max(due, now))
        if now - due > _SLEPT_THROUGH + self.jitter and not self.catch_up:
            return NextFiring(following, missed + 1, fires_now=False)
        return NextFiring(following, missed)


def daily(when: object) -> tuple[str, tzinfo | None]:
    """Return the crontab entry of a time of day, and the zone that it has itself.

    Raises:
        TypeError, ValueError: it is no time of day, or not one of a whole minute.
    """
    wanted = f'daily must be a time of day in whole minutes, as "03:00", not {when!r}'
    try:
        moment = as_time("daily", when)
    except (TypeError, ValueError) as error:
        raise type(error)(wanted) from None
    if isinstance(moment, datetime) or moment.second or moment.microsecond:
        raise ValueError(wanted)
    return f"{moment.minute} {moment.hour} * * *", moment.tzinfo
