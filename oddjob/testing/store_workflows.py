"""What every store must do with jobs that have to do with each other: see `store_contract`."""

from pathlib import Path
from typing import Any

from oddjob.durable.record import (
    Capacity,
    Claim,
    Dependency,
    Partition,
    Reference,
    State,
    Submit,
    Update,
    step_of_value,
)
from oddjob.durable.store import Filter, Store
from oddjob.runtime.links import Condition
from oddjob.testing.store_suite import NONE, PARTITION, POOL, StoreSuite

BEFORE = Reference(distance=1)  # the job before, of the same turn


class StoreWorkflowsContract(StoreSuite):
    """Dependencies and batches."""

    def add_all(self, store: Store, *submits: dict[str, Any]) -> list[Any]:
        """Store jobs in one turn; return their ids."""
        jobs = [Submit(PARTITION, b"payload", **each) for each in submits]
        return [each.id for each in store.turn([], jobs, {POOL: NONE}).submitted]

    def batch(self, store: Store, size: int, **options: Any) -> list[Any]:
        """Store a batch; return its id, and those of its members."""
        members = [{"batch": Reference(distance=n + 1)} for n in range(size)]
        return self.add_all(store, {"is_batch": True, **options}, *members)

    def chain(self, store: Store, size: int) -> list[Any]:
        """Store jobs that each get the value of the one before; return their ids."""
        waiting = {"after": (Dependency(BEFORE, Condition.VALUE),)}
        return self.add_all(store, {}, *[waiting] * (size - 1))

    def claim_one(self, store: Store, job: Any) -> Claim:
        """Claim the only job that may run."""
        (claim,) = self.claim(store)
        assert claim.id == job
        return claim

    def end_one(self, store: Store, job: Any, state: State, **what: Any) -> None:
        """Run the only job that may run."""
        assert self.settle(store, self.claim_one(store, job), state, **what)

    def states(self, store: Store, jobs: list[Any]) -> list[State | None]:
        """Return the states of jobs."""
        return [self.state(store, job) for job in jobs]

    # Dependencies.

    def test_a_job_waits_for_others_and_starts_when_all_have_succeeded(
        self, tmp_path: Path
    ) -> None:
        """The others may end in any order; until then it is scheduled, without a time."""
        store = self.member(tmp_path)
        one, two = self.add(store), self.add(store)
        after = tuple(Dependency(Reference(each)) for each in (one, two))
        job = self.add(store, after=after)
        record = store.reader.record(job)
        assert record is not None
        assert (record.state, record.run_at) == (State.SCHEDULED, None)
        assert store.reader.counts(POOL)[State.SCHEDULED] == 1
        first, second = self.claim(store)
        assert self.settle(store, second, State.SUCCEEDED)
        turn = store.turn([], [], {POOL: Capacity(9, 9)})
        assert (turn.claims, turn.next_look) == ([], None)
        assert self.settle(store, first, State.SUCCEEDED)
        self.end_one(store, job, State.SUCCEEDED)

    def test_a_job_whose_dependency_has_ended_does_not_wait(self, tmp_path: Path) -> None:
        """It starts if that job has succeeded, or its record is gone.

        Otherwise it fails at once.
        """
        store = self.member(tmp_path)
        done, lost, gone = self.add(store), self.add(store), self.add(store)
        claims = self.claim(store)
        assert self.settle(store, claims[0], State.SUCCEEDED)
        assert self.settle(store, claims[1], State.FAILED, error="E: e")
        assert self.settle(store, claims[2], State.SUCCEEDED, is_kept=False)
        good = tuple(Dependency(Reference(each)) for each in (done, gone))
        job = self.add(store, after=good)
        bad = self.add(store, after=(Dependency(Reference(lost)),))
        assert self.states(store, [job, bad]) == [State.QUEUED, State.FAILED]
        assert store.retry([lost]) == 1
        assert self.state(store, bad) is State.SCHEDULED

    def test_each_link_of_a_chain_is_given_the_result_of_the_one_before(
        self, tmp_path: Path
    ) -> None:
        """That holds if no record of that result is kept.

        The process that ends a link may claim the next.
        """
        store = self.member(tmp_path)
        one, two, three = self.chain(store, 3)
        claim = self.claim_one(store, one)
        turn = store.turn(
            [Update(claim, State.SUCCEEDED, b"value", is_kept=False)], [], {POOL: Capacity(1, 1)}
        )
        (claim,) = turn.claims
        assert claim.id == two
        assert store.reader.steps(two) == {step_of_value(one): b"value"}
        assert self.settle(store, claim, State.SUCCEEDED)
        assert store.reader.steps(three) == {step_of_value(two): b""}
        self.end_one(store, three, State.SUCCEEDED)

    def test_a_failure_ends_what_follows_and_a_retry_resumes_it(self, tmp_path: Path) -> None:
        """What follows cannot be retried by itself."""
        store = self.member(tmp_path)
        jobs = self.chain(store, 4)
        self.end_one(store, jobs[0], State.SUCCEEDED, outcome=b"value")
        self.end_one(store, jobs[1], State.FAILED, error="E: e")
        failed = [State.SUCCEEDED, *[State.FAILED] * 3]
        assert self.states(store, jobs) == failed
        record = store.reader.record(jobs[3])
        assert record is not None
        assert (record.error or "").startswith("PredecessorFailed: ")
        assert store.retry(jobs[2:]) == 0
        assert store.retry([jobs[1]]) == 1
        assert self.states(store, jobs[2:]) == [State.SCHEDULED] * 2
        assert store.retry(jobs[2:]) == 0
        for job in jobs[1:]:
            self.end_one(store, job, State.SUCCEEDED, outcome=b"value")
        assert self.claim(store) == []

    def test_to_cancel_a_job_cancels_those_that_wait_for_it(self, tmp_path: Path) -> None:
        """A retry lets them wait again. A job that waits can be cancelled by itself."""
        store = self.member(tmp_path)
        jobs = self.chain(store, 3)
        assert store.cancel([jobs[0]]) == 1
        assert self.states(store, jobs) == [State.CANCELLED] * 3
        assert store.retry([jobs[0]]) == 1
        assert store.cancel([jobs[2]]) == 1
        self.end_one(store, jobs[0], State.SUCCEEDED)
        self.end_one(store, jobs[1], State.SUCCEEDED)
        assert self.claim(store) == []
        assert store.retry([jobs[2]]) == 1
        self.end_one(store, jobs[2], State.SUCCEEDED)

    def test_a_job_that_is_cancelled_on_its_way_back_ends_what_waits_for_it(
        self, tmp_path: Path
    ) -> None:
        """It was asked to stop while it ran, and is handed back, or tried again."""
        store = self.member(tmp_path)
        for way in (State.QUEUED, State.SCHEDULED):
            batch, member = self.batch(store, 1)
            waiter = self.add(store, after=(Dependency(Reference(member)),))
            claim = self.claim_one(store, member)
            assert store.cancel([batch]) == 1
            assert self.settle(store, claim, way)
            assert self.states(store, [member, waiter, batch]) == [State.CANCELLED] * 3

    def test_the_deletion_of_a_job_is_no_success(self, tmp_path: Path) -> None:
        """Jobs that wait for it are cancelled, and may be retried."""
        store = self.member(tmp_path)
        one, two = self.chain(store, 2)
        assert store.delete([one]) == 1
        assert self.states(store, [one, two]) == [None, State.CANCELLED]
        assert store.retry([two]) == 1
        self.end_one(store, two, State.SUCCEEDED)

    def test_the_end_of_a_dependency_wakes_a_process_that_knows_the_function(
        self, tmp_path: Path
    ) -> None:
        """The dependency is a job of another function."""
        store, other = self.member(tmp_path), self.member(tmp_path, "other")
        self.claim(other)
        submits = [
            Submit(PARTITION, b"payload"),
            Submit(Partition(POOL, "other"), b"payload", after=(Dependency(BEFORE),)),
        ]
        job = store.turn([], submits, {POOL: NONE}).submitted[1].id
        self.claim(other)
        (claim,) = self.claim(store)
        assert self.settle(store, claim, State.SUCCEEDED)
        other.wait(5.0)
        assert self.claim_one(other, job).function == "other"

    def test_jobs_of_a_dead_process_end_and_what_waits_goes_on(self, tmp_path: Path) -> None:
        """The running job runs again; a job that waits for it has not been started."""
        store, dead = self.member(tmp_path), self.member(tmp_path)
        one, two = self.chain(store, 2)
        self.claim_one(dead, one)
        self.close(dead)
        self.end_one(store, one, State.SUCCEEDED)
        self.end_one(store, two, State.SUCCEEDED)

    # Batches.

    def test_a_batch_ends_with_its_last_member(self, tmp_path: Path) -> None:
        """Its record says how many members have ended."""
        store = self.member(tmp_path)
        batch, *members = self.batch(store, 3)
        claims = self.claim(store)
        assert [each.id for each in claims] == members
        assert {each.batch for each in claims} == {batch}
        assert self.settle(store, claims[0], State.SUCCEEDED)
        record = store.reader.record(batch)
        assert record is not None
        assert (record.state, record.progress) == (State.SCHEDULED, b"[1,3]")
        assert self.settle(store, claims[1], State.SUCCEEDED, is_kept=False)
        assert self.settle(store, claims[2], State.SUCCEEDED)
        assert self.state(store, batch) is State.SUCCEEDED
        found = store.reader.members_of(batch)
        assert [each.id for each in found] == [members[2], members[0]]

    def test_members_of_several_batches_end_in_one_turn(self, tmp_path: Path) -> None:
        """Each counts for its own batch, in whatever order."""
        store = self.member(tmp_path)
        one, *_ = self.batch(store, 3)
        two, *_ = self.batch(store, 2)
        claims = self.claim(store)
        updates = [Update(claims[n], State.SUCCEEDED) for n in (0, 3, 1, 4, 2)]
        assert store.turn(updates[:4], [], {POOL: NONE}).refused == []
        assert self.states(store, [one, two]) == [State.SCHEDULED, State.SUCCEEDED]
        assert store.turn(updates[4:], [], {POOL: NONE}).refused == []
        assert self.states(store, [one, two]) == [State.SUCCEEDED] * 2

    def test_members_of_a_batch_are_read_by_pages(self, tmp_path: Path) -> None:
        """The newest come first, however many were submitted together."""
        store = self.member(tmp_path)
        batch, *members = self.batch(store, 260)
        members += [self.add(store, batch=Reference(batch)) for _ in range(2)]
        assert store.delete([members[100]]) == 1
        found: list[Any] = []
        while page := store.reader.members_of(batch, found[-1] if found else None, 30):
            found += [each.id for each in page]
        assert found == [*members[:100], *members[101:]][::-1]
        assert store.delete([batch]) == 1
        assert store.reader.members_of(batch) == store.reader.records(POOL, Filter()) == []

    def test_linked_jobs_may_be_due_later_as_others(self, tmp_path: Path) -> None:
        """A member of a batch, and a job that another one of the same turn waits for."""
        store = self.member(tmp_path)
        batch, member, first, second = self.add_all(
            store,
            {"is_batch": True},
            {"batch": BEFORE, "delay": 60},
            {"delay": 60},
            {"after": (Dependency(BEFORE),)},
        )
        assert self.claim(store) == []
        assert store.reschedule(dict.fromkeys([batch, member, first, second], 0.0)) == 2
        assert [each.id for each in self.claim(store)] == [member, first]
        self.close(store)

    def test_a_unique_job_is_put_off_by_no_newer_one_that_waits_for_others(
        self, tmp_path: Path
    ) -> None:
        """That has no time, so the one that is there is due at once, with its arguments."""
        store = self.member(tmp_path)
        other, job = self.add_all(store, {"delay": 60}, {"unique": b"u", "delay": 60})
        newer = {"unique": b"u", "replaces": True, "replaces_time": True}
        after = (Dependency(Reference(other)),)
        assert self.add_all(store, newer | {"after": after}) == [job]
        self.end_one(store, job, State.SUCCEEDED)
        self.close(store)

    def test_a_batch_without_members_has_succeeded(self, tmp_path: Path) -> None:
        """So has a batch whose only member is such a batch."""
        store = self.member(tmp_path)
        outer, inner = self.add_all(
            store, {"is_batch": True}, {"is_batch": True, "batch": Reference(distance=1)}
        )
        assert self.states(store, [outer, inner]) == [State.SUCCEEDED] * 2

    def test_a_batch_has_failed_if_a_member_has(self, tmp_path: Path) -> None:
        """It ends when all have ended; a retry runs only the failed members again."""
        store = self.member(tmp_path)
        batch, *members = self.batch(store, 3)
        claims = self.claim(store)
        assert self.settle(store, claims[0], State.FAILED, error="E: e")
        assert self.state(store, batch) is State.SCHEDULED
        for claim in claims[1:]:
            assert self.settle(store, claim, State.SUCCEEDED)
        record = store.reader.record(batch)
        assert record is not None
        assert (record.state, record.error) == (
            State.FAILED,
            "BatchFailed: 1 of 3 jobs failed",
        )
        assert store.retry([batch]) == 1
        assert self.state(store, batch) is State.SCHEDULED
        self.end_one(store, members[0], State.SUCCEEDED)
        assert self.state(store, batch) is State.SUCCEEDED

    def test_callbacks_of_a_batch_run_once_and_only_where_they_fit(self, tmp_path: Path) -> None:
        """Other callbacks are cancelled, until a retry lets the batch end in another way."""
        store = self.member(tmp_path)
        conditions = (Condition.IF_SUCCEEDED, Condition.IF_FAILED, Condition.ENDED)
        batch, member, *callbacks = self.add_all(
            store,
            {"is_batch": True},
            {"batch": BEFORE},
            *[
                {"after": (Dependency(Reference(distance=n + 2), each),)}
                for n, each in enumerate(conditions)
            ],
        )
        good, bad, always = callbacks
        self.end_one(store, member, State.FAILED, error="E: e")
        claims = self.claim(store)
        assert [each.id for each in claims] == [bad, always]
        assert self.state(store, good) is State.CANCELLED
        for claim in claims:
            assert self.settle(store, claim, State.SUCCEEDED)
        assert store.retry([batch]) == 1
        self.end_one(store, member, State.SUCCEEDED)
        self.end_one(store, good, State.SUCCEEDED)
        assert self.claim(store) == []

    def test_a_job_adds_jobs_to_its_own_batch(self, tmp_path: Path) -> None:
        """The batch ends after these, too."""
        store = self.member(tmp_path)
        batch, member = self.batch(store, 1)
        claim = self.claim_one(store, member)
        more = self.add(store, batch=Reference(claim.batch))
        assert self.settle(store, claim, State.SUCCEEDED)
        assert self.state(store, batch) is State.SCHEDULED
        self.end_one(store, more, State.SUCCEEDED)
        assert self.state(store, batch) is State.SUCCEEDED

    def test_batches_nest(self, tmp_path: Path) -> None:
        """The outer batch ends after the inner one; a retry of it reaches into the inner one."""
        store = self.member(tmp_path)
        outer, inner, member = self.add_all(
            store, {"is_batch": True}, {"is_batch": True, "batch": BEFORE}, {"batch": BEFORE}
        )
        self.end_one(store, member, State.FAILED, error="E: e")
        assert self.states(store, [outer, inner]) == [State.FAILED] * 2
        assert store.retry([outer]) == 1
        assert self.states(store, [outer, inner]) == [State.SCHEDULED] * 2
        self.end_one(store, member, State.SUCCEEDED)
        assert self.states(store, [outer, inner]) == [State.SUCCEEDED] * 2

    def test_a_retry_of_a_batch_reaches_all_that_has_failed_in_it(self, tmp_path: Path) -> None:
        """That includes an inner batch of which a member still waits for another job."""
        store = self.member(tmp_path)
        for inner, other in (1, 2), (2, 1):  # their places
            submits: list[dict[str, Any]] = [{"is_batch": True}, {}, {}]
            submits[inner] = {"is_batch": True, "batch": Reference(distance=inner)}
            submits[other] = {"batch": Reference(distance=other)}
            waits = {
                "batch": Reference(distance=3 - inner),
                "after": (Dependency(Reference(distance=3 - other)),),
            }
            jobs = self.add_all(store, *submits, waits, {"batch": Reference(distance=4 - inner)})
            for claim in self.claim(store):
                assert self.settle(store, claim, State.FAILED, error="E: e")
            assert self.states(store, jobs) == [State.FAILED] * 5
            assert store.retry([jobs[0]]) == 1
            assert self.states(store, [jobs[other], jobs[4]]) == [State.QUEUED] * 2
            assert self.states(store, [jobs[0], jobs[inner], jobs[3]]) == [State.SCHEDULED] * 3
            for claim in self.claim(store):
                assert self.settle(store, claim, State.SUCCEEDED)
            self.end_one(store, jobs[3], State.SUCCEEDED)
            assert self.states(store, jobs) == [State.SUCCEEDED] * 5

    def test_a_batch_is_cancelled_and_deleted_whole(self, tmp_path: Path) -> None:
        """Running jobs are asked to stop, and keep the batch from being deleted."""
        store = self.member(tmp_path)
        batch, *members = self.batch(store, 3)
        (claim,) = self.claim(store, Capacity(1, 1))
        assert store.cancel([batch]) == 1
        assert self.states(store, [batch, *members]) == [
            State.SCHEDULED,
            State.RUNNING,
            State.CANCELLED,
            State.CANCELLED,
        ]
        assert store.delete([batch]) == 0
        assert self.settle(store, claim, State.CANCELLED)
        assert self.state(store, batch) is State.CANCELLED
        assert store.delete([batch]) == 1
        assert self.states(store, [batch, *members]) == [None] * 4

    def test_a_batch_with_a_running_member_is_not_deleted_and_left_as_it_was(
        self, tmp_path: Path
    ) -> None:
        """So is one with a running member in a batch within it."""
        store = self.member(tmp_path)
        outer, inner, member, other = self.add_all(
            store,
            {"is_batch": True},
            {"is_batch": True, "batch": BEFORE},
            {"batch": BEFORE},
            {"batch": Reference(distance=3)},
        )
        (claim,) = self.claim(store, Capacity(1, 1))
        assert claim.id == member
        assert store.delete([outer]) == 0
        assert self.states(store, [outer, inner, other]) == [
            State.SCHEDULED,
            State.SCHEDULED,
            State.QUEUED,
        ]
        assert store.turn([], [], {POOL: NONE}).news == []  # it is not asked to stop
        assert self.settle(store, claim, State.SUCCEEDED)
        assert store.delete([outer]) == 1
        assert self.states(store, [outer, inner, member, other]) == [None] * 4

    def test_a_job_whose_condition_was_not_met_by_one_that_is_gone_can_be_retried(
        self, tmp_path: Path
    ) -> None:
        """There is nothing left that it could wait for."""
        store = self.member(tmp_path)
        one = self.add(store)
        two = self.add(store, after=(Dependency(Reference(one), Condition.IF_FAILED),))
        self.end_one(store, one, State.SUCCEEDED, is_kept=False)
        assert self.state(store, two) is State.CANCELLED
        assert store.retry([two]) == 1
        self.end_one(store, two, State.SUCCEEDED)

    def test_a_member_of_a_batch_that_is_gone_runs_and_is_no_batch(self, tmp_path: Path) -> None:
        """A batch may be deleted before jobs are added to it."""
        store = self.member(tmp_path)
        batch = self.batch(store, 0)[0]
        assert store.delete([batch]) == 1
        job = self.add(store, batch=Reference(batch))
        self.end_one(store, job, State.SUCCEEDED)
        assert self.states(store, [batch, job]) == [None, State.SUCCEEDED]

    def test_a_process_that_waits_for_a_batch_has_news_of_its_end(self, tmp_path: Path) -> None:
        """So have the watchers of jobs that end because others have failed."""
        store, other = self.member(tmp_path), self.member(tmp_path)
        batch, one, two = self.add_all(
            store,
            {"is_batch": True},
            {"batch": BEFORE},
            {"batch": Reference(distance=2), "after": (Dependency(BEFORE),)},
        )
        watched = other.watch(batch)
        assert watched is not None
        assert not watched.state.has_ended
        claim = self.claim_one(other, one)
        turn = other.turn([Update(claim, State.FAILED)], [], {POOL: NONE})
        news = {each.id: each.state for each in store.turn([], [], {POOL: NONE}).news}
        assert news == {one: State.FAILED, two: State.FAILED, batch: State.FAILED}
        mine = turn.news or other.turn([], [], {POOL: NONE}).news
        assert [each.id for each in mine] == [batch]
