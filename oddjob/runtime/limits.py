"""Limits: what a job may have to wait for besides a worker.

A limit is passive. The queue asks it whether it is open, acquires and releases it, parks before it
the jobs that it stops, and lets the first of them go on when it opens.

Locking: the lock of the queue that has adopted the limit guards every field.
"""

from abc import ABC, abstractmethod
from array import array
from math import inf
from typing import Any, Final

from oddjob.compat import override
from oddjob.rate import Rate

_REACHABLE: Final = 30_000  # starts in a second
_LATENESS: Final = 0.05  # seconds by which a start may be late and the next ones make up for it
_UNCERTAINTY: Final = 0.05  # seconds by which a start may reach the callee later
_UNCERTAINTY_OF_WINDOW: Final = 0.005, 0.1  # fractions of the window: that is at least, at most


class Limit(ABC):
    """What the queue needs to know of any limit.

    ``opens_at`` is the moment, in monotonic seconds, from which the next job may pass: minus
    infinity while the limit is open, infinity while another job must finish first.
    """

    __slots__ = ("__weakref__", "opens_at", "scheduled_for", "waiting")

    limits_running_jobs = True  # False: it limits starts, which nested jobs of one worker are too

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all starts and waiting jobs; also called in a forked child."""
        self.opens_at: float = -inf
        self.waiting: list[Any] = []  # heap of the jobs that this limit stops
        self.scheduled_for: float = inf  # when the queue will look at it, in monotonic seconds

    @abstractmethod
    def acquire(self, now: float, queued_at: float) -> int | None:
        """Let a job pass that has waited since `queued_at`; return the ticket for `release`.

        The limit is open: the caller has looked. None: there is nothing to release.
        """

    @abstractmethod
    def release(self, ticket: int, now: float) -> None:
        """Note that the job with that ticket has finished."""

    @abstractmethod
    def recount(self, running: int) -> None:
        """Rebuild the state after an asynchronous exception; `running` jobs hold tickets."""


class ConcurrencyLimit(Limit):
    """At most `limit` jobs at once: a semaphore that never blocks."""

    __slots__ = ("_running", "limit")

    def __init__(self, limit: int) -> None:
        self.limit: Final = limit
        super().__init__()

    @override
    def __repr__(self) -> str:
        return str(self.limit)

    @override
    def reset(self) -> None:
        super().reset()
        self._running = 0

    @override
    def acquire(self, now: float, queued_at: float) -> int:
        self._running += 1
        if self._running >= self.limit:
            self.opens_at = inf
        return 0

    @override
    def release(self, ticket: int, now: float) -> None:
        self._running -= 1
        if self._running < self.limit:
            self.opens_at = -inf

    @override
    def recount(self, running: int) -> None:
        self._running = running
        self.opens_at: float = inf if running >= self.limit else -inf


def uncertainty_of(rate: Rate) -> float:
    """Return the seconds by which a start that is counted may reach the callee later."""
    least, most = (share * rate.per for share in _UNCERTAINTY_OF_WINDOW)
    return max(least, min(_UNCERTAINTY, most))


class RateLimiter(Limit):
    """At most ``rate.limit`` starts in any window of ``rate.per`` seconds.

    Two rules, and a start has to obey both:

    - *Spread*: the generic cell rate algorithm (a leaky bucket). One start becomes due every
      ``per / limit`` seconds, and an idle limiter saves up ``burst`` of them. A job that waited
      and starts late for the pool's own reasons delays the next ones by at most 50 ms.
    - *Window*: a ring of the last ``limit`` starts. A start has to be a whole window later than
      the one ``limit`` starts before it. When a call reaches the service that it is limited for
      is only known to lie between its start and its end, so the stamp is a little later than the
      start (`_UNCERTAINTY`), and is moved back to the end of a call that ends before. (But for
      rates that are not meant to be reached, more than `_REACHABLE`: there are no tickets then.)
    """

    __slots__ = ("_due", "_has_tickets", "_interval", "_limit", "_per", "_saved", "_stamps",
                 "_started", "_uncertainty", "rate")  # fmt: skip

    limits_running_jobs = False

    def __init__(self, rate: Rate) -> None:
        self.rate: Final = rate
        self._limit: Final = rate.limit
        self._per: Final = rate.per
        self._interval: Final = rate.per / rate.limit
        self._saved: Final = (rate.burst - 1) * self._interval
        self._has_tickets: Final = rate.limit <= rate.per * _REACHABLE
        self._uncertainty: Final = uncertainty_of(rate)
        super().__init__()

    @override
    def __repr__(self) -> str:
        return repr(self.rate)

    @override
    def reset(self) -> None:
        super().reset()
        self._due = 0.0  # when the next start is due if starts are evenly spread
        self._started = 0
        self._stamps = array("d")  # of the last `limit` starts; number n is at n modulo limit

    @override
    def acquire(self, now: float, queued_at: float) -> int | None:
        due = self._due
        if due >= now:  # ahead of an even spread: a saved-up start
            counted_from = due
        elif queued_at <= due:  # late for the pool's own reasons
            counted_from = max(due, now - _LATENESS)
        else:  # the job came after an idle time, of which nothing is made up for
            counted_from = now
        self._due = counted_from + self._interval
        ticket = self._started
        self._started = ticket + 1
        if ticket < self._limit:
            self._stamps.append(now + self._uncertainty)
        else:
            self._stamps[ticket % self._limit] = now + self._uncertainty
        self._update()
        return ticket if self._has_tickets else None

    @override
    def release(self, ticket: int, now: float) -> None:
        place = ticket % self._limit
        is_in_ring = self._started - self._limit <= ticket < self._started
        if is_in_ring and now < self._stamps[place]:
            self._stamps[place] = now
            if place == self._started % self._limit:
                self._update()

    @override
    def recount(self, running: int) -> None:
        if self._started < self._limit:
            del self._stamps[self._started :]
        self._update()

    def _update(self) -> None:
        opens_at = self._due - self._saved
        if self._started >= self._limit:
            window_ends_at = self._stamps[self._started % self._limit] + self._per
            opens_at = max(opens_at, window_ends_at)
        self.opens_at: float = opens_at
