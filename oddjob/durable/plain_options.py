"""Options of a call as plain data, for stores that others can write to.

Delays become lists, and exceptions the names of their classes. A class is looked up among what is
imported, and only exceptions are found: reading options runs no code.
"""

import sys
from typing import Any, Final

from oddjob.retry import Backoff

_CLASSES: Final = ("retry_on", "no_retry_on")


def to_plain(options: dict[str, Any]) -> dict[str, Any]:
    """Return options as plain data; what is no data stays as it is."""
    plain = dict(options)
    for name, value in options.items():
        if name in _CLASSES:
            classes = value if isinstance(value, tuple) else (value,)
            if all(isinstance(each, type) for each in classes):
                plain[name] = [f"{each.__module__}:{each.__qualname__}" for each in classes]
        elif isinstance(value, Backoff):
            plain[name] = dict(value._asdict())
        elif isinstance(value, tuple):
            plain[name] = list(value)
    return plain


def from_plain(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that plain data stand for; raises anything if they stand for none."""
    found = dict(options)
    for name, value in options.items():
        if name in _CLASSES:
            found[name] = tuple(filter(None, map(find_exception, value)))
        elif isinstance(value, dict):
            found[name] = Backoff(**value)
        elif isinstance(value, list):
            found[name] = tuple(map(float, value))
    return found


def find_exception(name: str) -> type[BaseException] | None:
    """Return the exception of a name, ``module:qualname``; None if none is imported here."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None
