"""Cron expressions and times of day when clocks change, against a scan of every minute."""

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import dateutil.tz
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import oddjob
from oddjob.schedule.cron import CronExpression
from oddjob.schedule.local_time import Dst, as_zone
from oddjob.testing import FakeClock
from tests.long import examples

YEARS = {
    "Europe/Berlin": 2026,
    "America/New_York": 2026,
    "Australia/Lord_Howe": 2026,  # half an hour
    "Africa/Casablanca": 2026,  # twice a year for Ramadan
    "Pacific/Apia": 2011,  # skipped the 30th of December
    "Asia/Kathmandu": 2026,  # UTC+5:45, and no changes
    "America/Havana": 2026,  # from midnight to one
    "America/Nuuk": 2026,  # from eleven to midnight
}
ZONES = st.sampled_from(list(YEARS))
POLICIES: list[Dst] = ["run_once", "skip", "run_both"]


QUARTER = 15 * 60  # seconds; clocks are set at the start of a quarter of an hour only


class Quarter(NamedTuple):
    """Fifteen minutes: when they begin, in seconds since the epoch, and what clocks show then."""

    moment: int
    of_day: int  # minutes since midnight


@cache
def quarters_of(zone: str) -> dict[date, list[Quarter]]:
    """Return all quarters of an hour of a year, in order, by the date that clocks show."""
    year = YEARS[zone]
    tz = ZoneInfo(zone)
    first = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
    last = int(datetime(year + 1, 1, 1, tzinfo=UTC).timestamp())
    found: dict[date, list[Quarter]] = {}
    for moment in range(first, last, QUARTER):
        local = datetime.fromtimestamp(moment, tz)
        assert (local.minute % 15, local.second) == (0, 0)
        quarter = Quarter(moment, local.hour * 60 + local.minute)
        found.setdefault(local.date(), []).append(quarter)
    return found


class Entry(NamedTuple):
    """A cron expression, and what it means."""

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # Sunday is 0
    both_days: bool

    def fits(self, day: date) -> bool:
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        fits = (of_month and of_week) if self.both_days else (of_month or of_week)
        return fits and day.month in self.months


def fields(low: int, high: int) -> st.SearchStrategy[tuple[str, frozenset[int]]]:
    every = frozenset(range(low, high + 1))
    steps = st.integers(2, high).map(
        lambda step: (f"*/{step}", frozenset(range(low, high + 1, step)))
    )
    numbers = st.lists(st.integers(low, high), min_size=1, max_size=3).map(
        lambda values: (",".join(map(str, values)), frozenset(values))
    )
    ranges = st.tuples(st.integers(low, high), st.integers(low, high)).map(
        lambda ends: (f"{min(ends)}-{max(ends)}", frozenset(range(min(ends), max(ends) + 1)))
    )
    return st.one_of(st.just(("*", every)), numbers, numbers, steps, ranges)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    parts = [draw(fields(*ends)) for ends in [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)]]
    texts = [text for text, _ in parts]
    both_days = texts[2].startswith("*") or texts[4].startswith("*")
    return Entry(" ".join(texts), *(values for _, values in parts), both_days)


def scan(entry: Entry, zone: str, dst: Dst, first: int, last: int) -> list[int]:
    """Return when an expression must fire, by looking at every minute between two moments."""
    found: set[int] = set()
    labels = {hour * 60 + minute for hour in entry.hours for minute in entry.minutes}
    goes_by_elapsed_time = len(entry.hours) == 24
    for day, quarters in quarters_of(zone).items():
        end = quarters[-1].moment + QUARTER - 60
        if end < first or quarters[0].moment > last or not entry.fits(day):
            continue
        shown: dict[int, list[int]] = {}
        for each in quarters:
            shown.setdefault(each.of_day, []).append(each.moment)
        for label in labels:
            moments = [each + label % 15 * 60 for each in shown.get(label - label % 15, [])]
            if goes_by_elapsed_time:
                found.update(moments)
            elif moments:
                found.update(moments if dst == "run_both" else moments[:1])
            elif dst != "skip":
                found.add(next((each.moment for each in quarters if each.of_day > label), end))
    return sorted(moment for moment in found if first <= moment <= last)


