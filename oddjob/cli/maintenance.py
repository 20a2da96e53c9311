"""What keeps a store well: ``doctor``, ``migrate``, ``copy``; and ``completion`` for a shell."""

from dataclasses import asdict

import click
from click.shell_completion import get_completion_class
from rich.text import Text

from oddjob import copy_store
from oddjob.cli.command import (
    LEFT,
    USAGE,
    Common,
    Failure,
    command,
    pass_common,
    read_secret,
    shared,
)
from oddjob.cli.output import clean, console, print_json, say
from oddjob.operations import StoreOperations
from oddjob.operations.findings import findings, schema_of
from oddjob.operations.phrases import counted


@command()
@click.option("--no-import", is_flag=True, help="Do not import the functions of waiting jobs.")
@pass_common
def doctor(common: Common, no_import: bool) -> None:
    """Look for what may be wrong with a store, and say what to do.

    Exits with 1 if there is something to look at.
    """
    if common.program is not None and not no_import:
        common.load(common.program)
    found = []
    for each in findings(common.url, imports=not no_import):
        found.append(each)
        if not common.json and not (common.quiet and each.status == "ok"):
            line = Text.assemble(clean(each.status), " " * (6 - len(each.status)), clean(each.what))
            console(common).print(line)
            if each.status != "ok" and each.advice:
                console(common).print(clean(f"      → {each.advice}"))
    if common.json:
        print_json([each._asdict() for each in found])
    if wrong := sum(each.status != "ok" for each in found):
        raise Failure(f"{wrong} of {len(found)} checks found something")


@command()
@click.option("--check", is_flag=True, help="Only look: exit with 1 if there is something to do.")
@pass_common
def migrate(common: Common, check: bool) -> None:
    """Bring a store to the schema of this version.

    Pools do that when they open it. Stop processes of older versions before: they cannot use it
    afterwards.
    """
    url = common.url
    found = schema_of(url)
    if not check:
        with StoreOperations(url):  # which migrates it
            found = schema_of(url)
    if common.json:
        print_json(None if found is None else found._asdict())
    if found is None:
        say(common, "This kind of store has no schema.")
    elif found.found != found.known:
        todo = "run oddjob migrate" if found.found < found.known else "update oddjob"
        raise Failure(f"the store has schema {found.found}, this version {found.known}: {todo}")
    else:
        say(common, f"The store has schema {found.found}, as it should.")


@command()
@click.argument("target", metavar="TARGET")
@click.option("--source-key", metavar="FILE", help="File with the signing key of --store.")
@click.option("--target-key", metavar="FILE", help="File with the signing key of TARGET.")
@pass_common
def copy(common: Common, target: str, source_key: str | None, target_key: str | None) -> None:
    """Move waiting and recurring jobs to another store.

    TARGET is its URL, or @FILE. One of the two is a SQLite file. Programs may use
    both meanwhile: jobs that have begun end where they are. Exits with 4 while
    any are left there; call it again then, also after it was interrupted.
    """
    if common.pool:
        raise click.UsageError("copy moves all pools of a store: leave --pool out")
    if common.program is not None:
        common.load(common.program)
    source_keys, target_keys = (
        file and read_secret(f"@{file}", "the signing key", USAGE)
        for file in (source_key, target_key)
    )
    try:
        report = copy_store(
            common.url,
            shared(read_secret(target)),
            source_keys=source_keys,
            target_keys=target_keys,
        )
    except ValueError as error:  # of the URLs
        raise Failure(str(error), USAGE) from None
    if common.json:
        print_json(asdict(report))
    say(common, f"Moved {counted(report.moved)} and {counted(report.entries, 'recurring job')}.")
    if report.twins:
        say(common, f"{counted(report.twins, 'unique job')} already there.")
    for reason, count in report.left.items():
        say(common, f"Left {count:,}: {reason}")
    if not report.is_complete:
        left = sum(report.left.values())
        what = f"{counted(report.running)} running, {left:,} waiting: call it again later"
        raise Failure(what, LEFT)


@command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete this command.

    bash: eval "$(oddjob completion bash)" in ~/.bashrc; fish: oddjob completion fish | source
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101  (click has these three)
    root = click.get_current_context().find_root()
    click.echo(kind(root.command, {}, "oddjob", "_ODDJOB_COMPLETE").source())
