"""What changes as one looks at it: ``top``, and ``status --watch``."""

import time
from collections.abc import Callable
from typing import Any, Final

import click
from rich.console import Group, RenderableType
from rich.live import Live

from oddjob.cli import shown
from oddjob.cli.command import Common, command, pass_common
from oddjob.cli.output import ago, console, lasting, print_json_line, table
from oddjob.operations import Record

_LONGEST: Final = 10  # jobs that are shown
_SPAN: Final = 60.0  # seconds, of what has ended


def refresh(common: Common, seconds: float, render: Callable[[], RenderableType]) -> None:
    """Show something again and again, until Ctrl-C."""
    out = console(common)
    with Live(render(), console=out, screen=out.is_terminal, auto_refresh=False) as live:
        while True:
            time.sleep(seconds)
            live.update(render(), refresh=True)


def _measure(common: Common) -> dict[str, Any]:
    pools: list[dict[str, Any]] = []
    longest: list[Record] = []
    for pool in common.pools():
        counts, ended = pool.counts(), pool.ended_since(_SPAN)
        pools.append(
            {
                "name": pool.name,
                "is_paused": pool.is_paused,
                "queued": counts["queued"],
                "running": counts["running"],
                "succeeded_per_minute": ended["succeeded"],
                "failed_per_minute": ended["failed"],
                "oldest_waiting_at": pool.oldest_waiting(),
            }
        )
        longest += pool.records(state="running", limit=1000)
    longest.sort(key=shown.SORTS["ran"])
    return {"pools": pools, "longest": longest[:_LONGEST]}


def _for_people(found: dict[str, Any]) -> Group:
    pools = table(
        ["pool", "queued", "running", "succeeded/min", "failed/min", "oldest"],
        [
            [
                each["name"] + (" (paused)" if each["is_paused"] else ""),
                each["queued"],
                each["running"],
                each["succeeded_per_minute"],
                each["failed_per_minute"],
                ago(each["oldest_waiting_at"]).removesuffix(" ago"),
            ]
            for each in found["pools"]
        ],
        cut=("pool",),
    )
    jobs: list[Record] = found["longest"]
    rows = [
        [each.id, each.name, each.pool, lasting(each.ran), shown.progress_of(each.progress)]
        for each in jobs
    ]
    running = table(["running", "name", "pool", "for", "progress"], rows, cut=("name", "progress"))
    return Group(pools, "", running if rows else "Nothing runs.")


@command()
@click.option("--once", is_flag=True, help="Look once, and end.")
@click.option("--interval", type=float, default=1.0, metavar="SECONDS", help="1 if not given.")
@pass_common
def top(common: Common, once: bool, interval: float) -> None:
    """Watch pools, what ends in them, and what runs longest, until Ctrl-C.

    What ended in the last minute is counted as far as its records are kept. With --json, each look
    is one line.
    """
    if common.json:
        while True:
            found = _measure(common)
            print_json_line(found | {"longest": [*map(shown.job_json, found["longest"])]})
            if once:
                return
            time.sleep(interval)
    if once:
        console(common).print(_for_people(_measure(common)))
    else:
        refresh(common, interval, lambda: _for_people(_measure(common)))
