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

from oddjob.durable.lock_file import LockFile, identity_of, lock_files
from oddjob.errors import StoreUnusable
from oddjob.log import log

_PLACES: Final = 4096  # for marks: of more jobs that run at once, the rest have none
_MARK: Final = struct.Struct("=qq")
_BOOT_BYTES: Final = 40
_PROBE_INTERVAL: Final = 1.0  # seconds; only where there are peers whose death is no event

Mark = tuple[int, int]  # id and token of a claim


class Marked(Protocol):
    """A claim, as far as a mark has it; its id is a number that fits into 64 bits."""

    @property
    def id(self) -> Any:
        """Its job."""

    @property
    def token(self) -> int:
        """Its fencing token."""
        ...


class Peers(Protocol):
    """What a store needs to know of the other processes, as one of them."""

    @property
    def place(self) -> str:
        """Where this process has entered, for those who `watch` it."""
        ...

    def lock(self) -> None:
        """Take the writer's turn, after those who asked before.

        Raises:
            StoreUnusable: what this takes was removed, and cannot be made again.
        """

    def unlock(self) -> None:
        """Give it to the next one."""

    def enter(self, process: int) -> None:
        """Be alive, as the process with this number, and receive wake-ups.

        Raises:
            StoreUnsafe: another one is alive as that.
        """

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

    def mark(self, place: int, claim: Marked) -> None:
        """Mark a claim as begun."""

    def unmark(self, place: int) -> None:
        """Remove that mark."""

    def marks_of(self, process: int) -> set[Mark]:
        """Return what a dead process was running."""
        ...

    def close(self) -> None:
        """Let go of everything that is open."""


