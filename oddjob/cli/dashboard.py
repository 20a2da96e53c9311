"""``dashboard``: a store in a browser."""

import socket
import sys
import webbrowser
from contextlib import suppress
from functools import partial
from math import inf
from typing import Final

import click

from oddjob.cli.command import NOT_SO, USAGE, Common, Failure, command, pass_common, read_secret
from oddjob.cli.output import say
from oddjob.daemon import SignalWaiter
from oddjob.log import run_in_thread

_RARELY: Final = 3600.0  # seconds


@command()
@click.option("--host", default="127.0.0.1", metavar="ADDRESS", show_default=True,
              help="Where to listen; one that others can reach needs --auth.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=5678, metavar="PORT",
              show_default=True, help="0: any.")  # fmt: skip
@click.option("--base-path", default="", metavar="PATH", help="What a proxy puts before paths.")
@click.option("--read-only", is_flag=True, help="Show, and change nothing.")
@click.option("--auth", metavar="USER:@FILE", help="Ask for this user, and the password that is "
              "in the file.")  # fmt: skip
@click.option("--trusted-host", multiple=True, metavar="NAME",
              help="Answer to this name, too, as of a proxy; may be repeated.")  # fmt: skip
@click.option("--metrics", is_flag=True, help="Tell Prometheus of the store, at /metrics.")
@click.option("--open", "opens", is_flag=True, help="Open it in a browser.")
@pass_common
def dashboard(
    common: Common, host: str, port: int, base_path: str, read_only: bool, auth: str | None,
    trusted_host: tuple[str, ...], metrics: bool, opens: bool,
) -> None:  # fmt: skip
    """Serve the dashboard, on this machine alone, until Ctrl-C.

    It has the jobs of the store; nothing is run here.
    """
    try:
        from oddjob.dashboard import NO_AUTH, BasicAuth, Dashboard
        from oddjob.dashboard.server import is_loopback, make_server

        common.open()
        site = Dashboard(
            common.url,
            auth=NO_AUTH if auth is None else BasicAuth(*_credentials(auth)),
            access=(lambda _user: "read_only") if read_only else None,
            base_path=base_path or None,
            trusted_hosts=[*trusted_host, *([] if is_loopback(host) else [host])],
            metrics=metrics,
        )
    except ImportError as error:
        raise Failure(str(error)) from None
    except ValueError as error:  # the file with the password is empty
        raise click.UsageError(str(error)) from None
    try:
        server = make_server(site, host, port)
    except (OSError, ValueError) as error:
        raise Failure(f"cannot serve at {host}:{port}: {error}", USAGE) from None
    name = f"[{host}]" if ":" in host else host
    url = f"http://{name}:{server.server_port}/{base_path.strip('/')}".rstrip("/") + "/"
    say(common, f"The dashboard is at {url} until Ctrl-C.")
    sys.stderr.flush()
    signals: list[int] = []
    with SignalWaiter(signals.append) as waiter:
        # By default it would wake up twice a second, to see if it is to end.
        run_in_thread(partial(server.serve_forever, _RARELY), "oddjob-dashboard-server")
        if opens:
            webbrowser.open(url)
        while not signals:
            waiter.wait(inf)
    with suppress(OSError):
        server.socket.shutdown(socket.SHUT_RDWR)  # which wakes it up
    server.shutdown()
    server.server_close()


def _credentials(auth: str) -> tuple[str, str]:
    user, _, password = auth.partition(":")
    if not user or not password.startswith("@"):
        raise click.BadParameter("write user:@file, so that the password is not in the process "
                                 "list", param_hint="--auth")  # fmt: skip
    return user, read_secret(password, "the password", NOT_SO)
