"""What calls functions of a program by their names: ``enqueue``, and ``replay``."""

import json
from datetime import datetime
from traceback import format_exception
from typing import Any

import click

from oddjob import JobFunction, Pool
from oddjob.cli.command import Common, Failure, command, pass_common, safe
from oddjob.cli.filters import date
from oddjob.cli.output import print_json, say
from oddjob.durable.codec import unwrapped
from oddjob.operations.application import find_function, new_pool, store_of
from oddjob.quantities import as_retention
from oddjob.testing import inline


def _import(common: Common, name: str) -> Any:
    if common.program is not None:
        common.load(common.program)
    try:
        return find_function(name)
    except (LookupError, ModuleNotFoundError) as error:
        raise Failure(f"cannot import {name}: {error}") from None


def _read(text: str) -> Any:
    """Return the value of an argument: JSON, or a word as it is."""
    try:
        return json.loads(text)
    except ValueError:
        if text[:1] in ("[", "{", '"'):
            raise click.BadParameter(f"{text} is no JSON", param_hint="JSON") from None
        return text


@command()
@click.argument("name")
@click.argument("arguments", nargs=-1, metavar="[JSON]...")
@click.option("--at", type=date, metavar="TIME", help="Run it then: 2026-01-31T12:00.")
@click.option("--after", metavar="TIME", help='Run it in that time: "90 s", "2h".')
@click.option("--priority", type=int, help="Before those with a lower one; 0 if not given.")
@click.option("--unique", is_flag=True, help="Unless such a job has not ended yet.")
@pass_common
def enqueue(
    common: Common, name: str, arguments: tuple[str, ...], at: datetime | None, after: str | None,
    priority: int | None, unique: bool,
) -> None:  # fmt: skip
    """Queue a call of a function, and print the job's id.

    NAME is module:function. A function that @pool.job decorates goes to its pool, with its options;
    for any other, --pool and --store say where to. Arguments are JSON; a single word needs no
    quotes.
    """
    if at is not None and after is not None:
        raise click.UsageError("Give either --at or --after.")
    fn = _import(common, name)
    values = [_read(each) for each in arguments]
    store = store_of(name) if isinstance(fn, JobFunction) else None
    if store is not None and common.store is not None and store != common.url:
        raise click.UsageError(f"{name} goes to the store of its pool, {store}.")
    target: Any = fn
    if store is None:
        target, values = _pool(common), [unwrapped(fn), *values]
    try:
        target = target.options(persist=True, priority=priority, unique=unique or None)
        if at is not None:
            target = target.at(at)
        if after is not None:
            target = target.after(as_retention("--after", after))
        job = target.submit(*values)
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    if common.json:
        print_json({"id": job.id, "pool": job.pool.name})
    else:
        click.echo(job.id)
    say(common, f"{name} was submitted to pool {job.pool.name}.")


def _pool(common: Common) -> Pool:
    if len(common.pool) != 1:
        raise click.UsageError("To which pool? Say it with --pool NAME.")
    return new_pool(common.pool[0], common.url)


@command()
@click.argument("job", metavar="ID")
@pass_common
def replay(common: Common, job: str) -> None:
    """Run a job here, with its real arguments, to see how it fails.

    What becomes of it is printed, and not stored; but its effects are real. Its arguments are
    unpickled.
    """
    record = common.open().record(job)
    fn = _import(common, record.function)
    try:
        args, kwargs = record.arguments()
    except ValueError as error:
        raise Failure(str(error)) from None
    say(common, f"{record.function}{args!r} {kwargs or ''}")
    with inline(), Pool() as pool:
        run = pool.options(name=record.name).submit(unwrapped(fn), *args, **kwargs)
        failure = run.exception()
    if failure is not None:
        click.echo(safe("".join(format_exception(failure))), err=True)
        raise Failure("it has failed again")
    if common.json:
        print_json({"result": run.result()})
    else:
        click.echo(repr(run.result()))
