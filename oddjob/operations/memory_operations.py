"""MemoryOperations: the jobs of a pool of this process, to look at and to act on.

Its records have the attributes and methods of `Record`, so that a page or table can show stored
jobs and those in memory alike. A job that has ended is found only while its program still holds it.

Guarantees: showing a job keeps it alive no longer than its program does.
"""

import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, dropwhile, islice
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple, cast, get_args

from oddjob.errors import JobNotFound
from oddjob.keys import Key
from oddjob.operations.access import When, seconds_of
from oddjob.operations.recurring import clock_changes_of, upcoming_of
from oddjob.quantities import as_count
from oddjob.runtime import lifecycle
from oddjob.runtime.job import Job
from oddjob.runtime.job_state import JobState, Progress
from oddjob.runtime.reasons import known_id, times_of
from oddjob.schedule.timer import MemoryTimer
from oddjob.thread_pool import Pool

_shown: Final = weakref.WeakValueDictionary[str, Job[Any]]()  # by id
_numbers: Final = weakref.WeakKeyDictionary[MemoryTimer, int]()  # of timers that were shown
_next_number: Final = count(1)


class _Known(NamedTuple):
    """What a record is made of: a job, the timer that it waits for, or both."""

    job: Job[Any] | None
    timer: MemoryTimer | None = None

    @property
    def id(self) -> str:
        """Its identifier; "" of a queued or running job whose id nobody has asked for."""
        if self.job is None:
            return f"timer-{_number_of(cast('MemoryTimer', self.timer))}"
        return (known_id(self.job) if self.timer is None else self.job.id) or ""

    @property
    def queued_at(self) -> datetime | None:
        """When its job was queued; None if there is none yet."""
        return None if self.job is None else self.job.queued_at


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """A job of a pool in memory, as it was when it was looked at; see `Record`."""

    id: str
    pool: str
    name: str
    state: JobState
    priority: int = 0
    attempt: int = 0
    key: Key | None = None
    created: datetime | None = None  # None while it waits for its time
    run_at: datetime | None = None
    started: datetime | None = None
    finished: datetime | None = None
    progress: Progress | None = None
    _job: Job[Any] | None = field(default=None, repr=False, compare=False)
    _timer: MemoryTimer | None = field(default=None, repr=False, compare=False)  # it waits for it
    crashes: int = 0
    max_attempts: int | None = None
    entry: str | None = None
    runner: str | None = None
    error: str | None = None
    payload: None = None
    outcome: None = None

    @property
    def function(self) -> str:
        """The name of its function, as far as it is known."""
        return self.name

    def attempts(self) -> list[Any]:
        """Return nothing: attempts that have failed are not kept."""
        return []

    def why(self) -> list[str]:
        """Return why the job has not ended."""
        return ["it waits for its time" if self._job is None else self._job.why()]

    def cancel(self) -> bool:
        """Cancel the job, or ask it to stop; return False if it has ended."""
        waits: Any = self._job or self._timer
        if self.state not in ("scheduled", "queued", "running"):
            return False
        is_done = waits.cancel() is not False
        return is_done or (self._job is not None and self._job.cancel_requested)

    def delete(self) -> bool:
        """Delete nothing, as jobs in memory have no records; return False."""
        return False

    def retry(self) -> bool:
        """Start a job now that waits for its time; return False of any other."""
        return self._timer is not None and bool(self._timer.run_now())


class MemoryEntry:
    """A recurring timer of a pool in memory; see `RecurringEntry`."""

    last_job: None = None

    def __init__(self, timer: MemoryTimer, pool: str) -> None:
        self._timer: Final = timer
        self.id: Final = _number_of(timer)
        self.name: Final = timer.name
        self.function: Final = timer.name
        self.pool: Final = pool
        self.rule: Final = repr(timer.trigger)
        self.is_paused: Final = timer.remaining() is False
        self.next_run: Final = timer.fires_at.astimezone(UTC)
        self.last_run: Final[datetime | None] = None

    def upcoming(self, number: int) -> list[datetime]:
        """Return when it fires next."""
        return upcoming_of(self._timer.trigger, self.next_run.timestamp(), number)

    def clock_changes(self) -> list[str]:
        """Return when it fires around the next changes of clocks."""
        return clock_changes_of(self._timer.trigger)

    def run(self) -> str | Literal[False]:
        """Submit its job now; return False if the former one has not ended."""
        return "" if self._timer.run_now() else False

    def pause(self) -> bool:
        """Let it fire no more until `resume`."""
        return self._timer.pause()

    def resume(self) -> bool:
        """Let it fire again."""
        return self._timer.resume()


