"""Agenda: which job is next, in a pool where that is more than a matter of arrival.

The queue of a pool that knows no priorities, keys, limits or retries is a deque, and workers pop
it. The first job that needs more turns the pool's queue into an agenda, for good. Jobs then still
arrive in a deque, without a lock; but workers ask the agenda for the next one. It sorts what has
arrived into lanes, and lets these race; see `oddjob.workforce.race`.

Nothing here can be spoilt by an exception that is thrown into its thread, whatever it interrupts:
whoever comes next finds that somebody did not get to the end of his work (``_torn``), and makes
anew what follows from the facts (`_mend`). A job that is handed to a worker is known as
``offered`` before it leaves its lane: a worker that dies in between has it, or it waits still.
"""

from _thread import allocate_lock, get_ident
from collections import deque
from collections.abc import Callable, Collection, Iterable
from functools import partial
from itertools import islice
from math import inf
from time import monotonic
from typing import Any, Final, TypeVar

from oddjob.job import Job
from oddjob.states import PENDING
from oddjob.workforce.lanes import Hold
from oddjob.workforce.race import Race, Taker
from oddjob.workforce.turns import Turn, turn_of

__all__ = ["Agenda"]

T = TypeVar("T")

_ALONE: Final = True
_IN_BETWEEN: Final = False
_NEVER: Final = None  # what acquiring a lock returns


