"""copy_store moves a live pool to another store: nothing is lost, and nothing runs twice."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import oddjob
from oddjob import Pool, StoreUnusable
from oddjob.durable.stores import runner_of
from oddjob.operations import CopyReport, PoolOperations, StoreOperations
from oddjob.operations.access import StoreAccess
from oddjob.operations.copying import _Notes, _notes_at
from tests.durable import jobs
from tests.durable.conftest import WAIT

NAME = "moving"


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture(params=["to redis", "from redis"])
def urls(request: pytest.FixtureRequest, file_url: str, redis_url: str) -> tuple[str, str]:
    """The URLs of a source and a target."""
    return (file_url, redis_url) if request.param == "to redis" else (redis_url, file_url)


@pytest.fixture(autouse=True)
def nothing_has_run() -> Iterator[None]:
    jobs.gate.clear()
    jobs.runs.clear()
    yield
    jobs.gate.set()


def at_rest(url: str, **options: Any) -> Pool:
    """Return a pool that runs nothing."""
    return Pool(NAME, 1, store=url, consume=False, **options)


@contextmanager
def look(url: str, name: str = NAME) -> Iterator[PoolOperations]:
    """Return what can be seen of a pool in a store, and done there."""
    with StoreOperations(url) as store:
        yield store.pool(name)


def run_all(url: str, count: int, **options: Any) -> list[Any]:
    """Run the jobs of a store until that many have run; return what they noted."""
    with Pool(NAME, 1, store=url, **options) as pool:
        pool.job(jobs.note)
        assert pool.submit(jobs.note, "one more").result(WAIT) == "one more"
    jobs.runs.remove("one more")
    assert len(jobs.runs) == count, jobs.runs
    return jobs.runs


def test_waiting_jobs_are_moved_in_order_and_with_all_that_was_said_of_them(
    urls: tuple[str, str],
) -> None:
    """Priority, key, time, uniqueness, options."""
    source, target = urls
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    with at_rest(source) as pool:
        for n in range(5):
            pool.submit(jobs.note, n)
        pool.options(priority=1).submit(jobs.note, "first")
        for n in range(2):
            pool.options(key="k", serial=True).submit(jobs.note, f"key {n}")
        pool.options(unique="u", retries=7, name="named").submit(jobs.note, "unique")
        pool.at(tomorrow).perform(jobs.note, "tomorrow")
        report = oddjob.copy_store(source, target)
        assert report == CopyReport(moved=10, twins=0, entries=0, running=0, left={})
        assert report.is_complete
        assert pool.counts()["queued"] == pool.counts()["scheduled"] == 0
    with at_rest(target) as pool:
        (named,) = pool.records(name="named")
        assert pool.options(unique="u").submit(jobs.note, "twin").id == named.id
        (later,) = pool.records(state="scheduled")
        assert later.run_at is not None
        assert abs(later.run_at - tomorrow) < timedelta(seconds=1)
        assert [each.key for each in pool.records(key="k")] == ["k", "k"]
    runs = run_all(target, 9)
    assert runs[:6] == ["first", *range(5)]
    assert [each for each in runs[6:] if each != "unique"] == ["key 0", "key 1"]


def test_jobs_take_their_turns_in_the_target(urls: tuple[str, str]) -> None:
    """Also where the pool that runs them does not know of fair shares; with their weights."""
    source, target = urls
    with at_rest(source, fair_by=lambda it: it[0], fair_weights={"g": 2}) as pool:
        pool.submit_many(jobs.note, ["big"] * 4 + ["gold"] * 2 + ["small"])
        assert oddjob.copy_store(source, target).moved == 7
    assert run_all(target, 7) == ["gold", "big", "gold", "small", "big", "big", "big"]


def test_what_has_begun_ends_where_it_is(urls: tuple[str, str]) -> None:
    """So do the jobs behind it in its key, and those that have to do with others."""
    source, target = urls
    with Pool(NAME, 1, store=source) as pool:
        running = pool.options(key="k").submit(jobs.hang)
        assert jobs.entered.acquire(timeout=WAIT)
        behind = pool.options(key="k").submit(jobs.note, "behind")
        one = pool.submit(jobs.note, "one")
        two = pool.options(after=one).submit(jobs.note, "two")
        free = pool.options(key="other").submit(jobs.note, "free")
        report = oddjob.copy_store(source, target)
        assert (report.moved, report.running, sum(report.left.values())) == (1, 1, 3)
        assert not report.is_complete
        assert free.cancelled()
        jobs.gate.set()
        assert running.result(WAIT) == "late"
        assert [each.result(WAIT) for each in (behind, two)] == ["behind", "two"]
    assert oddjob.copy_store(source, target).is_complete
    assert run_all(target, 4) == ["behind", "one", "two", "free"]


def test_what_the_target_cannot_carry_stays_and_says_why(file_url: str, redis_url: str) -> None:
    """Until signing keys say that pickle is trusted there."""
    with at_rest(file_url) as pool:
        pool.submit(jobs.note, (1, 2))
        pool.submit(jobs.note, [1, 2])
        report = oddjob.copy_store(file_url, redis_url)
        assert report.moved == 1
        ((reason, count),) = report.left.items()
        assert count == 1
        assert "which JSON does not have" in reason
        assert pool.counts()["queued"] == 1
        assert oddjob.copy_store(file_url, redis_url, target_keys=jobs.KEYS).moved == 1
    with at_rest(redis_url, signing_keys=jobs.KEYS) as pool:
        (signed, _) = pool.records()
        assert signed.arguments() == (((1, 2),), {})


def test_a_unique_job_that_the_target_has_is_not_doubled(urls: tuple[str, str]) -> None:
    source, target = urls
    for url in urls:
        with at_rest(url) as pool:
            pool.options(unique="u").submit(jobs.note, url)
    report = oddjob.copy_store(source, target)
    assert (report.moved, report.twins) == (0, 1)
    assert run_all(target, 1) == [target]


def test_recurring_entries_go_on_in_the_target_with_their_ticks(urls: tuple[str, str]) -> None:
    """Also where programs declare them again, on either side; paused ones stay paused."""
    source, target = urls

    def declare(pool: Pool) -> None:
        for name in ("fires", "paused"):
            pool.options(name=name).every(3600).perform(jobs.note, name)

    with at_rest(source) as pool:
        declare(pool)
        paused = next(each for each in pool.recurring() if each.name == "paused")
        assert paused.pause()
        ticks = {each.name: each.next_run for each in pool.recurring()}
        assert oddjob.copy_store(source, target).entries == 2
        assert oddjob.copy_store(source, target).entries == 0
    for url in urls:
        with at_rest(url) as pool:
            declare(pool)
    with look(source) as pool, look(target) as moved:
        assert {each.name for each in pool.recurring() if each.next_run.year > 9000} == {"fires"}
        found = {each.name: each for each in moved.recurring()}
        assert found["fires"].next_run == ticks["fires"]
        assert {name: each.is_paused for name, each in found.items()} == {
            "fires": False,
            "paused": True,
        }


def test_recurring_entries_keep_their_limits(urls: tuple[str, str]) -> None:
    source, target = urls
    with at_rest(source) as pool:
        pool.options(name="limited", rate="3/minute").every(3600).perform(jobs.note, 1)
        assert oddjob.copy_store(source, target).entries == 1
    with at_rest(target):
        (entry,) = runner_of(target).reader.entries(NAME)
        assert [each.name for each in entry.partition.limiters] == ["rate=3/60s"]


def test_a_paused_pool_stays_paused(urls: tuple[str, str]) -> None:
    """In both stores; one that was not is not."""
    source, target = urls
    with at_rest(source) as pool, Pool("other", store=source, consume=False) as other:
        for each in (pool, other):
            each.submit(jobs.note, 1)
        with look(source) as operations:
            operations.pause("it leaks")
        oddjob.copy_store(source, target)
    for url in urls:
        with look(url) as found, look(url, "other") as untouched:
            assert (found.is_paused, untouched.is_paused) == (True, False)
            assert found.pause_reason == "it leaks"


def test_there_is_one_copy_at_a_time(urls: tuple[str, str], tmp_path: Path) -> None:
    for url in urls:
        with at_rest(url):
            pass
    with _notes_at(tmp_path / "jobs.db-oddjob"):  # noqa: SIM117
        with pytest.raises(StoreUnusable, match=r"another process copies jobs.db at present"):
            oddjob.copy_store(*urls)


def test_stores_that_cannot_be_copied_are_refused(file_url: str, redis_url: str) -> None:
    with pytest.raises(ValueError, match="one of the two stores must be a SQLite file"):
        oddjob.copy_store(redis_url, f"{redis_url}?prefix=other")
    with pytest.raises(StoreUnusable, match="there is no store"):
        oddjob.copy_store(file_url, redis_url)


def test_a_store_is_not_moved_to_itself_however_its_url_is_written(
    file_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its unique jobs would be found there already, and deleted."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "same").symlink_to(tmp_path)
    spellings = ["jobs.db", "folder/../jobs.db", f"{tmp_path}/same/jobs.db"]
    with at_rest(file_url) as pool:
        pool.options(unique="u").submit(jobs.note, 1)
        for each in file_url, *(f"sqlite:///{path}" for path in spellings):
            with pytest.raises(ValueError, match="both stores are"):
                oddjob.copy_store(file_url, each)
        assert pool.counts()["queued"] == 1


class Killed(BaseException):
    """The end of a process."""


class Death:
    """A copy dies before a step, which is after the one before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps_left, self.is_dead = 10**9, False
        for kind, name in (
            *((StoreAccess, "change"), (StoreAccess, "submit")),
            *((_Notes, "write"), (_Notes, "delete")),
        ):
            monkeypatch.setattr(kind, name, self.deadly(getattr(kind, name)))

    def deadly(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            if self.is_dead:
                raise Killed
            self.steps_left -= 1
            self.is_dead = self.steps_left <= 0
            if self.is_dead:
                raise Killed
            return step(*args, **options)

        return run


def test_a_copy_that_dies_at_any_step_is_finished_by_the_next_one(
    urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No job is lost, none is there twice, none has another time, and nothing stays paused."""
    source, target = urls
    death = Death(monkeypatch)
    keep = Pool("keeps it open", store=target, consume=False)
    with keep, at_rest(source) as pool, look(source) as left, look(target) as moved:
        keep.counts()
        pool.options(name="entry").every(3600).perform(jobs.note, "entry")
        ((_, tick),) = [(each.name, each.next_run) for each in pool.recurring()]
        pool.options(name="paused").every(3600).perform(jobs.note, "paused").pause()
        step = 0
        for step in range(1, 100):
            with monkeypatch.context() as patch:
                patch.setattr("oddjob.operations.copying._AT_ONCE", 2)
                pool.after(3600).perform(jobs.note, "later")
                for n in range(3):
                    pool.submit(jobs.note, n)
                death.steps_left = step
                try:
                    oddjob.copy_store(source, target)
                except Killed:
                    death.steps_left, death.is_dead = 10**9, False
                    oddjob.copy_store(source, target)
                else:
                    break
            found = sorted(repr(each.arguments()) for each in moved.records())
            assert found == ["(('later',), {})", "((0,), {})", "((1,), {})", "((2,), {})"]
            (later,) = moved.records(state="scheduled")
            assert later.run_at is not None
            assert later.run_at - datetime.now(UTC) < timedelta(seconds=3601)
            entry, paused = moved.recurring()
            assert (entry.next_run, entry.is_paused, paused.is_paused) == (tick, False, True)
            assert paused.delete()
            assert not left.is_paused
            assert sum(left.counts().values()) == 0
            moved.delete(moved.records())
        assert step > 8
