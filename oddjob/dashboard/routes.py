"""Routes: which view and template stand behind which path."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from oddjob.dashboard import actions, views
from oddjob.dashboard.context import Context
from oddjob.dashboard.request import HttpError
from oddjob.dashboard.search import JobFilter


class Route(NamedTuple):
    """A page: its path, which goes on after a slash at its end, what it shows, and how."""

    path: str
    title: str
    view: Callable[[Context, str], dict[str, Any]]
    template: str
    action: Callable[[Context], Any] | None = None  # what is sent to it
    takes: tuple[str, ...] = ()  # the parameters of its query


_OF_JOBS: Final = (*JobFilter._fields, "before")

PAGES: Final = (
    Route("/", "Overview", views.overview, "overview.html"),
    Route("/jobs", "Jobs", views.jobs, "jobs.html", actions.act_on_jobs, _OF_JOBS),
    Route("/errors", "Errors", views.errors, "errors.html"),
    Route("/pools", "Pools", views.pools, "pools.html", actions.act_on_pool),
    Route("/scheduled", "Scheduled", views.scheduled, "scheduled.html"),
    Route("/recurring", "Recurring", views.recurring, "recurring.html", actions.act_on_entry),
    Route("/runners", "Runners", views.runners, "runners.html", actions.act_on_runner),
    Route("/about", "About", views.about, "about.html"),
)
_DETAILS: Final = (
    Route("/jobs/", "Job", views.job, "job.html"),
    Route("/pools/", "Pool", views.pool, "pool.html"),
)


def find(path: str) -> tuple[Route, str]:
    """Return the route of a path, and what follows in it; raise `HttpError` if there is none."""
    for route in PAGES:
        if path == route.path:
            return route, ""
    for route in _DETAILS:
        if path.startswith(route.path) and path != route.path:
            return route, path.removeprefix(route.path)
    raise HttpError(404, "There is no such page.")
