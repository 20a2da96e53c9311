"""LockFile: the file whose locked bytes say which process writes, and which are alive.

Byte 0 is locked for the writer's turn, byte 16 + n while process n is alive. No byte is written.

POSIX record locks are used because, unlike other file locks, a forked child does not inherit them,
and so does not keep its dead parent alive. They belong to the whole process: they do not exclude
its threads from each other, and are all released when *any* descriptor of the file is closed. So a
process opens the file once, for all its stores. Within the process, a `threading.Lock` is the
writer's turn, and a set holds the numbers under which the process is alive.
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
    """Return the identity of a file (None if it is missing), and its modification time in ns."""
    try:
        status = os.stat(path)  # noqa: PTH116  (in each turn; twice as fast as pathlib)
    except OSError:
        return None, 0
    return (status.st_dev, status.st_ino), status.st_mtime_ns


def identity_of(path: str | Path) -> Identity | None:
    """Return the device and inode of a file; None if it is missing."""
    return status_of(path)[0]


class LockFile:
    """An open lock file.

    Thread safety: any thread may take the writer's turn, and gives it back itself. The store thread
    calls the rest, during its turn.
    """

    def __init__(self, path: Path, mode: int) -> None:
        import fcntl  # there is none on Windows

        self._fcntl: Final = fcntl
        self._descriptor: Final = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
        with suppress(OSError):  # the file is another user's
            os.fchmod(self._descriptor, mode)
        status = os.fstat(self._descriptor)
        self.identity: Final[Identity] = (status.st_dev, status.st_ino)
        self._turn: Final = threading.Lock()
        self._alive: Final[set[int]] = set()  # numbers under which this process has entered
        self._hold_up: Final = HoldUp(str(path.parent).removesuffix("-oddjob"), self._who_writes)
        self.users = 0  # stores of this process; counted by `LockFiles`

    def take_turn(self) -> None:
        """Wait for the writer's turn, and take it."""
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
        """Give the writer's turn to the next thread or process."""
        self._unlock(_TURN)
        self._turn.release()

    def enter(self, process: int) -> None:
        """Lock the byte that says that the process with this number is alive.

        Raises:
            StoreUnsafe: another process holds it, so it has read another state of the database.
        """
        if not self._lock(_FIRST_PROCESS + process, _NO_WAIT):
            raise StoreUnsafe(
                "the database was restored, or files beside it were deleted, while processes used "
                "it, and it has lost what these have written since: stop all of them first"
            )
        self._alive.add(process)

    def leave(self, process: int) -> None:
        """Unlock that byte."""
        self._alive.discard(process)
        self._unlock(_FIRST_PROCESS + process)

    def is_held(self, process: int) -> bool:
        """Return whether the process with this number has entered, and is alive."""
        if process in self._alive:
            return True
        if not self._lock(_FIRST_PROCESS + process, _NO_WAIT):
            return True
        self._unlock(_FIRST_PROCESS + process)
        return False

    def close(self) -> None:
        """Close the file, which releases all locks."""
        os.close(self._descriptor)

    def _lock(self, byte: int, flags: int = 0) -> bool:
        try:
            self._fcntl.lockf(self._descriptor, _EXCLUSIVE | flags, 1, byte)
        except (BlockingIOError, PermissionError):  # which one depends on the system
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
        # A forked child does not have the parent's locks: it opens the files for itself.
        after_fork_in_child(self._open.clear)

    def use(self, path: Path, mode: int) -> LockFile:
        """Return the lock file at a path; open it, or make it, if this process has not yet."""
        with self.lock:
            found = self._open.get(identity_of(path))
            if found is None:
                found = LockFile(path, mode)
                self._open[found.identity] = found
            found.users += 1
            return found

    def release(self, file: LockFile) -> None:
        """Give up one use of a file, and close the file after the last one."""
        with self.lock:
            file.users -= 1
            if not file.users:
                self._open.pop(file.identity, None)
                file.close()


lock_files: Final = LockFiles()
