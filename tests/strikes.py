"""Strikes: an exception thrown into a thread, at every possible moment, or at random.

The interpreter looks for signals and asynchronous exceptions when a function begins, when a call
has returned and when a loop goes back, and nowhere else. So what may be interrupted has a finite
number of such moments, and can be tried with an interruption at each of them.

(What is left out is the return of the last call of a ``with`` or ``try`` block: the interpreter
has it strike inside the block, and a trace function could only do so behind it. And what is called
by the interpreter's own starting of threads, which does not get over that.)
"""

import ctypes
import dis
import logging
import sys
import threading
import time
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

_WITHIN = "/oddjob/"
_LOOKS = frozenset(
    number for name, number in dis.opmap.items() if name.startswith(("CALL", "JUMP_BACKWARD"))
)
_OF_STARTING = "JobThread.daemon"
_blocks: dict[CodeType, list[Any]] = {}


class Struck(BaseException):
    """Thrown into a thread from outside."""


def _handler(code: CodeType, offset: int) -> int | None:
    """Where what is raised there is caught in that function."""
    if code not in _blocks:
        _blocks[code] = list(dis.Bytecode(code).exception_entries)
    caught = (each.target for each in _blocks[code] if each.start <= offset < each.end)
    return next(caught, None)


class Striker:
    """Throws `Struck` into the thread that it is installed in, once, at a certain moment.

    `number` says which, counted from 0, of those inside the library that come while it is
    installed, by ``sys.settrace(striker.trace)``. ``where`` then tells which one that was.
    """

    def __init__(self, number: int) -> None:
        self._left = number
        self._last: dict[FrameType, int] = {}
        self.where: str | None = None

    def trace(self, frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        """What the interpreter calls."""
        code = frame.f_code
        if _WITHIN not in code.co_filename or self.where is not None:
            return None
        if code.co_qualname == _OF_STARTING:
            return None
        frame.f_trace_opcodes = True
        if event == "call":
            self._look(frame)
        elif event == "opcode":
            here, last = frame.f_lasti, self._last.get(frame)
            if last is not None and _handler(code, last) == _handler(code, here):
                self._look(frame)
            self._last.pop(frame, None)
            if code.co_code[here] in _LOOKS:
                self._last[frame] = here
        return self.trace

    def _look(self, frame: FrameType) -> None:
        self._left -= 1
        if self._left < 0:
            self.where = f"{frame.f_code.co_qualname}, line {frame.f_lineno}"
            raise Struck(self.where)


# Strikes at random, at threads that run.

# CPython 3.14 looks for exceptions when ``__enter__`` has returned, outside the block that would
# call ``__exit__``: a thread that is struck there keeps its lock for ever, be it the library's or
# the interpreter's own (gh-148874, fixed in 3.15).
WITH_LOSES_LOCKS = sys.version_info[:2] == (3, 14)

no_strikes = threading.RLock()  # held while no thread must be struck
_start = threading.Thread.start
_delete = threading.Thread._delete  # type: ignore[attr-defined]
_throw = ctypes.pythonapi.PyThreadState_SetAsyncExc


def disable_logging() -> None:
    """Log nothing, until ``logging.disable(logging.NOTSET)``, from threads that may be struck.

    A logger that is asked about a level for the first time takes the lock of all of logging. Up to
    CPython 3.12 that is no ``with`` block: a thread that is struck there would keep the lock.
    """
    logging.disable(logging.CRITICAL)
    for level in logging.getLevelNamesMapping().values():
        logging.getLogger("oddjob").isEnabledFor(level)


def strike_thread(thread: threading.Thread, exception: type[BaseException]) -> bool:
    """Throw an exception into a thread; return False if it does not run any more."""
    with no_strikes:
        if thread.ident is None or not thread.is_alive() or hasattr(thread, "is_ending"):
            return False
        return bool(_throw(ctypes.c_ulong(thread.ident), ctypes.py_object(exception)))


def start_unstruck(thread: threading.Thread) -> None:
    """Start a thread; to be put in the place of ``threading.Thread.start``.

    The interpreter's own ``start`` would wait forever for a thread that is struck before it can
    say that it runs; and a new thread may have the identifier of one that was to be struck, and
    has just ended.
    """
    with no_strikes:
        _start(thread)


def end_unstruck(thread: Any) -> None:
    """End a thread; to be put in the place of ``threading.Thread._delete``.

    The interpreter's own would keep the lock of all threads if it was struck while it has it.
    """
    while True:
        try:
            with no_strikes:
                thread.is_ending = True
            for _ in range(100):
                pass  # the last strike comes here, if not before
        except BaseException:
            continue
        break
    _delete(thread)


class Meeting:
    """A ``threading.Barrier`` for threads that may be struck.

    Conditions, events and barriers of the standard library take their lock in Python code, and a
    thread that is struck there keeps it, for all who come later.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._arrived: list[None] = []

    def wait(self, timeout: float) -> None:
        """Wait until all are there; raise ``BrokenBarrierError`` when the time is up."""
        self._arrived.append(None)
        deadline = time.monotonic() + timeout
        while len(self._arrived) < self._size:
            if time.monotonic() > deadline:
                raise threading.BrokenBarrierError
            time.sleep(0.001)
