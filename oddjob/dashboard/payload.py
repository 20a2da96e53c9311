"""Payload: what is stored of a job's arguments and result, as text, for people.

Guarantees: nothing is unpickled. The instructions of a pickle are read, not followed: classes are
named and never looked up, and nothing is called. Values of keys that look secret are masked, and
the text is at most `_MOST` characters, whatever the bytes say.
"""

import json
import pickletools
import re
from typing import Any, Final, NamedTuple

from oddjob.signing import unverified

_MOST: Final = 10_000  # characters
_MOST_BYTES: Final = 64 << 10  # that are read
_SECRET: Final = re.compile(r"passw|token|secret|authorization|api_?key|credential", re.IGNORECASE)
_MASK: Final = "•••"
_PICKLE: Final = b"\x80\x05"
_PLAIN: Final = ("BININT", "LONG1", "LONG4", "BINFLOAT", "SHORT_BIN", "BINUNICODE", "BINBYTES",
                 "BYTEARRAY")  # fmt: skip  # instructions that bring a value of their own


class _Named(NamedTuple):
    """A class or function that a pickle names, or what it would make of one."""

    text: str
    arguments: Any = None


_MARK: Final = object()


def text_of(data: bytes, *, is_call: bool) -> str:
    """Return what bytes in a store stand for, as text.

    Args:
        data: JSON, a pickle, or a signed pickle.
        is_call: whether they are positional and keyword arguments.
    """
    writer = _Writer()
    try:
        value = _value_of(data)
        if is_call and isinstance(value, list) and len(value) == 2:  # noqa: PLR2004  (both kinds)
            writer.write_call(*value)
        else:
            writer.write(value)
    except Exception:  # whatever was written there
        return f"not shown: {len(data):,} bytes"
    return writer.text


def _value_of(data: bytes) -> Any:
    if len(data) > _MOST_BYTES:
        raise ValueError("too long")
    if not data.startswith(_PICKLE) and unverified(data).startswith(_PICKLE):
        data = unverified(data)
    return _read_pickle(data) if data.startswith(_PICKLE) else json.loads(data)


class _Writer:
    """Writes values until there is no more room: a small pickle can stand for a huge value."""

    def __init__(self) -> None:
        self.text = ""

    def write_call(self, args: Any, kwargs: Any) -> None:
        """Write arguments as in a call, one a line."""
        named = kwargs.items() if isinstance(kwargs, dict) else ()
        for name, value in [*((None, each) for each in args), *named]:
            self._add("" if name is None else f"{name} = ")
            self._add(_MASK) if _is_secret(name) else self.write(value)
            self._add("\n")
        self.text = self.text.rstrip("\n")

    def write(self, value: Any) -> None:
        """Write a value."""
        if len(self.text) >= _MOST:
            return
        if isinstance(value, _Named):
            self._add(value.text)
            if value.arguments is not None:
                self._write_all(value.arguments, "()")
        elif isinstance(value, dict):
            self._write_pairs([*value.items()])
        elif isinstance(value, list | tuple | set):
            brackets = (
                "[]" if isinstance(value, list) else "()" if isinstance(value, tuple) else "{}"
            )
            self._write_all(value, brackets)
        else:
            self._add(repr(value[:_MOST]) if isinstance(value, str | bytes) else repr(value))

    def _write_all(self, values: Any, brackets: str) -> None:
        self._add(brackets[0])
        for place, each in enumerate(
            values if isinstance(values, list | tuple | set) else [values]
        ):
            self._add(", " if place else "")
            self.write(each)
            if len(self.text) >= _MOST:
                return
        self._add(brackets[1])

    def _write_pairs(self, pairs: list[tuple[Any, Any]]) -> None:
        self._add("{")
        for place, (name, value) in enumerate(pairs):
            self._add(", " if place else "")
            self.write(name)
            self._add(": ")
            self._add(_MASK) if _is_secret(name) else self.write(value)
            if len(self.text) >= _MOST:
                return
        self._add("}")

    def _add(self, text: str) -> None:
        if len(self.text) < _MOST <= len(self.text) + len(text):
            text = text[: _MOST - len(self.text) - 1] + "…"
        if len(self.text) < _MOST:
            self.text += text


def _is_secret(name: Any) -> bool:
    return isinstance(name, str) and _SECRET.search(name) is not None


def _read_pickle(data: bytes) -> Any:  # noqa: C901, PLR0912, PLR0915  (a case for each instruction)
    """Return the value of a pickle, with a `_Named` in place of all that is no plain value."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def take(number: int) -> list[Any]:
        taken = stack[len(stack) - number :]
        del stack[len(stack) - number :]
        return taken

    def take_marked() -> list[Any]:
        taken = []
        while (top := stack.pop()) is not _MARK:
            taken.append(top)
        return taken[::-1]

    for opcode, argument, _ in pickletools.genops(data):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                stack.append(_MARK)
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_SET":
                stack.append(set())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(take(int(opcode.name[-1]))))
            case "TUPLE":
                stack.append(tuple(take_marked()))
            case "FROZENSET":
                stack.append(_Named("frozenset", take_marked()))
            case "APPEND" | "APPENDS" | "ADDITEMS":
                items = take(1) if opcode.name == "APPEND" else take_marked()
                if isinstance(stack[-1], list):
                    stack[-1] += items
                elif isinstance(stack[-1], set):
                    stack[-1].update(each for each in items if _is_key(each))
            case "SETITEM" | "SETITEMS":
                items = take(2) if opcode.name == "SETITEM" else take_marked()
                if isinstance(stack[-1], dict):
                    pairs = zip(items[::2], items[1::2], strict=True)
                    stack[-1].update((k if _is_key(k) else repr(k), v) for k, v in pairs)
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[int(argument or 0)])
            case "STACK_GLOBAL":
                module, name = take(2)
                stack.append(_Named(f"{module}.{name}"))
            case "REDUCE" | "NEWOBJ":
                called, arguments = take(2)
                name = called.text if isinstance(called, _Named) else "?"
                stack.append(_Named(name, arguments))
            case "BUILD":
                take(1)
            case name if name.startswith(_PLAIN):
                stack.append(argument)
            case other:
                raise ValueError(other)
    raise ValueError("it has no end")


def _is_key(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
