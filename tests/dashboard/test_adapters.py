"""The dashboard answers through WSGI, ASGI, Django and by itself, wherever it is mounted."""

import asyncio
import io
import threading
import types
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from oddjob import Pool
from oddjob.dashboard import NO_AUTH, Dashboard
from oddjob.dashboard.server import make_server
from tests.dashboard.conftest import Client

Answer = tuple[int, dict[str, str], str]
Ask = Callable[..., Answer]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/jobs.db"


def through_wsgi(dashboard: Dashboard) -> Ask:
    application = dashboard.wsgi()

    def ask(method: str, path: str, base: str = "", body: bytes = b"", query: str = "") -> Answer:
        found: list[Any] = []
        environ = {
            "REQUEST_METHOD": method, "PATH_INFO": path.encode().decode("latin-1"),
            "SCRIPT_NAME": base, "QUERY_STRING": query, "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body), "HTTP_SEC_FETCH_SITE": "same-origin",
        }  # fmt: skip
        (answer,) = application(environ, lambda status, headers: found.extend([status, headers]))
        return int(found[0].split()[0]), dict(found[1]), answer.decode()

    return ask


def through_asgi(dashboard: Dashboard) -> Ask:
    application = dashboard.asgi()

    def ask(method: str, path: str, base: str = "", body: bytes = b"", query: str = "") -> Answer:
        sent: list[Any] = []
        parts = [{"type": "http.request", "body": body[n : n + 9], "more_body": n + 9 < len(body)}
                 for n in range(0, len(body) or 1, 9)]  # fmt: skip

        async def receive() -> dict[str, Any]:
            return parts.pop(0)

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": method, "path": base + path, "root_path": base,
            "query_string": query.encode(), "headers": [(b"sec-fetch-site", b"same-origin")],
        }  # fmt: skip
        asyncio.run(application(scope, receive, send))
        headers = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
        return sent[0]["status"], headers, sent[1]["body"].decode()

    return ask


def through_django(dashboard: Dashboard) -> Ask:
    import django
    from django.conf import settings
    from django.test import Client as DjangoClient
    from django.urls import clear_url_caches, include, path, set_urlconf

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["testserver"], ROOT_URLCONF="", MIDDLEWARE=[
            "django.middleware.csrf.CsrfViewMiddleware"])  # fmt: skip
        django.setup()

    def ask(method: str, where: str, base: str = "", body: bytes = b"", query: str = "") -> Answer:
        urls = types.ModuleType("urls")
        mounted = path(base.lstrip("/") + "/" if base else "", include(dashboard.urls))
        vars(urls)["urlpatterns"] = [mounted]
        settings.ROOT_URLCONF = urls
        set_urlconf(None)
        clear_url_caches()
        answer = DjangoClient(enforce_csrf_checks=True).generic(
            method, f"{base}{where}", body, "application/x-www-form-urlencoded",
            query_string=query, headers={"sec-fetch-site": "same-origin"},
        )  # fmt: skip
        return answer.status_code, dict(answer.headers), answer.content.decode()

    return ask


@pytest.fixture(params=[through_wsgi, through_asgi, through_django])
def ask(request: pytest.FixtureRequest, filled: Pool, client: Client) -> Ask:
    return request.param(client.dashboard)  # type: ignore[no-any-return]


@pytest.mark.parametrize("base", ["", "/admin/jobs"])
def test_pages_and_their_links_are_below_the_place_where_it_is_mounted(ask: Ask, base: str) -> None:
    status, headers, html = ask("GET", "/jobs", base, query="state=failed")
    assert (status, headers["X-Content-Type-Options"]) == (200, "nosniff")
    assert f'href="{base}/jobs?state=queued"' in html
    assert f'href="{base}/static/app.css"' in html
    assert ask("GET", "/static/app.js", base)[1]["Content-Type"].startswith("text/javascript")
    assert ask("GET", "/nothing", base)[0] == 404


@pytest.mark.parametrize("through", [through_wsgi, through_asgi, through_django])
def test_a_store_may_come_after_the_dashboard_of_it(
    through: Callable[[Dashboard], Ask], url: str
) -> None:
    """Programs make their dashboard at import, as Django's ``urls.py``."""
    dashboard = Dashboard(url, auth=NO_AUTH)
    ask = through(dashboard)
    status, _, html = ask("GET", "/jobs")
    assert (status, "there is no store" in html) == (503, True)
    with Pool("mail", 1, store=url):
        assert ask("GET", "/jobs")[0] == 200
    dashboard.close()


@pytest.mark.parametrize("base", ["", "/admin/jobs"])
def test_actions_come_through_and_lead_back(ask: Ask, filled: Pool, base: str) -> None:
    body = urlencode({"action": "pause", "pool": "mail", "back": "/pools/mail"}).encode()
    status, headers, _ = ask("POST", "/pools", base, body)
    assert (status, headers["Location"]) == (303, f"{base}/pools/mail?did=pool-pause")
    assert "paused" in ask("GET", "/pools/mail", base)[2]


def test_an_asgi_server_can_serve_it_alone(filled: Pool, client: Client) -> None:
    """It is asked about its life then, and may be asked for a socket."""
    sent: list[Any] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message["type"])

    async def talk() -> None:
        events = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> dict[str, Any]:
            return {"type": next(events)}

        await client.dashboard.asgi()({"type": "lifespan"}, receive, send)
        await client.dashboard.asgi()({"type": "websocket"}, receive, send)

    asyncio.run(talk())
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]


def test_it_serves_itself_on_a_port_of_this_machine(filled: Pool, client: Client) -> None:
    with make_server(client.dashboard, port=0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            for host, status in ("localhost", 200), ("evil.example", 403):
                connection = HTTPConnection("127.0.0.1", server.server_port, timeout=30)
                connection.request("GET", "/jobs", headers={"Host": host})
                answer = connection.getresponse()
                assert answer.status == status
                assert "Content-Security-Policy" in answer.headers
                answer.read()
                connection.close()
        finally:
            server.shutdown()
            thread.join()


def test_a_base_path_can_be_given_where_the_framework_does_not_say_it(
    filled: Pool, open_dashboard: Callable[..., Client]
) -> None:
    for path in "deep", "/deep", "/deep/":
        assert 'href="/deep/jobs"' in open_dashboard(base_path=path).get("/").html
