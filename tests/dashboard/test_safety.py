"""Who gets in, and what a hostile site or job cannot do."""

import base64
import json
import os
import pickle
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from oddjob import Pool
from oddjob.dashboard import BasicAuth, Dashboard, Request, staff_only
from oddjob.dashboard.payload import text_of
from oddjob.dashboard.server import make_server
from oddjob.signing import as_signing_keys
from tests.dashboard import jobs
from tests.dashboard.conftest import FORM, Client

Open = Callable[..., Client]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/jobs.db"


def test_it_is_closed_until_you_say_who_may_see_it(filled: Pool, open_dashboard: Open) -> None:
    client = open_dashboard(auth=None)
    for path in "/", "/jobs", "/api/jobs", "/nothing":
        page = client.get(path)
        assert page.status == 403
        assert "auth=" in page.text
    assert client.post("/jobs", action="retry", id="2").status == 403


def test_a_probe_is_not_told_which_store_does_not_answer(
    tmp_path: Path, show: Callable[..., Client]
) -> None:
    """Anybody may ask; the pages say it to those who may see them."""
    lost = f"sqlite:///{tmp_path}/lost.db"
    page = show(lost, auth=None).get("/healthz")
    assert page.status == 503
    assert str(tmp_path) not in page.html
    assert str(tmp_path) in show(lost).get("/").text


def test_a_user_and_a_password_open_it(filled: Pool, open_dashboard: Open) -> None:
    client = open_dashboard(auth=BasicAuth("ada", "Löwe:1"))
    assert client.get("/").status == 401
    assert client.get("/").headers["www-authenticate"].startswith("Basic ")

    def status(credentials: bytes) -> int:
        text = base64.b64encode(credentials).decode()
        return client.get("/", authorization=f"Basic {text}").status

    assert status("ada:Löwe:1".encode()) == 200
    assert status(b"ada:wrong") == 401
    assert status(b"ada") == 401
    assert client.get("/", authorization="Basic %%%").status == 401
    assert client.get("/", authorization="Bearer x").status == 401


def test_a_function_says_who_a_request_is_from(filled: Pool, open_dashboard: Open) -> None:
    client = open_dashboard(auth=lambda request: request.headers.get("x-user"))
    assert client.get("/").status == 403
    assert client.get("/", x_user="ada").status == 200


def test_only_staff_gets_in_with_staff_only() -> None:
    class User:
        is_active = True
        is_staff = False

    class DjangoRequest:
        user = User()

    request = Request("GET", "/", "", {}, {}, native=DjangoRequest())
    assert staff_only(request) is None
    User.is_staff = True
    assert staff_only(request) is DjangoRequest.user


@pytest.mark.parametrize("access", ["read_only", {"retry"}, None])
def test_what_a_user_may_do_is_checked_in_the_action(
    filled: Pool, open_dashboard: Open, access: Any
) -> None:
    client = open_dashboard(access=lambda _user: access)
    assert client.get("/jobs").status == (403 if access is None else 200)
    (later,) = filled.records(state="scheduled")
    (failed, *_) = filled.records(state="failed")
    assert client.post("/jobs", action="run", id=later.id).status == 403
    assert client.post("/pools", action="pause", pool="mail").status == 403
    assert client.post("/recurring", action="run", pool="mail", entry="x").status == 403
    is_allowed = access == {"retry"}
    page = client.post("/jobs", action="retry", id=failed.id)
    assert page.status == (303 if is_allowed else 403)
    assert ('value="delete"' in client.get("/jobs").html) is False


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "https://here.example"}, False),
        ({"origin": "https://here.example"}, True),
        ({"origin": "https://here.example:8443"}, False),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "null"}, False),
        ({}, True),  # no browser
        ({"origin": "https://friend.example", "sec-fetch-site": "cross-site"}, True),
    ],
)
def test_another_site_cannot_send_an_action(
    filled: Pool, open_dashboard: Open, headers: dict[str, str], passes: bool
) -> None:
    client = open_dashboard(trusted_origins=["https://friend.example"])
    sent = {"host": "here.example", **headers}
    page = client.send("POST", "/pools", sent, b"action=pause&pool=mail")
    assert page.status == (303 if passes else 403)
    assert client.send("GET", "/", sent).status == 200


