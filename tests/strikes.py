"""Strikes: an exception thrown into a thread, at every single moment at which that can happen.

The interpreter looks for signals and asynchronous exceptions when a function begins, when a call
has returned and when a loop goes back, and nowhere else. So what may be interrupted has a finite
number of such moments, and can be tried with an interruption at each of them.

(What is left out is the return of the last call of a ``with`` or ``try`` block: the interpreter
has it strike inside the block, and a trace function could only do so behind it. And what is called
by the interpreter's own starting of threads, which does not get over that.)
"""

import dis
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

__all__ = ["Striker", "Struck"]

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
