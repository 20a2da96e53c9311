"""Unique jobs: what makes two submissions the same job."""

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
    """Return what identifies a job among those of its pool that have not ended; None: nothing.

    `unique` is the option of that name: True for the function's name and the arguments; a key, or a
    function that derives one from the arguments.

    Raises:
        TypeError: the arguments cannot be pickled, or the key is no key.
    """
    if unique is False:
        return None
    args, kwargs = arguments_of(job)
    if unique is True:
        args, kwargs = _bound(fn, args, kwargs)
        try:
            data = canonical_bytes((name, args, sorted(kwargs.items())))
        except Exception as error:  # a default; what the call is given has been pickled by now
            what = f"unique=True: the arguments of {name}, or their defaults, cannot be pickled"
            raise TypeError(what) from error
        return sha256(data).digest()
    key = check_key(unique(*args, **kwargs)) if callable(unique) else unique
    text = encode_key(key, "unique")
    return None if text is None else text.encode()


_signature_of: Final = lru_cache(signature)


def _bound(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments as the function gets them, whether by position, by name or by default.

    Of a function that has no signature, or that will refuse them, they are left as they are.
    """
    try:
        bound = _signature_of(fn).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return args, kwargs
    bound.apply_defaults()
    return bound.args, bound.kwargs


def canonical_bytes(value: Any) -> bytes:
    """Return bytes that are the same for equal values, in every process.

    Pickle's own are not: a string that occurs twice is referred to if both are one object. Without
    that, what refers to itself cannot be pickled; it is not unique then.
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
    """Sort sets and dicts: each process has another order of the strings in a set."""
    kind = type(value)
    if kind is list or kind is tuple:
        return kind(map(_in_order, value))
    if kind is set or kind is frozenset:
        return kind, tuple(sorted(map(_bytes_of, value)))
    if kind is dict:
        return {_in_order(key): _in_order(value[key]) for key in sorted(value, key=_bytes_of)}
    return value
