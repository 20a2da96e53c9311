"""The ``oddjob`` logger, and how to write to it without coming to harm."""

import logging
import sys
import traceback
from contextlib import suppress

__all__ = ["say", "say_whatever_comes"]

_logger = logging.getLogger("oddjob")


def say(level: int, message: str, *details: object, error: BaseException | None = None) -> None:
    """Log something, with the traceback of `error` if given; never raises an ``Exception``.

    A handler of the application's that raises must not cost a pool a worker or its supervisor:
    what it raised goes to stderr, as it does from the handlers of the standard library.
    """
    try:
        _logger.log(level, message, *details, exc_info=error)
    except Exception:
        if logging.raiseExceptions and sys.stderr is not None:
            traceback.print_exc()


def say_whatever_comes(
    level: int, message: str, *details: object, error: BaseException | None = None
) -> None:
    """Log something where not even a ``SystemExit`` of a handler's must have an effect."""
    with suppress(BaseException):
        say(level, message, *details, error=error)
