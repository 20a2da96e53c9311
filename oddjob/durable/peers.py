"""Peers: the processes of one machine that share a store, and how they communicate.

A store asks its peers for four things: the *writer's turn*, in which one process at a time writes;
who is *alive*; *wake-ups*; and *begun marks*, which say which jobs a dead process was running.

Guarantees
  * Writers queue for their turn: none starves.
  * A process is alive from `enter` until `leave` or its death, however it dies. The kernel decides
    that by a lock; neither a pid, which may be reused, nor a heartbeat is relied on.
  * A wake-up that is sent before `wait` ends that `wait`. `wait` uses no CPU.
  * Begun marks survive ``kill -9``.

`FilePeers` does this with files beside the database; `local_peers` within one process.
"""

import logging
import mmap
import os
import select
import selectors
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from oddjob.compat import override
from oddjob.durable.lock_file import LockFile, identity_of, lock_files
from oddjob.errors import StoreUnusable
from oddjob.log import log

_PLACES: Final = 4096  # for begun marks; if more jobs run at once, the others have no mark
_MARK: Final = struct.Struct("=qq")
_BOOT_BYTES: Final = 40
_PROBE_INTERVAL: Final = 1.0  # seconds; only if there are peers whose death wakes nobody

Mark = tuple[int, int]  # id and token of a claim


class Marked(Protocol):
    """What a begun mark holds of a claim; the id is a number of at most 64 bits."""

    @property
    def id(self) -> Any:
        """The id of its job."""

    @property
    def token(self) -> int:
        """Its fencing token."""
        ...


class Peers(Protocol):
    """This process's view of the processes that use its store; each has a number there."""

    @property
    def place(self) -> str:
        """Where the pid of this process is valid, and which lock file it uses; for `watch`."""
        ...

    def lock(self) -> None:
        """Wait for the writer's turn, and take it.

        Raises:
            StoreUnusable: a file that this needs was removed, and cannot be made again.
        """

    def unlock(self) -> None:
        """Give the writer's turn to the next process."""

    def enter(self, process: int) -> None:
        """Become alive, under this number, and receive wake-ups.

        Raises:
            StoreUnsafe: another process is alive under this number.
        """

    def leave(self) -> None:
        """Stop being alive, as far as the other processes can see."""

    def is_dead(self, process: int) -> bool:
        """Return whether another process, which has entered, is not alive."""
        ...

    def watch(self, process: int, pid: int, place: str) -> None:
        """Let `wait` report the death of a process, which runs as `pid` in `place`."""

    def unwatch(self, process: int) -> None:
        """Stop watching a process, and remove its files."""

    def watched(self) -> set[int]:
        """Return the processes that are watched."""
        ...

    def send(self, process: int) -> None:
        """Wake another process; do nothing if it is dead."""

    def wake(self) -> None:
        """End this process's current `wait`, or its next one; from any thread."""

    def wait(self, timeout: float | None) -> list[int]:
        """Sleep until woken, or for `timeout` seconds; return processes that may have died."""
        ...

    def mark(self, place: int, claim: Marked) -> None:
        """Write a begun mark in one of the places of this process."""

    def unmark(self, place: int) -> None:
        """Remove the begun mark in a place."""

    def marks_of(self, process: int) -> set[Mark]:
        """Return the begun marks of a dead process."""
        ...

    def close(self) -> None:
        """Leave, and close everything that is open."""