def bounds(zone: str) -> tuple[int, int]:
    """Return the first and the last minute of the days that are complete."""
    days = list(quarters_of(zone).values())
    return days[2][0].moment, days[-2][-1].moment + QUARTER - 60


@settings(max_examples=examples(100), suppress_health_check=[HealthCheck.filter_too_much])
@given(entries(), ZONES, st.sampled_from(POLICIES))
def test_any_expression_fires_when_a_scan_of_every_minute_says(
    entry: Entry, zone: str, dst: Dst
) -> None:
    """A mistake shows once a year, in the invoices."""
    days = sum(map(entry.fits, quarters_of(zone)))
    assume(0 < days * len(entry.hours) * len(entry.minutes) < 1000)
    first, last = bounds(zone)
    expected = scan(entry, zone, dst, first, last)
    assert list(CronExpression(entry.text, zone, dst).between(first - 1, last)) == expected


@pytest.mark.parametrize("zone", YEARS)
@pytest.mark.parametrize(
    ("text", "dst"),
    [("* * * * *", "run_once"), ("*/5 * * * *", "skip"), ("7,52 0-23 * * *", "run_both")]
    + [("59 22-23 * * *", dst) for dst in POLICIES],
)
def test_around_each_change_of_clocks_every_minute_is_right(text: str, zone: str, dst: Dst) -> None:
    """Expressions that fire often are compared there only."""
    values = {
        "* * * * *": (range(60), range(24)),
        "*/5 * * * *": (range(0, 60, 5), range(24)),
        "7,52 0-23 * * *": ((7, 52), range(24)),
        "59 22-23 * * *": ((59,), (22, 23)),
    }
    minutes, hours = map(frozenset, values[text])
    anything = [frozenset(range(low, high + 1)) for low, high in [(1, 31), (1, 12), (0, 6)]]
    entry = Entry(text, minutes, hours, *anything, both_days=True)
    cron = CronExpression(text, zone, dst)
    first, last = bounds(zone)
    tz = ZoneInfo(zone)
    for moment in range(first, last, 86_400):
        offsets = {
            datetime.fromtimestamp(moment + days * 86_400, tz).utcoffset() for days in (0, 1)
        }
        if len(offsets) == 2:
            start, end = moment - 90_000, min(last, moment + 180_000)
            assert list(cron.between(start - 1, end)) == scan(entry, zone, dst, start, end)


@settings(max_examples=examples(60))
@given(st.integers(0, 23), st.integers(0, 59), ZONES)
def test_a_daily_job_runs_exactly_once_every_day(hour: int, minute: int, zone: str) -> None:
    first, last = bounds(zone)
    runs = CronExpression(f"{minute} {hour} * * *", zone).between(first - 1, last)
    days = [datetime.fromtimestamp(each, ZoneInfo(zone)).date() for each in runs]
    assert days == list(quarters_of(zone))[2:-1]


@settings(max_examples=examples(150))
@given(st.integers(0, 23), st.integers(0, 59), ZONES, st.integers(0, 365 * 24 * 60), st.booleans())
def test_a_time_of_day_is_the_next_moment_at_which_clocks_show_it(
    hour: int, minute: int, zone: str, start: int, skips: bool
) -> None:
    """Also if that is the second time in a night."""
    dst: Dst = "skip" if skips else "run_once"
    first, last = bounds(zone)
    now = min(first + start * 60, last - 5 * 86_400)
    with FakeClock(datetime.fromtimestamp(now, UTC)), oddjob.Pool(1) as pool:
        at = pool.at(time(hour, minute, tzinfo=ZoneInfo(zone)), dst=dst)
        timer = at.perform(int)
        today = datetime.fromtimestamp(now, ZoneInfo(zone)).date()
        shown = (
            each.moment + minute % 15 * 60
            for days in range(5)
            for each in quarters_of(zone).get(today + timedelta(days), [])
            if each.of_day == hour * 60 + minute - minute % 15
        )
        strikes = min(moment for moment in shown if moment > now)
        if not skips:  # a time that does not exist has a substitute
            daily = CronExpression(f"{minute} {hour} * * *", zone).next_after(now)
            strikes = min(strikes, int(daily or 0))
        assert timer.fires_at.timestamp() == strikes
        timer.cancel()


