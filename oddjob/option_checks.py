"""Checks of single options. Each takes the option's name, for its message, and a value.

It returns the value in the type that the rest of the library relies on, or raises a ``TypeError``
or ``ValueError`` that says what was expected. (Checks of numbers are in `oddjob.quantities`.)
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, get_args

from oddjob.compat import override
from oddjob.keys import check_key

Check = Callable[[str, Any], Any]
WhenFull = Literal["block", "raise", "caller_runs", "drop_oldest"]

_STORES: Final = ("sqlite:", "memory:", "redis:", "rediss:", "redis+", "rediss+", "unix:")


def _check(
    fits: Callable[[Any], bool], wanted: str, convert: Callable[[Any], Any] | None = None
) -> Check:
    def check(name: str, value: Any) -> Any:
        if not fits(value):
            raise TypeError(f"{name} must be {wanted}, not {value!r}")
        return value if convert is None else convert(value)

    return check


def _are_exceptions(value: Any) -> bool:
    classes = value if isinstance(value, tuple) else (value,)
    return all(isinstance(each, type) and issubclass(each, BaseException) for each in classes)


def _is_middleware(value: Any) -> bool:
    methods = (getattr(value, "submit", None), getattr(value, "run", None))
    return any(map(callable, methods)) and not isinstance(value, type)


as_flag: Final = _check(lambda value: isinstance(value, bool), "True or False")
as_callable: Final = _check(callable, "a callable")
as_callbacks: Final = _check(
    lambda value: (
        callable(value) or (isinstance(value, tuple | list) and all(map(callable, value)))
    ),
    "a callable or a list of them",
    lambda value: value if callable(value) else tuple(value),
)
as_text: Final = _check(lambda value: isinstance(value, str), "a string", str)
as_tuple: Final = _check(lambda value: isinstance(value, tuple | list), "a tuple or a list", tuple)
as_classes: Final = _check(_are_exceptions, "an exception class or a tuple of them")
as_exceptions: Final = _check(
    lambda value: _are_exceptions(value) or (callable(value) and not isinstance(value, type)),
    "an exception class, a tuple of them, or a predicate",
)
_as_one_middleware: Final = _check(_is_middleware, "objects with a method submit() or run()")


def as_name(name: str, value: Any) -> str:
    """Return a string that is not empty."""
    text: str = as_text(name, value)
    if not text:
        raise ValueError(f"{name} must not be empty")
    return text


def as_middleware(name: str, value: Any) -> tuple[Any, ...]:
    """Return several middleware objects as a tuple."""
    return tuple(_as_one_middleware(name, each) for each in as_tuple(name, value))


def as_when_full(name: str, value: Any) -> Any:
    """Return one of the policies for a full queue."""
    known = get_args(WhenFull)
    if as_text(name, value) not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, not {value!r}")
    return value


class SafeUrl(str):
    """A URL whose ``repr`` shows no password."""

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return repr(re.sub(r"^(.*?//)?.*(?=@)|(password=)[^&]*", r"\1\2…", str(self)))


def as_store(name: str, value: Any) -> Any:
    """Return the URL of a store, or False."""
    if isinstance(value, str):
        value = SafeUrl(value)
    if value is False or (isinstance(value, str) and value.startswith(_STORES)):
        return value
    wanted = f'{name} must be a URL such as "sqlite:///jobs.db", "redis://localhost" or "memory:"'
    error = ValueError if isinstance(value, str) else TypeError
    raise error(f"{wanted}, or False, not {value!r}")


def as_replace(name: str, value: Any) -> Any:
    """Return what another submission of a unique job changes."""
    if not isinstance(value, bool) and value != "time":
        raise TypeError(f'{name} must be True, False or "time", not {value!r}')
    return value


def as_jobs(name: str, value: Any) -> tuple[Any, ...]:
    """Return the jobs that are meant: one, or several, or those that stand for workflows."""
    jobs = value if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    jobs = tuple(getattr(each, "job", each) for each in jobs)
    for each in jobs:
        if not hasattr(each, "cancel_requested"):
            raise TypeError(f"{name} must be a job or a list of jobs, not {each!r}; see find(id)")
    return jobs


def as_unique(_name: str, value: Any) -> Any:
    """Return a flag, a key, or a function that derives keys."""
    return value if isinstance(value, bool) or callable(value) else check_key(value)
