"""Unique jobs: derives the bytes by which a store tells that two submits are the same job."""

import io
import pickle
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from inspect import signature
from typing import TYPE_CHECKING, Any, Final

from oddjob.keys import check_key, encode_key
from oddjob.options import Unique
from oddjob.runtime.stored_job import arguments_of

if TYPE_CHECKING:
    from oddjob.runtime.job import Job


def unique_of(unique: Unique, name: str, fn: Callable[..., Any], job: "Job[Any]") -> bytes | None:
    """Return what identifies a job among the unfinished jobs of its pool; None: it is not unique.

    Args:
        unique: the option of that name. True: the function's name and the arguments identify a job.
            Else a key, or a function that derives a key from the arguments; all functions of a
            pool share their keys.
        name: the stored name of the function.
        fn: the function.
        job: the job, with its arguments.

    Raises:
        TypeError: the arguments cannot be pickled, or the key is not valid.
    """
    if unique is False:
        return None
    args, kwargs = arguments_of(job)
    if unique is True:
        args, kwargs = _bound(fn, args, kwargs)
        try:
            data = canonical_bytes((name, args, sorted(kwargs.items())))
        except Exception as error:  # a default: the arguments of the call were pickled before
            what = f"unique=True: the arguments of {name}, or their defaults, cannot be pickled"
            raise TypeError(what) from error
        return sha256(data).digest()
    key = check_key(unique(*args, **kwargs)) if callable(unique) else unique
    text = encode_key(key, "unique")
    return None if text is None else text.encode()


_signature_of: Final = lru_cache(signature)  # which keeps the latest 128 functions alive


def _bound(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments in one form, however they are passed: by position, name or default.

    If the function has no signature, or does not accept the arguments, they are returned as given.
    """
    try:
        bound = _signature_of(fn).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return args, kwargs
    bound.apply_defaults()
    return bound.args, bound.kwargs


def canonical_bytes(value: Any) -> bytes:
    """Return bytes that are the same, in every process, for equal values of the built-in types.

    A plain pickle is not: the second occurrence of a string is a reference if both are one object.
    Here no references are made. A value that contains itself needs them, and falls back to a plain
    pickle, so two equal values of this kind may differ.
    """
    try:
        return _bytes_of(value)
    except (RecursionError, ValueError):
        return pickle.dumps(value, 5)


def _bytes_of(value: Any) -> bytes:
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, 5)
    pickler.fast = True
    pickler.dump(_in_order(value))
    return buffer.getvalue()


def _in_order(value: Any) -> Any:
    """Return a value with its sets and dicts sorted: the order of a set differs by process."""
    kind = type(value)
    if kind is list or kind is tuple:
        return kind(map(_in_order, value))
    if kind is set or kind is frozenset:
        return kind, tuple(sorted(map(_bytes_of, value)))
    if kind is dict:
        return {_in_order(key): _in_order(value[key]) for key in sorted(value, key=_bytes_of)}
    return value
