"""Timers of pools with a store: the store waits, and the calls outlive pool and process."""

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import oddjob
from oddjob import Pool, PoolClosed
from oddjob.durable import recurring
from oddjob.durable.record import Entry, Partition, State
from oddjob.durable.rules import Rule, decode_rule, encode_rule
from oddjob.durable.store import Filter
from oddjob.errors import StoreFull
from oddjob.schedule.cron import CronExpression
from oddjob.schedule.triggers import CronTrigger, EveryTrigger
from oddjob.testing import FakeClock, inline
from tests.durable import jobs
from tests.hang import until
from tests.redis_clock import follow_clock

WAIT = 10.0
START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_runs() -> None:
    jobs.runs.clear()
    while jobs.entered.acquire(blocking=False):  # of tests before
        pass


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    with FakeClock(START) as clock:
        yield clock


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty store of each kind, whose time is this process's clock."""
    if request.param == "memory":
        return "memory:"
    follow_clock(monkeypatch)
    return str(request.getfixturevalue("redis_url"))


@pytest.fixture
def pool(clock: FakeClock, store: str) -> Iterator[Pool]:
    with Pool("durable", 2, store=store) as pool:
        yield pool


def entries(pool: Pool) -> list[Entry]:
    found: list[Entry] = pool._core.store.reader.entries(pool.name)
    return found


# Once.


def test_a_job_waits_in_the_store_until_its_time_has_come(pool: Pool, clock: FakeClock) -> None:
    job = pool.after(60).submit(jobs.note, 1)
    assert job.state == "scheduled"
    (record,) = pool._core.store.reader.records("durable", Filter())
    assert record.state is State.SCHEDULED
    clock.advance(59)
    assert (job.state, jobs.runs) == ("scheduled", [])
    clock.advance(1)
    assert (job.state, job.result(WAIT), jobs.runs) == ("succeeded", 1, [1])


def test_a_batch_waits_and_its_jobs_come_back(pool: Pool, clock: FakeClock) -> None:
    batch = pool.after(timedelta(minutes=1)).submit_many(jobs.note, range(5))
    assert pool.after(60).submit_many(jobs.note, []) == []
    clock.advance(60)
    assert [job.result(WAIT) for job in batch] == [0, 1, 2, 3, 4]


def test_a_job_at_a_time_of_the_wall_clock_notices_that_it_is_set(
    pool: Pool, clock: FakeClock
) -> None:
    job = pool.at(time(7, 30, tzinfo=UTC)).submit(jobs.note, 1)
    clock.advance(60)
    assert job.state == "scheduled"
    clock.set_wall(START.replace(hour=8))
    assert job.result(WAIT) == 1
    with pytest.raises(ValueError, match="is past"):
        pool.at(START).submit(jobs.note, 1)


def test_a_scheduled_job_can_be_canceled(pool: Pool, clock: FakeClock) -> None:
    job = pool.after(60).submit(jobs.note, 1)
    assert job.cancel()
    assert job.cancelled()
    clock.advance(120)
    assert jobs.runs == []
    (record,) = pool._core.store.reader.records("durable", Filter())
    assert record.state is State.CANCELLED


def test_the_timer_of_performed_calls_can_be_read_and_canceled(
    pool: Pool, clock: FakeClock
) -> None:
    timer = pool.after(60).perform_many(jobs.note, [1, 2])
    assert isinstance(timer, oddjob.Timer)
    assert repr(timer) == "<Timer after 60 s, pool durable, stored>"
    assert (timer.pool, timer.jobs, timer.fired, timer.missed) == (pool, [], 0, 0)
    assert timer.error is None
    assert timer.fires_at == timer.next == START + timedelta(seconds=60)
    clock.advance(20)
    assert oddjob.read_timer(timer) == 40
    assert oddjob.cancel_timer(timer) == 40
    assert (timer.cancelled, timer.cancel(), timer.remaining(), timer.next) == (
        *(True, False, False, None),
    )
    clock.advance(60)
    assert jobs.runs == []


def test_a_timer_that_has_fired_cannot_be_canceled(pool: Pool, clock: FakeClock) -> None:
    timer = pool.after(60).perform(jobs.note, 1)
    clock.advance(60)
    assert jobs.runs == [1]
    assert (timer.fired, timer.cancelled, timer.cancel(), timer.next) == (1, False, False, None)


