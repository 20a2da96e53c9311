"""PoolStore: a pool's side of its store: it stores jobs, and settles those that callers hold.

The job that a caller holds and the one that runs are two objects, be it in the same process: the
first is settled when the store says that the outcome is committed, wherever it was reached; the
second is made for each claim (see `ClaimedJobs`).

How a pool ends. *Finishing* (``shutdown``): it goes on until its jobs have ended and nothing more
is to be claimed. *Handing back* (``drain``, the end of the process): nothing more is begun, and what
was claimed goes back to the store, for other processes or the next one. Jobs that callers still
hold then end with `PoolClosed`; in the store they live on.

Locking: none of its own. Dicts are changed by one operation each.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from oddjob.compat import override
from oddjob.durable.claimed_jobs import ClaimedJobs
from oddjob.durable.codec import (
    Meta,
    decode_outcome,
    encode_call,
    encode_key,
    encode_meta,
    find_function,
    is_defined,
    is_plain_data,
    name_of,
)
from oddjob.durable.consumer import Consumer, Handle
from oddjob.durable.limiters import LimiterNames
from oddjob.durable.live_jobs import LiveJobs
from oddjob.durable.record import (
    Capacity,
    Claim,
    Entry,
    Lane,
    State,
    Submit,
    Submitted,
    Update,
)
from oddjob.durable.recurring import RecurringEntries
from oddjob.durable.rules import Rule
from oddjob.durable.runner import Runner, RunnerOver
from oddjob.durable.store import Store, StoreReader
from oddjob.durable.stores import runner_of
from oddjob.durable.timers import StoredTimer
from oddjob.durable.unique import unique_of
from oddjob.errors import JobLost, PoolClosed, QueueFull
from oddjob.locks import Wakeup
from oddjob.runtime import inline
from oddjob.runtime.batch import new_jobs, set_due
from oddjob.runtime.job import Job
from oddjob.runtime.policy import JobPolicy, Settlement
from oddjob.runtime.settling import release_call, run_callbacks, settle, withdraw
from oddjob.runtime.slot import slot_of
from oddjob.runtime.watchers import CANCELLED, FAILED, SUCCEEDED, Failure
from oddjob.schedule.clock import clock
from oddjob.schedule.timer import Calls, Timer
from oddjob.schedule.triggers import Trigger

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore

_LOOKAHEAD: Final = 0.02  # seconds of work that are claimed ahead of the workers
_MOST_CLAIMS: Final = 512
_SHORT: Final = 1e-6  # seconds; of a job, for the division
_FINISHING, _HANDING_BACK = 1, 2  # how a pool ends


class _Call(NamedTuple):
    """What jobs of one function and policy have in common."""

    policy: JobPolicy
    fn: Callable[..., Any]
    lane: Lane
    label: str
    options: dict[str, Any]


_NO_CALL: Final = _Call(*[None] * 5)  # type: ignore[arg-type]


class PoolStore(Consumer, Settlement):
    """What connects one pool to a runner."""

    def __init__(self, core: "PoolCore", name: str, url: str) -> None:
        self.name = name
        self.keep_succeeded = core.options.keep_succeeded
        self.keep_failed = core.options.keep_failed
        self.consumes = core.options.consume
        self.unknown_after = core.options.unknown_after
        self.functions: dict[str, Any] = {}  # True: it may be called at once
        self.claimed: Final = ClaimedJobs(core)
        self.live: Final = LiveJobs(self)
        self.entries: Final = RecurringEntries(self)
        self._core: Final = core
        self._url: Final = url
        self._limiters: Final = LimiterNames()
        self._latest: Any = _NO_CALL
        self._ending = 0
        self._begin()

    def _begin(self) -> None:
        self._runner: Runner | None = None
        self._reader: StoreReader | None = None  # of the runner, also when the pool is closed
        self._handles: dict[Job[Any], _JobHandle] = {}  # of stored jobs that have not ended
        self._found_nothing = False
        self._waiting: list[Wakeup] = []  # of threads that wait for room in the queue
        self.lent = 0
        self._is_done = threading.Event()
        if self._ending:
            self._is_done.set()

    def reset_after_fork(self) -> None:
        """Begin anew in a forked child, on first use."""
        self.claimed.reset_after_fork()
        for job in self._handles:
            set_due(job, -inf)  # also one that is scheduled was there before the fork
        self._begin()

    def open(self) -> Runner:
        """Return the runner, to which the pool is attached by now.

        Raises:
            StoreUnusable: the store cannot be opened.
        """
        while self._runner is None:
            runner = runner_of(self._url)
            with suppress(RunnerOver):
                self.claimed.runner = runner
                runner.attach(self)
                self._runner, self._reader = runner, runner.reader
        return self._runner

    def runner(self) -> Runner:
        """Return the runner, for what is asked for by hand.

        Raises:
            PoolClosed: the pool has come to its end.
            StoreUnusable: the store cannot be opened.
        """
        if self._runner is None:
            self._core.state.check_open()
        return self.open()

    # Functions.

    def knows(self, fn: Callable[..., Any], policy: JobPolicy, outer: JobPolicy) -> None:
        """Run jobs of a function that was decorated, under that policy; `outer` is around it."""
        try:
            name = name_of(fn)
        except TypeError:  # it has no name that others could use: its jobs will be refused
            return
        self.claimed.policies[name] = policy
        self.claimed.forget_policies()
        self._latest = _NO_CALL
        self._limiters.add(name, policy, outer)
        self.learn(name, fn)
        if self._runner is not None:
            self._runner.wake()

    def learn(self, function: str, fn: Any) -> None:
        """Run jobs of a function once its module is defined, if the pool runs any."""
        if self.consumes:
            self.functions.setdefault(function, fn)

    @override
    def is_ready(self, function: str) -> bool:
        return self.functions[function] is True or is_defined(function)

    @override
    def look_for(self, function: str) -> bool:
        is_here = self.consumes and find_function(function) is not None
        if is_here:
            self.functions.setdefault(function, None)
        return is_here

    # Submitting.

    def accept(self, job: Job[Any]) -> None:
        """Store a job; raises like `accept_many`."""
        self.accept_many([job])

    def accept_many(self, jobs: Sequence[Job[Any]]) -> None:
        """Store jobs in one commit, or in several as there is room for them.

        Raises:
            PoolClosed, PoolBroken, QueueFull: as for jobs in memory.
            StoreFull, StoreUnusable: no job was stored.
            TypeError: a function or its arguments cannot be stored.
        """
        self._core.state.check_open()
        if inline.is_on():
            for job in jobs:
                inline.run_inline(self._core, job)
            return
        refused = self._store(jobs)
        if refused:
            self._answer_refusal(refused)

    def set_timer(self, trigger: Trigger, calls: Calls, overlaps: bool) -> Timer:
        """Have calls made when a trigger says so; raises like `accept_many`."""
        self._core.state.check_open()
        if trigger.repeats:
            return self.entries.declare(Rule(trigger, overlaps), calls)
        moment = trigger.moment_of(trigger.first())
        delay = max(0.0, moment - clock.wall())
        jobs = new_jobs(*calls, clock.monotonic() + delay)
        new = [answer.id for answer in self._submit(jobs, delay) if answer.is_new]
        return StoredTimer(self, trigger, moment, new, [] if calls.policy.is_detached else jobs)

    async def accept_in_loop(self, job: Job[Any]) -> None:
        """Store a job without blocking the event loop; raises like `accept_many`."""
        if job._policy.settings.connection is not None:  # of this very thread
            self.accept(job)
            return
        stored = asyncio.ensure_future(asyncio.to_thread(self.accept, job))
        try:
            await asyncio.shield(stored)
        except asyncio.CancelledError:
            stored.add_done_callback(lambda _: asyncio.to_thread(job.cancel))
            raise

    def _store(self, jobs: Sequence[Job[Any]]) -> list[Job[Any]]:
        """Store jobs; return those for which there is no room."""
        submitted = self._submit(jobs)
        return [job for job, answer in zip(jobs, submitted, strict=True) if answer.id is None]

    def _submit(self, jobs: Sequence[Job[Any]], delay: float | None = None) -> Sequence[Submitted]:
        if not jobs:
            return ()
        submits = list(self._submits_of(jobs, delay))
        if self.consumes:
            for submit in submits:
                self.functions[submit.lane.function] = True
        handles = [
            None if job._policy.is_detached else _JobHandle(self, job, is_delayed=bool(delay))
            for job in jobs
        ]
        if jobs and (connection := jobs[0]._policy.settings.connection) is not None:
            return self._insert_into(connection, submits, handles)
        try:
            return self.open().submit(submits, handles)
        except RunnerOver:  # the pool was closed meanwhile
            self._core.state.check_open()
            raise

    def check_connection(self, connection: Any) -> None:
        """Raise `TypeError` or `ValueError` if a user's connection is not one to the store."""
        self.open().check_connection(connection)

    def _insert_into(
        self,
        connection: Any,
        submits: Sequence[Submit],
        handles: "Sequence[_JobHandle | None]",
    ) -> Sequence[Submitted]:
        """Store jobs in a user's transaction; `rolled_back` is called if that is not committed."""
        waiting = [handle for handle in handles if handle is not None]
        submitted = self.open().insert_into(connection, submits, waiting)
        for handle, answer in zip(handles, submitted, strict=True):
            if handle is not None:
                handle.stored(answer.id)
        return submitted

    def _submits_of(self, jobs: Sequence[Job[Any]], delay: float | None) -> Iterator[Submit]:
        """Yield what the store is to keep of jobs. The queue has room for those with a delay."""
        max_queue = None if delay is not None else self._core.options.max_queue
        call = self._latest
        for job in jobs:
            if job._policy is not call.policy or job._fn is not call.fn:
                call = self._latest = self._call_of(job)
            policy, details = call.policy, job._details
            meta = None
            if call.options or details is not None:
                meta = encode_meta(Meta({} if details is None else details.carrier, call.options))
            yield Submit(
                call.lane,
                encode_call(call.lane.function, job._args, job._kwargs),
                call.label,
                policy.priority,
                delay,
                encode_key(job._key),
                policy.key_limit,
                policy.is_serial,
                unique_of(policy.settings.unique, call.lane.function, job),
                meta,
                not policy.is_detached,
                max_queue=max_queue,
            )

    def _call_of(self, job: Job[Any]) -> "_Call":
        policy, name = job._policy, name_of(job._fn)
        lane = self.lane_of(policy, name)
        return _Call(policy, job._fn, lane, job.name, self.claimed.options_of(policy, name))

    def submit_of(self, job: Job[Any]) -> Submit:
        """Return what the store is to keep of a job."""
        return next(self._submits_of([job], None))

    def lane_of(self, policy: JobPolicy, function: str) -> Lane:
        """Return which jobs a job of that function is like."""
        return Lane(self.name, function, self._limiters.of(policy))

    def call(self, call: Callable[[Store], Any]) -> Any:
        """Have the store thread call something with the store, and return what it returns.

        Raises:
            PoolClosed, PoolBroken: the pool has let go of the store.
            StoreUnusable: the store cannot be used.
        """
        if self._runner is None:
            self._core.state.check_open()
        try:
            return self.open().call(call)
        except RunnerOver:
            self._core.state.check_open()
            raise

    def _answer_refusal(self, jobs: list[Job[Any]]) -> None:
        """Do what ``when_full`` says of jobs for which there is no room."""
        options = self._core.options
        is_own = slot_of(self._core) is not None  # a worker must not wait for what it is to run
        if options.when_full == "caller_runs" and not jobs[0]._policy.is_limited:
            for job in jobs:
                inline.run_in_caller(self._core, job)
            return
        timeout = 0.0 if options.when_full == "raise" or is_own else options.submit_timeout
        deadline = inf if timeout is None else clock.steady() + timeout
        wakeup = Wakeup()
        self._waiting.append(wakeup)
        try:
            while jobs := self._store(jobs):  # once more, as room may have come before that
                if not wakeup.wait(deadline):
                    for job in jobs:
                        withdraw(job)
                    raise QueueFull(f"the queue of pool {self.name} holds {options.max_queue} jobs")
        finally:
            self._waiting.remove(wakeup)

    # What the runner asks for, in the store thread.

    @override
    def capacity(self) -> Capacity:
        is_broken = self._core.state.broken_by is not None
        size = 0 if self.hands_back or is_broken else self._core.workers.size
        held, mean = len(self.claimed.held), self.claimed.mean
        ahead = int(min(_MOST_CLAIMS, size * _LOOKAHEAD / max(mean, _SHORT)))
        limit = max(0, min(_MOST_CLAIMS, size + ahead) - held) if size else 0
        has_spare = held > len(self._core.running())
        return Capacity(max(0, size - held), limit, has_spare, self.unknown_after)

    @override
    def start(self, claims: list[Claim]) -> None:
        self._found_nothing = not claims
        self.claimed.start(claims)

    @override
    def room_has_come(self) -> None:
        for wakeup in list(self._waiting):
            wakeup.set()

    @override
    def running(self) -> int:
        return len(self.claimed.held)

    @override
    def take_back(self) -> list[Claim]:
        return self.claimed.take_back()

    @override
    def stop(self, job: Any) -> None:
        self.claimed.stop(job)

    @override
    def drop_all(self) -> None:
        self.claimed.drop_all()

    @override
    def fire(self, entry: Entry, now: float, store: Store) -> float:
        return inf if self._ending else self.entries.fire(entry, now, store)

    # Waiting, and cancelling.

    def wait(self, job: Job[Any], deadline: float) -> bool:
        """Wait for a job on a worker of this pool; see `lending`."""
        with self.lending():
            return job._watch().wait(deadline)

    @contextmanager
    def lending(self) -> Iterator[None]:
        """Let another worker run jobs while this one waits for one of them."""
        self._lend(1)
        try:
            yield
        finally:
            self._lend(-1)

    def _lend(self, change: int) -> None:
        core = self._core
        with core.state.lock:
            self.lent += change
            core.workers.resize(core.workers.size + change)
        if self._runner is not None:
            self._runner.wake()

    @override
    def succeeded(self, job: Job[Any], result: Any) -> None:
        """Do nothing: a job that a caller holds runs by itself in inline mode only."""

    @override
    def failed(self, job: Job[Any], error: BaseException) -> float | None:
        return self._core.memory.failed(job, error)

    @override
    def cancelled(self, job: Job[Any]) -> bool:
        handle = self._handles.get(job)
        if handle is None or self._runner is None:
            return True  # it was not stored
        stored = handle.id
        if self.claimed.stop(stored):
            return True
        if _is_in_transaction(job._policy.settings.connection):
            return False  # the store could not do that before its end

        def cancel(store: Store) -> bool:
            store.cancel([stored])
            record = store.reader.record(stored)
            return record is None or record.state is State.CANCELLED

        is_cancelled: bool = self._runner.call(cancel)
        job._watch().cancel_requested |= not is_cancelled
        return is_cancelled

    def handle_of(self, job: Job[Any]) -> "_JobHandle":
        """Return a handle for a job that was found in the store: nobody's end waits for that."""
        return _JobHandle(self, job, is_found=True)

    def job_of(self, handle: Handle) -> Job[Any] | None:
        """Return the job of a handle, if it is one of this pool."""
        if isinstance(handle, _JobHandle) and handle.store is self:
            return handle.job
        return None

    # The end.

    def close(self, *, hands_back: bool) -> None:
        """Take no more jobs; finish those that there are, or hand them back."""
        self._ending = max(self._ending, _HANDING_BACK if hands_back else _FINISHING)
        runner = self._runner
        if runner is None:
            self._is_done.set()
            return
        if hands_back:
            self.claimed.close()
        runner.wake()

    def abandon(self) -> None:
        """Leave running jobs to other processes: this one ends without waiting for them."""
        if self._runner is not None:
            self.claimed.abandon()

    def cancel_all(self) -> None:
        """Cancel the jobs that were submitted here and have not started, in one step."""
        runner = self._runner
        if runner is None:
            return
        report = runner.report

        def cancel(store: Store) -> None:
            mine = {each.id for each in self._handles.values() if not each.is_found}
            for claim in self.claimed.take_back():
                state = State.CANCELLED if claim.id in mine else State.QUEUED
                report(Update(claim, state))
                mine.discard(claim.id)
            store.cancel(mine - self.claimed.held.keys())

        with suppress(RunnerOver):
            runner.call(cancel)

    @property
    def pool(self) -> Any:
        """The `Pool`; None once it has been collected."""
        return self._core.pool

    @property
    def reader(self) -> StoreReader | None:
        """The half of the store that any thread may use; None if the pool has let go of it."""
        is_over = self._runner is None and not self._core.state.is_open
        return None if is_over else self.open().reader

    @property
    def is_busy(self) -> bool:
        """Whether something is under way between the pool and its store."""
        return self._runner is not None and self._runner.is_busy

    @property
    def is_closing(self) -> bool:
        """Whether the pool takes no new jobs."""
        return bool(self._ending)

    @property
    def hands_back(self) -> bool:
        """Whether no more claims are begun."""
        return self._ending == _HANDING_BACK

    @property
    def is_done(self) -> bool:
        """Whether the pool has nothing more to do with the store."""
        return self._is_done.is_set()

    def join(self, deadline: float) -> bool:
        """Wait for that until `deadline`, in steady seconds; return whether it is so."""
        left = None if deadline == inf else max(0.0, deadline - clock.steady())
        return self._is_done.wait(None if left is None else min(left, threading.TIMEOUT_MAX))

    @override
    def has_come_to_its_end(self) -> bool:
        if not self._ending or self.claimed.held:
            return False
        if self.hands_back or not self.consumes or self._core.state.broken_by is not None:
            return True
        handles = list(self._handles.values())  # a user's transaction may add some
        return self._found_nothing and all(each.is_delayed or each.is_found for each in handles)

    @override
    def detached(self) -> None:
        runner, self._runner = self._runner, None
        for handle in list(self._handles.values()):
            what = f"pool {self.name} was closed; job {handle.id} lives on in the store"
            if runner is not None:
                runner.callbacks.run(partial(handle.end, FAILED, Failure(PoolClosed(what))))
        self._handles.clear()
        self._is_done.set()
        self._core.supervisor.notify()


