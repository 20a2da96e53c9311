"""A store at a glance: ``status``, and ``top``, which looks again and again."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from heapq import nsmallest
from typing import Any, Final

import click
from rich.console import Group, RenderableType
from rich.live import Live

from oddjob.cli.columns import COLUMNS, SORTS
from oddjob.cli.command import Common, Failure, command, pass_common
from oddjob.cli.filters import pause, seconds
from oddjob.cli.output import answer, clean, console, print_json, table
from oddjob.durable.record import host_name
from oddjob.operations import Record
from oddjob.operations.phrases import ago, counted, lasting
from oddjob.operations.presentation import job_json, runner_json

_LONGEST: Final = 10  # jobs that `top` shows
_SPAN: Final = 60.0  # seconds, of what has ended


def _overview(common: Common) -> dict[str, Any]:
    """Return what ``status --json`` prints."""
    me = host_name(), os.getpid()
    runners = [each for each in common.open().runners() if (each.host, each.pid) != me]
    return {
        "pools": [
            {
                "name": pool.name,
                "is_paused": pool.is_paused,
                "pause_reason": pool.pause_reason,
                "runners": sum(pool.name in each.pools for each in runners),
                "counts": pool.counts(),
                "ended_last_minute": pool.ended_since(_SPAN),
                "oldest_waiting_at": pool.oldest_waiting(),
            }
            for pool in common.pools()
        ],
        "runners": [runner_json(each) for each in runners],
    }


def _pools(found: dict[str, Any], columns: dict[str, Callable[[dict[str, Any]], object]]) -> Any:
    """Return a table of the pools; some columns are the same in all of them."""
    columns = {
        "pool": lambda pool: pool["name"] + (" (paused)" if pool["is_paused"] else ""),
        "procs": lambda pool: pool["runners"],
        **columns,
        "oldest": lambda pool: lasting(_age(pool)),
    }
    rows = [[cell(pool) for cell in columns.values()] for pool in found["pools"]]
    return table([*columns], rows, cut=("pool",), gap=1)


def _count_of(state: str, of: str = "counts") -> Callable[[dict[str, Any]], object]:
    return lambda pool: pool[of][state]


def _age(pool: dict[str, Any]) -> float | None:
    oldest = pool["oldest_waiting_at"]
    return None if oldest is None else (datetime.now(UTC) - oldest).total_seconds()


def _status_for_people(found: dict[str, Any]) -> Group:
    states = list(found["pools"][0]["counts"]) if found["pools"] else []
    rows = [[str(each["pid"]), each["host"], each["version"], ago(each["joined_at"]),
             ", ".join(each["pools"]) or "-"] for each in found["runners"]]  # fmt: skip
    runners = table(["process", "host", "oddjob", "since", "runs jobs of"], rows)
    none = "No process uses the store: oddjob worker MODULE starts one."
    pools = _pools(found, {state: _count_of(state) for state in states})
    paused = [f"Pool {each['name']} is paused: {each['pause_reason']}"
              for each in found["pools"] if each["pause_reason"]]  # fmt: skip
    return Group(pools, *map(clean, paused), "", runners if rows else none)


def _refresh(common: Common, seconds: float, render: Callable[[], RenderableType]) -> None:
    out = console(common)
    with Live(render(), console=out, screen=out.is_terminal, auto_refresh=False) as live:
        while True:  # until Ctrl-C
            time.sleep(seconds)
            live.update(render(), refresh=True)


@command()
@click.option("--watch", type=pause, metavar="SECONDS", help="Look again every so often.")
@click.option("--check", is_flag=True, help="Exit with 1 if jobs wait, and no process runs them.")
@click.option("--max-waiting", type=click.IntRange(0), metavar="N",
              help="... or if more than N wait in a pool.")  # fmt: skip
@click.option("--max-age", type=seconds, metavar="SECONDS", help="... or if one waits for longer.")
@pass_common
def status(
    common: Common, watch: float | None, check: bool, max_waiting: int | None, max_age: float | None
) -> None:
    """Show how many jobs are in which state, and who runs them.

    A probe asks with --check, --max-waiting or --max-age; what is wrong goes to stderr.
    """
    check = check or max_waiting is not None or max_age is not None
    if watch is not None:
        if common.json:
            raise click.UsageError("--watch is for people: top --json prints a line for each look.")
        if check:
            raise click.UsageError("--watch is for people: a probe looks once.")
        _refresh(common, watch, lambda: _status_for_people(_overview(common)))
    found = _overview(common)
    if common.json or not (check and common.quiet):
        answer(common, found, _status_for_people(found))
    wrong = []
    for pool in found["pools"]:
        where, waiting, age = f"pool {pool['name']}", pool["counts"]["queued"], _age(pool) or 0.0
        many = f"{counted(waiting)} waiting"
        if waiting and not pool["runners"]:
            wrong.append(f"{where}: {many}, and no process runs any")
        if max_waiting is not None and waiting > max_waiting:
            wrong.append(f"{where}: {many}, more than {max_waiting}")
        if max_age is not None and age > max_age:
            wrong.append(f"{where}: one waits for {age:.0f} s, over {max_age:g} s")
    if check and wrong:
        raise Failure("; ".join(wrong))


def _longest(common: Common) -> list[Record]:
    running = [job for pool in common.pools() for job in pool.records(state="running", limit=1000)]
    return nsmallest(_LONGEST, running, key=SORTS["ran"])


def _top_for_people(common: Common) -> Group:
    pools = _pools(_overview(common), {
        "queued": _count_of("queued"),
        "running": _count_of("running"),
        "succeeded/min": _count_of("succeeded", "ended_last_minute"),
        "failed/min": _count_of("failed", "ended_last_minute"),
    })  # fmt: skip
    names = {"running": "id", "name": "name", "pool": "pool", "for": "ran", "progress": "progress"}
    rows = [[COLUMNS[each](job) for each in names.values()] for job in _longest(common)]
    jobs = table([*names], rows, cut=("name", "progress"))
    return Group(pools, "", jobs if rows else "Nothing runs.")


@command()
@click.option("--once", is_flag=True, help="Look once, and end.")
@click.option("--interval", type=pause, default=1.0, metavar="SECONDS", help="1 if not given.")
@pass_common
def top(common: Common, once: bool, interval: float) -> None:
    """Watch pools, what ends in them, and what runs longest, until Ctrl-C.

    What ended in the last minute is counted as far as its records are kept. With --json, each look
    is one line.
    """
    if common.json:
        while True:
            longest = [job_json(each) for each in _longest(common)]
            print_json(_overview(common) | {"longest": longest}, indent=None)
            if once:
                return
            time.sleep(interval)
    if once:
        console(common).print(_top_for_people(common))
    else:
        _refresh(common, interval, lambda: _top_for_people(common))
