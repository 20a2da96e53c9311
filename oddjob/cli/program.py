"""The program ``oddjob``: all commands, by what they are for."""

import logging

import click

from oddjob import __version__, shutdown_all
from oddjob.cli.actions import cancel, delete, drain, pause, purge, resume, retry
from oddjob.cli.command import Program, safe
from oddjob.cli.dashboard import dashboard
from oddjob.cli.jobs import list_jobs, show, why
from oddjob.cli.maintenance import completion, copy, doctor, migrate
from oddjob.cli.overview import status, top
from oddjob.cli.recurring import recurring
from oddjob.cli.submit import enqueue, replay
from oddjob.cli.torture import torture
from oddjob.cli.worker import worker
from oddjob.compat import override


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="oddjob %(version)s")
def oddjob() -> None:
    """See what a store of durable jobs does, act on its jobs, and run them.

    \b
    Begin with:
      export ODDJOB_STORE=sqlite:///jobs.db
      oddjob status

    Exit codes: 0 done; 1 what was asked for is not so, as no such job; 2 wrong
    usage; 3 the store cannot be used; 4 jobs were left running.
    """  # noqa: D301  (click: keep the lines as they are)


oddjob.add_section("Run jobs", worker, enqueue)
oddjob.add_section("Look", status, list_jobs, show, why, top, dashboard, doctor)
oddjob.add_section("Act on jobs", retry, cancel, delete, purge, replay)
oddjob.add_section("Act on pools, recurring jobs, processes", pause, resume, recurring, drain)
oddjob.add_section("Care", copy, migrate, torture, completion)


class _SafeFormatter(logging.Formatter):
    @override
    def format(self, record: logging.LogRecord) -> str:
        return safe(super().format(record))


def run() -> None:
    """Run the command as this process: log to stderr; end what a program that it imports began."""
    handler = logging.StreamHandler()
    handler.setFormatter(_SafeFormatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    logging.getLogger("oddjob").addHandler(handler)
    try:
        oddjob(prog_name="oddjob")
    finally:
        shutdown_all(0.0)  # it may have timers that would keep the process alive
