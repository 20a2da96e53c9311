"""Context: what a page is made from: the request, the sources as they are now, cached answers.

Ids and names of pools are unique in a source. A *reference* says which source as well, if it is not
the first: ``42`` or ``1~42``.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

from oddjob.dashboard.chart import History
from oddjob.dashboard.request import HttpError, Request
from oddjob.errors import JobNotFound
from oddjob.operations.sources import AnyPool, AnyRecord, Source, Sources

T = TypeVar("T")

_KEPT: Final = 1.0  # seconds, at least, that an answer is given again
_SHARE: Final = 50  # to find answers anew takes at most a 50th of the time


class Cache:
    """Answers of sources, which are given again to the requests that follow.

    Locking: ``_lock`` guards the answers; nothing is called under it.
    """

    def __init__(self) -> None:
        self._answers: dict[Any, tuple[float, Any]] = {}  # each with the time until it holds
        self._changes = 0  # how often something was changed
        self._lock: Final = threading.Lock()

    def answer(self, key: Any, ask: Callable[[], T]) -> T:
        """Return an answer, or a former one, which is older the longer it took to find."""
        now = time.monotonic()
        with self._lock:
            until, answer = self._answers.get(key, (0.0, None))
            changes = self._changes
        if now < until:
            return answer  # type: ignore[no-any-return]  # what `ask` has returned
        answer = ask()
        taken = time.monotonic() - now
        with self._lock:
            self._answers = {k: v for k, v in self._answers.items() if v[0] > now}
            if changes == self._changes:
                self._answers[key] = now + max(_KEPT, _SHARE * taken), answer
        return answer

    def clear(self) -> None:
        """Find all answers anew: something was changed."""
        with self._lock:
            self._answers = {}
            self._changes += 1


class Place(NamedTuple):
    """A pool, and the source that it is in."""

    number: int
    source: Source
    pool: AnyPool

    @property
    def reference(self) -> str:
        """The pool's reference."""
        return reference(self.number, self.pool.name)


class Found(NamedTuple):
    """A job, the pool that it is in, and where it is in a list.

    Attributes:
        order: minus the time at which it was submitted, so that it sorts first if it is new; and
            the job's id if it waits for a timer.
    """

    place: Place
    job: AnyRecord
    order: tuple[float, str] = (0.0, "")

    @property
    def reference(self) -> str:
        """The job's reference."""
        return reference(self.place.number, self.job.id)


@dataclass
class Context:
    """A request, the sources as they are now, and the dashboard's options."""

    request: Request
    sources: Sources
    cache: Cache
    history: History
    page_size: int
    bulk_limit: int
    scan_limit: int
    format_arguments: Callable[[AnyRecord], str | None] | None
    found: dict[int, Source] = field(init=False)

    def __post_init__(self) -> None:
        self.found = dict(self.sources.all())

    def places(self, wanted: str = "") -> Iterator[Place]:
        """Yield all pools; with a reference, that one, if it is there."""
        for number, source in self.found.items():
            for name, pool in source.pools().items():
                if wanted in ("", reference(number, name)):
                    yield Place(number, source, pool)

    def place(self, wanted: str) -> Place:
        """Return the pool of a reference; raise `HttpError` if there is none."""
        for place in self.places(wanted):
            return place
        raise HttpError(404, f"There is no pool {wanted!r}, or it has had no jobs yet.")

    def job(self, wanted: str) -> Found:
        """Return the job of a reference; raise `HttpError` if there is none."""
        number, _, id_ = wanted.rpartition("~")
        try:
            source = self.found[int(number or 0)]
            job = source.record(id_)
            return Found(Place(int(number or 0), source, source.pool(job.pool)), job)
        except (KeyError, ValueError, JobNotFound) as error:
            text = error if isinstance(error, JobNotFound) else f"there is no job {wanted}"
            raise HttpError(404, f"{str(text)[0].upper()}{str(text)[1:]}.") from None


def reference(number: int, id_: str) -> str:
    """Return what says which one of all sources."""
    return f"{number}~{id_}" if number else id_
