"""A real browser, and dashboards of stores with no, few and very many jobs.

These tests run with `make browser`, which sets ``ODDJOB_BROWSER``; with ``ODDJOB_NEEDS_BROWSER``,
as in CI, a missing browser is an error.
"""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from oddjob import Pool
from oddjob.dashboard import NO_AUTH, Dashboard
from oddjob.dashboard.server import make_server
from tests.dashboard import jobs

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
MANY = 100_000


def find_browser() -> str:
    """Return the program; skip the test if there is none, or raise where there has to be one."""
    is_needed = "ODDJOB_NEEDS_BROWSER" in os.environ
    if not is_needed and "ODDJOB_BROWSER" not in os.environ:
        pytest.skip("tests in a browser are run by: make browser")
    names = [os.environ.get("ODDJOB_CHROMIUM", ""), *NAMES]
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is not None:
        return found
    what = "needs Chromium: apt-get install chromium, or ODDJOB_CHROMIUM with its path"
    if is_needed:
        raise RuntimeError(f"this test {what}")
    pytest.skip(what)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    program = find_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        yield browser
        browser.close()


@contextmanager
def served(source: Any, **options: Any) -> Iterator[str]:
    """Serve a dashboard; yield its address."""
    dashboard = Dashboard(source, **{"auth": NO_AUTH, "refresh": 0.2, **options})
    with make_server(dashboard, port=0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            dashboard.close()


def fill(url: str, count: int) -> None:
    """Make a store with jobs in each state."""
    with Pool("mail", 4, store=url) as pool:
        if count:
            pool.submit(jobs.send, "ada@example.org", password="hunter2").result()
            for each in pool.submit_many(jobs.send, ["bob"] * min(count, 120)):
                each.exception()
            pool.cron("30 2 * * *", tz="Europe/Berlin").perform(jobs.tick)
    with Pool("mail", 4, store=url, consume=False) as pool:
        if count:
            pool.options(key="ann").after(3600).submit(jobs.send, "later@example.org")
            pool.submit(jobs.send, "waits@example.org").cancel()
        if count > 3:
            pool.submit_many(jobs.send, (f"user{n}@example.org" for n in range(count)))


@pytest.fixture(scope="session")
def stores(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """The URLs of three stores, by how many jobs they have."""
    found = {}
    for count in 0, 3, MANY:
        found[count] = f"sqlite:///{tmp_path_factory.mktemp('store')}/jobs.db"
        fill(found[count], count)
    return found


@pytest.fixture(scope="session")
def addresses(stores: dict[int, str]) -> Iterator[dict[int, str]]:
    """The dashboards of these stores, as addresses."""
    with ExitStack() as stack:
        found = {count: stack.enter_context(served(url)) for count, url in stores.items()}
        for address in found.values():  # which opens its store now, not in the first test
            urlopen(f"{address}/healthz").close()
        yield found


@pytest.fixture
def url(browser: Any, tmp_path: Path) -> str:
    """A store with a few jobs, of the test's own."""
    url = f"sqlite:///{tmp_path}/jobs.db"
    fill(url, 3)
    return url


@pytest.fixture
def pool(url: str) -> Iterator[Pool]:
    with Pool("mail", 2, store=url, consume=False) as pool:
        yield pool


@pytest.fixture
def address(url: str, pool: Pool) -> Iterator[str]:
    with served(url, bulk_limit=100) as address:
        yield address


@pytest.fixture
def new_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page; at the end of the test, nothing may have gone wrong in any of them."""
    wrong: list[str] = []
    contexts: list[Any] = []

    def make(width: int = 1280, scheme: str = "light", **options: Any) -> Any:
        viewport = {"width": width, "height": 900}
        contexts.append(browser.new_context(viewport=viewport, color_scheme=scheme, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: wrong.append(f"{page.url}: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"{page.url}: {error}"))
        page.on("dialog", lambda dialog: (wrong.append("a dialog"), dialog.dismiss()))
        return page

    yield make
    for each in contexts:
        each.close()
    assert wrong == []
