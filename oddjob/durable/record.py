"""The values of the store contract: what a runner gives to a store, and what the store returns.

Ids of jobs and processes are made by the store, and opaque to the runner. Times in records are
seconds since the epoch by the store's clock. Times in the future are given as delays in seconds,
so that two clocks are never compared.
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
MAX_CRASHES: Final = 3  # after as many crashes a job fails


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
    """Another job: by its id, or by how many submits before this one, in the same turn, it is."""

    job: Any = None
    distance: int = 0


class Dependency(NamedTuple):
    """A job waits for another one."""

    other: Reference
    condition: Condition = Condition.SUCCESS


def step_of_value(job: Any) -> str:
    """Return the name of the step by which a job is given the result of its predecessor `job`."""
    return f"{_VALUE}{job}"


def giver_of_value(step: str) -> str | None:
    """Return the id of the job whose result this step holds; None if it is a user's step."""
    return step.removeprefix(_VALUE) if step.startswith(_VALUE) else None


def predecessor_error(job: Any, name: str, relation: str) -> str:
    """Return the stored error of a job whose predecessor has failed.

    Args:
        job: the id of the predecessor.
        name: the name of the predecessor; "" if it has none.
        relation: of the predecessor to the job, such as ``which it waits for``.
    """
    return f"PredecessorFailed: job {f'{name} ({job})' if name else job}, {relation}, failed"


def batch_error(failed: int, total: int) -> str:
    """Return the stored error of a batch."""
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

    Only processes that know the function consume a partition, so no other process gets its jobs.
    """

    pool: str
    function: str
    limiters: tuple[Limiter, ...] = ()


@dataclass(slots=True)
class Submit:
    """A job to be stored.

    At most `key_limit` jobs of a key run at once. A serial job waits until the job before it in its
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
    wants_outcome: bool = True  # the submitting process gets news of the job's end
    entry: str | None = None  # the recurring entry that submits the job
    max_queue: int | None = None  # the job is refused if this many jobs of its pool wait
    after: tuple[Dependency, ...] = ()  # the job is SCHEDULED until all of these are met
    batch: Reference | None = None  # the batch that the job is a member of
    # The job has no call, but stands for a batch. It is SCHEDULED until all members have ended, and
    # then FAILED, with `BatchFailed`, if a member failed, CANCELLED if one was, else SUCCEEDED.
    is_batch: bool = False
    # If a waiting job has the same `unique`, function and key, its payload, meta and name are
    # replaced by those of this submit; with `replaces_time` also when it is due. In this mode a job
    # is not unique any more once it runs.
    replaces: bool = False
    replaces_time: bool = False
    fair_key: str | None = None  # fair keys take turns among jobs of one priority
    fair_step: float = 1.0  # 1 divided by the weight of the fair key

    @property
    def is_linked(self) -> bool:
        """Whether the job depends on others, or belongs to a batch, or stands for one."""
        return bool(self.after or self.is_batch or self.batch is not None)


class Submitted(NamedTuple):
    """The answer to a `Submit`: a new job, or the unfinished job with the same `unique`.

    `id` is None if the queue had no room; the process is woken when there may be room. If there is
    an `error` as well, the store refused all submits of the pool in this turn, and wakes nobody.
    """

    id: Any
    is_new: bool
    error: Exception | None = None
    is_delayed: bool = False  # the unfinished job is not due yet


class Capacity(NamedTuple):
    """How many jobs of a pool a process can claim.

    `idle`: the number of workers without a job. A process that gets fewer jobs is *hungry*, and is
    woken when there are more. `limit`: the largest number of jobs to claim now, including those
    that will wait for a worker. `has_spare`: some of its claims have not begun, and are handed back
    if a peer is hungry. `unknown_after`: seconds after which a job fails if processes consumed the
    pool all that time, but none of them knew the job's function.
    """

    idle: int
    limit: int
    has_spare: bool = False
    unknown_after: float = inf