def test_scheduled_jobs_find_room_in_a_full_queue(clock: FakeClock) -> None:
    with Pool("durable", 1, store="memory:", max_queue=1, when_full="raise") as pool:
        scheduled = pool.after(60).submit_many(jobs.note, range(5))
        clock.advance(60)
        assert [job.result(WAIT) for job in scheduled] == list(range(5))


def test_scheduled_jobs_of_a_pool_that_is_shut_down_live_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    with FakeClock(START) as clock:
        with Pool("durable", 1, store=url) as pool:
            job = pool.after(60).submit(jobs.note, 1)
            timer = pool.after(60).perform(jobs.note, 2)
        with pytest.raises(PoolClosed, match="lives on in the store"):
            job.result(WAIT)
        with pytest.raises(PoolClosed):
            timer.cancel()
        with pytest.raises(PoolClosed):
            pool.after(60).perform(jobs.note, 3)
        with Pool("durable", 1, store=url) as pool:
            pool.job(jobs.note)
            clock.advance(59)
            assert jobs.runs == []
            clock.advance(1)
            assert jobs.runs == [1, 2]


def test_a_unique_job_that_is_scheduled_keeps_no_pool_open_that_submits_it_again(
    tmp_path: Path,
) -> None:
    pool = Pool("x", 1, store=f"sqlite:///{tmp_path}/jobs.db")
    view = pool.options(unique=True)
    view.after(3600).perform(jobs.note, 1)
    later, batch = view.submit(jobs.note, 1), view.submit_many(jobs.note, [1, 1])
    pool.shutdown(timeout=WAIT)
    assert {type(job.exception(0)) for job in (later, *batch)} == {PoolClosed}


def test_jobs_that_need_not_persist_have_timers_in_memory(pool: Pool, clock: FakeClock) -> None:
    job = pool.options(persist=False).after(60).submit(lambda: "a lambda cannot be stored")
    assert pool._core.store.reader.records("durable", Filter()) == []
    clock.advance(60)
    assert job.result(WAIT) == "a lambda cannot be stored"


def test_a_retry_waits_for_the_fake_clock(pool: Pool, clock: FakeClock) -> None:
    job = pool.options(retries=3, backoff=[10, 20]).submit(jobs.fail_first)
    clock.advance(29)
    assert (job.done(), jobs.runs) == (False, [1, 2])
    clock.advance(1)
    assert (job.result(WAIT), jobs.runs) == (3, [1, 2, 3])


def test_a_rate_goes_by_the_fake_clock(pool: Pool, clock: FakeClock) -> None:
    pool.options(rate="2/minute").perform_many(jobs.note, range(5))
    clock.advance(0)
    assert len(jobs.runs) == 2
    clock.advance(60)
    assert len(jobs.runs) == 4
    clock.advance(60)
    assert len(jobs.runs) == 5


# Inline.


def test_inline_mode_runs_stored_jobs_their_retries_and_timers_in_place(
    pool: Pool, clock: FakeClock
) -> None:
    with inline():
        job = pool.submit(jobs.note, 1)
        assert job.result() == 1
        assert pool.find(job.id) is job
        assert pool.options(retries=3, backoff=10).submit(jobs.fail_first).result() == 3
        jobs.runs.clear()
        job = pool.after(60).submit(jobs.note, 2)
        timer = pool.every(60).perform(jobs.sync)
        clock.advance(60)
        assert (job.result(), jobs.runs) == (2, [2, jobs.sync])
        timer.cancel()
    assert pool._core.store.reader.records("durable", Filter()) == []


# Again and again.


def test_a_recurring_entry_fires_at_each_tick(pool: Pool, clock: FakeClock) -> None:
    timer = pool.every(60).perform(jobs.greet, "hello", mark="!")
    assert timer.next == START + timedelta(seconds=60)
    clock.advance(60)
    assert (jobs.runs, timer.fired, timer.remaining()) == (["hello!"], 1, 60)
    clock.advance(120)
    assert (jobs.runs, timer.fired, timer.missed) == (["hello!"] * 3, 3, 0)
    assert timer.cancel() == 60
    assert (timer.cancelled, timer.next, timer.cancel()) == (True, None, False)
    assert timer.fires_at == START + timedelta(seconds=180)
    clock.advance(120)
    assert len(jobs.runs) == 3


