"""Peers: the processes of one machine that share a store, and how they hear of each other.

A store asks its peers for four things: the *writer's turn*, in which one process at a time writes;
who is *alive*; *wake-ups*; and *started marks*, which say what a dead process was running.

Guarantees
  * Writers queue for their turn: none starves.
  * A process is alive from `enter` until `leave` or its death, however it dies. The kernel says so:
    not its pid, which another process may have by now, nor its age.
  * A wake-up that is sent before `wait` ends that `wait`. `wait` uses no CPU.
  * Marks survive ``kill -9``.

`FilePeers` does this with files beside the database; `local_peers` within one process.
"""

import mmap
import os
import selectors
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from oddjob.durable.record import Claim
from oddjob.locks import ProcessLock, after_fork_in_child

_EXCLUSIVE, _NO_WAIT, _UNLOCK = 2, 4, 8  # as in fcntl, which Windows does not have
_TURN: Final = 0  # the byte of the writer's turn
_FIRST_PROCESS: Final = 16
_PLACES: Final = 4096  # of jobs that run at once; more of them have no marks
_MARK: Final = struct.Struct("=qq")
_BOOT_BYTES: Final = 40
_PROBE_INTERVAL: Final = 1.0  # seconds; only where there are peers whose death is no event

Mark = tuple[int, int]  # id and token of a claim


class Peers(Protocol):
    """What a store needs to know of the other processes, as one of them."""

    def lock(self) -> None:
        """Take the writer's turn, after those who asked before."""

    def unlock(self) -> None:
        """Give it to the next one."""

    def enter(self, process: int) -> None:
        """Be alive, as the process with this number, and receive wake-ups."""

    def leave(self) -> None:
        """Be dead, to the others."""

    def is_dead(self, process: int) -> bool:
        """Return whether another process, which has entered, is not alive."""
        ...

    def watch(self, process: int, pid: int, place: str) -> None:
        """Have `wait` report when a process dies that runs as `pid` in `place`."""

    def unwatch(self, process: int) -> None:
        """Forget a process, and what it has left."""

    def watched(self) -> set[int]:
        """Return the processes that are watched."""
        ...

    def send(self, process: int) -> None:
        """Wake another process; one that is dead is none to worry about."""

    def wake(self) -> None:
        """End this process's `wait`, now or the next one; from any thread."""

    def wait(self, timeout: float | None) -> list[int]:
        """Sleep until woken, or for `timeout` seconds; return processes that may have died."""
        ...

    def mark(self, place: int, claim: Claim) -> None:
        """Mark a claim as begun."""

    def unmark(self, place: int) -> None:
        """Remove that mark."""

    def marks_of(self, process: int) -> set[Mark]:
        """Return what a dead process was running."""
        ...

    def close(self) -> None:
        """Let go of everything that is open."""


class _LockFile:
    """The lock file of a directory, which all `FilePeers` of this process share.

    POSIX locks belong to the process: to close *any* descriptor of the file gives all of them up,
    and they exclude nobody within the process. There, `turn` is the writer's turn, and `alive` has
    the numbers of those who have entered.
    """

    def __init__(self, path: Path, mode: int) -> None:
        self.descriptor: Final = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
        with suppress(OSError):  # another user's
            os.fchmod(self.descriptor, mode)
        self.turn: Final = threading.Lock()
        self.alive: Final[set[int]] = set()
        self.users = 0


class _LockFiles(ProcessLock):
    """The lock files that are open in this process, by device and inode; its lock guards them."""

    def __init__(self) -> None:
        super().__init__()
        self._open: Final[dict[tuple[int, int], _LockFile]] = {}
        # The parent's locks are not a child's, which opens the files for itself.
        after_fork_in_child(self._open.clear)

    def use(self, path: Path, mode: int) -> _LockFile:
        """Return the lock file at a path, which is opened once only."""
        with self.lock:
            try:
                found = self._open.get(_identity(path.stat()))
            except FileNotFoundError:
                found = None
            if found is None:
                found = _LockFile(path, mode)
                self._open[_identity(os.fstat(found.descriptor))] = found
            found.users += 1
            return found

    def release(self, file: _LockFile) -> None:
        """Close a file if nobody else in this process uses it."""
        with self.lock:
            file.users -= 1
            if not file.users:
                self._open.pop(_identity(os.fstat(file.descriptor)), None)
                os.close(file.descriptor)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


