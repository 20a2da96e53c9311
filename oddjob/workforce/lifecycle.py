"""The end of the process: every queued job runs, and nothing else holds it up.

Worker threads are daemons; instead of the interpreter waiting for their ends, the pools that have
threads are wound up here, at the moment at which ``concurrent.futures`` does the same.
"""

import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

__all__ = ["enrol", "strike_off"]


class Mortal(Protocol):
    """Something with threads that must finish its work before the interpreter ends."""

    def close_at_exit(self) -> None:
        """Take no more work."""

    def finish_at_exit(self) -> None:
        """Return when what was taken is done."""


class _Living:
    """What there is to finish at exit.

    Locking: ``lock`` guards both fields; nothing is called while it is held.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.over = False
        self.members: set[Mortal] = set()


_living: Final = _Living()


def enrol(mortal: Mortal) -> bool:
    """Remember something that will have threads; false if the interpreter is shutting down."""
    with _living.lock:
        if not _living.over:
            _living.members.add(mortal)
        return not _living.over


def strike_off(mortal: Mortal) -> None:
    """Forget something that has no threads any more."""
    with _living.lock:
        _living.members.discard(mortal)


def _finish_all() -> None:
    with _living.lock:
        _living.over = True
        members = list(_living.members)
    for mortal in members:
        mortal.close_at_exit()
    for mortal in members:
        mortal.finish_at_exit()


def _register(finish: Callable[[], None]) -> None:
    # ``atexit`` is too late and not enough: forked ``multiprocessing`` children skip it. This is
    # the hook of ``concurrent.futures.thread`` itself; it has no public name.
    hook: Any = getattr(threading, "_register_atexit", None)
    if hook is None:
        import atexit

        hook = atexit.register
    hook(finish)


_register(_finish_all)
