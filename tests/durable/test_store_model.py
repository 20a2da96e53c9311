"""Random walks through a store by several members, compared with a model.

The model holds jobs in a dict and looks through all of them: before each turn it knows which jobs
must be claimed, which updates refused, and who gets which news. After each step, every row is as in
the model, and no hungry member sleeps while there is a job that it could claim.

``ODDJOB_STRESS_ROUNDS`` sets the number of blocks of walks. To repeat a walk that has failed, call
``Walk(seed, SqliteMembers(directory, seed)).run()``.
"""

import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis

from oddjob.durable.record import (
    MAX_CRASHES,
    Capacity,
    Claim,
    Limiter,
    Partition,
    State,
    Submit,
    Update,
)
from oddjob.durable.redis.connection import Call
from oddjob.durable.redis.location import Location
from oddjob.durable.redis.store import RedisStore
from oddjob.durable.redis.wakeups import WakeupListener
from oddjob.durable.sqlite.store import SqliteStore
from oddjob.durable.store import Evicted, Filter, Store
from oddjob.schedule.clock import clock
from tests.durable.local_peers import LocalHub, LocalPeers
from tests.long import IS_LONG
from tests.redis_clock import follow_clock
from tests.redis_server import RedisServer

BLOCKS = range(int(os.environ.get("ODDJOB_STRESS_ROUNDS", "1")))
WALKS_IN_BLOCK = 8 if IS_LONG else 4
WALKS_ON_SERVER = 4 if IS_LONG else 2
STEPS = 200

POOL = "pool"
TWO = Limiter("two", max_running=2)
RATE = Limiter("rate", starts=3, period=2.0, burst=3)
SPACED = Limiter("spaced", starts=4, period=2.0, burst=1)
PARTITIONS = [
    Partition(POOL, "plain"),
    Partition(POOL, "other"),
    Partition(POOL, "plain", (TWO,)),
    Partition(POOL, "other", (TWO, RATE)),
    Partition(POOL, "rare"),  # known to the first member only
    Partition(POOL, "plain", (SPACED,)),
]
ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED)
WAITING = (State.SCHEDULED, State.QUEUED, State.PARKED)


@dataclass
class Job:
    """A job of the model."""

    id: Any
    partition: Partition
    priority: int
    key: str | None
    key_limit: int
    is_serial: bool
    unique: bytes | None
    state: State = State.QUEUED
    due: float | None = None
    token: int = 0
    attempt: int = 0
    crashes: int = 0
    owner: "Member | None" = None
    holds_key: bool = False
    is_stopped: bool = False  # it was to be canceled while it ran
    waiters: set["Member"] = field(default_factory=set)
    fair_key: str | None = None
    fair_step: float = 1.0
    turn: float = 0.0

    @property
    def rank(self) -> tuple[int, Any]:
        return (-self.priority, self.id)

    @property
    def place(self) -> tuple[int, float, Any]:
        return (-self.priority, self.turn, self.id)


class Member:
    """A process that uses the store, and what it should know."""

    def __init__(self, store: Store, functions: list[str]) -> None:
        self.store = store
        self.functions = functions
        self.claims: dict[Any, Claim] = {}
        self.stale: list[Claim] = []
        self.news: set[tuple[Any, State]] = set()
        self.has_wakeup = False
        self.is_hungry = False
        self.next_look: float | None = None
        self.is_evicted = False

    def join(self) -> None:
        self.store.join({POOL: self.functions}, 4)
        self.is_evicted = self.is_hungry = False
        self.next_look = None
        self.claims.clear()
        self.news.clear()


