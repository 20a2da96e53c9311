"""Three acts, `ThreadPoolExecutor` beside OddJob in each: `make demo`."""

import os
import platform
import signal
from time import monotonic

import oddjob
from examples.demo import flaky_api, killed, lost_workers
from examples.demo.screen import heading, quiet, say, show_cursor


def main(calls: int = 800, rounds: int = 2, orders: int = 150) -> None:
    """Play the acts, and say where to go next."""
    began = monotonic()
    say(
        f"OddJob {oddjob.__version__} beside ThreadPoolExecutor, on Python "
        f"{platform.python_version()}: three acts of some seconds each.\n"
        "All figures are measured now, on this machine."
    )
    with quiet():
        flaky_api.run(calls)
        lost_workers.run(rounds)
        killed.run(orders)
    heading(f"That took {monotonic() - began:.0f} seconds. Where to go next")
    say(
        "  README.md                        ten lines to begin with, and recipes\n"
        "  examples/README.md               guides and short programs\n"
        "  examples/guides/comparison.md    other libraries, and when not to use this one\n"
        "  examples/demo                    the source of this demo\n"
        "  python3 -c 'import oddjob; help(oddjob.Pool)'"
    )


def end_at_once(*_: object) -> None:
    """End on Ctrl-C, whatever hangs: calls that do are a part of the demo."""
    show_cursor()
    os._exit(130)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, end_at_once)
    main()
