"""LimitedQueue: jobs that wait for more than a worker: priorities, keys, limits, retries.

The first job that needs it makes it, and it then replaces the FIFO queue of its pool. It is put
together from `ReadyOrder` (who is first), `KeyLines` (who may start of a key), `LimitGate` (which
limits are full, or too fast) and a heap of what becomes due (retries, limits that open).

Three dicts are the truth: the jobs that wait, those that are delayed until a time, and those that
hold something (a place of their key, tickets of limits). Two mailboxes hold what has come in since.
Everything else is an index, which `_rebuild` makes anew from the dicts. So an asynchronous
exception costs nothing: ``_is_torn`` stays set, and the next thread calls `_rebuild`. What moves a
job:

=====================  =========================================================================
a worker takes it      from the waiting to those that hold, if it has a key or limits
it is to be retried    to the delayed; a serial one goes on holding its place (`retry`)
its time has come      from the delayed to the waiting
it has ended           away from wherever it is (`take`, by its worker; else `forget`)
=====================  =========================================================================
"""

import sys
from _thread import allocate_lock, get_ident
from collections import deque
from collections.abc import Callable, Collection
from functools import partial, wraps
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any, Final

from oddjob.compat import TypeVar
from oddjob.runtime.fair_turns import FairTurns
from oddjob.runtime.job import Job
from oddjob.runtime.key_lines import KeyLines
from oddjob.runtime.limit_gate import NOTHING_TO_RELEASE, LimitGate, Obstacles, Tickets
from oddjob.runtime.limits import Limit
from oddjob.runtime.ready_order import ReadyOrder
from oddjob.runtime.slot import Slot
from oddjob.schedule.clock import clock

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore

T = TypeVar("T")


_HAS_GIL: Final = bool(getattr(sys, "_is_gil_enabled", lambda: True)())
_PATIENCE_WITHOUT_GIL: Final = 0.0005  # seconds; the owner of the lock runs meanwhile


def _locked(method: Callable[..., T]) -> Callable[..., T | None]:
    """Let a method run with the lock held, the mail read, and the time as its first argument.

    A destructor or signal handler may come here while its own thread holds the lock. It must not
    wait then, and gets None: the answer of each method when there is nothing to say, or to take.
    What it has to say itself it has written into the mailbox.
    """

    @wraps(method)
    def run(queue: "LimitedQueue", *args: Any) -> T | None:
        me = get_ident()
        if queue._owner == me:
            return None
        try:
            with queue._lock:
                queue._owner = me
                try:
                    now = clock.monotonic()
                    queue._catch_up(now)
                    result = method(queue, now, *args)
                    queue._is_torn = False
                    return result
                finally:
                    queue._owner = None
        finally:
            queue._dispatcher.wake_if_work()

    return run


