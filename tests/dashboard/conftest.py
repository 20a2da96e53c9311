"""A store with jobs in each state, and a client that speaks to a dashboard as a browser does."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from html import unescape
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

import pytest

from oddjob import Pool
from oddjob.dashboard import NO_AUTH, Dashboard, Request
from oddjob.dashboard.request import Response, parse_query
from tests.dashboard import jobs

FORM = {"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin"}


@dataclass
class Page:
    """An answer, as a person sees it."""

    response: Response
    headers: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.headers = {name.lower(): value for name, value in self.response.headers}

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def html(self) -> str:
        return self.response.body.decode()

    @property
    def text(self) -> str:
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", self.html)).split())


class Client:
    """Sends requests to a dashboard."""

    def __init__(self, dashboard: Dashboard) -> None:
        self.dashboard = dashboard

    def get(self, url: str, **headers: str) -> Page:
        return self.send("GET", url, headers)

    def post(self, url: str, **form: Any) -> Page:
        return self.send("POST", url, FORM, urlencode(form, doseq=True).encode())

    def act(self, url: str, **form: Any) -> Page:
        """Send a form, and go where that leads."""
        page = self.post(url, **form)
        return self.get(page.headers["location"]) if page.status == 303 else page

    def send(self, method: str, url: str, headers: dict[str, str], body: bytes = b"") -> Page:
        parts = urlsplit(url)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = Request(method, unquote(parts.path), "", parse_query(parts.query), names, body)
        return Page(self.dashboard.handle(request))


@pytest.fixture
def url(any_url: str) -> str:
    return any_url


@pytest.fixture
def pool(url: str) -> Iterator[Pool]:
    """A pool that only submits: nothing happens to its jobs by itself."""
    with Pool("mail", 2, store=url, consume=False) as pool:
        yield pool


@pytest.fixture
def filled(url: str) -> Iterator[Pool]:
    """A pool that has run one job, failed in three, and has one scheduled and two queued."""
    with Pool("mail", 2, store=url) as pool:
        pool.submit(jobs.send, "ada@example.org", copies=7, password="hunter2").result()
        failing = pool.options(key="ann").submit_many(jobs.send, ["bob"] * 3)
        for each in failing:
            each.exception()
    with Pool("mail", 2, store=url, consume=False) as pool:
        pool.after(3600).submit(jobs.send, "later@example.org")
        pool.submit_many(jobs.send, ["c@example.org", "d@example.org"])
        yield pool


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """A client of a dashboard that is open to everybody."""
    dashboard = Dashboard(url, auth=NO_AUTH)
    yield Client(dashboard)
    dashboard.close()


@pytest.fixture
def show() -> Iterator[Callable[..., Client]]:
    """Make a dashboard of anything; return its client."""
    made: list[Dashboard] = []

    def show(source: Any, **options: Any) -> Client:
        made.append(Dashboard(source, **{"auth": NO_AUTH, **options}))
        return Client(made[-1])

    yield show
    for each in made:
        each.close()


@pytest.fixture
def open_dashboard(show: Callable[..., Client], url: str) -> Callable[..., Client]:
    """Make a dashboard of the store with other options; return its client."""
    return partial(show, url)
