"""LimitedQueue: jobs that wait for more than a worker: priorities, keys, limits, retries.

It is made for the first job or view that needs it, and then replaces the FIFO queue of its pool. It
is put together from `ReadyOrder` (which job is first), `KeyLines` (which job of a key may start),
`LimitGate` (which limits are closed) and a heap of what becomes due (retries, limits that open).

Three dicts are the truth: the jobs that wait, the jobs that are delayed until a time, and the jobs
that hold something (a place of their key, tickets of limits). Two mailboxes hold what other threads
have posted since. Everything else is an index, which `_rebuild` makes anew from the dicts. So an
asynchronous exception costs nothing: ``_is_torn`` stays set, and the next thread calls `_rebuild`.
A job moves as follows:

=====================  =========================================================================
a worker takes it      from the waiting to the holding, if it has a key or limits
it is to be retried    to the delayed; a serial job keeps its place (`post_retry`)
its retry is due       from the delayed to the waiting
it has ended           out of all dicts (`take`, called by its worker; otherwise `post_ended`)
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
_PATIENCE_WITHOUT_GIL: Final = 0.0005  # seconds to wait for the lock, whose owner runs meanwhile


def _locked(method: Callable[..., T]) -> Callable[..., T | None]:
    """Run a method with the lock held, the mail read, and the time as its first argument.

    A destructor or signal handler may call the method while its own thread holds the lock, and must
    not wait for it. The method then does not run, and its caller gets None, to be read as "not done
    now". What must not be lost is posted to a mailbox instead.
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
    """The jobs of a pool that wait, and what its running jobs hold.

    Locking: ``_lock`` guards every field except the mailboxes, to which any thread appends without
    it: so `post_ended` and `post_retry` never wait, and signal handlers and destructors may call
    them. The next thread that acquires the lock reads the mailboxes first. No user code is called
    under the lock: keys are of classes that `check_key` trusts.

    A worker does not wait for the lock: under the GIL waiting workers would form a convoy, and
    switch at every job (a third of the throughput of full limits). It parks instead, and the owner
    wakes a parked worker after releasing the lock. The worker enters ``parked`` and then looks at
    the lock; the owner releases the lock and then looks at ``parked``; one of them sees the other.
    """

    def __init__(self, core: "PoolCore") -> None:
        # Mailboxes.
        self.inbox: Final[deque[Job[Any]]] = deque()  # new jobs
        # Jobs that have ended (with None), and jobs to be retried (with the time when that is due).
        self._mail: Final[deque[tuple[Job[Any], float | None]]] = deque()
        self._lock: Final = allocate_lock()
        self._owner: int | None = None  # the identifier of the thread that holds the lock
        self._try_lock: Final = (
            partial(self._lock.acquire, False)  # noqa: FBT003  (by keyword it takes twice as long)
            if _HAS_GIL
            else partial(self._lock.acquire, True, _PATIENCE_WITHOUT_GIL)  # noqa: FBT003
        )
        self._unlock: Final = self._lock.release
        self._next_number: Final = count().__next__
        # The truth.
        self._waiting: Final[dict[Job[Any], None]] = {}  # in the order of arrival
        self._delayed: Final[dict[Job[Any], float]] = {}  # with the time when each is due
        # Jobs with their tickets. A serial job to be retried is also in one of the dicts above.
        self._holding: Final[dict[Job[Any], Tickets]] = {}
        # Set while the fields are being changed. Still set when the lock is free: a change was
        # interrupted, and `_rebuild` is due.
        self._is_torn = False
        # Indexes.
        self._ready: Final = ReadyOrder(core.options.priority_aging)
        self._lines: Final = KeyLines(self._ready, self._waiting, self._holding)
        self._turns: FairTurns | None = None  # made if a view or the pool has the option fair_by
        self._due: list[tuple[float, int, Job[Any] | Limit]] = []
        self.gate: Final = LimitGate(self._ready, self._waiting, self._schedule)
        self._dispatcher: Final = core.dispatcher  # wakes workers when the lock is free again
        self._parked: Final = core.dispatcher.parked
        self._supervisor: Final = core.supervisor  # it calls `tidy` at `_alarm_at`
        self._alarm_at = inf

    # For workers.

    def take(self, slot: Slot) -> Job[Any] | None:
        """Release what the former job of a slot holds, and return the job that may start now.

        The job is in the slot before it leaves the queue. (A former job that may run again is no
        longer in its slot: see `execute`.) Returns None if no job may start, or if another thread
        has the lock; that one then wakes a worker.
        """
        former, now = slot.job, slot.last_ended_at
        job = None
        # An `if` in the form of a loop. The iterator acquires the lock, and from there to `try` the
        # interpreter handles no asynchronous exception; it would after an `if`, a `with`, or the
        # call of a helper, and the lock would stay locked.
        for _ in iter(self._try_lock, False):  # noqa: FBT003  (returned if the lock is taken)
            try:
                self._owner = slot.ident
                self._catch_up(now)
                if former is not None and former in self._holding:
                    self._release(former, now)
                job = self._start_next(slot, now)
                self._is_torn = False
            finally:
                self._owner = None
                self._unlock()
            break
        else:  # another thread has the lock
            if former is not None:
                self.post_ended(former)
        if former is None:  # the worker may have been woken to look for a job
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
            # A job that has its key for itself is in no line: see `KeyLines`.
            if key is not None and self._lines.by_key[key] is not job:
                self._lines.start(job)
            slot.job = job
            del waiting[job]
            if self._turns is not None:
                self._turns.leave(job, is_started=True)
            return job
        return None

    def _release(self, job: Job[Any], now: float) -> None:
        """Release what a job holds: its place of its key, and its limits."""
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
                self._lines.release(job)

    # Bringing the indexes up to date, with the lock held.

    def _catch_up(self, now: float) -> None:
        """Read the mailboxes and open what is due; the caller clears `_is_torn` when it is done."""
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
        lines, add_behind, turns = self._lines.by_key, self._lines.add_behind, self._turns
        append = self._ready.append if turns is None else self._ready.insert
        while inbox:
            job = inbox[0]  # it leaves the inbox after it is in `_waiting`
            job._number = number() if turns is None else turns.give(job, number())
            waiting[job] = None
            key = job._key
            if key is None or (line := lines.setdefault(key, job)) is job or add_behind(job, line):
                append(job)
            inbox.popleft()

    def _read_mail(self, now: float) -> None:
        # A message is removed after it has been handled; handling one twice is harmless.
        while self._mail:
            job, due = self._mail[0]
            if due is None:
                self._remove_everywhere(job, now)
            else:
                self._delay(job, due, now)
            self._mail.popleft()

    def _delay(self, job: Job[Any], until: float, now: float) -> None:
        tickets = self._holding.get(job)
        if tickets is not None and job._policy.is_serial:  # it keeps its place of its key
            self.gate.release_all(job, tickets, now)
            self._holding[job] = ()
        else:
            self._release(job, now)
        self._delayed[job] = until
        self._schedule(until, job)

    def _remove_everywhere(self, job: Job[Any], now: float) -> None:
        """Remove a job that is to wait no longer, and release what it holds."""
        self._delayed.pop(job, None)
        if job in self._waiting:
            del self._waiting[job]
            if self._turns is not None:
                self._turns.leave(job, is_started=False)
            if job._key is not None and job not in self._holding:
                self._lines.withdraw(job)
            self.gate.let_jobs_through(job._policy.limits, now)
        self._release(job, now)

    def _open_due(self, now: float) -> None:
        due = self._due
        self._supervisor.needs_workers = True  # it starts them, if there are too few
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
            try:  # noqa: SIM105  (`suppress` is not a C call, and could be interrupted)
                self._supervisor.wake()
            except RuntimeError:  # the supervisor is awake already
                pass

    # Messages, which any thread may post without the lock.

    def post_ended(self, job: Job[Any]) -> None:
        """Post that a job has ended, whether it was started or not. Idempotent."""
        self._mail.append((job, None))

    def post_retry(self, job: Job[Any], due: float) -> None:
        """Post that a started job is to run again at `due`, in monotonic seconds."""
        self._mail.append((job, due))

    def is_interrupted_here(self) -> bool:
        """Return whether the caller has interrupted its own thread while that holds the lock."""
        return self._owner == get_ident()

    # For all other threads, with the lock held.

    @_locked
    def tidy(self, _: float) -> None:
        """Read the mailboxes and open what is due; for the supervisor, and to make room."""
        self._alarm_at = self._due[0][0] if self._due else inf

    @_locked
    def use_turns(self, _: float) -> None:
        """Let the keys of `fair_by` take turns from now on."""
        if self._turns is None:
            self._turns = FairTurns()
            self._rebuild()

    @_locked
    def claim(
        self, now: float, job: Job[Any], stack: Collection[Job[Any]], slot: Slot
    ) -> Job[Any] | None:
        """Start a queued job, or the one that must run before it, in the slot of a waiting thread.

        What the jobs in `stack` hold does not count, as they wait for the job. The job that starts
        is in the slot before it leaves the queue. Returns None if neither may start now.
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
        """Start a job out of turn. It may be retried, so no stale entry of it may be left."""
        self._ready.remove(job)
        self.gate.drop_waiting(job)
        slot.job = job
        keeps_turn = job in self._holding
        if job._key is not None or tickets:
            self._holding[job] = tickets
        if job._key is not None and not keeps_turn:
            self._lines.start_out_of_turn(job)
        del self._waiting[job]
        if self._turns is not None:  # its turn has not come up, so virtual time stands still
            self._turns.leave(job, is_started=False)

    @_locked
    def obstacles(self, now: float, job: Job[Any]) -> Obstacles | None:
        """Return what keeps a job from starting; None if it does not wait."""
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
        """Remove a job if it still waits; a worker may have started it. Return True ("done")."""
        if job in self._waiting:
            self._remove_everywhere(job, now)
        return True

    @_locked
    def jobs_behind(self, _: float, job: Job[Any]) -> list[Job[Any]]:
        """Return the serial jobs of the same key that wait for this one to succeed."""
        return [each for each in self._lines.waiting_behind(job) if each._policy.is_serial]

    @_locked
    def pop_oldest(self, now: float) -> Job[Any] | None:
        """Remove the oldest job of the lowest priority, and return it; None if no job waits."""
        candidates = self._waiting or self._delayed
        job = min(candidates, key=lambda each: each._policy.priority, default=None)
        if job is not None:
            self._remove_everywhere(job, now)
        return job

    # Snapshots, which may be out of date by the time the caller looks at them.

    def __len__(self) -> int:
        # A job that is to be retried may be in the mailbox only.
        return len(self.inbox) + len(self._waiting) + len(self._delayed) + len(self._mail)

    @property
    def waiting_count(self) -> int:
        """The number of jobs that wait, without delayed ones."""
        return len(self.inbox) + len(self._waiting)

    def next_due(self) -> float:
        """Return when the next retry or limit becomes due, in monotonic seconds."""
        first = self._due[:1]  # a copy, as workers may change the heap meanwhile
        return first[0][0] if first else inf

    def waiting(self) -> list[Job[Any]]:
        """Return the waiting jobs in the order in which they start if no limit stops them."""
        self.tidy()
        places: dict[Job[Any], tuple[float, int]] = {}
        last_of_key: dict[Any, tuple[float, int]] = {}
        for job in self._waiting.copy():
            place = self._ready.entry(job)[:2]
            if job._key is not None:  # it starts after the older jobs of its key
                place = last_of_key[job._key] = max(place, last_of_key.get(job._key, place))
            places[job] = place
        delayed = self._delayed.copy()
        return [*sorted(places, key=places.__getitem__), *sorted(delayed, key=delayed.__getitem__)]

    def ready(self) -> list[Job[Any]]:
        """Return the waiting jobs if at least one of them may start now, else an empty list."""
        self.tidy()
        return self.waiting() if self._ready.ranks else []

    # Recovery.

    def _rebuild(self) -> None:
        """Make the indexes anew, as an asynchronous exception has left them half changed."""
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
                self._lines.restore_running(job)
        self.gate.rebuild(each for each in holding.items() if each[0] not in waiting)
        if self._turns is not None:
            self._turns.recount([*waiting])
        for job in waiting:
            self._delayed.pop(job, None)
            if job in holding or job._key is None or self._lines.add(job):
                self._ready.insert(job)
        for job, until in self._delayed.items():
            self._schedule(until, job)
