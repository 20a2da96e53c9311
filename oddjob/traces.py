"""Tracebacks: the frames that people need to see, and not ours."""

from typing import Any, Final

__all__ = ["leave_out_outermost_frame"]

# As the base class has it: an exception's own class may have other ideas.
_traceback: Final[Any] = BaseException.__dict__["__traceback__"]


def leave_out_outermost_frame(error: BaseException) -> None:
    """Let the traceback begin one call further in, if there is one."""
    trace = _traceback.__get__(error)
    if trace is not None and trace.tb_next is not None:
        _traceback.__set__(error, trace.tb_next)
