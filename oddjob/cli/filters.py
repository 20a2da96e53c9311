"""Filters: which jobs a command is about, said in the same options by all of them."""

import heapq
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from math import inf
from typing import Any, Final, cast, get_args

import click

from oddjob.cli.command import Common
from oddjob.keys import Key
from oddjob.operations import Record
from oddjob.operations.access import seconds_of
from oddjob.operations.phrases import read_key
from oddjob.runtime.job_state import JobState


def date(text: str) -> datetime:
    """Read a date in ISO format; one without a zone is the machine's local time."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise click.BadParameter(f"{text!r} is no date: write 2026-01-31T12:00") from None


def seconds(text: str, least: float = 0.0) -> float:
    """Read a number of seconds."""
    number = click.FLOAT(text)
    if not least <= number < inf:
        raise click.BadParameter(f"{text} is no number of seconds from {least:g} on")
    return number


def pause(text: str) -> float:
    """Read the seconds between two looks."""
    return seconds(text, 0.1)


def moment(text: str) -> datetime:
    """Read a date, or how long ago, as "2h"."""
    with suppress(ValueError):
        return datetime.fromtimestamp(seconds_of("time", text), UTC)
    with suppress(click.BadParameter):
        return date(text)
    raise click.BadParameter(f'{text!r} is neither a time such as "2h" or "7d", nor a date such as '
                             "2026-01-31T12:00")  # fmt: skip


def states(text: str) -> list[JobState]:
    """Read one or several states, with commas between them."""
    words = text.split(",")
    for word in words:
        if word not in get_args(JobState):
            raise click.BadParameter(f"{word!r} is none of {', '.join(get_args(JobState))}")
    return cast("list[JobState]", words)


_OPTIONS: Final[dict[str, tuple[str, Any, str, str]]] = {
    "state": ("--state", states, "STATE", "Only in that state; or several: failed,cancelled."),
    "name": ("--name", str, "NAME", "Only those of that name."),
    "key": ("--key", read_key, "KEY", "Only those of that key: name, \"('customer', 7)\", or =7."),
    "error": ("--error", str, "TEXT", "Only those whose error contains TEXT."),
    "since": ("--since", moment, "TIME", 'Only those submitted since: "2h", or a date.'),
    "before": ("--until", moment, "TIME", "Only those submitted before."),
}


@dataclass(frozen=True)
class Filters:
    """What the options of `filtered` say; None: whichever."""

    state: list[JobState] | None
    name: str | None
    key: Key | None
    error: str | None
    since: datetime | None
    before: datetime | None

    def records(self, common: Common) -> Iterator[Record]:
        """Return the jobs in question, the newest first."""
        found = [pool.records(**vars(self)) for pool in common.pools()]
        return heapq.merge(*found, key=lambda record: record.created, reverse=True)

    @property
    def are_given(self) -> bool:
        """Whether anything was said of the jobs."""
        return any(each is not None for each in vars(self).values())


def filtered(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which jobs are meant, as its argument `which`."""

    @wraps(command)
    def call(*args: Any, **options: Any) -> Any:
        which = Filters(**{name: options.pop(name) for name in _OPTIONS})
        return command(*args, which=which, **options)

    for name, (flag, kind, metavar, text) in reversed(_OPTIONS.items()):
        call = click.option(flag, name, type=kind, metavar=metavar, help=text)(call)
    return call
