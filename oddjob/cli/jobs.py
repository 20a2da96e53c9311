"""Jobs, one by one: ``list``, ``show``, ``why``."""

from itertools import islice
from typing import Any, Final

import click
from rich.text import Text

from oddjob.cli.columns import COLUMNS, SORTS, details_json
from oddjob.cli.command import Common, command, pass_common
from oddjob.cli.filters import Filters, filtered
from oddjob.cli.output import answer, clean, console, exact, facts, print_json, say, table
from oddjob.operations import Record
from oddjob.operations.phrases import ago, counted
from oddjob.operations.presentation import job_json

_MEMBERS: Final = 50  # of a batch, that `show` shows


@command("list")
@filtered
@click.option("--limit", type=click.IntRange(1), default=50, metavar="N", show_default=True,
              help="How many at most.")  # fmt: skip
@click.option("--all", "is_all", is_flag=True, help="No limit.")
@click.option("--sort", type=click.Choice([*SORTS]), metavar="BY",
              help=f"Instead of newest first: {', '.join(SORTS)}.")  # fmt: skip
@click.option("--columns", metavar="NAMES", help=f"Of: {', '.join(COLUMNS)}.")
@click.option("--ids", is_flag=True, help="Print ids alone, one a line, for xargs.")
@pass_common
def list_jobs(
    common: Common, which: Filters, limit: int, is_all: bool, sort: str | None,
    columns: str | None, ids: bool,
) -> None:  # fmt: skip
    """List jobs, the newest first.

    What stands in a table is cut to the width of a terminal; in a pipe it is whole.
    """
    names = (columns or "id,state,name,pool,attempt,created,error").split(",")
    for name in names:
        if name not in COLUMNS:
            raise click.BadParameter(f"there is no {name!r}: {', '.join(COLUMNS)}",
                                     param_hint="--columns")  # fmt: skip
    most = None if is_all else limit
    found = which.records(common)
    found = islice(sorted(found, key=SORTS[sort]) if sort else found, most)
    if ids:
        for job in found:
            click.echo(job.id)
    elif common.json:
        print_json([job_json(job) for job in found])
    else:
        rows = [[COLUMNS[name](job) for name in names] for job in found]
        if rows:
            console(common).print(table(names, rows, cut=("name", "function", "key", "error")))
        else:
            say(common, "No such job.")
        if len(rows) == most:
            say(common, f"The first {counted(len(rows))}; --all or --limit show more.")


@command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--traceback", is_flag=True, help="With the traceback of every failed attempt.")
@click.option("--arguments", is_flag=True, help="With its arguments. That unpickles them, which "
              "may run code of those who can write to the store.")  # fmt: skip
@pass_common
def show(common: Common, ids: tuple[str, ...], traceback: bool, arguments: bool) -> None:
    """Show all that is known of a job."""
    jobs = [common.open().record(each) for each in ids]
    if common.json:
        print_json([
            details_json(job) | ({"arguments": _arguments(job)} if arguments else {})
            for job in jobs
        ])  # fmt: skip
        return
    for place, job in enumerate(jobs):
        if place:
            click.echo()
        _show(common, job, has_traceback=traceback, has_arguments=arguments)


def _show(common: Common, job: Record, *, has_traceback: bool, has_arguments: bool) -> None:
    names = ("id", "state", "name", "function", "pool", "attempt", "crashes", "priority", "key",
             "entry", "batch", "runner", "progress", "waited", "ran")  # fmt: skip
    pairs = [(name, COLUMNS[name](job)) for name in names]
    for name in ("created", "run_at", "started", "finished"):
        when = getattr(job, name)
        pairs.append((name.replace("run_at", "due"), when and f"{exact(when)} ({ago(when)})"))
    pairs.append(("error", job.error))
    if has_arguments:
        pairs.append(("arguments", _arguments(job)))
    out = console(common)
    out.print(facts((name, value) for name, value in pairs if value != "-"))
    _show_members(common, job)
    attempts = job.attempts()
    if attempts:
        rows = [[each.number, exact(each.finished), each.process,
                 each.traceback.rstrip().rpartition("\n")[2]] for each in attempts]  # fmt: skip
        out.print()
        out.print(table(["failed attempt", "at", "process", "error"], rows, cut=("error",)))
    for each in attempts if has_traceback else ():
        out.print()
        out.print(Text(f"Attempt {each.number}", style="bold"))
        out.print(clean(each.traceback.rstrip()))


def _show_members(common: Common, job: Record) -> None:
    """Show the members of a batch or chain, in the order in which they were submitted."""
    latest = [] if job.kind == "job" else list(islice(job.members(), _MEMBERS))
    if latest:
        names = ["id", "state", "name", "attempt", "error"]
        rows = [[COLUMNS[name](each) for name in names] for each in reversed(latest)]
        out = console(common)
        out.print()
        out.print(table(names, rows, cut=("name", "error")))
        if len(latest) == _MEMBERS:
            say(common, f"The latest {counted(_MEMBERS)}.")


def _arguments(job: Record) -> Any:
    try:
        args, kwargs = job.arguments()
    except ValueError as error:
        return str(error)
    return {"args": list(args), "kwargs": kwargs}


@command()
@click.argument("job", metavar="ID")
@pass_common
def why(common: Common, job: str) -> None:
    """Say why a job is in its state, and what it waits for."""
    record = common.open().record(job)
    reasons = common.open().why(record)
    head = clean(f"Job {record.id} ({record.name}): ") + clean(record.state)
    shown = [head, *(clean(f"- {each}") for each in reasons)]
    answer(common, {"id": record.id, "state": record.state, "reasons": reasons}, *shown)