def test_a_dashboard_that_is_served_by_itself_answers_to_its_own_names_only(
    filled: Pool, open_dashboard: Open
) -> None:
    dashboard = open_dashboard(trusted_hosts=["jobs.example"]).dashboard

    def status(host: str) -> int:
        request = Request("GET", "/", "", {}, {"host": host})
        return dashboard.handle(request, is_standalone=True).status

    for host in "localhost:5678", "127.0.0.1", "[::1]:5678", "jobs.example", "JOBS.example:80":
        assert status(host) == 200
    for host in "evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "[", "":
        assert status(host) == 403


def test_nobody_else_can_reach_it_without_a_password(open_dashboard: Open, pool: Pool) -> None:
    with pytest.raises(ValueError, match="say who may"):
        make_server(open_dashboard().dashboard, "0.0.0.0", 0)
    with make_server(open_dashboard().dashboard, port=0) as server:
        assert server.server_address[0] == "127.0.0.1"


def test_every_answer_has_the_headers_that_keep_scripts_out(filled: Pool, client: Client) -> None:
    for path in "/", "/static/app.js", "/static/app.css", "/healthz", "/api/jobs", "/nothing":
        headers = client.get(path).headers
        assert "default-src 'none'; script-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"


def test_no_page_has_a_script_or_style_of_its_own() -> None:
    folder = Path(__file__).parents[2] / "oddjob" / "dashboard" / "templates"
    for file in folder.glob("*.html"):
        text = file.read_text("utf-8")
        assert "|safe" not in text
        assert " style=" not in text
        assert "<style" not in text
        assert " on" + "click" not in text
        assert text.count("<script") == text.count("defer></script>")


def test_secrets_are_masked(filled: Pool, client: Client) -> None:
    (done,) = filled.records(state="succeeded")
    page = client.get(f"/jobs/{done.id}")
    assert "copies = 7" in page.text
    assert "password = •••" in page.text
    assert "hunter2" not in page.html


class Explosive:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_arguments_are_never_unpickled(tmp_path: Path, pool: Pool, client: Client) -> None:
    mark = tmp_path / "unpickled"
    job = pool.submit(jobs.send, Explosive(str(mark)))
    assert "mkdir" in client.get(f"/jobs/{job.id}").text
    assert client.get("/jobs").status == client.get("/").status == 200
    assert not mark.exists()


def test_options_in_a_hostile_pickle_run_nothing_when_jobs_are_listed(
    tmp_path: Path, pool: Pool, client: Client
) -> None:
    """Pickles of old protocols call functions by other instructions."""
    import sqlite3

    mark = tmp_path / "unpickled"
    job = pool.options(retries=2).submit(jobs.send, "a@b")
    assert json.loads(client.get("/api/jobs").html)["jobs"][0]["max_attempts"] == 3
    hostile = f"cos\nmkdir\n(V{mark}\ntR.".encode()
    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        connection.execute("UPDATE job SET meta = ?, payload = ?", (hostile, hostile))
    connection.close()
    assert client.get(f"/jobs/{job.id}").status == client.get("/jobs").status == 200
    assert not mark.exists()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((["a", 2, None, True, 1.5], {"x": b"y"}), "'a'\n2\nNone\nTrue\n1.5\nx = b'y'"),
        (([{"api_key": "k", "n": {"Authorization": "z"}}], {}),
         "{'api_key': •••, 'n': {'Authorization': •••}}"),
        (([(1, 2), frozenset([4]), [1, [2]]], {}), "(1, 2)\n(4,)\n[1, [2]]"),
        (([Decimal("1.5")], {"when": timedelta(3)}),
         "decimal.Decimal('1.5')\nwhen = datetime.timedelta(3, 0, 0)"),
        (([], {}), ""),
    ],
)  # fmt: skip
def test_plain_arguments_are_shown_as_python_writes_them(value: Any, text: str) -> None:
    data = pickle.dumps([*value], 5)
    signed = as_signing_keys("k", b"x" * 16).sign(data, ["call"])
    assert text_of(data, is_call=True) == text_of(signed, is_call=True) == text