BERLIN = ZoneInfo("Europe/Berlin")
SPRING = datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN)  # does not exist
AUTUMN = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN)  # comes twice


def test_a_date_that_does_not_exist_is_when_clocks_are_set_or_is_refused() -> None:
    with FakeClock(datetime(2026, 3, 1, tzinfo=UTC)), oddjob.Pool(1) as pool:
        timer = pool.at(SPRING).perform(int)
        assert timer.fires_at == datetime(2026, 3, 29, 3, 0, tzinfo=BERLIN)
        assert timer.cancel()
        with pytest.raises(ValueError, match=r"2026-03-29 02:30.* does not exist"):
            pool.at(SPRING, dst="skip")
        with pytest.raises(ValueError, match="dst must be one of 'run_once', 'skip'"):
            pool.at(SPRING, dst="run_both")


def test_of_a_date_that_comes_twice_fold_tells_which_is_meant() -> None:
    with FakeClock(datetime(2026, 10, 1, tzinfo=UTC)), oddjob.Pool(1) as pool:
        first = pool.at(AUTUMN).perform(int)
        second = pool.at(AUTUMN.replace(fold=1)).perform(int)
        assert first.fires_at.utcoffset() == timedelta(hours=2)
        assert second.fires_at.timestamp() - first.fires_at.timestamp() == 3600
        assert first.cancel()
        assert second.cancel()


def test_fold_means_the_second_time_and_gives_no_time_to_a_date_that_does_not_exist() -> None:
    with (
        FakeClock(datetime(2026, 10, 25, 0, 15, tzinfo=UTC)),
        oddjob.Pool(1) as pool,
    ):  # 2:15, first
        first = pool.at(time(2, 30, tzinfo=BERLIN)).perform(int)
        second = pool.at(time(2, 30, tzinfo=BERLIN, fold=1)).perform(int)
        assert (first.remaining(), second.remaining()) == (900, 4500)
        assert first.cancel()
        assert second.cancel()
    winter = FakeClock(datetime(2026, 3, 1, tzinfo=UTC))
    with winter, oddjob.Pool(1) as pool, pytest.raises(ValueError, match="does not exist"):
        pool.at(SPRING.replace(fold=1), dst="skip")


@pytest.mark.parametrize("text", ["0 9 1 * *", "@monthly", "30 3 * * 1", "0 0 29 2 *"])
def test_a_firing_that_is_far_ahead_is_found(text: str) -> None:
    """About a day before it, the search once did not end."""
    for hours in range(0, 24 * 40, 7):
        start = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=hours, minutes=13)
        at = CronExpression(text, "Europe/Berlin").next_after(start.timestamp())
        assert at is not None
        assert at > start.timestamp()


def test_firings_are_at_full_minutes_whatever_the_time_is() -> None:
    cron = CronExpression("*/5 * * * *", "Europe/Berlin")
    start = datetime(2026, 3, 28, 12, 3, 0, 370_000, tzinfo=UTC).timestamp()
    assert all(each % 300 == 0 for each in cron.between(start, start + 86_400))


