"""Dashboard: one plain function from request to response, and ways to mount it."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import cache, partial
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from oddjob import __version__
from oddjob.dashboard import routes
from oddjob.dashboard.actions import VERBS, Confirm, sentence
from oddjob.dashboard.chart import History, chart_of
from oddjob.dashboard.context import Cache, Context
from oddjob.dashboard.guard import ACTIONS, HEADERS, NO_AUTH, Access, Auth, Guard, may
from oddjob.dashboard.request import MOST_BYTES, OWN_POOL, HttpError, Request, Response
from oddjob.dashboard.search import STATES
from oddjob.dashboard.views import MOST
from oddjob.errors import OddJobError
from oddjob.log import log
from oddjob.operations.phrases import ago, counted, exact, lasting
from oddjob.operations.presentation import as_json
from oddjob.operations.sources import AnyRecord, Sources
from oddjob.operations.stores import StoreOperations
from oddjob.quantities import Seconds, as_patience, as_size
from oddjob.thread_pool import Pool

_TYPES: Final = {"app.css": "text/css", "app.js": "text/javascript"}
_HTML: Final = ("Content-Type", "text/html; charset=utf-8")
_JSON: Final = ("Content-Type", "application/json")


class Dashboard:
    """Pools and their jobs in a browser.

    ::

        from oddjob.dashboard import BasicAuth, Dashboard

        dashboard = Dashboard(auth=BasicAuth("ada", "a long password"))
        app.mount("/jobs", dashboard.asgi())    # FastAPI, Starlette
        path("jobs/", include(dashboard.urls))  # Django

    Args:
        source: what is shown: ``"all"``, the pools of this process and the stores that they use;
            the URL of a store, which is opened by the first request; a pool; or several of these.
            Pools without a store are seen from inside their process only.
        auth: who may see it: `BasicAuth`, `staff_only`, `NO_AUTH`, or a function that returns the
            user of a `Request`, or None. Without it, nobody may.
        access: a function that returns what a user may do: ``"all"``, ``"read_only"``, some of
            ``{"retry", "run", "cancel", "delete", "pause", "resume", "drain"}``, or None: nothing
            at all.
        base_path: where it is mounted, if the framework does not say so (Litestar).
        format_arguments: returns the arguments of a record as text, or None. Without it, they are
            shown as far as they are plain values, and never unpickled.
        title: of the pages.
        refresh: the seconds after which pages that are looked at are asked for again; 0 or None:
            they are not.
        page_size: how many jobs a page shows, 1 or more.
        bulk_limit: how many jobs one request changes at most, 1 or more.
        scan_limit: how many jobs are looked at to find a text, or to count what matches, 1 or more.
        trusted_hosts: names by which it is reached if it is served by itself, besides this
            machine's own.
        trusted_origins: other sites whose pages may send actions, as ``https://example.org``.
        metrics: whether ``/metrics`` tells Prometheus of all that is shown, if `auth` lets it in.
            It needs ``oddjob[prometheus]``.

    Raises:
        ImportError: `metrics` is wanted, and ``prometheus_client`` is not installed.
        ValueError: a URL is wrong, or a number is out of range.

    Thread safety: all methods may be called from any thread.
    """

    def __init__(
        self,
        source: str | Pool | Iterable[str | Pool] = "all",
        *,
        auth: Auth | None = None,
        access: Callable[[Any], Access] | None = None,
        base_path: str | None = None,
        format_arguments: Callable[[AnyRecord], str | None] | None = None,
        title: str = "OddJob",
        refresh: Seconds | None = 2.0,
        page_size: int = 50,
        bulk_limit: int = 1000,
        scan_limit: int = 100_000,
        trusted_hosts: Iterable[str] = (),
        trusted_origins: Iterable[str] = (),
        metrics: bool = False,
    ) -> None:
        self._sources: Final = Sources(source, hidden=(OWN_POOL,))
        self._guard: Final = Guard(auth, access, trusted_hosts, trusted_origins)
        self.asks_who: Final = auth is not NO_AUTH  # or lets nobody in at all
        self._metrics: Final = _metrics_of(self._sources) if metrics else None
        self._base_path: Final = None if base_path is None else f"/{base_path.strip('/')}"
        self._context: Final = partial(
            Context, sources=self._sources, cache=Cache(), history=History(),
            page_size=as_size("page_size", page_size), bulk_limit=as_size("bulk_limit", bulk_limit),
            scan_limit=as_size("scan_limit", scan_limit), format_arguments=format_arguments,
        )  # fmt: skip
        self._shown: Final = {"title": title, "refresh": as_patience("refresh", refresh)}

    def asgi(self) -> Callable[..., Any]:
        """Return the dashboard as an ASGI application, to be mounted or served."""
        from oddjob.dashboard.adapters.asgi import application

        return application(self.handle)

    def wsgi(self) -> Callable[..., Any]:
        """Return the dashboard as a WSGI application, to be mounted or served."""
        from oddjob.dashboard.adapters.wsgi import application

        return application(self.handle)

    @property
    def urls(self) -> list[Any]:
        """What Django's ``include`` takes; CSRF is checked here, so Django leaves that alone."""
        from oddjob.dashboard.adapters.django import patterns

        return patterns(self.handle)

    def close(self) -> None:
        """Let go of the stores that no pool of this process uses."""
        self._sources.close()

    def handle(self, request: Request, *, is_standalone: bool = False) -> Response:
        """Answer a request; this raises nothing.

        Args:
            request: what was asked.
            is_standalone: there is no web server of the user's around it that checks ``Host``.
        """
        request.path = "/" + request.path.lstrip("/")
        if self._base_path is not None:
            request.base_path = self._base_path
        try:
            if is_standalone:
                self._guard.check_host(request)
            response = self._respond(request)
        except HttpError as error:
            response = self._refuse(request, error.status, str(error), *error.headers)
        except OddJobError as error:
            response = self._refuse(request, 503, str(error))
        except Exception as error:
            log(logging.ERROR, "the dashboard failed at %s", request.path, error=error)
            response = self._refuse(request, 500, "This page has failed; see the log.")
        body = b"" if request.method == "HEAD" or response.status == 304 else response.body  # noqa: PLR2004
        length = ("Content-Length", str(len(response.body)))
        return Response(response.status, [*response.headers, length, *HEADERS], body)

    def _public_page(self, request: Request) -> Response | None:
        name = request.path.removeprefix("/static/")
        if name in _TYPES and name != request.path:
            return Response(200, [("Content-Type", f"{_TYPES[name]}; charset=utf-8")], _file(name))
        if request.path == "/healthz":  # for probes: anybody may ask, so nothing is named
            try:
                for each in self._context(request).places():
                    each.pool.counts(1)
            except OddJobError:
                raise HttpError(503, "A store does not answer; the pages say more.") from None
            return Response(200, [("Content-Type", "text/plain")], b"ok\n")
        return None

    def _respond(self, request: Request) -> Response:
        public = self._public_page(request)
        if public is not None:
            return public
        self._guard.check(request)
        if request.path == "/metrics" and self._metrics is not None and request.is_safe:
            return Response(200, [("Content-Type", "text/plain; version=0.0.4")], self._metrics())
        if len(request.body) > MOST_BYTES:
            raise HttpError(413, "That is too much at once.")
        is_api = request.path.startswith("/api/")
        path = request.path.removeprefix("/api") if is_api else request.path
        route, rest = routes.find(path)
        context = self._context(request)
        if request.method == "POST" and route.action is not None and not is_api:
            return self._act(context, route)
        unknown = [name for name in request.query if name not in route.takes]
        if is_api and unknown:
            takes = f"It takes {', '.join(route.takes)}." if route.takes else "It takes none."
            raise HttpError(400, f"This page has no parameter {unknown[0]!r}. {takes}")
        if not request.is_safe:
            raise HttpError(405, "Nothing can be sent to this page.", ("Allow", "GET, HEAD"))
        data = route.view(context, rest)
        text = json.dumps(data, default=as_json)
        if is_api:
            return Response(200, [_JSON], text.encode())
        rights = [name for name in ACTIONS if may(request, name)]
        about = f"{text} {request.user} {rights} {sorted(request.query.items())} {__version__}"
        etag = f'W/"{hashlib.sha256(about.encode()).hexdigest()[:32]}"'
        headers = [_HTML, ("ETag", etag)]
        if request.headers.get("if-none-match") == etag:
            return Response(304, headers, b"")
        return Response(200, headers, self._render(request, route, data))

    def _act(self, context: Context, route: routes.Route) -> Response:
        assert route.action is not None  # noqa: S101  (asked before)
        answer = route.action(context)
        context.cache.clear()
        if isinstance(answer, Confirm):
            page = route._replace(title="Are you sure?", template="confirm.html")
            return Response(200, [_HTML], self._render(context.request, page, answer.data))
        path, _, query = answer.path.partition("?")
        kept = "&".join(part for part in query.split("&") if part.partition("=")[0] not in _SAID)
        said = "&".join(f"{name}={value}" for name, value in answer.said.items())
        where = f"{context.request.base}{path}?{kept}{'&' if kept else ''}{said}"
        return Response(303, [("Location", where)], b"")

    def _render(self, request: Request, route: routes.Route, data: Mapping[str, Any]) -> bytes:
        numbers = [int(text) if (text := request.get(name)).isdecimal() else 0
                   for name in _SAID[1:]]  # fmt: skip
        template = _templates().get_template(route.template)
        return template.render(
            data, **self._shown, page=route, url=request.url, user=request.user,
            notice=sentence(request.get("did"), *numbers) if request.is_safe else "",
            can={name: may(request, name) for name in ACTIONS},
            here=_here(request), base=request.base,
            offered=[(name, verb) for name, verb in VERBS.items() if may(request, name)],
        ).encode()  # fmt: skip

    def _refuse(
        self, request: Request, status: int, message: str, *headers: tuple[str, str]
    ) -> Response:
        if request.path.startswith("/api/") or request.path == "/healthz":
            error = {"error": {"code": status, "message": message}}
            return Response(status, [_JSON, *headers], json.dumps(error).encode())
        title = _TITLES.get(status, "Refused")
        page = routes.PAGES[0]._replace(path="?", title=title, template="message.html")
        body = self._render(request, page, {"message": message, "status": status})
        return Response(status, [_HTML, *headers], body)