_lock_files: Final = _LockFiles()


class FilePeers:
    """Peers on one machine, by the files of a directory.

    ``lock`` is never written; its bytes are locked: byte 0 for the writer's turn, byte 16 + n while
    process n is alive. ``n.sock`` receives the wake-ups of process n (they carry nothing, as their
    senders could not be trusted), ``n.started`` has its marks.

    POSIX record locks, and no others, are not inherited by a fork, so a child does not keep its
    dead parent alive. Nobody waits for an alive-byte.

    Processes of several users can share a store: what is made here may be read and written by
    those who may do so with the directory.
    """

    def __init__(self, directory: Path) -> None:
        import fcntl  # there is none on Windows

        self._lockf: Final = fcntl.lockf
        self._directory: Final = directory
        self._mode: Final = directory.stat().st_mode & 0o666
        self._lock_file: Final = _lock_files.use(directory / "lock", self._mode)
        self._descriptor: Final = self._lock_file.descriptor
        self._process: int | None = None
        self._mailbox: socket.socket | None = None
        self._marks: memoryview | None = None
        self._selector: Final = selectors.DefaultSelector()
        self._pidfds: Final[dict[int, int | None]] = {}  # None: that process cannot be watched
        # For this process's own threads; the mailbox is for others.
        self._alarm_in, self._alarm_out = socket.socketpair()
        for end in (self._alarm_in, self._alarm_out):
            end.setblocking(False)  # noqa: FBT003  (it takes no keyword)
        self._selector.register(self._alarm_out, selectors.EVENT_READ, None)
        # A path through /proc stays below the 108 bytes that an address may have.
        self._directory_fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        through_proc = Path(f"/proc/self/fd/{self._directory_fd}")
        self._addresses: Final = through_proc if through_proc.exists() else directory

    def lock(self) -> None:
        """See `Peers`."""
        self._lock_file.turn.acquire()
        self._lockf(self._descriptor, _EXCLUSIVE, 1, _TURN)

    def unlock(self) -> None:
        """See `Peers`."""
        self._lockf(self._descriptor, _UNLOCK, 1, _TURN)
        self._lock_file.turn.release()

    def enter(self, process: int) -> None:
        """See `Peers`."""
        self.leave()
        self._process = process
        self._lockf(self._descriptor, _EXCLUSIVE, 1, _FIRST_PROCESS + process)
        self._lock_file.alive.add(process)
        address = self._address(process)
        # A power loss can undo the row of a process: its number comes again.
        Path(address).unlink(missing_ok=True)
        mailbox = self._mailbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        mailbox.setblocking(False)  # noqa: FBT003  (it takes no keyword)
        mailbox.bind(address)
        Path(address).chmod(self._mode)
        self._selector.register(mailbox, selectors.EVENT_READ, None)
        self._marks = self._open_marks(process)

    def leave(self) -> None:
        """See `Peers`."""
        if self._mailbox is not None:
            self._selector.unregister(self._mailbox)
            self._mailbox.close()
            self._mailbox = None
        if self._process is not None:
            self._lock_file.alive.discard(self._process)
            self._lockf(self._descriptor, _UNLOCK, 1, _FIRST_PROCESS + self._process)
            self._remove_files(self._process)
            self._process = None

    def is_dead(self, process: int) -> bool:
        """See `Peers`."""
        if process in self._lock_file.alive:
            return False
        place = _FIRST_PROCESS + process
        try:
            self._lockf(self._descriptor, _EXCLUSIVE | _NO_WAIT, 1, place)
        except OSError:
            return False
        self._lockf(self._descriptor, _UNLOCK, 1, place)
        return True

    def watch(self, process: int, pid: int, place: str) -> None:
        """See `Peers`.

        The pid may be another process's by now. The caller looks at the alive-byte afterwards: if
        it is held, the pid was still the peer's when it was opened.
        """
        pidfd = None
        if place == this_place() and hasattr(os, "pidfd_open"):
            with suppress(OSError):
                pidfd = os.pidfd_open(pid)
                self._selector.register(pidfd, selectors.EVENT_READ, process)
        self._pidfds[process] = pidfd

    def unwatch(self, process: int) -> None:
        """See `Peers`."""
        pidfd = self._pidfds.pop(process, None)
        if pidfd is not None:
            self._selector.unregister(pidfd)
            os.close(pidfd)
        self._remove_files(process)

    def watched(self) -> set[int]:
        """See `Peers`."""
        return set(self._pidfds)

    def send(self, process: int) -> None:
        """See `Peers`."""
        # A full buffer holds wake-ups that are not read yet. A mailbox that is gone was a dead
        # process's, of which its watchers hear in another way. In no case is anything raised: what
        # others are woken for is committed.
        if self._mailbox is not None:
            with suppress(OSError):
                self._mailbox.sendto(b".", self._address(process))

    def wake(self) -> None:
        """See `Peers`."""
        with suppress(OSError):  # it is full, or closed
            self._alarm_in.send(b".")

    def wait(self, timeout: float | None) -> list[int]:
        """See `Peers`."""
        unwatched = [each for each, pidfd in self._pidfds.items() if pidfd is None]
        if unwatched:  # in another container, or on a system without pidfds
            timeout = _PROBE_INTERVAL if timeout is None else min(timeout, _PROBE_INTERVAL)
        died = []
        for key, _ in self._selector.select(timeout):
            if key.data is not None:
                died.append(key.data)
            else:
                with suppress(BlockingIOError):  # what is left ends the next wait
                    key.fileobj.recv(4096)  # type: ignore[union-attr]  # a socket
        return died + unwatched

    def mark(self, place: int, claim: Claim) -> None:
        """See `Peers`. Two aligned stores: the id comes last, and goes first."""
        marks = self._marks
        if marks is not None and place < _PLACES:
            marks[2 * place + 1] = claim.token
            marks[2 * place] = claim.id

    def unmark(self, place: int) -> None:
        """See `Peers`."""
        if self._marks is not None and place < _PLACES:
            self._marks[2 * place] = 0

    def marks_of(self, process: int) -> set[Mark]:
        """See `Peers`."""
        try:
            content = (self._directory / f"{process}.started").read_bytes()
        except FileNotFoundError:
            return set()
        written_in, pairs = content[-_BOOT_BYTES:], content[:-_BOOT_BYTES]
        if written_in != _boot():  # the machine has gone down, and what was on the disk may be old
            return set()
        return {(job, token) for job, token in _MARK.iter_unpack(pairs) if job}

    def close(self) -> None:
        """See `Peers`."""
        self.leave()
        for process in list(self._pidfds):
            pidfd = self._pidfds.pop(process)
            if pidfd is not None:
                os.close(pidfd)
        self._selector.close()
        self._alarm_in.close()
        self._alarm_out.close()
        os.close(self._directory_fd)
        _lock_files.release(self._lock_file)

    def _address(self, process: int) -> str:
        return str(self._addresses / f"{process}.sock")

    def _open_marks(self, process: int) -> memoryview:
        file = os.open(self._directory / f"{process}.started", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            os.fchmod(file, self._mode)
            os.ftruncate(file, 0)
            os.ftruncate(file, _PLACES * _MARK.size + _BOOT_BYTES)
            os.pwrite(file, _boot(), _PLACES * _MARK.size)
            return memoryview(mmap.mmap(file, _PLACES * _MARK.size)).cast("q")
        finally:
            os.close(file)

    def _remove_files(self, process: int) -> None:
        for name in (f"{process}.sock", f"{process}.started"):
            with suppress(OSError):
                (self._directory / name).unlink()


def this_place() -> str:
    """Return what tells where a pid means something: this boot, and this pid namespace."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return f"{_boot().decode()} {namespace}"


def _boot() -> bytes:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    except OSError:
        boot = b"unknown"
    return boot.ljust(_BOOT_BYTES)[:_BOOT_BYTES]
