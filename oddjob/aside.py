"""Aside: what may take any time is done where it holds up nobody else."""

import logging
import threading
from collections.abc import Callable

from oddjob.log import say_whatever_comes

__all__ = ["in_a_thread_of_its_own"]


def in_a_thread_of_its_own(act: Callable[[], object], name: str) -> threading.Thread | None:
    """Do something in a new thread; here, if none is to be had. What it raises is logged."""
    thread = threading.Thread(target=_do, args=(act, name), name=name, daemon=True)
    try:
        thread.start()
    except Exception:  # no thread to be had
        _do(act, name)
        return None
    return thread


def _do(act: Callable[[], object], name: str) -> None:
    try:
        act()
    except BaseException as error:
        say_whatever_comes(logging.ERROR, "exception calling callbacks, in %s", name, error=error)
