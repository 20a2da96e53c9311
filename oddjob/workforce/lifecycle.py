"""The process: its end, for which every queued job runs, and its children.

Worker threads are daemons; instead of the interpreter waiting for their ends, the pools that have
threads are wound up here, at the moment at which ``concurrent.futures`` does the same. In a forked
child, which has none of the threads, every pool begins anew.
"""

import threading
from collections.abc import Callable
from typing import Any, Final, Protocol
from weakref import WeakSet

from oddjob.fork import ProcessLock, in_child
from oddjob.schedule.scheduler import scheduler
from oddjob.timer import cancel_all

__all__ = ["enrol", "for_all", "members", "strike_off", "watch"]


class Mortal(Protocol):
    """Something with threads that must finish its work before the interpreter ends."""

    def begin_anew(self) -> None:
        """Be as if just made: the threads are another process's."""

    def look_around(self) -> None:
        """Take note of what has changed in the process."""

    def close_at_exit(self) -> None:
        """Take no more work."""

    def finish_at_exit(self) -> None:
        """Return when what was taken is done."""


class _Living(ProcessLock):
    """What there is in this process, and which of it must be finished at exit.

    Locking: ``lock`` guards the fields; nothing is called while it is held.
    """

    def __init__(self) -> None:
        super().__init__()
        self.over = False
        self.members: set[Mortal] = set()
        self.known: WeakSet[Mortal] = WeakSet()

    def begin_anew(self) -> None:
        """Be the child's: nothing in it has threads yet."""
        self.members.clear()
        for mortal in list(self.known):
            mortal.begin_anew()


_living: Final = _Living()
in_child(_living.begin_anew)


def watch(mortal: Mortal) -> None:
    """Have it begin anew in forked children."""
    with _living.lock:
        _living.known.add(mortal)


def for_all(act: Callable[[Mortal], object]) -> None:
    """Do something with all there are, whether they have threads or not."""
    with _living.lock:
        known = list(_living.known)
    for mortal in known:
        act(mortal)


def members() -> list[Mortal]:
    """Those that have threads."""
    with _living.lock:
        return list(_living.members)


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
    try:
        scheduler.wait_for_keepers()
    finally:  # Ctrl-C: it need not wait for these
        with _living.lock:
            _living.over = True
            members = list(_living.members)
        for mortal in members:
            mortal.close_at_exit()
        cancel_all()
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
