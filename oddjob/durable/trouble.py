"""Trouble: a store that cannot be used for a while.

Users hear of it once when it begins, and once when it is over. In between the runner tries again,
after pauses that grow.
"""

import logging
from collections.abc import Callable
from typing import Any, Final

from oddjob.log import log
from oddjob.schedule.clock import clock

_FIRST_PAUSE: Final = 0.1  # seconds
_LONGEST_PAUSE: Final = 60.0
_LONG: Final = 3.0  # seconds, for a process that would end otherwise


class Trouble:
    """The trouble with one store.

    Thread safety: the store thread alone uses it.
    """

    def __init__(self, label: str) -> None:
        self._label: Final = label  # of the store, for logs
        self._since: float | None = None  # steady seconds
        self._pause = _FIRST_PAUSE

    @property
    def is_long(self) -> bool:
        """Whether a process that is about to end should not wait any more."""
        return self._since is not None and clock.steady() - self._since > _LONG

    def note(self, error: BaseException) -> None:
        """Note that the store could not be used."""
        if self._since is None:
            self._since = clock.steady()
            what = "%s cannot be used at present, will go on trying: %s"
            log(logging.ERROR, what, self._label, error)

    def wait(self, wait: Callable[[float], Any]) -> None:
        """Wait until the next try; the next wait is longer, if nothing has cut this one short."""
        began = clock.steady()
        wait(self._pause)
        if clock.steady() - began >= self._pause:
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def end(self) -> None:
        """Note that the store could be used."""
        if self._since is not None:
            self._since, self._pause = None, _FIRST_PAUSE
            log(logging.WARNING, "%s can be used again", self._label)
