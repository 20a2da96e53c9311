"""What every store must do when people, and recurring entries, act on it: see `store_contract`."""

from math import inf
from pathlib import Path
from typing import Any

from oddjob.durable.record import (
    Capacity,
    Dependency,
    Entry,
    Limiter,
    News,
    Partition,
    Reference,
    State,
    Submit,
    Update,
)
from oddjob.durable.store import Filter, StoreReader
from oddjob.schedule.clock import clock
from oddjob.testing.store_suite import NONE, PARTITION, POOL, StoreSuite


class StoreOperationsContract(StoreSuite):
    """Retry, delete and pause; steps; recurring entries; old jobs; records."""

    # By hand.

    def test_a_trial_of_writing_leaves_nothing_behind(self, tmp_path: Path) -> None:
        """Users check whether a store can be written while others use it."""
        store = self.member(tmp_path)
        pools, members = store.reader.pools(), store.reader.members()
        store.try_write()
        assert store.reader.pools() == pools
        assert [each._replace(seen=None) for each in store.reader.members()] == [
            each._replace(seen=None) for each in members
        ]

    def test_a_failed_job_can_be_tried_again_by_hand(self, tmp_path: Path) -> None:
        """It counts as new; a succeeded job cannot be retried."""
        store = self.member(tmp_path)
        job, done = self.add(store), self.add(store)
        claims = self.claim(store)
        assert self.settle(store, claims[0], State.FAILED, error="E: e")
        assert self.settle(store, claims[1], State.SUCCEEDED)
        assert store.retry([job, done]) == 1
        (claim,) = self.claim(store)
        assert (claim.id, claim.attempt) == (job, 0)
        assert store.delete([job, done]) == 1
        assert self.state(store, done) is None

    def test_a_paused_pool_is_left_alone(self, tmp_path: Path) -> None:
        """No process claims its jobs."""
        store, other = self.member(tmp_path), self.member(tmp_path)
        self.add(store)
        store.pause(POOL, is_paused=True)
        assert store.reader.pools() == {POOL: True}
        assert store.reader.pause_reason(POOL) == ""
        assert self.claim(other) == []
        for reason in "the mail server is down", "0":
            store.pause(POOL, is_paused=True, reason=reason)
            assert store.reader.pools() == {POOL: True}
            assert store.reader.pause_reason(POOL) == reason
        store.pause(POOL, is_paused=False)
        assert store.reader.pools() == {POOL: False}
        assert store.reader.pause_reason(POOL) == ""
        assert len(self.claim(other)) == 1

    def test_a_process_that_runs_jobs_can_be_asked_to_end(self, tmp_path: Path) -> None:
        """Any other process may ask; it is told once."""
        store, other = self.member(tmp_path), self.open(tmp_path)
        other.join({}, 0)
        runs, looks = store.reader.members()
        assert [other.ask_to_end(str(each.id)) for each in (runs, looks)] == [True, False]
        store.wait(None)
        assert store.turn([], [], {POOL: NONE}).news == [News(None, State.RUNNING, None, None)]
        assert store.turn([], [], {POOL: NONE}).news == []
        self.close(store)
        assert not other.ask_to_end(str(runs.id))

    def test_steps_belong_to_a_job_and_need_its_token(self, tmp_path: Path) -> None:
        """The next attempt finds them."""
        store = self.member(tmp_path)
        job = self.add(store)
        (claim,) = self.claim(store)
        assert store.save_step(claim, "one", b"1")
        assert self.settle(store, claim, State.SCHEDULED, delay=0.0)
        assert not store.save_step(claim, "two", b"2")
        assert store.reader.steps(job) == {"one": b"1"}

    def test_what_belongs_to_a_job_goes_with_it(self, tmp_path: Path) -> None:
        """Its steps and attempts are deleted with it, and its id is never given to another job."""
        store = self.member(tmp_path)
        job = self.add(store)
        (claim,) = self.claim(store)
        assert self.settle(store, claim, State.SCHEDULED, delay=0.0, traceback="why")
        (claim,) = self.claim(store)
        assert store.save_step(claim, "one", b"1")
        assert self.settle(store, claim, State.SUCCEEDED, is_kept=False)
        assert (store.reader.record(job), store.reader.steps(job)) == (None, {})
        assert store.reader.attempts(job) == []
        new = self.add(store)
        assert new != job
        self.claim(store)
        assert not self.settle(store, claim, State.FAILED)
        assert self.state(store, new) is State.RUNNING

    def test_a_scheduled_job_can_be_put_off_and_called_for(self, tmp_path: Path) -> None:
        """Jobs in other states are left alone.

        A process that sleeps until the job is due wakes earlier.
        """
        store, other = self.member(tmp_path), self.member(tmp_path)
        job, waiting = self.add(store, delay=3600.0), self.add(store)
        (claim,) = self.claim(store)
        assert claim.id == waiting
        assert other.reschedule({job: 1e9, waiting: 1e9}) == 1
        assert other.reschedule({job: 0.0}) == 1
        store.wait(None)
        (claim,) = self.claim(store)
        assert (claim.id, claim.attempt) == (job, 0)
        assert other.reschedule({job: 0.0}) == 0

    def test_a_job_can_be_submitted_to_another_store_as_it_was(self, tmp_path: Path) -> None:
        """Its limits go with it; a job that is linked to others cannot be copied alone."""
        store = self.member(tmp_path)
        limiters = (Limiter("two", 2), Limiter("rate", None, 10, 60.0, 3))
        submit = Submit(
            Partition(POOL, "function", limiters), b"payload", "name", 5, None, "k", 2,
            is_serial=True, unique=b"u", meta=b"meta", wants_outcome=False, entry="entry",
        )  # fmt: skip
        (first,) = store.turn([], [submit], {}).submitted
        assert store.reader.submits_of([first.id]) == {first.id: submit}
        after = (Dependency(Reference(first.id)),)
        (second,) = store.turn([], [Submit(PARTITION, b"", after=after)], {}).submitted
        assert store.reader.submits_of([first.id, second.id]) == {}

    def test_an_entry_has_the_limiters_of_its_partition(self, tmp_path: Path) -> None:
        """Without them, the jobs that it fires would not be limited."""
        store = self.member(tmp_path)
        limiters = Limiter("some", max_running=2), Limiter("few", None, 3, 60.0, 2)
        limited = PARTITION._replace(limiters=limiters)
        store.put_entry(Entry("entry", limited, b"rule", tick=clock.wall() - 1, payload=b""))
        assert [each.partition for each in store.reader.entries(POOL)] == [limited]
        (entry,) = store.turn([], [], {POOL: NONE}).entries
        assert entry.partition == limited

    def test_an_entry_fires_once_per_tick(self, tmp_path: Path) -> None:
        """However many processes declare it; declaring it again does not move its tick."""
        store, other = self.member(tmp_path), self.member(tmp_path)
        entry = Entry("entry", PARTITION, b"rule", tick=clock.wall() - 1, payload=b"payload")
        for each in (store, other):
            each.put_entry(entry)
        turns = [each.turn([], [], {POOL: NONE}) for each in (store, other)]
        (one,), (two,) = (turn.entries for turn in turns)
        next_tick = clock.wall() + 3600
        job = Submit(PARTITION, b"a job", entry="entry", wants_outcome=False)
        assert store.fire_entry(one, next_tick, [job]) is not None
        assert other.fire_entry(two, next_tick, [job]) is None
        other.put_entry(entry)
        (stored,) = other.reader.entries(POOL)
        assert (stored.tick, stored.last_tick, stored.fired) == (next_tick, entry.tick, 1)
        (claim,) = self.claim(store)
        assert (claim.id, claim.payload) == (stored.last_job, b"a job")
        assert store.pause_entry(POOL, "entry", is_paused=True)
        assert store.turn([], [], {POOL: NONE}).next_look is None
        assert store.delete_entry(POOL, "entry")
        assert store.reader.entries(POOL) == []

    def test_an_entry_is_left_out_while_a_job_of_it_has_not_ended(self, tmp_path: Path) -> None:
        """A tick that is left out counts as missed. An entry whose jobs may overlap fires."""
        store = self.member(tmp_path)
        now = clock.wall()
        store.put_entry(Entry("entry", PARTITION, b"rule", tick=now - 9, payload=b"payload"))
        job = Submit(PARTITION, b"a job", entry="entry", wants_outcome=False)

        def fire(tick: float, *, overlaps: bool = False) -> int:
            (entry,) = store.turn([], [], {POOL: NONE}).entries
            return len(store.fire_entry(entry, tick, [job], missed=2, overlaps=overlaps) or [])

        assert [fire(now - 8), fire(now - 7)] == [1, 0]
        assert fire(now - 6, overlaps=True) == 1
        for claim in self.claim(store):
            assert self.settle(store, claim, State.SUCCEEDED)
        assert fire(now - 5) == 1
        (entry,) = store.reader.entries(POOL)
        assert (entry.fired, entry.missed) == (3, 4 * 2 + 1)

    def test_an_entry_waits_for_a_process_that_knows_its_function(self, tmp_path: Path) -> None:
        """Other processes are not given it, and sleep until a tick of their own entries."""
        store = self.member(tmp_path)
        now = clock.wall()
        unknown = Partition(POOL, "unknown")
        store.put_entry(Entry("one", unknown, b"rule", tick=now - 1, payload=b"payload"))
        store.put_entry(Entry("two", unknown, b"rule", tick=now + 100, payload=b"payload"))
        store.put_entry(Entry("three", PARTITION, b"rule", tick=now + 3600, payload=b"payload"))
        turn = store.turn([], [], {POOL: NONE})
        assert turn.entries == []
        assert turn.next_look is not None
        assert turn.next_look > 3000
        store.learn(POOL, ["unknown"], 0)
        turn = store.turn([], [], {POOL: NONE})
        assert [entry.name for entry in turn.entries] == ["one"]
        assert turn.next_look is not None
        assert turn.next_look < 3000

    def test_an_entry_with_a_new_rule_goes_by_it(self, tmp_path: Path) -> None:
        """It never goes back to a tick that has fired."""
        store = self.member(tmp_path)
        now = clock.wall()
        store.put_entry(Entry("entry", PARTITION, b"rule", tick=now - 1, payload=b"payload"))
        (entry,) = store.turn([], [], {POOL: NONE}).entries
        assert store.fire_entry(entry, now + 3600, []) == []
        store.put_entry(
            Entry("entry", PARTITION, b"new rule", tick=now + 60, payload=b"new payload")
        )
        (entry,) = store.reader.entries(POOL)
        assert (entry.tick, entry.payload) == (now + 60, b"new payload")
        store.put_entry(Entry("entry", PARTITION, b"old rule", tick=now - 60, payload=b"payload"))
        (entry,) = store.reader.entries(POOL)
        assert entry.last_tick is not None
        assert entry.tick > entry.last_tick

    def test_old_jobs_are_purged_and_the_newest_kept(self, tmp_path: Path) -> None:
        """They are purged in portions."""
        store = self.member(tmp_path)
        jobs = [self.add(store) for _ in range(6)]
        for claim in self.claim(store):
            state = State.FAILED if claim.id == jobs[5] else State.SUCCEEDED
            assert self.settle(store, claim, state)
        assert store.purge(POOL, 2, 0.0, inf, budget=2) == 2
        assert store.purge(POOL, 2, 0.0, inf, budget=2) == 1
        assert store.purge(POOL, 2, 0.0, inf, budget=2) == 0
        assert store.purge(POOL, 2, clock.wall() + 1, inf, 10) == 1
        assert [record.id for record in store.reader.records(POOL, Filter())] == [jobs[4], jobs[3]]

    def test_the_oldest_jobs_are_purged_beyond_a_size(self, tmp_path: Path) -> None:
        """The size of payloads and outcomes is estimated from samples, for each state."""
        store = self.member(tmp_path)
        submits = [Submit(PARTITION, b"x" * 10_000)] * 300

        def purge(keep_succeeded: int = 1000) -> int:
            return store.purge(POOL, keep_succeeded, 0.0, keep_bytes=1e6, budget=180)

        for state in (State.SUCCEEDED, State.FAILED, State.CANCELLED):
            jobs = [each.id for each in store.turn([], submits, {POOL: NONE}).submitted]
            claims = self.claim(store, Capacity(300, 300))
            for some in (claims[:100], claims[100:]):  # which end one after the other
                updates = [Update(each, state, b"x" * 9_600, error="") for each in some]
                assert not store.turn(updates, [], {POOL: NONE}).refused
            assert [purge(), purge(), purge()] == [180, 70, 0]
            assert [each.id for each in store.reader.records(POOL, Filter(state))] == jobs[:249:-1]
        waits = self.add(store)
        assert [purge(keep_succeeded=20), purge(keep_succeeded=20)] == [30, 0]
        assert self.state(store, waits) is State.QUEUED

    def test_records_come_in_pages_and_are_filtered(self, tmp_path: Path) -> None:
        """The newest come first."""
        store = self.member(tmp_path)
        jobs = [self.add(store, name=f"n{n % 2}", key=f"k{n}") for n in range(5)]
        page = store.reader.records(POOL, Filter(), limit=2)
        assert [record.id for record in page] == jobs[:-3:-1]
        page = store.reader.records(POOL, Filter(), before_id=page[-1].id, limit=2)
        assert [record.id for record in page] == [jobs[2], jobs[1]]
        for wrong in "none", "", "-1", "9" * 99, f"{jobs[0]} ":
            try:
                page = store.reader.records(POOL, Filter(), before_id=wrong)
            except ValueError as error:
                assert repr(wrong) in str(error)  # noqa: PT017  (pytest is not needed here)
            else:
                raise AssertionError(f"{wrong!r} is no id, and gives {page}")
        assert len(store.reader.records(POOL, Filter(name="n1"))) == 2
        assert [record.id for record in store.reader.records(POOL, Filter(key="k3"))] == [jobs[3]]
        (claim, *_) = self.claim(store, Capacity(1, 1))
        assert self.settle(store, claim, State.FAILED, error="OSError: disk")
        assert len(store.reader.records(POOL, Filter(error="disk"))) == 1
        assert len(store.reader.records(POOL, Filter(state=State.QUEUED))) == 4
        assert store.reader.records(POOL, Filter(since=clock.wall() + 60)) == []
        assert store.reader.records(POOL, Filter(ended_before=clock.wall() - 60)) == []
        (ended,) = store.reader.records(POOL, Filter(ended_before=clock.wall() + 60))
        assert store.reader.record(str(ended.id)) == ended  # people give an id as a text
        assert store.reader.record("none") is None
        counts = store.reader.counts(POOL)
        assert (counts[State.QUEUED], counts[State.FAILED]) == (4, 1)

    def test_pages_are_parts_of_the_whole_list(self, tmp_path: Path) -> None:
        """That holds in whatever order jobs start and end, and for each filter."""
        self.check_pages(tmp_path)

    def test_jobs_that_take_turns_come_in_pages_as_others(self, tmp_path: Path) -> None:
        """They are listed in the order of their ids."""
        self.check_pages(tmp_path, fair_key="many")

    def check_pages(self, tmp_path: Path, fair_key: str | None = None) -> None:
        """Check pages of jobs in all states; of every third one, or none, a key takes turns."""
        store = self.member(tmp_path, "function", "other")
        partitions, names = (PARTITION, Partition(POOL, "other")), ("n0", "n1", "n2")
        submits = [
            Submit(
                partitions[n % 2], b"", names[n % 3], priority=n % 4, key=None if n % 5 else "k",
                delay=None if n % 7 else 60 * n, fair_key=None if n % 3 else fair_key,
            )
            for n in range(1, 101)
        ]  # fmt: skip
        for each in (submits[:50], submits[50:]):
            store.turn([], each, {POOL: NONE})
        claims = self.claim(store, Capacity(40, 40))
        ends = State.SUCCEEDED, State.FAILED, State.CANCELLED
        for n, claim in enumerate(claims[:30]):
            assert self.settle(store, claim, ends[n * n % 3])
        whole = store.reader.records(POOL, Filter(), limit=1000)
        assert len(whole) == len(submits)
        middle = whole[50].created
        filters = [
            *(Filter(state) for state in (None, *State)),
            Filter(name="n1"),
            Filter(since=middle),
            Filter(State.QUEUED, before=middle),
        ]
        for which in filters:
            expected = [
                each.id
                for each in whole
                if (which.state in (None, each.state)
                    or (which.state, each.state) == (State.QUEUED, State.PARKED))
                and (which.name in (None, each.name))
                and (which.since is None or each.created >= which.since)
                and (which.before is None or each.created < which.before)
            ]  # fmt: skip
            for limit in (1, 7, 1000):
                found: list[Any] = []
                while page := store.reader.records(
                    POOL, which, found[-1] if found else None, limit
                ):
                    assert len(page) <= limit
                    found += [each.id for each in page]
                assert found == sorted(expected, reverse=True), (which, limit)

    def test_what_waits_and_what_has_ended_is_counted(self, tmp_path: Path) -> None:
        """The oldest queued job has a time, and so have the jobs that have ended since."""
        store = self.member(tmp_path)
        assert store.reader.oldest_waiting(POOL) is None
        start = clock.wall()
        jobs = [self.add(store), self.add(store, key="k"), self.add(store, key="k")]
        later = self.add(store, delay=3600.0)
        oldest = store.reader.record(jobs[0])
        assert oldest is not None
        assert store.reader.oldest_waiting(POOL) == oldest.created
        for claim in self.claim(store, Capacity(2, 2)):
            state = State.FAILED if claim.id == jobs[0] else State.SUCCEEDED
            assert self.settle(store, claim, state)
        last = store.reader.record(jobs[2])
        assert last is not None
        assert store.reader.oldest_waiting(POOL) == last.created
        ended = store.reader.ended_since(POOL, start)
        assert ended == {State.SUCCEEDED: 1, State.FAILED: 1, State.CANCELLED: 0}
        assert not any(store.reader.ended_since(POOL, clock.wall() + 60).values())
        assert store.reader.obstacles(later) == store.reader.obstacles(jobs[2]) == []

    def test_a_store_may_leave_these_answers_to_the_contract(self, tmp_path: Path) -> None:
        """The default answers are the same, and take longer."""
        store = self.member(tmp_path)
        jobs = [self.add(store) for _ in range(3)]
        (claim,) = self.claim(store, Capacity(1, 1))
        assert self.settle(store, claim, State.FAILED)
        reader = store.reader
        assert StoreReader.oldest_waiting(reader, POOL) == reader.oldest_waiting(POOL)
        assert StoreReader.ended_since(reader, POOL, 0.0) == reader.ended_since(POOL, 0.0)
        assert StoreReader.obstacles(reader, jobs[1]) == []