class SqliteMembers:
    """Members of a store in a file, and what is known of it besides the contract."""

    counts_tokens = True  # a job's token says how often it was claimed
    are_turns_for_later = True  # the turns of a priority begin with a fair job that is due later

    def __init__(self, directory: Path, seed: int) -> None:
        self.hub = LocalHub()
        self.path = str(directory / f"{seed}.db")
        self.peers: dict[Store, LocalPeers] = {}
        self.next_id: Callable[[], Any] = count(1).__next__

    def open(self) -> Store:
        peers = LocalPeers(self.hub)
        store = SqliteStore(self.path, is_durable=False, peers=peers)
        self.peers[store] = peers
        return store

    def number_of(self, store: Any) -> Any:
        return store._me

    def expect(self, submits: int, now: float) -> None:
        """Prepare for a turn with so many submits."""

    def take_wakeups(self, store: Store) -> int:
        return self.peers[store].take_wakeups()

    def check(self, walk: "Walk") -> None:
        execute = walk.members[0].store._execute
        (waiting,) = execute("SELECT sum(waiting) FROM pool").fetchone()
        assert waiting in (None, len(list(walk.active(*WAITING))))

    def check_end(self, walk: "Walk") -> None:
        execute = walk.members[0].store._execute
        assert execute("SELECT sum(running) FROM limiter WHERE max_running").fetchone()[0] in (
            0,
            None,
        )
        assert execute("SELECT count(*) FROM job WHERE key_slot IS NOT NULL").fetchone() == (0,)
        assert execute("SELECT sum(waiting) FROM pool").fetchone()[0] in (0, None)


