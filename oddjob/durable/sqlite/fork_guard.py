"""ForkGuard: no thread is inside SQLite while this process forks.

SQLite has mutexes of its own, some for the whole process. If a thread held one of them at a fork,
the child would wait for it forever when it first used SQLite.

Guarantees
  * A fork waits for the threads that use SQLite, and others do not begin meanwhile.
  * Idle connections are closed before a fork. SQLite remembers for each file what this process has
    locked. The child has that memory, but not the locks: connections of its own to such a file
    would lock nothing, and the last other process to leave would delete the log from under them.
  * Neither waits for more than `_PATIENCE`: then things go on as without a guard.
"""

import os
import threading
from collections.abc import Callable
from threading import get_ident
from typing import Any, Final

_PATIENCE: Final = 5.0  # seconds


class ForkGuard:
    """Use it as ``with in_sqlite:`` around every use of a connection; it is reentrant.

    A thread may fork in such a block: it is not inside SQLite then.

    Locking: ``_lock`` guards the other fields; those who wait for ``_changed`` are woken when the
    last user leaves, or the process has forked. Nothing else happens under it.
    """

    def __init__(self) -> None:
        self._begin_anew()
        self.close_idle: Callable[[], object] = lambda: None  # set by the module that has them
        if hasattr(os, "register_at_fork"):  # there is none where there is no fork
            os.register_at_fork(
                before=self._before_fork,
                after_in_parent=self._after_fork,
                after_in_child=self._begin_anew,
            )

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._users: dict[int, int] = {}  # by thread: how many blocks it is in
        self._forks = 0  # under way

    def __enter__(self) -> None:
        me = get_ident()
        with self._lock:
            if self._forks and me not in self._users:
                self._changed.wait_for(lambda: not self._forks, _PATIENCE)
            self._users[me] = self._users.get(me, 0) + 1

    def __exit__(self, *_: object) -> None:
        me = get_ident()
        with self._lock:
            depth = self._users.get(me, 1) - 1  # a child of a fork in the block has no entry
            if depth:
                self._users[me] = depth
            else:
                self._users.pop(me, None)
                if self._forks:
                    self._changed.notify_all()

    def _before_fork(self) -> None:
        me = get_ident()
        is_free: Callable[[], Any] = lambda: not (self._users.keys() - {me})  # noqa: E731
        with self._changed:
            self._forks += 1
            if not self._changed.wait_for(is_free, _PATIENCE):
                return
        self.close_idle()

    def _after_fork(self) -> None:
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()


in_sqlite: Final = ForkGuard()