class FilePeers(Peers):
    """Peers on one machine, which share the files of a directory.

    The locks of the file ``lock`` say who writes and who is alive: see `LockFile`. The socket
    ``n.sock`` receives the wake-ups of process n, which carry no data, as any process could send
    it. The file ``n.started`` has the begun marks of process n.

    Processes of several users can share a store: files made here have the permissions of the
    directory.

    The directory may be removed while it is in use (``rm -rf jobs.db-*``). A process notices that
    when it takes the writer's turn, and makes the missing files again. Until then
      * on Linux, a wake-up that finds no ``n.sock`` goes to a second mailbox, which is no file;
      * the bytes of a new lock file say nothing about processes that have entered by the old one:
        such a process counts as alive as long as its pid exists, where that can be seen.
    """

    def __init__(self, directory: Path) -> None:
        self._directory: Final = directory
        self._directory_mode: Final = directory.stat().st_mode & 0o7777
        self._mode: Final = self._directory_mode & 0o666
        self._lock_path: Final = str(directory / "lock")
        self._lock_file = lock_files.use(directory / "lock", self._mode)
        self._former_files: Final[list[LockFile]] = []  # open, as threads may wait for them
        self._process: int | None = None
        self._mailbox: socket.socket | None = None
        self._second_mailbox: socket.socket | None = None
        self._marks: memoryview | None = None
        self._selector: Final = selectors.DefaultSelector()
        self._pidfds: Final[dict[int, int | None]] = {}  # None: the kernel reports no death
        self._by_other_lock: Final[set[int]] = set()  # watched; entered by another lock file
        # `wake` writes to this pair; other processes write to the mailboxes.
        self._alarm_in, self._alarm_out = socket.socketpair()
        for end in (self._alarm_in, self._alarm_out):
            end.setblocking(False)  # noqa: FBT003  (it takes no keyword)
        self._selector.register(self._alarm_out, selectors.EVENT_READ, None)
        self._directory_fd = self._open_directory()

    def _open_directory(self) -> int:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC)
        # A path through /proc is shorter than the 108 bytes that a socket address may have.
        through_proc = Path(f"/proc/self/fd/{descriptor}")
        self._addresses = through_proc if through_proc.exists() else self._directory
        return descriptor

    @property
    @override
    def place(self) -> str:
        return self._place_of(this_place())

    def _place_of(self, place: str) -> str:
        return f"{place} {self._lock_file.identity}"

    @override
    def lock(self) -> None:
        while not self._take_turn():
            pass

    def _take_turn(self) -> bool:
        """Take the writer's turn; return False if files were missing, so the turn is given back."""
        file = self._lock_file
        file.take_turn()
        is_replaced = file is not self._lock_file  # by another thread, before this one had the turn
        if not is_replaced and self._is_complete():
            return True
        try:
            if not is_replaced:
                self._make_again()
        finally:
            file.give_turn()
        return False

    def _is_complete(self) -> bool:
        is_found = identity_of(self._lock_path) == self._lock_file.identity
        return is_found and (self._mailbox is None or identity_of(self._mailbox_path) is not None)

    def _make_again(self) -> None:
        """Make the missing files again, and enter once more under the same number."""
        former = self._lock_file
        try:
            with suppress(FileExistsError):
                self._directory.mkdir()
                self._directory.chmod(self._directory_mode)
            former_fd, self._directory_fd = self._directory_fd, self._open_directory()
            os.close(former_fd)
            self._lock_file = lock_files.use(self._directory / "lock", self._mode)
            self._former_files.append(former)
            if self._lock_file is not former:
                self._by_other_lock.update(self._pidfds)  # until they have entered again, too
            if self._process is not None:
                marks = self._marks
                self._lock_file.enter(self._process)
                self._appear(self._process)
                if marks is not None and self._marks is not None:
                    self._marks[:] = marks
        except OSError as error:
            if isinstance(error, StoreUnusable):
                raise
            raise StoreUnusable(
                f"files in {self._directory} were removed while processes used them, and cannot be "
                f"made again: {error}"
            ) from error
        what = "files in %s were removed while processes used them, and are made again: leave them"
        log(logging.ERROR, what, self._directory)
        self.wake()

    @override
    def unlock(self) -> None:
        self._lock_file.give_turn()

    @override
    def enter(self, process: int) -> None:
        self.leave()
        self._lock_file.enter(process)
        self._process = process
        try:
            self._appear(process)
        except BaseException:
            self.leave()
            raise
        with suppress(OSError):  # on other systems than Linux
            self._second_mailbox = self._new_mailbox(self._second_address(process))

    def _appear(self, process: int) -> None:
        """Make the files of this process."""
        address = self._address(process)
        # A power loss can undo the row of a process: its number is used again, and its socket left.
        Path(address).unlink(missing_ok=True)
        former, self._mailbox = self._mailbox, self._new_mailbox(address)
        Path(address).chmod(self._mode)
        self._mailbox_path = str(self._directory / f"{process}.sock")
        self._close_mailbox(former)
        self._marks = self._open_marks(process)

    def _new_mailbox(self, address: str) -> socket.socket:
        mailbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            mailbox.setblocking(False)  # noqa: FBT003  (it takes no keyword)
            mailbox.bind(address)
            self._selector.register(mailbox, selectors.EVENT_READ, None)
        except BaseException:
            mailbox.close()
            raise
        return mailbox

    def _close_mailbox(self, mailbox: socket.socket | None) -> None:
        if mailbox is not None:
            self._selector.unregister(mailbox)
            mailbox.close()

    @override
    def leave(self) -> None:
        for mailbox in (self._mailbox, self._second_mailbox):
            self._close_mailbox(mailbox)
        self._mailbox = self._second_mailbox = None
        self._marks = None  # which unmaps the file
        if self._process is not None:
            self._lock_file.leave(self._process)
            self._remove_files(self._process)
            self._process = None

    @override
    def is_dead(self, process: int) -> bool:
        if self._lock_file.is_held(process):
            return False
        pidfd = self._pidfds.get(process)
        if process not in self._by_other_lock or pidfd is None:
            return True
        exit_poll = select.poll()
        exit_poll.register(pidfd, select.POLLIN)
        return bool(exit_poll.poll(0))

    @override
    def watch(self, process: int, pid: int, place: str) -> None:
        # The pid may be reused. So the caller asks `is_dead` afterwards: if the peer is alive then,
        # the pid was still the peer's when it was opened here.
        pidfd, here = None, this_place()
        if place.startswith(here) and hasattr(os, "pidfd_open"):
            with suppress(OSError):
                pidfd = os.pidfd_open(pid)
                self._selector.register(pidfd, selectors.EVENT_READ, process)
        self._pidfds[process] = pidfd
        if place != self._place_of(here):
            self._by_other_lock.add(process)

    @override
    def unwatch(self, process: int) -> None:
        pidfd = self._pidfds.pop(process, None)
        self._by_other_lock.discard(process)
        if pidfd is not None:
            self._selector.unregister(pidfd)
            os.close(pidfd)
        self._remove_files(process)

    @override
    def watched(self) -> set[int]:
        return set(self._pidfds)

    @override
    def send(self, process: int) -> None:
        # Nothing is raised, as the change that the peer is woken for is committed already.
        if self._mailbox is not None:
            try:
                self._mailbox.sendto(b".", self._address(process))
            except BlockingIOError:
                pass  # its buffer is full of wake-ups that are not read yet
            except OSError:  # it is dead, or its files were removed
                with suppress(OSError):
                    self._mailbox.sendto(b".", self._second_address(process))

    @override
    def wake(self) -> None:
        try:  # noqa: SIM105  (at each submit)
            self._alarm_in.send(b".")
        except OSError:  # the buffer is full, or the socket closed
            pass

    @override
    def wait(self, timeout: float | None) -> list[int]:
        unwatched = [each for each, pidfd in self._pidfds.items() if pidfd is None]
        if unwatched:  # in another container, or on a system without pidfds
            timeout = _PROBE_INTERVAL if timeout is None else min(timeout, _PROBE_INTERVAL)
        died = []
        for key, _ in self._selector.select(timeout):
            if key.data is not None:
                died.append(key.data)
            else:
                try:  # noqa: SIM105  (at each submit)
                    key.fileobj.recv(4096)  # type: ignore[union-attr]  # a socket
                except BlockingIOError:
                    pass  # further wake-ups end the next `wait`
        return died + unwatched

    @override
    def mark(self, place: int, claim: Marked) -> None:
        # Two aligned stores. A mark counts once its id is there, so the id is written last.
        marks = self._marks
        if marks is not None and place < _PLACES:
            marks[2 * place + 1] = claim.token
            marks[2 * place] = claim.id

    @override
    def unmark(self, place: int) -> None:
        marks = self._marks
        if marks is not None and place < _PLACES:
            marks[2 * place] = 0

    @override
    def marks_of(self, process: int) -> set[Mark]:
        try:
            content = (self._directory / f"{process}.started").read_bytes()
        except FileNotFoundError:
            return set()
        written_in, pairs = content[-_BOOT_BYTES:], content[:-_BOOT_BYTES]
        if written_in != _boot():  # the machine was restarted: the disk may have an old state
            return set()
        return {(job, token) for job, token in _MARK.iter_unpack(pairs) if job}

    @override
    def close(self) -> None:
        self.leave()
        for process in list(self._pidfds):
            pidfd = self._pidfds.pop(process)
            if pidfd is not None:
                os.close(pidfd)
        self._selector.close()
        self._alarm_in.close()
        self._alarm_out.close()
        os.close(self._directory_fd)
        for file in (*self._former_files, self._lock_file):
            lock_files.release(file)

    def _address(self, process: int) -> str:
        return str(self._addresses / f"{process}.sock")

    def _second_address(self, process: int) -> str:
        """Return an abstract address, made of the identity of the database and the number."""
        database = str(self._directory).removesuffix("-oddjob")
        return f"\0oddjob {identity_of(database)} {process}"

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
    """Return where a pid of this process is valid: this boot, and this pid namespace."""
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