@dataclass(slots=True)
class Claim:
    """The right of this process to run a job, until an `Update` with this token ends the claim."""

    id: Any
    token: int
    partition: Any  # opaque
    pool: str
    function: str
    payload: bytes
    meta: bytes | None
    name: str
    priority: int
    attempt: int  # the number of attempts that have failed before this one
    crashes: int
    key: str | None
    is_serial: bool
    origin: Any  # the process that waits for the outcome; None: no process waits
    is_suspect: bool = False  # the job fails at its next crash, so it must run alone in its process
    started: float | None = None  # seconds since the epoch, by this process's clock
    is_over: bool = False  # its end is reported, or the claim is lost to another process
    holder: Any = None  # the `ClaimedJobs` that runs it
    batch: Any = None  # the id of the batch that the job is a member of


class Update(NamedTuple):
    """A change of a claim; `state` says which.

    SUCCEEDED, FAILED, CANCELLED: the job has ended, with `outcome`. SCHEDULED: the attempt failed,
    and the next one is due after `delay` seconds. QUEUED: the claim has not begun, and is handed
    back. RUNNING: the job goes on, and `outcome` is its progress.
    """

    claim: Claim
    state: State
    outcome: bytes | None = None
    error: str | None = None  # one line, for people
    delay: float = 0.0
    started: float | None = None  # seconds since the epoch
    traceback: str | None = None  # of a failed attempt
    is_kept: bool = True  # whether the record of a succeeded job is kept


class News(NamedTuple):
    """A message to this process; `state` and `id` say which.

    An ended state: a job that this process waits for has ended. RUNNING: the process is to stop a
    job that it runs. If `id` is None, the process itself is to end.
    """

    id: Any
    state: State
    outcome: bytes | None
    error: str | None


@dataclass(slots=True)
class Entry:
    """A recurring submission.

    `rule` says when to submit, and `payload` what; both are opaque to the store.
    """

    name: str
    partition: Partition
    rule: bytes
    tick: float  # when the next submission is due
    payload: bytes
    is_paused: bool = False
    fired: int = 0  # ticks that submitted jobs
    missed: int = 0  # ticks that submitted none
    last_tick: float | None = None
    last_job: Any = None


@dataclass(slots=True)
class Turn:
    """The answer to `Store.turn`."""

    now: float
    submitted: list[Submitted] = field(default_factory=list)  # in the order of the submits
    refused: list[Update] = field(default_factory=list)  # with an invalid token
    claims: list[Claim] = field(default_factory=list)  # in the order in which they are to start
    news: list[News] = field(default_factory=list)
    # Handles of jobs that were stored in users' transactions, and whether these were committed.
    inserted: list[tuple[Any, bool]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)  # due, of functions that this process knows
    next_look: float | None = None  # seconds until the next turn is due; None: no time is set
    hungry_peers: bool = False  # another process could run claims that this one has not begun
    # Functions of stored jobs that this process does not know, as (pool, function). Empty if there
    # is no new one among them.
    unknown: list[tuple[str, str]] = field(default_factory=list)
    is_doubtful: bool = False  # the store may have lost its latest commits
    full: frozenset[str] = frozenset()  # pools for which this process waits for room in the queue


class Attempt(NamedTuple):
    """A failed attempt of a job."""

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
    started: float | None  # when the latest attempt began; while it runs, when it was claimed
    finished: float | None
    error: str | None
    progress: bytes | None
    meta: bytes | None
    payload: bytes
    outcome: bytes | None
    batch: Any = None  # the id of the batch that the job is a member of


class Member(NamedTuple):
    """A process that has joined a store."""

    id: Any
    host: str  # as `host_name` returns it
    pid: int
    joined: float
    version: str
    pools: tuple[str, ...]
    seen: float | None = None  # when it last renewed its lease; None: it has no lease


def host_name() -> str:
    """Return the name of this machine, for people; ODDJOB_NAME adds a name of the process."""
    name = os.environ.get("ODDJOB_NAME", "")
    return f"{name}@{socket.gethostname()}" if name else socket.gethostname()
