"""Cron: the moments that an expression in crontab's five fields stands for.

What an expression means is left to cronsim. It is asked for local times alone; which moments these
are, on the nights when clocks change, is told by `oddjob.schedule.local`.
"""

from bisect import bisect_right
from collections.abc import Iterator
from copy import copy
from datetime import datetime, timedelta, tzinfo
from typing import Any, Final, NamedTuple

from oddjob.schedule.clock import clock
from oddjob.schedule.local import (
    Change,
    Dst,
    as_zone,
    change_within,
    check_dst,
    in_zone,
    local_at,
    moments_of,
    offset_at,
)

__all__ = ["ClockChange", "Cron", "CronExplanation", "explain_cron"]

_NAMED: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
# Clocks are set by a day at most: Samoa left one out.
_NEAR: Final = 25 * 3600.0
_SHIFT: Final = timedelta(hours=25)
_YEARS_AHEAD: Final = 2  # in which changes of clocks are looked for
_DAY: Final = 86_400.0
_WITH_SECONDS: Final = 6  # fields, which crontab does not have
_LINES: Final = 6  # that are shown on either side of a change


def _cronsim() -> Any:
    try:
        import cronsim
    except ImportError as error:
        raise ImportError(
            "cron needs the package cronsim: pip install 'oddjob[cron]'", name="cronsim"
        ) from error
    return cronsim


class Cron:
    """An expression, in a zone.

    An entry that is to run in every hour of the day (its hours are ``*``, or all of them) goes by
    the time that passes: it runs whenever a clock shows a time that fits. All others are bound to
    times of day, and to those `dst` applies; see `oddjob.schedule.local.moments_of`.

    Thread safety: none; its timer asks it, one thread at a time.

    Raises:
        ImportError: the extra ``oddjob[cron]`` is not installed.
        ValueError: it is no expression, or one that no date fits; there is no such zone or policy.
        TypeError: one of them is of the wrong type.
    """

    def __init__(
        self, expression: str, tz: str | tzinfo | None = None, dst: Dst = "run_once"
    ) -> None:
        if not isinstance(expression, str):
            raise TypeError(f"cron: an expression is a string, not {expression!r}")
        check_dst(dst)
        self.expression: Final = expression
        self.zone: Final = as_zone(tz)
        fields = _NAMED.get(expression.strip().lower(), expression)
        cronsim = _cronsim()
        try:
            if len(fields.split()) == _WITH_SECONDS:
                raise cronsim.CronSimError("Wrong number of fields")  # noqa: TRY301  (as all else)
            parsed = cronsim.CronSim(fields, datetime(2024, 1, 1))  # noqa: DTZ001
            next(parsed)
        except (cronsim.CronSimError, StopIteration) as error:
            why = str(error) or "no date fits"
            raise ValueError(
                f"cron: {expression!r} is no expression: {why}. It has five fields: minute (0-59), "
                "hour (0-23), day of the month (1-31), month (1-12), day of the week (0-7); "
                "'30 1 * * *' is half past one every night"
            ) from error
        self._parsed: Final[Any] = parsed
        goes_by_elapsed_time = len(parsed.hours) == 24  # noqa: PLR2004  (hours of a day)
        self._dst: Final[Dst | None] = None if goes_by_elapsed_time else dst
        self._around_change: list[float] = []
        self._around: tuple[float, float] = (0.0, 0.0)

    def __repr__(self) -> str:
        return f"cron {self.expression!r} in {self.zone}"

    def next_after(self, moment: float) -> float | None:
        """The first moment after one; None if there is none in the next 50 years."""
        while True:
            began, end = self._around
            if not began <= moment < end:
                if not self._is_near_change(moment):
                    ahead = self._seconds_to_next(moment)
                    if ahead is None or ahead <= _NEAR:
                        return None if ahead is None else int(moment) + ahead
                    moment = int(moment) + ahead - _NEAR
                    continue
                self._look_around(moment)
                end = self._around[1]
            place = bisect_right(self._around_change, moment)
            if place < len(self._around_change):
                return self._around_change[place]
            moment = end

    def between(self, start: float, end: float) -> Iterator[float]:
        """All moments after the first, and not after the second."""
        moment = self.next_after(start)
        while moment is not None and moment <= end:
            yield moment
            moment = self.next_after(moment)

    def _is_near_change(self, moment: float) -> bool:
        around = (moment - _NEAR, moment, moment + _NEAR)
        return len({offset_at(each, self.zone) for each in around}) > 1

    def _seconds_to_next(self, moment: float) -> int | None:
        local = local_at(int(moment), self.zone)
        label = next(self._labels(local), None)
        return None if label is None else round((label - local).total_seconds())

    def _look_around(self, moment: float) -> None:
        """Find all moments of the next days, in which clocks are set, or have just been."""
        end = moment + 2 * _NEAR
        local = local_at(int(moment), self.zone)
        found = set()
        for label in self._labels(local - _SHIFT):
            if label > local + 3 * _SHIFT:
                break
            found.update(moments_of(label, self.zone, self._dst))
        self._around_change = sorted(each for each in found if moment < each <= end)
        self._around = moment, end

    def _labels(self, local: datetime) -> Iterator[datetime]:
        """The local times after one that fit."""
        parsed = copy(self._parsed)
        parsed.dt = local.replace(microsecond=0)
        labels: Iterator[datetime] = parsed
        return labels


