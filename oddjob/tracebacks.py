"""Tracebacks and stacks, without the frames of this library in front."""

import gc
import os.path
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from oddjob.locks import ProcessLock

Frame = tuple[str, int, str]  # file, line, function

_HAS_GIL: Final = bool(getattr(sys, "_is_gil_enabled", lambda: True)())
_OWN_FOLDER: Final = os.path.join(os.path.dirname(__file__), "")  # noqa: PTH118, PTH120  (pathlib is slow to load)
_inspection: Final = ProcessLock()  # held while frames of other threads are read


def drop_own_frames(error: BaseException) -> None:
    """Let the traceback of an exception begin at the first frame that is not of this library.

    Frames of the library refer to the job, and so would keep a failed job in a reference cycle.
    """
    traceback = error.__traceback__
    while traceback is not None and _is_own(traceback.tb_frame.f_code.co_filename):
        traceback = traceback.tb_next
    BaseException.with_traceback(error, traceback)  # an exception may be a frozen dataclass


@contextmanager
def no_collection() -> Iterator[None]:
    """Keep the garbage collector from starting while frames of other threads are read.

    Before 3.12, every new object may start a collection, and so run a destructor that lets other
    threads run. In ``sys._current_frames()``, the interpreter holds a lock that every new thread
    needs: a deadlock. In ``frame.f_back``, it holds a pointer to a frame whose function may then
    return: a crash.
    """
    with _inspection.lock:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if was_enabled:
                gc.enable()


def thread_frames() -> dict[int, FrameType]:
    """Return the current frame of each thread, by the thread's identifier."""
    with no_collection():
        return sys._current_frames()


def stack_of(frame: FrameType | None) -> list[Frame]:
    """Return the stack of a running thread from the job's own call on, the innermost call last."""
    frames: list[Frame] = []
    with no_collection():
        while frame is not None:
            frames.append((frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name))
            frame = frame.f_back
    while frames and (frames[-1][0] == threading.__file__ or _is_own(frames[-1][0])):
        frames.pop()
    return frames[::-1]


def coroutine_stack(coroutine: Any) -> list[Frame]:
    """Return where a coroutine is suspended, the innermost call last; empty if it is running."""
    frames: list[Frame] = []
    if not _HAS_GIL or getattr(coroutine, "cr_running", True):
        return frames  # without the GIL, it may be resumed while its frames are read
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        frames.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        coroutine = coroutine.cr_await
    return frames


def _is_own(filename: str) -> bool:
    return filename.startswith(_OWN_FOLDER)
