"""Codec: how calls, results and errors become bytes, and functions names.

A call is stored with its arguments as they are when it is submitted. Its function is stored by
name, ``module:qualname``, so what has no name that another process can look up is refused.

Those who can write to the store are trusted: pickle can run anything.

Guarantees: what cannot be encoded is a `TypeError` that says what to do; what cannot be decoded, a
`PayloadError` with the reason. Neither harms the thread that tries.
"""

import pickle
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import MethodType
from typing import Any, Final, NamedTuple

from oddjob.callables import describe
from oddjob.compat import override
from oddjob.durable.record import State
from oddjob.errors import JobLost, JobTimeout, PayloadError, PredecessorFailed, UnknownFunction
from oddjob.runtime.policy import BATCH_ITEM

_PROTOCOL: Final = 5
_MOST_BYTES: Final = 1 << 28  # of arguments, and of an outcome: both fit in one row of any store
_GLOBAL: Final = b"\x93"  # pickle's instruction to look up a class; or any such byte


# What a store says when it fails a job by itself: the name of the class, and a message.
_STORE_ERRORS: Final = {
    each.__name__: each for each in (JobLost, PayloadError, PredecessorFailed, UnknownFunction)
}


class Meta(NamedTuple):
    """What is stored with a call besides its arguments."""

    carrier: dict[Any, Any]  # of the middleware
    options: dict[str, Any]  # that the call was given, and its function was not


def name_of(fn: Callable[..., Any]) -> str:
    """Return the name by which other processes find a function.

    Raises:
        TypeError: it has none: it is a lambda, defined in another function, or bound to an object.
    """
    fn = getattr(fn, "__wrapped__", fn) if hasattr(fn, "_target") else fn
    module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)
    is_bound = isinstance(fn, MethodType) and not isinstance(fn.__self__, type)
    if not module or not name or "<" in name or is_bound:
        raise TypeError(f"{_refusal(fn)}. Or keep the job in memory, with persist=False")
    return f"{_real_name(module)}:{name}"


def _refusal(fn: Any) -> str:
    """Return why a callable has no name by which other processes find it, and what to do."""
    name, place = describe(fn), "at the top level of a module"
    if isinstance(fn, partial):
        what, instead = f"a partial of {name}", f"submit {name} itself, with all its arguments"
    elif name.endswith("<lambda>"):
        what, instead = "a lambda", f"give it a name, with def, {place}"
    elif "<locals>" in name:
        what, instead = f"{name}, inside another function,", f"define it {place}"
    elif hasattr(fn, "__self__"):
        what = f"{name}, bound to an object,"
        instead = f"submit a function {place}, with the object as an argument"
    else:
        what, instead = f"a callable of class {name}", f"submit a function {place} that calls it"
    return f"{what} cannot be stored, as no other process could find it: {instead}"


def _real_name(module: str) -> str:
    """Return under which name others import a module, also if it is run as a program."""
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    if (spec := getattr(main, "__spec__", None)) is not None:
        return str(spec.name.removesuffix(".__main__"))
    file = getattr(main, "__file__", None)
    return "__main__" if file is None else _stem(file)


@cache  # it is asked for with each claim of a program's own functions
def _stem(file: str) -> str:
    return Path(file).stem


def find_function(name: str) -> Callable[..., Any] | None:
    """Return the function of that name if its module has been imported here; else None."""
    module_name, _, path = name.partition(":")
    found: Any = sys.modules.get(module_name)
    if found is None and _real_name("__main__") == module_name:
        found = sys.modules["__main__"]
    for part in path.split("."):
        found = getattr(found, part, None)
    return found if callable(found) else None


def is_plain_data(data: bytes | None) -> bool:
    """Return whether bytes can be decoded without importing or calling anything."""
    return data is None or _GLOBAL not in data


