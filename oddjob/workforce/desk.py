"""Desk: where one thread at a time puts jobs in order, and what he leaves undone is found.

Nothing here can be spoilt by an exception that is thrown into its thread, whatever it interrupts:
whoever comes next finds that somebody did not get to the end of his work (``_torn``), and makes
anew what follows from the facts (`_mend`). Who was to tell others, and was interrupted, has the
supervisor do it; or has died of it, and the supervisor sees to what he has left.
"""

from _thread import allocate_lock, get_ident
from collections import deque
from collections.abc import Callable, Collection, Iterable
from functools import partial
from itertools import islice
from math import inf
from typing import Any, Final, TypeVar

from oddjob.job import Job
from oddjob.schedule.clock import clock
from oddjob.states import PENDING
from oddjob.workforce.lanes import Hold, Taker
from oddjob.workforce.race import Race

__all__ = ["Desk"]

T = TypeVar("T")

_ALONE: Final = True
_IN_BETWEEN: Final = False
_NEVER: Final = None  # what acquiring a lock returns


class Desk:
    """What has arrived, the race of what waits, and those who are to hear of it.

    Locking: ``_lock`` guards every field but the deques. A job's monitor may be asked while it is
    held, never the other way round. ``_owner`` is the thread that holds it: where a destructor or
    signal handler comes in while its own thread is at work, it writes down its fact and leaves the
    rest to `_mend` (``_is_spoilt``). Nothing of the user's is called under it; whoever is to be
    woken is so after it was released.
    """

    def __init__(
        self,
        inboxes: tuple[deque[Job[Any]], ...],
        race: Race,
        takers: Callable[[], Iterable[Taker]],
        idle: Collection[object],
        wake: Callable[[], bool],
        knock: Callable[[], object],
    ) -> None:
        self._former_inbox, self._inbox = inboxes
        self._takers: Final = takers
        # Those who found the lock taken, with what they had held until then.
        self._returns: Final[deque[tuple[Taker, Hold | None, Job[Any] | None]]] = deque()
        self._idle: Final = idle
        self._wake_worker: Final = wake
        self._knock: Final = knock  # wakes the supervisor; see `Letters`
        self._lock = allocate_lock()
        self._try_lock = partial(self._lock.acquire, blocking=False)
        self._owner: int | None = None
        self._torn = False  # somebody did not get to the end
        self._is_spoilt = False  # somebody came in between
        self._arriving: Job[Any] | None = None  # has left an inbox, and may not be in its lane
        self._race: Final = race
        self._alarm_is_new = False
        self._bystanders: dict[Callable[[], object], None] = {}
        self._is_bounded = False
        self._line: Collection[object] = ()  # those who wait for room, if there is a bound
        self._let_in: Callable[[], object] = bool
        self.alarm = inf  # when the supervisor is to see that somebody looks, in monotonic seconds

    def bound(self, line: Collection[object], let_in: Callable[[], object]) -> None:
        """Have something called whenever there may be room for those who stand in line."""
        self._is_bounded = True
        self._line = line
        self._let_in = let_in

    def _do(self, act: Callable[..., T], *args: Any) -> T:
        """Act with the lock held, whole or mended; then, without it, tell whom it concerns.

        `act` is told first whether the agenda is its thread's alone, or it has come in between.
        """
        me = get_ident()
        if self._owner == me:
            self._is_spoilt = True
            return act(_IN_BETWEEN, *args)
        try:
            try:
                return self._act_alone(me, act, args)
            finally:
                self._spread_news()
        except BaseException:
            self._race.has_moved = True  # perhaps it has
            try:  # noqa: SIM105  (nothing may come in between)
                self._knock()
            except RuntimeError:  # it is awake
                pass
            raise

    def _act_alone(self, me: int, act: Callable[..., T], args: tuple[Any, ...]) -> T:
        # Taken by a loop: no call, and so nothing that interrupts, comes before it is known whose
        # the lock is.
        for _ in iter(self._lock.acquire, _NEVER):
            try:
                self._owner = me
                self._begin()
                result = act(_ALONE, *args)
                self._finish()
                return result
            finally:
                self._owner = None
                self._lock.release()
        raise AssertionError("the lock was not taken")

    def _begin(self) -> None:
        """See that everything is in order, with the lock held."""
        was_torn, self._torn = self._torn, True
        if self._race.express is not None:
            self._race.withdraw_express(len(list(self._takers())))
        if was_torn:
            self._mend()

    def _finish(self) -> None:
        """Leave everything in order."""
        if self._race.due:
            self._set_alarm()
        self._torn = False
        if self._is_spoilt:
            self._torn, self._is_spoilt = True, False

    def _catch_up(self) -> float:
        """Take note of what has arrived and of what time it is; returns that."""
        if self._former_inbox or self._inbox:
            self._sort_in(self._former_inbox)
            self._sort_in(self._inbox)
        now = clock.monotonic()
        if self._returns:
            self._count_returns(now)
        due = self._race.due
        if due and due[0][0] <= now:
            self._race.open_due(now)
        return now

    def _count_returns(self, now: float) -> None:
        while self._returns:
            self._settle(*self._returns[0], now)
            self._returns.popleft()  # afterwards: whoever is interrupted leaves it to the next

    def _settle(self, taker: Taker, hold: Hold | None, job: Job[Any] | None, now: float) -> None:
        """Take back what a job has held that is in that hand no more; twice does no harm."""
        if hold is not None:
            if taker.hold is hold:
                taker.hold = None
                self._race.leave(hold, now)
        elif job is not None:
            self._race.forfeit(job, now)

    def _sort_in(self, inbox: deque[Job[Any]]) -> None:
        place = self._race.place
        try:
            # Taken by a loop, and kept: nothing can interrupt in between.
            for self._arriving in islice(iter(inbox.popleft, None), len(inbox)):
                place(self._arriving)
        except IndexError as error:
            # A worker that still takes them as they come was quicker; or it was thrown in.
            if inbox or (error.__traceback__ is not None and error.__traceback__.tb_next):
                raise
        self._arriving = None

    def _mend(self) -> None:
        late = self._arriving
        if late is not None and self._is_lost(late):
            self._race.place(late)
        self._arriving = None
        self._race.mend(self._takers())

    def _is_lost(self, job: Job[Any]) -> bool:
        """Whether a job was about to be put into its lane, and is nowhere."""
        # In the order of its way: one that moves on meanwhile is found in the next place.
        if self._race.waits(job) or any(taker.offered is job for taker in self._takers()):
            return False
        return job.state is PENDING

    def _set_alarm(self) -> None:
        if self._race.due[0][0] < self.alarm:
            self.alarm = self._race.due[0][0]
            self._alarm_is_new = True

    def _spread_news(self) -> None:
        """With no lock held: wake whoever has something to do now. Twice does no harm."""
        has_woken = self._has_news() and self._idle and self._wake_worker()
        if not has_woken and (self._race.has_moved or self._returns or self._torn):
            self._race.has_moved = False
            for ring in list(self._bystanders):
                ring()
        if self._alarm_is_new:
            self._alarm_is_new = False
            try:  # noqa: SIM105  (nothing may come in between)
                self._knock()
            except RuntimeError:  # it is awake
                pass
        if self._line:
            self._let_in()

    def _has_news(self) -> bool:
        return bool(
            self._race.ready or self._torn or self._returns or self._inbox or self._former_inbox
        )