def test_a_batch_recurs(pool: Pool, clock: FakeClock) -> None:
    timer = pool.every(60).submit_many(jobs.note, [1, 2])
    clock.advance(120)
    assert sorted(jobs.runs) == [1, 1, 2, 2]
    assert timer.jobs == []


def test_a_cron_entry_fires_when_its_expression_says_so(pool: Pool, clock: FakeClock) -> None:
    timer = pool.cron("30 1 * * *", tz="Europe/Berlin").perform(jobs.sync)
    assert timer.next == START.replace(minute=30)
    clock.advance(days=2)
    assert (timer.fired, jobs.runs) == (2, [jobs.sync, jobs.sync])


def test_a_function_is_decorated_with_its_interval(pool: Pool, clock: FakeClock) -> None:
    decorated = pool.job(every=60, overlap=True)(jobs.sync)
    assert decorated.timer is not None
    clock.advance(60)
    assert jobs.runs == [jobs.sync]
    (entry,) = entries(pool)
    assert entry.name == "tests.durable.jobs:sync"


def test_what_is_declared_again_is_the_same_entry(pool: Pool, clock: FakeClock) -> None:
    first = pool.every(60).perform(jobs.sync)
    clock.advance(30)
    second = pool.every(60).perform(jobs.sync)
    assert first.next == second.next == START + timedelta(seconds=60)
    clock.advance(30)
    assert jobs.runs == [jobs.sync]
    first.cancel()
    assert second.cancelled
    assert second.next is None


def test_calls_with_other_arguments_or_names_are_entries_of_their_own(
    pool: Pool, clock: FakeClock
) -> None:
    for name in ("one", "two", "one"):
        pool.every(60).perform(jobs.greet, name)
    pool.options(name="three").every(30).perform(jobs.greet, "one")
    clock.advance(60)
    assert sorted(jobs.runs) == ["one.", "one.", "one.", "two."]
    names = [entry.name for entry in entries(pool)]
    assert names[-1] == "three"
    assert len(names) == 3


def test_one_process_cannot_give_an_entry_two_intervals(pool: Pool) -> None:
    timer = pool.every(60).perform(jobs.sync)
    with pytest.raises(ValueError, match=r"or tell the two apart with options\(name="):
        pool.cron("* * * * *").perform(jobs.sync)
    timer.cancel()
    pool.every(30).perform(jobs.sync)
    with pytest.raises(ValueError, match="is there already"):
        pool.options(name="tests.durable.jobs:sync").every(30).perform(jobs.greet, "x")


def test_a_firing_is_left_out_while_the_previous_job_runs(pool: Pool, clock: FakeClock) -> None:
    jobs.gate.clear()
    clock._patience = 0.05  # type: ignore[misc]
    timer = pool.every(60).perform(jobs.hang)
    clock.advance(60)
    assert jobs.entered.acquire(timeout=WAIT)
    clock.advance(120)
    until(lambda: (timer.fired, timer.missed) == (1, 2))
    jobs.gate.set()


def test_keys_and_priorities_of_entries_hold(pool: Pool, clock: FakeClock) -> None:
    pool.options(key="k", priority=7).every(60).perform(jobs.note, 1)
    clock.advance(60)
    (record,) = pool._core.store.reader.records("durable", Filter())
    assert (record.key, record.priority, record.entry) == ("k", 7, entries(pool)[0].name)


