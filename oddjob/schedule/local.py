"""Local time: which moments a time on a wall clock stands for, on the nights when clocks change.

A moment is wall time in seconds since the epoch. A *local time* is a naive ``datetime``; together
with a zone it stands for one moment, for none (clocks were set forward over it) or for two (they
were set back).
"""

from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Final, Literal, NamedTuple, get_args

from oddjob.schedule.clock import clock

__all__ = [
    "Change",
    "Dst",
    "as_zone",
    "change_within",
    "check_dst",
    "date_and_time",
    "in_zone",
    "local_at",
    "moments_of",
    "next_strike",
    "offset_at",
]

Dst = Literal["run_once", "skip", "run_both"]

_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)
_DAYS_AHEAD: Final = 400  # in which a time of day is looked for


def check_dst(dst: object, known: Iterable[str] = get_args(Dst)) -> None:
    """Refuse what is no policy for the nights when clocks change."""
    known = list(known)
    if dst not in known:
        raise ValueError(f"dst must be one of {', '.join(map(repr, known))}, not {dst!r}")


class SystemZone(tzinfo):
    """The zone of the machine."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        """What local time is ahead of UTC."""
        if moment is None:
            return timedelta(0)
        naive = _naive(moment)
        return naive - datetime.fromtimestamp(naive.timestamp(), UTC).replace(tzinfo=None)

    def dst(self, moment: datetime | None) -> timedelta | None:  # noqa: ARG002  (an interface)
        """Not told apart."""
        return None

    def tzname(self, moment: datetime | None) -> str:
        """What the zone is called at that time."""
        return (
            "local" if moment is None else moment.replace(tzinfo=None).astimezone().tzname() or ""
        )

    def fromutc(self, moment: datetime) -> datetime:
        """The local time of a moment."""
        naive = datetime.fromtimestamp(moment.replace(tzinfo=UTC).timestamp())  # noqa: DTZ006
        return naive.replace(tzinfo=self)

    def __repr__(self) -> str:
        return "the machine's zone"


def _naive(moment: datetime) -> datetime:
    # Of the class that goes by this name now: a test that replaces it says what is local time, too.
    date, clock_time = moment.date(), moment.time()
    return datetime.combine(date, clock_time)


_SYSTEM: Final = SystemZone()


def as_zone(tz: str | tzinfo | None) -> tzinfo:
    """The zone that somebody means: by name, as it is, or the machine's own.

    Raises:
        ValueError: no zone has that name.
        TypeError: it is neither a name nor a zone.
    """
    if tz is None:
        return _SYSTEM
    if isinstance(tz, str):
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        try:
            return ZoneInfo(tz)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f"tz: no time zone is called {tz!r}; they are called like 'Europe/Berlin' "
                "(a machine without a zone database needs the package tzdata)"
            ) from error
    if not isinstance(tz, tzinfo):
        raise TypeError(f"tz must be the name of a time zone, or a tzinfo, not {tz!r}")
    zone = getattr(tz, "zone", None)
    if hasattr(tz, "localize") and isinstance(zone, str):  # one of pytz: of no use as it is
        return as_zone(zone)
    return tz


def in_zone(moment: float, zone: tzinfo) -> datetime:
    """A moment as an aware ``datetime``."""
    return datetime.fromtimestamp(moment, zone)


def local_at(moment: float, zone: tzinfo) -> datetime:
    """The local time at a moment."""
    return in_zone(moment, zone).replace(tzinfo=None, fold=0)


def offset_at(moment: float, zone: tzinfo) -> float:
    """What local time is ahead of UTC at a moment, in seconds."""
    offset = in_zone(moment, zone).utcoffset()
    return 0.0 if offset is None else offset.total_seconds()


class Change(NamedTuple):
    """Clocks being set: at which moment, and what local time is ahead of UTC before and after."""

    moment: float
    before: float
    after: float


def change_within(start: float, end: float, zone: tzinfo) -> Change | None:
    """The change of clocks between two moments that show another offset; None if they do not."""
    before, after = offset_at(start, zone), offset_at(end, zone)
    if before == after:
        return None
    low, high = int(start), int(end) + 1
    while high - low > 1:
        middle = (low + high) // 2
        if offset_at(middle, zone) == before:
            low = middle
        else:
            high = middle
    return Change(float(high), before, offset_at(high, zone))


def moments_of(local: datetime, zone: tzinfo, dst: Dst | None) -> list[float]:
    """The moments at which something that is set for a local time is to happen.

    ``"run_once"``: one for each. A time that is left out comes when the clocks have been set (in
    the last minute before, if they show another day then; if the whole day is left out, not at
    all); of a time that comes twice it is the first. ``"skip"``: what is left out does not come.
    ``"run_both"``: what comes twice does so. None: whenever a clock shows it.
    """
    first, second = (_moment(local, fold, zone) for fold in (0, 1))
    if first == second:
        return [first]
    if first < second:
        return [first, second] if dst in ("run_both", None) else [first]
    change = change_within(second - 1, first, zone)
    if dst in ("skip", None) or change is None:
        return []
    if local_at(change.moment, zone).date() == local.date():
        return [change.moment]
    began = local_at(change.moment - 1, zone)
    return [_moment(began.replace(second=0), 0, zone)] if began.date() == local.date() else []


def _moment(local: datetime, fold: int, zone: tzinfo) -> float:
    return local.replace(tzinfo=zone, fold=fold).timestamp()


def next_strike(when: time, zone: tzinfo, dst: Dst) -> float:
    """The next moment at which the clocks of a zone show a time of day."""
    now = clock.wall()
    today = local_at(now, zone).date()
    for days in range(-1, _DAYS_AHEAD):
        local = datetime.combine(today + days * _DAY, when.replace(tzinfo=None, fold=0))
        moments = moments_of(local, zone, "run_both" if dst == "run_once" else None)
        for moment in moments[-1:] if when.fold else moments:
            if moment > now:
                return moment
    raise ValueError(f"at: it is never {when} in {zone!r}")


def date_and_time(when: datetime, dst: Dst) -> float:
    """The moment of a ``datetime``, which is local time of the machine if it is naive.

    Raises:
        ValueError: it is past, or is left out and `dst` is to skip that; the message has both
            times.
    """
    zone = when.tzinfo or _SYSTEM
    local = when.replace(tzinfo=None, fold=0)
    moments = moments_of(local, zone, "run_both" if dst == "run_once" else None)
    moments = moments[-1:] if when.fold else moments[:1]
    now = clock.wall()
    if not moments:
        raise ValueError(f"at: {when} is left out, as clocks are set forward over it")
    if moments[-1] < now:
        raise ValueError(
            f"at: {in_zone(moments[-1], zone)} is past: it is {in_zone(now, zone)} there"
        )
    return moments[-1]
