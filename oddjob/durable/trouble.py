"""Trouble: a store cannot be used for a while. HoldUp: threads wait unusually long to write to it.

Each is logged once when it begins, and once when it is over. In trouble the runner tries again,
after pauses that grow, and are random, so that not all processes try at the same moment.
"""

import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import get_ident
from typing import Any, Final, TypeVar

from oddjob.compat import override
from oddjob.errors import StoreFull, StoreUnusable
from oddjob.log import log
from oddjob.schedule.clock import clock
from oddjob.schedule.scheduler import Alarm, scheduler

_FIRST_PAUSE: Final = 0.1  # seconds
_LONGEST_PAUSE: Final = 10.0
_LONG: Final = 3.0  # seconds of trouble, after which closing pools end without the store
_UNUSUAL: Final = 1.0  # seconds that a writer waits, after which that is logged


T = TypeVar("T")


class Trouble:
    """The trouble with one store.

    Thread safety: `counted` is for any thread, and so is `errors`, to read; the rest is for the
    store thread.
    """

    def __init__(self, label: str) -> None:
        self._lock: Final = threading.Lock()  # held to change `errors`; nothing is called under it
        self.errors: Final[Counter[str]] = Counter()  # by operation
        self._label: Final = label  # of the store, for logs
        self._since: float | None = None  # steady seconds
        self._pause = _FIRST_PAUSE

    @property
    def is_long(self) -> bool:
        """Whether a pool that is closing should not wait for the store any more."""
        return self._since is not None and clock.steady() - self._since > _LONG

    def note(self, error: BaseException) -> None:
        """Note that the store could not be used."""
        self._count("turn")
        if self._since is None:
            self._since = clock.steady()
            what = "%s cannot be used at present, will go on trying: %s"
            log(logging.ERROR, what, self._label, error)

    def counted(self, operation: str, act: Callable[[], T]) -> T:
        """Return what `act` returns; count a `StoreFull` or `StoreUnusable` that it raises."""
        try:
            return act()
        except (StoreFull, StoreUnusable):
            self._count(operation)
            raise

    def _count(self, operation: str) -> None:
        with self._lock:
            self.errors[operation] += 1

    def wait(self, wait: Callable[[float], Any]) -> None:
        """Wait until the next try; the wait after it is longer, unless this one was cut short."""
        began = clock.steady()
        pause = random.uniform(self._pause / 2, self._pause)  # noqa: S311
        wait(pause)
        if clock.steady() - began >= pause:
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def end(self) -> None:
        """Note that the store could be used."""
        if self._since is not None:
            self._since, self._pause = None, _FIRST_PAUSE
            log(logging.WARNING, "%s can be used again", self._label)


class HoldUp(Alarm):
    """Logs why threads of this process cannot write to one store, if they wait for long.

    While threads wait, the scheduler looks at them once a second.

    Thread safety: any thread. The scheduler's lock makes it one step to set the alarm. No waiting
    thread is missed: a thread is entered in ``_since`` before it reads ``_is_set``, and `_fire`
    clears ``_is_set`` before it reads ``_since``.

    Args:
        path: of the store.
        reason: returns why threads have to wait, for the log.
    """

    __slots__ = ("_is_said", "_is_set", "_path", "_reason", "_since")

    def __init__(self, path: str, reason: Callable[[], str]) -> None:
        self._path: Final = path
        self._reason: Final = reason
        self._since: Final[dict[int, float]] = {}  # monotonic seconds, by waiting thread
        self._is_set = False  # whether the alarm will fire
        self._is_said = False  # whether the present hold-up is logged

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Note that the calling thread waits in this block, in vain if the block raises."""
        me = get_ident()
        self._since[me] = clock.monotonic()
        self._set(self._since[me] + _UNUSUAL)
        is_in_vain = True
        try:
            yield
            is_in_vain = False
        finally:
            del self._since[me]
            self._note_end(is_in_vain=is_in_vain)

    def _set(self, at: float) -> None:
        if self._is_set:
            return
        with scheduler.lock:
            if not self._is_set:  # an alarm that is set twice would fire once, and stay
                scheduler.set_alarm(self, at)
                self._is_set = True
        with suppress(RuntimeError):  # at the end of the process
            scheduler.ensure_thread()

    @override
    def _fire(self) -> None:
        self._is_set = False
        since = min(list(self._since.values()), default=None)
        if since is None or self._is_said:
            return
        if clock.monotonic() - since < _UNUSUAL:
            self._set(since + _UNUSUAL)
            return
        self._is_said = True
        what = "%s has waited for %g s to be written: %s"
        log(logging.WARNING, what, self._path, _UNUSUAL, self._reason())
        self._note_end()  # the hold-up may have ended while it was logged

    def _note_end(self, *, is_in_vain: bool = False) -> None:
        if self._is_said and not self._since:
            self._is_said = False
            if not is_in_vain:  # else users see the error instead
                log(logging.WARNING, "%s can be written again", self._path)
