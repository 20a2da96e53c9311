"""What every store must do, as tests: derive classes from the suites, and run them with pytest.

    class TestMyStore(StoreContract):
        def open_store(self, directory):
            return MyStore(...)

    class TestMyStoreByHand(StoreOperationsContract):
        ...

Several stores that are opened in the same directory are members of the same store. This suite is
about jobs, from submit to end; `store_operations`, `store_workflows` and `store_turns` have others.
"""

from pathlib import Path

from oddjob.durable.record import MAX_CRASHES, Capacity, Limiter, Partition, State, Submit, Update
from oddjob.durable.store import Evicted
from oddjob.schedule.clock import clock
from oddjob.testing.store_suite import ALL, NONE, PARTITION, POOL, StoreSuite


class StoreContract(StoreSuite):
    """Jobs: claims and their ends, keys and limits, several processes."""

    # Jobs.

    def test_a_job_is_claimed_once_and_keeps_its_outcome(self, tmp_path: Path) -> None:
        """Its payload comes back as it was given."""
        store, other = self.member(tmp_path), self.member(tmp_path)
        job = self.add(store, name="name", meta=b"meta", priority=3)
        (claim,) = self.claim(store)
        assert self.claim(other) == []
        assert (claim.id, claim.payload, claim.meta) == (job, b"payload", b"meta")
        assert (claim.pool, claim.function, claim.priority) == (POOL, "function", 3)
        assert self.settle(store, claim, State.SUCCEEDED, outcome=b"outcome", started=1.0)
        record = other.reader.record(job)
        assert record is not None
        assert (record.state, record.outcome, record.attempt) == (State.SUCCEEDED, b"outcome", 1)
        assert (record.name, record.payload, record.started) == ("name", b"payload", 1.0)

    def test_jobs_start_by_priority_and_then_in_order(self, tmp_path: Path) -> None:
        """That holds across functions."""
        store = self.member(tmp_path, "function", "other")
        other = Partition(POOL, "other")
        jobs = [
            self.add(store, priority=n % 2, partition=(PARTITION, other)[n // 2 % 2])
            for n in range(8)
        ]
        claimed = [claim.id for claim in self.claim(store)]
        assert claimed == jobs[1::2] + jobs[::2]

    def test_a_job_waits_for_a_process_that_knows_its_function(self, tmp_path: Path) -> None:
        """It does not hold up the jobs of other functions."""
        store = self.member(tmp_path)
        unknown = self.add(store, partition=Partition(POOL, "unknown"))
        known = self.add(store)
        assert [claim.id for claim in self.claim(store)] == [known]
        other = self.member(tmp_path, "unknown")
        assert [claim.id for claim in self.claim(other)] == [unknown]

    def test_a_delayed_job_comes_when_it_is_due(self, tmp_path: Path) -> None:
        """The turn before that returns when it is due."""
        store = self.member(tmp_path)
        self.add(store, delay=3600.0)
        turn = store.turn([], [], {POOL: ALL})
        assert turn.claims == []
        assert turn.next_look is not None
        assert 0 < turn.next_look <= 3600.0
        soon = self.add(store, delay=0.01)
        while not (turn := store.turn([], [], {POOL: ALL})).claims:
            assert turn.next_look is not None
            assert turn.next_look <= 0.01
            store.wait(turn.next_look)
        assert [claim.id for claim in turn.claims] == [soon]

    def test_a_stale_token_changes_nothing(self, tmp_path: Path) -> None:
        """A process whose job was taken over settles it too late."""
        store, other = self.member(tmp_path), self.member(tmp_path)
        job = self.add(store)
        (claim,) = self.claim(store)
        assert self.settle(store, claim, State.QUEUED)
        (again,) = self.claim(other)
        assert again.token != claim.token
        for state in State:
            if state is not State.PARKED:
                assert not self.settle(store, claim, state)
        assert self.state(store, job) is State.RUNNING
        assert self.settle(other, again, State.SUCCEEDED)
        assert not self.settle(other, again, State.FAILED)

    def test_one_refused_update_does_not_take_others_with_it(self, tmp_path: Path) -> None:
        """All updates are in one turn."""
        store = self.member(tmp_path)
        jobs = [self.add(store) for _ in range(3)]
        claims = self.claim(store)
        assert self.settle(store, claims[1], State.FAILED)
        updates = [Update(claim, State.SUCCEEDED) for claim in claims]
        turn = store.turn(updates, [], {POOL: NONE})
        assert turn.refused == [updates[1]]
        states = [self.state(store, job) for job in jobs]
        assert states == [State.SUCCEEDED, State.FAILED, State.SUCCEEDED]

    def test_handing_back_charges_no_attempt_and_a_retry_does(self, tmp_path: Path) -> None:
        """A failed attempt is kept with its traceback."""
        store = self.member(tmp_path)
        job = self.add(store)
        (claim,) = self.claim(store)
        assert self.settle(store, claim, State.QUEUED)
        (claim,) = self.claim(store)
        assert claim.attempt == 0
        assert self.settle(store, claim, State.SCHEDULED, delay=0.0, traceback="why")
        (claim,) = self.claim(store)
        assert claim.attempt == 1
        assert self.settle(store, claim, State.FAILED, error="OSError: no", traceback="again")
        record = store.reader.record(job)
        assert record is not None
        assert (record.attempt, record.error) == (2, "OSError: no")
        assert [(each.number, each.traceback) for each in store.reader.attempts(job)] == [
            (1, "why"),
            (2, "again"),
        ]

    def test_progress_is_seen_while_a_job_runs(self, tmp_path: Path) -> None:
        """Progress settles nothing, and may come in the same turn as the end of a job."""
        store = self.member(tmp_path)
        jobs = [self.add(store), self.add(store)]
        first, second = self.claim(store)
        assert self.settle(store, second, State.RUNNING, outcome=b"half")
        record = store.reader.record(jobs[1])
        assert record is not None
        assert (record.state, record.progress) == (State.RUNNING, b"half")
        updates = [
            Update(first, State.SUCCEEDED),
            Update(second, State.RUNNING, outcome=b"all"),
            Update(second, State.SUCCEEDED),
        ]
        assert store.turn(updates, [], {POOL: NONE}).refused == []
        record = store.reader.record(jobs[1])
        assert record is not None
        assert (record.state, record.progress) == (State.SUCCEEDED, b"all")

    # Keys, limiters, unique jobs, bounded queues.

    def test_jobs_of_a_key_run_one_after_the_other(self, tmp_path: Path) -> None:
        """Jobs of other keys overtake them."""
        store = self.member(tmp_path)
        first, second = self.add(store, key="k"), self.add(store, key="k")
        other = self.add(store, key="o")
        claims = self.claim(store)
        assert [claim.id for claim in claims] == [first, other]
        assert self.settle(store, claims[0], State.FAILED)
        assert [claim.id for claim in self.claim(store)] == [second]

    def test_as_many_jobs_of_a_key_run_as_its_limit_says(self, tmp_path: Path) -> None:
        """The limit also holds when jobs are handed back or cancelled."""
        store = self.member(tmp_path)
        jobs = [self.add(store, key="k", key_limit=2) for _ in range(4)]
        claims = self.claim(store)
        assert [claim.id for claim in claims] == jobs[:2]
        assert store.cancel([jobs[2]]) == 1
        assert self.claim(store) == []
        assert self.settle(store, claims[1], State.SUCCEEDED)
        assert [claim.id for claim in self.claim(store)] == [jobs[3]]

    def test_a_serial_job_waits_for_the_success_of_the_one_before(self, tmp_path: Path) -> None:
        """It waits between two attempts of that job, too, and fails if that job fails."""
        store = self.member(tmp_path)
        first = self.add(store, key="k", is_serial=True)
        second = self.add(store, key="k", is_serial=True)
        (claim,) = self.claim(store)
        assert self.settle(store, claim, State.SCHEDULED, delay=60)
        assert self.claim(store) == []
        assert store.retry([first]) == 1
        (claim,) = self.claim(store)
        assert claim.id == first
        assert self.settle(store, claim, State.FAILED)
        record = store.reader.record(second)
        assert record is not None
        assert record.state is State.FAILED
        assert "PredecessorFailed" in str(record.error)

    def test_a_limiter_counts_what_runs_in_all_processes(self, tmp_path: Path) -> None:
        """Two partitions share the limiter."""
        store, other = self.member(tmp_path, "a", "b"), self.member(tmp_path, "a", "b")
        limiter = (Limiter("two", max_running=2),)
        for name in ("a", "b", "a", "b"):
            self.add(store, partition=Partition(POOL, name, limiter))
        claims = [*self.claim(store, Capacity(1, 1)), *self.claim(other)]
        assert len(claims) == 2
        assert self.claim(store) == []
        assert self.settle(store, claims[0], State.SUCCEEDED)
        assert len(self.claim(other)) == 1

    def test_a_process_is_woken_when_a_limiter_lets_its_job_start(self, tmp_path: Path) -> None:
        """A job of another partition, unknown to this process, has ended."""
        store, other = self.member(tmp_path, "a"), self.member(tmp_path, "b")
        limiter = (Limiter("one", max_running=1),)
        for name in ("a", "b"):
            self.add(store, partition=Partition(POOL, name, limiter))
        (claim,) = self.claim(store)
        assert self.claim(other) == []
        other.wait(0.0)
        assert self.settle(store, claim, State.SUCCEEDED)
        began = clock.monotonic()
        other.wait(10.0)
        assert clock.monotonic() - began < 5
        assert len(self.claim(other)) == 1

    def test_a_job_under_a_rate_is_claimed_only_for_a_free_worker(self, tmp_path: Path) -> None:
        """Its start is counted with the claim; a spare claim would start in a later window."""
        rates = [Limiter(name, None, 4, 60.0, 4) for name in ("first", "second")]
        rated = [Partition(POOL, each.name, (each,)) for each in rates]
        store = self.member(tmp_path, "function", "first", "second")
        for partition in (PARTITION, *rated):
            store.turn([], [Submit(partition, b"")] * 3, {POOL: NONE})
        claims = self.claim(store, Capacity(4, 8))
        assert [each.function for each in claims] == ["function"] * 3 + ["first"]

    def test_a_rate_holds_for_all_processes(self, tmp_path: Path) -> None:
        """The turn returns when the rate allows the next start."""
        store, other = self.member(tmp_path), self.member(tmp_path)
        partition = Partition(POOL, "function", (Limiter("rate", starts=2, period=0.1, burst=2),))
        for _ in range(3):
            self.add(store, partition=partition)
        assert len(self.claim(store)) == 2
        turn = other.turn([], [], {POOL: ALL})
        assert turn.claims == []
        assert turn.next_look is not None
        assert 0 < turn.next_look <= 0.1
        began = clock.monotonic()
        while not self.claim(other):
            assert clock.monotonic() - began < 10
            other.wait(turn.next_look)

    def test_a_newer_job_takes_the_place_of_a_unique_one_that_waits(self, tmp_path: Path) -> None:
        """The waiting job gets its arguments and, if asked for, its time.

        A job of another function is left alone.
        """
        store = self.member(tmp_path)
        job = self.add(store, unique=b"u", delay=60)
        other = Partition(POOL, "other")
        newer = [
            Submit(PARTITION, b"newer", unique=b"u", replaces=True),
            Submit(other, b"others", unique=b"u", replaces=True, replaces_time=True),
        ]
        answers = store.turn([], newer, {POOL: NONE}).submitted
        assert [(each.id, each.is_new) for each in answers] == [(job, False)] * 2
        record = store.reader.record(job)
        assert record is not None
        assert (record.payload, record.state) == (b"newer", State.SCHEDULED)
        assert self.claim(store) == []
        newest = Submit(PARTITION, b"newest", unique=b"u", replaces=True, replaces_time=True)
        store.turn([], [newest], {POOL: NONE})
        (claim,) = self.claim(store)
        assert (claim.id, claim.payload) == (job, b"newest")

    def test_a_newer_job_waits_beside_a_unique_one_that_runs(self, tmp_path: Path) -> None:
        """The running job is no longer the unique one, and its end leaves the newer one unique."""
        store = self.member(tmp_path)
        self.add(store, unique=b"u")
        (claim,) = self.claim(store)
        jobs = [Submit(PARTITION, b"%d" % n, unique=b"u", replaces=True) for n in range(3)]
        answers = store.turn([], jobs, {POOL: NONE}).submitted
        assert [each.is_new for each in answers] == [True, False, False]
        assert self.settle(store, claim, State.SUCCEEDED)
        assert self.add(store, unique=b"u") == answers[0].id
        (claim,) = self.claim(store)
        assert (claim.id, claim.payload) == (answers[0].id, b"2")

    def test_a_unique_job_is_there_once_until_it_has_ended(self, tmp_path: Path) -> None:
        """The second submitter gets the job of the first."""
        store, other = self.member(tmp_path), self.member(tmp_path)
        job = self.add(store, unique=b"u")
        turn = other.turn([], [Submit(PARTITION, b"", unique=b"u")] * 2, {POOL: NONE})
        assert [(each.id, each.is_new) for each in turn.submitted] == [(job, False)] * 2
        assert not turn.submitted[0].is_delayed
        scheduled = [Submit(PARTITION, b"", delay=60, unique=b"later")] * 2
        turn = other.turn([], scheduled, {POOL: NONE})
        assert [each.is_delayed for each in turn.submitted] == [False, True]
        (claim,) = self.claim(store)
        assert self.settle(store, claim, State.SUCCEEDED, outcome=b"o")
        assert [(each.id, each.outcome) for each in other.turn([], [], {POOL: NONE}).news] == [
            (job, b"o")
        ]
        assert self.add(store, unique=b"u") != job

    def test_each_job_is_held_to_its_own_bound_of_the_queue(self, tmp_path: Path) -> None:
        """Two pools of a process with the same name may have different ones."""
        store = self.member(tmp_path)
        jobs = [Submit(PARTITION, b"", max_queue=most) for most in (1, 3, 1, 3, 3)]
        turn = store.turn([], jobs, {POOL: NONE})
        assert [each.id is None for each in turn.submitted] == [False, False, True, False, True]

    def test_a_full_queue_turns_jobs_away_and_wakes_those_who_wait(self, tmp_path: Path) -> None:
        """As many jobs are refused as do not fit."""
        store, other = self.member(tmp_path), self.member(tmp_path)
        jobs = [Submit(PARTITION, b"", max_queue=2)] * 3
        turn = other.turn([], jobs, {POOL: NONE})
        assert [each.id is None for each in turn.submitted] == [False, False, True]
        other.wait(0.0)
        assert len(self.claim(store, Capacity(1, 1))) == 1
        began = clock.monotonic()
        other.wait(10.0)
        assert clock.monotonic() - began < 5
        assert self.add(other, max_queue=2) is not None

    # Other processes.

    def test_those_who_wait_for_a_job_have_news_of_its_end(self, tmp_path: Path) -> None:
        """Its submitter and its watchers are told."""
        store, other, third = (self.member(tmp_path) for _ in range(3))
        job = self.add(store, wants_outcome=True)
        assert third.watch(job) is not None
        (claim,) = self.claim(other)
        assert self.settle(other, claim, State.FAILED, outcome=b"o", error="E: e")
        for each in (store, third):
            (news,) = each.turn([], [], {POOL: NONE}).news
            assert (news.id, news.state, news.outcome, news.error) == (
                job,
                State.FAILED,
                b"o",
                "E: e",
            )
            assert each.turn([], [], {POOL: NONE}).news == []

    def test_the_owner_of_a_running_job_is_asked_to_stop_it(self, tmp_path: Path) -> None:
        """A waiting job is cancelled at once."""
        store, other = self.member(tmp_path), self.member(tmp_path)
        running, waiting = self.add(store), self.add(store)
        (claim,) = self.claim(other, Capacity(1, 1))
        assert store.cancel([running, waiting, "no such job"]) == 2
        (news,) = other.turn([], [], {POOL: NONE}).news
        assert (news.id, news.state) == (running, State.RUNNING)
        assert self.state(store, waiting) is State.CANCELLED
        assert self.settle(other, claim, State.CANCELLED)
        assert store.cancel([running]) == 0

    def test_a_job_that_was_asked_to_stop_does_not_run_again(self, tmp_path: Path) -> None:
        """It is cancelled, whether its process hands it back, retries it or dies."""
        store, other = self.member(tmp_path), self.member(tmp_path)
        jobs = [self.add(store) for _ in range(4)]
        back, again, lost, ended = self.claim(other)
        assert store.cancel(jobs) == 4
        assert self.settle(other, back, State.QUEUED)
        assert self.settle(other, again, State.SCHEDULED, delay=10.0)
        assert self.settle(other, ended, State.SUCCEEDED)
        assert [self.state(store, job) for job in jobs[:2]] == [State.CANCELLED] * 2
        assert self.state(store, lost.id) is State.RUNNING
        store.takeover(max(each.id for each in store.reader.members()))
        assert self.state(store, lost.id) is State.CANCELLED
        assert self.state(store, ended.id) is State.SUCCEEDED
        assert self.claim(store) == []
        assert store.retry([back.id]) == 1
        assert [claim.id for claim in self.claim(store)] == [back.id]

    def test_what_a_dead_process_had_begun_is_charged_to_it(self, tmp_path: Path) -> None:
        """Jobs that it had not begun are not charged, and all of them are queued again."""
        store, other = self.member(tmp_path), self.member(tmp_path)
        begun, claimed = self.add(store), self.add(store)
        for crashes in range(MAX_CRASHES):
            claims = {claim.id: claim for claim in self.claim(other)}
            assert claims[begun].is_suspect == (crashes == MAX_CRASHES - 1)
            assert (claims[begun].crashes, claims[begun].attempt) == (crashes, 0)
            other.marks.mark(0, claims[begun])
            member = max(each.id for each in store.reader.members())
            assert store.takeover(member) == 2
            assert store.takeover(member) == 0
            try:
                other.turn([], [], {POOL: ALL})
            except Evicted:
                other.join({POOL: ["function"]}, 4)
            else:
                raise AssertionError("it is not a member any more")
        record = store.reader.record(begun)
        assert record is not None
        assert (record.state, record.crashes) == (State.FAILED, MAX_CRASHES)
        assert "JobLost" in str(record.error)
        (claim,) = self.claim(store)
        assert (claim.id, claim.crashes, claim.attempt) == (claimed, 0, 0)

    def test_a_process_that_leaves_hands_back_what_it_has(self, tmp_path: Path) -> None:
        """The jobs that it hands back are not charged."""
        store, other = self.member(tmp_path), self.member(tmp_path)
        job = self.add(store)
        (claim,) = self.claim(other)
        other.marks.mark(0, claim)
        self.close(other)
        (claim,) = self.claim(store)
        assert (claim.id, claim.crashes) == (job, 0)
        assert len(store.reader.members()) == 1

    def test_a_hungry_process_is_woken_for_a_job(self, tmp_path: Path) -> None:
        """A wake-up that comes before the wait is not lost."""
        store, other = self.member(tmp_path), self.member(tmp_path)
        assert self.claim(other) == []
        other.wait(0.0)
        self.add(store)
        began = clock.monotonic()
        other.wait(10.0)
        assert clock.monotonic() - began < 5
        assert len(self.claim(other)) == 1

    def test_a_sleep_may_be_of_any_length(self, tmp_path: Path) -> None:
        """A job may be due in many years."""
        store = self.member(tmp_path)
        self.add(store, delay=1e10)
        turn = store.turn([], [], {POOL: ALL})
        assert turn.next_look is not None
        store.wake()
        assert store.wait(turn.next_look) == []
