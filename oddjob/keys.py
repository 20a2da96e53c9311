"""Keys: values that name what jobs must not use at the same time, such as a customer's id.

Guarantees: a key that `check_key` has accepted is compared and hashed by code of the standard
library only. Keys are compared under the lock of a queue, where no code of a user may run.
"""

from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from math import inf
from typing import Any, Final

from oddjob.quantities import as_number, bounded

Key = Any

_SIMPLE_TYPES: Final = frozenset({str, int, bytes})  # whose instances are all accepted
_TRUSTED_MODULES: Final = frozenset({
    "builtins", "datetime", "decimal", "enum", "fractions", "ipaddress", "pathlib",
    "pathlib._local", "uuid",
})  # fmt: skip
_MARK_OF_OTHERS: Final = "="  # before the texts of keys that are not strings
_ADDRESS: Final = " at 0x"  # in the ``repr`` of what is equal to itself alone


def constant_key(value: Any) -> Key | None:
    """Return the key that the option ``key=`` gives to all jobs; None if that is a function."""
    is_function = callable(value) and not isinstance(value, Enum)
    return None if value is None or is_function else check_key(value)


def check_key(value: Any) -> Key:
    """Return the key that `value` stands for: itself, or for a NumPy scalar that of Python."""
    kind: Any = type(value)
    if kind in _SIMPLE_TYPES:
        return value
    if kind.__module__ == "numpy" and kind.__hash__ is not None and hasattr(value, "item"):
        return check_key(value.item())
    try:
        hash(value)
        is_key = _is_trusted(kind)
    except Exception:  # a few instances of good types have no hash
        is_key = False
    if not is_key:
        raise TypeError(
            "a key must be an identifier: a string, a number, bytes, a date, a UUID, an enum "
            f"member or a tuple of these, not {value!r}"
        )
    if value != value:  # noqa: PLR0124
        raise ValueError(
            f"{value!r} cannot be a key: it is not equal to itself, so no two jobs would have the "
            "same key; a job for which the key function returns None has none"
        )
    if isinstance(value, tuple | frozenset):
        members = [check_key(each) for each in value]
        if any(new is not old for new, old in zip(members, value, strict=True)):
            return tuple(members) if isinstance(value, tuple) else frozenset(members)
    return value


def encode_key(key: Key | None, option: str = "key") -> str | None:
    """Return the text of a key: a string itself, anything else a text that no string has.

    Raises:
        TypeError: the ``repr`` of a key has an address, which is another one in each process.
        ValueError: UTF-8 cannot encode the text.
    """
    if key is None:
        return None
    if isinstance(key, str) and not key.startswith(_MARK_OF_OTHERS):
        return check_text(option, key)
    return check_text(option, f"{_MARK_OF_OTHERS}{_repr_of(key)}")


def check_text(option: str, text: str) -> str:
    """Return a text that a store can keep; raise a ``ValueError`` if UTF-8 cannot encode it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{option} must be text that UTF-8 can encode in a pool with a store, not {text!r}, "
            "which has half of a surrogate pair"
        ) from None
    return text


def _repr_of(key: Key) -> str:
    """Return a ``repr`` that is the same in every process: the order of a frozenset's is not."""
    if isinstance(key, frozenset):
        return f"frozenset({{{', '.join(sorted(map(_repr_of, key)))}}})"
    if isinstance(key, tuple):
        return f"({''.join(f'{_repr_of(each)}, ' for each in key)})"
    text = repr(key)
    if _ADDRESS in text and not isinstance(key, str | bytes):
        raise TypeError(
            f"{text} cannot be a key in a pool with a store: no other process has the same one; "
            "give a string or a number that identifies it"
        )
    return text


def decode_key(text: str | None) -> Key | None:
    """Return the key of a text: itself if Python has literals of its kind, else its ``repr``."""
    if text is None or not text.startswith(_MARK_OF_OTHERS):
        return text
    from ast import literal_eval

    shown = text.removeprefix(_MARK_OF_OTHERS)
    try:
        return literal_eval(shown)
    except (SyntaxError, ValueError):  # a date, a UUID, an enum member
        return shown


@lru_cache
def _is_trusted(kind: type) -> bool:
    """Return whether a class is compared and hashed by methods of trusted classes."""
    for method in ("__eq__", "__hash__"):
        owner = next(each for each in kind.__mro__ if method in vars(each))
        if owner.__module__ not in _TRUSTED_MODULES:
            return False
    return True


# The option `fair_by`.


def as_fair_by(name: str, value: Any) -> Any:
    """Return a key, or a function that derives one from the arguments of a job."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be a key, or a function of the arguments, not {value!r}")
    return value if callable(value) else check_key(value)


_as_weight: Final = bounded(as_number, lambda number: 0 < number < inf, "above 0 and finite")


def as_weights(name: str, value: Any) -> dict[Key, float]:
    """Return how many turns keys take, for one of every other key."""
    if not isinstance(value, Mapping):
        raise TypeError(f'{name} must be a dict such as {{"gold": 3}}, not {value!r}')
    return {check_key(key): _as_weight(f"{name}[{key!r}]", each) for key, each in value.items()}
