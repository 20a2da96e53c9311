"""Keys: what jobs have in common that must not all run at once."""

from typing import Any, Final

__all__ = ["SIMPLE_KEYS", "Key", "check_key"]

Key = Any

SIMPLE_KEYS: Final = frozenset({str, int, bytes})  # classes whose members are all good
_TRUSTED: Final = frozenset(
    {
        "builtins",
        "datetime",
        "decimal",
        "enum",
        "fractions",
        "ipaddress",
        "pathlib",
        "pathlib._local",
        "uuid",
    }
)
_known: Final[set[type]] = set()  # classes that have been found to be good


def check_key(value: object) -> None:
    """Refuse what cannot be a key.

    Keys are compared while a pool's lock is held, and somebody else's ``__eq__`` must have no part
    in that: what is taken compares as the standard library's classes do.

    Raises:
        TypeError: it is not made of strings, numbers, bytes, dates, UUIDs, enum members and the
            like.
    """
    kind = type(value)
    if kind in SIMPLE_KEYS:
        return
    if kind not in _known:
        if kind.__hash__ is None or not (_trusts(kind, "__eq__") and _trusts(kind, "__hash__")):
            raise TypeError(_refusal(value))
        if kind.__module__ in _TRUSTED:  # and not somebody's, which may come and go
            _known.add(kind)
    if isinstance(value, tuple | frozenset):
        for each in value:
            check_key(each)
    try:
        hash(value)
    except Exception as error:  # there are members of good classes that have none
        raise TypeError(_refusal(value)) from error


def _refusal(value: object) -> str:
    return (
        "a key must be an identifier: a string, a number, bytes, a date, a UUID, an enum member "
        f"or a tuple of these, not {value!r}"
    )


def _trusts(kind: type, method: str) -> bool:
    """Whether a class has that method from a class of the standard library."""
    owner = next(each for each in kind.__mro__ if method in vars(each))
    return owner.__module__ in _TRUSTED
