"""Calls: the pools that this process has entered, and its calls in them, one after the other.

A call has a number. The server keeps the last number of the process in each pool, and the answer,
so a call whose answer was lost is answered the same when it is sent again.

A turn takes several calls if it has to be repeated in some pools. If it fails in the middle, it is
left open, and the next turn goes on with it: what the server has answered so far is not lost. Where
the server did not answer, it is not known whether the updates were made. So they are sent again,
under the same number, before the next call. The submits were said to have failed, and are left out.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from oddjob.durable.record import Partition, Submit, Submitted, Turn, Update
from oddjob.durable.redis.access import Caller, Part, PoolAccess
from oddjob.durable.redis.connection import Connection
from oddjob.durable.redis.location import Location
from oddjob.durable.redis.membership import Membership
from oddjob.durable.redis.packing import split_id
from oddjob.durable.redis.script import Script
from oddjob.durable.store import Evicted
from oddjob.errors import StoreFull, StoreUnusable
from oddjob.schedule.clock import clock

_ENTER, _LEARN, _FORGET = Script("enter"), Script("learn"), Script("forget")
_ADD_PARTITION, _RECONCILE = Script("add_partition"), Script("reconcile")
_NEW_PARTITIONS: Final = 1  # the answer to a turn in which nothing was done


class OpenTurn:
    """A turn that has begun, and whose answer was not given to the runner yet."""

    def __init__(self) -> None:
        self.answer: Final = Turn(0.0)  # so far
        self.answered: Final[list[Update]] = []  # what the server has answered
        self.unanswered: tuple[int, list[Part]] | None = None  # number and parts of a call

    def left(self, updates: Sequence[Update]) -> Sequence[Update]:
        """Return those of the updates that are not answered yet."""
        answered = set(map(id, self.answered))
        return [each for each in updates if id(each) not in answered] if answered else updates

    def read(self, part: Part, found: Any, number: int) -> list[Submitted]:
        """Note what a call has answered in one pool; return what has become of the submits."""
        self.answered.extend(part.updates)
        if found is None:  # this process was taken over in this pool, and soon is in the others
            self.answer.refused += part.updates
            return part.refused(StoreUnusable("this process was taken for dead; try again"))
        return part.pool.read(found, part, number, self.answer)


class Calls:
    """What one process does in the pools of a store.

    Thread safety: the store thread alone uses it.
    """

    def __init__(self, location: Location, connection: Connection, membership: Membership) -> None:
        self._location: Final = location
        self._connection: Final = connection
        self._membership: Final = membership
        self._number = 0  # of the last call
        self._turn = OpenTurn()
        self.pools: Final[dict[str, PoolAccess]] = {}  # that this process has entered

    def begin(self) -> None:
        """Forget everything: the process has joined under a new number."""
        self.pools.clear()
        self._number = 0
        self._turn = OpenTurn()

    def caller(self) -> Caller:
        """Return this process; raise `Evicted` if it is not registered any more."""
        if self._membership.caller is None or self._membership.is_evicted:
            raise Evicted
        return self._membership.caller

    # Pools.

    def enter(self, pool: str) -> PoolAccess:
        """Return the access to a pool, of which this process is a member by now."""
        if pool in self.pools:
            return self.pools[pool]
        caller = self.caller()
        access = PoolAccess(self._location, pool, caller, self._membership.about)
        self.pools[pool] = access
        try:
            self._register()  # first: those who take this process over have to know
            arguments = (caller.pack(0), pool)
            meta = self._connection.run(_ENTER, access.keys, self._location.channels, *arguments)
            access.read_partitions(_unless_evicted(meta))
        except BaseException:
            del self.pools[pool]
            raise
        return access

    def _register(self) -> None:
        consumed = [each.name for each in self.pools.values() if each.consumes]
        self._membership.use(self.pools, consumed)

    def learn(self, pool: str, functions: Iterable[str]) -> None:
        """Run jobs of a pool, of these functions among others."""
        access = self.enter(pool)
        access.learn(functions)
        self._register()
        access.read_partitions(self.run(access, _LEARN, *functions))

    def forget(self, pool: str) -> None:
        """Run no more jobs of a pool."""
        access = self.enter(pool)
        access.forget()
        self._register()
        self.run(access, _FORGET)

    def refresh(self, access: PoolAccess) -> None:
        """Read the partitions again, as there are new ones."""
        if access.consumes:
            access.read_partitions(self.run(access, _LEARN))

    def reconcile(self, access: PoolAccess) -> None:
        """Tell a server that may have lost what it acknowledged last what this process does."""
        self.run(access, _RECONCILE, *[each.rpartition(":")[2] for each in access.held])
        for partition in access.submitted:
            self.put_partition(access, partition)
        if access.consumes:
            self.learn(access.name, access.functions)

    def put_partition(self, access: PoolAccess, partition: Partition) -> int:
        """Return the number of a partition, which is stored if it is new."""
        number: int = self.run(access, _ADD_PARTITION, *access.partition_arguments(partition))
        return number

    def add_partitions(self, access: PoolAccess, submits: Sequence[Submit]) -> None:
        """Note the numbers of the partitions of all submits, which are stored if they are new."""
        partitions = access.new_partitions(submits)
        for partition in partitions:
            access.add_partition(partition, self.put_partition(access, partition))
        if partitions:
            self.refresh(access)

    def by_pool(self, jobs: Iterable[Any]) -> Iterator[tuple[PoolAccess, list[bytes]]]:
        """Yield the numbers of jobs by pool, but for those that are no ids of the store."""
        places: dict[str, list[bytes]] = {}
        for job in jobs:
            if (place := split_id(job)) is not None:
                places.setdefault(place[0], []).append(place[1])
        known = self._location.store_keys().all[3]
        for pool, numbers in places.items():
            if pool in self.pools or self._connection.ask("HEXISTS", known, pool):
                yield self.enter(pool), numbers

    # Calls.

    def run(self, access: PoolAccess, script: Script, *arguments: Any) -> Any:
        """Run a script in a pool.

        Raises:
            Evicted: nothing has happened.
        """
        self._finish()
        self._number += 1
        caller = self.caller().pack(self._number)
        answer = self._connection.run(
            script, access.keys, self._location.channels, caller, *arguments
        )
        return _unless_evicted(answer)

    def open_turn(self) -> OpenTurn:
        """Return the turn that is open: an earlier one that has failed, or a new one."""
        self._finish()
        self._turn.answer.now = clock.wall()
        return self._turn

    def close_turn(self) -> None:
        """Forget the turn: its answer is given."""
        self._turn = OpenTurn()

    def take(self, parts: list[Part]) -> dict[str, list[Submitted]]:
        """Take the open turn in some pools; return what has become of the submits, by pool.

        Raises:
            Evicted: nothing has happened.
            StoreUnusable: it is not known what has happened; see above.
        """
        self._finish()
        self._number += 1
        return self._take(self._number, parts)

    def _take(self, number: int, parts: list[Part]) -> dict[str, list[Submitted]]:
        """Call the server until it has taken all parts: once, if all goes well."""
        submitted: dict[str, list[Submitted]] = {}
        while True:
            calls = [each.pool.call(number, each) for each in parts]
            self._turn.unanswered = number, parts
            answers = self._connection.run_all(calls)
            self._turn.unanswered = None
            if answers and all(each is None for each in answers):
                raise Evicted
            stale, full = [], []  # where nothing has happened
            for part, found in zip(parts, answers, strict=True):
                if found == _NEW_PARTITIONS:
                    stale.append(part)
                    continue
                if isinstance(found, StoreFull):
                    full.append(part.without_submits())
                    answer = part.refused(found)
                else:
                    self._membership.is_evicted |= found is None
                    answer = self._turn.read(part, found, number)
                if part.submits:
                    submitted[part.pool.name] = answer
            for part in stale:
                self.refresh(part.pool)
            parts = stale + full
            if not parts:
                return submitted
            self._number += 1
            number = self._number

    def _finish(self) -> None:
        """Find out what has become of a call that was not answered."""
        if self._turn.unanswered is not None:
            number, parts = self._turn.unanswered
            self._take(number, [each.without_submits() for each in parts])


def _unless_evicted(answer: Any) -> Any:
    """Return the answer of a script, which has none for a process that was taken over."""
    if answer is None:
        raise Evicted
    return answer
