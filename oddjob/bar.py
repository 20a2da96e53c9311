"""A bar that shows how far many jobs have got, drawn by tqdm or rich if there is one of them."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, as_completed
from typing import Any, TypeVar

__all__ = ["progress", "shown"]

T = TypeVar("T")
F = TypeVar("F", bound=Future[Any])

Advance = Callable[[], object]


def progress(jobs: Iterable[F], *, title: str | None = None) -> Iterator[F]:
    """Iterate over jobs as they end, and show on stderr how many have.

    The bar is tqdm's, or rich's; where neither is installed the jobs come without one.

    Args:
        jobs: jobs, or any ``concurrent.futures.Future`` s.
        title: what stands before the bar.
    """
    awaited = list(jobs)
    ended: Iterator[Any] = as_completed(awaited)
    return shown(ended, len(awaited), title)


def shown(items: Iterator[T], total: int | None, title: str | None = None) -> Iterator[T]:
    """The same items, with a bar that counts them."""
    advance, close = _bar(total, title)
    try:
        for item in items:
            advance()
            yield item
    finally:
        close()
        close_items = getattr(items, "close", None)
        if close_items is not None:
            close_items()


def _bar(total: int | None, title: str | None) -> tuple[Advance, Callable[[], object]]:
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return _rich_bar(total, title)
    bar = tqdm(total=total, desc=title)
    return bar.update, bar.close


def _rich_bar(total: int | None, title: str | None) -> tuple[Advance, Callable[[], object]]:
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        return _nothing, _nothing
    bars = Progress(console=Console(stderr=True))
    task = bars.add_task(title or "jobs", total=total)
    bars.start()

    def advance() -> None:
        bars.advance(task)

    return advance, bars.stop


def _nothing() -> None:
    """Draw no bar."""