def _metrics_of(sources: Sources) -> Callable[[], bytes]:
    try:
        from prometheus_client import CollectorRegistry, generate_latest

        from oddjob.contrib.prometheus import OddJobCollector
    except ImportError:
        raise ImportError(
            "metrics of the dashboard need: pip install 'oddjob[prometheus]'"
        ) from None

    known: Any = None
    registry = CollectorRegistry()

    def latest() -> bytes:
        nonlocal known, registry
        stores = [each for _, each in sources.all() if isinstance(each, StoreOperations)]
        there = [*sources.local_pools()], stores
        found = registry
        if there != known:  # else the same one, as its collector keeps what it has counted
            found = CollectorRegistry()
            found.register(OddJobCollector(*there))
            known, registry = there, found
        return generate_latest(found)

    return latest


_SAID: Final = ("did", "count", "refused", "left", "asked")
_TITLES: Final = {401: "Who are you?", 404: "Not there", 500: "Failed", 503: "No answer"}


def _here(request: Request) -> str:
    """Return the page that is shown, to come back to."""
    query = {name: values[-1] for name, values in request.query.items() if name not in _SAID}
    return request.url(request.path, **query).removeprefix(request.base)


@cache  # to compile them takes a second
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("oddjob.dashboard"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, auto_reload=False,
    )  # fmt: skip
    found.filters.update(
        ago=ago,
        counted=counted,
        exact=exact,
        lasting=lasting,
        iso=as_json,
        between=_between,
        number=_number,
    )
    found.globals.update(pages=routes.PAGES, states=STATES, chart_of=chart_of)
    return found


@cache
def _file(name: str) -> bytes:
    return (files("oddjob.dashboard") / "static" / name).read_bytes()


def _between(start: datetime, end: datetime) -> str:
    return lasting(max(0.0, (end - start).total_seconds()))


def _number(count: int) -> str:
    return f"{MOST:,}+" if count == MOST + 1 else f"{count:,}"
