"""Exceptions in JSON: a store on a server gives back what was raised, without running any code."""

from collections.abc import Sequence
from typing import Any

import pytest

from oddjob import JobTimeout, PayloadError
from oddjob.durable.serializers import JsonSerializer

ABOUT = ("error", "1")


class Declined(Exception):
    """With arguments of its own, as exceptions of programs have."""

    def __init__(self, card: str, *, code: int) -> None:
        super().__init__(f"{card} was declined")
        self.code = code


def returned(error: BaseException) -> Any:
    """Return what becomes of an exception in a store."""
    serializer = JsonSerializer()
    found, trace = serializer.load_error(serializer.dump_error(error, "trace", ABOUT), ABOUT)
    assert trace == "trace"
    return found


def undecodable() -> UnicodeDecodeError:
    return UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


@pytest.mark.parametrize(
    ("error", "names"),
    [
        (JobTimeout("slow", [("file.py", 3, "work")]), ["args", "stack"]),
        (OSError(2, "No such file", "/nope"), ["args", "errno", "filename", "strerror"]),
        (undecodable(), ["args", "object", "start", "reason"]),
        (KeyError(("a", 1)), ["args"]),
        (Declined("Visa", code=7), ["args", "code"]),
        (ValueError("plain", [1, (2, None)], {"a": [3]}), ["args"]),
    ],
)
def test_an_exception_comes_back_as_it_was(error: BaseException, names: Sequence[str]) -> None:
    found = returned(error)
    assert type(found) is type(error)
    assert str(found) == str(error)
    for name in names:
        assert getattr(found, name) == getattr(error, name)


def test_a_group_comes_back_with_what_is_in_it() -> None:
    found = returned(ExceptionGroup("two", [ValueError("one"), OSError(1, "other")]))
    assert (found.message, [*map(repr, found.exceptions)]) == (
        "two",
        ["ValueError('one')", "PermissionError(1, 'other')"],
    )


def test_what_an_exception_cannot_bring_along_is_told_in_its_text() -> None:
    thing = object()
    assert returned(ValueError(thing)).args == (str(thing),)
    assert str(thing) in str(returned(OSError(thing, "strange")))
    group = returned(ExceptionGroup("lost", [Unpackable(thing)]))
    assert isinstance(group, ExceptionGroup | PayloadError)
    assert "lost" in str(group)


class Unpackable(Exception):
    """Its argument is not for JSON."""
