"""Request and Response: what adapters give to the dashboard, and what they get back."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, quote, urlencode

MOST_BYTES: Final = 1 << 20  # of a request's body; a thousand ids have less
OWN_POOL: Final = "oddjob-dashboard"  # in which it answers to ASGI
_SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")


@dataclass
class Request:
    """A request, whichever web framework it has come through.

    Attributes:
        method: in capitals.
        path: below the place where the dashboard is mounted, decoded.
        base_path: that place, decoded; "" if it is the root.
        query: what follows the ``?``, decoded.
        headers: by their names in lower case.
        body: the body.
        native: the framework's own request: a WSGI environ, an ASGI scope, a Django request.
        user: who has sent it, as `auth` says.
        access: what they may do, as `access` says.
    """

    method: str
    path: str
    base_path: str
    query: dict[str, list[str]]
    headers: Mapping[str, str]
    body: bytes = b""
    native: Any = None
    user: Any = None
    access: Any = None

    @cached_property
    def form(self) -> dict[str, list[str]]:
        """What a form has sent, decoded."""
        return parse_query(self.body.decode("utf-8", "replace"))

    @property
    def base(self) -> str:
        """What stands before the paths of all pages in URLs."""
        return quote(self.base_path.rstrip("/"))

    @property
    def is_safe(self) -> bool:
        """Whether it only asks."""
        return self.method in _SAFE_METHODS

    def get(self, name: str) -> str:
        """Return a value of the query, or of a form that was sent; "" if it is not there."""
        values = (self.query if self.is_safe else self.form).get(name) or [""]
        return values[-1].strip()

    def url(self, path: str, **query: object) -> str:
        """Return the URL of a page, with what is not empty of a query."""
        given = urlencode({name: value for name, value in query.items() if value not in ("", None)})
        return self.base + quote(path) + (f"?{given}" if given else "")


class Response(NamedTuple):
    """An answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def parse_query(text: str) -> dict[str, list[str]]:
    """Return what a query string, or a form, says."""
    return parse_qs(text, keep_blank_values=True)


class HttpError(Exception):
    """The end of a request that is not done: a status, and a sentence for people."""

    def __init__(self, status: int, message: str, *headers: tuple[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
