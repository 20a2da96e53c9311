"""Actions: what is sent from a page to change something.

Guarantees
  * What the user may do is checked here, whatever buttons a page has shown.
  * Many jobs are changed only when their number was seen and confirmed: above `_TYPED` of them, the
    number has to be typed. One request changes at most `bulk_limit`; the next one goes on.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, Final, NamedTuple, cast

from oddjob.dashboard.guard import check_action
from oddjob.dashboard.look import Look, Place
from oddjob.dashboard.request import HttpError
from oddjob.dashboard.views import Chosen, chosen_jobs, filter_of
from oddjob.operations.pool_operations import PoolOperations
from oddjob.runtime.watchers import JobState

_TYPED: Final = 100  # jobs


class Verb(NamedTuple):
    """What can be done to jobs: in which states, and which of them are meant by "all"."""

    word: str
    done: str
    possible: tuple[JobState, ...]
    by_default: tuple[JobState, ...]


VERBS: Final = {
    "retry": Verb("Retry", "queued again", ("failed", "cancelled"), ("failed",)),
    "run": Verb("Run now", "started now", ("scheduled",), ("scheduled",)),
    "cancel": Verb(
        "Cancel", "canceled", ("scheduled", "queued", "running"), ("scheduled", "queued", "running")
    ),
    "delete": Verb(
        "Delete", "deleted", ("scheduled", "queued", "succeeded", "failed", "cancelled"),
        ("succeeded", "failed", "cancelled"),
    ),
}  # fmt: skip


@dataclass
class Redirect:
    """Go back to a page, and say there what was done to how many."""

    path: str
    said: dict[str, object]


@dataclass
class Confirm:
    """Ask before something is done: what the page "confirm" shows."""

    data: dict[str, Any]


def act_on_jobs(look: Look) -> Redirect | Confirm:
    """Change the jobs that a form names, or all that match its filter."""
    request = look.request
    action = request.get("action")
    check_action(request, action)
    verb = VERBS.get(action)
    if verb is None:
        raise HttpError(400, f"Jobs have no {action!r}.")
    ids = [each for each in dict.fromkeys(request.form.get("id", ())) if each]
    is_all = request.get("scope") == "all"
    if not is_all and not ids:
        return _back(look, action="none")
    if is_all:
        count = sum(1 for _ in islice(_matching(look, verb), look.scan_limit))
        given: Iterable[Chosen] = ()
    else:
        given = [_chosen(look, each) for each in ids[: look.bulk_limit]]
        count = len(ids)
    needs_asking = count > 1 or action == "delete" or is_all
    if count and needs_asking and not _is_confirmed(look, count):
        fields = [(name, value) for name, values in request.form.items() for value in values
                  if name not in ("confirmed", "typed", "count")]  # fmt: skip
        return Confirm({
            "action": action, "verb": verb.word.lower(), "done": verb.done, "count": count,
            "is_capped": is_all and count >= look.scan_limit, "limit": look.bulk_limit,
            "must_type": count > _TYPED, "fields": fields, "back": _own_page(request.get("back")),
        })  # fmt: skip
    chosen = islice(_matching(look, verb), look.bulk_limit) if is_all else given
    tried = changed = 0
    for _, group in groupby(chosen, key=lambda each: each.place.reference):
        some = [each for each in group if each.job.state in verb.possible]
        if some:
            tried += len(some)
            changed += _change(some[0].place, action, [each.job for each in some])
    total = min(count, look.bulk_limit) if is_all else count
    return _back(look, action=action, count=changed, refused=max(0, total - changed),
                 left=max(0, count - total))  # fmt: skip


def _matching(look: Look, verb: Verb) -> Iterator[Chosen]:
    which = filter_of(look.request)
    wanted = verb.by_default
    if which.state:
        wanted = (which.state,) if which.state in verb.possible else ()
    for state in wanted:
        yield from chosen_jobs(look, which._replace(state=state))


def _chosen(look: Look, wanted: str) -> Chosen:
    number, source, job = look.job(wanted)
    return Chosen(Place(number, source, source.pool(job.pool)), job)


def _change(place: Place, action: str, jobs: Iterable[Any]) -> int:
    operations = cast("PoolOperations", place.pool)  # both kinds do this
    change = {
        "retry": operations.retry,
        "run": operations.retry,
        "cancel": operations.cancel,
        "delete": operations.delete,
    }
    return change[action](jobs)


def _is_confirmed(look: Look, count: int) -> bool:
    if not look.request.get("confirmed"):
        return False
    typed = look.request.get("typed").replace(",", "")
    return count <= _TYPED or typed == look.request.get("count")


def act_on_pool(look: Look) -> Redirect:
    """Pause a pool, or let it go on."""
    action = look.request.get("action")
    check_action(look.request, action)
    pool = look.place(look.request.get("pool")).pool
    if action == "pause":
        pool.pause()
    elif action == "resume":
        pool.resume()
    else:
        raise HttpError(400, f"Pools have no {action!r}.")
    return _back(look, action=f"pool-{action}")


def act_on_entry(look: Look) -> Redirect:
    """Run a recurring entry now, pause it, or let it go on."""
    action = look.request.get("action")
    check_action(look.request, action)
    place, wanted = look.place(look.request.get("pool")), look.request.get("entry")
    for entry in place.pool.recurring():
        if entry.id == wanted:
            if action == "run":
                done: object = entry.run()
            elif action == "pause":
                done = entry.pause()
            elif action == "resume":
                done = entry.resume()
            else:
                raise HttpError(400, f"Recurring jobs have no {action!r}.")
            return _back(look, action=f"entry-{action}", refused=int(done is False))
    raise HttpError(404, "There is no such recurring job any more.")


def _back(look: Look, action: str, **said: object) -> Redirect:
    """Go back to the page that the form came from, which is one of ours."""
    return Redirect(_own_page(look.request.get("back")), {"did": action, **said})


def _own_page(back: str) -> str:
    is_ours = back.startswith("/") and not back.startswith(("//", "/\\")) and back.isprintable()
    return back if is_ours else "/"


def sentence(did: str, count: int, refused: int, left: int) -> str:
    """Return what was done, for people."""
    jobs = f"{count:,} job{'' if count == 1 else 's'}"
    parts = {
        "none": ["Nothing is selected: nothing was changed."],
        "pool-pause": ["The pool is paused: no process starts its jobs until you resume it."],
        "pool-resume": ["The pool goes on."],
        "entry-run": ["Its job was submitted."],
        "entry-pause": ["It is paused, and fires no more until you resume it."],
        "entry-resume": ["It fires again."],
    }.get(did, [f"{jobs} {VERBS[did].done}."] if did in VERBS else [])
    if refused and did.startswith("entry-"):
        return "Nothing was changed: it is gone, or its former job has not ended."
    if parts and refused:
        parts.append(f"{refused:,} refused: in another state by now, or gone.")
    if parts and left:
        parts.append(f"{left:,} more match: do it again to go on.")
    return " ".join(parts)
