"""Consumer and Handle: pools and jobs, as their runner sees them.

The store thread calls everything here; nothing may block, and no code of users may run.
"""

from contextvars import ContextVar
from typing import Any, Final, Protocol

from oddjob.durable.record import Capacity, Claim, Entry, State
from oddjob.durable.store import Store

# Whether a command imports a program: the pools that it makes run nothing until `consumes` is set.
holds_pools: Final = ContextVar("holds_pools", default=False)


class Handle(Protocol):
    """What waits for the end of a stored job."""

    id: Any  # of the job, once it is stored

    def stored(self, job: Any) -> None:
        """Note the id of the job, which is committed now."""

    def ended(self, state: State, outcome: bytes | None, error: str | None) -> None:
        """Hear how the job has ended; that is committed."""

    def rolled_back(self) -> None:
        """Hear that the transaction in which a user has stored the job was not committed."""


class Consumer(Protocol):
    """A pool."""

    name: str
    keep_succeeded: int
    keep_failed: float  # seconds
    consumes: bool  # it runs jobs from the store
    unknown_after: float  # seconds; see `Capacity`
    functions: dict[str, Any]  # that the pool knows, by name; none if it does not consume

    @property
    def lent(self) -> int:
        """How many jobs may run beside those that wait for them."""
        ...

    @property
    def latest_start(self) -> float:
        """When a claim came or began last, in monotonic seconds."""
        ...

    @property
    def is_closing(self) -> bool:
        """Whether it takes no new jobs."""
        ...

    @property
    def hands_back(self) -> bool:
        """Whether it runs no more claims."""
        ...

    def is_ready(self, function: str) -> bool:
        """Return whether a function can be called: its module has been executed to its end."""
        ...

    def look_for(self, function: str) -> bool:
        """Know a function from now on, if this process has imported its module; return whether."""
        ...

    @property
    def has_spare(self) -> bool:
        """Whether it holds claims that no worker has begun."""
        ...

    def capacity(self) -> Capacity:
        """Return how many jobs the pool can take now."""
        ...

    def start(self, claims: list[Claim]) -> None:
        """Have workers run these jobs, in this order; there may be none."""

    def room_has_come(self) -> None:
        """Have threads look again that wait for room in the queue."""

    def running(self) -> int:
        """Return how many claims are held, begun or not."""
        ...

    def take_back(self) -> list[Claim]:
        """Return claims that no worker has begun, and forget them."""
        ...

    def stop(self, job: Any) -> None:
        """Ask a running job to stop."""

    def drop_all(self) -> None:
        """Forget all claims: another process has them. Running jobs are asked to stop."""

    def close(self, *, hands_back: bool) -> None:
        """Take no more jobs; finish those that there are, or hand them back."""

    def give_up(self) -> None:
        """Come to an end at once: the store will not hear what becomes of the claims."""

    def fire(self, entry: Entry, now: float, store: Store) -> float:
        """Submit what a recurring entry says, as it is due `now`, by the store's clock.

        Returns the seconds until it is worth another look; infinity: this process cannot fire it.
        """
        ...

    def has_come_to_its_end(self) -> bool:
        """Return whether the pool is closed, and has done what it was to do before its end."""
        ...

    def detached(self) -> None:
        """Hear that the runner serves the pool no longer."""
