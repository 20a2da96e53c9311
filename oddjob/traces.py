"""Tracebacks: the frames that people need to see, and not ours."""

import gc
import os.path
import sys
import threading
from types import FrameType
from typing import Any, Final

from oddjob.fork import ProcessLock

__all__ = [
    "Place",
    "frames_of_threads",
    "leave_out_outermost_frame",
    "leave_out_outermost_frames",
    "where_a_coroutine_stands",
    "where_it_stands",
]

Place = tuple[str, int, str]  # file, line, function

_HAS_GIL: Final = bool(getattr(sys, "_is_gil_enabled", lambda: True)())
_looking: Final = ProcessLock()
_OURS: Final = os.path.dirname(__file__)  # noqa: PTH120  (pathlib takes time to load)

# As the base class has it: an exception's own class may have other ideas.
_traceback: Final[Any] = BaseException.__dict__["__traceback__"]


def leave_out_outermost_frame(error: BaseException) -> None:
    """Let the traceback begin one call further in, if there is one."""
    trace = _traceback.__get__(error)
    if trace is not None and trace.tb_next is not None:
        _traceback.__set__(error, trace.tb_next)


def leave_out_outermost_frames(error: BaseException, number: int) -> None:
    """Let the traceback begin so many calls further in, if there are as many."""
    for _ in range(number):
        leave_out_outermost_frame(error)


def frames_of_threads() -> dict[int, FrameType]:
    """What each thread of the process is at, by its identifier."""
    with _looking.lock:
        # Before 3.12 a collection may begin in there, and run somebody's callback, while the
        # interpreter holds a lock that every thread needs that is started: it would stand still.
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames()
        finally:
            if was_enabled:
                gc.enable()


def where_it_stands(frame: FrameType | None) -> list[Place]:
    """The places in a running thread's stack, the innermost last, from the job's own call on."""
    places: list[Place] = []
    while frame is not None:
        places.append((frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name))
        frame = frame.f_back
    while places and (places[-1][0] == threading.__file__ or places[-1][0].startswith(_OURS)):
        places.pop()
    return places[::-1]


def where_a_coroutine_stands(coroutine: Any) -> list[Place]:
    """The places at which a coroutine waits, the innermost last; none if it is not waiting."""
    places: list[Place] = []
    if not _HAS_GIL or getattr(coroutine, "cr_running", True):
        return places  # without the GIL it might be going on at this very moment
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        places.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        coroutine = coroutine.cr_await
    return places