class ClockChange(NamedTuple):
    """Clocks being set, and when an entry is run on the days before, of and after it."""

    at: datetime  # in the time that holds from then on
    forward: timedelta  # by how much; negative if they are set back
    firings: list[datetime]

    def __str__(self) -> str:
        way = "forward" if self.forward > timedelta(0) else "back"
        lines = [f"{self.at:%Y-%m-%d %H:%M}: clocks are set {way} by {abs(self.forward)}"]
        before = [each for each in self.firings if each.timestamp() < self.at.timestamp()]
        after = self.firings[len(before) :]
        shown = [*before[-_LINES:], *after[:_LINES]]
        return "\n".join(lines + [f"    {each:%a %Y-%m-%d %H:%M %Z (UTC%z)}" for each in shown])


class CronExplanation(NamedTuple):
    """What `explain_cron` has found; as a string it is for people."""

    expression: str
    zone: tzinfo
    changes: list[ClockChange]

    def __str__(self) -> str:
        head = f"{self.expression!r} in {self.zone}"
        if not self.changes:
            return f"{head}: clocks are not set there in the next {_YEARS_AHEAD} years"
        return "\n".join([head, *map(str, self.changes)])


def explain_cron(
    expression: str,
    tz: str | tzinfo | None = None,
    dst: Dst = "run_once",
    *,
    start: datetime | None = None,
) -> CronExplanation:
    """Tell when an entry is run around the next two changes of clocks.

    Args:
        expression: as for `Pool.cron`.
        tz: as for `Pool.cron`.
        dst: as for `Pool.cron`.
        start: from when on, now if not given; local time of the machine if it is naive.

    Returns the changes, with all firings from a day and a half before to a day and a half after;
    ``print`` it to read it.

    Raises:
        ImportError, ValueError, TypeError: as `Pool.cron` does.
    """
    cron = Cron(expression, tz, dst)
    if not isinstance(start, datetime | None):
        raise TypeError(f"explain_cron: start must be a datetime, not {start!r}")
    moment = clock.wall() if start is None else start.timestamp()
    changes: list[ClockChange] = []
    until = moment + _YEARS_AHEAD * 366 * _DAY
    while moment < until and len(changes) < 2:  # noqa: PLR2004  (forward, and back)
        change = change_within(moment, moment + _DAY, cron.zone)
        if change is not None:
            changes.append(_explain(cron, change))
        moment = change.moment if change is not None else moment + _DAY
    return CronExplanation(expression, cron.zone, changes)


def _explain(cron: Cron, change: Change) -> ClockChange:
    firings = cron.between(change.moment - 1.5 * _DAY, change.moment + 1.5 * _DAY)
    return ClockChange(
        in_zone(change.moment, cron.zone),
        timedelta(seconds=change.after - change.before),
        [in_zone(each, cron.zone) for each in firings],
    )
