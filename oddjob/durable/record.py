"""The values of the store contract: what a runner gives to a store, and what it gets from it.

Ids of jobs and processes are opaque to the runner: it gets them from the store and hands them back.
Times that people see are seconds since the epoch by the store's clock. Times to come are given as
delays in seconds, so no two clocks are ever compared.
"""

import os
import socket
from dataclasses import dataclass, field
from enum import IntEnum
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from oddjob.runtime.links import Condition

if TYPE_CHECKING:
    from oddjob.runtime.job_state import JobState

_VALUE: Final = "result of "
MAX_CRASHES: Final = 3  # processes that die while they run a job; then the job fails


class State(IntEnum):
    """The state of a stored job. It has ended from SUCCEEDED on."""

    SCHEDULED = 0  # waits for its time, or for its next attempt
    QUEUED = 1
    RUNNING = 2  # claimed by a process, begun or not
    PARKED = 3  # queued behind other jobs of its key
    SUCCEEDED = 4
    FAILED = 5
    CANCELLED = 6

    @property
    def has_ended(self) -> bool:
        """Whether a job in this state never runs again by itself."""
        return self >= State.SUCCEEDED

    @property
    def label(self) -> "JobState":
        """The word that users see; a parked job is a queued one to them."""
        return cast("JobState", "queued" if self is State.PARKED else self.name.lower())


class Reference(NamedTuple):
    """Another job: by its id, or as that of the submit which is `distance` before, in one turn."""

    job: Any = None
    distance: int = 0


class Dependency(NamedTuple):
    """A job waits for another one."""

    other: Reference
    condition: Condition = Condition.SUCCESS


def step_of_value(job: Any) -> str:
    """Return the name of the step under which the result of a job is given to the next one."""
    return f"{_VALUE}{job}"


def giver_of_value(step: str) -> str | None:
    """Return the job whose result a step has; None if it is another step."""
    return step.removeprefix(_VALUE) if step.startswith(_VALUE) else None


def predecessor_error(job: Any, name: str, relation: str) -> str:
    """Return what is stored as the error of a job if one before it has failed.

    Args:
        job: the id of the one that has failed.
        name: its name; "" if there is none.
        relation: what it is to the job, such as ``which it waits for``.
    """
    return f"PredecessorFailed: job {f'{name} ({job})' if name else job}, {relation}, failed"


def batch_error(failed: int, total: int) -> str:
    """Return what is stored as the error of a batch."""
    return f"BatchFailed: {failed} of {total} jobs failed"


class Limiter(NamedTuple):
    """A limit that all processes share, by its name within a pool.

    It allows `max_running` jobs at once; or `starts` in any `period` seconds, of which `burst` may
    follow each other without a pause.
    """

    name: str
    max_running: int | None = None
    starts: int | None = None
    period: float = 1.0
    burst: int = 1


class Partition(NamedTuple):
    """The jobs of a pool that call the same function under the same limits.

    Only processes that know the function consume a partition, so no other one gets its jobs.
    """

    pool: str
    function: str
    limiters: tuple[Limiter, ...] = ()


@dataclass(slots=True)
class Submit:
    """A job to be stored.

    At most `key_limit` jobs of a key run at once; a serial one waits until the one before it in its
    key has succeeded. Two unfinished jobs of a pool never have the same `unique`.
    """

    partition: Partition
    payload: bytes
    name: str = ""  # for people
    priority: int = 0
    delay: float | None = None
    key: str | None = None
    key_limit: int = 1
    is_serial: bool = False
    unique: bytes | None = None
    meta: bytes | None = None
    wants_outcome: bool = True  # the process that submits it gets news of its end
    entry: str | None = None  # the recurring entry that submits it
    max_queue: int | None = None  # it is refused if this many jobs of its pool wait
    after: tuple[Dependency, ...] = ()  # it is SCHEDULED until all of these are met
    batch: Reference | None = None  # it is a member of that
    # It has no call, but stands for a batch: SCHEDULED while members have not ended; then FAILED,
    # with `BatchFailed`, if one has failed, CANCELLED if one was, else SUCCEEDED.
    is_batch: bool = False
    # If a job that is as unique waits, of the same function and key, it is given what this one has
    # in its payload, meta and name; with `replaces_time` it is due when this one is. One that runs
    # is unique no longer.
    replaces: bool = False
    replaces_time: bool = False
    fair_key: str | None = None  # among jobs of one priority these keys take turns; None: no key
    fair_step: float = 1.0  # one divided by the weight of it

    @property
    def is_linked(self) -> bool:
        """Whether it has to do with other jobs."""
        return bool(self.after or self.is_batch or self.batch is not None)


class Submitted(NamedTuple):
    """The job that a `Submit` stands for: a new one, or the unfinished one that is as unique.

    `id` is None if it was turned away; the process is woken when there may be room again. With an
    `error` it was refused, with all others of its pool in this turn, and nobody is woken.
    """

    id: Any
    is_new: bool
    error: Exception | None = None
    is_delayed: bool = False  # the unfinished one waits for its time


