"""Cron expressions: the moments that a crontab's five fields stand for.

What an expression means is left to cronsim, which is asked for local times only. Which moments
these are on days when clocks change is decided in `oddjob.schedule.local_time`.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from datetime import datetime, timedelta, tzinfo
from functools import partial
from typing import Any, Final, NamedTuple

from oddjob.compat import override
from oddjob.schedule.clock import clock
from oddjob.schedule.local_time import (
    Dst,
    as_zone,
    change_within,
    check_dst,
    local_at,
    moments_of,
    moments_showing,
    offset_at,
)

_NAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_NEAR: Final = 25 * 3600  # seconds; more than clocks have ever been set by
_SHIFT: Final = timedelta(seconds=_NEAR)
_DAY: Final = 86_400.0
_YEARS_AHEAD: Final = 2  # in which `explain_cron` searches
_FIELDS_WITH_SECONDS: Final = 6  # an extension of cronsim's
_LINES: Final = 6  # that are shown on either side of a change


class _Stretch(NamedTuple):
    """A few days with a change of clocks in or near them, and the firings in them."""

    start: float = 0.0
    end: float = 0.0
    firings: Sequence[float] = ()


class CronExpression:
    """An expression in a time zone.

    One that fires in every hour of the day goes by elapsed time: it fires whenever clocks show a
    time that fits. Any other one is bound to times of day, to which `dst` applies; see
    `oddjob.schedule.local_time.moments_of`.

    Thread safety: may be used from any thread; the cached stretch is replaced in one step.
    """

    def __init__(
        self, expression: str, tz: str | tzinfo | None = None, dst: Dst = "run_once"
    ) -> None:
        if not isinstance(expression, str):
            raise TypeError(f"cron: an expression is a string, not {expression!r}")
        check_dst(dst)
        self.expression: Final = expression
        self.zone: Final = as_zone(tz)
        self._parsed: Final = _parse(expression)
        fires_every_hour = len(self._parsed.hours) == 24  # noqa: PLR2004
        self._moments_of: Final[Callable[[datetime, tzinfo], list[float]]] = (
            moments_showing if fires_every_hour else partial(moments_of, dst=dst)
        )
        self._stretch = _Stretch()

    @override
    def __repr__(self) -> str:
        return f"cron {self.expression!r} in {self.zone}"

    def next_after(self, moment: float) -> float | None:
        """Return the first firing after a moment; None if there is none in the next 50 years."""
        while True:
            stretch = self._stretch_at(moment)
            if stretch is not None:
                index = bisect_right(stretch.firings, moment)
                if index < len(stretch.firings):
                    return stretch.firings[index]
                moment = stretch.end
                continue
            local = local_at(int(moment), self.zone)
            fitting = next(self._local_times_after(local), None)
            if fitting is None:
                return None
            # Right if clocks do not change before that, else not far from right.
            following = int(moment) + (fitting - local).total_seconds()
            if following <= int(moment) + _NEAR:
                return following
            moment = following - _NEAR

    def between(self, start: float, end: float) -> Iterator[float]:
        """Yield the firings after the first moment, up to and including the second."""
        moment = self.next_after(start)
        while moment is not None and moment <= end:
            yield moment
            moment = self.next_after(moment)

    def _stretch_at(self, moment: float) -> _Stretch | None:
        """Return the stretch in which a moment is; None if clocks do not change near that."""
        stretch = self._stretch
        if stretch.start <= moment < stretch.end:
            return stretch
        around = (moment - _NEAR, moment, moment + _NEAR)
        if len({offset_at(each, self.zone) for each in around}) == 1:
            return None
        end = moment + 2 * _NEAR
        local = local_at(int(moment), self.zone)
        found: set[float] = set()
        for fitting in self._local_times_after(local - _SHIFT):
            if fitting > local + 3 * _SHIFT:
                break
            found.update(self._moments_of(fitting, self.zone))
        firings = sorted(each for each in found if moment < each <= end)
        stretch = self._stretch = _Stretch(moment, end, firings)
        return stretch

    def _local_times_after(self, local: datetime) -> Iterator[datetime]:
        parsed = copy(self._parsed)
        parsed.dt = local.replace(microsecond=0)
        local_times: Iterator[datetime] = parsed
        return local_times


def _parse(expression: str) -> Any:
    try:
        import cronsim
    except ImportError as error:
        raise ImportError(
            "cron needs the package cronsim: pip install 'oddjob[cron]'", name="cronsim"
        ) from error
    fields = _NAMES.get(expression.strip().lower(), expression)
    try:
        if len(fields.split()) == _FIELDS_WITH_SECONDS:
            raise cronsim.CronSimError("Wrong number of fields")  # noqa: TRY301  (reported below)
        parsed = cronsim.CronSim(fields, datetime(2024, 1, 1))  # noqa: DTZ001  (a local time)
        next(parsed)
    except (cronsim.CronSimError, StopIteration) as error:
        reason = str(error) or "no date fits"
        raise ValueError(
            f"cron: {expression!r} is no expression: {reason}. It has five fields: minute (0-59), "
            "hour (0-23), day of the month (1-31), month (1-12), day of the week (0-7); "
            "'30 1 * * *' is half past one every night"
        ) from error
    return parsed


class ClockChange(NamedTuple):
    """A change of clocks, and the firings of an expression around it.

    Attributes:
        at: the moment of the change, in the local time after it.
        forward: by how much clocks are set forward; negative if they are set back.
        firings: those from a day and a half before to a day and a half after.
    """

    at: datetime
    forward: timedelta
    firings: list[datetime]

    @override
    def __str__(self) -> str:
        direction = "forward" if self.forward > timedelta(0) else "back"
        lines = [f"{self.at:%Y-%m-%d %H:%M}: clocks are set {direction} by {abs(self.forward)}"]
        before = [each for each in self.firings if each.timestamp() < self.at.timestamp()]
        after = self.firings[len(before) :]
        shown = [*before[-_LINES:], *after[:_LINES]]
        return "\n".join(lines + [f"    {each:%a %Y-%m-%d %H:%M %Z (UTC%z)}" for each in shown])


class CronExplanation(NamedTuple):
    """What `explain_cron` returns; print it to read it.

    Attributes:
        expression: the crontab entry.
        zone: the time zone by which it goes.
        changes: the next two changes of clocks, if there are any.
    """

    expression: str
    zone: tzinfo
    changes: list[ClockChange]

    @override
    def __str__(self) -> str:
        title = f"{self.expression!r} in {self.zone}"
        if not self.changes:
            return f"{title}: clocks do not change there in the next {_YEARS_AHEAD} years"
        return "\n".join([title, *map(str, self.changes)])


def explain_cron(
    expression: str,
    tz: str | tzinfo | None = None,
    dst: Dst = "run_once",
    *,
    start: datetime | None = None,
) -> CronExplanation:
    """Return when a cron expression fires around the next two changes of clocks.

    Args:
        expression: as for `Pool.cron`.
        tz: as for `Pool.cron`.
        dst: as for `Pool.cron`.
        start: where to start; now if not given. A naive one is local time of the machine.

    Returns:
        The changes, and the firings near them; ``print`` it to read it.

    Raises:
        ImportError, ValueError, TypeError: as `Pool.cron` does.
    """
    cron = CronExpression(expression, tz, dst)
    if not isinstance(start, datetime | None):
        raise TypeError(f"explain_cron: start must be a datetime, not {start!r}")
    moment = clock.wall() if start is None else start.timestamp()
    end = moment + _YEARS_AHEAD * 366 * _DAY
    changes: list[ClockChange] = []
    while moment < end and len(changes) < 2:  # noqa: PLR2004  (forward, and back)
        change = change_within(moment, moment + _DAY, cron.zone)
        if change is not None:
            forward = offset_at(change, cron.zone) - offset_at(moment, cron.zone)
            firings = cron.between(change - 1.5 * _DAY, change + 1.5 * _DAY)
            dates = [datetime.fromtimestamp(each, cron.zone) for each in firings]
            at = datetime.fromtimestamp(change, cron.zone)
            changes.append(ClockChange(at, timedelta(seconds=forward), dates))
        moment = moment + _DAY if change is None else change
    return CronExplanation(expression, cron.zone, changes)
