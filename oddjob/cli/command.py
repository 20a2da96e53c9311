"""Command and Program: options that all commands have, and how they fail.

Data goes to stdout, everything else to stderr. The exit codes are the constants below.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from oddjob import Pool
from oddjob.compat import override
from oddjob.errors import OddJobError, StoreFull, StoreUnusable
from oddjob.operations import PoolOperations, StoreOperations
from oddjob.operations.application import load
from oddjob.operations.stores import label_of

NOT_SO: Final = 1  # something that was asked for is not so
USAGE: Final = 2
NO_STORE: Final = 3  # it is not reachable, or not ours
LEFT: Final = 4  # jobs were running when the time for their end was up
INTERRUPTED: Final = 130  # by Ctrl-C, as shells have it

_CODES: Final = {NOT_SO: "failed", USAGE: "usage", NO_STORE: "store", LEFT: "unfinished"}
_PASSWORDS: Final = (r'(\w://[^:/@\s"]*:)[^\s/"]*(?=@)', r'([?&]password=)[^&\s"]*')


def safe(text: str) -> str:
    """Return a text without control characters, and without the passwords of the URLs in it."""
    for pattern in _PASSWORDS:
        text = re.sub(pattern, r"\1***", text)
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


class Failure(Exception):
    """The end of a command that has not done what it was asked for."""

    def __init__(self, message: str, exit_code: int = NOT_SO) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def read_secret(given: str, what: str = "the URL of the store", code: int = NO_STORE) -> str:
    """Return a text, or what is in the file that ``@file`` names."""
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text("utf-8").strip()
    except (OSError, ValueError) as error:  # ValueError: it is no text
        raise Failure(f"{what} cannot be read: {error}", code) from None


def shared(url: str) -> str:
    """Return the URL of a store; refuse a wrong one, and one that ends with this command."""
    if url == "memory:":
        raise click.UsageError(
            "A store in memory ends with its process: name one that others see, as "
            "sqlite:///jobs.db or redis://localhost"
        )
    try:
        label_of(url)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return url


@dataclass
class Common:
    """What the options say that all commands have; each is None, or False, if it was not given."""

    store: str | None = None
    app: str | None = None
    pool: tuple[str, ...] = ()
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    color: str = "auto"
    yes: bool = False
    opened: StoreOperations | None = field(default=None, repr=False)

    @property
    def program(self) -> str | None:
        """The program that has the pools, as `load` takes it."""
        return self.app or os.environ.get("ODDJOB_APP")

    @property
    def url(self) -> str:
        """The URL of the store.

        Raises:
            click.UsageError: none was given, nor an application that has one.
        """
        url = self.store or os.environ.get("ODDJOB_STORE")
        if url is None and self.program is not None:
            stores = {each.configuration.store or "" for each in self.load(self.program)} - {""}
            if len(stores) > 1:
                raise click.UsageError(f"{self.program} has several stores: choose with --store")
            url = stores.pop() if stores else None
        if url is None:
            raise click.UsageError(
                "Which store? Say it with --store sqlite:///jobs.db, or set ODDJOB_STORE."
            )
        return shared(read_secret(url))

    @staticmethod
    def load(app: str) -> list[Pool]:
        """Import a program; return its pools, which run nothing."""
        try:
            return load(app)
        except (LookupError, ModuleNotFoundError) as error:
            raise Failure(f"cannot import {app}: {error}") from None

    def open(self) -> StoreOperations:
        """Return the store, which is closed at the end of the command."""
        if self.opened is None:
            url = self.url
            try:
                self.opened = StoreOperations(url)
            except ValueError as error:
                raise click.UsageError(str(error)) from None
        return self.opened

    def pools(self) -> list[PoolOperations]:
        """Return the pools that were chosen; all of the store's if none was."""
        known = self.open().pools()
        for name in self.pool:
            if name not in known:
                raise Failure(
                    f"no pool {name!r} in the store; there are: {', '.join(known) or 'none yet'}"
                )
        return (
            [known[name] for name in dict.fromkeys(self.pool)] if self.pool else [*known.values()]
        )

    def close(self) -> None:
        """Let go of the store."""
        opened, self.opened = self.opened, None
        if opened is not None:
            opened.close()


