"""Calls: the pools that this process has entered, and its calls in them, one after the other.

A call has a number. The server keeps the last number of the process in each pool, and the answer,
so a call whose answer was lost is answered the same when it is sent again.

If a turn has failed because the server did not answer, it is not known whether its updates were
made. So it is finished before the next call: its updates are sent again under its number. Its
submits were said to have failed, and are left out.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from oddjob.durable.record import Partition
from oddjob.durable.redis.access import Caller, Part, PoolAccess, TurnAnswer
from oddjob.durable.redis.connection import Connection
from oddjob.durable.redis.location import Location
from oddjob.durable.redis.membership import Membership
from oddjob.durable.redis.packing import split_id
from oddjob.durable.redis.script import Script
from oddjob.durable.store import Evicted
from oddjob.schedule.clock import clock

_ENTER, _LEARN, _FORGET = Script("enter"), Script("learn"), Script("forget")
_ADD_PARTITION, _RECONCILE = Script("add_partition"), Script("reconcile")
_NEW_PARTITIONS: Final = 1  # the answer to a turn in which nothing was done


class Calls:
    """What one process does in the pools of a store.

    Thread safety: the store thread alone uses it.
    """

    def __init__(self, location: Location, connection: Connection, membership: Membership) -> None:
        self._location: Final = location
        self._connection: Final = connection
        self._membership: Final = membership
        self._number = 0  # of the last call
        self._unfinished: tuple[int, list[Part]] | None = None  # a turn that was not answered
        self._late: TurnAnswer | None = None  # the answer to it, which the next turn gives
        self.pools: Final[dict[str, PoolAccess]] = {}  # that this process has entered

    def begin(self) -> None:
        """Forget everything: the process has joined under a new number."""
        self.pools.clear()
        self._number = 0
        self._unfinished, self._late = None, None

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
        """Find the partitions that this process may claim from, as there are new ones."""
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

    def add_partitions(self, part: Part) -> None:
        """Have numbers for the partitions of all submits."""
        access, partitions = part.pool, part.pool.new_partitions(part.submits)
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

    def begin_turn(self) -> TurnAnswer:
        """Return the answer to a new turn, with what is known since the last one failed."""
        self._finish()
        answer, self._late = self._late or TurnAnswer(clock.wall()), None
        return answer

    def keep(self, answer: TurnAnswer) -> None:
        """Keep the answer to a turn that has failed in the middle, for the next one."""
        self._late = answer

    def take(self, parts: list[Part], answer: TurnAnswer) -> None:
        """Take a turn in some pools, in one round trip.

        Raises:
            Evicted: nothing has happened.
            StoreUnusable: it is not known what has happened; see above.
        """
        self._finish()
        self._number += 1
        self._take(self._number, parts, answer)

    def _take(self, number: int, parts: list[Part], answer: TurnAnswer) -> None:
        self._unfinished = number, parts
        answers = self._connection.run_all([each.pool.call(number, each) for each in parts])
        self._unfinished = None
        if answers and all(each is None for each in answers):
            raise Evicted
        stale = []  # nothing has happened there: this process does not know all partitions
        for part, found in zip(parts, answers, strict=True):
            self._membership.is_evicted |= found is None
            if found == _NEW_PARTITIONS:
                stale.append(part)
            else:
                answer.read(part, found, number)
        if stale:
            for part in stale:
                self.refresh(part.pool)
            self.take(stale, answer)

    def _finish(self) -> None:
        """Find out what has become of a turn that was not answered."""
        if self._unfinished is not None:
            number, parts = self._unfinished
            self._late = self._late or TurnAnswer(clock.wall())
            self._take(number, [part._replace(submits=[]) for part in parts], self._late)


def _unless_evicted(answer: Any) -> Any:
    """Return the answer of a script, which has none for a process that was taken over."""
    if answer is None:
        raise Evicted
    return answer
