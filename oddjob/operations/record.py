"""Record: a stored job as people see it.

Guarantees: to list records decodes nothing that belongs to users, so a job whose arguments cannot
be read is listed as any other. Arguments are decoded when asked for: that may run code of theirs.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast

from oddjob.durable.progress import decode_progress
from oddjob.durable.record import Record as StoredRecord
from oddjob.durable.record import State
from oddjob.errors import PayloadError
from oddjob.keys import Key, decode_key
from oddjob.operations.access import StoreAccess, time_of
from oddjob.runtime.job_state import Progress
from oddjob.schedule.clock import clock

if TYPE_CHECKING:
    from oddjob.runtime.job_state import JobState


class FailedAttempt(NamedTuple):
    """An attempt of a stored job that has failed.

    Attributes:
        number: which attempt it was; 1 is the first.
        started: when it began; None if that is not known.
        finished: when it ended.
        process: host and pid of the process that ran it.
        traceback: the traceback, as text.
    """

    number: int
    started: datetime | None
    finished: datetime
    process: str
    traceback: str


_KINDS: Final[dict[str, Literal["batch", "chain"]]] = {
    "oddjob.workflow:batch": "batch",
    "oddjob.workflow:chain": "chain",
}


@dataclass(frozen=True, slots=True)
class Record:
    """A stored job, as it was when its record was read; ``pool.find(record.id)`` is live.

    Attributes:
        id: the identifier, as `Job.id`.
        pool: the name of its pool.
        function: the name by which processes find its function, ``module:qualname``.
        name: what it is called in logs, as `Job.name`.
        state: as `Job.state`.
        priority: as `Job.priority`.
        attempt: how many attempts have ended.
        crashes: how many processes have died while they ran it.
        key: as `Job.key`; of a date, a UUID, an enum member or the like, its ``repr``.
        entry: the name of the recurring entry that has submitted it; None if none has.
        runner: which process runs it, as `RunnerInfo.id`; None if none does.
        created: when it was submitted.
        run_at: when a job that is ``scheduled`` is due; None of any other.
        started: when its latest attempt started; of a job that runs, when a process took it, which
            may be a little earlier; None if it has not started.
        finished: when it ended; None if it has not.
        error: what went wrong last, in one line; None if nothing.
        progress: what it has reported of itself last; None if nothing.
        batch: the id of the batch or chain of which it is a member; None if there is none.
        payload: its arguments, as they are stored; see `arguments`.
        outcome: what it returned or raised, as that is stored; see `Pool.find`.
    """

    id: str
    pool: str
    function: str
    name: str
    state: "JobState"
    priority: int
    attempt: int
    crashes: int
    key: Key | None
    entry: str | None
    runner: str | None
    created: datetime
    run_at: datetime | None
    started: datetime | None
    finished: datetime | None
    error: str | None
    progress: Progress | None
    batch: str | None
    payload: bytes = field(repr=False)
    outcome: bytes | None = field(repr=False)
    _stored: StoredRecord = field(repr=False, compare=False)
    _access: StoreAccess = field(repr=False, compare=False)

    @property
    def max_attempts(self) -> int | None:
        """How often it is tried at most; None if that is the function's, and not stored."""
        meta = self._stored.meta
        codec, retries = self._access.codec, None
        if meta is not None:
            with suppress(PayloadError):  # it is signed, and the keys are not here; or not plain
                options = codec.decode_plain_meta(meta, self.pool, self.function).options
                retries = options.get("retries")
        return None if retries is None else retries + 1

    @property
    def waited(self) -> float:
        """The seconds from its submission to the start of its latest attempt, or until now."""
        started, finished = _start_of(self._stored), self._stored.finished
        until = finished if started is None else started
        return max(0.0, (clock.wall() if until is None else until) - self._stored.created)

    @property
    def ran(self) -> float | None:
        """The seconds that its latest attempt took, or takes so far; None while the job waits."""
        started, finished = _start_of(self._stored), self._stored.finished
        if self._stored.state is State.RUNNING:
            finished = clock.wall()
        return None if started is None or finished is None else max(0.0, finished - started)

    def attempts(self) -> list[FailedAttempt]:
        """Return the attempts that have failed, the first one first, with their tracebacks."""
        return [
            FailedAttempt(
                number, time_of(started), cast("datetime", time_of(finished)), process, traceback
            )
            for number, started, finished, process, traceback in self._access.reader.attempts(
                self._stored.id
            )
        ]

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional and the keyword arguments of the call.

        In a file they are unpickled, which may run any code: do that only where all who may write
        the store are trusted, and where the program's modules can be imported.

        Raises:
            ValueError: they cannot be read; the message says why.
        """
        return self._access.codec.decode_call(self.payload, self.pool, self.function)[:2]

    def carrier(self) -> dict[str, str]:
        """Return what middleware has stored with the job; unpickles it, as `arguments` does."""
        meta = self._access.codec.decode_meta(self._stored.meta, self.pool, self.function)
        return meta.carrier

    @property
    def kind(self) -> Literal["job", "batch", "chain"]:
        """``"batch"`` or ``"chain"`` if it stands for one, and has members; else ``"job"``."""
        return _KINDS.get(self.function, "job")

    def members(self) -> Iterator["Record"]:
        """Iterate over the records of its members that there are, the latest first.

        They are read a page at a time. What is done to the record of a batch or a chain, by
        `retry`, `cancel` and `delete`, is done to all of them.
        """
        last = None
        while page := self._access.reader.members_of(self._stored.id, last):
            last = page[-1].id
            for stored in page:
                yield record_of(stored, self._access)

    def retry(self) -> bool:
        """Queue the job again if it failed or was canceled, at once if it is scheduled.

        A `Job` that has ended stays so, as a future ends once: `Pool.find` returns a new one, which
        is pending.

        Returns False if it is in another state, or gone.
        """
        return bool(self._access.change("retry", [self._stored.id]))

    def cancel(self) -> bool:
        """Cancel the job if it waits, ask it to stop if it runs; return False if it has ended."""
        return bool(self._access.change("cancel", [self._stored.id]))

    def delete(self) -> bool:
        """Delete the job and its record; return False if it runs, or is gone."""
        return bool(self._access.change("delete", [self._stored.id]))


def record_of(stored: StoredRecord, access: StoreAccess) -> Record:
    """Return a stored record as people see it."""
    return Record(
        id=str(stored.id),
        pool=stored.pool,
        function=stored.function,
        name=stored.name,
        state=stored.state.label,
        priority=stored.priority,
        attempt=stored.attempt,
        crashes=stored.crashes,
        key=decode_key(stored.key),
        entry=stored.entry,
        runner=None if stored.owner is None else str(stored.owner),
        created=cast("datetime", time_of(stored.created)),
        run_at=time_of(stored.run_at),
        started=time_of(_start_of(stored)),
        finished=time_of(stored.finished),
        error=stored.error,
        progress=decode_progress(stored.progress),
        batch=None if stored.batch is None else str(stored.batch),
        payload=stored.payload,
        outcome=stored.outcome,
        _stored=stored,
        _access=access,
    )


def _start_of(stored: StoredRecord) -> float | None:
    """Return when the latest attempt started; None if that was only claimed, and handed back."""
    has_begun = stored.state is State.RUNNING or stored.attempt or stored.crashes
    return stored.started if has_begun else None


def stored_id(record: Record) -> Any:
    """Return what the store calls a job."""
    return record._stored.id


def stored_key(record: Record) -> str | None:
    """Return the key of a job as the store has it."""
    return record._stored.key
