"""RedisStore: the store contract on one Redis server, for any number of processes and machines.

Guarantees
  * A call is one script in each pool that it concerns, and atomic there.
  * A call has a number, and the server keeps the last one of each process with its answer. When the
    answer is lost, the call is sent again, and is answered the same.
  * A server that has no memory left still takes updates: submits are turned away by themselves.
  * A process that was taken over is refused by its nonce, in each pool.
  * A server that comes back without its latest data (after a failover, or a crash between two
    writes to its disk) leaves no job behind that is running to it and to nobody else.

See `scripts/common.lua` for the keys.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from math import inf
from pathlib import Path
from typing import Any, Final

from oddjob.compat import override
from oddjob.durable.record import (
    Capacity,
    Claim,
    Entry,
    Record,
    Submit,
    Submitted,
    Turn,
    Update,
)
from oddjob.durable.redis.access import Part
from oddjob.durable.redis.calls import Calls
from oddjob.durable.redis.connection import Connection
from oddjob.durable.redis.direct_submits import DirectSubmits
from oddjob.durable.redis.links import pack_links
from oddjob.durable.redis.location import Location
from oddjob.durable.redis.membership import LEASE, ClaimMarks, Members, Membership
from oddjob.durable.redis.packing import full_id
from oddjob.durable.redis.reader import RedisReader
from oddjob.durable.redis.script import Script
from oddjob.durable.redis.wakeups import WakeupListener
from oddjob.durable.store import (
    SIZE_OF_RECORD,
    Marks,
    OpenTransaction,
    Store,
    StoreReader,
)
from oddjob.errors import StoreUnusable

_LONGEST_SLEEP: Final = 86400.0  # seconds: system calls take no more than some weeks
_AT_ONCE: Final = 500  # jobs that one script changes

_FAIL_UNKNOWN: Final = Script("fail_unknown")
_WATCH, _CANCEL, _RETRY, _DELETE = (Script(each) for each in ("watch", "cancel", "retry", "delete"))
_PURGE, _SAVE_STEP, _PAUSE = Script("purge"), Script("save_step"), Script("pause")
_END_PROCESS: Final = Script("end_process")
_RESCHEDULE: Final = Script("reschedule")
_PUT_ENTRY, _CHANGE_ENTRY = Script("put_entry"), Script("change_entry")
_FIRE_ENTRY: Final = Script("fire_entry", needs_memory=True)
_WAS_THERE: Final = 2  # the answer about an entry


class RedisStore(Store):
    """One process's access to the server.

    Args:
        location: the server, and the prefix of the keys.
        directory: where the processes of this machine meet; by default one that they all find.
        lease: seconds after which a process is taken over that is not heard of.
    """

    def __init__(
        self, location: Location, *, directory: Path | None = None, lease: float = LEASE
    ) -> None:
        self._location: Final = location
        self._connection: Final = Connection(location)
        self._members: Final = Members(location, self._connection)
        self._reader: Final = RedisReader(location)
        self._membership: Final = Membership(
            self._members, directory=directory, lease=lease, note=self.wake
        )
        self._listener: WakeupListener | None = None
        self._connection_is_doubtful = False
        self._calls: Final = Calls(location, self._connection, self._membership)
        self._direct: Final = DirectSubmits(location, self._calls)
        self._newest_member = 0  # sum of the counters of all pools: they only grow
        self._marks: Final = ClaimMarks(self._membership)
        try:
            self._connection.ask("PING")
        except BaseException:
            self.close()
            raise

    @property
    @override
    def marks(self) -> Marks:
        return self._marks

    @property
    @override
    def reader(self) -> StoreReader:
        return self._reader

    @override
    def wake(self) -> None:
        self._membership.peers.wake()

    @override
    def wait(self, timeout: float | None) -> list[Any]:
        peers = self._membership.peers
        timeout = _LONGEST_SLEEP if timeout is None else min(timeout, _LONGEST_SLEEP)
        return [each for each in peers.wait(timeout) if peers.is_dead(each)]

    # Membership.

    @override
    def join(self, pools: Mapping[str, Iterable[str]], workers: int) -> None:
        self._stop_listening()
        caller = self._membership.join()
        self._calls.begin()
        self._newest_member = 0
        self._listener = WakeupListener(
            self._location, caller.process, self.wake, self._doubt_connection
        )
        self._listener.start()
        for pool, functions in pools.items():
            self.learn(pool, functions, workers)
        self._meet_peers()

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.stop()
            self._listener = None

    def _doubt_connection(self) -> None:
        """Note that the connection of the wake-ups was lost: the other one may be no better."""
        self._connection_is_doubtful = True

    @override
    def learn(self, pool: str, functions: Iterable[str], workers: int) -> None:
        self._calls.learn(pool, functions)

    @override
    def forget(self, pool: str) -> None:
        self._calls.forget(pool)

    def _meet_peers(self) -> None:
        for process in self._membership.meet_peers():
            self.takeover(process)

    @override
    def now(self) -> float:
        return self._connection.time()

    @property
    @override
    def taken_over(self) -> int:
        return self._taken_over + self._membership.taken_over

    @override
    def takeover(self, process: Any) -> int:
        peers = self._membership.peers
        count = self._members.take_over(process, peers, is_own=False)
        self._taken_over += count
        peers.unwatch(process)  # also if another process was faster
        if count:
            self.wake()  # this one may have been waiting for these jobs
        return count

    @override
    def leave(self) -> None:
        self._stop_listening()
        caller = self._membership.caller
        if caller is not None:
            self._members.take_over(caller.process, self._membership.peers, is_own=True)
        self._membership.stop()

    @override
    def close(self) -> None:
        self._stop_listening()
        self._membership.stop()
        self._membership.peers.close()
        self._connection.close()
        self._direct.close()
        self._reader.close()

    # The hot call.

    @override
    def turn(
        self,
        updates: Sequence[Update],
        submits: Sequence[Submit],
        capacity: Mapping[str, Capacity],
    ) -> Turn:
        calls = self._calls
        calls.caller()
        if self._connection_is_doubtful:
            self._connection_is_doubtful = False
            self._connection.close()
        open_turn = calls.open_turn()
        answer, links = open_turn.answer, pack_links(submits)
        if self._connection.has_changed:
            self._reconcile(answer)
        submitted = self._take(
            self._parts(open_turn.left(updates), submits, links, capacity), answer
        )
        newest = sum(each.newest_member for each in calls.pools.values())
        if newest != self._newest_member or self._membership.has_new_peers:
            self._newest_member = newest
            with suppress(StoreUnusable):  # the turn is committed; the next one tries again
                self._meet_peers()
        if self._connection.has_changed:
            answer.next_look = 0.0
        answers = {pool: iter(each) for pool, each in submitted.items()}
        answer.submitted = [next(answers[each.partition.pool]) for each in submits]
        calls.close_turn()
        return answer

    def _reconcile(self, turn: Turn) -> None:
        """Find out what a server that has come back may have lost: what it acknowledged last."""
        for access in self._calls.pools.values():
            self._calls.reconcile(access)
        if self._listener is not None:
            self._listener.reconnect()  # the former server may be alive, but cut off from this one
        self._connection.has_changed = False
        turn.is_doubtful = True

    def _take(self, parts: list[Part], answer: Turn) -> dict[str, list[Submitted]]:
        for part in parts:
            self._calls.add_partitions(part.pool, part.submits)
        submitted = self._calls.take(parts)
        for part in parts:
            answer.unknown += part.pool.unknown()
            self._look_for_unknown(part, answer)
        return submitted

    def _parts(
        self,
        updates: Sequence[Update],
        submits: Sequence[Submit],
        links: Mapping[str, bytes],
        capacity: Mapping[str, Capacity],
    ) -> list[Part]:
        """Return the parts of a turn: one in each pool where there is something to do, or news."""
        mine: dict[str, list[Update]] = {}
        new: dict[str, list[Submit]] = {}
        for update in updates:
            mine.setdefault(update.claim.pool, []).append(update)
        for submit in submits:
            new.setdefault(submit.partition.pool, []).append(submit)
        return [
            Part(
                self._calls.enter(pool), mine.get(pool, []), new.get(pool, []),
                links.get(pool, b""), capacity.get(pool),
            )
            for pool in dict.fromkeys((*self._calls.pools, *capacity, *mine, *new))
        ]  # fmt: skip

    def _look_for_unknown(self, part: Part, turn: Turn) -> None:
        """Fail jobs whose function has been known to nobody for too long."""
        access = part.pool
        if access.look_for_unknown <= 0 and part.room is not None and access.foreign:
            partitions = [str(each) for each in access.foreign]
            after = f"{part.room.unknown_after:g}"
            look = self._calls.run(access, _FAIL_UNKNOWN, after, *partitions)
            access.look_for_unknown = float(look) if look else inf
        if access.look_for_unknown < inf:
            look = access.look_for_unknown
            turn.next_look = look if turn.next_look is None else min(turn.next_look, look)

    @override
    def submit_directly(self, submits: Sequence[Submit]) -> list[Submitted] | None:
        return self._direct.submit(submits)

    # By hand.

    @override
    def try_write(self) -> None:
        self._membership.try_write(self._calls.caller())

    @override
    def watch(self, job: Any) -> Record | None:
        for access, numbers in self._calls.by_pool([job]):
            self._calls.run(access, _WATCH, *numbers)  # first: it may end meanwhile
        return self._reader.record(job)

    @override
    def cancel(self, jobs: Iterable[Any]) -> int:
        return self._change(_CANCEL, jobs)

    @override
    def retry(self, jobs: Iterable[Any]) -> int:
        return self._change(_RETRY, jobs)

    @override
    def reschedule(self, delays: Mapping[Any, float]) -> int:
        count, delay_of = 0, {str(job): delay for job, delay in delays.items()}
        for access, numbers in self._calls.by_pool(delay_of):
            for at in range(0, len(numbers), _AT_ONCE):
                some = numbers[at : at + _AT_ONCE]
                pairs = [(each, delay_of[full_id(access.name, each)]) for each in some]
                count += self._calls.run(access, _RESCHEDULE, *chain.from_iterable(pairs))
        return count

    @override
    def delete(self, jobs: Iterable[Any]) -> int:
        return self._change(_DELETE, jobs)

    def _change(self, script: Script, jobs: Iterable[Any]) -> int:
        count = 0
        for access, numbers in self._calls.by_pool(jobs):
            for at in range(0, len(numbers), _AT_ONCE):
                count += self._calls.run(access, script, *numbers[at : at + _AT_ONCE])
        return count

    @override
    def ask_to_end(self, process: Any) -> bool:
        known = self._members.read().get(int(process))
        if known is None or not known["consumes"]:
            return False
        access = self._calls.enter(known["consumes"][0])  # one of them: it reads the news of all
        return bool(self._calls.run(access, _END_PROCESS, process))

    @override
    def pause(self, pool: str, *, is_paused: bool, reason: str = "") -> None:
        self._calls.run(self._calls.enter(pool), _PAUSE, int(is_paused), reason)

    @override
    def save_step(self, claim: Claim, name: str, value: bytes) -> bool:
        number = claim.id.rpartition(":")[2]
        arguments = (number, claim.token, name, value)
        return bool(self._calls.run(self._calls.enter(claim.pool), _SAVE_STEP, *arguments))

    # Transactions: there are none that a user could share.

    @override
    def check_connection(self, connection: Any) -> None:
        raise TypeError(
            "using() shares a transaction with jobs in a SQLite file; this pool's store is "
            f"{self._location}"
        )

    @override
    def insert_into(
        self, connection: Any, submits: Sequence[Submit], handles: Sequence[Any]
    ) -> list[Submitted]:
        self.check_connection(connection)
        return []

    @override
    def transaction(self, claim: Claim) -> OpenTransaction:
        raise StoreUnusable(
            f"{self._location} has no transactions: transaction() is for a store in a SQLite file"
        )

    # Recurring entries.

    @override
    def put_entry(self, entry: Entry) -> None:
        access = self._calls.enter(entry.partition.pool)
        partition = self._calls.put_partition(access, entry.partition)
        arguments = (entry.name, partition, entry.rule, entry.tick, entry.payload)
        self._calls.run(access, _PUT_ENTRY, *arguments)
        self._calls.refresh(access)

    @override
    def fire_entry(
        self,
        entry: Entry,
        next_tick: float,
        submits: Sequence[Submit],
        *,
        missed: int = 0,
        overlaps: bool = True,
    ) -> list[Submitted] | None:
        pool = entry.partition.pool
        access = self._calls.enter(pool)
        self._calls.add_partitions(access, submits)
        arguments = (entry.name, entry.tick, next_tick, missed, int(overlaps))
        found = self._calls.run(access, _FIRE_ENTRY, *arguments, *access.records(submits))
        if found == -1:
            return None
        return [Submitted(full_id(pool, each), is_new=True) for each in found]

    @override
    def pause_entry(self, pool: str, name: str, *, is_paused: bool) -> bool:
        return self._change_entry(pool, name, "pause" if is_paused else "resume")

    @override
    def delete_entry(self, pool: str, name: str) -> bool:
        return self._change_entry(pool, name, "delete")

    def _change_entry(self, pool: str, name: str, act: str) -> bool:
        answer = self._calls.run(self._calls.enter(pool), _CHANGE_ENTRY, name, act)
        return bool(answer == _WAS_THERE)

    # Old jobs.

    @override
    def purge(
        self, pool: str, keep_succeeded: int, failed_before: float, keep_bytes: float, budget: int
    ) -> int:
        budget = min(budget, _AT_ONCE)
        arguments = (keep_succeeded, failed_before, budget, keep_bytes, SIZE_OF_RECORD)
        purged: int = self._calls.run(self._calls.enter(pool), _PURGE, *arguments)
        return purged
