"""Recurring entries: ``recurring`` lists them, and its commands act on one."""

from collections.abc import Callable

import click

from oddjob import explain_cron
from oddjob.cli.command import Common, Failure, Program, pass_common
from oddjob.cli.output import answer, clean, console, say, table
from oddjob.operations import RecurringEntry
from oddjob.operations.phrases import ago
from oddjob.operations.presentation import entry_json


@click.group(cls=Program, invoke_without_command=True)
@click.pass_context
def recurring(context: click.Context) -> None:
    """List, run, pause and delete recurring jobs."""
    if context.invoked_subcommand is None:
        context.invoke(list_entries)


def _entries(common: Common) -> list[RecurringEntry]:
    return [entry for pool in common.pools() for entry in pool.recurring()]


@recurring.command("list")
@pass_common
def list_entries(common: Common) -> None:
    """List recurring jobs: when they fire, next and last."""
    found = _entries(common)
    rows = [[each.name, each.pool, each.rule, "paused" if each.is_paused else ago(each.next_run),
             ago(each.last_run), each.last_job] for each in found]  # fmt: skip
    shown = table(["name", "pool", "rule", "next", "last", "last job"], rows, cut=("name",))
    answer(common, [*map(entry_json, found)], *([shown] if rows else []))
    if not (rows or common.json):
        say(common, "There is none.")


def _action(name: str, help_text: str, done: str, act: Callable[[RecurringEntry], object]) -> None:
    @recurring.command(name, help=help_text)
    @click.argument("entry", metavar="NAME")
    @pass_common
    def run_action(common: Common, entry: str) -> None:
        found = [each for each in _entries(common) if each.name == entry]
        if not found:
            known = ", ".join(each.name for each in _entries(common)) or "none"
            raise Failure(f"there is no recurring job {entry!r}; there are: {known}")
        if len(found) > 1:
            pools = " or ".join(f"--pool {each.pool}" for each in found)
            raise click.UsageError(f"{entry!r} is in several pools: give {pools}")
        answered = act(found[0])
        if answered is False:
            raise Failure(f"{entry!r} is gone")
        if isinstance(answered, str):
            click.echo(answered)  # the job's id
        say(common, f"{entry} {done}.")


_action("run", "Submit its job now, besides those to come; print the job's id.", "was submitted",
        RecurringEntry.run)  # fmt: skip
_action("pause", "Let it fire no more, until resume.", "is paused", RecurringEntry.pause)
_action("resume", "Let it fire again.", "goes on", RecurringEntry.resume)
_action("delete", "Delete it, until a program declares it again.", "is deleted",
        RecurringEntry.delete)  # fmt: skip


@recurring.command()
@click.argument("expression", metavar="CRON")
@click.option("--tz", metavar="ZONE", help="As Europe/Berlin; the machine's if not given.")
@pass_common
def explain(common: Common, expression: str, tz: str | None) -> None:
    """Show when a cron expression fires around changes of clocks."""
    try:
        console(common).print(clean(explain_cron(expression, tz)))
    except (ImportError, ValueError) as error:
        raise click.UsageError(str(error)) from None


recurring.sections = {"Commands": [*recurring.commands]}
