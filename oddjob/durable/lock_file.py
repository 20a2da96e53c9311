"""LockFile: the file whose locked bytes say which process writes, and which are alive.

Byte 0 is locked for the writer's turn, byte 16 + n while process n is alive. It is never written.

POSIX record locks, and no others, are not inherited by a fork, so a child does not keep its dead
parent alive. They belong to the process: to close *any* descriptor of the file gives all of them
up, and they exclude nobody within the process. So a process opens the file once, for all who use
it; among its threads a lock is the writer's turn, and a set has the numbers that are its own.
"""

import os
import struct
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from oddjob.durable.trouble import HoldUp
from oddjob.errors import StoreUnsafe
from oddjob.locks import ProcessLock, after_fork_in_child

_EXCLUSIVE, _NO_WAIT, _UNLOCK = 2, 4, 8  # as in fcntl, which Windows does not have
_TURN: Final = 0  # the byte of the writer's turn
_FIRST_PROCESS: Final = 16
_FLOCK: Final = struct.Struct("@hhqqi4x")  # on Linux: type, whence, start, length, pid
_WRITE_LOCK, _NO_LOCK = 1, 2  # types

Identity = tuple[int, int]  # device and inode


def status_of(path: str | Path) -> tuple[Identity | None, int]:
    """Return what tells a file from others, if there is one, and when it was written; in ns."""
    try:
        status = os.stat(path)  # noqa: PTH116  (in each turn; it takes half the time)
    except OSError:
        return None, 0
    return (status.st_dev, status.st_ino), status.st_mtime_ns


def identity_of(path: str | Path) -> Identity | None:
    """Return what tells a file from others; None if there is none of that name."""
    return status_of(path)[0]


class LockFile:
    """An open lock file.

    Thread safety: any thread may take the turn. One thread calls the rest, in its turn.
    """

    def __init__(self, path: Path, mode: int) -> None:
        import fcntl  # there is none on Windows

        self._fcntl: Final = fcntl
        self._descriptor: Final = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
        with suppress(OSError):  # another user's
            os.fchmod(self._descriptor, mode)
        status = os.fstat(self._descriptor)
        self.identity: Final[Identity] = (status.st_dev, status.st_ino)
        self._turn: Final = threading.Lock()
        self._alive: Final[set[int]] = set()
        self._hold_up: Final = HoldUp(str(path.parent).removesuffix("-oddjob"), self._who_writes)
        self.users = 0

    def take_turn(self) -> None:
        """Wait for the writer's turn, after those who asked before."""
        if not self._turn.acquire(blocking=False):
            with self._hold_up.waiting():
                self._turn.acquire()
        try:
            if not self._lock(_TURN, _NO_WAIT):
                with self._hold_up.waiting():
                    self._lock(_TURN)
        except BaseException:
            self._turn.release()
            raise

    def give_turn(self) -> None:
        """Give it to the next one."""
        self._unlock(_TURN)
        self._turn.release()

    def enter(self, process: int) -> None:
        """Be alive, as the process with this number.

        Raises:
            StoreUnsafe: another process is that, so it knows another state of the database.
        """
        if not self._lock(_FIRST_PROCESS + process, _NO_WAIT):
            raise StoreUnsafe(
                "the database was restored, or files beside it were deleted, while processes used "
                "it, and it has lost what these have written since: stop all of them first"
            )
        self._alive.add(process)

    def leave(self, process: int) -> None:
        """Be dead, to the others."""
        self._alive.discard(process)
        self._unlock(_FIRST_PROCESS + process)

    def is_held(self, process: int) -> bool:
        """Return whether a process has entered, and is alive."""
        if process in self._alive:
            return True
        if not self._lock(_FIRST_PROCESS + process, _NO_WAIT):
            return True
        self._unlock(_FIRST_PROCESS + process)
        return False

    def close(self) -> None:
        """Close the file, which gives up all locks."""
        os.close(self._descriptor)

    def _lock(self, byte: int, flags: int = 0) -> bool:
        try:
            self._fcntl.lockf(self._descriptor, _EXCLUSIVE | flags, 1, byte)
        except (BlockingIOError, PermissionError):  # which of them depends on the system
            return False
        return True

    def _unlock(self, byte: int) -> None:
        self._fcntl.lockf(self._descriptor, _UNLOCK, 1, byte)

    def _who_writes(self) -> str:
        if sys.platform != "linux":
            return "another process writes, or is stopped in the middle of that"
        asked = _FLOCK.pack(_WRITE_LOCK, os.SEEK_SET, _TURN, 1, 0)
        found = self._fcntl.fcntl(self._descriptor, self._fcntl.F_GETLK, asked)
        kind, _, _, _, pid = _FLOCK.unpack(found)
        if kind == _NO_LOCK:
            return "a job of this process has an open transaction, or writes much at once"
        who = f"process {pid}" if pid else "a process of another container"
        return f"{who} writes, has an open transaction, or is stopped in the middle of that"


class LockFiles(ProcessLock):
    """The lock files that are open in this process, by device and inode; its lock guards them."""

    def __init__(self) -> None:
        super().__init__()
        self._open: Final[dict[Identity | None, LockFile]] = {}
        # The parent's locks are not a child's, which opens the files for itself.
        after_fork_in_child(self._open.clear)

    def use(self, path: Path, mode: int) -> LockFile:
        """Return the lock file at a path, which is opened once only, and made if there is none."""
        with self.lock:
            found = self._open.get(identity_of(path))
            if found is None:
                found = LockFile(path, mode)
                self._open[found.identity] = found
            found.users += 1
            return found

    def release(self, file: LockFile) -> None:
        """Close a file if nobody else in this process uses it."""
        with self.lock:
            file.users -= 1
            if not file.users:
                self._open.pop(file.identity, None)
                file.close()


lock_files: Final = LockFiles()
