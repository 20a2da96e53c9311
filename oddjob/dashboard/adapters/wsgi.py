"""The WSGI adapter."""

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from oddjob.dashboard.request import MOST_BYTES, Request, Response, headers_of, parse_query

Environ = dict[str, Any]


def application(
    handle: Callable[[Request], Response],
) -> Callable[[Environ, Callable[..., Any]], Iterable[bytes]]:
    """Return a WSGI application; what it is mounted under is the environ's ``SCRIPT_NAME``."""

    def dashboard(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        response = handle(request_of(environ))
        status = HTTPStatus(response.status)
        start_response(f"{status.value} {status.phrase}", response.headers)
        return [response.body]

    return dashboard


def request_of(environ: Environ) -> Request:
    """Return a WSGI request as the dashboard takes it."""
    names = [(name[5:].replace("_", "-"), value) for name, value in environ.items()
             if name.startswith("HTTP_")]  # fmt: skip
    length = environ.get("CONTENT_LENGTH") or "0"
    size = min(int(length) if length.isdecimal() else 0, MOST_BYTES + 1)
    return Request(
        environ["REQUEST_METHOD"],
        _decoded(environ.get("PATH_INFO", "")),
        _decoded(environ.get("SCRIPT_NAME", "")),
        parse_query(environ.get("QUERY_STRING", "")),
        headers_of(names),
        environ["wsgi.input"].read(size) if size else b"",
        environ,
    )


def _decoded(text: str) -> str:
    return text.encode("latin-1").decode("utf-8", "replace")
