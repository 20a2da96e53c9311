"""Runner: this process's agent in one store, for all pools that use it.

A runner has one thread, the *store thread*. It alone talks to the store, apart from the few calls
that the store contract allows any thread. Other threads leave it *operations* (calls and submits,
whose answers they wait for) and *reports* (updates of claims, for which nobody waits). `Store.turn`
stores all reports and submits in one commit. Between turns the store thread sleeps; it ends with
the last of its pools.

Guarantees
  * `submit` returns when the jobs are committed. An outcome is announced after its commit.
  * A report is given to the store again until the store accepts or refuses it.
  * An exception in the store thread is logged, and the thread goes on.

Why the store thread misses no work: another thread (1) appends to a deque, (2) wakes the store
thread if ``_is_asleep``. The store thread (a) sets ``_is_asleep``, (b) looks at the deques, (c)
sleeps. If (2) reads False, (a) comes later, and (b) sees what was appended. A wake-up between (b)
and (c) ends the sleep at once. The same holds for progress and ``_wakes_for_progress``.

Locking: ``_lock`` guards `is_over`. Other threads hold it to append an operation, so no operation
is left to a runner that has ended. ``_opening`` is held while the store opens. All other fields are
the store thread's.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, Final

from oddjob.durable.begun_marks import BegunMarks
from oddjob.durable.callbacks import CallbackThread, guard, guard_store
from oddjob.durable.due_alarm import DueAlarm
from oddjob.durable.expectations import Expectations
from oddjob.durable.known_functions import KnownFunctions
from oddjob.durable.operation import Operation, RunnerOver, check_no_transaction, drain
from oddjob.durable.record import Claim, State, Submit, Submitted, Turn, Update
from oddjob.durable.reports import Reports
from oddjob.durable.retention import Retention
from oddjob.durable.spare_claims import SpareClaims
from oddjob.durable.store import Evicted, Store, StoreReader
from oddjob.durable.suspect import SuspectGuard
from oddjob.durable.trouble import Trouble
from oddjob.errors import StoreFull, StoreUnusable
from oddjob.log import log
from oddjob.runtime import lifecycle
from oddjob.runtime.job_state import Progress
from oddjob.threads import ServiceThread

if TYPE_CHECKING:
    from oddjob.durable.job_handle import JobHandle
    from oddjob.durable.pool_store import PoolStore

_IMPORT_PAUSE: Final = 0.05  # seconds, while a module that has jobs is being imported


class Runner:
    """This process's agent in one store.

    Thread safety: `start`, `submit`, `report`, `report_progress`, `call`, `reader`, `wake`,
    `attach` and `let_go` are for any thread.
    """

    def __init__(self, open_store: Callable[[], Store], label: str) -> None:
        self._open_store: Final = open_store
        self._label: Final = label  # of the store, for logs
        self._opening: Final = threading.Lock()
        self._lock: Final = threading.RLock()  # of a thread whose signal handler submits, too
        # `start` sets these three. Other threads call only what the store contract allows them.
        self.store: Store
        self.reader: StoreReader
        self.marks: BegunMarks
        self.is_over: bool = False
        self.callbacks: Final = CallbackThread(f"oddjob-callbacks-{label}")
        self._calls: Final[deque[Operation]] = deque()
        self._submits: Final[deque[Operation]] = deque()
        self._reports: Final = Reports()
        self._is_asleep = self._wakes_for_progress = self._is_evicted = False
        self._is_woken = False  # another turn is due, and has not begun
        self._due: Final = DueAlarm(self.wake)
        self._pools: dict[str, PoolStore] = {}
        self._functions: Final = KnownFunctions()
        self.expected: Final = Expectations()  # for the store thread
        self._replaced: list[PoolStore] = []  # closing; their successors are in `_pools`
        self._may_end = False  # when no pool uses it; set by the first pool, or by `let_go`
        self._letting_go: Final[list[threading.Event]] = []
        self._suspect: Final = SuspectGuard(self.hand_back)
        self._trouble: Final = Trouble(label)
        self._retention: Final = Retention()
        self._spare: Final = SpareClaims()
        self._needs_turn = False  # the latest turn has left something to do at once
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Open and join the store, and start the thread, if need be; raise `StoreUnusable`."""
        with self._opening:
            if self._thread is not None:
                return
            self.store = self._open_store()
            self.reader, self.marks = self.store.reader, BegunMarks(self.store)
            try:
                self.store.join({}, 0)
                self._thread = ServiceThread(self._run, f"oddjob-store-{self._label}")
                self._thread.start()
            except BaseException:
                self._thread = None
                self.store.close()
                raise

    # For other threads.

    def submit(
        self, submits: Sequence[Submit], handles: Sequence["JobHandle | None"] = ()
    ) -> list[Submitted]:
        """Store jobs; return when that is committed.

        Args:
            submits: the jobs, which are stored in one commit.
            handles: for each job, the handle that its end settles; None: nobody waits for it.

        Raises:
            StoreFull, StoreUnusable, RunnerOver: no job was stored.
        """
        return self._perform("submit", self._submits, Operation(submits, handles))  # type: ignore[no-any-return]

    def call(self, call: Callable[[Store], Any]) -> Any:
        """Pass the store to a function, in the store thread; return the function's result."""
        return self._perform("call", self._calls, Operation(call=call))

    def post(self, call: Callable[[Store], object]) -> None:
        """Do as `call` does, without waiting for the result."""
        with self._lock:
            self._calls.append(Operation(call=call))
        self._wake_if_asleep()

    def report(self, update: Update) -> None:
        """Leave an update of a claim to the store thread, without waiting."""
        self._reports.put(update)
        self._wake_if_asleep()

    def report_progress(self, claim: Claim, progress: Progress) -> None:
        """Store the progress of a claim soon, unless the job reports newer progress before that.

        Raises:
            TypeError, ValueError: the progress is not a number.
        """
        self._reports.progress.put(claim, progress)
        if self._wakes_for_progress:
            self.store.wake()

    def hand_back(self, claim: Claim) -> None:
        """Return a claim that has not begun to the queue."""
        self.report(Update(claim, State.QUEUED))

    def let_go(self) -> None:
        """Wait until the store is closed, unless a pool uses it; raise `RunnerOver` if it was."""
        is_decided = threading.Event()

        def let_end(_store: Store) -> None:
            self._may_end = self._needs_turn = True
            self._letting_go.append(is_decided)

        self.call(let_end)
        is_decided.wait()

    def attach(self, pool: "PoolStore") -> None:
        """Serve a pool until it ends; raise `RunnerOver`, or `ValueError` if its name is taken."""

        def add(_store: Store) -> None:
            former = self._pools.get(pool.name)
            if former is not None and former is not pool:  # else another thread was faster
                if not former.is_closing:
                    raise ValueError(f"a pool {pool.name!r} of this process uses {self._label}")
                former.close(hands_back=True)  # it ends when its running jobs have ended
                self._replaced.append(former)
                self._functions.forget(pool.name)
            self._pools[pool.name] = pool
            self._may_end = True
            pool.attach_to(self)

        self.call(add)

    def wake(self) -> None:
        """Make the store thread take a turn: something about a pool has changed."""
        self._is_woken = True
        self.store.wake()

    @property
    def is_busy(self) -> bool:
        """Whether the store thread, or a callback, has something to do; for tests with a clock."""
        has_work = self._is_woken or self._has_operations or self._reports
        return bool(has_work) or not self._is_asleep or self.callbacks.is_busy

    @property
    def _has_operations(self) -> bool:
        return bool(self._calls or self._submits)

    def _perform(self, kind: str, queue: deque[Operation], operation: Operation) -> Any:
        if threading.current_thread() is self._thread:
            raise RuntimeError("the store thread cannot wait for itself")
        check_no_transaction(self)
        with self._lock:
            if self.is_over:
                raise RunnerOver
            queue.append(operation)
        self._wake_if_asleep()
        return self._trouble.counted(kind, operation.wait)

    def _wake_if_asleep(self) -> None:
        if self._is_asleep:
            self.store.wake()

    # The store thread.

    def _run(self) -> None:
        while True:
            try:
                if self._is_evicted:
                    self.store.join({}, 0)  # as a new process, which gets no news of the former one
                    self._is_evicted = False
                    self.expected.watch_again()
                self._sleep(self._take_turn())
            except Evicted:
                self._note_eviction()
            except (StoreFull, StoreUnusable) as error:
                self._survive(error)
            except BaseException as error:
                log(logging.ERROR, "the runner of %s failed", self._label, error=error)
                self._survive(error)
            if self._close_if_unused():
                return self.callbacks.close()

    def _take_turn(self) -> float:
        """Do all work that waits; return the seconds until the next turn is due, or inf."""
        self._is_woken = self._needs_turn = False
        self._due.clear()
        submits = drain(self._submits)
        try:
            self._answer_calls()  # first: nobody would repeat a posted call if a turn failed
            self.expected.tell_store(self.store)
            self._functions.tell_store(self.store, self._pools)
            self._spare.hand_back(self._pools.values())
            turn = self._turn(submits)
        except Evicted:
            self._submits.extendleft(reversed(submits))  # they are stored after the next `join`
            raise
        except BaseException as error:
            if isinstance(error, StoreUnusable):
                submits += drain(self._submits)  # these have waited for the database as long
            for each in submits:
                each.end(error=error)
            raise
        self._trouble.end()
        seconds = self._next_look(turn)
        self._is_woken |= seconds == 0
        return seconds

    def _answer_calls(self) -> None:
        for _ in range(len(self._calls)):
            operation = self._calls[0]
            try:
                operation.end(operation.call(self.store))  # type: ignore[misc]  # not None
            except Evicted:  # the call stays the first one, and is done after the next `join`
                raise
            except BaseException as error:
                operation.end(error=error)
            self._calls.popleft()

    def _turn(self, operations: list[Operation]) -> Turn:
        """Take one turn with all reports and submits, or one for each operation if that fails."""
        reports = self._reports.take()  # first: a worker that reports later counts as busy
        pools = {name: self._pools[name] for name in self._functions.pools()}
        capacity = {name: self._suspect.capacity_of(pool) for name, pool in pools.items()}
        submits = [submit for each in operations for submit in each.submits]
        try:
            turn = self.store.turn(reports, submits, capacity)
        except BaseException as error:
            self._reports.put_back(reports)
            if not operations or isinstance(error, StoreUnusable | Evicted):
                raise
            return self._take_apart(operations, error)
        for handle, is_committed in turn.inserted:  # before `_read_news`, which may tell their ends
            if is_committed:
                self.expected.add(handle.id, handle)
            else:
                guard(handle.note_rollback)
        claims = self._suspect.admit(turn.claims, self._pools.values())
        for name, pool in pools.items():
            pool.start([claim for claim in claims if claim.pool == name])
        for name, pool in self._pools.items():
            if name not in turn.full:
                pool.full_queue.wake()
        self._accept(operations, turn)  # before the next two, which may announce ends of these jobs
        self._confirm(reports, turn)
        self._read_news(turn)
        return turn

    def _take_apart(self, operations: list[Operation], error: BaseException) -> Turn:
        """Take a turn for each operation: the one that the store cannot keep fails alone.

        If there is only one, it ends with the error, and the reports are stored without it.
        """
        if len(operations) == 1:
            operations[0].end(error=error)
            return self._turn([])
        while len(operations) > 1:
            self._turn([operations[0]])
            del operations[0]  # it is stored: an eviction during a later one must not repeat it
        return self._turn(operations)

    def _accept(self, operations: list[Operation], turn: Turn) -> None:
        submitted = iter(turn.submitted)
        for operation in operations:
            answers = [next(submitted) for _ in operation.submits]
            for answer, handle in zip(answers, operation.handles, strict=False):
                if handle is not None and answer.id is not None:
                    handle.note_stored(answer)
                    self.expected.add(answer.id, handle)
            operation.end(answers, next((each.error for each in answers if each.error), None))

    def _confirm(self, reports: list[Update], turn: Turn) -> None:
        refused = set(map(id, turn.refused))
        for update in reports:
            if update.state.has_ended and id(update) not in refused:
                self.note_end(update)
            elif update.state is not State.RUNNING:
                self._needs_turn |= self._suspect.forget_if_suspect(update.claim)

    def note_end(self, update: Update) -> None:
        """Note that the end of a job is committed, and announce it; in the store thread."""
        self._needs_turn |= self._suspect.forget_if_suspect(update.claim)
        self._retention.note_end()
        self.expected.announce(update.claim.id, update.state, update.outcome, update.error)

    def _read_news(self, turn: Turn) -> None:
        for news in turn.news:
            if news.id is None:
                lifecycle.request_end(self._label)
            elif news.state is State.RUNNING:
                for pool in self._served():
                    guard(pool.claimed.stop, news.id)
            else:
                self.expected.announce(*news)
        if turn.is_doubtful:
            self.expected.watch_again()
        self._functions.note_unknown(turn.unknown)
        self._needs_turn |= bool(turn.unknown) or turn.is_doubtful

    def _next_look(self, turn: Turn) -> float:
        """Do what is due apart from jobs; return the seconds until the next turn is due, or inf."""
        if self._needs_turn:
            return 0.0
        seconds = self._due.set(inf if turn.next_look is None else turn.next_look)
        for entry in turn.entries:
            pool = self._pools[entry.partition.pool]
            seconds = min(seconds, pool.fire(entry, turn.now, self.store))
        if self._retention.purge(self.store, self._pools.values(), turn.now):
            seconds = 0.0
        seconds = min(seconds, self._spare.next_look(self._pools.values(), turn))
        return min(seconds, _IMPORT_PAUSE) if self._functions.wait_for_imports else seconds

    def _sleep(self, seconds: float) -> None:
        """Sleep, unless work waits; then put back the jobs of processes that have died."""
        self._is_asleep = self._wakes_for_progress = True
        try:
            if self._has_operations or self._reports:
                return
            if self._detach_done() or self._is_unused():
                return
            left = self._reports.progress.seconds_left()
            self._wakes_for_progress = left == inf
            seconds = min(left, seconds)
            for process in self.store.wait(None if seconds == inf else seconds):
                self.store.takeover(process)
        finally:
            self._is_asleep = self._wakes_for_progress = False

    # Trouble with the store.

    def _survive(self, error: BaseException) -> None:
        """Wait before the next turn; operations and reports stay in memory meanwhile."""
        self._trouble.note(error)
        served = self._served() if self._trouble.is_long else []
        if served and all(each.is_closing for each in served):
            return self._give_up()  # to wait longer would keep the process from its end
        for pool in served:
            pool.end_if_closing()
        self._is_asleep = True
        try:
            if not self._has_operations:
                self._trouble.wait(self.store.wait)
        finally:
            self._is_asleep = False

    def _give_up(self) -> None:
        """Drop the reports, and end the pools, which are all closing."""
        if count := self._reports.drop():
            what = "%s: outcomes could not be stored (%d): these jobs run again if it comes back"
            log(logging.ERROR, what, self._label, count)
        for pool in self._served():
            pool.give_up()
        self._detach_done()

    def _note_eviction(self) -> None:
        """Drop the claims, which other processes have taken over."""
        self._is_evicted = True
        log(logging.ERROR, "%s: this process was taken for dead; its jobs run elsewhere",
            self._label)  # fmt: skip
        for pool in self._served():
            pool.claimed.drop_all()
        self._suspect.clear()
        self._functions.clear()

    # The end.

    def _served(self) -> list["PoolStore"]:
        return [*self._pools.values(), *self._replaced]

    def _is_unused(self) -> bool:
        return self._may_end and not (self._pools or self._replaced or self._reports)

    def _detach_done(self) -> bool:
        """Detach the pools that have come to their end; return whether there were any."""
        if self._reports or self._needs_turn:
            return False  # first outcomes are committed, and unknown functions looked for
        done = [each for each in self._served() if each.can_detach()]
        for pool in done:
            if pool in self._replaced:
                self._replaced.remove(pool)
                continue
            del self._pools[pool.name]
            if self._functions.forget(pool.name):
                guard_store(self.store.forget, pool.name)
        self._close_if_unused()  # first: after `detached`, users may remove the files of the store
        for pool in done:
            guard(pool.detached)
        return bool(done)

    def _close_if_unused(self) -> bool:
        """Close the store if no pool uses it and no operation waits; return whether it is."""
        if self._is_unused() and not self.is_over:
            with self._lock:
                self.is_over = not self._has_operations
            if self.is_over:
                self._due.set(inf)
                guard_store(self.store.leave)
                guard_store(self.store.close)
        while self._letting_go:
            self._letting_go.pop().set()
        return self.is_over
