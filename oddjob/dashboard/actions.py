"""Actions: what is sent from a page to change something.

Guarantees
  * What the user may do is checked here, whatever buttons a page has shown.
  * Many jobs are changed only when their number was seen and confirmed: above `_TYPED` of them, the
    number has to be typed. One request changes no more than that, and at most `bulk_limit`; the
    next one goes on.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, Final, NamedTuple

from oddjob.dashboard.context import Context, Found, reference
from oddjob.dashboard.guard import check_action
from oddjob.dashboard.request import HttpError
from oddjob.dashboard.search import filter_of, find_jobs
from oddjob.operations.access import Change
from oddjob.operations.phrases import changed
from oddjob.operations.pool_operations import PoolOperations
from oddjob.operations.sources import Source
from oddjob.runtime.job_state import JobState

_TYPED: Final = 100  # jobs
_WAITING: Final[tuple[JobState, ...]] = ("scheduled", "queued")
_ENDED: Final[tuple[JobState, ...]] = ("succeeded", "failed", "cancelled")


class Verb(NamedTuple):
    """What can be done to jobs: in which states, and which of them are meant by "all"."""

    word: str
    done: str
    possible: tuple[JobState, ...]
    by_default: tuple[JobState, ...]
    how: Change


VERBS: Final = {
    "retry": Verb("Retry", "queued again", ("failed", "cancelled"), ("failed",), "retry"),
    "run": Verb("Run now", "started now", ("scheduled",), ("scheduled",), "retry"),
    "cancel": Verb("Cancel", "canceled", (*_WAITING, "running"), (*_WAITING, "running"), "cancel"),
    "delete": Verb("Delete", "deleted", (*_WAITING, *_ENDED), _ENDED, "delete"),
}
_SAID: Final = {
    "none": "Nothing is selected: nothing was changed.",
    "pool-pause": "The pool is paused: no process starts its jobs until you resume it.",
    "pool-resume": "The pool goes on.",
    "entry-run": "Its job was submitted.",
    "entry-run-refused": "Nothing was changed: it is gone, or its former job has not ended.",
    "entry-pause": "It is paused, and fires no more until you resume it.",
    "entry-pause-refused": "Nothing was changed: it is gone.",
    "entry-resume": "It fires again.",
    "entry-resume-refused": "Nothing was changed: it is gone.",
    "runner-drain": "The process was asked to end: what it runs goes on, the rest is left.",
    "runner-drain-refused": "Nothing was changed: it is gone, or runs no jobs.",
}


class Redirect(NamedTuple):
    """Go back to a page, and say there what was done to how many."""

    path: str
    said: dict[str, object]


class Confirm(NamedTuple):
    """Ask before something is done."""

    data: dict[str, Any]  # of the page "confirm"


def act_on_jobs(context: Context) -> Redirect | Confirm:
    """Change the jobs that a form names, or all that match its filter."""
    request = context.request
    action = _action_of(context, "Jobs", *VERBS)
    verb = VERBS[action]
    ids = [each for each in dict.fromkeys(request.form.get("id", ())) if each]
    is_all = request.get("scope") == "all"
    if not is_all and not ids:
        return _back(context, "none")
    count = len(ids)
    if is_all:
        count = sum(1 for _ in islice(_matching(context, verb), context.scan_limit))
    seen = request.get("count")  # when they were asked about
    is_confirmed = bool(request.get("confirmed")) and seen.isdecimal() and (
        int(seen) <= _TYPED or request.get("typed").replace(",", "") == seen
    )  # fmt: skip
    if count and (count > 1 or is_all or action == "delete") and not is_confirmed:
        fields = [(name, value) for name, values in request.form.items() for value in values
                  if name not in ("confirmed", "typed", "count")]  # fmt: skip
        return Confirm({
            "verb": verb, "count": count, "is_capped": is_all and count >= context.scan_limit,
            "limit": context.bulk_limit, "must_type": count > _TYPED, "fields": fields,
            "back": _own_page(request.get("back")),
        })  # fmt: skip
    chosen = _matching(context, verb) if is_all else _with_ids(context, ids)
    tried = min(count, context.bulk_limit, int(seen) if is_confirmed else count)
    done, running = _change(verb, islice(chosen, tried))
    return _back(
        context, action, count=done, refused=max(0, tried - done), left=count - tried,
        asked=min(done, running),
    )  # fmt: skip


def _matching(context: Context, verb: Verb) -> Iterator[Found]:
    which = filter_of(context.request)
    wanted = {*verb.possible} & {which.state} if which.state else verb.by_default
    for state in wanted:
        yield from find_jobs(context, which._replace(state=state))


def _with_ids(context: Context, ids: list[str]) -> Iterator[Found]:
    """Yield the jobs that are still there."""
    for each in ids:
        with suppress(HttpError):
            yield context.job(each)


def _change(verb: Verb, chosen: Iterable[Found]) -> tuple[int, int]:
    """Change jobs; return how many, and how many of them ran."""
    by_source: dict[Source, list[Any]] = {}
    running = 0
    for each in chosen:
        if each.job.state in verb.possible:
            running += each.job.state == "running"
            by_source.setdefault(each.place.source, []).append(each.job)
    return sum(source.change(verb.how, jobs) for source, jobs in by_source.items()), running


def act_on_pool(context: Context) -> Redirect:
    """Pause a pool, or let it go on."""
    action = _action_of(context, "Pools", "pause", "resume")
    pool = context.place(context.request.get("pool")).pool
    if action == "pause" and isinstance(pool, PoolOperations):
        pool.pause(context.request.get("reason"))
    else:
        getattr(pool, action)()
    return _back(context, f"pool-{action}")


def act_on_entry(context: Context) -> Redirect:
    """Run a recurring entry now, pause it, or let it go on."""
    action = _action_of(context, "Recurring jobs", "run", "pause", "resume")
    for entry in context.place(context.request.get("pool")).pool.recurring():
        if entry.id == context.request.get("entry"):
            done = getattr(entry, action)()
            return _back(context, f"entry-{action}", refused=int(done is False))
    raise HttpError(404, "There is no such recurring job any more.")


def act_on_runner(context: Context) -> Redirect:
    """Ask a process to end as after SIGTERM."""
    action = _action_of(context, "Runners", "drain")
    for number, source in context.found.items():
        for each in source.runners():
            if reference(number, each.id) == context.request.get("runner"):
                return _back(context, f"runner-{action}", refused=int(not source.drain(each.id)))
    raise HttpError(404, "There is no such process any more.")


def _action_of(context: Context, things: str, *possible: str) -> str:
    """Return what is to be done; refuse what the user may not do, or cannot be done to things."""
    action = context.request.get("action")
    check_action(context.request, action)
    if action not in possible:
        raise HttpError(400, f"{things} have no {action!r}.")
    return action


def _back(context: Context, action: str, **said: object) -> Redirect:
    return Redirect(_own_page(context.request.get("back")), {"did": action, **said})


def _own_page(back: str) -> str:
    """Return the page that a form says it came from, if that is one of ours."""
    is_ours = back.startswith("/") and not back.startswith(("//", "/\\")) and back.isprintable()
    return back if is_ours else "/"


def sentence(did: str, count: int, refused: int, left: int, asked: int) -> str:
    """Return what was done, for people; `asked` of the jobs were only asked to stop."""
    if did not in VERBS:
        return _SAID.get(f"{did}-refused" if refused else did, "")
    parts = [f"{changed(count, asked, VERBS[did].done)}."]
    if refused:
        parts.append(f"{refused:,} refused: in another state by now, or gone.")
    if left:
        parts.append(f"{left:,} left that match: do it again to go on.")
    return " ".join(parts)