class Walk:
    """One random walk."""

    def __init__(self, seed: int, members: Any) -> None:
        self.random = random.Random(seed)
        self.now = 1_000_000.0
        self.kit = members
        functions = [["plain", "other", "rare"], ["plain", "other"], ["other"]]
        self.members = [Member(members.open(), each) for each in functions]
        self.jobs: dict[Any, Job] = {}
        self.starts: dict[Limiter, list[float]] = defaultdict(list)
        self.is_paused = False
        self.has_fair_jobs = seed % 2 == 1
        self.latest: dict[int, float] = {}  # turns that have started, of priorities that have any

    def run(self) -> None:
        clock.replace(lambda: self.now, lambda: self.now)
        try:
            for member in self.members:
                member.join()
            for _ in range(STEPS):
                self.step()
                self.check()
            self.finish()
        finally:
            clock.restore()
            for member in self.members:
                member.store.close()

    def step(self) -> None:
        chance = self.random
        actions = {
            self.turn: 60,
            self.let_time_pass: 12,
            self.by_hand: 10,
            self.die: 2,
            self.pause: 2,
            self.watch: 3,
        }
        action = chance.choices(list(actions), list(actions.values()))[0]
        action(chance.choice(self.members))

    # The model.

    def active(self, *states: State) -> Iterator[Job]:
        return (job for job in self.jobs.values() if job.state in states)

    def allowed(self, limiter: Limiter) -> int:
        if limiter.max_running is not None:
            running = [
                job for job in self.active(State.RUNNING) if limiter in job.partition.limiters
            ]
            return limiter.max_running - len(running)
        starts = self.starts[limiter]
        assert limiter.starts is not None
        left = limiter.starts - sum(at > self.now - limiter.period for at in starts)
        if limiter.burst == 1 and starts:
            interval = limiter.period / limiter.starts
            left = min(left, int(self.now - starts[-1] >= interval - 1e-9))
        return min(left, limiter.burst)

    def room(self, partition: Partition) -> float:
        return min((self.allowed(each) for each in partition.limiters), default=10**6)

    def queue(self, job: Job) -> None:
        """Queue a job, or park it."""
        job.due = None
        self.give_turn(job)
        if job.key is None or job.holds_key:
            job.state = State.QUEUED
            return
        same = [each for each in self.jobs.values() if each.key == job.key and each is not job]
        held = sum(each.holds_key for each in same)
        is_behind = any(each.state is State.PARKED for each in same)
        job.holds_key = held < job.key_limit and not is_behind
        job.state = State.QUEUED if job.holds_key else State.PARKED

    def give_turn(self, job: Job) -> None:
        if job.fair_key is not None:
            self.latest.setdefault(job.priority, 0.0)
        if job.priority in self.latest:
            line = (job.priority, job.fair_key or "")
            turns = [
                each.turn
                for each in self.active(State.QUEUED, State.PARKED)
                if (each.priority, each.fair_key or "") == line and each is not job
            ]
            job.turn = max([self.latest[job.priority], *turns]) + job.fair_step

    def free_key(self, job: Job) -> None:
        """Let the key of a job go, and others of the key move up."""
        if job.key is None:
            return
        job.holds_key = False
        parked = [each for each in self.active(State.PARKED) if each.key == job.key]
        if job.state is State.FAILED and job.is_serial:
            for each in parked:
                if each.is_serial:
                    self.end(each, State.FAILED)
        while parked := [each for each in self.active(State.PARKED) if each.key == job.key]:
            following = min(parked, key=lambda each: each.rank)
            held = sum(each.holds_key for each in self.jobs.values() if each.key == job.key)
            if held >= following.key_limit:
                return
            following.holds_key = True
            following.state = State.QUEUED

    def end(self, job: Job, state: State, by: Member | None = None) -> None:
        job.state, job.owner, job.due = state, None, None
        for member in job.waiters - {by}:
            if not member.is_evicted:
                member.news.add((job.id, state))
        job.waiters.clear()

    def cancel_stopped(self) -> None:
        for job in sorted(self.active(*WAITING), key=lambda job: job.id):
            if job.is_stopped:
                self.end(job, State.CANCELLED)
                self.free_key(job)

    # Steps.

    def turn(self, member: Member) -> None:
        chance = self.random
        updates = self.make_updates(member)
        submits = [self.make_submit() for _ in range(chance.choice([0, 0, 1, 3]))]
        idle = chance.randrange(4)
        capacity = Capacity(idle, idle + chance.choice([0, 0, 2]))
        if member.is_evicted:
            with pytest.raises(Evicted):
                member.store.turn(updates, submits, {POOL: capacity})
            member.stale += member.claims.values()
            member.join()
            return
        refused = [each for each in updates if not self.apply(member, each)]
        if any(each.state in (State.QUEUED, State.SCHEDULED) for each in updates):
            self.cancel_stopped()
        self.kit.expect(len(submits), self.now)
        expected_submits = [self.insert(member, each) for each in submits]
        for job in sorted(self.active(State.SCHEDULED), key=lambda job: (job.due, job.id)):
            if job.due is not None and job.due <= self.now:
                self.queue(job)
        expected = self.claim(member, capacity)
        self.kit.take_wakeups(member.store)
        member.has_wakeup = False
        turn = member.store.turn(updates, submits, {POOL: capacity})
        assert turn.refused == refused
        assert [each.id for each in turn.submitted] == expected_submits
        assert [claim.id for claim in turn.claims] == expected
        assert {(news.id, news.state) for news in turn.news} == member.news
        member.news.clear()
        for claim in turn.claims:
            job = self.jobs[claim.id]
            if self.kit.counts_tokens:
                assert claim.token == job.token
            job.token = claim.token
            assert claim.attempt == job.attempt
            assert claim.is_suspect == (job.crashes == MAX_CRASHES - 1)
            member.claims[claim.id] = claim
        member.is_hungry = len(expected) < idle
        member.next_look = None if turn.next_look is None else self.now + turn.next_look

    def make_updates(self, member: Member) -> list[Update]:
        chance = self.random
        updates = []
        for claim in list(member.claims.values()):
            if chance.random() < 0.5:
                state = chance.choices(
                    [State.SUCCEEDED, State.FAILED, State.SCHEDULED, State.QUEUED, State.RUNNING],
                    [5, 2, 2, 1, 1],
                )[0]
                updates.append(Update(claim, state, delay=chance.choice([0.5, 1.0])))
        if member.stale and chance.random() < 0.5:
            updates.append(Update(member.stale.pop(), State.SUCCEEDED))
        return updates

    def apply(self, member: Member, update: Update) -> bool:
        claim, state = update.claim, update.state
        job = self.jobs.get(claim.id)
        is_mine = job is not None and (job.token, job.owner) == (claim.token, member)
        if not is_mine:
            if member.claims.get(claim.id) is claim:
                del member.claims[claim.id]
            return False
        assert job is not None
        if state is State.RUNNING:
            return True
        del member.claims[claim.id]
        job.owner = None
        job.attempt += state is not State.QUEUED
        if state in ENDED:
            self.end(job, state, member)
            self.free_key(job)
        else:
            job.state = state
            if state is State.SCHEDULED:
                job.due = self.now + update.delay
                if not job.is_serial:
                    self.free_key(job)
        return True

    def make_submit(self) -> Submit:
        chance = self.random
        fair_key = chance.choice([None, "", "x", "y"]) if self.has_fair_jobs else None
        key = chance.choice([None, None, "a", "b", "c"])
        is_serial = key == "a"
        return Submit(
            chance.choice(PARTITIONS),
            b"payload",
            priority=chance.randrange(3),
            delay=chance.choice([None, None, None, 0.5, 2.0]),
            key=key,
            key_limit=2 if key == "b" else 1,
            is_serial=is_serial,
            unique=chance.choice([None, None, None, b"u", b"v"]),
            wants_outcome=chance.random() < 0.7,
            fair_key=fair_key,
            fair_step=1.0 if fair_key is None else chance.choice([0.5, 1.0]),
        )

    def insert(self, member: Member, submit: Submit) -> int:
        waiter = {member} if submit.wants_outcome else set()
        for job in self.active(*WAITING, State.RUNNING):
            if submit.unique is not None and job.unique == submit.unique:
                job.waiters |= waiter
                return job.id
        job = Job(
            self.kit.next_id(), submit.partition, submit.priority, submit.key,
            submit.key_limit, submit.is_serial, submit.unique, waiters=waiter,
            fair_key=submit.fair_key, fair_step=submit.fair_step,
        )  # fmt: skip
        self.jobs[job.id] = job
        if submit.delay is not None:
            job.state, job.due = State.SCHEDULED, self.now + submit.delay
            if self.kit.are_turns_for_later and job.fair_key is not None:
                self.latest.setdefault(job.priority, 0.0)
        else:
            job.state = State.PARKED  # not yet counted as one that waits before it
            del self.jobs[job.id]
            self.queue(job)
            self.jobs[job.id] = job
        return job.id

    def claim(self, member: Member, capacity: Capacity) -> list[int]:
        claimed: list[int] = []
        queued = sorted(self.active(State.QUEUED), key=lambda job: job.place)
        for job in queued:
            is_known = job.partition.function in member.functions
            if self.is_paused or not is_known or len(claimed) == capacity.limit:
                continue
            is_rated = any(each.starts is not None for each in job.partition.limiters)
            is_spare = len(claimed) >= capacity.idle
            if self.room(job.partition) < 1 or (is_rated and is_spare):
                continue
            job.state, job.owner = State.RUNNING, member
            if job.turn:
                self.latest[job.priority] = max(self.latest[job.priority], job.turn)
            job.token += 1
            for limiter in job.partition.limiters:
                if limiter.starts is not None:
                    self.starts[limiter].append(self.now)
            claimed.append(job.id)
        return claimed

    def let_time_pass(self, _: Member) -> None:
        self.now = round(self.now + self.random.choice([0.1, 0.5, 2.0]), 6)

    def by_hand(self, member: Member) -> None:
        chance = self.random
        if not self.jobs or member.is_evicted:
            return
        job = chance.choice(list(self.jobs.values()))
        act = chance.choice(["cancel", "retry", "delete"])
        changed = getattr(member.store, act)([job.id])
        if act == "cancel":
            assert changed == (job.state not in ENDED)
            if job.state is State.RUNNING and job.owner is not None:
                job.is_stopped = True
                job.owner.news.add((job.id, State.RUNNING))
            elif job.state in WAITING:
                self.end(job, State.CANCELLED)
                self.free_key(job)
        elif act == "retry":
            twins = [
                each
                for each in self.active(*WAITING, State.RUNNING)
                if each is not job and each.unique == job.unique is not None
            ]
            may = job.state is State.SCHEDULED or (
                job.state in (State.FAILED, State.CANCELLED) and not twins
            )
            assert changed == may
            if may:
                if job.state is not State.SCHEDULED:
                    job.waiters.clear()
                job.attempt = job.crashes = 0
                job.is_stopped = False
                self.queue(job)
        else:
            assert changed == (job.state is not State.RUNNING)
            if changed:
                if job.state in WAITING:
                    self.end(job, State.CANCELLED)
                    self.free_key(job)
                del self.jobs[job.id]

    def watch(self, member: Member) -> None:
        if self.jobs and not member.is_evicted:
            job = self.random.choice(list(self.jobs.values()))
            record = member.store.watch(job.id)
            assert record is not None
            if job.state not in ENDED:
                job.waiters.add(member)

    def pause(self, member: Member) -> None:
        if not member.is_evicted:
            self.is_paused = not self.is_paused
            member.store.pause(POOL, is_paused=self.is_paused)

    def die(self, member: Member) -> None:
        """Have another member take over what this one has; it does not know, and goes on."""
        others = [each for each in self.members if each is not member and not each.is_evicted]
        if member.is_evicted or not others:
            return
        begun = [claim for claim in member.claims.values() if self.random.random() < 0.5]
        for place, claim in enumerate(begun):
            member.store.marks.mark(place, claim)
        self.random.choice(others).store.takeover(self.kit.number_of(member.store))
        member.is_evicted = True
        for job in self.jobs.values():
            job.waiters.discard(member)
        for job in sorted(self.active(State.RUNNING), key=lambda job: job.id):
            if job.owner is not member:
                continue
            job.owner = None
            job.state = State.QUEUED
            if any((claim.id, claim.token) == (job.id, job.token) for claim in begun):
                job.crashes += 1
                if job.crashes == MAX_CRASHES:
                    self.end(job, State.FAILED)
                    self.free_key(job)
        self.cancel_stopped()

    # Checks.

    def check(self) -> None:
        records = self.members[0].store.reader.records(POOL, Filter(), limit=10**6)
        rows = {
            each.id: (each.state, each.attempt, each.crashes, each.run_at, each.key)
            for each in records
        }
        assert rows == {
            job.id: (job.state, job.attempt, job.crashes, job.due, job.key)
            for job in self.jobs.values()
        }
        self.kit.check(self)
        self.check_wakeups()

    def check_wakeups(self) -> None:
        """Where there is a job that a sleeping member could claim, one of them will wake up."""
        alive = [member for member in self.members if not member.is_evicted]
        for member in alive:
            member.has_wakeup |= self.kit.take_wakeups(member.store) > 0
        for function in {job.partition.function for job in self.active(State.QUEUED)}:
            jobs = [job for job in self.active(State.QUEUED) if job.partition.function == function]
            can_start = not self.is_paused and any(self.room(job.partition) >= 1 for job in jobs)
            able = [each for each in alive if each.is_hungry and function in each.functions]
            if can_start and able:
                assert any(self.will_wake(member) for member in alive), function
        dues = [job.due for job in self.active(State.SCHEDULED) if job.due is not None]
        hungry = [member for member in alive if member.is_hungry]
        for due in dues:
            if hungry:
                looks = [each.next_look for each in alive if each.next_look is not None]
                is_timed = any(look <= due for look in looks)
                assert is_timed or any(self.will_wake(each) for each in alive)

    def will_wake(self, member: Member) -> bool:
        is_due = member.next_look is not None and member.next_look <= self.now
        return member.has_wakeup or is_due

    def finish(self) -> None:
        """Run everything to its end."""
        if self.is_paused:
            member = next(each for each in self.members if not each.is_evicted)
            member.store.pause(POOL, is_paused=False)
            self.is_paused = False
        for _ in range(2000):
            self.now += 0.5
            for member in self.members:
                updates = [Update(each, State.SUCCEEDED) for each in member.claims.values()]
                try:
                    turn = member.store.turn(updates, [], {POOL: Capacity(4, 4)})
                except Evicted:
                    member.join()
                    continue
                member.claims = {claim.id: claim for claim in turn.claims}
            counts = self.members[0].store.reader.counts(POOL)
            if not counts[State.QUEUED] + counts[State.RUNNING] + counts[State.SCHEDULED]:
                break
        else:
            raise AssertionError(counts)
        self.kit.check_end(self)