def _remember(context: click.Context, option: click.Parameter, value: Any) -> None:
    """Keep the value of an option that all commands have, before or after the command's name."""
    common = context.ensure_object(Common)
    name = option.name or ""
    if isinstance(value, tuple):
        setattr(common, name, getattr(common, name) + value)
    elif value not in (None, False):
        setattr(common, name, value)
    if common.verbose:
        logging.getLogger("oddjob").setLevel(logging.DEBUG)


def _common_options() -> list[click.Parameter]:
    def flag(*names: str, text: str) -> click.Option:
        return click.Option(names, is_flag=True, expose_value=False, callback=_remember, help=text)

    def option(name: str, metavar: str, text: str, **more: Any) -> click.Option:
        return click.Option(
            [name], metavar=metavar, expose_value=False, callback=_remember, help=text, **more
        )

    return [
        option("--store", "URL", "Store, or @FILE with its URL in it.  [env: ODDJOB_STORE]"),
        option("--app", "MODULE[:NAME]", "Program that has the pools.  [env: ODDJOB_APP]"),
        option("--pool", "NAME", "Only this pool; may be repeated.", multiple=True),
        flag("--json", text="Print JSON."),
        flag("-q", "--quiet", text="Print data and errors only."),
        flag("-v", "--verbose", text="Log more."),
        option(
            "--color", "WHEN", "auto, always or never.  [env: NO_COLOR]",
            type=click.Choice(["auto", "always", "never"]),
        ),
        flag("-y", "--yes", text="Do not ask before changing many jobs."),
    ]  # fmt: skip


class Command(click.Command):
    """A command with the options that all have, which its help lists by themselves."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.common: Final = _common_options()
        self.params.extend(self.common)

    @override
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = [each for each in self.get_params(ctx)
               if isinstance(each, click.Option) and each not in self.common]  # fmt: skip
        for title, options in (("Options", own), ("Common options", self.common)):
            lines = [line for each in options if (line := each.get_help_record(ctx)) is not None]
            with formatter.section(title):
                formatter.write_dl(lines)


def command(name: str | None = None, **more: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command of a function, as ``click.command`` does."""
    return click.command(name, cls=Command, **more)


class Program(click.Group):
    """A group of commands, whose help lists them by what they are for."""

    command_class: type[click.Command] | None = Command

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.sections: dict[str, list[str]] = {}
        self.params.extend(_common_options())

    def add_section(self, title: str, *commands: click.Command) -> None:
        """Add commands under a title."""
        self.sections[title] = [each.name or "" for each in commands]
        for each in commands:
            self.add_command(each)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in self.sections.items():
            commands = [(name, self.commands[name].get_short_help_str(70)) for name in names]
            with formatter.section(title):
                formatter.write_dl(commands)

    @override
    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **more: Any
    ) -> click.Context:
        is_json = "--json" in args  # click empties the list
        with failures(lambda: is_json):
            return super().make_context(info_name, args, parent, **more)

    @override
    def invoke(self, ctx: click.Context) -> Any:
        common = ctx.ensure_object(Common)
        try:
            with failures(lambda: common.json):
                return super().invoke(ctx)
        finally:
            common.close()


@contextmanager
def failures(is_json: Callable[[], bool]) -> Iterator[None]:
    """Turn what can go wrong into the end of a command, with its exit code."""
    try:
        yield
    except click.UsageError as error:
        if is_json():
            _end(error.format_message(), USAGE, is_json=True)
        raise click.UsageError(safe(error.format_message()), error.ctx) from None
    except Failure as error:
        _end(str(error), error.exit_code, is_json=is_json())
    except (StoreUnusable, StoreFull) as error:
        _end(str(error), NO_STORE, is_json=is_json())
    except OddJobError as error:
        _end(str(error), NOT_SO, is_json=is_json())
    except (KeyboardInterrupt, click.Abort):
        raise click.exceptions.Exit(INTERRUPTED) from None


def _end(message: str, code: int, *, is_json: bool) -> NoReturn:
    error = {"error": {"code": _CODES[code], "message": safe(message)}}
    click.echo(json.dumps(error) if is_json else f"Error: {safe(message)}", err=True)
    raise click.exceptions.Exit(code)


pass_common: Final = click.make_pass_decorator(Common, ensure=True)
