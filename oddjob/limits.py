"""Limits: what a job may have to wait for besides a worker.

A limit is a gate on the way from the queue to a worker. It counts and does no waiting of its own:
the agenda of a pool asks it, parks before it what cannot pass, and lets go on what can when it
opens. All of it happens under the agenda's lock.
"""

from abc import ABC, abstractmethod
from array import array
from math import inf
from typing import Any, Final

from oddjob.rate import Rate

__all__ = ["ANY_TIME", "GRACE", "Ceiling", "Gate", "Line", "Meter"]

GRACE: Final = 0.002  # seconds within which starts come that were allowed together
_WORTH: Final = 8  # starts that are worth allowing together
_LATENESS: Final = 0.05  # seconds by which a start may be late and the next ones make up for it
_BLUR: Final = 0.05  # seconds by which the moment of a start is taken to be uncertain; at least,
_BLUR_OF_WINDOW: Final = 0.005, 0.1  # and at most, so much of the window


class Gate(ABC):
    """A limit that jobs pass on their way to a worker.

    ``opens`` tells when the next one may, in monotonic seconds: minus infinity while it is open,
    infinity if it takes another job to leave.

    Locking: none of its own; the agenda that is its `owner` holds its lock whenever it uses it. A
    forked child has an agenda of its own, for which the gate begins anew.
    """

    counts_runs = True  # what a job has in hand counts for those that run in its place, too

    __slots__ = ("__weakref__", "opens", "owner", "scheduled", "waiting")

    def __init__(self) -> None:
        self.begin_anew(None)

    def begin_anew(self, owner: object) -> None:
        """Belong to that agenda, with nobody inside and nobody waiting."""
        self.owner = owner
        self.opens = -inf
        self.waiting: list[Any] = []  # what is parked before it, a heap
        self.scheduled = inf  # when the agenda will look at it, in monotonic seconds

    @abstractmethod
    def enter(self, now: float, queued_at: float) -> int:
        """Let a job pass that was queued at `queued_at`; returns its ticket."""

    @abstractmethod
    def leave(self, ticket: int, now: float) -> None:
        """Be told that the job with that ticket has ended."""

    def allow(self, now: float, number: int) -> int:  # noqa: ARG002  (as every gate's)
        """Let up to so many jobs start before `GRACE` is over; returns how many, 0 if not many.

        Nobody else may pass until `take_back` has been called. Those jobs have no tickets.
        """
        return 0

    def take_back(self, number: int, left: int, hands: int, now: float) -> None:  # noqa: B027
        """Be told that `left` of a number that were allowed have not started.

        The last `hands` of those that have may still be running.
        """

    @abstractmethod
    def recount(self, inside: int) -> None:
        """Be told how many jobs are inside, in case that an interruption spoilt the count."""


class Ceiling(Gate):
    """No more than so many at once."""

    __slots__ = ("_inside", "limit")

    def __init__(self, limit: int) -> None:
        self.limit: Final = limit
        super().__init__()

    def __repr__(self) -> str:
        return str(self.limit)

    def begin_anew(self, owner: object) -> None:
        """Belong to that agenda, with nobody inside and nobody waiting."""
        super().begin_anew(owner)
        self._inside = 0

    def enter(self, now: float, queued_at: float) -> int:  # noqa: ARG002  (as every gate's)
        """Take a place."""
        self._inside += 1
        if self._inside >= self.limit:
            self.opens = inf
        return 0

    def leave(self, ticket: int, now: float) -> None:  # noqa: ARG002  (as every gate's)
        """Give a place back."""
        self._inside -= 1
        if self._inside < self.limit:
            self.opens = -inf

    def recount(self, inside: int) -> None:
        """Set how many there are."""
        self._inside = inside
        self.opens = inf if inside >= self.limit else -inf