class MemoryOperations:
    """What can be seen of a pool without a store, and done to it; see `PoolOperations`."""

    def __init__(self, name: str, pool: Pool) -> None:
        self.name: Final = name
        self.pool: Final = pool

    def record(self, job: object) -> MemoryRecord:
        """Return a job that has not ended, or that was shown before and is still there."""
        wanted, shown = str(job), _shown.get(str(job))
        known = [] if shown is None or shown.pool is not self.pool else [shown]
        jobs = (*known, *self._running(), *self.pool.queue())
        for each in (*self._waiting(), *map(_Known, jobs)):
            if each.id == wanted != "":
                return self._record(each)
        raise JobNotFound(f"no job {job} in pool {self.name!r}: in memory, what has ended is gone")

    def records(
        self,
        *,
        state: JobState | Iterable[JobState] | None = None,
        name: str | None = None,
        key: Key | None = None,
        error: str | None = None,
        since: When | None = None,
        before: When | None = None,
        before_id: str | None = None,
        limit: int | None = None,
    ) -> Iterator[MemoryRecord]:
        """Iterate over jobs that have not ended: those that wait for a timer, then the queue.

        The newest jobs come first, as far as their priorities are the same. The list continues
        after the job `before_id`; if that is gone, with jobs that were queued before `before`.
        Without `before`, `before_id` may be a job of any pool that waits for a timer. No job is
        found by `error`, as those that have failed are not kept.
        """
        most = None if limit is None else as_count("limit", limit)
        wanted = get_args(JobState) if state is None else state
        states = {wanted} if isinstance(wanted, str) else {*wanted}
        oldest = None if since is None else seconds_of("since", since)
        newest = None if before is None else seconds_of("before", before)
        if error is not None:
            return iter(())
        found: list[_Known] = []  # no more than may be wanted: a queue can be long
        if "scheduled" in states:
            found = sorted(self._waiting(), key=attrgetter("id"))
        if not states.isdisjoint(("scheduled", "queued")):  # a retry waits in the queue, scheduled
            found += map(_Known, reversed(self.pool.queue()))
        if "running" in states:
            found += map(_Known, reversed(self._running()))
        if before_id is not None:
            found, newest = self._after(found, newest, before_id), None

        def matches(each: _Known) -> bool:
            what: Any = each.job or each.timer
            return (
                (each.job is None or each.job.state in states)
                and (name is None or name == what.name)
                and (key is None or (each.job is not None and each.job.key == key))
            )

        records = (self._record(each) for each in found if matches(each))
        return islice((each for each in records if _is_between(each.created, oldest, newest)), most)

    def _after(self, found: list[_Known], newest: float | None, before_id: str) -> list[_Known]:
        """Return what follows a job, wherever that is."""
        for place, each in enumerate(found):
            if before_id == each.id:
                return found[place + 1 :]
        if newest is None:
            return [each for each in found if each.timer is None or each.id > before_id]
        return [*dropwhile(lambda each: not _is_between(each.queued_at, None, newest), found)]

    def counts(self, most: int | None = None) -> dict[JobState, int]:  # noqa: ARG002
        """Return how many jobs wait and run, and how many have ended since the pool was made."""
        stats = self.pool.stats()
        return {
            "scheduled": sum(len(timer.jobs) or 1 for timer in self._timers() if not timer.repeats),
            "queued": stats.queued,
            "running": stats.running,
            "succeeded": stats.succeeded,
            "failed": stats.failed + stats.timed_out,
            "cancelled": stats.cancelled + stats.dropped,
        }

    def oldest_waiting(self) -> datetime | None:
        """Return when the first of the queued jobs was queued; None: none waits."""
        return next((job.queued_at for job in self.pool.queue()), None)

    def pause(self) -> None:
        """Let no jobs of the pool start; see `Pool.pause`."""
        self.pool.pause()

    def resume(self) -> None:
        """Let them start again."""
        self.pool.resume()

    @property
    def is_paused(self) -> bool:
        """Whether no jobs of the pool start at present."""
        return self.pool.state == "paused"

    @property
    def pause_reason(self) -> str:
        """Nothing: it is not kept."""
        return ""

    def recurring(self) -> list[MemoryEntry]:
        """Return the recurring timers."""
        return [MemoryEntry(each, self.name) for each in self._timers() if each.repeats]

    def _timers(self) -> list[MemoryTimer]:
        return [each for each in self.pool.timers() if isinstance(each, MemoryTimer)]

    def _running(self) -> list[Job[Any]]:
        """Return the jobs on the workers, also those that run while the one before them waits."""
        cores = [core for core in lifecycle.known_cores() if core.pool is self.pool]
        jobs = [job for core in cores for each in core.workers.all() for job in each.slot.jobs()]
        return [job for job in jobs if not job.done()]

    def _waiting(self) -> Iterator[_Known]:
        for timer in self._timers():
            if not timer.repeats:
                yield from (_Known(job, timer) for job in timer.jobs or (None,))

    def _record(self, known: _Known) -> MemoryRecord:
        job, timer = known
        run_at = None if timer is None else timer.fires_at
        if job is None:
            name = cast("MemoryTimer", timer).name
            return MemoryRecord(known.id, self.name, name, "scheduled", run_at=run_at, _timer=timer)
        _shown[job.id] = job
        queued, started, finished = times_of(job)
        ended = max(0, job.attempt - (job.state == "running"))  # attempts that have ended
        return MemoryRecord(
            job.id, self.name, job.name, job.state, job.priority, ended, job.key,
            queued, run_at, started, finished, job.progress, job, timer,
        )  # fmt: skip


def _number_of(timer: MemoryTimer) -> str:
    """Return a number that no other timer of the process is ever given."""
    return str(_numbers.setdefault(timer, next(_next_number)))


def _is_between(when: datetime | None, oldest: float | None, newest: float | None) -> bool:
    moment = float("inf") if when is None else when.timestamp()
    return (oldest is None or moment >= oldest) and (newest is None or moment < newest)