def test_a_date_in_the_past_is_refused_with_both_times() -> None:
    with FakeClock(datetime(2026, 10, 1, 12, tzinfo=UTC)), oddjob.Pool(1) as pool:
        with pytest.raises(ValueError, match=r"2026-10-01 11:59:00\+00:00 is past: it is .*12:00"):
            pool.at(datetime(2026, 10, 1, 11, 59, tzinfo=UTC))
        naive = datetime.now() - timedelta(days=9999)  # noqa: DTZ005  (it is about naive ones)
        with pytest.raises(ValueError, match="is past"):
            pool.at(naive)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("61 * * * *",), ValueError, r"cron: '61 \* \* \* \*' is no expression: Bad minute.*five"),
        (("* * * * * *",), ValueError, "Wrong number of fields"),
        (("* * *",), ValueError, "Wrong number of fields.*half past one every night"),
        (("0 0 31 2 *",), ValueError, "is no expression"),
        ((5,), TypeError, "cron: an expression is a string, not 5"),
        (("* * * * *", "Europe/Bärlin"), ValueError, "no time zone is called 'Europe/Bärlin'"),
        (("* * * * *", 5), TypeError, "tz must be the name of a time zone, or a tzinfo, not 5"),
        (("* * * * *", None, "twice"), ValueError, "dst must be one of 'run_once', 'skip', 'run_b"),
    ],
)
def test_a_bad_expression_is_refused_with_what_is_wrong(
    arguments: tuple[object, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        CronExpression(*arguments)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize(
    ("name", "text"),
    [("@hourly", "0 * * * *"), ("@DAILY", "0 0 * * *"), ("@weekly", "0 0 * * 0"),
     ("@monthly", "0 0 1 * *"), ("@yearly", "0 0 1 1 *")],
)  # fmt: skip
def test_expressions_have_names(name: str, text: str) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    assert CronExpression(name, "UTC").next_after(start) == CronExpression(text, "UTC").next_after(
        start
    )


def test_explain_cron_shows_the_firings_around_the_next_changes_of_clocks() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    explanation = oddjob.explain_cron("30 2 * * *", "Europe/Berlin", start=start)
    assert [change.forward for change in explanation.changes] == [
        timedelta(hours=1),
        timedelta(hours=-1),
    ]
    shown = str(explanation)
    assert "2026-03-29 03:00: clocks are set forward by 1:00:00" in shown
    assert "Sun 2026-03-29 03:00 CEST (UTC+0200)" in shown
    assert "2026-10-25 02:00: clocks are set back by 1:00:00" in shown
    assert shown.count("2026-10-25 02:30") == 1
    both = oddjob.explain_cron("30 2 * * *", "Europe/Berlin", "run_both", start=start)
    assert str(both).count("2026-10-25 02:30") == 2
    assert "clocks do not change there" in str(
        oddjob.explain_cron("30 2 * * *", "UTC", start=start)
    )


def test_a_zone_of_pytz_is_taken_by_its_name() -> None:
    """As a tzinfo, it would be the local mean time of the nineteenth century."""

    class Pytz(tzinfo):
        zone = "Europe/Berlin"

        def localize(self, _: datetime) -> datetime:
            raise AssertionError

    assert as_zone(Pytz()) == BERLIN


SPRING_FORWARD = datetime(2026, 3, 29, 2)  # noqa: DTZ001  (local times)
AUTUMN_BACK = datetime(2026, 10, 25, 2)  # noqa: DTZ001


# Of a local time that does not exist, python-dateutil knows one offset only, that of summer time.
DATEUTIL_ZONE = dateutil.tz.gettz("Europe/Berlin")


@pytest.mark.parametrize("dst", POLICIES)
def test_a_zone_of_dateutil_is_as_good_as_any(dst: Dst) -> None:
    """A daily job once ran an hour before clocks were set forward."""
    for text in ("30 2 * * *", "0 3 * * *", "*/30 * * * *"):
        ours, theirs = (CronExpression(text, zone, dst) for zone in (DATEUTIL_ZONE, BERLIN))
        for change in (SPRING_FORWARD, AUTUMN_BACK):
            start, end = (change.timestamp() + days * 86_400 for days in (-2, 2))
            assert list(ours.between(start, end)) == list(theirs.between(start, end))


def test_a_date_with_microseconds_exists_in_the_far_future_too() -> None:
    with FakeClock(), oddjob.Pool(1) as pool:
        when = datetime(2999, 7, 1, 12, 30, 15, 123_457, tzinfo=BERLIN)
        timer = pool.at(when, dst="skip").perform(int)
        assert abs(timer.fires_at - when) < timedelta(milliseconds=1)
        timer.cancel()
