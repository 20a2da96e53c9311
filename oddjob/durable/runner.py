"""Runner: this process's agent in one store, for all pools that use it.

A runner has one thread, the *store thread*, which alone talks to the store, but for the few calls
that the store contract allows any thread. Other threads leave it *operations* (submits and calls,
for which they wait) and *reports* (what has become of claims; nobody waits). `Store.turn` takes all
that have come in one commit. Between turns the thread sleeps; it ends with the last of its pools.

Guarantees
  * `submit` returns when the jobs are committed. An outcome is announced when it is committed.
  * A report is repeated until the store has accepted it, whatever happens to the store meanwhile.
  * An exception in the store thread is logged, and the thread goes on.

Why the store thread misses no work: another thread (1) appends to a deque, (2) wakes the store
thread if ``_is_asleep``. The store thread (a) sets ``_is_asleep``, (b) looks at the deques, (c)
sleeps. If (2) reads False, (a) comes later, and (b) sees what was appended. A wake-up between (b)
and (c) ends the sleep at once. It is the same with progress and ``_wakes_for_progress``.

Locking: ``_lock`` guards `is_over`, and is held to append an operation: none is left to a runner
that has ended. ``_opening`` is held while the store opens. The store thread has all other fields.
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
from oddjob.durable.record import Capacity, Claim, State, Submit, Submitted, Turn, Update
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
        # These are there once the store is open. Other threads call what its contract allows them.
        self.store: Store
        self.reader: StoreReader
        self.marks: BegunMarks
        self.is_over: bool = False
        self.callbacks: Final = CallbackThread(f"oddjob-callbacks-{label}")
        self._operations: Final[deque[Operation]] = deque()
        self._reports: Final = Reports()
        self._is_asleep = self._wakes_for_progress = self._is_evicted = False
        self._is_woken = False  # another turn is due, and has not begun
        self._due: Final = DueAlarm(self.wake)
        self._pools: dict[str, PoolStore] = {}
        self._functions: Final = KnownFunctions()
        self.expected: Final = Expectations()  # for the store thread
        self._replaced: list[PoolStore] = []  # closing; others of the same name are in `_pools`
        self._may_end = False  # once no pool uses it: one has, or `let_go` was called
        self._letting_go: Final[list[threading.Event]] = []
        self._suspect: Final = SuspectGuard(self.hand_back)
        self._trouble: Final = Trouble(label)
        self._retention: Final = Retention()
        self._spare: Final = SpareClaims()
        self._is_to_look_again = False  # the latest turn has left something to do at once
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
            handles: of each job, the one that its end settles; None: there is none.

        Raises:
            StoreFull, StoreUnusable, RunnerOver: no job was stored.
        """
        return self._perform(Operation(submits, handles))  # type: ignore[no-any-return]

    def call(self, call: Callable[[Store], Any]) -> Any:
        """Have the store thread call something with the store; return what that returns."""
        return self._perform(Operation(call=call))

    def report(self, update: Update) -> None:
        """Tell the store what has become of a claim; do not wait."""
        self._reports.put(update)
        self._wake_if_asleep()

    def post(self, call: Callable[[Store], object]) -> None:
        """Have the store thread call something with the store; do not wait."""
        with self._lock:
            self._operations.append(Operation(call=call))
        self._wake_if_asleep()

    def report_progress(self, claim: Claim, progress: Progress) -> None:
        """Tell the store how far a claim is, soon; a later report takes the place of this one.

        Raises:
            TypeError, ValueError: what was reported is no number.
        """
        self._reports.progress.put(claim, progress)
        if self._wakes_for_progress:
            self.store.wake()

    def hand_back(self, claim: Claim) -> None:
        """Let another process, or this one later, run a claim that was not begun."""
        self.report(Update(claim, State.QUEUED))

    def let_go(self) -> None:
        """Wait until the store is closed, unless a pool uses it; raise `RunnerOver` if it was."""
        is_decided = threading.Event()

        def let_end(_store: Store) -> None:
            self._may_end = self._is_to_look_again = True
            self._letting_go.append(is_decided)

        self.call(let_end)
        is_decided.wait()

    def attach(self, pool: "PoolStore") -> None:
        """Serve a pool, until that comes to its end; raise `RunnerOver` or `ValueError`."""

        def add(_store: Store) -> None:
            former = self._pools.get(pool.name)
            if former is not None and former is not pool:  # else another thread was faster
                if not former.is_closing:
                    raise ValueError(f"a pool {pool.name!r} of this process uses {self._label}")
                former.close(hands_back=True)  # and it ends when what has begun is over
                self._replaced.append(former)
                self._functions.forget(pool.name)
            self._pools[pool.name] = pool
            self._may_end = True
            pool.attach_to(self)

        self.call(add)

    def wake(self) -> None:
        """Have the store thread look again: something about a pool has changed."""
        self._is_woken = True
        self.store.wake()

    @property
    def is_busy(self) -> bool:
        """Whether the store thread, or a callback, has something to do; for tests with a clock."""
        has_work = self._is_woken or self._operations or self._reports
        return bool(has_work) or not self._is_asleep or self.callbacks.is_busy

    def _perform(self, operation: Operation) -> Any:
        if threading.current_thread() is self._thread:
            raise RuntimeError("the store thread cannot wait for itself")
        check_no_transaction(self)
        with self._lock:
            if self.is_over:
                raise RunnerOver
            self._operations.append(operation)
        self._wake_if_asleep()
        return self._trouble.counted("call" if operation.call else "submit", operation.wait)

    def _wake_if_asleep(self) -> None:
        if self._is_asleep:
            self.store.wake()

    # The store thread.

    def _run(self) -> None:
        while True:
            try:
                if self._is_evicted:  # news of ends went to the process that it was
                    self.store.join({}, 0)
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
        """Do everything that has come; return the seconds until there is more to do, or inf."""
        self._is_woken = self._is_to_look_again = False
        self._due.clear()
        operations = drain(self._operations)
        try:
            # Calls first: nobody gives one again that was posted, if something else fails.
            for operation in [each for each in operations if each.call is not None]:
                self._answer(operation)
                operations.remove(operation)
            self.expected.tell_store(self.store)
            self._functions.tell_store(self.store, self._pools)
            self._spare.hand_back(self._pools.values())
            turn = self._turn(operations)
        except BaseException as error:
            for later in drain(self._operations):  # a submit has waited for the lock as well
                is_refused = isinstance(error, StoreUnusable) and later.call is None
                (operations if is_refused else self._operations).append(later)
            for operation in operations:
                if isinstance(error, Evicted):  # they are done after the next `join`
                    self._operations.append(operation)
                else:
                    operation.end(error=error)
            raise
        self._trouble.end()
        seconds = self._next_look(turn)
        self._is_woken |= seconds == 0
        return seconds

    def _answer(self, operation: Operation) -> None:
        try:
            operation.end(operation.call(self.store))  # type: ignore[misc]  # not None: see above
        except Evicted:  # it is done after the next `join`
            raise
        except BaseException as error:
            operation.end(error=error)

    def _turn(self, operations: list[Operation]) -> Turn:
        """Take one turn with all reports and submits, or one for each operation if that fails."""
        reports = self._reports.take()  # first: a worker that becomes free later counts as busy
        capacity = {name: self._capacity(self._pools[name]) for name in self._functions.pools()}
        submits = [submit for each in operations for submit in each.submits]
        try:
            turn = self.store.turn(reports, submits, capacity)
        except BaseException as error:
            self._reports.put_back(reports)
            if not operations or isinstance(error, StoreUnusable | Evicted):
                raise
            return self._take_apart(operations, error)
        for handle, is_committed in turn.inserted:  # before the news of their ends
            if is_committed:
                self.expected.add(handle.id, handle)
            else:
                guard(handle.rolled_back)
        claims = self._suspect.admit(turn.claims, self._pools.values())
        for name, pool in self._pools.items():
            if name in capacity:
                pool.start([claim for claim in claims if claim.pool == name])
            if name not in turn.full:
                pool.full_queue.wake()
        self._accept(operations, turn)  # first: what these wait for, or stand for, may end now
        self._confirm(reports, turn)
        self._read_news(turn)
        return turn

    def _take_apart(self, operations: list[Operation], error: BaseException) -> Turn:
        """Take a turn for each operation, so one that is too large or cannot be kept fails alone.

        One that failed by itself ends with its error, and outcomes are stored without it.
        """
        if len(operations) == 1:
            operations[0].end(error=error)
            return self._turn([])
        while len(operations) > 1:
            self._turn([operations[0]])
            del operations[0]  # it is not tried again if a later one meets an eviction
        return self._turn(operations)

    def _capacity(self, pool: "PoolStore") -> Capacity:
        if not self._suspect.is_there:
            return pool.capacity()
        # Where all jobs wait for others, these have to run: one at a time, beside the suspect.
        limit = int(0 < pool.lending.lent >= len(pool.claimed.held))
        return Capacity(limit, limit)

    def _accept(self, operations: list[Operation], turn: Turn) -> None:
        submitted = iter(turn.submitted)
        for operation in operations:
            answers = [next(submitted) for _ in operation.submits]
            for answer, handle in zip(answers, operation.handles, strict=False):
                if handle is not None and answer.id is not None:
                    handle.stored(answer)
                    self.expected.add(answer.id, handle)
            operation.end(answers, next((each.error for each in answers if each.error), None))

    def _confirm(self, reports: list[Update], turn: Turn) -> None:
        refused = set(map(id, turn.refused))
        for update in reports:
            if update.state.has_ended and id(update) not in refused:
                self.note_end(update)
            elif update.state is not State.RUNNING:
                self._is_to_look_again |= self._suspect.settled(update.claim)

    def note_end(self, update: Update) -> None:
        """Note that the end of a job is committed; in the store thread."""
        self._is_to_look_again |= self._suspect.settled(update.claim)
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
        self._is_to_look_again |= bool(turn.unknown) or turn.is_doubtful

    def _next_look(self, turn: Turn) -> float:
        if self._is_to_look_again:
            return 0.0
        look = self._due.set(inf if turn.next_look is None else turn.next_look)
        for each in turn.entries:
            look = min(look, self._pools[each.partition.pool].fire(each, turn.now, self.store))
        if self._retention.purge(self.store, self._pools.values(), turn.now):
            look = 0.0
        look = min(look, self._spare.next_look(self._pools.values(), turn))
        if self._functions.are_importing:
            look = min(look, _IMPORT_PAUSE)
        return look

    def _sleep(self, seconds: float) -> None:
        self._is_asleep = self._wakes_for_progress = True
        try:
            if self._operations or self._reports or self._detach_done() or self._is_unused():
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
        """Wait before the next try; operations and reports stay in memory meanwhile."""
        self._trouble.note(error)
        served = self._served() if self._trouble.is_long else []
        if served and all(each.is_closing for each in served):
            return self._give_up()  # they would keep the process from its end
        for pool in served:
            pool.end_if_closing()
        self._is_asleep = True
        try:
            if not self._operations:
                self._trouble.wait(self.store.wait)
        finally:
            self._is_asleep = False

    def _give_up(self) -> None:
        if count := self._reports.drop():
            what = "%s: outcomes could not be stored (%d): these jobs run again if it comes back"
            log(logging.ERROR, what, self._label, count)
        for pool in self._served():
            pool.give_up()
        self._detach_done()

    def _note_eviction(self) -> None:
        """Forget the claims: other processes have taken this one for dead."""
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
        if self._reports or self._is_to_look_again:
            return False  # outcomes are committed, and unknown functions looked for, before the end
        done = [each for each in self._served() if each.can_detach()]
        for pool in done:
            if pool in self._replaced:
                self._replaced.remove(pool)
                continue
            del self._pools[pool.name]
            if self._functions.forget(pool.name):
                guard_store(self.store.forget, pool.name)
        # First: when a pool has ended, the next one opens the store anew, and files may be removed.
        self._close_if_unused()
        for pool in done:
            guard(pool.detached)
        return bool(done)

    def _close_if_unused(self) -> bool:
        """Close the store, unless it is used, or has been left an operation; return whether."""
        if self._is_unused() and not self.is_over:
            with self._lock:
                self.is_over = not self._operations
            if self.is_over:
                self._due.set(inf)
                guard_store(self.store.leave)
                guard_store(self.store.close)
        while self._letting_go:
            self._letting_go.pop().set()
        return self.is_over
