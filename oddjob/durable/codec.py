"""Codec: encodes calls, results and errors as bytes, and functions as names.

A call is stored with its arguments as they are when it is submitted. Its function is stored by
name, ``module:qualname``; a function that other processes cannot find by such a name is refused.
"""

import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import MethodType
from typing import Any, Final, NamedTuple

from oddjob.callables import describe
from oddjob.compat import override
from oddjob.durable.record import Partition, State
from oddjob.durable.serializers import Serializer
from oddjob.errors import (
    BatchFailed,
    JobLost,
    PayloadError,
    PredecessorFailed,
    UnknownFunction,
    describe_error,
)
from oddjob.runtime.policy import call_arguments

_MOST_BYTES: Final = 1 << 28  # of arguments, and of an outcome: both fit in one row of any store


# A store that fails a job by itself stores no outcome, but an error text: "class: message".
_STORE_ERRORS: Final = {
    each.__name__: each
    for each in (BatchFailed, JobLost, PayloadError, PredecessorFailed, UnknownFunction)
}


class StoredCall(NamedTuple):
    """The arguments of a call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    takes_value: bool = False  # the result of another job is passed before these arguments


class Meta(NamedTuple):
    """What is stored with a call apart from its arguments."""

    carrier: dict[Any, Any]  # of the middleware
    options: dict[str, Any]  # of the call, where they differ from those of its function


def name_of(fn: Callable[..., Any]) -> str:
    """Return the name by which other processes find a function.

    Raises:
        TypeError: `fn` has no such name: it is a lambda, defined in another function, or bound to
            an object; or it is not a function.
    """
    if not callable(fn):
        raise TypeError(f"{fn!r} is not callable")
    fn = unwrapped(fn)
    module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)
    is_bound = isinstance(fn, MethodType) and not isinstance(fn.__self__, type)
    if not module or not name or "<" in name or is_bound:
        raise TypeError(f"{_refusal(fn)}. Or keep the job in memory, with persist=False")
    return f"{_real_name(module)}:{name}"


def unwrapped(fn: Any) -> Any:
    """Return the function that ``@pool.job`` has wrapped; any other callable is returned itself."""
    return fn.__wrapped__ if hasattr(fn, "_target") else fn


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
    """Return the name by which other processes import a module, which may run as a program."""
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    if (spec := getattr(main, "__spec__", None)) is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return "__main__" if file is None else _stem(file)


@cache  # for each claim of a function that is defined in the program itself
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


class Codec:
    """Encodes and decodes the calls, results and errors of one store.

    Args:
        serializer: turns values into bytes, and back.

    Guarantees: a value that cannot be encoded raises a `TypeError` that says what to do, or a
    `PayloadError` if it is too large. Bytes that cannot be decoded raise a `PayloadError` with the
    reason.
    """

    def __init__(self, serializer: Serializer) -> None:
        self._serializer: Final = serializer
        self.is_plain: Final = serializer.is_plain

    def encode_call(
        self, partition: Partition, args: Any, kwargs: Any, *, takes_value: bool = False
    ) -> bytes:
        """Return the bytes of a call's arguments, given as `Job` holds them."""
        args, kwargs = call_arguments(args, kwargs)
        what = f"the arguments of {partition.function}"
        call = [list(args), kwargs, *[True] * takes_value]
        return self._dump(call, what, ("call", partition.pool, partition.function))

    def decode_call(self, payload: bytes, pool: str, function: str) -> StoredCall:
        """Return the arguments of a call."""
        return self._load(payload, "its arguments", ("call", pool, function), _as_call)  # type: ignore[no-any-return]

    def encode_meta(self, meta: Meta, partition: Partition) -> bytes | None:
        """Return the bytes of a call's carrier and options; None if both are empty."""
        if not meta.carrier and not meta.options:
            return None
        about = ("meta", partition.pool, partition.function)
        options = self._serializer.pack_options(meta.options)
        try:
            return self._dump([meta.carrier, options], "what middleware passes on", about)
        except TypeError:
            for name, value in options.items():
                what = f"{name}, which must be at the top level of a module if it is a predicate,"
                self._dump(value, what, about)
            raise

    def decode_meta(self, data: bytes | None, pool: str, function: str) -> Meta:
        """Return the carrier and options of a call."""
        if data is None:
            return Meta({}, {})
        about = ("meta", pool, function)
        return self._load(data, "its options", about, self._as_meta)  # type: ignore[no-any-return]

    def decode_plain_meta(self, data: bytes, pool: str, function: str) -> Meta:
        """Return the carrier and options of a call, without importing or calling anything."""
        about = ("meta", pool, function)
        return self._load(data, "its options", about, self._as_meta, self._serializer.load_plain)  # type: ignore[no-any-return]

    def _as_meta(self, value: Any) -> Meta:
        carrier, options = value
        return Meta(dict(carrier), self._serializer.unpack_options(options))

    def encode_result(self, result: Any, job: Any) -> bytes | None:
        """Return the bytes of a result; None for the result None."""
        if result is None:
            return None
        try:
            return self._dump(result, "the result", ("result", str(job)))
        except TypeError as error:
            raise UnstorableResult(str(error)) from error

    def encode_step(self, name: str, value: Any, job: Any) -> bytes:
        """Return the bytes of the value of a step."""
        return self._dump(value, f"what step {name!r} has returned", ("step", str(job), name))

    def decode_step(self, name: str, data: bytes, job: Any) -> Any:
        """Return the value of a step."""
        return self._load(data, f"what step {name!r} has returned", ("step", str(job), name))

    def encode_error(self, error: BaseException, trace: str, job: Any) -> bytes:
        """Return the bytes of an exception, or of a description of it, and its traceback."""
        about = ("error", str(job))
        try:
            return _checked(self._serializer.dump_error(error, trace, about), "it")
        except Exception as reason:
            said = f"{describe_error(error)} ({describe_error(reason)})"
        failure = PayloadError(f"a failure that cannot be stored: {said}")
        return self._serializer.dump_error(failure, trace, about)

    def decode_outcome(
        self, state: State, outcome: bytes | None, error: str | None, job: Any
    ) -> Any:
        """Return the result of a succeeded job, or the exception of a failed one."""
        if state is State.SUCCEEDED:
            if outcome is None:
                return None
            return self._load(outcome, "its result", ("result", str(job)))
        if outcome is None:
            kind, _, message = (error or "JobLost: ").partition(": ")
            return _STORE_ERRORS.get(kind, JobLost)(message)
        try:
            failure, trace = self._serializer.load_error(outcome, ("error", str(job)))
        except Exception as reason:
            said = describe_error(reason)
            raise PayloadError(f"its failure cannot be read: {said}") from reason
        failure.__cause__ = StoredTraceback(trace)
        return failure

    def _dump(self, value: Any, what: str, about: tuple[str, ...]) -> bytes:
        try:
            data = self._serializer.dump(value, about)
        except Exception as error:
            raise TypeError(f"{what} cannot be stored: {describe_error(error)}") from error
        return _checked(data, what)

    def _load(
        self,
        data: bytes,
        what: str,
        about: tuple[str, ...],
        read: Callable[[Any], Any] = lambda value: value,
        load: Callable[[bytes, tuple[str, ...]], Any] | None = None,
    ) -> Any:
        try:
            return read((load or self._serializer.load)(data, about))
        except Exception as error:
            raise PayloadError(f"{what} cannot be read: {describe_error(error)}") from error


def _checked(data: bytes, what: str) -> bytes:
    if len(data) > _MOST_BYTES:
        raise PayloadError(
            f"{what} cannot be stored: {len(data):,} bytes, of at most {_MOST_BYTES:,}. Store the "
            "data elsewhere, and give the job its name"
        )
    return data


def _as_call(value: Any) -> StoredCall:
    args, kwargs, *rest = value
    return StoredCall(tuple(args), dict(kwargs), bool(rest))


class UnstorableResult(PayloadError, TypeError):
    """The result of a job cannot be stored. The job is not retried, as it has run."""


class StoredTraceback(Exception):
    """The traceback of a failure, as text: the cause of the exception that a store gives back."""

    @override
    def __str__(self) -> str:
        return f"\n{self.args[0]}"
