"""Runner: the agent of this process in a store, for all pools that use it.

It has one thread, the *store thread*, which alone talks to the store. Other threads leave it
operations and reports, and it does all that has come in one turn of the store: whatever arrives
while one commit is under way is in the next one. It sleeps in the store's `wait`. It ends, and
leaves the store, when the last of its pools has come to its end.

Guarantees
  * `submit` returns when the jobs are committed. An outcome is announced when it is committed.
  * A report is made again until the store has taken it, whatever happens to the store meanwhile.
  * What is raised in the store thread is logged, and the thread goes on.

Why no wake-up of the store thread is lost: another thread (1) appends to a deque, (2) reads
``_is_asleep``. The store thread (a) sets ``_is_asleep``, (b) looks at the deques, (c) sleeps. If
(2) reads False, (a) comes later, and (b) sees what was appended. A wake-up that comes between (b)
and (c) ends the sleep at once. It is the same with progress and ``_wakes_for_progress``, which is
False as well while the store thread sleeps only until what it has seen in (b) may be stored.

Locking: ``_lock`` makes it one step to look whether the runner is over, and to leave it an
operation; nothing else happens under it. ``_opening`` is held while the store is opened: those who
wait for it need that very store. All other fields belong to the store thread.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from math import inf
from typing import Any, Final, NamedTuple

from oddjob.durable.callbacks import CallbackThread, guard
from oddjob.durable.consumer import Consumer, Handle
from oddjob.durable.due_alarm import DueAlarm
from oddjob.durable.progress import LatestProgress
from oddjob.durable.record import Capacity, Claim, State, Submit, Submitted, Turn, Update
from oddjob.durable.store import Evicted, OpenTransaction, Store, StoreReader
from oddjob.durable.suspect import SuspectGuard
from oddjob.errors import StoreFull, StoreUnusable
from oddjob.log import log
from oddjob.runtime.watchers import Progress
from oddjob.schedule.clock import clock

_FIRST_PAUSE: Final = 0.1  # seconds, after the store has failed
_LONGEST_PAUSE: Final = 60.0
_LAST_PAUSE: Final = 2.0  # at most, when the pools are closed: then what is left is given up
_PATIENCE: Final = 0.02  # seconds that a claim may wait for a worker while a peer is hungry
_IMPORT_PAUSE: Final = 0.05  # seconds, while a module that has jobs is being imported
_PURGE_AFTER: Final = 500  # jobs that have ended
_PURGED_AT_ONCE: Final = 500
_NO_RECORD: Final = "it ended while this process was taken for dead, and has left no record"
_PLACES: Final = 4096  # of jobs that run at once, for their marks


class RunnerOver(Exception):
    """The runner has ended since it was asked for: ask for another one."""


class Report(NamedTuple):
    """An update, and what to call when it is committed, or refused."""

    update: Update
    on_commit: Callable[[bool], object] | None = None


# The transaction of the job that is running, and its runner.
in_transaction: Final[ContextVar[tuple[Any, Any]]] = ContextVar("transaction", default=(None, None))


class _Operation:
    """Something that another thread has the store thread do, and waits for."""

    __slots__ = ("_done", "answer", "call", "error", "handles", "submits")

    def __init__(
        self,
        submits: Sequence[Submit] = (),
        handles: Sequence[Handle | None] = (),
        call: Callable[[Store], Any] | None = None,
    ) -> None:
        self.submits: Final = submits
        self.handles: Final = handles
        self.call: Final = call
        self.answer: Any = None
        self.error: BaseException | None = None
        self._done: Final = threading.Lock()
        self._done.acquire()

    def end(self, answer: Any = None, error: BaseException | None = None) -> None:
        """Let the thread that waits go on."""
        if self._done.locked():  # else it has been answered before something else went wrong
            self.answer, self.error = answer, error
            self._done.release()

    def wait(self) -> Any:
        """Return the answer, or raise the error."""
        self._done.acquire()
        if self.error is not None:
            raise self.error
        return self.answer


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
        self._store: Any = None  # the `Store`, once it is open
        self.is_over = False
        self.callbacks: Final = CallbackThread(f"oddjob-callbacks-{label}")
        self._operations: Final[deque[_Operation]] = deque()
        self._reports: Final[deque[Report]] = deque()
        self._progress: Final = LatestProgress()
        self._is_asleep = False
        self._wakes_for_progress = False
        self._is_woken = False  # there is to be another turn, which has not begun
        self._due: Final = DueAlarm(self.wake)
        self._consumers: dict[str, Consumer] = {}
        self._known: dict[str, set[str]] = {}  # functions that the store has been told of
        self._unknown: set[tuple[str, str]] = set()  # pools, and functions that they lack
        self._expected: dict[Any, list[Handle]] = {}  # by job: who waits for its end
        self._unwatched: set[Any] = set()  # those of which the store is to tell the end, once more
        self._has_served = False
        self._suspect: Final = SuspectGuard(self.hand_back)
        self._pause = 0.0  # seconds, while the store fails
        self._ended = 0  # jobs, since the last purge
        self._spare_since = inf  # monotonic seconds: since when there are claims without a worker
        self._has_hungry_peers = False
        self._is_importing = False
        self._is_to_look_again = False  # there is more to do than in the last turn
        self._is_evicted = False
        self._places: Final = list(range(_PLACES))  # that are free
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Open and join the store, and start the thread, if that has not been done.

        Raises:
            StoreUnusable: the store cannot be opened.
        """
        with self._opening:
            if self._thread is not None:
                return
            self._store = self._open_store()
            try:
                self._store.join({}, 0)
                self._thread = threading.Thread(
                    target=self._run, name=f"oddjob-store-{self._label}", daemon=True
                )
                self._thread.start()
            except BaseException:
                self._thread = None
                self._store.close()
                raise

    # For other threads.

    def submit(
        self, submits: Sequence[Submit], handles: Sequence[Handle | None] = ()
    ) -> list[Submitted]:
        """Store jobs; return when that is committed.

        Args:
            submits: the jobs, which are stored in one commit.
            handles: for each, what is to hear of its end; None: nothing.

        Raises:
            StoreFull, StoreUnusable: no job was stored.
            RunnerOver: no job was stored.
        """
        submitted: list[Submitted] = self._do(_Operation(submits, handles))
        return submitted

    def insert_into(
        self, connection: Any, submits: Sequence[Submit], handles: Sequence[Handle]
    ) -> list[Submitted]:
        """Store jobs in the transaction of a user's connection; see `Store.insert_into`.

        The store thread sees to the rest when that has ended, for which it waits: until then
        nobody else could write.
        """
        submitted: list[Submitted] = self._store.insert_into(connection, submits, handles)
        self._store.wake()
        return submitted

    def transaction(self, claim: Claim) -> OpenTransaction:
        """Return a transaction for a running job, in its thread."""
        transaction: OpenTransaction = self._store.transaction(claim)
        return transaction

    def committed(
        self, update: Update | None, transaction: OpenTransaction, forget: Callable[[], object]
    ) -> None:
        """Note that a job's own transaction has ended; do not wait.

        Args:
            update: the outcome that was committed, which is announced; None: the token was stale.
            transaction: of the job.
            forget: called first, in the store thread.
        """

        def announce(_store: Store) -> None:
            forget()
            if update is not None:
                guard(transaction.wake_peers)
                self._note_end(update)

        with self._lock:
            self._operations.append(_Operation(call=announce))
        self._wake_if_asleep()

    def check_connection(self, connection: Any) -> None:
        """Raise `TypeError` or `ValueError` if a user's connection is not one to this store."""
        self._store.check_connection(connection)

    def call(self, call: Callable[[Store], Any]) -> Any:
        """Have the store thread call something with the store, and return what it returns."""
        return self._do(_Operation(call=call))

    def report(self, update: Update, on_commit: Callable[[bool], object] | None = None) -> None:
        """Tell the store what has become of a claim; do not wait."""
        self._progress.discard(update.claim)
        self._reports.append(Report(update, on_commit))
        self._wake_if_asleep()

    def report_progress(self, claim: Claim, progress: Progress) -> None:
        """Tell the store how far a claim is, soon; a later report takes the place of this one.

        Raises:
            TypeError, ValueError: a number is none.
        """
        self._progress.put(claim, progress)
        if self._wakes_for_progress:
            self._store.wake()

    @property
    def reader(self) -> StoreReader:
        """The read-only half of the store."""
        reader: StoreReader = self._store.reader
        return reader

    def hand_back(self, claim: Claim) -> None:
        """Let another process, or this one later, run a claim that was not begun."""
        self.report(Update(claim, State.QUEUED))

    def expect(self, job: Any, handle: Handle) -> None:
        """Have a handle hear of the end of a job; only inside `call`."""
        self._expected.setdefault(job, []).append(handle)

    def handles_of(self, job: Any) -> Sequence[Handle]:
        """Return what waits for the end of a job; only inside `call`."""
        return self._expected.get(job, ())

    def let_go(self) -> None:
        """End if no pool uses the store; raise `RunnerOver` if that has happened."""

        def forget(_store: Store) -> None:
            self._has_served = True

        self.call(forget)

    def attach(self, consumer: Consumer) -> None:
        """Serve a pool, until that comes to its end; raise `RunnerOver` or `ValueError`."""

        def add(_store: Store) -> None:
            if consumer.name in self._consumers:
                raise ValueError(f"a pool {consumer.name!r} of this process uses {self._label}")
            self._consumers[consumer.name] = consumer
            self._has_served = True

        self.call(add)

    def wake(self) -> None:
        """Have the store thread look again: something about a pool has changed."""
        self._is_woken = True
        self._store.wake()

    @property
    def is_busy(self) -> bool:
        """Whether the store thread, or a callback, has something to do; for tests with a clock."""
        has_work = self._is_woken or self._operations or self._reports
        return bool(has_work) or not self._is_asleep or self.callbacks.is_busy

    def begin(self, claim: Claim) -> int:
        """Mark that a job has begun; return the place of the mark."""
        place = self._places.pop()
        self._store.marks.mark(place, claim)
        return place

    def end(self, place: int) -> None:
        """Remove the mark in a place, which is free then."""
        self.unmark(place)
        self._places.append(place)

    def unmark(self, place: int) -> None:
        """Remove the mark in a place."""
        self._store.marks.unmark(place)

    def _do(self, operation: _Operation) -> Any:
        if threading.current_thread() is self._thread:
            raise RuntimeError("the store thread cannot wait for itself")
        runner, transaction = in_transaction.get()
        if runner is self and transaction.is_open:
            raise RuntimeError(
                "the transaction of this job is open, and nobody else can write to the store until "
                "the job returns: submit jobs with pool.using(connection), or before it begins"
            )
        with self._lock:
            if self.is_over:
                raise RunnerOver
            self._operations.append(operation)
        self._wake_if_asleep()
        return operation.wait()

    def _wake_if_asleep(self) -> None:
        if self._is_asleep:
            self._store.wake()

    # The store thread.

    def _run(self) -> None:
        while True:
            try:
                if self._is_evicted:
                    self._join_again()
                self._sleep(self._take_turn())
            except Evicted:
                self._note_eviction()
            except (StoreFull, StoreUnusable) as error:
                self._survive(error)
            except BaseException as error:
                log(logging.ERROR, "the runner of %s failed", self._label, error=error)
                self._survive(error)
            if self._is_unused() and self._end_if_unused():
                return

    def _sleep(self, seconds: float | None) -> None:
        self._is_asleep = self._wakes_for_progress = True
        try:
            if self._operations or self._reports or self._detach_done() or self._is_unused():
                return
            left = self._progress.seconds_left()
            if left < inf:
                self._wakes_for_progress = False
                seconds = left if seconds is None else min(left, seconds)
            for process in self._store.wait(seconds):
                self._store.takeover(process)
        finally:
            self._is_asleep = self._wakes_for_progress = False

    def _is_unused(self) -> bool:
        return self._has_served and not (self._consumers or self._reports)

    def _end_if_unused(self) -> bool:
        """End, unless another thread has left an operation."""
        with self._lock:
            self.is_over = not self._operations
        if self.is_over:
            self.callbacks.close()
            self._due.set(inf)
            guard(self._store.leave)
            guard(self._store.close)
        return self.is_over

    def _detach_done(self) -> bool:
        """Let go of the pools that have come to their end; return whether there were any."""
        if self._reports:
            return False  # an outcome is committed before its pool ends
        done = [each for each in self._consumers.values() if each.has_come_to_its_end()]
        for consumer in done:
            del self._consumers[consumer.name]
            if self._known.pop(consumer.name, None) is not None:
                guard(self._store.forget, consumer.name)
            guard(consumer.detached)
        return bool(done)

    def _survive(self, error: BaseException) -> None:
        """Wait a little longer each time; what is to be told to the store stays in memory."""
        if not self._pause:
            what = "%s cannot be used at present, will go on trying: %s"
            log(logging.ERROR, what, self._label, error)
        self._pause = min(max(_FIRST_PAUSE, self._pause * 2), _LONGEST_PAUSE)
        if self._consumers and all(each.is_closing for each in self._consumers.values()):
            if self._pause > _LAST_PAUSE:  # nothing else keeps the process from its end
                what = "%s: %d outcomes could not be stored; these jobs will run again"
                log(logging.ERROR, what, self._label, len(self._reports))
                self._reports.clear()
                self._detach_done()
                return
            self._pause = min(self._pause, _LAST_PAUSE)
        self._is_asleep = True
        try:
            if not self._operations:
                self._store.wait(self._pause)
        finally:
            self._is_asleep = False

    def _note_success(self) -> None:
        if self._pause:
            self._pause = 0.0
            log(logging.WARNING, "%s can be used again", self._label)

    def _note_eviction(self) -> None:
        """Forget the claims: other processes have taken this one for dead."""
        self._is_evicted = True
        log(logging.ERROR, "%s: this process was taken for dead; its jobs run elsewhere",
            self._label)  # fmt: skip
        for consumer in self._consumers.values():
            consumer.drop_all()
        self._suspect.clear()
        self._known.clear()

    def _join_again(self) -> None:
        """Begin anew. What has ended meanwhile was left to the process that this one was before."""
        self._store.join({}, 0)
        self._is_evicted = False
        self._unwatched.update(self._expected)

    def _watch_again(self) -> None:
        while self._unwatched:
            job = next(iter(self._unwatched))
            record = self._store.watch(job)
            if record is None:
                self._announce(job, State.FAILED, None, f"JobLost: {_NO_RECORD}")
            elif record.state.has_ended:
                self._announce(job, record.state, record.outcome, record.error)
            self._unwatched.discard(job)

    def _take_turn(self) -> float | None:
        """Do everything that has come; return the seconds until there is more to do."""
        self._is_woken = False
        self._due.clear()
        operations = _drain(self._operations)
        self._is_to_look_again = False
        try:
            self._watch_again()
            for operation in [each for each in operations if each.call is not None]:
                operations.remove(operation)
                self._answer(operation)
            self._tell_functions()
            self._hand_back_spare()
            turn = self._commit(operations)
        except BaseException as error:
            for operation in operations:  # an eviction is none of their business
                if isinstance(error, Evicted):
                    self._operations.append(operation)
                else:
                    operation.end(error=error)
            raise
        self._note_success()
        look = self._next_look(turn)
        if look == 0:
            self._is_woken = True
        return look

    def _answer(self, operation: _Operation) -> None:
        assert operation.call is not None  # noqa: S101  (as its caller has found)
        try:
            operation.end(operation.call(self._store))
        except BaseException as error:
            operation.end(error=error)

    def _tell_functions(self) -> None:
        """Let the store know which functions the pools have come to know."""
        self._is_importing = False
        for name, consumer in self._consumers.items():
            for function in [each for pool, each in self._unknown if pool == name]:
                if consumer.look_for(function):  # it may have been imported meanwhile
                    self._unknown.discard((name, function))
            is_new = consumer.consumes and name not in self._known
            known = self._known.get(name, set())
            if not is_new and len(consumer.functions) == len(known):
                continue
            ready = [each for each in consumer.functions.copy()
                     if each not in known and consumer.is_ready(each)]  # fmt: skip
            if ready or is_new:
                self._store.learn(name, ready, 0)
                self._known[name] = known.union(ready)
            self._is_importing |= len(known) + len(ready) < len(consumer.functions)

    def _commit(self, operations: Iterable[_Operation]) -> Turn:
        """Take a turn with all reports and submits; with each submit by itself if they do not fit.

        So one that is too large does not take others with it, and none keeps outcomes out.
        """
        submits = [submit for each in operations for submit in each.submits]
        try:
            turn = self._turn(submits)
        except StoreFull:
            if not submits:
                raise
        else:
            self._accept(operations, turn)
            return turn
        turn = self._turn([])
        for operation in operations:
            try:
                turn = self._turn(operation.submits)
            except StoreFull as error:
                operation.end(error=error)
            else:
                self._accept([operation], turn)
        return turn

    def _turn(self, submits: Sequence[Submit]) -> Turn:
        capacity = {name: self._capacity(self._consumers[name]) for name in self._known}
        # Progress first: what follows may be the end of the same job.
        progress = [Report(each) for each in self._progress.take()]
        reports = progress + _drain(self._reports)
        try:
            turn = self._store.turn([each.update for each in reports], submits, capacity)
        except BaseException:
            self._reports.extendleft(reversed(reports))
            raise
        for handle, is_committed in turn.inserted:  # before anybody hears of their ends
            if is_committed:
                self.expect(handle.id, handle)
            else:
                guard(handle.rolled_back)
        claims = self._suspect.admit(turn.claims, self._consumers.values())
        for name, consumer in self._consumers.items():
            mine = [claim for claim in claims if claim.pool == name]
            if name in capacity:
                consumer.start(mine)
            if name not in turn.full:
                consumer.room_has_come()
        self._has_hungry_peers = turn.hungry_peers
        self._confirm(reports, turn)
        self._read(turn)
        return turn  # type: ignore[no-any-return]  # of a `Store`

    def _capacity(self, consumer: Consumer) -> Capacity:
        if self._suspect.is_there:  # nothing runs beside it, but what it waits for
            return Capacity(consumer.lent, consumer.lent)
        return consumer.capacity()

    def _accept(self, operations: Iterable[_Operation], turn: Turn) -> None:
        submitted = iter(turn.submitted)
        for operation in operations:
            answers = [next(submitted) for _ in operation.submits]
            for answer, handle in zip(answers, operation.handles, strict=False):
                if handle is not None and answer.id is not None:
                    handle.stored(answer.id)
                    self.expect(answer.id, handle)
            operation.end(answers)

    def _confirm(self, reports: list[Report], turn: Turn) -> None:
        refused = set(map(id, turn.refused))
        for update, on_commit in reports:
            is_accepted = id(update) not in refused
            if on_commit is not None:
                guard(on_commit, is_accepted)
            if update.state is not State.RUNNING:
                self._is_to_look_again |= self._suspect.settled(update.claim)
            if is_accepted and update.state.has_ended:
                self._note_end(update)

    def _note_end(self, update: Update) -> None:
        self._is_to_look_again |= self._suspect.settled(update.claim)
        self._ended += 1
        self._announce(update.claim.id, update.state, update.outcome, update.error)

    def _read(self, turn: Turn) -> None:
        for news in turn.news:
            if news.state is State.RUNNING:
                for consumer in self._consumers.values():
                    guard(consumer.stop, news.id)
            else:
                self._announce(*news)
        self._unknown.update(turn.unknown)
        self._is_to_look_again |= bool(turn.unknown)

    def _announce(self, job: Any, state: State, outcome: bytes | None, error: str | None) -> None:
        for handle in self._expected.pop(job, ()):
            guard(handle.ended, state, outcome, error)

    # Claims that no worker has begun.

    def _hand_back_spare(self) -> None:
        """Hand back claims that wait for a worker here while another process is hungry."""
        is_overdue = clock.monotonic() - self._spare_since >= _PATIENCE
        for consumer in self._consumers.values():
            if consumer.hands_back or (
                self._has_hungry_peers and is_overdue and consumer.capacity().has_spare
            ):
                for claim in consumer.take_back():
                    self.hand_back(claim)

    def _next_look(self, turn: Turn) -> float | None:
        if self._is_to_look_again:
            return 0.0
        look = self._due.set(inf if turn.next_look is None else turn.next_look)
        for entry in turn.entries:
            look = min(look, self._consumers[entry.lane.pool].fire(entry, turn.now, self._store))
        has_spare = any(each.capacity().has_spare for each in self._consumers.values())
        self._spare_since = min(self._spare_since, clock.monotonic()) if has_spare else inf
        if self._ended > _PURGE_AFTER and self._purge(turn.now):
            look = 0.0
        if has_spare and turn.hungry_peers:
            look = min(look, _PATIENCE)
        if self._is_importing:
            look = min(look, _IMPORT_PAUSE)
        return None if look == inf else look

    def _purge(self, now: float) -> bool:
        """Delete some old jobs; return whether there may be more."""
        purged = 0
        for consumer in self._consumers.values():
            before = now - consumer.keep_failed
            keep = consumer.keep_succeeded
            purged += self._store.purge(consumer.name, keep, before, _PURGED_AT_ONCE)
        if not purged:
            self._ended = 0
        return bool(purged)


def _drain(items: deque[Any]) -> list[Any]:
    """Take what is in a deque now; what is appended meanwhile may stay."""
    return [items.popleft() for _ in range(len(items))]
