"""Tracer: the system calls with which another process changes files, in their order.

It is a debugger (``ptrace``) in a few lines, so that nothing has to be installed. Linux only. The
process that is traced has a single thread.
"""

import ctypes
import os
import platform
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

_SEIZE, _INTERRUPT, _SYSCALL, _GET_SYSCALL_INFO = 0x4206, 0x4207, 24, 0x420E
_TRACE_SYSCALLS: Final = 1  # an option: stops at system calls are told from others
_STOP_AT_SYSCALL: Final = signal.SIGTRAP | 0x80
_ENTRY, _EXIT = 1, 2

# Numbers of system calls; those that the architecture does not have are missing.
_CALLS: Final = {
    "x86_64": {
        1: "write", 2: "open", 18: "pwrite64", 74: "fsync", 75: "fdatasync", 77: "ftruncate",
        82: "rename", 87: "unlink", 257: "openat", 263: "unlinkat",
    },
    "aarch64": {
        35: "unlinkat", 38: "renameat", 46: "ftruncate", 56: "openat", 64: "write", 68: "pwrite64",
        82: "fsync", 83: "fdatasync",
    },
}  # fmt: skip


class _SyscallInfo(ctypes.Structure):
    _fields_ = (
        ("op", ctypes.c_uint8),
        ("arch", ctypes.c_uint32),
        ("instruction", ctypes.c_uint64),
        ("stack", ctypes.c_uint64),
        ("number", ctypes.c_uint64),  # or, at the exit, the result
        ("arguments", ctypes.c_uint64 * 6),
    )


class Call(NamedTuple):
    """A system call that has succeeded; of a file, the path at the time."""

    name: str
    path: str
    offset: int = 0  # or the new size
    data: bytes = b""
    is_new: bool = False  # it has made the file


class Tracer:
    """A process under observation, from now to its end."""

    def __init__(self, pid: int) -> None:
        self._pid: Final = pid
        self._libc: Final = ctypes.CDLL(None, use_errno=True)
        self._libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
        self._libc.ptrace.restype = ctypes.c_long
        self._calls: Final = _CALLS[platform.machine()]
        self._memory = -1
        self.exit_status: int | None = None
        self._ptrace(_SEIZE, 0, _TRACE_SYSCALLS)
        self._ptrace(_INTERRUPT)

    def calls(self) -> Iterator[Call]:
        """Let the process run to its end; yield what it does to files."""
        self._memory = os.open(f"/proc/{self._pid}/mem", os.O_RDONLY)
        entered: Call | None = None
        try:
            while True:
                _, status = os.waitpid(self._pid, 0)
                if not os.WIFSTOPPED(status):
                    self.exit_status = os.waitstatus_to_exitcode(status)
                    return
                number = 0
                if os.WSTOPSIG(status) == _STOP_AT_SYSCALL:
                    info = _SyscallInfo()
                    self._ptrace(_GET_SYSCALL_INFO, ctypes.sizeof(info), ctypes.addressof(info))
                    if info.op == _ENTRY:
                        entered = self._entered(info)
                    elif entered is not None:
                        if ctypes.c_int64(info.number).value >= 0:
                            yield entered
                        entered = None
                elif status >> 16 == 0:  # a signal, which the process is to get
                    number = os.WSTOPSIG(status)
                self._ptrace(_SYSCALL, 0, number)
        finally:
            os.close(self._memory)

    def _entered(self, info: _SyscallInfo) -> Call | None:
        name = self._calls.get(info.number)
        a, b, c, d, *_ = info.arguments
        if name is None:
            return None
        if name in ("open", "openat", "unlink", "unlinkat", "rename", "renameat"):
            path = self._read_path(a if name in ("open", "unlink", "rename") else b)
            flags = {"open": b, "openat": c}.get(name, 0)
            is_new = bool(flags & os.O_CREAT) and not Path(path).exists()
            return Call(name.removesuffix("at"), path, is_new=is_new)
        path = str(Path(f"/proc/{self._pid}/fd/{a}").readlink())
        if name in ("write", "pwrite64"):
            is_ours = name == "pwrite64" or path.startswith(("/", "pipe:"))
            data = os.pread(self._memory, c, b) if is_ours else b""
            return Call(name, path, d if name == "pwrite64" else 0, data)
        return Call(name, path, b if name == "ftruncate" else 0)

    def _read_path(self, address: int) -> str:
        text = os.pread(self._memory, 512, address).split(b"\0")[0]
        path = os.fsdecode(text)
        return (
            path if path.startswith("/") else str(Path(f"/proc/{self._pid}/cwd").readlink() / path)
        )

    def _ptrace(self, request: int, address: int = 0, data: int = 0) -> None:
        if self._libc.ptrace(request, self._pid, address, data) < 0:
            error = ctypes.get_errno()
            raise OSError(error, f"ptrace: {os.strerror(error)}")
