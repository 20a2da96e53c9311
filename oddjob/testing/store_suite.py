"""StoreSuite: what the suites of the store contract have in common. See `store_contract`."""

from pathlib import Path
from typing import Any, Final

from oddjob.durable.record import Capacity, Claim, Partition, State, Submit, Update
from oddjob.durable.store import Store

POOL: Final = "pool"
PARTITION: Final = Partition(POOL, "function")
ALL: Final = Capacity(100, 100)
NONE: Final = Capacity(0, 0)


class StoreSuite:
    """A store under test, and short words for what is done to it."""

    _members: list[Store]

    def open_store(self, directory: Path) -> Store:
        """Return a new member of the store in this directory, which has not joined yet."""
        raise NotImplementedError

    def close_store(self, store: Store) -> None:
        """Close a member."""
        store.leave()
        store.close()

    def setup_method(self) -> None:
        """Remember the members of a test."""
        self._members = []

    def teardown_method(self) -> None:
        """Close the members that the test has left open, the latest first."""
        while self._members:
            self.close(self._members[-1])

    def open(self, directory: Path) -> Store:
        """Return a new member, which has not joined yet; it is closed when the test has ended."""
        store = self.open_store(directory)
        self._members.append(store)
        return store

    def close(self, store: Store) -> None:
        """Close a member before the test has ended."""
        self._members.remove(store)
        self.close_store(store)

    def member(self, directory: Path, *functions: str) -> Store:
        """Return a member that knows these functions of the pool."""
        store = self.open(directory)
        store.join({POOL: functions or ("function",)}, 4)
        return store

    def add(self, store: Store, **options: Any) -> Any:
        """Store a job; return its id."""
        partition = options.pop("partition", PARTITION)
        turn = store.turn([], [Submit(partition, b"payload", **options)], {POOL: NONE})
        return turn.submitted[0].id

    def claim(self, store: Store, capacity: Capacity = ALL) -> list[Claim]:
        """Claim what there is."""
        return store.turn([], [], {POOL: capacity}).claims

    def settle(self, store: Store, claim: Claim, state: State, **what: Any) -> bool:
        """Say what has become of a claim; return whether the store believes it."""
        return not store.turn([Update(claim, state, **what)], [], {POOL: NONE}).refused

    def state(self, store: Store, job: Any) -> State | None:
        """Return a job's state."""
        record = store.reader.record(job)
        return None if record is None else record.state