def encode_call(name: str, args: Any, kwargs: Any) -> bytes:
    """Return the bytes of a call's arguments, given as `Job` holds them."""
    call = ((args,), {}) if kwargs is BATCH_ITEM else (args, kwargs or {})
    return _dump(call, f"the arguments of {name}")


def decode_call(payload: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call."""
    args, kwargs = _load(payload, "its arguments")
    return args, kwargs


def encode_meta(meta: Meta) -> bytes | None:
    """Return the bytes of what is stored with a call; None if there is nothing."""
    if not meta.carrier and not meta.options:
        return None
    return _dump(tuple(meta), "the options of a call and what its middleware passes on")


def decode_meta(data: bytes | None) -> Meta:
    """Return what is stored with a call."""
    return Meta({}, {}) if data is None else Meta(*_load(data, "its options"))


def encode_result(result: Any) -> bytes | None:
    """Return the bytes of a result; None is its own."""
    return None if result is None else _dump(result, "the result")


def encode_step(name: str, value: Any) -> bytes:
    """Return the bytes of what a step has returned."""
    return _dump(value, f"what step {name!r} has returned")


def decode_step(name: str, data: bytes) -> Any:
    """Return what a step has returned."""
    return _load(data, f"what step {name!r} has returned")


class StoredTraceback(Exception):
    """The traceback of a failure, as text: the cause of the exception that a store gives back."""

    @override
    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class _Remade:
    """An exception that pickle cannot make again, as its ``__init__`` takes other arguments."""

    def __init__(self, error: BaseException) -> None:
        self._error: Final = error

    @override
    def __reduce__(self) -> Any:
        return _remake, (type(self._error), self._error.args, vars(self._error))


def _remake(kind: type[BaseException], args: Any, attributes: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(attributes)
    return error


def encode_error(error: BaseException, trace: str) -> bytes:
    """Return the bytes of an exception and its traceback: itself, or what can be said of it."""
    reason = "pickle makes something else of it"
    for stored in (error, _Remade(error)):
        try:
            data = _dump((stored, trace), "it")
            if isinstance(pickle.loads(data)[0], BaseException):  # noqa: S301
                return data
        except Exception as failure:
            reason = describe_error(failure)
    said = f"a failure that cannot be stored: {describe_error(error)} ({reason})"
    return pickle.dumps((PayloadError(said), trace), _PROTOCOL)


def decode_outcome(state: State, outcome: bytes | None, error: str | None) -> Any:
    """Return the result of a job that has succeeded, or the exception of one that has failed."""
    if state is State.SUCCEEDED:
        return None if outcome is None else _load(outcome, "its result")
    if outcome is None:
        kind, _, message = (error or "JobLost: ").partition(": ")
        return _STORE_ERRORS.get(kind, JobLost)(message)
    failure, trace = _load(outcome, "its failure")
    failure.__cause__ = StoredTraceback(trace)
    return failure


def describe_error(error: BaseException) -> str:
    """Return one line about an exception, for people."""
    try:
        # The stack of a job that was too slow is in the traceback of its attempt.
        text = str(error.args[0] if type(error) is JobTimeout else error)
        text = text.strip().partition("\n")[0]
    except Exception:  # it is the user's
        text = "its text cannot be made"
    return f"{type(error).__qualname__}: {text}"[:500]


def _dump(value: Any, what: str) -> bytes:
    try:
        data = pickle.dumps(value, _PROTOCOL)
    except Exception as error:
        raise TypeError(f"{what} cannot be stored: {describe_error(error)}") from error
    if len(data) > _MOST_BYTES:
        raise PayloadError(
            f"{what} cannot be stored: {len(data):,} bytes, of at most {_MOST_BYTES:,}. Store the "
            "data elsewhere, and give the job its name"
        )
    return data


def _load(data: bytes, what: str) -> Any:
    try:
        return pickle.loads(data)  # noqa: S301
    except Exception as error:
        raise PayloadError(f"{what} cannot be read: {describe_error(error)}") from error
