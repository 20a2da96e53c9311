"""The ``oddjob`` logger, and ways to call it that cannot harm the caller."""

import logging
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from oddjob.threads import new_thread

_logger: Final = logging.getLogger("oddjob")


def log(level: int, message: str, *details: object, error: BaseException | None = None) -> None:
    """Log a message, with the traceback of `error` if there is one; raise nothing.

    What a log handler of the application raises must not cost a pool a thread. It is printed to
    stderr, as the handlers of the standard library do. Only in the main thread, Ctrl-C and a signal
    handler that ends the process go on.
    """
    try:
        _logger.log(level, message, *details, exc_info=error)
    except BaseException as failure:
        if logging.raiseExceptions and sys.stderr is not None:
            with suppress(Exception):
                traceback.print_exc()
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and not isinstance(failure, Exception):
            raise


def run_in_thread(action: Callable[[], object], name: str) -> threading.Thread | None:
    """Run something that may take any time in a new thread, and log what it raises.

    If no thread can be started, it runs in the calling thread, and None is returned.
    """
    thread = new_thread(partial(_run_logged, action, name), name)
    try:
        thread.start()
    except Exception:  # the process has no threads left, or is about to end
        _run_logged(action, name)
        return None
    return thread


def _run_logged(action: Callable[[], object], name: str) -> None:
    try:
        action()
    except BaseException as error:
        log(logging.ERROR, "exception in thread %s", name, error=error)