class Agenda:
    """The jobs of a pool that wait, in the order in which they may start.

    Locking: ``_lock`` guards every field but the deques. A job's monitor may be asked while it is
    held, never the other way round. ``_owner`` is the thread that holds it: where a destructor or
    signal handler comes in while its own thread is at work, it writes down its fact and leaves the
    rest to `_mend` (``_is_spoilt``). Nothing of the user's is called under it; whoever is to be
    woken is so after it was released.

    A worker that finds the lock taken does not wait for it: with jobs that take no time, workers
    would stand in line for the lock, and change places at every job. It goes idle, and whoever had
    the lock looks, after he has released it, whether there is something for those who are idle.
    (The worker enters the list of the idle, then looks at the lock; the other one releases the
    lock, then looks at the list: one of them sees the other.)
    """

    def __init__(
        self,
        inboxes: tuple[deque[Job[Any]], ...],
        race: Race,
        takers: Callable[[], Iterable[Taker]],
        idle: Collection[object],
        wake: Callable[[], bool],
        call_supervisor: Callable[[], object],
    ) -> None:
        self._former_inbox, self._inbox = inboxes
        self._takers: Final = takers
        # Those who found the lock taken, with what they had held until then.
        self._returns: Final[deque[tuple[Taker, Hold]]] = deque()
        self._idle: Final = idle
        self._wake_worker: Final = wake
        self._call_supervisor: Final = call_supervisor
        self._lock = allocate_lock()
        self._try_lock = partial(self._lock.acquire, blocking=False)
        self._owner: int | None = None
        self._torn = False  # somebody did not get to the end
        self._is_spoilt = False  # somebody came in between
        self._arriving: Job[Any] | None = None  # has left an inbox, and may not be in its lane
        self._race: Final = race
        self._alarm_is_new = False
        self._bystanders: dict[Callable[[], object], None] = {}
        self._line: Collection[object] = ()  # those who wait for room, if there is a bound
        self._let_in: Callable[[], object] = bool
        self.alarm = inf  # when the supervisor is to see that somebody looks, in monotonic seconds

    def bound(self, line: Collection[object], let_in: Callable[[], object]) -> None:
        """Have something called whenever there may be room for those who stand in line."""
        self._line = line
        self._let_in = let_in

    # For workers.

    def take(self, taker: Taker) -> Job[Any] | None:
        """The next job that may start, for that worker; None if there is none now."""
        race = self._race
        job = None
        # Taken by a loop: nothing can interrupt between taking the lock and seeing it released.
        for _ in iter(self._try_lock, False):  # noqa: FBT003  (what it returns)
            try:
                self._owner = taker.thread
                if self._torn:
                    self._mend()
                self._torn = True
                now = self._catch_up()
                hold = taker.hold
                if hold is not None:
                    taker.hold = None
                    race.leave(hold, now)
                job = race.next(taker, now)
                if race.due:
                    self._set_alarm()
                self._torn = False
                if self._is_spoilt:
                    self._torn, self._is_spoilt = True, False
            finally:
                self._owner = None
                self._lock.release()
            break
        else:
            hold = taker.hold
            if hold is not None:
                self._returns.append((taker, hold))
        if self._alarm_is_new or self._idle or self._bystanders:
            self._spread_news()
        if self._line:
            self._let_in()
        return job

    def release(self, job: Job[Any]) -> None:
        """Count a job no longer against limits; twice does no harm."""
        self._do(self._release, job)

    def tend(self) -> None:
        """Take note of what has arrived."""
        self._do(self._pending)

    def _release(self, is_ours: bool, job: Job[Any]) -> None:
        hold = self._drop_hold(job)
        if is_ours:
            now = self._catch_up()
            if hold is not None:
                self._race.leave(hold, now)

    def dismiss(self, taker: Taker) -> None:
        """Take note that one has gone."""
        self._do(self._dismiss, taker)

    def _dismiss(self, is_ours: bool, taker: Taker) -> None:
        hold, taker.hold = taker.hold, None
        if is_ours and hold is not None:
            self._race.leave(hold, self._catch_up())

    def _drop_hold(self, job: Job[Any]) -> Hold | None:
        """Let a job hold nothing any more; returns what it did."""
        for taker in self._takers():
            if taker.offered is job and taker.hold is not None:
                hold, taker.hold = taker.hold, None
                return hold
        return self._race.holders.pop(job, None)

    def put_off(self, job: Job[Any], until: float) -> bool:
        """Take a job back that has failed and is to be tried again; false if it has ended.

        Its key stays taken if it is to be tried before the next one of that key.
        """
        return self._do(self._put_off, job, until)

    def _put_off(self, is_ours: bool, job: Job[Any], until: float) -> bool:
        race = self._race
        hold = self._drop_hold(job)
        if hold is not None:
            keeps_turn = job.is_serial
            if keeps_turn:
                race.holders[job] = (hold[0], (), ())
            if is_ours:
                race.leave(hold, monotonic(), keeps_turn=keeps_turn)
        race.put_off(job, until)
        has_it = job.reopen()
        if not has_it:
            del race.delayed[job]
            kept = race.holders.pop(job, None)
            if is_ours and kept is not None:
                race.leave(kept, monotonic())
        return has_it

    # For threads that wait for a job, and may run it where they wait.

    def turn_of(
        self,
        job: Job[Any],
        stack: Collection[Job[Any]],
        begin: Callable[[Job[Any]], object],
        *,
        is_queued: bool = True,
    ) -> Turn:
        """What the calling thread may do for that job.

        `stack` are the jobs that it is running: what they count against counts for them all.
        `begin` is told which job is about to be claimed. A job that is not queued comes behind all
        others of its key.
        """
        return self._do(self._turn_of, job, stack, begin, is_queued)

    def _turn_of(self, is_ours: bool, *question: Any) -> Turn:
        return (
            turn_of(self._race, self._takers(), self._catch_up(), *question) if is_ours else Turn()
        )

    def stand_by(self, ring: Callable[[], object]) -> None:
        """Have something called whenever a job may start and no worker is idle."""
        self._bystanders[ring] = None

    def stand_by_no_more(self, ring: Callable[[], object]) -> None:
        """Have it called no more."""
        self._bystanders.pop(ring, None)

    def is_promising(self) -> bool:
        """Whether a worker that asks now may be given a job."""
        return not self._lock.locked() and self._has_news()

    def _has_news(self) -> bool:
        return bool(
            self._race.ready or self._torn or self._returns or self._inbox or self._former_inbox
        )

    def is_waiting(self, job: Job[Any]) -> bool:
        """Whether a job is still to be handed out."""
        return self._do(self._is_waiting, job)

    def _is_waiting(self, is_ours: bool, job: Job[Any]) -> bool:
        if is_ours:
            self._catch_up()
        return self._race.waits(job)

    def __len__(self) -> int:
        """How many wait, those included that wait to be tried again."""
        arriving = len(self._inbox) + len(self._former_inbox) + (self._arriving is not None)
        return arriving + self._race.size + len(self._race.delayed)

    def load(self, takers: Collection[Taker]) -> int:
        """How many jobs wait, or are in the hands of those; it can only be less by then."""

        def count(_: bool) -> int:
            in_hand = [taker.offered for taker in takers]
            return len(self) + sum(job is not None and not job.done() for job in in_hand)

        return self._do(count)

    def pending(self) -> list[Job[Any]]:
        """A snapshot of those that wait, in the order in which they will start if nothing stops."""
        return [job for job in self._do(self._pending) if job.state is PENDING]

    def _pending(self, is_ours: bool) -> list[Job[Any]]:
        if is_ours:
            self._catch_up()
        return self._race.in_order()

    def line_behind(self, job: Job[Any]) -> list[Job[Any]]:
        """Those that wait for a job of their key to succeed."""
        return self._do(self._line_behind, job)

    def _line_behind(self, is_ours: bool, job: Job[Any]) -> list[Job[Any]]:
        if is_ours:
            self._catch_up()
        return [each for each in self._race.jobs_behind(job) if each.is_serial and each is not job]

    # Changes from outside.

    def remove(self, job: Job[Any]) -> bool:
        """Take out a job; false if it does not wait."""
        return self._do(self._remove, job)

    def _remove(self, is_ours: bool, job: Job[Any]) -> bool:
        return is_ours and self._race.remove(job, self._catch_up())

    def pop_oldest(self) -> Job[Any] | None:
        """Take out the job that has waited longest, of the least urgent; None if none waits."""
        return self._do(self._pop_oldest)

    def _pop_oldest(self, is_ours: bool) -> Job[Any] | None:
        if not is_ours:
            return None
        now = self._catch_up()
        oldest = self._race.oldest()
        if oldest is not None:
            self._race.remove(oldest, now)
        return oldest

    def move_all(self, there: deque[Job[Any]]) -> None:
        """Move everything that waits to the end of another queue."""
        self._do(self._move_all, there)

    def _move_all(self, is_ours: bool, there: deque[Job[Any]]) -> None:
        if not is_ours:
            return
        self._catch_up()
        there.extend(self._race.in_order())
        for lane in self._race.lanes():
            lane.clear()
        self._race.delayed.clear()
        self._mend()

    def ring_alarm(self) -> None:
        """Let back what has waited for this time; for the supervisor."""
        if self.alarm <= monotonic():
            self._do(self._ring_alarm)

    def _ring_alarm(self, is_ours: bool) -> None:
        if is_ours:
            self._catch_up()
            self.alarm = inf

    # Inside.

    def _do(self, act: Callable[..., T], *args: Any) -> T:
        """Act with the lock held, whole or mended; then, without it, tell whom it concerns.

        `act` is told first whether the agenda is its thread's alone, or it has come in between.
        """
        me = get_ident()
        if self._owner == me:
            self._is_spoilt = True
            return act(_IN_BETWEEN, *args)
        try:
            return self._act_alone(me, act, args)
        finally:
            self._spread_news()
            if self._line:
                self._let_in()

    def _act_alone(self, me: int, act: Callable[..., T], args: tuple[Any, ...]) -> T:
        # Taken by a loop: no call, and so nothing that interrupts, comes before it is known whose
        # the lock is.
        for _ in iter(self._lock.acquire, _NEVER):
            try:
                self._owner = me
                if self._torn:
                    self._mend()
                self._torn = True
                result = act(_ALONE, *args)
                if self._race.due:
                    self._set_alarm()
                self._torn = False
                if self._is_spoilt:
                    self._torn, self._is_spoilt = True, False
                return result
            finally:
                self._owner = None
                self._lock.release()
        raise AssertionError("the lock was not taken")

    def _catch_up(self) -> float:
        """Take note of what has arrived and of what time it is; returns that."""
        if self._former_inbox or self._inbox:
            self._sort_in(self._former_inbox)
            self._sort_in(self._inbox)
        now = monotonic()
        if self._returns:
            self._count_returns(now)
        due = self._race.due
        if due and due[0][0] <= now:
            self._race.open_due(now)
        return now

    def _count_returns(self, now: float) -> None:
        while self._returns:
            taker, hold = self._returns.popleft()
            if taker.hold is hold:
                taker.hold = None
                self._race.leave(hold, now)

    def _sort_in(self, inbox: deque[Job[Any]]) -> None:
        place = self._race.place
        try:
            # Taken by a loop, and kept: nothing can interrupt in between.
            for self._arriving in islice(iter(inbox.popleft, None), len(inbox)):
                place(self._arriving)
        except IndexError:  # a worker that still takes them as they come was quicker
            pass
        self._arriving = None

    def _mend(self) -> None:
        late = self._arriving
        if late is not None and late not in self._race.lane_of(late).jobs:
            self._race.lane_of(late).add(late)
        self._arriving = None
        self._race.mend(self._takers())

    def _set_alarm(self) -> None:
        if self._race.due[0][0] < self.alarm:
            self.alarm = self._race.due[0][0]
            self._alarm_is_new = True

    def _spread_news(self) -> None:
        """With no lock held: wake whoever has something to do now."""
        has_woken = self._has_news() and self._idle and self._wake_worker()
        if not has_woken and (self._race.has_moved or self._returns or self._torn):
            self._race.has_moved = False
            for ring in list(self._bystanders):
                ring()
        if self._alarm_is_new:
            self._alarm_is_new = False
            self._call_supervisor()
