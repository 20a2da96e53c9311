"""Options of a call as plain data, for stores whose writers are not trusted.

Sequences of delays become lists, and exception classes their names. A name is looked up in imported
modules only, and only exception classes are found: to decode options runs no user code.
"""

import sys
from typing import Any, Final

from oddjob.retry import Backoff

_CLASSES: Final = ("retry_on", "no_retry_on")


def to_plain(options: dict[str, Any]) -> dict[str, Any]:
    """Return options as plain data; values that have no such form, like predicates, are kept."""
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
    """Return the options from their plain data; raises anything if the data are invalid."""
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
    """Return the exception class of a name, ``module:qualname``; None if it is not imported."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None
