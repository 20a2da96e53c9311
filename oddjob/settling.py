"""Settling: bring every job of a queue to its end, whatever one of them raises."""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeVar

__all__ = ["contains", "remove", "settle_all", "snapshot"]


class Endable(Protocol):
    """What is asked of a job here."""

    def done(self) -> bool:
        """Whether it has ended."""


T = TypeVar("T")
J = TypeVar("J", bound=Endable)


def settle_all(jobs: deque[J], settle: Callable[[J], object]) -> None:
    """Take out every job and hand it to `settle`, one by one, whatever that raises.

    What it raised first is raised at the end: by then no job is left without its end.
    """
    crash: BaseException | None = None
    try:
        # Taken by a loop, and so never taken without being settled, whatever strikes.
        for job in iter(jobs.popleft, None):
            try:
                settle(job)
            except BaseException as error:  # raised below, the others go first
                crash = crash or error
                if not job.done():
                    with suppress(BaseException):
                        settle(job)
    except IndexError:
        if crash is not None:
            raise crash from None
    finally:
        del crash  # what is raised holds this frame


def snapshot(items: list[T] | deque[T]) -> list[T]:
    """What is there now, while others take some out and put some in."""
    while True:
        try:
            return list(items.copy())
        except RuntimeError:  # it changed while it was copied, without the GIL: copy again
            continue


def contains(items: list[T] | deque[T], item: T) -> bool:
    """Whether an item is there, while others take some out and put some in."""
    while True:
        try:
            return item in items
        except RuntimeError:  # it changed while it was searched, without the GIL: search again
            continue


def remove(items: deque[T], item: T) -> bool:
    """Remove an item; false if it was not there."""
    while True:
        try:
            items.remove(item)
        except ValueError:
            return False
        except IndexError:  # it changed while it was searched: search again
            continue
        return True
