"""PoolStore: connects one pool to its store, from the first submit to the end of the pool.

Two `Job` objects stand for one stored job, even within one process: the caller's, which a
`JobHandle` settles when the outcome is committed, in whatever process the job ran; and the one that
workers run, which `ClaimedJobs` makes for each claim.

How a pool ends. *Finishing* (``shutdown``): it runs jobs until its own have ended, and there is
nothing more to claim. *Handing back* (``drain``, the end of the process): it begins no more jobs,
and hands its claims back, for other processes to run. Jobs that callers still hold then end with
`PoolClosed`, and live on in the store.

Locking: no lock. Each change of a dict is one operation, and `Runner.attach` may be called twice.
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

# Whether a command imports a program. Pools made meanwhile run no jobs until `consumes` is set.
holds_pools: Final = ContextVar("holds_pools", default=False)


class PoolStore(MemorySettlement):
    """What connects one pool to a runner.

    It is also the settlement of the jobs that callers hold. Those that are not stored (in inline
    mode, or with ``when_full="caller_runs"``) run themselves, and are settled in memory.
    """

    def __init__(self, core: "PoolCore", name: str, url: str) -> None:
        super().__init__(core.retry)
        self.name: Final = check_text("a pool's name", name)
        self.keep_succeeded: int = core.options.keep_succeeded
        self.keep_failed: float = core.options.keep_failed
        self.keep_bytes: float = core.options.keep_bytes
        self.consumes: bool = core.options.consume and not holds_pools.get()
        self.unknown_after: float = core.options.unknown_after
        self.functions: dict[str, Any] = {}  # that it runs, by name; True: its module is complete
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
        self.last_reader: StoreReader | None = None  # the runner's, also after the pool's end
        self.handles: dict[Job[Any], JobHandle] = {}  # of stored jobs that have not ended
        self._callbacks: CallbackThread | None = None
        self._found_nothing = False  # whether the latest turn claimed nothing
        self.full_queue: FullQueue = FullQueue(self.core, self._store_what_fits)
        self.lending: Lending = Lending(self.core, self.wake)
        self._is_done = threading.Event()
        if self._ending:
            self._is_done.set()

    def reset_after_fork(self) -> None:
        """Drop what belongs to the parent; what was decorated or declared stays."""
        self.claimed.reset_after_fork()
        for job in self.handles:
            set_due(job, -inf)  # so that a scheduled job, too, is older than the fork
        self._begin()

    def open(self) -> Runner:
        """Return the runner; attach the pool to it first, if need be.

        Raises:
            StoreUnusable: the store cannot be opened.
        """
        while (runner := self.attached) is None:
            with suppress(RunnerOver):  # then the next one is asked
                runner_of(self.url).attach(self)
        return runner

    def attach_to(self, runner: Runner) -> None:
        """Note that a runner serves the pool from now on; in the store thread."""
        self.claimed.runner = runner
        self.last_reader, self._callbacks = runner.reader, runner.callbacks
        self.attached = runner

    def wake(self) -> None:
        """Make the runner take a turn, if the pool is attached."""
        if self.attached is not None:
            self.attached.wake()

    def runner(self) -> Runner:
        """Return the runner, for a request of a user.

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
        except TypeError:  # no other process could find it: its jobs will be refused
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
        """Store jobs in one commit; if the queue is full, the rest as room appears.

        Raises:
            PoolClosed, PoolBroken, QueueFull: as for jobs in memory.
            StoreFull, StoreUnusable: as `Store.turn` raises them, for the jobs of one commit.
            TypeError: a function or its arguments cannot be stored.
        """
        self.core.state.check_open()
        if inline.is_on():
            for job in jobs:
                inline.run_inline(self.core, job)
            return
        if refused := self._store_what_fits(jobs):
            self.full_queue.answer(refused)

    async def accept_in_loop(self, job: Job[Any]) -> None:
        """Store a job without blocking the event loop; raises like `accept_many`."""
        if policy_of(job).settings.connection is not None:  # only this thread may use it
            return self.accept(job)
        return await submit_in_loop(self.accept, job)

    def _store_what_fits(self, jobs: Sequence[Job[Any]]) -> list[Job[Any]]:
        """Store jobs; return those for which there is no room."""
        submitted = self.submit(jobs)
        return [job for job, answer in zip(jobs, submitted, strict=True) if answer.id is None]

    def submit(self, jobs: Sequence[Job[Any]], delay: float | None = None) -> Sequence[Submitted]:
        """Store jobs, due in `delay` seconds; where an answer has no id, there was no room."""
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
        """Return submits as a list; note that the pool knows their functions."""
        found = list(submits)
        if self.consumes:
            for submit in found:
                self.functions[submit.partition.function] = True
        return found

    def handle_of(self, job: Job[Any], *, is_delayed: bool = False) -> JobHandle | None:
        """Return a handle for a job; None if nobody waits for its end."""
        return None if policy_of(job).is_detached else JobHandle(self, job, is_delayed=is_delayed)

    def accept_whole(self, jobs: Sequence[Job[Any]]) -> None:
        """Store jobs of this and other pools in one commit; see `submit_whole`."""
        submit_whole(jobs)

    def check_connection(self, connection: Any) -> None:
        """Raise `TypeError` or `ValueError` if a user's connection is not to this store."""
        self.open().store.check_connection(connection)

    def insert_into(
        self,
        connection: Any,
        submits: Sequence[Submit],
        handles: Sequence[JobHandle | None],
    ) -> Sequence[Submitted]:
        """Store jobs in a user's transaction.

        The store thread is woken. Its next turn waits until the transaction has ended.
        """
        waiting = [handle for handle in handles if handle is not None]
        store = self.open().store
        submitted = store.insert_into(connection, submits, waiting)
        store.wake()
        for handle, answer in zip(handles, submitted, strict=True):
            if handle is not None:
                handle.note_stored(answer)
        return submitted

    def call(self, call: Callable[[Store], Any]) -> Any:
        """Pass the store to a function, in the store thread; return the function's result.

        Raises:
            PoolClosed, PoolBroken: the pool is detached from the store.
            StoreUnusable: the store cannot be used.
        """
        return self.ask(lambda runner: runner.call(call))

    def ask(self, ask: Callable[[Runner], Any]) -> Any:
        """Pass the runner to a function; return the function's result. Raises as `call` does."""
        try:
            return ask(self.runner())
        except RunnerOver:  # the pool was closed meanwhile
            self.core.state.check_open()
            raise

    def is_shared(self, job: Job[Any]) -> bool:
        """Return whether the stored job of this one has other submitters."""
        handle = self.handles.get(job)
        return handle is not None and handle.is_shared

    # What the runner asks for, in the store thread.

    def capacity(self) -> Capacity:
        """Return how many jobs the pool can take now."""
        is_broken = self.core.state.broken_by is not None
        size = 0 if self.hands_back or is_broken else self.core.workers.size
        return self.claimed.capacity(size)._replace(unknown_after=self.unknown_after)

    def start(self, claims: list[Claim]) -> None:
        """Queue the claims of a turn, which may be none, for the workers, in this order."""
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
        is_in_transaction = policy_of(job).settings.connection is not None
        if is_in_transaction and runner.reader.record(stored) is None:
            return False  # the user's transaction is open, and the store would wait for its end

        def cancel(store: Store) -> bool:
            store.cancel([stored])
            record = store.reader.record(stored)
            return record is None or record.state is State.CANCELLED

        is_cancelled = False
        with suppress(RunnerOver):  # the pool has ended, which ended the job for its caller
            is_cancelled = runner.call(cancel)
        shared_state_of(job).cancel_requested |= not is_cancelled
        return is_cancelled

    # The end.

    def close(self, *, hands_back: bool) -> None:
        """Take no more jobs; finish those at hand, or hand them back."""
        self._ending = max(self._ending, _HANDING_BACK if hands_back else _FINISHING)
        runner = self.attached
        if runner is None:
            self._is_done.set()
            return
        if hands_back:
            self.claimed.close()
        runner.wake()

    def abandon(self) -> None:
        """Leave running jobs to other processes, without a crash: this process ends now."""
        if self.attached is not None:
            self.claimed.abandon()

    def break_down(self) -> None:
        """Hand back claims, and end the jobs that callers hold, as the pool is broken."""
        self.claimed.hand_back()
        runner = self.attached
        for handle in list(self.handles.values()):
            if runner is not None and not handle.is_found:
                failure = self.core.state.breakdown()
                failure.add_note(f"job {handle.id} lives on in the store")
                runner.callbacks.run(partial(handle.fail_locally, failure))

    def give_up(self) -> None:
        """End at once: the outcomes of the claims cannot be stored."""
        self.claimed.drop_all()
        self.end_if_closing()

    def cancel_all(self) -> None:
        """Cancel the jobs that were submitted here and have not begun, in one step."""
        runner = self.attached
        if runner is None:
            return
        report = runner.report

        def cancel(store: Store) -> None:
            own = {each.id for each in self.handles.values() if not each.is_found}
            for claim in self.claimed.take_back():
                state = State.CANCELLED if claim.id in own else State.QUEUED
                report(Update(claim, state))
                own.discard(claim.id)
            store.cancel(own - self.claimed.held.keys())

        try:
            runner.call(cancel)
        except RunnerOver:
            pass
        except StoreUnusable as error:
            what = "pool %s: queued jobs could not be cancelled, and live on in the store"
            log(logging.WARNING, what, self.name, error=error)

    @property
    def reader(self) -> StoreReader | None:
        """The half of the store that any thread may use; None after the end of the pool."""
        is_over = self.attached is None and not self.core.state.is_open
        return None if is_over else self.open().reader

    @property
    def is_busy(self) -> bool:
        """Whether the pool's runner has something to do; for tests with a clock."""
        return self.attached is not None and self.attached.is_busy

    @property
    def is_closing(self) -> bool:
        """Whether it takes no new jobs."""
        return bool(self._ending)

    @property
    def hands_back(self) -> bool:
        """Whether it begins no more claims."""
        return self._ending == _HANDING_BACK

    @property
    def is_done(self) -> bool:
        """Whether the pool has nothing more to do with the store."""
        return self._is_done.is_set()

    def join(self, deadline: float) -> bool:
        """Wait until `is_done`, or until `deadline` (steady seconds); return `is_done`."""
        if self._callbacks is not None and self._callbacks.is_here:
            return self.is_done  # the end is announced by the thread that would wait for it
        left = max(0.0, deadline - clock.steady())
        return self._is_done.wait(min(left, threading.TIMEOUT_MAX))

    def can_detach(self) -> bool:
        """Return whether the pool is closing, and has nothing left to do before its end."""
        if not self._ending or self.claimed.held:
            return False
        if self.hands_back or not self.consumes or self.core.state.broken_by is not None:
            return True
        handles = list(self.handles.values())  # other threads add some
        return self._found_nothing and all(each.is_delayed or each.is_found for each in handles)

    def detached(self) -> None:
        """Note that the runner does not serve the pool any more, and end."""
        runner, self.attached = self.attached, None  # before `_end` tells anybody
        self._end(runner)

    def end_if_closing(self) -> None:
        """End a closing pool at once, as its store is in trouble; the runner detaches it later."""
        if self._ending and not self.is_done:
            self._ending = _HANDING_BACK
            self.claimed.close()
            self._end(self.attached, " if that comes back")

    def _end(self, runner: Runner | None, hope: str = "") -> None:
        if runner is None:
            return
        for handle in list(self.handles.values()):
            what = f"pool {self.name} was closed; job {handle.id} lives on in the store{hope}"
            runner.callbacks.run(partial(handle.fail_locally, PoolClosed(what)))
        self.handles.clear()
        runner.callbacks.run(self._note_end)  # after all callbacks of its jobs

    def _note_end(self) -> None:
        self._is_done.set()
        self.core.supervisor.notify()
