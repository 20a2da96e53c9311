"""What every store must do with jobs whose keys take turns, as tests; see `store_contract`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from oddjob.durable.record import (
    Capacity,
    Claim,
    Dependency,
    Limiter,
    Partition,
    Reference,
    State,
    Submit,
    Update,
)
from oddjob.durable.store import Store
from oddjob.testing.store_suite import NONE, PARTITION, POOL, StoreSuite

_PARTITIONS: Final = PARTITION, Partition(POOL, "other")
_STEPS: Final = {"gold": 1 / 3}


class StoreTurnsContract(StoreSuite):
    """Keys take turns, however many jobs each of them has waiting; of two functions, too."""

    def start(self, directory: Path) -> Store:
        """Return a member that knows all functions."""
        return self.member(directory, *[each.function for each in _PARTITIONS])

    def add_for(self, store: Store, keys: Sequence[str | None], **options: Any) -> list[Any]:
        """Store a job for each of these keys; return their ids."""
        submits = [
            Submit(_PARTITIONS[number % 2], b"payload", name=str(key), fair_key=key,
                   fair_step=_STEPS.get(str(key), 1.0), **options)
            for number, key in enumerate(keys)
        ]  # fmt: skip
        return [each.id for each in store.turn([], submits, {POOL: NONE}).submitted]

    def take(self, store: Store, most: int, *updates: Update) -> list[Claim]:
        """Claim up to so many jobs."""
        return store.turn(updates, [], {POOL: Capacity(most, most)}).claims

    def names(self, store: Store, most: int, *updates: Update) -> list[str]:
        """Claim up to so many jobs; return their keys."""
        return [each.name for each in self.take(store, most, *updates)]

    def test_one_customer_with_nine_tenths_of_the_jobs_holds_up_nobody(
        self, tmp_path: Path
    ) -> None:
        """Nine small customers are served as soon as if there were ten of their size."""
        store, small = self.start(tmp_path), [f"small {number}" for number in range(9)]
        self.add_for(store, ["big"] * 900)
        self.add_for(store, [name for name in small for _ in range(11)])
        for _ in range(11):
            assert Counter(self.names(store, 10)) == Counter(["big", *small])
        assert self.names(store, 5) == ["big"] * 5

    def test_a_key_keeps_its_order_and_a_late_one_waits_for_one_round_only(
        self, tmp_path: Path
    ) -> None:
        """That holds however many jobs were queued before."""
        store = self.start(tmp_path)
        jobs = self.add_for(store, ["big"] * 100)
        assert [each.id for each in self.take(store, 10)] == jobs[:10]
        (late,) = self.add_for(store, ["late"])
        assert [each.id for each in self.take(store, 3)] == [jobs[10], late, jobs[11]]

    def test_weights_are_turns_in_a_round(self, tmp_path: Path) -> None:
        """Keys without a weight have one turn."""
        store = self.start(tmp_path)
        self.add_for(store, ["gold"] * 30 + ["tin"] * 30)
        assert Counter(self.names(store, 40)) == {"gold": 30, "tin": 10}

    def test_a_higher_priority_goes_first_and_takes_turns_of_its_own(self, tmp_path: Path) -> None:
        """Turns taken at a lower priority do not count."""
        store = self.start(tmp_path)
        self.add_for(store, ["big"] * 20)
        self.add_for(store, ["big", "big", "small", "small"], priority=1)
        assert Counter(self.names(store, 2)) == Counter(self.names(store, 2))
        assert self.names(store, 2) == ["big", "big"]

    def test_jobs_without_a_key_share_the_turns_of_one_more(self, tmp_path: Path) -> None:
        """Jobs that were queued before the first fair one come first."""
        store = self.start(tmp_path)
        self.add_for(store, [None] * 2)
        self.add_for(store, ["a"] * 3)
        self.add_for(store, [None] * 3)
        assert self.names(store, 2) == ["None", "None"]
        rounds = [Counter(self.names(store, 2)) for _ in range(3)]
        assert rounds == [Counter(["a", "None"])] * 3

    def test_a_customer_whose_jobs_were_cancelled_begins_anew(self, tmp_path: Path) -> None:
        """The same holds if they were deleted."""
        store = self.start(tmp_path)
        self.add_for(store, ["other"] * 20)
        gone = self.add_for(store, ["sorry"] * 100)
        assert store.cancel(gone[:50]) == 50
        assert store.delete(gone[50:]) == 50
        self.add_for(store, ["sorry"])
        assert Counter(self.names(store, 2)) == {"other": 1, "sorry": 1}

    def test_a_cancelled_job_that_is_queued_again_is_not_behind_itself(
        self, tmp_path: Path
    ) -> None:
        """Its former turn does not count."""
        store = self.start(tmp_path)
        (sorry,) = self.add_for(store, ["sorry"])
        self.add_for(store, ["other"] * 2)
        assert store.cancel([sorry]) == store.retry([sorry]) == 1
        assert self.names(store, 3) == ["sorry", "other", "other"]

    def test_a_retry_takes_a_turn_and_what_is_handed_back_keeps_its_own(
        self, tmp_path: Path
    ) -> None:
        """So a customer whose jobs all fail is not served more often than others."""
        store = self.start(tmp_path)
        self.add_for(store, ["down"] * 3 + ["up"] * 3)
        first, second = self.take(store, 2)
        updates = Update(first, State.SCHEDULED, delay=0.0), Update(second, State.QUEUED)
        claims = self.take(store, 5, *updates)
        assert claims[0].id == second.id
        assert [each.name for each in claims] == ["up", "down", "up", "down", "up"]
        assert [each.id for each in self.take(store, 1)] == [first.id]

    def test_a_job_takes_its_turn_when_it_is_due(self, tmp_path: Path) -> None:
        """It takes no turn when it is submitted."""
        store = self.start(tmp_path)
        self.add_for(store, ["big"] * 10)
        late = self.add_for(store, ["big", "late"], delay=60)
        assert store.reschedule(dict.fromkeys(late, 0.0)) == 2
        assert "late" in self.names(store, 2)
        assert self.names(store, 20) == ["big"] * 10

    def test_jobs_take_turns_also_when_none_of_them_is_queued_at_once(self, tmp_path: Path) -> None:
        """The first fair job of the pool is a delayed one."""
        store = self.start(tmp_path)
        jobs = self.add_for(store, ["big"] * 10 + ["late"], delay=60)
        assert store.retry(jobs) == 11  # queues them at once
        assert "late" in self.names(store, 2)

    def test_a_job_takes_its_turn_when_what_it_waits_for_has_ended(self, tmp_path: Path) -> None:
        """The turn is that of its own key, not of the job that it has waited for."""
        store = self.start(tmp_path)
        (first,) = self.add_for(store, ["first"])
        (claim,) = self.take(store, 1)
        self.add_for(store, ["late"], after=(Dependency(Reference(first)),))
        self.add_for(store, ["big"] * 10)
        assert "late" in self.names(store, 2, Update(claim, State.SUCCEEDED))

    def test_members_of_a_batch_take_turns(self, tmp_path: Path) -> None:
        """Each has a payload of its own."""
        store = self.start(tmp_path)
        batch = self.add(store, is_batch=True)
        self.add_for(store, ["big"] * 10 + ["late"], batch=Reference(batch))
        claims = self.take(store, 2)
        assert "late" in [each.name for each in claims]
        assert {(each.payload, each.batch) for each in claims} == {(b"payload", batch)}

    def test_what_a_key_or_limiter_stops_keeps_its_turn(self, tmp_path: Path) -> None:
        """It is the next one when it may start."""
        store = self.start(tmp_path)
        limited = PARTITION._replace(limiters=(Limiter("one", max_running=1),))
        for options in ({"key": "account"}, {"partition": limited}):
            self.add(store, fair_key="a", **options)
            (claim,) = self.take(store, 1)
            stopped = self.add(store, fair_key="b", **options)
            self.add_for(store, ["c"] * 20)
            assert self.names(store, 10) == ["c"] * 10
            (following,) = self.take(store, 1, Update(claim, State.SUCCEEDED))
            assert following.id == stopped
            done = Update(following, State.SUCCEEDED)
            assert self.names(store, 20, done) == ["c"] * 10

    def test_jobs_of_a_dead_process_keep_their_turns(self, tmp_path: Path) -> None:
        """They come first again."""
        store, other = self.start(tmp_path), self.start(tmp_path)
        jobs = self.add_for(store, ["a", "a", "b", "b"])
        lost = [each.id for each in self.take(other, 2)]
        assert lost == [jobs[0], jobs[2]]
        assert store.takeover(max(each.id for each in store.reader.members())) == 2
        assert [each.id for each in self.take(store, 4)] == [jobs[0], jobs[2], jobs[1], jobs[3]]

    def test_what_is_seen_of_jobs_with_turns_is_as_of_others(self, tmp_path: Path) -> None:
        """The same holds for their state, the counts, the oldest one, and copies of them."""
        store = self.start(tmp_path)
        jobs = self.add_for(store, ["gold", "tin", "", None])
        assert [self.state(store, job) for job in jobs] == [State.QUEUED] * 4
        assert store.reader.counts(POOL)[State.QUEUED] == 4
        record = store.reader.record(jobs[0])
        assert record is not None
        assert record.payload == b"payload"
        assert store.reader.oldest_waiting(POOL) == record.created
        submits = store.reader.submits_of(jobs)
        assert [(each.fair_key, each.fair_step) for each in submits.values()] == [
            ("gold", 1 / 3),
            ("tin", 1.0),
            ("", 1.0),
            (None, 1.0),
        ]
        assert submits[jobs[0]].payload == b"payload"