def test_a_small_pickle_cannot_stand_for_a_huge_text() -> None:
    value: Any = ["lol"] * 10
    for _ in range(30):
        value = [value] * 10
    assert len(text_of(pickle.dumps([[value], {}], 5), is_call=True)) <= 10_000
    assert text_of(pickle.dumps("x" * 100_000), is_call=False).startswith("not shown")
    assert text_of(b"\x80\x05rubbish", is_call=True) == "not shown: 9 bytes"
    loop: Any = []
    loop.append(loop)
    assert len(text_of(pickle.dumps([loop, {}], 5), is_call=True)) <= 10_000


def test_what_is_stored_as_json_is_shown_as_it_is() -> None:
    assert text_of(b'[["a"], {"token": "t", "n": 1}]', is_call=True) == "'a'\ntoken = •••\nn = 1"


def test_a_program_says_itself_how_its_arguments_look(filled: Pool, open_dashboard: Open) -> None:
    client = open_dashboard(format_arguments=lambda record: f"<b>{record.name}</b>")
    assert "&lt;b&gt;send&lt;/b&gt;" in client.get("/jobs/1").html


def test_a_request_that_is_too_long_is_refused(filled: Pool, client: Client) -> None:
    assert client.send("POST", "/jobs", FORM, b"x" * (2 << 20)).status == 413


def test_markup_in_names_and_errors_is_text(url: str, open_dashboard: Open) -> None:
    hostile = '"><img src=x onerror=alert(1)></script><script>alert(1)</script>'
    with Pool(hostile, 1, store=url) as pool:
        job = pool.options(name=hostile, key=hostile).submit(jobs.send, hostile)
        job.exception()
        client = open_dashboard()
        found = json.loads(client.get("/api/pools").html)["pools"][0]["ref"]
        from urllib.parse import quote

        for path in "/", "/jobs", f"/jobs/{job.id}", "/errors", "/pools", f"/pools/{quote(found)}":
            page = client.get(path)
            assert page.status == 200
            assert "<img" not in page.html
            assert "<script>" not in page.html


def test_a_page_that_fails_says_nothing_of_why(filled: Pool, url: str, caplog: Any) -> None:
    def fail(_record: object) -> str:
        raise RuntimeError("the secret reason")

    from oddjob.dashboard import NO_AUTH

    dashboard = Dashboard(url, auth=NO_AUTH, format_arguments=fail)
    page = Client(dashboard).get("/jobs/1")
    assert page.status == 500
    assert "secret" not in page.html
    assert "the secret reason" in caplog.text
    dashboard.close()


def test_settings_that_would_let_nobody_or_everybody_in_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="one of them is empty"):
        BasicAuth("ada", "")
    with pytest.raises(TypeError, match="auth must be a function, such as BasicAuth"):
        Dashboard(auth=True)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="access must be a function, such as a lambda"):
        Dashboard(access="read_only")  # type: ignore[arg-type]


def test_a_function_that_says_no_keeps_everybody_out(filled: Pool, open_dashboard: Open) -> None:
    """As well as one that returns no user."""
    assert open_dashboard(auth=lambda _: False).get("/").status == 403
    assert open_dashboard(auth=lambda _: True, access=lambda _: False).get("/").status == 403
    assert open_dashboard(auth=lambda _: True).get("/").status == 200
