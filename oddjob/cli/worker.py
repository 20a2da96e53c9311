"""``worker``: run the jobs of a program, until a signal ends it."""

import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path

import click

from oddjob import Pool
from oddjob.cli.command import LEFT, USAGE, Common, Failure, command, pass_common
from oddjob.cli.filters import seconds
from oddjob.cli.output import say
from oddjob.cli.processes import end_with_parent, run_processes
from oddjob.daemon import run_until
from oddjob.operations import StoreOperations
from oddjob.operations.application import new_pool, run
from oddjob.operations.phrases import counted

_MOST_PORTS = 65535
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _size(text: str) -> int:
    number = text.upper().removesuffix("B")
    try:
        size = int(float(number.rstrip("KMG")) * _UNITS.get(number[-1:], 1))
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise click.BadParameter(f'{text!r} is no size such as "512M"')
    return size


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _MOST_PORTS:
        raise click.BadParameter(f'{text!r} is no address such as "127.0.0.1:9100"')
    return host.strip("[]"), int(port)


def _give_name(_context: click.Context, _option: click.Parameter, name: str | None) -> None:
    if name is not None:
        os.environ["ODDJOB_NAME"] = name


@command()
@click.argument("modules", nargs=-1, metavar="[MODULE[:POOL]]...")
@click.option("-c", "--concurrency", type=click.IntRange(1), metavar="N",
              help="Jobs at once in each pool, instead of its pool_size.")  # fmt: skip
@click.option("-p", "--processes", type=click.IntRange(1), default=1, metavar="N",
              help="Number of processes; one that ends is replaced.")  # fmt: skip
@click.option("--name", metavar="NAME", expose_value=False, callback=_give_name,
              help="What status shows before the host, to tell workers apart.  "
              "[env: ODDJOB_NAME]")  # fmt: skip
@click.option("--drain-timeout", type=seconds, default=30.0, metavar="SECONDS",
              show_default=True, help="How long running jobs have at the end.")  # fmt: skip
@click.option("--batch", is_flag=True, help="End when no job is queued or runs; those that wait "
              "for their time are left.")  # fmt: skip
@click.option("--max-jobs", type=click.IntRange(1), metavar="N", help="End after about N jobs.")
@click.option("--max-memory", type=_size, metavar="SIZE", help="End when it has used 512M, say.")
@click.option("--reload", is_flag=True, help="Start again when a .py file below here changes.")
@click.option("--metrics", type=_address, metavar="HOST:PORT", help="Serve metrics for Prometheus.")
@click.option("--pid-file", type=click.Path(dir_okay=False, path_type=Path),
              help="Write the process number there.")  # fmt: skip
@click.option("--check", is_flag=True, help="Import everything, open the stores, and end.")
@click.option("--follow-stdin", is_flag=True, hidden=True)  # end when the parent has gone
@pass_common
def worker(
    common: Common, modules: tuple[str, ...], concurrency: int | None, processes: int,
    drain_timeout: float, batch: bool, max_jobs: int | None, max_memory: int | None, reload: bool,
    metrics: tuple[str, int] | None, pid_file: Path | None, check: bool, follow_stdin: bool,
) -> None:  # fmt: skip
    """Run the jobs of a program.

    MODULE is imported; its pools run what is in their stores. MODULE:POOL means one of them. To run
    functions of a program that makes no pools, give --store and --pool.

    SIGTERM and Ctrl-C let running jobs finish, and leave the others to other processes; a second
    one ends the process at once, as SIGHUP does: its jobs are run by others. SIGUSR1 prints what
    every thread is doing.
    """
    if not (common.verbose or common.quiet):
        logging.getLogger("oddjob").setLevel(logging.INFO)
    if metrics and processes > 1:
        raise click.UsageError("--metrics is for one process: give each one a port of its own.")
    if (processes > 1 or reload) and not (check or follow_stdin):
        with _pid_file(pid_file):
            sys.exit(run_processes(processes, is_batch=batch, reloads=reload))
    chosen = _pools_of(common, modules)
    if check:
        say(common, f"{_names(chosen)}: the program can be imported, the store is open.")
        return
    if follow_stdin:
        end_with_parent(signal.SIGTERM)
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1)
    if metrics:
        _serve_metrics(chosen, metrics)
    run(chosen, concurrency)
    say(common, f"Running jobs of {_names(chosen)}. Ctrl-C ends.")

    def is_over() -> bool:
        ended = sum(each.stats().succeeded + each.stats().failed for each in chosen)
        too_many = max_jobs is not None and ended >= max_jobs
        too_large = max_memory is not None and _memory() > max_memory
        return too_many or too_large or (batch and _is_batch_over(common, chosen))

    is_limited = batch or max_jobs is not None or max_memory is not None
    with _pid_file(None if follow_stdin else pid_file):
        every = 0.2 if is_limited else inf
        left = run_until(drain_timeout, is_over if is_limited else None, every)
    if left:
        raise Failure(f"{counted(left)} had not ended when the time was up", LEFT)
    say(common, "Every job that had begun has ended.")


def _pools_of(common: Common, modules: tuple[str, ...]) -> list[Pool]:
    targets = modules or ((common.program,) if common.program else ())
    if not targets:
        raise click.UsageError("Which program? Give the module that makes the pools.")
    found = [pool for each in targets for pool in common.load(each)]
    if not found:  # a program with functions alone
        found = [new_pool(name, common.url) for name in common.pool]
    names = {str(pool.name): pool for pool in found}
    if lacking := set(common.pool) - names.keys():
        raise Failure(f"{' '.join(targets)} makes no pool {', '.join(lacking)}; there are: "
                      f"{', '.join(names)}")  # fmt: skip
    if not names:
        raise Failure(f"{' '.join(targets)} makes no pool: give --store and --pool", USAGE)
    return [names[name] for name in dict.fromkeys(common.pool)] or list(names.values())


def _serve_metrics(chosen: list[Pool], address: tuple[str, int]) -> None:
    try:
        from prometheus_client import CollectorRegistry, start_http_server

        from oddjob.contrib.prometheus import OddJobCollector
    except ImportError:
        raise Failure("--metrics needs: pip install 'oddjob[prometheus]'", USAGE) from None
    registry = CollectorRegistry()
    registry.register(OddJobCollector(chosen))
    try:
        start_http_server(address[1], address[0], registry)
    except OSError as error:
        raise Failure(f"no metrics at {address[0]}:{address[1]}: {error.strerror}", USAGE) from None


def _is_batch_over(common: Common, chosen: list[Pool]) -> bool:
    waiting, left = 0, []
    for pool in chosen:
        if pool.configuration.store:
            counts = pool.counts()
            waiting += counts["scheduled"]
            is_busy = counts["queued"] or counts["running"]
            if is_busy and not counts["running"] and _is_paused(pool):
                count = counted(counts["queued"])
                left.append(f"Pool {pool.name} is paused: {count} left in its queue.")
                is_busy = 0
        else:
            is_busy = pool.stats().queued or pool.stats().running
        if is_busy:
            return False
    if waiting:
        left.append(f"{counted(waiting)} left for later.")
    for each in left:
        say(common, each)
    return True


def _is_paused(pool: Pool) -> bool:
    with StoreOperations(str(pool.configuration.store)) as store:
        return store.pool(str(pool.name)).is_paused


def _memory() -> int:
    """Return the most memory that the process has used, in bytes."""
    import resource  # there is none on Windows

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def _names(chosen: list[Pool]) -> str:
    return ", ".join(str(each.name) for each in chosen)


@contextmanager
def _pid_file(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    try:
        path.write_text(f"{os.getpid()}\n")
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}", USAGE) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
