"""Definitions: whether a module has defined all that its functions may call.

A function is decorated while its module is being executed: what it calls may be defined further
down. So its jobs are begun when the module has come to its end, or past its last definition; or
when it stands at one line, as a program does that calls ``run_forever()`` above the definitions of
another branch.
"""

import sys
from types import CodeType, FrameType, ModuleType
from typing import Final

from oddjob.schedule.clock import clock
from oddjob.tracebacks import no_collection, thread_frames

_STANDSTILL: Final = 2.0  # seconds at one line

_lines: Final[dict[str, tuple[int, float]]] = {}  # by module: its line, and since when


def is_defined(function: str) -> bool:
    """Return whether a function, by its stored name, finds what its module is to define.

    Thread safety: any thread; two that ask at once may have to ask once more.
    """
    module = sys.modules.get(function.partition(":")[0]) or sys.modules["__main__"]
    is_importing = getattr(getattr(module, "__spec__", None), "_initializing", False)
    frame = _frame_of(module)
    if frame is None:
        return not is_importing
    if not is_importing and frame.f_lineno > _last_definition(frame.f_code):
        return True
    line, since = _lines.get(module.__name__, (0, 0.0))
    if line != frame.f_lineno:
        _lines[module.__name__] = frame.f_lineno, clock.steady()
        return False
    return clock.steady() - since >= _STANDSTILL


def _frame_of(module: ModuleType) -> FrameType | None:
    """Return the frame that executes a module, in whatever thread."""
    for innermost in thread_frames().values():
        frame: FrameType | None = innermost
        with no_collection():
            while frame is not None:
                if frame.f_globals is vars(module) and frame.f_code.co_name == "<module>":
                    return frame
                frame = frame.f_back
    return None


def _last_definition(code: CodeType) -> int:
    """Return the line of the last ``def`` or ``class`` of a module, wherever it is."""
    codes = [each for each in code.co_consts if isinstance(each, CodeType)]
    return max((each.co_firstlineno for each in codes if each.co_name.isidentifier()), default=0)
