"""PoolStore: a pool's side of its store. It stores jobs, settles those that callers hold, and ends.

Two `Job` objects stand for one stored job, even within one process: the caller's, which a
`JobHandle` settles when the outcome is committed, wherever the job ran; and the one that workers
run, which `ClaimedJobs` makes for each claim.

How a pool ends. *Finishing* (``shutdown``): it goes on until its jobs have ended, and there is
nothing more to claim. *Handing back* (``drain``, the end of the process): it begins nothing more,
and its claims go back to the store, for other processes or the next one. Jobs that callers still
hold then end with `PoolClosed`; in the store they live on.

Locking: none of its own. Each change of a dict is one operation.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final

from oddjob.compat import override
from oddjob.durable.async_submit import submit_in_loop
from oddjob.durable.atomic_submit import submit_whole
from oddjob.durable.callbacks import CallbackThread
from oddjob.durable.claimed_jobs import ClaimedJobs
from oddjob.durable.codec import find_function, name_of
from oddjob.durable.definitions import is_defined, note_decorated
from oddjob.durable.full_queue import FullQueue
from oddjob.durable.job_handle import JobHandle
from oddjob.durable.lending import Lending
from oddjob.durable.live_jobs import LiveJobs
from oddjob.durable.operation import RunnerOver
from oddjob.durable.record import Capacity, Claim, Entry, State, Submit, Submitted, Update
from oddjob.durable.recurring import RecurringEntries
from oddjob.durable.runner import Runner
from oddjob.durable.store import Store, StoreReader
from oddjob.durable.stores import codec_of, parse_url, runner_of
from oddjob.durable.submissions import Submissions
from oddjob.errors import PoolClosed, StoreUnusable
from oddjob.keys import check_text
from oddjob.log import log
from oddjob.runtime import inline
from oddjob.runtime.job import Job
from oddjob.runtime.links import set_due
from oddjob.runtime.policy import JobPolicy
from oddjob.runtime.settlement import MemorySettlement
from oddjob.runtime.stored_job import policy_of, shared_state_of
from oddjob.schedule.clock import clock

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore

_FINISHING, _HANDING_BACK = 1, 2  # how a pool ends

# Whether a command imports a program: the pools that it makes run nothing until `consumes` is set.
holds_pools: Final = ContextVar("holds_pools", default=False)


class PoolStore(MemorySettlement):
    """What connects one pool to a runner.

    It is also the settlement of the jobs that callers hold. These run only in inline mode, which
    stores nothing, so their outcomes are settled in memory.
    """

    def __init__(self, core: "PoolCore", name: str, url: str) -> None:
        super().__init__(core.retry)
        self.name: Final = check_text("a pool's name", name)
        self.keep_succeeded: int = core.options.keep_succeeded
        self.keep_failed: float = core.options.keep_failed
        self.keep_bytes: float = core.options.keep_bytes
        self.consumes: bool = core.options.consume and not holds_pools.get()
        self.unknown_after: float = core.options.unknown_after
        self.functions: dict[str, Any] = {}  # that it runs, by name; True: known to be callable
        self.codec: Final = codec_of(url, core.options.signing_keys)
        self.submissions: Final = Submissions(name, core, self.codec, parse_url(url).priority_bits)
        self.claimed: Final = ClaimedJobs(core, self.submissions.base_policy, self.codec)
        self.live: Final = LiveJobs(self)
        self.entries: Final = RecurringEntries(self)
        self.core: Final = core
        self.url: Final = url
        self._ending = 0
        self._begin()

    def _begin(self) -> None:
        self.attached: Runner | None = None  # the runner, while it serves the pool
        self.last_reader: StoreReader | None = None  # of the runner, also when the pool is closed
        self.handles: dict[Job[Any], JobHandle] = {}  # of stored jobs that have not ended
        self._callbacks: CallbackThread | None = None
        self._found_nothing = False  # to claim, in the latest turn
        self.full_queue: FullQueue = FullQueue(self.core, self._store_what_fits)
        self.lending: Lending = Lending(self.core, self.wake)
        self._is_done = threading.Event()
        if self._ending:
            self._is_done.set()

    def reset_after_fork(self) -> None:
        """Begin anew in a forked child, on first use."""
        self.claimed.reset_after_fork()
        for job in self.handles:
            set_due(job, -inf)  # also one that is scheduled was there before the fork
        self._begin()

    def open(self) -> Runner:
        """Return the runner; attach the pool to it first, if need be.

        Raises:
            StoreUnusable: the store cannot be opened.
        """
        while (runner := self.attached) is None:
            with suppress(RunnerOver):
                runner_of(self.url).attach(self)
        return runner

    def attach_to(self, runner: Runner) -> None:
        """Use a runner, which serves the pool from now on; in the store thread."""
        self.claimed.runner = runner
        self.last_reader, self._callbacks = runner.reader, runner.callbacks
        self.attached = runner

    def wake(self) -> None:
        """Have the runner look again, if there is one."""
        if self.attached is not None:
            self.attached.wake()

    def runner(self) -> Runner:
        """Return the runner, for what is asked for by hand.

        Raises:
            PoolClosed: the pool has come to its end.
            StoreUnusable: the store cannot be opened.
        """
        if self.attached is None and self.core.state.closed_because is not None:
            raise PoolClosed(
                f"pool {self.name} is closed. What it has stored can be seen without a pool: "
                f"oddjob.operations.StoreOperations({self.url!r}).pool({self.name!r})"
            )
        return self.open()

    # Functions.

    def register(self, fn: Callable[..., Any], policy: JobPolicy, outer: JobPolicy) -> None:
        """Run jobs of a decorated function under its policy; `outer` is the pool's or view's."""
        try:
            name = name_of(fn)
        except TypeError:  # it has no name that others could use: its jobs will be refused
            return
        note_decorated(name, fn)
        self.submissions.note_policy(name, policy, outer)
        self.claimed.forget_policies()
        self.learn(name, fn)
        self.wake()

    def learn(self, function: str, fn: Any) -> None:
        """Run jobs of a function once its module is defined, if the pool runs jobs at all."""
        if self.consumes:
            self.functions.setdefault(function, fn)

    def is_ready(self, function: str) -> bool:
        """Return whether a function can be called: its module has been executed to its end."""
        return self.functions[function] is True or is_defined(function)

    def look_for(self, function: str) -> bool:
        """Learn a function if this process has imported its module; return whether it has."""
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
        self.core.state.check_open()
        if inline.is_on():
            for job in jobs:
                inline.run_inline(self.core, job)
                self.live.note_inline(job)
            return
        if refused := self._store_what_fits(jobs):
            self.full_queue.answer(refused)

    async def accept_in_loop(self, job: Job[Any]) -> None:
        """Store a job without blocking the event loop; raises like `accept_many`."""
        if policy_of(job).settings.connection is not None:  # of this very thread
            return self.accept(job)
        return await submit_in_loop(self.accept, job)

    def _store_what_fits(self, jobs: Sequence[Job[Any]]) -> list[Job[Any]]:
        """Store jobs; return those for which there is no room."""
        submitted = self.submit(jobs)
        return [job for job, answer in zip(jobs, submitted, strict=True) if answer.id is None]

    def submit(self, jobs: Sequence[Job[Any]], delay: float | None = None) -> Sequence[Submitted]:
        """Store jobs, due in `delay` seconds; the answers without an id found no room."""
        if not jobs:
            return ()
        submits = self.note_known(self.submissions.submits_of(jobs, delay))
        handles = [self.handle_of(job, is_delayed=bool(delay)) for job in jobs]
        if (connection := policy_of(jobs[0]).settings.connection) is not None:
            return self.insert_into(connection().connection, submits, handles)
        runner = self.open()
        if not self.consumes and not any(handles):  # else the same turn may claim them
            stored = runner.store.submit_directly(submits)
            if stored is not None:
                return stored
        try:
            return runner.submit(submits, handles)
        except RunnerOver:  # the pool was closed meanwhile
            self.core.state.check_open()
            raise

    def note_known(self, submits: Iterable[Submit]) -> list[Submit]:
        """Return submits; the pool knows their functions from now on."""
        found = list(submits)
        if self.consumes:
            for submit in found:
                self.functions[submit.partition.function] = True
        return found

    def handle_of(self, job: Job[Any], *, is_delayed: bool = False) -> JobHandle | None:
        """Return a handle for a job that its caller waits for."""
        return None if policy_of(job).is_detached else JobHandle(self, job, is_delayed=is_delayed)

    def accept_whole(self, jobs: Sequence[Job[Any]]) -> None:
        """Store jobs of this and other pools in one commit; see `submit_whole`."""
        submit_whole(jobs)

    def check_connection(self, connection: Any) -> None:
        """Raise `TypeError` or `ValueError` if a user's connection is not one to the store."""
        self.open().store.check_connection(connection)

    def insert_into(
        self,
        connection: Any,
        submits: Sequence[Submit],
        handles: Sequence[JobHandle | None],
    ) -> Sequence[Submitted]:
        """Store jobs in a user's transaction, with which they may be rolled back.

        The store thread is woken to learn how it ends. It cannot write before, nor can others.
        """
        waiting = [handle for handle in handles if handle is not None]
        store = self.open().store
        submitted = store.insert_into(connection, submits, waiting)
        store.wake()
        for handle, answer in zip(handles, submitted, strict=True):
            if handle is not None:
                handle.stored(answer)
        return submitted

    def call(self, call: Callable[[Store], Any]) -> Any:
        """Have the store thread call something with the store, and return what it returns.

        Raises:
            PoolClosed, PoolBroken: the pool has let go of the store.
            StoreUnusable: the store cannot be used.
        """
        return self.ask(lambda runner: runner.call(call))

    def ask(self, ask: Callable[[Runner], Any]) -> Any:
        """Return what a call of the runner returns; raises as `call` does."""
        try:
            return ask(self.runner())
        except RunnerOver:  # the pool was closed meanwhile
            self.core.state.check_open()
            raise

    def is_shared(self, job: Job[Any]) -> bool:
        """Return whether others have submitted the job that this one stands for."""
        handle = self.handles.get(job)
        return handle is not None and handle.is_shared

    # What the runner asks for, in the store thread.

    def capacity(self) -> Capacity:
        """Return how many jobs the pool can take now."""
        is_broken = self.core.state.broken_by is not None
        size = 0 if self.hands_back or is_broken else self.core.workers.size
        return self.claimed.capacity(size)._replace(unknown_after=self.unknown_after)

    def start(self, claims: list[Claim]) -> None:
        """Have workers run what the turn has claimed, in this order; there may be nothing."""
        self._found_nothing = not claims
        self.claimed.start(claims)

    def fire(self, entry: Entry, now: float, store: Store) -> float:
        """Submit the jobs of a recurring entry that is due; see `RecurringEntries.fire`."""
        return inf if self._ending else self.entries.fire(entry, now, store)

    # The settlement of jobs that callers hold.

    @override
    def cancelled(self, job: Job[Any]) -> bool:
        handle, runner = self.handles.get(job), self.attached
        if handle is None or runner is None:
            return True  # it was not stored
        stored = handle.id
        if self.claimed.stop(stored):
            return True
        is_users = policy_of(job).settings.connection is not None
        if is_users and runner.reader.record(stored) is None:
            return False  # the store could not do that before the end of the transaction

        def cancel(store: Store) -> bool:
            store.cancel([stored])
            record = store.reader.record(stored)
            return record is None or record.state is State.CANCELLED

        is_cancelled = False  # if the pool has ended meanwhile, so has the job for its caller
        with suppress(RunnerOver):
            is_cancelled = runner.call(cancel)
        shared_state_of(job).cancel_requested |= not is_cancelled
        return is_cancelled

    # The end.

    def close(self, *, hands_back: bool) -> None:
        """Take no more jobs; finish those that there are, or hand them back."""
        self._ending = max(self._ending, _HANDING_BACK if hands_back else _FINISHING)
        runner = self.attached
        if runner is None:
            self._is_done.set()
            return
        if hands_back:
            self.claimed.close()
        runner.wake()

    def abandon(self) -> None:
        """Leave running jobs to other processes: this one ends without waiting for them."""
        if self.attached is not None:
            self.claimed.abandon()

    def break_down(self) -> None:
        """Hand back what has not begun; end the jobs that callers hold: the pool is broken."""
        self.claimed.hand_back()
        runner = self.attached
        for handle in list(self.handles.values()):
            if runner is not None and not handle.is_found:
                failure = self.core.state.breakdown()
                failure.add_note(f"job {handle.id} lives on in the store")
                runner.callbacks.run(partial(handle.leave, failure))

    def give_up(self) -> None:
        """End at once: what becomes of the claims cannot be stored."""
        self.claimed.drop_all()
        self.end_if_closing()

    def cancel_all(self) -> None:
        """Cancel the jobs that were submitted here and have not started, in one step."""
        runner = self.attached
        if runner is None:
            return
        report = runner.report

        def cancel(store: Store) -> None:
            mine = {each.id for each in self.handles.values() if not each.is_found}
            for claim in self.claimed.take_back():
                state = State.CANCELLED if claim.id in mine else State.QUEUED
                report(Update(claim, state))
                mine.discard(claim.id)
            store.cancel(mine - self.claimed.held.keys())

        try:
            runner.call(cancel)
        except RunnerOver:
            pass
        except StoreUnusable as error:
            what = "pool %s: queued jobs could not be cancelled, and live on in the store"
            log(logging.WARNING, what, self.name, error=error)

    @property
    def reader(self) -> StoreReader | None:
        """The half of the store that any thread may use; None if the pool has let go of it."""
        is_over = self.attached is None and not self.core.state.is_open
        return None if is_over else self.open().reader

    @property
    def is_busy(self) -> bool:
        """Whether something is under way between the pool and its store."""
        return self.attached is not None and self.attached.is_busy

    @property
    def is_closing(self) -> bool:
        """Whether it takes no new jobs."""
        return bool(self._ending)

    @property
    def hands_back(self) -> bool:
        """Whether it runs no more claims."""
        return self._ending == _HANDING_BACK

    @property
    def is_done(self) -> bool:
        """Whether the pool has nothing more to do with the store."""
        return self._is_done.is_set()

    def join(self, deadline: float) -> bool:
        """Wait until `is_done`, or `deadline` (steady seconds); return it. No wait in callbacks."""
        if self._callbacks is not None and self._callbacks.is_here:
            return self.is_done
        left = max(0.0, deadline - clock.steady())
        return self._is_done.wait(min(left, threading.TIMEOUT_MAX))

    def can_detach(self) -> bool:
        """Return whether the pool is closed, and has done what it was to do before its end."""
        if not self._ending or self.claimed.held:
            return False
        if self.hands_back or not self.consumes or self.core.state.broken_by is not None:
            return True
        handles = list(self.handles.values())  # other threads add some
        return self._found_nothing and all(each.is_delayed or each.is_found for each in handles)

    def detached(self) -> None:
        """Let go of the runner, which serves the pool no longer."""
        runner, self.attached = self.attached, None  # first: who hears of the end finds it so
        self._end(runner)

    def end_if_closing(self) -> None:
        """End before the runner can serve the pool to its end, which a store in trouble delays."""
        if self._ending and not self.is_done:
            self._ending = _HANDING_BACK
            self.claimed.close()
            self._end(self.attached, " if that comes back")

    def _end(self, runner: Runner | None, hope: str = "") -> None:
        if runner is None:
            return
        for handle in list(self.handles.values()):
            what = f"pool {self.name} was closed; job {handle.id} lives on in the store{hope}"
            runner.callbacks.run(partial(handle.leave, PoolClosed(what)))
        self.handles.clear()
        runner.callbacks.run(self._note_end)  # after all callbacks of its jobs

    def _note_end(self) -> None:
        self._is_done.set()
        self.core.supervisor.notify()
