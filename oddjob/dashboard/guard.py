"""Guard: who gets in, and what they may do.

Guarantees
  * Closed by default: without `auth`, every page is refused, with how to open it.
  * What changes something is refused if another site has sent it. There are no tokens: browsers say
    where a request comes from (`Sec-Fetch-Site`, `Origin`), by the rules of Go's
    ``http.CrossOriginProtection``.
  * Served by itself, the dashboard answers only to names that it knows, so a page of another site
    cannot reach it by having its own name resolved to this machine.
"""

import base64
import hmac
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from oddjob.dashboard.request import HttpError, Request

ACTIONS: Final = ("retry", "run", "cancel", "delete", "pause", "resume", "drain")

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Final = [
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
]  # fmt: skip

_HOW_TO_OPEN: Final = (
    "This dashboard is closed, as nobody has said who may see it. Give it "
    'auth=BasicAuth("user", "password"), auth=staff_only (in Django), a function that returns the '
    "user of a request, or auth=NO_AUTH if something else in front of it checks who asks."
)
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

Auth = Callable[[Request], Any]
Access = str | Collection[str] | None


def NO_AUTH(_request: Request) -> str:  # noqa: N802  (it is given, not called)
    """Let everybody in: what `auth` is set to where something else checks who asks."""
    return "anybody"


def staff_only(request: Request) -> Any:
    """Let in who is logged in to Django's admin: what `auth` is set to in Django."""
    user = getattr(request.native, "user", None)
    return user if user is not None and user.is_active and user.is_staff else None


class BasicAuth:
    """A user and a password, which browsers ask for; serve the dashboard over TLS then.

    Args:
        user: the name.
        password: the password.

    Raises:
        ValueError: one of them is empty, as a variable of the environment may be.
    """

    def __init__(self, user: str, password: str) -> None:
        if not (user and password):
            raise ValueError("BasicAuth needs a user and a password, and one of them is empty")
        self._user: Final = user
        self._expected: Final = f"{user}:{password}".encode()

    def __call__(self, request: Request) -> str:
        """Return the user; raise what asks for the password if it is not right."""
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        try:
            credentials = base64.b64decode(given) if kind.lower() == "basic" else b""
        except ValueError:
            credentials = b""
        if not hmac.compare_digest(credentials, self._expected):
            asks = ("WWW-Authenticate", 'Basic realm="OddJob", charset="UTF-8"')
            raise HttpError(401, "A user and a password are needed.", asks)
        return self._user


class Guard:
    """Checks requests.

    Args:
        auth: returns the user of a request; what is false, as None, refuses it.
        access: returns what a user may do: ``"all"``, ``"read_only"``, or some of `ACTIONS`.
        trusted_hosts: names by which a dashboard that is served by itself is reached.
        trusted_origins: other sites whose pages may send actions, as ``https://example.org``.
    """

    def __init__(
        self, auth: Auth | None, access: Callable[[Any], Access] | None,
        trusted_hosts: Iterable[str], trusted_origins: Iterable[str],
    ) -> None:  # fmt: skip
        for name, given in (("auth", auth), ("access", access)):
            if given is not None and not callable(given):
                hint = "a lambda of the user" if name == "access" else "BasicAuth(user, password)"
                raise TypeError(f"{name} must be a function, such as {hint}, not {given!r}")
        for name, texts in (
            ("trusted_hosts", trusted_hosts),
            ("trusted_origins", trusted_origins),
        ):
            if isinstance(texts, str):
                raise TypeError(f"{name} must be a list of names, such as [{texts!r}]")
        self._auth: Final = auth
        self._access: Final = access
        self._hosts: Final = {*_LOOPBACK, *map(str.lower, trusted_hosts)}
        self._origins: Final = frozenset(trusted_origins)

    def check_host(self, request: Request) -> None:
        """Refuse a request to another name than those of a dashboard that is served by itself."""
        given = request.headers.get("host", "")
        host = re.sub(r":\d*$", "", given).strip("[]").lower()
        if host not in self._hosts:
            raise HttpError(
                403, f"{host!r} is no name of this dashboard: --trusted-host {host} makes it one."
            )

    def check(self, request: Request) -> None:
        """Refuse who may not see the dashboard, and what another site has sent."""
        if self._auth is None:
            raise HttpError(403, _HOW_TO_OPEN)
        request.user = self._auth(request)
        if not request.user:  # None, or the False of a function that only says yes or no
            raise HttpError(403, "You may not see this dashboard.")
        request.access = "all" if self._access is None else self._access(request.user)
        if request.access in (None, False):
            raise HttpError(403, "You may not see this dashboard.")
        if not request.is_safe and not self._is_from_here(request):
            raise HttpError(403, "Another site has sent this: nothing was changed.")

    def _is_from_here(self, request: Request) -> bool:
        site, origin = (request.headers.get(name, "") for name in ("sec-fetch-site", "origin"))
        if site in ("same-origin", "none") or origin in self._origins:
            return True
        is_from_browser = bool(site or origin)
        same_host = not site and urlsplit(origin).netloc == request.headers.get("host")
        return same_host or not is_from_browser


def may(request: Request, action: str) -> bool:
    """Return whether the user of a request may do something."""
    access = request.access or ()
    return access == "all" or (not isinstance(access, str) and action in access)


def check_action(request: Request, action: str) -> None:
    """Refuse an action that the user of a request may not do."""
    if action not in ACTIONS:
        raise HttpError(400, f"There is no action {action!r}.")
    if not may(request, action):
        raise HttpError(403, f"You may not do that here: {action}.")
