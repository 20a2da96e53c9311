"""Payload: what is stored of a job's arguments and result, as text, for people.

Guarantees: nothing is unpickled. The instructions of a pickle are read, not followed: classes are
named and never looked up, and nothing is called. Values of keys that look secret are masked. What
is shown twice in a value is shown once, so the text is not longer than the bytes allow.
"""

import json
import pickletools
import re
from typing import Any, Final

from oddjob.compat import override
from oddjob.signing import unverified

_MOST: Final = 10_000  # characters
_MOST_BYTES: Final = 64 << 10  # that are read
_SECRET: Final = re.compile(r"passw|token|secret|authorization|api_?key|credential", re.IGNORECASE)
_PICKLE: Final = b"\x80\x05"


class _Shown(str):
    """Text that stands for a value, as it is."""

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return str(self)


_MASK: Final = _Shown("•••")
_MARK: Final = object()
# Instructions that bring a value of their own, that make an empty one, and that name a constant.
_PLAIN: Final = ("BININT", "LONG1", "LONG4", "BINFLOAT", "SHORT_BIN", "BINUNICODE", "BINBYTES",
                 "BYTEARRAY")  # fmt: skip
_EMPTY: Final = {"EMPTY_LIST": list, "EMPTY_SET": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": _MARK}


def text_of(data: bytes, *, is_call: bool) -> str:
    """Return what bytes in a store stand for, as text.

    Args:
        data: JSON, a pickle, or a signed pickle.
        is_call: whether they are positional and keyword arguments.
    """
    try:
        value = _value_of(data)
        text = repr(value)
        if is_call:
            args, kwargs, *takes_value = value
            first = ["(the result of the job before)"] if takes_value else []
            named = [f"{name} = {each!r}" for name, each in kwargs.items()]
            text = "\n".join([*first, *map(repr, args), *named])
    except Exception:  # whatever was written there
        return f"not shown: {len(data):,} bytes"
    return text if len(text) <= _MOST else f"{text[: _MOST - 1]}…"


def _value_of(data: bytes) -> Any:
    if len(data) > _MOST_BYTES:
        raise ValueError("too long")
    if not data.startswith(_PICKLE) and unverified(data).startswith(_PICKLE):
        data = unverified(data)
    if data.startswith(_PICKLE):
        return _read_pickle(data)
    return json.loads(data, object_pairs_hook=_masked)


def _masked(pairs: Any) -> dict[Any, Any]:
    return {
        name: _MASK if isinstance(name, str) and _SECRET.search(name) else value
        for name, value in pairs
    }


def _read_pickle(data: bytes) -> Any:  # noqa: C901, PLR0912  (a case for each kind of instruction)
    """Return the value of a pickle, with text in place of all that is no plain value."""
    stack: list[Any] = []
    memo: list[Any] = []

    def take(number: int) -> list[Any]:
        taken = stack[len(stack) - number :]
        del stack[len(stack) - number :]
        return taken

    def take_marked() -> list[Any]:
        place = len(stack) - 1
        while stack[place] is not _MARK:
            place -= 1
        taken = take(len(stack) - place)
        return taken[1:]

    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name.startswith(_PLAIN):
            stack.append(argument)
        elif name == "STOP":
            return stack.pop()
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(take(int(name[-1]))))
        elif name in ("TUPLE", "FROZENSET"):
            stack.append(tuple(take_marked()))
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            items = take(1) if name == "APPEND" else take_marked()
            if isinstance(stack[-1], list):
                stack[-1] += items
        elif name in ("SETITEM", "SETITEMS"):
            items = take(2) if name == "SETITEM" else take_marked()
            if isinstance(stack[-1], dict):
                stack[-1].update(_masked(zip(items[::2], items[1::2], strict=True)))
        elif name == "MEMOIZE":
            memo.append(stack[-1])
        elif name in ("BINGET", "LONG_BINGET"):
            known = memo[int(argument or 0)]
            is_short = isinstance(known, str) and len(known) < 100  # noqa: PLR2004
            stack.append(known if is_short else _Shown("…"))
        elif name == "STACK_GLOBAL":
            stack.append(_Shown(".".join(map(str, take(2)))))
        elif name in ("REDUCE", "NEWOBJ"):
            called, arguments = take(2)
            stack.append(_Shown(f"{called}({', '.join(map(repr, arguments))})"))
        elif name == "BUILD":
            take(1)
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(name)
    raise ValueError("it has no end")
