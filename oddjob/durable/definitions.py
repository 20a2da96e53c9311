"""Definitions: whether a module has defined all that its functions may call, and each name once.

A function is decorated while its module is being executed: what it calls may be defined further
down. So its jobs are begun when the module has come to its end, or past its last definition; or
when it stands at one line, as a program does that calls ``run_forever()`` above the definitions of
another branch.

A stored job is found by the name of its function. Of two functions of one name, the jobs of both
would run the second one, so that one is refused. It is different if a module is reloaded, or a cell
of a notebook is run again: then the new function takes the place of the former one. And what has a
name that means another callable, because the name was bound anew, is refused when it is submitted.
"""

import sys
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, Final
from weakref import WeakSet, ref

from oddjob.durable.codec import find_function, unwrapped
from oddjob.schedule.clock import clock
from oddjob.tracebacks import no_collection, thread_frames

_STANDSTILL: Final = 2.0  # seconds at one line

_lines: Final[dict[str, tuple[int, float]]] = {}  # by module: its line, and since when

# By stored name: the function that was decorated; the spec of its module, which each execution of a
# module has anew; and the function that had the name before.
_decorated: Final[dict[str, tuple[ref[FunctionType], Any, ref[FunctionType] | None]]] = {}
_all_decorated: Final[WeakSet[FunctionType]] = WeakSet()


def note_decorated(name: str, fn: Any) -> None:
    """Note that a function is decorated.

    Args:
        name: the name by which its stored jobs are found.
        fn: the function.

    Raises:
        ValueError: its module has already decorated another function of that name.
    """
    fn = getattr(fn, "__func__", fn)
    if type(fn) is not FunctionType:
        return
    code, spec = fn.__code__, fn.__globals__.get("__spec__")
    former, former_spec, _ = _decorated.get(name, (None, None, None))
    named = unwrapped(find_function(name))  # what has the name so far
    found = None if former is None or spec is not former_spec else former()
    if found is not None and found is named and found is not fn:
        other = found.__code__
        is_loop = other is code
        is_same_file = other.co_filename == code.co_filename and "__file__" in fn.__globals__
        if is_loop or (is_same_file and other.co_firstlineno != code.co_firstlineno):
            raise ValueError(
                f"there are two functions {name}, in lines {other.co_firstlineno} and "
                f"{code.co_firstlineno} of {code.co_filename}: a stored job is found by the name "
                "of its function, so give each its own"
            )
    _decorated[name] = ref(fn), spec, ref(named) if type(named) is FunctionType else None
    _all_decorated.add(fn)


def check_name(name: str, fn: Any) -> None:
    """Raise ``TypeError`` if a stored name means another callable than the one that is submitted.

    Args:
        name: the name by which stored jobs find their function.
        fn: the function that is submitted.
    """
    found: Any = find_function(name)
    fn, named = unwrapped(fn), unwrapped(found)
    if named == fn:  # two bound methods are equal if their functions and objects are the same
        return
    code = getattr(fn, "__code__", None)
    if type(fn) is type(named) is FunctionType:
        if fn in _all_decorated and named in _all_decorated:
            return  # its module was executed anew
        if code is not named.__code__ and code == named.__code__:
            return  # a program that is also imported is there twice
    decorated, _, before = _decorated.get(name, (None, None, None))
    if decorated is not None and decorated() is getattr(fn, "__func__", fn):
        former = None if before is None else before()
        if former is named:
            return  # its timer is set while it is decorated, and it has no name yet
    raise TypeError(
        f"{fn!r} cannot be stored, as {name} is {found!r}: submit that, or give each a name of its "
        "own. Or keep the job in memory, with persist=False"
    )


def is_defined(function: str) -> bool:
    """Return whether the module of a function, given by its stored name, is completely defined.

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
    lines = [each.co_firstlineno for each in codes if each.co_name.isidentifier()
             or each.co_name.startswith("<generic parameters of ")]  # fmt: skip
    return max(lines, default=0)
