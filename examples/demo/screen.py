"""Screen: bars that move on a terminal, by rich if it is installed; plain lines otherwise."""

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TypeVar

T = TypeVar("T")

OTHER, OURS = "ThreadPoolExecutor", "OddJob"
SECONDS_PER_LINE = 1.0  # without a terminal
SECONDS_PER_FRAME = 0.1


@dataclass
class Bar:
    """How far one side is; the thread that does the work sets `done` and `note`."""

    title: str
    total: int
    done: int = 0
    note: str = ""

    def __str__(self) -> str:
        return f"{self.title} {self.done} of {self.total} {self.note}".rstrip()


def say(text: str = "") -> None:
    """Print a paragraph at once, also into a pipe."""
    print(text, flush=True)


def show_cursor() -> None:
    """Show the cursor, which rich has hidden."""
    if sys.stdout.isatty():
        say("\x1b[?25h")


def heading(title: str) -> None:
    """Print the title of an act."""
    say(f"\n{title}\n{'-' * len(title)}")


def table(head: Sequence[object], *rows: Sequence[object]) -> None:
    """Print what was measured, in columns."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    say()
    for first, *others in cells:
        columns = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        say("  ".join(["", first.ljust(widths[0]), *columns]))


def side_by_side(other: Callable[[Bar], T], ours: Callable[[Bar], T], total: int) -> tuple[T, T]:
    """Do the same work both ways at the same time, each with a bar; return what they return."""
    bars = Bar(OTHER, total), Bar(OURS, total)
    with watching(*bars), ThreadPoolExecutor(2) as sides:
        first, second = sides.submit(other, bars[0]), sides.submit(ours, bars[1])
        return first.result(), second.result()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep from the screen what both sides log about failures."""
    loggers = [logging.getLogger(name) for name in ("concurrent.futures", "oddjob")]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger in loggers:
            logger.disabled = False


@contextmanager
def watching(*bars: Bar) -> Iterator[None]:
    """Show the bars while the block runs."""
    is_over = threading.Event()
    show = _with_rich if sys.stdout.isatty() and find_spec("rich") else _in_lines
    thread = threading.Thread(target=show, args=(bars, is_over.wait), name="screen")
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _in_lines(bars: Sequence[Bar], wait: Callable[[float], bool]) -> None:
    while not wait(SECONDS_PER_LINE):
        say("  " + "   ".join(map(str, bars)))
    say("  " + "   ".join(map(str, bars)))


def _with_rich(bars: Sequence[Bar], wait: Callable[[float], bool]) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("  {task.description:20}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TextColumn("{task.fields[note]}")) as progress:
        tasks = [progress.add_task(bar.title, total=bar.total, note="") for bar in bars]
        is_over = False
        while not is_over:
            is_over = wait(SECONDS_PER_FRAME)
            for task, bar in zip(tasks, bars, strict=True):
                progress.update(task, completed=bar.done, note=bar.note)