class LimitedQueue:
    """The jobs of a pool that wait, and what those that run count against.

    Locking: ``_lock`` guards every field but the mailboxes, which are appended to without it: so
    `forget` and `retry` never wait, and may be called from signal handlers and destructors. The
    next thread that holds the lock reads them first. Under it nothing of the user's is called: keys
    are of classes that `check_key` trusts.

    A worker does not wait for the lock: under the GIL waiting workers would form a convoy, and
    change places at every job (a third of the throughput of full limits). It parks, and the owner
    wakes one when it has released the lock: the worker enters ``parked`` and then looks at the
    lock, the owner releases the lock and then looks at ``parked``; one of them sees the other.
    """

    def __init__(self, core: "PoolCore") -> None:
        # Mailboxes.
        self.inbox: Final[deque[Job[Any]]] = deque()  # new jobs
        # Jobs that have ended, and those to be retried with the time of that.
        self._mail: Final[deque[tuple[Job[Any], float | None]]] = deque()
        self._lock: Final = allocate_lock()
        self._owner: int | None = None  # the identifier of the thread that holds it
        self._try_lock: Final = (
            partial(self._lock.acquire, False)  # noqa: FBT003  (by keyword it takes twice as long)
            if _HAS_GIL
            else partial(self._lock.acquire, True, _PATIENCE_WITHOUT_GIL)  # noqa: FBT003
        )
        self._unlock: Final = self._lock.release
        self._next_number: Final = count().__next__
        # The truth.
        self._waiting: Final[dict[Job[Any], None]] = {}  # in the order of arrival
        self._delayed: Final[dict[Job[Any], float]] = {}  # until when
        # With their tickets. A serial job that is to be retried is in here and in one of the above.
        self._holding: Final[dict[Job[Any], Tickets]] = {}
        # True while the fields are changed; so, if no thread has the lock, that was interrupted.
        self._is_torn = False
        # Indexes.
        self._ready: Final = ReadyOrder(core.options.priority_aging)
        self._lines: Final = KeyLines(self._ready, self._waiting, self._holding)
        self._turns: FairTurns | None = None  # if a view or the pool has the option fair_by
        self._due: list[tuple[float, int, Job[Any] | Limit]] = []
        self.gate: Final = LimitGate(self._ready, self._waiting, self._schedule)
        self._dispatcher: Final = core.dispatcher  # wakes workers when the lock is free again
        self._parked: Final = core.dispatcher.parked
        self._alarm: Final = core.supervisor.wake  # it calls `tidy` at `_alarm_at`
        self._alarm_at = inf

    # For workers.

    def take(self, slot: Slot) -> Job[Any] | None:
        """Give back what the former job of a slot holds and return the job that may start now.

        It is in the slot before it leaves the queue. None: no job may start, or another thread has
        the lock, and will wake a worker. (A former job that is to be retried is in no slot.)
        """
        former, now = slot.job, slot.last_ended_at
        job = None
        # An `if` in the form of a loop: between taking the lock and `try`, a loop has no point at
        # which an asynchronous exception can come.
        for _ in iter(self._try_lock, False):  # noqa: FBT003  (what it returns)
            try:
                self._owner = slot.ident
                self._catch_up(now)
                if former is not None and former in self._holding:
                    self._leave(former, now)
                job = self._start_next(slot, now)
                self._is_torn = False
            finally:
                self._owner = None
                self._unlock()
            break
        else:  # another thread has the lock
            if former is not None:
                self.forget(former)
        if former is None:  # the worker may have been woken to search
            self._dispatcher.search_done()
        elif self._parked:
            self._dispatcher.wake_if_work()
        return job

    def has_work(self) -> bool:
        """Return whether a worker that looks now may find a job."""
        return not self._lock.locked() and bool(
            self._ready.ranks or self.inbox or self._mail or self._is_torn
        )

    def _start_next(self, slot: Slot, now: float) -> Job[Any] | None:
        ready, waiting = self._ready, self._waiting
        while ready.ranks:
            job = ready.pop()
            if job not in waiting:
                continue
            limits, key = job._policy.limits, job._key
            if limits:
                tickets = self.gate.acquire_all(job, limits, now)
                if tickets is None:
                    continue
                if tickets != NOTHING_TO_RELEASE or key is not None:
                    self._holding[job] = tickets
            elif key is not None:
                self._holding[job] = ()
            # (A key with a single job maps to that: then there is no line; see `KeyLines`.)
            if key is not None and self._lines.by_key[key] is not job:
                self._lines.start(job)
            slot.job = job
            del waiting[job]
            if self._turns is not None:
                self._turns.leave(job, is_started=True)
            return job
        return None

    def _leave(self, job: Job[Any], now: float) -> None:
        """Count a job no longer against its key and limits."""
        tickets = self._holding.pop(job, None)
        if tickets is None:
            return
        if tickets:
            self.gate.release_all(job, tickets, now)
        key = job._key
        if key is not None:
            if self._lines.by_key[key] is job:
                del self._lines.by_key[key]
            else:
                self._lines.leave(job)

    # Bringing the indexes up to date, with the lock held.

    def _catch_up(self, now: float) -> None:
        """Sort in what has come and open what is due; who calls it clears `_is_torn` in the end."""
        if self._is_torn:
            self._rebuild()
        self._is_torn = True
        if self.inbox:
            self._sort_in()
        if self._mail:
            self._read_mail(now)
        if self._due and self._due[0][0] <= now:
            self._open_due(now)

    def _sort_in(self) -> None:
        inbox, waiting, number = self.inbox, self._waiting, self._next_number
        lines, enter, turns = self._lines.by_key, self._lines.enter, self._turns
        append = self._ready.append if turns is None else self._ready.insert
        while inbox:
            job = inbox[0]  # it leaves the inbox when it is known to wait
            job._number = number() if turns is None else turns.give(job, number())
            waiting[job] = None
            key = job._key
            if key is None or (line := lines.setdefault(key, job)) is job or enter(job, line):
                append(job)
            inbox.popleft()

    def _read_mail(self, now: float) -> None:
        # A message is thrown away when it has been dealt with: to deal with one twice does no harm.
        while self._mail:
            job, due = self._mail[0]
            if due is None:
                self._forget(job, now)
            else:
                self._delay(job, due, now)
            self._mail.popleft()

    def _delay(self, job: Job[Any], until: float, now: float) -> None:
        tickets = self._holding.get(job)
        if tickets is not None and job._policy.is_serial:  # it keeps its turn
            self.gate.release_all(job, tickets, now)
            self._holding[job] = ()
        else:
            self._leave(job, now)
        self._delayed[job] = until
        self._schedule(until, job)

    def _forget(self, job: Job[Any], now: float) -> None:
        """Let a job that has ended wait no longer, nor count."""
        self._delayed.pop(job, None)
        if job in self._waiting:
            del self._waiting[job]
            if self._turns is not None:
                self._turns.leave(job, is_started=False)
            if job._key is not None and job not in self._holding:
                self._lines.cancel(job)
            self.gate.let_jobs_through(job._policy.limits, now)
        self._leave(job, now)

    def _open_due(self, now: float) -> None:
        due = self._due
        while due and due[0][0] <= now:
            thing = heappop(due)[2]
            if isinstance(thing, Limit):
                self.gate.reopen(thing, now)
            elif self._delayed.get(thing, inf) <= now:
                thing._queued_at = now
                number, turns = self._next_number(), self._turns
                thing._number = number if turns is None else turns.give(thing, number)
                self._waiting[thing] = None
                del self._delayed[thing]
                if thing in self._holding or thing._key is None or self._lines.add(thing):
                    self._ready.insert(thing)

    def _schedule(self, at: float, thing: Job[Any] | Limit) -> None:
        heappush(self._due, (at, self._next_number(), thing))
        if at < self._alarm_at:
            self._alarm_at = at
            try:  # noqa: SIM105  (one C call: nothing may come in between)
                self._alarm()
            except RuntimeError:  # the supervisor is awake
                pass

    # Messages, which any thread may write without the lock.

    def forget(self, job: Job[Any]) -> None:
        """Note that a job has ended, whether it was started or not; twice does no harm."""
        self._mail.append((job, None))

    def retry(self, job: Job[Any], due: float) -> None:
        """Take back a started job that is to run again at `due`, in monotonic seconds."""
        self._mail.append((job, due))

    def is_interrupted_here(self) -> bool:
        """Return whether the caller is a signal handler or destructor, in the lock's owner."""
        return self._owner == get_ident()

    # For everybody else, with the lock held.

    @_locked
    def tidy(self, _: float) -> None:
        """Read the mail and open what is due; for the supervisor, and to make room."""
        self._alarm_at = self._due[0][0] if self._due else inf

    @_locked
    def use_turns(self, _: float) -> None:
        """Have the keys of `fair_by` take turns from now on."""
        if self._turns is None:
            self._turns = FairTurns()
            self._rebuild()

    @_locked
    def claim(
        self, now: float, job: Job[Any], stack: Collection[Job[Any]], slot: Slot
    ) -> Job[Any] | None:
        """Start, in the slot of a thread that waits for a queued job, that one or one before it.

        What the jobs in `stack` hold is no obstacle, as they wait, too. The job that is started is
        in the slot before it leaves the queue. None: none may start now.
        """
        first: Job[Any] | None = job if job in self._waiting else None
        holders = [each for each in stack if each in self._holding]
        if first is not None and job._key is not None and job not in self._holding:
            first = self._lines.first_of(job, sum(job._key == each._key for each in holders))
        if first is None:
            return None
        held = {
            limit for each in holders for limit in each._policy.limits if limit.limits_running_jobs
        }
        tickets = self.gate.acquire_except(first, held, now)
        if tickets is None:
            return None
        self._start_claimed(first, tickets, slot)
        self.gate.let_jobs_through(first._policy.limits, now)
        return first

    def _start_claimed(self, job: Job[Any], tickets: Tickets, slot: Slot) -> None:
        """Start a job out of its turn. It may come back, so no entry of it is left."""
        self._ready.remove(job)
        self.gate.drop_waiting(job)
        slot.job = job
        keeps_turn = job in self._holding
        if job._key is not None or tickets:
            self._holding[job] = tickets
        if job._key is not None and not keeps_turn:
            self._lines.start_claimed(job)
        del self._waiting[job]
        if self._turns is not None:  # (Its turn has not come: the next ones count from before.)
            self._turns.leave(job, is_started=False)

    @_locked
    def obstacles(self, now: float, job: Job[Any]) -> Obstacles | None:
        """Return what keeps a job from starting; None: nothing, or it does not wait."""
        if job in self._delayed:
            return Obstacles(delayed_until=self._delayed[job])
        if job not in self._waiting:
            return None
        key, holders, is_first = job._key, [], True
        if key is not None and job not in self._holding:
            is_first = self._lines.is_startable(job)
            holders = [] if is_first else [each for each in self._holding if each._key == key]
        closed = [limit for limit in job._policy.limits if limit.opens_at > now]
        return Obstacles(holders, closed, is_behind=not is_first)

    @_locked
    def withdraw(self, now: float, job: Job[Any]) -> bool:
        """Let a job wait no longer, if it does; a worker may have started it."""
        if job in self._waiting:
            self._forget(job, now)
        return True

    @_locked
    def jobs_behind(self, _: float, job: Job[Any]) -> list[Job[Any]]:
        """Return the serial jobs that wait for this one, of the same key, to succeed."""
        return [each for each in self._lines.waiting_behind(job) if each._policy.is_serial]

    @_locked
    def pop_oldest(self, now: float) -> Job[Any] | None:
        """Remove the job that has waited longest, of the lowest priority; None if none waits."""
        candidates = self._waiting or self._delayed
        job = min(candidates, key=lambda each: each._policy.priority, default=None)
        if job is not None:
            self._forget(job, now)
        return job

    # For people, and for those who need a number of a moment ago.

    def __len__(self) -> int:
        # A message may be of a job that is to be retried, and is nowhere else.
        return len(self.inbox) + len(self._waiting) + len(self._delayed) + len(self._mail)

    @property
    def waiting_count(self) -> int:
        """How many jobs wait, without those that are delayed."""
        return len(self._waiting)

    def next_due(self) -> float:
        """Return when something becomes due, in monotonic seconds."""
        first = self._due[:1]  # a copy: workers may change it meanwhile
        return first[0][0] if first else inf

    def waiting(self) -> list[Job[Any]]:
        """Return the jobs that wait, in the order in which they start if no limit stops them."""
        self.tidy()
        places: dict[Job[Any], tuple[float, int]] = {}
        last_of_key: dict[Any, tuple[float, int]] = {}
        for job in self._waiting.copy():
            rank, number, _ = self._ready.entry(job)
            place = (rank, number)
            if job._key is not None:  # it starts after those of its key that came before it
                place = last_of_key[job._key] = max(place, last_of_key.get(job._key, place))
            places[job] = place
        delayed = self._delayed.copy()
        return [*sorted(places, key=places.__getitem__), *sorted(delayed, key=delayed.__getitem__)]

    def ready(self) -> list[Job[Any]]:
        """Return the jobs that wait if one of them may start now, else none."""
        self.tidy()
        return self.waiting() if self._ready.ranks else []

    # Recovery.

    def _rebuild(self) -> None:
        """Make the indexes anew: an asynchronous exception has left them half changed."""
        self._ready.clear()
        self._lines.clear()
        self._due = []
        waiting, holding = self._waiting, self._holding
        if self.inbox and self.inbox[0] in waiting:
            self.inbox.popleft()
        for job in [*holding]:
            if job.done() and job not in waiting:
                del holding[job]
            elif job._key is not None:
                self._lines.add_running(job)
        self.gate.rebuild(each for each in holding.items() if each[0] not in waiting)
        if self._turns is not None:
            self._turns.recount([*waiting])
        for job in waiting:
            self._delayed.pop(job, None)
            if job in holding or job._key is None or self._lines.add(job):
                self._ready.insert(job)
        for job, until in self._delayed.items():
            self._schedule(until, job)