class RedisMembers:
    """Members of a store on a server. Every call may be sent twice, as if its answer was lost."""

    counts_tokens = False
    are_turns_for_later = False

    def __init__(self, url: str, server: RedisServer, seed: int) -> None:
        self.location = Location(url)
        self.random = random.Random(seed)
        self.last_id = 0
        self.next_id: Callable[[], Any] = count(0).__next__
        self.woken: dict[int, int] = defaultdict(int)
        self.client = redis.Redis(unix_socket_path=str(server.socket))
        self.channels = self.client.pubsub(ignore_subscribe_messages=True)
        self.channels.psubscribe("{oddjob}:wake:*")
        self.channels.get_message(timeout=5)

    def close(self) -> None:
        self.channels.close()
        self.client.close()

    def open(self) -> Store:
        store = RedisStore(self.location, lease=1e6)
        run_all = store._connection.run_all

        def run_twice(calls: Sequence[Call]) -> list[Any]:
            answers = run_all(calls)
            return answers if self.random.random() < 0.5 else run_all(calls)

        store._connection.run_all = run_twice  # type: ignore[method-assign]
        store.wake = lambda: self.note_wakeup(self.number_of(store))  # type: ignore[method-assign]
        return store

    def number_of(self, store: Any) -> Any:
        return store._membership.caller.process

    def note_wakeup(self, process: int) -> None:
        self.woken[process] += 1

    def expect(self, submits: int, now: float) -> None:
        if submits:
            first = max(self.last_id + 1, round(now * 1e6))
            self.last_id = first + submits - 1
            self.next_id = (f"{POOL}:{number:016d}" for number in count(first)).__next__

    def take_wakeups(self, store: Store) -> int:
        self.channels.ping()
        while message := self.channels.get_message(timeout=5):
            if message["type"] == "pong":
                break
            self.note_wakeup(int(message["channel"].decode().rpartition(":")[2]))
        return self.woken.pop(self.number_of(store), 0)

    def read(self, command: str, name: str, *rest: Any) -> Any:
        return self.client.execute_command(command, self.location.pool_key(POOL, name), *rest)

    def check(self, walk: Walk) -> None:
        """Every job is in one index, and every token that has a time is one that has jobs."""
        indexes = ["queue", "due", "parked", "run", "ended"]
        jobs = len(walk.jobs)
        listed = sum(self.read("ZCARD", each) for each in indexes) - 1  # `run` has a filler
        assert listed == jobs == self.read("HLEN", "job")
        waiting = [job for job in walk.active(State.QUEUED, State.PARKED) if job.turn]
        assert self.read("ZCARD", "lines") == len(waiting)
        tokens = {b"%d" % score for _, score in self.read("ZRANGE", "run", 1, -1, "WITHSCORES")}
        times = {field for field in self.read("HKEYS", "times") if field[:1] != b"r"}
        assert times == tokens

    def check_end(self, walk: Walk) -> None:
        """Nothing is left behind of jobs that have ended."""
        assert self.read("ZCARD", "run") == 1  # its filler
        for name in ("busy", "holders", "stopped", "lines"):
            assert self.read("EXISTS", name) == 0, name
        assert all(field[:1] == b"l" for field in self.read("HKEYS", "turns"))
        for name in ("unique", "tries"):
            assert self.read("HLEN", name) == 0, name


@pytest.mark.parametrize("block", BLOCKS)
def test_the_store_does_what_the_model_says(block: int, tmp_path: Path) -> None:
    for seed in range(block * WALKS_IN_BLOCK, (block + 1) * WALKS_IN_BLOCK):
        Walk(seed, SqliteMembers(tmp_path, seed)).run()


@pytest.mark.parametrize("block", BLOCKS)
def test_the_store_on_a_server_does_what_the_model_says(
    block: int, redis_server: RedisServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if half of all calls are sent twice."""
    follow_clock(monkeypatch)
    monkeypatch.setattr(WakeupListener, "start", lambda _: None)
    for seed in range(block * WALKS_ON_SERVER, (block + 1) * WALKS_ON_SERVER):
        redis_server.ask("FLUSHALL")
        members = RedisMembers(redis_url, redis_server, seed)
        try:
            Walk(seed, members).run()
        finally:
            members.close()
