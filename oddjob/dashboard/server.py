"""Server: the dashboard by itself, on a port of this machine.

Guarantees: on an address that others can reach, it is not served without `auth`. It answers only to
names that it knows; see `Guard.check_host`.
"""

import socket
from functools import partial
from ipaddress import ip_address
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from oddjob.compat import override
from oddjob.dashboard.adapters.wsgi import application
from oddjob.dashboard.application import Dashboard

_PATIENCE: Final = 30.0  # seconds, with a client that sends nothing


class _Handler(WSGIRequestHandler):
    timeout = _PATIENCE

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the terminal belongs to the command."""

    @override
    def address_string(self) -> str:  # which would ask a name server
        return str(self.client_address[0])


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    @override
    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # the base class would ask a name server
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: it is a client that has gone away."""


class _Server6(_Server):
    address_family = socket.AF_INET6


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def make_server(dashboard: Dashboard, host: str = "127.0.0.1", port: int = 5678) -> WSGIServer:
    """Return a server, which listens already; ``serve_forever`` answers.

    Args:
        dashboard: what is served.
        host: the address. One that others can reach needs a dashboard with `auth`.
        port: the port; 0: any that is free, then in ``server_port``.

    Raises:
        OSError: the port is in use, or the address is not this machine's.
        ValueError: others could reach the dashboard, and nothing says who may see it.
    """
    if not is_loopback(host) and not dashboard.asks_who:
        raise ValueError(f"at {host}, others could reach the dashboard: say who may, with auth")
    server = (_Server6 if ":" in host else _Server)((host, port), _Handler)
    server.set_app(application(partial(dashboard.handle, is_standalone=True)))
    return server