def _is_in_transaction(connection: Any) -> bool:
    try:
        return connection is not None and bool(connection.in_transaction)
    except Exception:  # it was closed
        return False


class _JobHandle(Handle):
    """A job in a caller's hands, who has submitted it, or has found it in the store."""

    __slots__ = ("id", "is_delayed", "is_found", "job", "store")

    def __init__(
        self, store: PoolStore, job: Job[Any], *, is_delayed: bool = False, is_found: bool = False
    ) -> None:
        self.store: Final = store
        self.job: Final = job
        self.is_delayed: Final = is_delayed
        self.is_found: Final = is_found
        self.id: Any = None

    @override
    def stored(self, job: Any) -> None:
        self.id = job
        self.job._add_details().id = str(job)
        self.store._handles[self.job] = self

    @override
    def rolled_back(self) -> None:
        self.store._handles.pop(self.job, None)
        what = f"the transaction in which job {self.id} was submitted was not committed"
        failure = Failure(JobLost(what))
        failure.is_seen = True  # it was rolled back on purpose, and need not be logged
        self.end(FAILED, failure)

    @override
    def ended(self, state: State, outcome: bytes | None, error: str | None) -> None:
        self.store._handles.pop(self.job, None)
        is_plain = state is State.SUCCEEDED and is_plain_data(outcome)
        runner = self.store._runner
        if state is State.CANCELLED or is_plain or runner is None:
            self.decode(state, outcome, error)
        else:  # that may run code of the user's
            runner.callbacks.run(partial(self.decode, state, outcome, error))

    def decode(self, state: State, outcome: bytes | None, error: str | None) -> None:
        """Settle the job with a stored outcome, or with the reason why that cannot be read."""
        if state is State.CANCELLED:
            self.end(CANCELLED, None)
            return
        try:
            value = decode_outcome(state, outcome, error)
        except BaseException as failure:
            self.end(FAILED, Failure(failure))
        else:
            is_success = state is State.SUCCEEDED
            self.end(SUCCEEDED if is_success else FAILED, value if is_success else Failure(value))

    def end(self, state: Any, outcome: Any) -> None:
        """Settle the job; leave its callbacks to the thread that is there for them."""
        job, runner = self.job, self.store._runner
        if settle(job, state, outcome):
            release_call(job)
            if job._watch().callbacks and runner is not None:
                runner.callbacks.run(partial(run_callbacks, job))
            else:
                run_callbacks(job)
