"""Every screen can be read, in a wide and a narrow window, by day and by night."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from oddjob import Pool
from tests.browser.conftest import MANY, served
from tests.dashboard import jobs

SCREENS = ["/", "/jobs", "/jobs?state=failed", "/errors", "/pools", "/scheduled", "/recurring",
           "/runners", "/about"]  # fmt: skip
WITH_JOBS = [*SCREENS, "/pools/mail", "/jobs/2", "/jobs?name=send&q=address&before=9-9"]


def excess(page: Any) -> int:
    """Return how many pixels of a page are beyond the window."""
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")  # type: ignore[no-any-return]


def faults(page: Any) -> list[str]:
    """Return what axe finds wrong with a page, in seriousness worth a look."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{page.url}: {each['help']}: {each['nodes'][0]['html']}"
            for each in found if each["impact"] in ("serious", "critical", "moderate")]  # fmt: skip


@pytest.mark.parametrize("count", [0, 3, MANY])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_screen_fits_its_window_and_is_accessible(
    addresses: dict[int, str], new_page: Callable[..., Any], width: int, scheme: str, count: int
) -> None:
    page = new_page(width, scheme)
    for screen in WITH_JOBS if count else SCREENS:
        page.goto(addresses[count] + screen)
        assert excess(page) <= 0, screen
        assert page.locator("h1").count() == 1
        if count == 3 or (width, scheme) == (1280, "light"):
            assert faults(page) == []


def test_what_can_be_opened_fits_as_well(address: str, new_page: Callable[..., Any]) -> None:
    page = new_page(390)
    for screen in "/jobs", "/jobs/2", "/recurring":
        page.goto(address + screen)
        for each in page.locator("details").all():
            each.evaluate("each => each.open = true")
        assert excess(page) <= 0, screen
        assert faults(page) == []


def test_a_hostile_job_is_nothing_but_text(
    browser: Any, tmp_path: Path, new_page: Callable[..., Any]
) -> None:
    hostile = '"><img src=x onerror=alert(1)></script><script>alert(1)</script>javascript:alert(1)'
    url = f"sqlite:///{tmp_path}/jobs.db"
    with Pool(hostile, 2, store=url) as pool:
        view = pool.options(name=hostile, key=hostile)
        job = view.submit(jobs.send, hostile, **{hostile: hostile})
        job.exception()
        pool.options(name=hostile).every(3600).perform(jobs.tick)
        view.after(3600).submit(jobs.send, hostile)
        fields = "&".join(f"{name}={quote(hostile)}" for name in ("q", "name", "key", "error"))
        page = new_page()
        with served(url) as address:
            for screen in [
                *SCREENS,
                f"/jobs/{job.id}",
                f"/pools/{quote(hostile)}",
                f"/jobs?{fields}",
            ]:
                answer = page.goto(address + screen)
                assert answer.status == 200
                assert page.locator("img").count() == 0
                assert page.locator("script:not([src])").count() == 0
                assert page.locator('a[href^="javascript:"]').count() == 0
                assert excess(page) <= 0, screen
            page.close()  # it would go on asking