class Capacity(NamedTuple):
    """How many jobs of a pool a process can take.

    `idle`: workers without a job. A process that gets fewer jobs than that is *hungry*, and is
    woken when there are more. `limit`: how many jobs it takes at most, including those that wait
    for one of its workers. `has_spare`: it has waiting ones by now, and hands them back when a peer
    is hungry. `unknown_after`: seconds after which a job fails if processes consumed the pool all
    the time, and none of them knew its function.
    """

    idle: int
    limit: int
    has_spare: bool = False
    unknown_after: float = inf


@dataclass(slots=True)
class Claim:
    """A job that this process runs, until an `Update` with this token ends the claim."""

    id: Any
    token: int
    partition: Any  # opaque
    pool: str
    function: str
    payload: bytes
    meta: bytes | None
    name: str
    priority: int
    attempt: int  # how many have failed before
    crashes: int
    key: str | None
    is_serial: bool
    origin: Any  # the process that waits for the outcome; None: there is none
    is_suspect: bool = False  # one more crash fails it: it must run alone in its process
    started: float | None = None  # seconds since the epoch, by this process's clock
    is_over: bool = False  # it has been reported, or the job is another process's by now
    holder: Any = None  # the `ClaimedJobs` that runs it
    batch: Any = None  # the job that stands for the batch of which it is a member


class Update(NamedTuple):
    """What has become of a claim.

    SUCCEEDED, FAILED, CANCELLED: it has ended, with `outcome`. SCHEDULED: it failed, and is tried
    again after `delay`. QUEUED: it was not begun, and is handed back. RUNNING: it goes on, and
    `outcome` is its progress.
    """

    claim: Claim
    state: State
    outcome: bytes | None = None
    error: str | None = None  # one line, for people
    delay: float = 0.0
    started: float | None = None  # seconds since the epoch
    traceback: str | None = None  # of an attempt that failed
    is_kept: bool = True  # if it has succeeded: its record stays


class News(NamedTuple):
    """A job that this process waits for has ended; RUNNING: it is to stop one that it runs."""

    id: Any  # None: the process is to end
    state: State
    outcome: bytes | None
    error: str | None


@dataclass(slots=True)
class Entry:
    """A recurring submission.

    `rule` says when, and `payload` what; both are opaque to the store.
    """

    name: str
    partition: Partition
    rule: bytes
    tick: float  # when it is to be submitted next
    payload: bytes
    is_paused: bool = False
    fired: int = 0  # ticks that submitted jobs
    missed: int = 0  # ticks that were left out
    last_tick: float | None = None
    last_job: Any = None


@dataclass(slots=True)
class Turn:
    """The answer to `Store.turn`."""

    now: float
    submitted: list[Submitted] = field(default_factory=list)  # in the order of the submits
    refused: list[Update] = field(default_factory=list)  # whose token is not valid any more
    claims: list[Claim] = field(default_factory=list)  # in the order in which they are to start
    news: list[News] = field(default_factory=list)
    # Handles of jobs that were stored in users' transactions, and whether these were committed.
    inserted: list[tuple[Any, bool]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)  # due, of functions that it knows
    next_look: float | None = None  # seconds until the next turn is due; None: no time is set
    hungry_peers: bool = False  # another process could run claims that this one has not begun
    # Functions (pool and name) of stored jobs that this process does not know; none if none is new.
    unknown: list[tuple[str, str]] = field(default_factory=list)
    is_doubtful: bool = False  # the store may have lost what it has acknowledged last
    full: frozenset[str] = frozenset()  # pools whose queue this process waits for room in


class Attempt(NamedTuple):
    """An attempt of a job that has failed."""

    number: int
    started: float | None
    finished: float
    process: str
    traceback: str


@dataclass(slots=True)
class Record:
    """A stored job, as people see it."""

    id: Any
    pool: str
    function: str
    name: str
    state: State
    priority: int
    attempt: int
    crashes: int
    run_at: float | None
    key: str | None
    unique: bytes | None
    entry: str | None
    owner: Any
    created: float
    started: float | None  # of the latest attempt; while it runs, when it was claimed
    finished: float | None
    error: str | None
    progress: bytes | None
    meta: bytes | None
    payload: bytes
    outcome: bytes | None
    batch: Any = None  # the job that stands for the batch of which it is a member


class Member(NamedTuple):
    """A process that has joined a store."""

    id: Any
    host: str  # as `host_name` returns it
    pid: int
    joined: float
    version: str
    pools: tuple[str, ...]
    seen: float | None = None  # when it renewed its lease last; None: it has none


def host_name() -> str:
    """Return what people know this process's machine by, after the name that ODDJOB_NAME gives."""
    name = os.environ.get("ODDJOB_NAME", "")
    return f"{name}@{socket.gethostname()}" if name else socket.gethostname()
