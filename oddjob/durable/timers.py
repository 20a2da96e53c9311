"""The timers of a pool with a store, which outlive their pool and process.

`StoredTimer` is for jobs that are due once: they are in the store already, and the timer remembers
their moment. `EntryTimer` is for a recurring entry, and reads its properties from the store.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Any, Final, Literal

from oddjob.compat import override
from oddjob.durable.record import Entry
from oddjob.durable.rules import Rule
from oddjob.runtime.job import Job
from oddjob.runtime.new_jobs import new_jobs
from oddjob.schedule.clock import clock
from oddjob.schedule.timer import Calls, Timer
from oddjob.schedule.triggers import Trigger

if TYPE_CHECKING:
    from oddjob.durable.pool_store import PoolStore

_LATEST: Final = datetime.max.replace(tzinfo=UTC).timestamp()


class _StoreTimer(Timer):
    __slots__ = ("_is_cancelled", "_store", "_trigger")

    _error = None  # the store takes what is due, however many jobs wait
    _missed = 0

    def __init__(self, store: "PoolStore", trigger: Trigger) -> None:
        self._store: Final = store
        self._trigger: Final = trigger
        self._is_cancelled = False

    @override
    def __repr__(self) -> str:
        return f"<Timer {self._trigger!r}, pool {self._store.name}, stored>"

    @property
    @override
    def pool(self) -> Any:
        return self._store.core.pool


class StoredTimer(_StoreTimer):
    """The timer of jobs that are in the store already, and due once."""

    __slots__ = ("_ids", "_jobs", "_moment")

    def __init__(
        self,
        store: "PoolStore",
        trigger: Trigger,
        moment: float,
        ids: Sequence[Any],
        jobs: Sequence[Job[Any]],
    ) -> None:
        super().__init__(store, trigger)
        self._moment = moment  # when they are due, in wall time
        self._ids: Final = ids
        self._jobs: Final = jobs

    @property
    @override
    def jobs(self) -> list[Job[Any]]:
        return list(self._jobs)

    @property
    @override
    def cancelled(self) -> bool:
        return self._is_cancelled

    @property
    @override
    def fired(self) -> int:
        return int(not self._is_cancelled and self._moment <= clock.wall())

    @property
    @override
    def fires_at(self) -> datetime:
        return self._trigger.date_at(self._moment)

    @override
    def remaining(self) -> float | Literal[False]:
        left = self._moment - clock.wall()
        return False if self._is_cancelled or left <= 0 else left

    @override
    def cancel(self) -> float | Literal[False]:
        left = self.remaining()
        if left is not False:
            self._store.call(lambda store: store.cancel(self._ids))
            self._is_cancelled = True
        return left

    @override
    def pause(self) -> bool:
        raise RuntimeError(
            "a timer of stored jobs that fires once cannot be paused: pause the pool, or cancel it"
        )

    @override
    def resume(self) -> bool:
        return False

    @override
    def run_now(self) -> bool:
        if self.remaining() is False:
            return False
        self._moment = clock.wall()
        return bool(self._store.call(lambda store: store.retry(self._ids)))


class EntryTimer(_StoreTimer):
    """The timer of a recurring entry, which all processes that declare it have in common."""

    __slots__ = ("_latest",)

    def __init__(self, store: "PoolStore", trigger: Trigger, entry: Entry) -> None:
        super().__init__(store, trigger)
        self._latest = entry  # as it was seen last

    def _look(self) -> Entry | None:
        """Return the entry; None if it was deleted, or the pool has closed its store."""
        entry = self._store.entries.find(self._latest.name)
        self._latest = entry or self._latest
        return entry

    @property
    @override
    def jobs(self) -> list[Job[Any]]:
        return []

    @property
    @override
    def cancelled(self) -> bool:
        is_known = self._store.reader is not None
        return self._is_cancelled or (is_known and self._look() is None)

    @property
    @override
    def fired(self) -> int:
        self._look()
        return self._latest.fired

    @property
    @override
    def missed(self) -> int:
        self._look()
        return self._latest.missed

    @property
    @override
    def fires_at(self) -> datetime:
        entry = self._look()
        last = self._latest.tick if self._latest.last_tick is None else self._latest.last_tick
        return self._trigger.date_at(last if entry is None else entry.tick)

    @override
    def remaining(self) -> float | Literal[False]:
        entry = self._look()
        if self._is_cancelled or entry is None or entry.is_paused:
            return False
        return max(0.0, entry.tick - clock.wall())

    @override
    def cancel(self) -> float | Literal[False]:
        left = self.remaining()
        if not self._is_cancelled and self._store.entries.delete(self._latest.name):
            self._is_cancelled = True
            return left or 0.0
        return False

    @override
    def pause(self) -> bool:
        return self._set_paused(is_paused=True)

    @override
    def resume(self) -> bool:
        return self._set_paused(is_paused=False)

    def _set_paused(self, *, is_paused: bool) -> bool:
        name, entry = self._latest.name, self._look()
        if entry is None or entry.is_paused == is_paused:
            return False
        pool = self._store.name
        return bool(
            self._store.call(lambda store: store.pause_entry(pool, name, is_paused=is_paused))
        )

    @override
    def run_now(self) -> bool:
        entry = self._look()
        return entry is not None and self._store.entries.run_now(entry)


def set_timer(store: "PoolStore", trigger: Trigger, calls: Calls, *, overlaps: bool) -> Timer:
    """Store calls that are made when a trigger fires; raises like `PoolStore.accept_many`.

    Raises:
        ValueError: the trigger fires after the last possible date.
    """
    store.core.state.check_open()
    moment = trigger.moment_of(trigger.first())
    if _LATEST < moment < inf:  # (inf: a cron expression that never fires)
        raise ValueError(f"{trigger!r} is too far: a store keeps times until the year 9999")
    if trigger.repeats:
        return store.entries.declare(Rule(trigger, overlaps), calls)
    delay = max(0.0, moment - clock.wall())
    jobs = new_jobs(*calls, clock.monotonic() + delay)
    new = [answer.id for answer in store.submit(jobs, delay) if answer.is_new]
    return StoredTimer(store, trigger, moment, new, [] if calls.policy.is_detached else jobs)