class FilePeers:
    """Peers on one machine, by the files of a directory.

    ``lock`` says who writes and who is alive: see `LockFile`. ``n.sock`` receives the wake-ups of
    process n (they carry nothing, as their senders could not be trusted), ``n.started`` has its
    marks.

    Processes of several users can share a store: what is made here may be read and written by
    those who may do so with the directory.

    The directory may be removed while it is in use (``rm -rf jobs.db-*``). A process finds that
    out when it takes its turn, and makes again what is missing. Meanwhile
      * a wake-up that finds no ``n.sock`` goes to a second mailbox, which is no file, on Linux;
      * an alive-byte that is free in a new lock file says nothing of those who have entered by the
        old one: such a process is alive as long as its pid is, where that can be seen.
    """

    def __init__(self, directory: Path) -> None:
        self._directory: Final = directory
        self._directory_mode: Final = directory.stat().st_mode & 0o7777
        self._mode: Final = self._directory_mode & 0o666
        self._lock_path: Final = str(directory / "lock")
        self._lock_file = lock_files.use(directory / "lock", self._mode)
        self._former_files: Final[list[LockFile]] = []  # other threads may wait for their turn
        self._process: int | None = None
        self._mailbox: socket.socket | None = None
        self._second_mailbox: socket.socket | None = None
        self._marks: memoryview | None = None
        self._selector: Final = selectors.DefaultSelector()
        self._pidfds: Final[dict[int, int | None]] = {}  # None: that process cannot be watched
        self._by_other_lock: Final[set[int]] = set()  # of these, who entered by another file
        # For this process's own threads; the mailboxes are for others.
        self._alarm_in, self._alarm_out = socket.socketpair()
        for end in (self._alarm_in, self._alarm_out):
            end.setblocking(False)  # noqa: FBT003  (it takes no keyword)
        self._selector.register(self._alarm_out, selectors.EVENT_READ, None)
        self._directory_fd: int | None = None
        self._open_directory()

    def _open_directory(self) -> None:
        # A path through /proc stays below the 108 bytes that an address may have.
        former = self._directory_fd
        self._directory_fd = os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC)
        if former is not None:
            os.close(former)
        through_proc = Path(f"/proc/self/fd/{self._directory_fd}")
        self._addresses = through_proc if through_proc.exists() else self._directory

    @property
    def place(self) -> str:
        """See `Peers`."""
        return self._place_of(this_place())

    def _place_of(self, place: str) -> str:
        return f"{place} {self._lock_file.identity}"

    def lock(self) -> None:
        """See `Peers`."""
        while not self._take_turn():
            pass

    def _take_turn(self) -> bool:
        """Take the turn; return False if that was of no use, as files were missing."""
        file = self._lock_file
        file.take_turn()
        is_replaced = file is not self._lock_file  # while another thread had the turn
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
        """Enter once more, as the same process."""
        former = self._lock_file
        try:
            with suppress(FileExistsError):
                self._directory.mkdir()
                self._directory.chmod(self._directory_mode)
            self._open_directory()
            self._lock_file = lock_files.use(self._directory / "lock", self._mode)
            self._former_files.append(former)
            if self._lock_file is not former:
                self._by_other_lock.update(self._pidfds)  # until they find out as well
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

    def unlock(self) -> None:
        """See `Peers`."""
        self._lock_file.give_turn()

    def enter(self, process: int) -> None:
        """See `Peers`."""
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
        # A power loss can undo the row of a process: its number comes again.
        address = self._address(process)
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

    def leave(self) -> None:
        """See `Peers`."""
        for mailbox in (self._mailbox, self._second_mailbox):
            self._close_mailbox(mailbox)
        self._mailbox = self._second_mailbox = None
        self._marks = None  # which closes the file
        if self._process is not None:
            self._lock_file.leave(self._process)
            self._remove_files(self._process)
            self._process = None

    def is_dead(self, process: int) -> bool:
        """See `Peers`."""
        if self._lock_file.is_held(process):
            return False
        pidfd = self._pidfds.get(process)
        if process not in self._by_other_lock or pidfd is None:
            return True
        exit_poll = select.poll()
        exit_poll.register(pidfd, select.POLLIN)
        return bool(exit_poll.poll(0))

    def watch(self, process: int, pid: int, place: str) -> None:
        """See `Peers`.

        The pid may be another process's by now. The caller looks at the alive-byte afterwards: if
        it is held, the pid was still the peer's when it was opened.
        """
        pidfd, here = None, this_place()
        if place.startswith(here) and hasattr(os, "pidfd_open"):
            with suppress(OSError):
                pidfd = os.pidfd_open(pid)
                self._selector.register(pidfd, selectors.EVENT_READ, process)
        self._pidfds[process] = pidfd
        if place != self._place_of(here):
            self._by_other_lock.add(process)

    def unwatch(self, process: int) -> None:
        """See `Peers`."""
        pidfd = self._pidfds.pop(process, None)
        self._by_other_lock.discard(process)
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
            try:
                self._mailbox.sendto(b".", self._address(process))
            except BlockingIOError:
                pass
            except OSError:
                with suppress(OSError):
                    self._mailbox.sendto(b".", self._second_address(process))

    def wake(self) -> None:
        """See `Peers`."""
        try:  # noqa: SIM105  (at each submit)
            self._alarm_in.send(b".")
        except OSError:  # it is full, or closed
            pass

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
                try:  # noqa: SIM105  (at each submit)
                    key.fileobj.recv(4096)  # type: ignore[union-attr]  # a socket
                except BlockingIOError:
                    pass  # what is left ends the next wait
        return died + unwatched

    def mark(self, place: int, claim: Marked) -> None:
        """See `Peers`. Two aligned stores: the id comes last, and goes first."""
        marks = self._marks
        if marks is not None and place < _PLACES:
            marks[2 * place + 1] = claim.token
            marks[2 * place] = claim.id

    def unmark(self, place: int) -> None:
        """See `Peers`."""
        marks = self._marks
        if marks is not None and place < _PLACES:
            marks[2 * place] = 0

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
        if self._directory_fd is not None:
            os.close(self._directory_fd)
        for file in (*self._former_files, self._lock_file):
            lock_files.release(file)

    def _address(self, process: int) -> str:
        return str(self._addresses / f"{process}.sock")

    def _second_address(self, process: int) -> str:
        """Return an address that is no file, of the database's identity and the process."""
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