class Meter(Gate):
    """No more than so many starts in any window of so many seconds.

    Two rules, both of which a start must keep. *Spread*: one start in each `per/limit` seconds,
    and after a pause up to `burst` that were saved up (a leaky bucket, by the theoretical arrival
    times of the generic cell rate algorithm). A start that comes late though its job was waiting
    does not put off those behind it, up to a lateness of 50 ms. *Window*: a start must be a whole
    window later than the one `limit` starts before it. When that one really reached what it calls
    is only known to lie between its being handed to a worker and its end, so the later is taken, if
    that is soon: within 50 ms (of a long window, 0.5 percent; of a short one, 10 percent).
    """

    counts_runs = False  # but starts

    __slots__ = ("_arrival", "_blur", "_interval", "_limit", "_reserve", "_stamps", "_started",
                 "rate")  # fmt: skip

    def __init__(self, rate: Rate) -> None:
        self.rate: Final = rate
        self._limit = rate.limit
        self._interval = rate.per / rate.limit
        self._reserve = (rate.burst - 1) * self._interval
        least, most = (part * rate.per for part in _BLUR_OF_WINDOW)
        self._blur = max(least, min(_BLUR, most))
        super().__init__()

    def __repr__(self) -> str:
        return repr(self.rate)

    def begin_anew(self, owner: object) -> None:
        """Belong to that agenda, with nothing started yet."""
        super().begin_anew(owner)
        self._arrival = 0.0  # when the next start is due if they are evenly spread
        self._started = 0
        self._stamps = array("d")  # of the last `limit` starts; number n is at n modulo limit

    def enter(self, now: float, queued_at: float) -> int:
        """Count a start."""
        due = self._arrival
        began = now
        if queued_at <= due < now:  # it was there in time, and is late for our reasons
            began = max(due, now - _LATENESS)
        self._arrival = max(began, due) + self._interval
        ticket = self._started
        if ticket < self._limit:
            self._stamps.append(now + self._blur)
        else:
            self._stamps[ticket % self._limit] = now + self._blur
        self._started = ticket + 1
        self._see_when_it_opens()
        return ticket

    def leave(self, ticket: int, now: float) -> None:
        """Take note of the latest moment at which that start can have had an effect."""
        place = ticket % self._limit
        if now < self._stamps[place] and ticket >= self._started - self._limit:
            self._stamps[place] = now
            if place == self._started % self._limit:
                self._see_when_it_opens()

    def allow(self, now: float, number: int) -> int:
        """Let jobs start from what was saved up."""
        started = self._started
        place = started % self._limit
        due = max(self._arrival, now)
        saved_up = int((now + self._reserve - due) / self._interval)
        number = min(number, saved_up, self._limit - place)
        if number < _WORTH:
            return 0
        window = slice(place, place + number)
        if started >= self._limit and max(self._stamps[window]) + self.rate.per > now:
            return 0
        self._stamps[window] = array("d", [now + GRACE + self._blur]) * number
        self._started = started + number
        self._arrival = due + number * self._interval
        self._see_when_it_opens()
        return number

    def take_back(self, number: int, left: int, hands: int, now: float) -> None:
        """Forget those that have not started, and take note of those that surely are over."""
        first = (self._started - number) % self._limit
        over = max(0, number - left - hands)
        if now < self._stamps[first]:
            self._stamps[first : first + over] = array("d", [now]) * over
        if left:
            self._started -= left
            self._arrival -= left * self._interval
            place = self._started % self._limit
            # What stood there before is older than any window.
            self._stamps[place : place + left] = array("d", [-inf]) * left
            self._trim()
        self._see_when_it_opens()

    def recount(self, inside: int) -> None:  # noqa: ARG002  (as every gate's)
        """It does not matter how many there are: starts count, and they stand."""
        self._trim()
        self._see_when_it_opens()

    def _trim(self) -> None:
        """Keep no stamps of starts that do not count."""
        if self._started < self._limit:
            del self._stamps[self._started :]

    def _see_when_it_opens(self) -> None:
        opens = self._arrival - self._reserve
        started = self._started
        if started >= self._limit:
            full_until = self._stamps[started % self._limit] + self.rate.per
            opens = max(opens, full_until)
        self.opens = opens


class Line:
    """Where jobs stand that are submitted in one place: their priority and their limits.

    Thread safety: immutable. Each is itself, and equal to no other.
    """

    __slots__ = ("gates", "priority")

    def __init__(self, priority: int = 0, gates: tuple[Gate, ...] = ()) -> None:
        self.priority: Final = priority
        self.gates: Final = gates


ANY_TIME: Final = Line()
