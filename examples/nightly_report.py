"""A nightly report, and reminders that can be cancelled: five days, in no time."""

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import oddjob

BERLIN = ZoneInfo("Europe/Berlin")
sent: list[str] = []

# A program uses the real clock; this one moves only when `advance` is called.
with oddjob.testing.FakeClock(datetime(2026, 3, 26, 12, tzinfo=UTC)) as clock:
    office = oddjob.Pool("office", 2)

    @office.job(cron="30 2 * * *", tz="Europe/Berlin")
    def report() -> None:
        """Run every night at half past two."""
        sent.append(f"report at {clock.now().astimezone(BERLIN):%a %H:%M}")

    @office.job
    def remind(user: str) -> str:
        """Send a reminder."""
        sent.append(f"{user}: a reminder")
        return user

    cancelled = remind.after(3600).submit("ann")
    kept = remind.at(time(9, 0, tzinfo=BERLIN)).submit("bob")
    assert cancelled.cancel()

    clock.advance(days=5)
    assert kept.result() == "bob"
    assert report.timer is not None
    print(report.timer)
    remaining = office.drain().timers  # that of the report, which recurs
    assert remaining == [report.timer]

print("\n".join(sent))
assert sent == [
    "report at Fri 02:30",
    "bob: a reminder",
    "report at Sat 02:30",
    "report at Sun 03:00",  # half past two does not exist that night
    "report at Mon 02:30",
    "report at Tue 02:30",
]
