"""Output: tables, text and JSON on stdout; what is said besides on stderr.

Guarantees: names and messages of jobs are anybody's. They reach a terminal without their control
characters and markup, and without the passwords of URLs.
"""

import json
import os
import sys
from collections.abc import Container, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from oddjob.cli.command import Common, safe
from oddjob.operations.presentation import as_json

STYLES: Final = {
    "scheduled": "cyan",
    "queued": "yellow",
    "running": "blue",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "magenta",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
    "paused": "yellow",
}
_WIDE: Final = 10_000  # columns, where no terminal limits them


def clean(value: object) -> Text:
    """Return what a terminal may be sent of a text."""
    shown = safe(str(value))
    return Text(shown, style=STYLES.get(shown, ""))


def console(common: Common) -> Console:
    """Return a console for stdout, as wide as its lines if it is no terminal."""
    is_forced = True if common.color == "always" else None
    is_plain = common.color == "never" or (common.color == "auto" and "NO_COLOR" in os.environ)
    width = None if sys.stdout.isatty() else _WIDE
    return Console(
        file=sys.stdout, force_terminal=is_forced, no_color=is_plain, highlight=False, markup=False,
        emoji=False, width=width, color_system=None if is_plain else "auto",
    )  # fmt: skip


def print_json(value: Any, indent: int | None = 2) -> None:
    """Print a value as JSON, with times in UTC; without `indent`, in one line."""
    click.echo(safe(json.dumps(value, default=as_json, indent=indent)))


def answer(common: Common, value: Any, *shown: RenderableType) -> None:
    """Print a value as JSON if that is wanted, else what people are shown of it."""
    if common.json:
        print_json(value)
    else:
        for each in shown:
            console(common).print(each)


def say(common: Common, text: str) -> None:
    """Say what was done, unless the user wants quiet."""
    if not common.quiet:
        click.echo(safe(text), err=True)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    cut: Container[str] = (),
    gap: int = 2,
) -> Table:
    """Return a table; numbers stand at the right, and columns in `cut` give way to the others."""
    rows = [[*row] for row in rows]
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, gap, 0, 0))
    for place, name in enumerate(columns):
        is_number = any(isinstance(row[place], int | float) for row in rows)
        made.add_column(
            name.upper(), justify="right" if is_number else "left", no_wrap=name not in cut
        )
    for row in rows:
        cells = [clean(_shown(each).replace("\n", " ")) for each in row]
        for cell in cells:
            cell.no_wrap, cell.overflow = True, "ellipsis"
        made.add_row(*cells)
    return made


def facts(pairs: Iterable[tuple[str, object]]) -> Table:
    """Return what is known of one thing, a line each."""
    made = Table(box=None, pad_edge=False, show_header=False)
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value not in (None, ""):
            made.add_row(name, clean(_shown(value)))
    return made


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def exact(when: datetime) -> str:
    """Return a time in the zone of the machine."""
    return f"{when.astimezone():%Y-%m-%d %H:%M:%S %Z}"
