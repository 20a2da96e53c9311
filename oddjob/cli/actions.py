"""What changes jobs: ``retry``, ``cancel``, ``delete``, ``purge``; pools: ``pause``, ``resume``.

Guarantees: what is meant is counted, and asked about, before anything is changed; then it is done
in slices, each of them committed. A second call goes on where the first one was interrupted.
"""

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import click

from oddjob.cli.command import USAGE, Common, Failure, command, pass_common
from oddjob.cli.filters import Filters, filtered, states
from oddjob.cli.output import print_json, say
from oddjob.errors import JobNotFound
from oddjob.operations import PoolOperations, Record
from oddjob.operations.access import Change
from oddjob.operations.phrases import changed, counted
from oddjob.runtime.job_state import JobState


def _on_jobs(how: Change, help_text: str, done: str, possible: list[JobState],
             by_default: list[JobState] | None = None) -> click.Command:  # fmt: skip
    """Return a command that changes jobs which are in one of some states."""

    @command(how, help=help_text)
    @click.argument("ids", nargs=-1, metavar="[ID]...")
    @filtered
    @click.option("--all", "is_all", is_flag=True, help="All jobs which the options describe.")
    @click.option("--dry-run", is_flag=True, help="Count them, and change nothing.")
    @pass_common
    def act(
        common: Common, ids: tuple[str, ...], which: Filters, is_all: bool, dry_run: bool
    ) -> None:
        if bool(ids) == is_all or (ids and which.are_given):
            raise click.UsageError("Give either ids (- reads them from stdin), or --all and "
                                   "options that say which jobs.")  # fmt: skip
        wanted = which.state or by_default or possible
        if wrong := set(wanted) - set(possible):
            raise click.UsageError(f"{how} is not for jobs that are {', '.join(sorted(wrong))}")
        which = Filters(**{**vars(which), "state": wanted})
        others: Counter[str] = Counter()
        given = _given(common, ids, others) if ids else []
        for job in [each for each in given if each.state not in possible]:
            given.remove(job)
            others[job.state] += 1
        found = Counter(each.state for each in (given if ids else which.records(common)))
        count, running = found.total(), found["running"]
        if count and not dry_run:
            ask(common, f"{changed(count, running, done, 'will be ')}.", count)
            count = common.open().change(how, given if ids else which.records(common))
        if count or not (others or is_all):
            report(common, count, done, dry_run=dry_run, asked=min(count, running))
        if others:
            what = ", ".join(f"{number} {state}" for state, number in others.items())
            raise Failure(f"not {done}: {what}")
        if not count:
            raise Failure("there is no such job")

    return act


def _given(common: Common, ids: tuple[str, ...], others: Counter[str]) -> list[Record]:
    """Return the jobs with those ids; count those that are not there."""
    texts = sys.stdin.read().split() if ids == ("-",) else [*ids]
    found = []
    for each in dict.fromkeys(texts):
        try:
            found.append(common.open().record(each))
        except JobNotFound:
            others["not found"] += 1
    return found


def can_answer() -> bool:
    """Return whether there is anybody to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(common: Common, what: str, count: int) -> None:
    """Ask before many jobs are changed; where nobody can answer, ``--yes`` has to be given."""
    if count <= 1 or common.yes:
        return
    if not can_answer():
        raise Failure(f"{what} Give --yes if that is meant.", USAGE)
    if not click.confirm(f"{what} Go on?", err=True):
        raise Failure("nothing was changed")


def report(common: Common, count: int, done: str, *, dry_run: bool, asked: int = 0) -> None:
    """Say how many jobs were changed, or would be; `asked` of these were only asked to stop."""
    if common.json:
        print_json({"count": count, "dry_run": dry_run, "asked_to_stop": asked})
    else:
        say(common, f"{changed(count, asked, done, 'would be ' * dry_run)}.")


retry: Final = _on_jobs(
    "retry",
    "Queue failed or canceled jobs again, or scheduled ones at once.\n\n"
    "--all means the failed ones, unless --state says otherwise.",
    "queued again", ["failed", "cancelled", "scheduled"], ["failed"],
)  # fmt: skip
cancel: Final = _on_jobs(
    "cancel",
    "Cancel jobs that wait, and ask running ones to stop.",
    "canceled", ["scheduled", "queued", "running"],
)  # fmt: skip
delete: Final = _on_jobs(
    "delete",
    "Delete jobs, and what is known of them. Running ones are not deleted.",
    "deleted", ["scheduled", "queued", "succeeded", "failed", "cancelled"],
)  # fmt: skip


@command()
@click.option("--state", type=states, metavar="STATE", default="succeeded,failed,cancelled",
              show_default=True, help="Those that have ended in that way.")  # fmt: skip
@click.option("--older-than", metavar="TIME", default="7d", show_default=True,
              help="Those that ended longer ago.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Count them, and change nothing.")
@pass_common
def purge(common: Common, state: list[JobState], older_than: str, dry_run: bool) -> None:
    """Delete the records of jobs that have ended.

    Pools do that by themselves, as their keep_succeeded and keep_failed say.
    """
    pools = common.pools()
    try:
        count = sum(1 for pool in pools for _ in pool.ended(state, older_than))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if not dry_run:
        ask(common, f"{counted(count)} will be deleted.", count)
        count = sum(pool.purge(state, older_than) for pool in pools)
    report(common, count, "deleted", dry_run=dry_run)


@command()
@click.argument("process", metavar="PROCESS")
@pass_common
def drain(common: Common, process: str) -> None:
    """Ask a worker to end: what it runs goes on, the rest is left.

    PROCESS is its number in status, or number@host. It ends as after SIGTERM; what
    replaces it then, as -p and service managers do, starts it anew.
    """
    found = [each for each in common.open().runners()
             if process in (str(each.pid), f"{each.pid}@{each.host}")]  # fmt: skip
    if len(found) > 1:
        names = " or ".join(f"{each.pid}@{each.host}" for each in found)
        raise click.UsageError(f"There are several: give {names}")
    if not found or not common.open().drain(found[0].id):
        raise Failure(f"the store has no process {process} that runs jobs")
    if common.json:
        print_json({"id": found[0].id, "host": found[0].host, "pid": found[0].pid})
    say(common, f"Process {process} was asked to end.")


def _on_pools(name: str, help_text: str, done: str, change: Callable[..., Any],
              *options: click.Option) -> click.Command:  # fmt: skip
    @command(name, help=help_text, params=[*options])
    @click.argument("names", nargs=-1, metavar="[POOL]...")
    @pass_common
    def act(common: Common, /, names: tuple[str, ...], **given: str) -> None:
        common.pool += names
        if not common.pool:
            raise click.UsageError("Which pool? Give its name.")
        for pool in common.pools():
            change(pool, **given)
            say(common, f"Pool {pool.name} {done}.")
        if common.json:
            print_json([
                {"name": pool.name, "is_paused": pool.is_paused, "pause_reason": pool.pause_reason}
                for pool in common.pools()
            ])  # fmt: skip

    return act


pause: Final = _on_pools(
    "pause",
    "Let no process start jobs of a pool, until resume.\n\nThose that run go on.",
    "is paused", PoolOperations.pause,
    click.Option(["--reason"], default="", metavar="TEXT", help="Why; status and others show it."),
)  # fmt: skip
resume: Final = _on_pools(
    "resume", "Let jobs of a pool be started again.", "goes on", PoolOperations.resume
)
