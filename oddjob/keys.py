"""Keys: values that name what jobs must not use at the same time, such as a customer's id.

Guarantees: a key that `check_key` has accepted is compared and hashed by code of the standard
library only. Keys are compared under the lock of a queue, where no code of a user may run.
"""

from enum import Enum
from typing import Any, Final

Key = Any

SIMPLE_KEY_TYPES: Final = frozenset({str, int, bytes})  # whose instances are all accepted

_TRUSTED_MODULES: Final = frozenset({
    "builtins", "datetime", "decimal", "enum", "fractions", "ipaddress", "pathlib",
    "pathlib._local", "uuid",
})  # fmt: skip
_accepted_types: Final[set[type]] = set()  # of the standard library


def is_key_function(value: object) -> bool:
    """Return whether `value` is no key, but a function that computes one from the arguments."""
    return callable(value) and not isinstance(value, Enum)


def check_key(value: Any) -> Key:
    """Return the key that `value` stands for: itself, or for a NumPy scalar that of Python.

    Raises:
        TypeError: it is not made of strings, numbers, bytes, dates, UUIDs, enum members and the
            like.
    """
    kind = type(value)
    if kind in SIMPLE_KEY_TYPES:
        return value
    if kind.__module__ == "numpy" and kind.__hash__ is not None and hasattr(value, "item"):
        return check_key(value.item())
    if kind not in _accepted_types:
        if not (_is_trusted(kind, "__eq__") and _is_trusted(kind, "__hash__")):
            raise TypeError(_refusal(value))
        if kind.__module__ in _TRUSTED_MODULES:  # other classes come and go: do not keep them
            _accepted_types.add(kind)
    if isinstance(value, tuple | frozenset):
        members = [check_key(each) for each in value]
        if any(new is not old for new, old in zip(members, value, strict=True)):
            value = tuple(members) if isinstance(value, tuple) else frozenset(members)
    try:
        hash(value)
    except Exception as error:  # a few instances of good types have no hash
        raise TypeError(_refusal(value)) from error
    return value


def _is_trusted(kind: type, method: str) -> bool:
    """Return whether a class has this method, and has it from a trusted class."""
    owner = next(each for each in kind.__mro__ if method in vars(each))
    return owner.__module__ in _TRUSTED_MODULES and vars(owner)[method] is not None


def _refusal(value: object) -> str:
    return (
        "a key must be an identifier: a string, a number, bytes, a date, a UUID, an enum member "
        f"or a tuple of these, not {value!r}"
    )
