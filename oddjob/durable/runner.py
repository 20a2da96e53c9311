"""Runner: the agent of this process in a store, for all pools that use it.

It has one thread, the *store thread*, which alone talks to the store. Other threads leave it
operations and reports, and it does all that has come in one turn of the store: whatever arrives
while one commit is under way is in the next one. It sleeps in the store's `wait`.

Guarantees
  * `submit` returns when the jobs are committed. An outcome is announced when it is committed.
  * A report is made again until the store has taken it, whatever happens to the store meanwhile.
  * What is raised in the store thread is logged, and the thread goes on.

Why no wake-up of the store thread is lost: another thread (1) appends to a deque, (2) reads
``_is_asleep``. The store thread (a) sets ``_is_asleep``, (b) looks at the deques, (c) sleeps. If
(2) reads False, (a) comes later, and (b) sees what was appended. A wake-up that comes between (b)
and (c) ends the sleep at once.

Locking: none. Deques are appended to by any thread; all else belongs to the store thread.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Any, Final, NamedTuple, Protocol

from oddjob.durable.record import Capacity, Claim, News, State, Submit, Submitted, Turn, Update
from oddjob.durable.store import Evicted, Store, StoreFull, StoreUnusable
from oddjob.log import log
from oddjob.schedule.clock import clock

_FIRST_PAUSE: Final = 0.1  # seconds, after the store has failed
_LONGEST_PAUSE: Final = 60.0
_PATIENCE: Final = 0.02  # seconds that a claim may wait for a worker while a peer is hungry
_PURGE_AFTER: Final = 500  # jobs that have ended
_PURGED_AT_ONCE: Final = 500

OnEnd = Callable[[State, bytes | None, str | None], object]  # outcome and error of a job


class Consumer(Protocol):
    """A pool, as its runner sees it. The store thread calls everything here; nothing may block."""

    name: str
    keep_succeeded: int
    keep_failed: float  # seconds

    def functions(self) -> Iterable[str]:
        """Return the names of the functions that the pool knows; none if it does not consume."""
        ...

    def capacity(self) -> Capacity:
        """Return how many jobs the pool can take now."""
        ...

    def start(self, claims: list[Claim]) -> None:
        """Have workers run these jobs, in this order."""

    def take_back(self) -> list[Claim]:
        """Return claims that no worker has begun, and forget them."""
        ...

    def stop(self, job: Any) -> None:
        """Ask a running job to stop."""

    def drop_all(self) -> None:
        """Forget all claims: another process has them. Running jobs are asked to stop."""

    def fire(self, turn: Turn) -> None:
        """Submit what recurring entries are due."""


class Report(NamedTuple):
    """An update, and whom to tell when it is committed: True, or False if it was refused."""

    update: Update
    on_commit: Callable[[bool], object]


class _Operation:
    """Something that another thread has the store thread do, and waits for."""

    __slots__ = ("_done", "answer", "call", "error", "on_end", "submits")

    def __init__(
        self,
        submits: Sequence[Submit] = (),
        on_end: Sequence[OnEnd | None] = (),
        call: Callable[[Store], Any] | None = None,
    ) -> None:
        self.submits: Final = submits
        self.on_end: Final = on_end
        self.call: Final = call
        self.answer: Any = None
        self.error: BaseException | None = None
        self._done: Final = threading.Lock()
        self._done.acquire()

    def end(self, answer: Any = None, error: BaseException | None = None) -> None:
        """Let the thread that waits go on."""
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

    Thread safety: `submit`, `report`, `call`, `expect`, `wake`, `attach` and `close` may be called
    from any thread.
    """

    def __init__(self, store: Store, label: str) -> None:
        self._store: Final = store
        self._label: Final = label  # of the store, for logs
        self._operations: Final[deque[_Operation]] = deque()
        self._reports: Final[deque[Report]] = deque()
        self._is_asleep = False
        self._consumers: dict[str, Consumer] = {}
        self._known: dict[str, frozenset[str]] = {}  # functions that the store has been told of
        self._expected: dict[Any, list[OnEnd]] = {}  # by job: who waits for its end
        self._pause = 0.0  # seconds, while the store fails
        self._ended = 0  # jobs, since the last purge
        self._spare_since = inf  # monotonic seconds: since when there are claims without a worker
        self._has_hungry_peers = False
        self._is_closing = False
        self._thread: Final = threading.Thread(
            target=self._run, name=f"oddjob-store-{label}", daemon=True
        )

    def start(self) -> None:
        """Join the store and start the thread; raise what joining raises."""
        self._store.join({}, 0)
        self._thread.start()

    # For other threads.

    def submit(
        self, submits: Sequence[Submit], on_end: Sequence[OnEnd | None] = ()
    ) -> list[Submitted]:
        """Store jobs; return when that is committed.

        Args:
            submits: the jobs, which are stored in one commit.
            on_end: for each, what to call in the store thread when it has ended; None: nothing.

        Raises:
            StoreFull, StoreUnusable: no job was stored.
        """
        submitted: list[Submitted] = self._do(_Operation(submits, on_end))
        return submitted

    def call(self, call: Callable[[Store], Any]) -> Any:
        """Have the store thread call something with the store, and return what it returns."""
        return self._do(_Operation(call=call))

    def report(self, update: Update, on_commit: Callable[[bool], object]) -> None:
        """Tell the store what has become of a claim; do not wait."""
        self._reports.append(Report(update, on_commit))
        self._wake_if_asleep()

    def expect(self, job: Any, on_end: OnEnd) -> None:
        """Have `on_end` called when a job ends; only inside `call`."""
        self._expected.setdefault(job, []).append(on_end)

    def attach(self, consumer: Consumer) -> None:
        """Serve a pool from now on."""
        self.call(lambda _: self._consumers.update({consumer.name: consumer}))

    def detach(self, consumer: Consumer) -> None:
        """Serve a pool no longer; it has handed back its claims."""
        self.call(lambda _: self._consumers.pop(consumer.name, None))

    def wake(self) -> None:
        """Have the store thread look again: a pool can take more jobs, or fewer."""
        self._store.wake()

    def close(self, timeout: float | None = None) -> bool:
        """Make the reports that are left, leave the store, and end; return whether that is done."""
        self._is_closing = True
        self._store.wake()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _do(self, operation: _Operation) -> Any:
        if threading.current_thread() is self._thread:
            raise RuntimeError("the store thread cannot wait for itself: a callback has called it")
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
                if self._is_closing and not self._operations and not self._reports:
                    self._store.leave()
                    return
                self._sleep(self._take_turn())
            except Evicted:
                self._join_again()
            except (StoreFull, StoreUnusable) as error:
                self._survive(error)
            except BaseException as error:
                log(logging.ERROR, "the runner of %s failed", self._label, error=error)
                self._survive(error)

    def _sleep(self, seconds: float | None) -> None:
        self._is_asleep = True
        try:
            if self._operations or self._reports or self._is_closing:
                return
            for process in self._store.wait(seconds):
                self._store.takeover(process)
        finally:
            self._is_asleep = False

    def _survive(self, error: BaseException) -> None:
        """Wait a little longer each time; what is to be told to the store stays in memory."""
        if not self._pause:
            what = "%s cannot be used at present, will go on trying: %s"
            log(logging.ERROR, what, self._label, error)
        self._pause = min(max(_FIRST_PAUSE, self._pause * 2), _LONGEST_PAUSE)
        if self._is_closing:
            while self._operations:
                self._operations.popleft().end(error=error)
        self._is_asleep = True
        try:
            self._store.wait(self._pause)
        finally:
            self._is_asleep = False

    def _note_success(self) -> None:
        if self._pause:
            self._pause = 0.0
            log(logging.WARNING, "%s can be used again", self._label)

    def _join_again(self) -> None:
        """Begin anew after other processes have taken this one for dead."""
        log(logging.ERROR, "%s: this process was taken for dead; its jobs run elsewhere",
            self._label)  # fmt: skip
        for consumer in self._consumers.values():
            consumer.drop_all()
        self._known.clear()
        self._store.join({}, 0)

    def _take_turn(self) -> float | None:
        """Do everything that has come; return the seconds until there is more to do."""
        operations = _drain(self._operations)
        try:
            for operation in [each for each in operations if each.call is not None]:
                operations.remove(operation)
                self._answer(operation)
            self._tell_functions()
            self._hand_back()
            turn = self._commit(operations)
        except BaseException as error:
            for operation in operations:  # an eviction is none of their business
                if isinstance(error, Evicted):
                    self._operations.append(operation)
                else:
                    operation.end(error=error)
            raise
        self._note_success()
        self._read(turn)
        if turn.entries:
            for consumer in self._consumers.values():
                consumer.fire(turn)
            return 0.0
        return self._next_look(turn)

    def _answer(self, operation: _Operation) -> None:
        assert operation.call is not None
        try:
            operation.end(operation.call(self._store))
        except BaseException as error:
            operation.end(error=error)

    def _tell_functions(self) -> None:
        """Let the store know which functions the pools have come to know."""
        for name, consumer in self._consumers.items():
            functions = frozenset(consumer.functions())
            if functions - self._known.get(name, frozenset()):
                self._store.learn(name, functions, 0)
                self._known[name] = functions

    def _commit(self, operations: list[_Operation]) -> Turn:
        """Take a turn with all reports and submits; without the submits if these do not fit."""
        reports = _drain(self._reports)
        updates = [report.update for report in reports]
        try:
            submits = [submit for each in operations for submit in each.submits]
            turn = self._turn(updates, submits)
            self._accept(operations, turn)
        except StoreFull:
            turn = self._turn_without_submits(reports)
            for operation in operations:  # one that is too large does not take others with it
                try:
                    self._accept([operation], self._turn([], operation.submits))
                except StoreFull as error:
                    operation.end(error=error)
        except BaseException:
            self._reports.extendleft(reversed(reports))
            raise
        self._confirm(reports, turn)
        return turn

    def _turn_without_submits(self, reports: list[Report]) -> Turn:
        try:
            return self._turn([report.update for report in reports], [])
        except BaseException:
            self._reports.extendleft(reversed(reports))
            raise

    def _turn(self, updates: Sequence[Update], submits: Sequence[Submit]) -> Turn:
        capacity = {
            name: consumer.capacity()
            for name, consumer in self._consumers.items()
            if name in self._known
        }
        turn = self._store.turn(updates, submits, capacity)
        for name, consumer in self._consumers.items():
            claims = [claim for claim in turn.claims if claim.pool == name]
            if claims:
                consumer.start(claims)
        self._has_hungry_peers = turn.hungry_peers
        return turn

    def _accept(self, operations: Iterable[_Operation], turn: Turn) -> None:
        submitted = iter(turn.submitted)
        for operation in operations:
            answers = [next(submitted) for _ in operation.submits]
            for answer, on_end in zip(answers, operation.on_end, strict=False):
                if on_end is not None and answer.id is not None:
                    self.expect(answer.id, on_end)
            operation.end(answers)

    def _confirm(self, reports: list[Report], turn: Turn) -> None:
        refused = set(map(id, turn.refused))
        for update, on_commit in reports:
            is_accepted = id(update) not in refused
            if is_accepted and update.state.has_ended:
                self._ended += 1
            _guard(on_commit, is_accepted)
            if is_accepted and update.state.has_ended:
                self._announce(update.claim.id, update.state, update.outcome, update.error)

    def _read(self, turn: Turn) -> None:
        for news in turn.news:
            if news.state is State.RUNNING:
                for consumer in self._consumers.values():
                    _guard(consumer.stop, news.id)
            else:
                self._announce(*news)

    def _announce(self, job: Any, state: State, outcome: bytes | None, error: str | None) -> None:
        for on_end in self._expected.pop(job, ()):
            _guard(on_end, state, outcome, error)

    # Claims that no worker has begun.

    def _hand_back(self) -> None:
        """Hand back claims that wait for a worker here while another process is hungry."""
        for consumer in self._consumers.values():
            capacity = consumer.capacity()
            if not capacity.has_spare:
                continue
            is_draining = capacity.limit == 0 and self._is_closing
            if is_draining or (self._has_hungry_peers and self._is_overdue()):
                for claim in consumer.take_back():
                    self._reports.append(Report(Update(claim, State.QUEUED), _ignore))

    def _is_overdue(self) -> bool:
        return clock.monotonic() - self._spare_since >= _PATIENCE

    def _next_look(self, turn: Turn) -> float | None:
        has_spare = any(each.capacity().has_spare for each in self._consumers.values())
        self._spare_since = min(self._spare_since, clock.monotonic()) if has_spare else inf
        if self._ended > _PURGE_AFTER:
            return 0.0 if self._purge(turn.now) else turn.next_look
        if has_spare and turn.hungry_peers:
            return _PATIENCE if turn.next_look is None else min(_PATIENCE, turn.next_look)
        return turn.next_look

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


def _ignore(_: object) -> None:
    pass


def _guard(call: Callable[..., object], *args: object) -> None:
    """Call what belongs to others; log what it raises."""
    try:
        call(*args)
    except BaseException as error:
        log(logging.ERROR, "a callback of the store thread failed", error=error)


__all__ = ["Consumer", "News", "OnEnd", "Report", "Runner"]
