"""Local time: which moments a local time stands for, on days when clocks change.

A *moment* is wall time, in seconds since the epoch. A *local time* is a naive ``datetime``. In a
zone, it stands for one moment, for none (clocks were set forward over it), or for two (clocks were
set back, and showed it twice).
"""

from bisect import bisect_left
from collections.abc import Callable
from datetime import MAXYEAR, UTC, datetime, time, timedelta, tzinfo
from typing import Final, Literal, get_args

from oddjob.compat import override
from oddjob.schedule.clock import clock

Dst = Literal["run_once", "skip", "run_both"]

_DAY: Final = timedelta(days=1)
_ROUNDING: Final = timedelta(seconds=1)  # a float holds few microseconds in the far future
_DAYS_AHEAD: Final = 400  # in which a time of day is searched
_LONGEST_GAP: Final = 25 * 3600  # seconds; Samoa once skipped a whole day


def check_dst(dst: object, known: tuple[str, ...] = get_args(Dst)) -> None:
    """Raise a ``ValueError`` if `dst` is none of the known policies."""
    if dst not in known:
        raise ValueError(f"dst must be one of {', '.join(map(repr, known))}, not {dst!r}")


class SystemZone(tzinfo):
    """The time zone of the machine."""

    @override
    def utcoffset(self, moment: datetime | None) -> timedelta:
        if moment is None:
            return timedelta(0)
        naive = _as_naive(moment)
        return naive - datetime.fromtimestamp(naive.timestamp(), UTC).replace(tzinfo=None)

    @override
    def dst(self, moment: datetime | None) -> timedelta | None:
        return None  # standard and summer time are not told apart

    @override
    def tzname(self, moment: datetime | None) -> str:
        if moment is None:
            return "local"
        return moment.replace(tzinfo=None).astimezone().tzname() or ""

    @override
    def fromutc(self, moment: datetime) -> datetime:
        naive = datetime.fromtimestamp(moment.replace(tzinfo=UTC).timestamp())  # noqa: DTZ006
        return naive.replace(tzinfo=self)

    @override
    def __repr__(self) -> str:
        return "the machine's zone"


def _as_naive(moment: datetime) -> datetime:
    # Of the class that has this name now: freezegun replaces it, and decides what is local time.
    return datetime.combine(moment.date(), moment.time())


_SYSTEM: Final = SystemZone()


def as_zone(tz: str | tzinfo | None) -> tzinfo:
    """Return the time zone of a name, or a zone itself; None stands for the machine's zone."""
    if tz is None:
        return _SYSTEM
    if isinstance(tz, str):
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        try:
            return ZoneInfo(tz)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f"tz: no time zone is called {tz!r}; names are like 'Europe/Berlin' "
                "(a machine without a zone database needs the package tzdata)"
            ) from error
    if not isinstance(tz, tzinfo):
        raise TypeError(f"tz must be the name of a time zone, or a tzinfo, not {tz!r}")
    name = getattr(tz, "zone", None)
    if hasattr(tz, "localize") and isinstance(name, str):  # of pytz, which needs its own methods
        return as_zone(name)
    return tz


def local_at(moment: float, zone: tzinfo) -> datetime:
    """Return the local time at a moment."""
    return datetime.fromtimestamp(moment, zone).replace(tzinfo=None, fold=0)


def offset_at(moment: float, zone: tzinfo) -> float:
    """Return the offset of local time from UTC at a moment, in seconds."""
    offset = datetime.fromtimestamp(moment, zone).utcoffset()
    return 0.0 if offset is None else offset.total_seconds()


def change_within(start: float, end: float, zone: tzinfo) -> float | None:
    """Return the moment between two others at which clocks change; None if they show no change."""
    before = offset_at(start, zone)
    if before == offset_at(end, zone):
        return None
    return _first_moment(lambda moment: offset_at(moment, zone) != before, start, end)


def _first_moment(is_reached: Callable[[float], bool], start: float, end: float) -> float:
    """Return the first whole second of a range at which a condition holds."""
    seconds = range(int(start) + 1, int(end) + 1)
    return float(seconds.start + bisect_left(seconds, True, key=is_reached))  # noqa: FBT003


def moments_showing(local: datetime, zone: tzinfo) -> list[float]:
    """Return the moments at which clocks show a local time: none, one or two."""
    found = sorted({_moment(local, fold, zone) for fold in (0, 1)})
    # Of a local time that does not exist, some zones give one moment near it, others two.
    return [each for each in found if abs(local_at(each, zone) - local) < _ROUNDING]


def moments_of(local: datetime, zone: tzinfo, dst: Dst) -> list[float]:
    """Return the moments at which something that is due at a local time happens.

    With ``"run_once"`` there is one: the first that shows the local time. If clocks are set forward
    over it, that is the moment of the change, or the last full minute before it if another day
    begins with it; there is none if the whole day is skipped. With ``"skip"``, there is none for a
    time that is skipped; with ``"run_both"``, there are two for a time that is shown twice.
    """
    shown = moments_showing(local, zone)
    if shown or dst == "skip":
        return shown if dst == "run_both" else shown[:1]
    near = _moment(local, 0, zone)
    change = _first_moment(
        lambda moment: local_at(moment, zone) > local, near - _LONGEST_GAP, near + _LONGEST_GAP
    )
    if local_at(change, zone).date() == local.date():
        return [change]
    before = local_at(change - 1, zone)
    return [_moment(before.replace(second=0), 0, zone)] if before.date() == local.date() else []


def _moment(local: datetime, fold: int, zone: tzinfo) -> float:
    return local.replace(tzinfo=zone, fold=fold).timestamp()


def next_time_of_day(when: time, zone: tzinfo, dst: Dst) -> float:
    """Return the next moment at which the clocks of a zone show a time of day."""
    now = clock.wall()
    today = local_at(now, zone).date()
    for days in range(-1, _DAYS_AHEAD):
        for moment in _moments_of_at(datetime.combine(today + days * _DAY, when), zone, dst):
            if moment > now:
                return moment
    raise ValueError(f"at: it is never {when} in {zone!r}")


def moment_of_datetime(when: datetime, dst: Dst) -> float:
    """Return the moment of a ``datetime``; a naive one is local time of the machine.

    Raises:
        ValueError: it is in the past, or clocks are set forward over it and `dst` is ``"skip"``;
            or it is so far that another time zone has no date for it.
    """
    if when.year == MAXYEAR:
        raise ValueError(f"at must be before the year {MAXYEAR}, not {when}")
    zone = when.tzinfo or _SYSTEM
    moments = _moments_of_at(when, zone, dst)
    now = clock.wall()
    if not moments:
        raise ValueError(f"at: {when} does not exist: clocks are set forward over it")
    if moments[0] < now:
        then, here = (datetime.fromtimestamp(each, zone) for each in (moments[0], now))
        raise ValueError(f"at: {then} is past: it is {here} there")
    return moments[0]


def _moments_of_at(when: datetime, zone: tzinfo, dst: Dst) -> list[float]:
    """Return the moments that a ``datetime`` can mean; its `fold` chooses the second of two."""
    local = when.replace(tzinfo=None, fold=0)
    skips = dst == "skip"
    moments = moments_showing(local, zone) if skips else moments_of(local, zone, "run_both")
    return moments[-1:] if when.fold else moments
