"""Look: one request's view of the sources, and what is remembered between requests.

Ids and names of pools are unique in a source. A *reference* says which source as well, if it is not
the first: ``42`` or ``1~42``.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

from oddjob.dashboard.request import HttpError, Request
from oddjob.errors import JobNotFound
from oddjob.operations.memory import MemoryOperations
from oddjob.operations.sources import AnyPool, AnyRecord, Source, Sources

T = TypeVar("T")

MINUTES: Final = 60  # that charts show
_KEPT: Final = 1.0  # seconds, at least, that an answer is given again
_SHARE: Final = 50  # to find answers anew takes at most a 50th of the time
_SAMPLES: Final = 360  # of each pool in memory, while pages are looked at
_SAMPLE_INTERVAL: Final = 10.0  # seconds

Ended = dict[str, list[int]]


@dataclass
class Memory:
    """What is remembered between requests.

    Locking: ``lock`` guards the fields; nothing is called under it.
    """

    answers: dict[Any, tuple[float, Any]] = field(default_factory=dict)
    samples: dict[str, "deque[tuple[float, int, int]]"] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def cached(self, key: Any, ask: Callable[[], T]) -> T:
        """Return an answer, or a former one, which is older the longer it took to find."""
        now = time.monotonic()
        with self.lock:
            until, answer = self.answers.get(key, (0.0, None))
        if now < until:
            return answer  # type: ignore[no-any-return]  # what `ask` has returned
        answer = ask()
        taken = time.monotonic() - now
        with self.lock:
            self.answers = {k: v for k, v in self.answers.items() if v[0] > now}
            self.answers[key] = now + max(_KEPT, _SHARE * taken), answer
        return answer

    def forget(self) -> None:
        """Find all answers anew: something was changed."""
        with self.lock:
            self.answers = {}

    def ended_in_memory(self, pool: MemoryOperations) -> Ended:
        """Return how many jobs have ended in each minute, as far as pages were looked at."""
        counts, now = pool.counts(), time.time()
        with self.lock:
            samples = self.samples.setdefault(pool.name, deque(maxlen=_SAMPLES))
            if samples and samples[-1][1] > counts["succeeded"]:  # another pool has the name now
                samples.clear()
            if not samples or now >= samples[-1][0] + _SAMPLE_INTERVAL:
                samples.append((now, counts["succeeded"], counts["failed"]))
            known = [*samples]
        found: Ended = {"succeeded": [0] * MINUTES, "failed": [0] * MINUTES}
        start = first_minute(now)
        following = [*known[1:], (now, counts["succeeded"], counts["failed"])]
        for former, (at, succeeded, failed) in zip(known, following, strict=True):
            minute = int((at - start) // 60)
            if 0 <= minute < MINUTES:
                found["succeeded"][minute] += succeeded - former[1]
                found["failed"][minute] += failed - former[2]
        return found


class Place(NamedTuple):
    """A pool, and the source that it is in."""

    number: int
    source: Source
    pool: AnyPool

    @property
    def reference(self) -> str:
        """The pool's reference."""
        return reference(self.number, self.pool.name)


@dataclass
class Look:
    """A request, the sources as they are now, and the dashboard's options."""

    request: Request
    sources: Sources
    memory: Memory
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

    def job(self, wanted: str) -> tuple[int, Source, AnyRecord]:
        """Return the job of a reference; raise `HttpError` if there is none."""
        number, _, id_ = wanted.rpartition("~")
        try:
            source = self.found[int(number or 0)]
            return int(number or 0), source, source.record(id_)
        except (KeyError, ValueError, JobNotFound) as error:
            text = error if isinstance(error, JobNotFound) else f"there is no job {wanted}"
            raise HttpError(404, f"{str(text)[0].upper()}{str(text)[1:]}.") from None


def reference(number: int, id_: str) -> str:
    """Return what says which one of all sources."""
    return f"{number}~{id_}" if number else id_


def first_minute(now: float | None = None) -> float:
    """Return where charts begin, in seconds since the epoch: on a whole minute."""
    now = time.time() if now is None else now
    return (now // 60 - MINUTES + 1) * 60
