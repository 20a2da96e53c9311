"""The WSGI adapter."""

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from oddjob.dashboard.request import MOST_BYTES, Request, Response, parse_query

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


def request_of(environ: Environ, native: Any = None) -> Request:
    """Return a WSGI request as the dashboard takes it."""
    headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items()
               if name.startswith("HTTP_")}  # fmt: skip
    length = str(environ.get("CONTENT_LENGTH") or "")
    size = min(int(length), MOST_BYTES + 1) if length.isdecimal() else 0
    body = environ["wsgi.input"].read(size) if size else b""
    path, base = (_decoded(environ.get(name, "")) for name in ("PATH_INFO", "SCRIPT_NAME"))
    query = parse_query(environ.get("QUERY_STRING", ""))
    return Request(environ["REQUEST_METHOD"], path, base, query, headers, body, native or environ)


def _decoded(text: str) -> str:
    return text.encode("latin-1").decode("utf-8", "replace")