def test_a_new_version_of_the_program_replaces_the_rule(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    with FakeClock(START) as clock:
        with Pool("durable", 1, store=url) as pool:
            timer = pool.every(3600).perform(jobs.sync)
        assert (timer.next, timer.cancelled) == (None, False)
        with Pool("durable", 1, store=url) as pool:
            timer = pool.every(60).perform(jobs.sync)
            clock.advance(60)
            assert (timer.fired, len(entries(pool))) == (1, 1)


def test_missed_ticks_are_made_up_for_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    with FakeClock(START) as clock:
        with Pool("durable", 1, store=url) as pool:
            pool.cron("0 * * * *", tz="UTC").perform(jobs.note, "once")
            pool.cron("0 * * * *", tz="UTC", catch_up=False).perform(jobs.note, "never")
        clock.advance(hours=5, minutes=30)
        with Pool("durable", 1, store=url) as pool:
            pool.job(jobs.note)
            clock.advance(0)
            assert jobs.runs == ["once"]
            clock.advance(minutes=30)
            assert sorted(jobs.runs) == ["never", "once", "once"]
            assert sorted(entry.missed for entry in entries(pool)) == [4, 5]


def test_an_entry_of_a_function_that_nobody_knows_does_not_fire(
    pool: Pool, clock: FakeClock
) -> None:
    """Another version of the program may have it."""
    entry = Entry(
        "one", Partition("durable", "gone:gone"), b'{"every": 1.0, "overlap": 1}', 0.0, b""
    )
    pool._core.store.call(lambda store: store.put_entry(entry))
    every = pool.every(60).perform(jobs.sync)
    clock.advance(600)
    assert {each.name: each.fired for each in entries(pool)} == {
        "one": 0,
        "tests.durable.jobs:sync": 10,
    }
    assert every.fired == 10


def test_a_clock_that_is_set_back_makes_no_tick_fire_again(pool: Pool, clock: FakeClock) -> None:
    timer = pool.every(60).perform(jobs.sync)
    clock.advance(600)
    clock.set_wall(START)
    clock.advance(600)
    assert timer.fired == 10
    clock.advance(60)
    assert timer.fired == 11
    clock.set_wall(START + timedelta(hours=1))
    assert (timer.fired, timer.missed) == (12, 48)


class Moody(tzinfo):
    """A time zone of a user's, which may raise."""

    is_broken = False

    def utcoffset(self, moment: datetime | None) -> timedelta:
        if Moody.is_broken:
            raise LookupError("the moon is gone")
        return timedelta(hours=1)

    def dst(self, moment: datetime | None) -> timedelta:
        return timedelta(0)


def test_a_time_zone_that_raises_stops_its_entry_and_nothing_else(
    pool: Pool, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pool.cron("0 12 * * *", tz=Moody()).perform(jobs.note, "moody")
    every = pool.every(3600).perform(jobs.sync)
    clock.advance(hours=12)
    assert (jobs.runs.count("moody"), jobs.runs.count(jobs.sync)) == (1, 12)
    monkeypatch.setattr(Moody, "is_broken", True)
    clock.advance(hours=48)
    assert (jobs.runs.count("moody"), every.fired) == (1, 60)
    assert len([record for record in caplog.records if "cannot fire here" in record.message]) == 1


def test_a_rule_that_cannot_be_read_is_left_to_others(
    pool: Pool, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """They may be of a later version."""
    pool.submit(jobs.sync).result(WAIT)
    name = "tests.durable.jobs:sync"
    tick = START.timestamp() + 60
    entry = Entry("strange", Partition("durable", name), b"from the future", tick, b"")
    foreign = Entry("zone", Partition("durable", name), encode_rule(rule(Moody())), tick, b"")
    for each in (entry, foreign):
        pool._core.store.call(lambda store, each=each: store.put_entry(each))
    clock.advance(600)
    assert jobs.runs == [jobs.sync]
    assert [record.message for record in caplog.records] == [
        "pool durable: the recurring entry 'strange' cannot fire here"
    ]


def test_an_entry_that_finds_the_store_full_fires_when_there_is_room(
    pool: Pool, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    timer = pool.every(60).perform(jobs.sync)
    store = pool._core.store.attached.store
    fire, refusals = store.fire_entry, [StoreFull("full")] * 3

    def fire_entry(*args: Any, **options: Any) -> Any:
        if refusals:
            raise refusals.pop()
        jobs.entered.release()
        return fire(*args, **options)

    monkeypatch.setattr(recurring, "_NEXT_TRY", 0.01)
    monkeypatch.setattr(store, "fire_entry", fire_entry)
    clock.advance(60)
    assert jobs.entered.acquire(timeout=WAIT)
    clock.advance(0)
    assert (timer.fired, timer.missed, jobs.runs) == (1, 0, [jobs.sync])
    assert len(caplog.records) == 1


# Rules.


def rule(zone: Any, expression: str = "30 2 * * *", dst: Any = "run_once") -> Rule:
    return Rule(CronTrigger(expression, zone, dst), overlaps=False)


@pytest.mark.parametrize(
    "zone", [None, "Europe/Berlin", ZoneInfo("Asia/Tokyo"), UTC, timezone(timedelta(hours=-3.5))]
)
def test_a_rule_means_the_same_in_another_process(zone: Any) -> None:
    stored = encode_rule(rule(zone))
    read = decode_rule(stored)
    assert read is not None
    assert encode_rule(read) == stored
    assert read.trigger.first() == rule(zone).trigger.first()


def test_a_time_zone_that_cannot_be_stored_is_refused(pool: Pool) -> None:
    class Local(Moody):
        pass

    with pytest.raises(TypeError, match=r"the time zone .* cannot be stored"):
        pool.cron("30 2 * * *", tz=Local()).perform(jobs.sync)
    assert entries(pool) == []


ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "UTC",
         "Pacific/Apia", "Asia/Kathmandu", "America/St_Johns", "Africa/Cairo"]  # fmt: skip


@given(
    zone=st.sampled_from(ZONES),
    expression=st.sampled_from(
        ["30 2 * * *", "*/20 * * * *", "0 0 * * *", "59 23 * * 0", "5 1-3 * * *"]
    ),
    dst=st.sampled_from(["run_once", "skip", "run_both"]),
    start=st.integers(1_577_836_800, 1_735_689_600),  # 2020 to 2024
    late=st.lists(st.integers(-7200, 100_000), min_size=1, max_size=8),
)
def test_the_next_tick_is_later_than_the_last(
    zone: str, expression: str, dst: Any, start: int, late: list[int]
) -> None:
    """In UTC, however clocks are set, and however late each one fires (fault 27)."""
    stored = encode_rule(rule(zone, expression, dst))
    tick = CronExpression(expression, zone, dst).next_after(start)
    ticks = []
    for each in late:
        assert tick is not None
        ticks.append(tick)
        read = decode_rule(stored)  # as a process that has just begun does
        assert read is not None
        tick = read.trigger.after(tick, tick + each).at
    assert all(one < two for one, two in pairwise(ticks))


@given(
    period=st.floats(0.001, 1e6),
    tick=st.floats(1e9, 4e9),
    late=st.floats(-1e6, 1e9),
)
def test_the_next_tick_of_an_interval_is_later_than_the_last(
    period: float, tick: float, late: float
) -> None:
    following = EveryTrigger(period).after(tick, tick + late)
    assert following.at is not None
    assert following.at > tick


@pytest.mark.parametrize(
    ("begin", "expected"),
    [
        # Clocks are set forward from 2:00 to 3:00: the entry fires right after the change.
        (datetime(2024, 3, 31, 0, 50, tzinfo=UTC), datetime(2024, 3, 31, 1, 0, tzinfo=UTC)),
        # Clocks are set back from 3:00 to 2:00: it fires the first time that they show 2:30.
        (datetime(2024, 10, 27, 0, 20, tzinfo=UTC), datetime(2024, 10, 27, 0, 30, tzinfo=UTC)),
    ],
)
def test_a_process_that_begins_anew_while_clocks_change_fires_no_entry_twice(
    tmp_path: Path, begin: datetime, expected: datetime
) -> None:
    """Nor does it leave one out (fault 27)."""
    url = f"sqlite:///{tmp_path}/jobs.db"
    fired: list[datetime] = []
    with FakeClock(begin) as clock:
        for _ in range(16):
            with Pool("durable", 1, store=url) as pool:
                timer = pool.cron("30 2 * * *", tz="Europe/Berlin").perform(jobs.sync)
                before = timer.fired
                clock.advance(minutes=10)
                fired += [clock.now()] * (timer.fired - before)
            clock.advance(minutes=1)
    assert len(jobs.runs) == len(fired) == 1
    assert timedelta(0) <= fired[0] - expected <= timedelta(minutes=20)
