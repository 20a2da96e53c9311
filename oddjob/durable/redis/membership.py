"""Membership: the number of this process in a store, its lease, and who else is there.

A process draws a number, enters its machine's peers under it, and registers. A thread renews its
lease. A process whose lease has ended is taken over by another one that has seen so at two beats in
a row: after an outage of the server, which may be longer than a lease, all have time to come back.

Processes on one machine find out about each other's death at once, as with a file: see `peers`.
They meet in a directory that is named for the store's random id.
"""

import json
import logging
import os
import random
import tempfile
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from oddjob.compat import override
from oddjob.durable.local_peers import LocalPeers
from oddjob.durable.peers import FilePeers, Peers
from oddjob.durable.record import MAX_CRASHES, Claim, Member, host_name
from oddjob.durable.redis.access import Caller
from oddjob.durable.redis.connection import Connection, pairs_of
from oddjob.durable.redis.location import Location
from oddjob.durable.redis.packing import pack_begun
from oddjob.durable.redis.script import Script
from oddjob.durable.store import Evicted, Marks
from oddjob.errors import StoreUnusable
from oddjob.log import log
from oddjob.threads import ServiceThread

LEASE: Final = 15.0  # seconds
_BEATS: Final = 3  # in a lease
_NONCE_BYTES: Final = 8
_PORTION: Final = 200  # claims that one call puts back

_NUMBER: Final = Script("store_number")
_REGISTER: Final = Script("store_register")
_TRY_WRITE: Final = Script("store_register", needs_memory=True)
_BEAT: Final = Script("store_beat")
_CONDEMN: Final = Script("store_condemn")
_REMOVE: Final = Script("store_remove")
_TAKEOVER: Final = Script("takeover")


class Members:
    """The processes of a store, as one connection sees them.

    Args:
        location: the server.
        connection: to it.
        place: where this process meets its peers. Processes with another place cannot tell whether
            it is alive, nor which of its jobs have begun.

    Thread safety: one thread uses it, as its connection.
    """

    def __init__(self, location: Location, connection: Connection, place: str = "") -> None:
        self.location: Final = location
        self.connection: Final = connection
        self.place: str = place
        self._keys: Final = location.store_keys()

    def run(self, script: Script, *arguments: Any) -> Any:
        """Run a script on the whole store."""
        return self.connection.run(script, self._keys, self.location.channels, *arguments)

    def read(self) -> dict[int, dict[str, Any]]:
        """Return what is known of all processes, by their numbers."""
        found = self.connection.ask("HGETALL", self._keys.all[1])
        return {
            int(number): json.loads(known[_NONCE_BYTES:])
            for number, known in pairs_of(found).items()
        }

    def records(self) -> list[Member]:
        """Return the processes, as people see them."""
        found = self.connection.ask("ZRANGE", self._keys.all[2], 0, -1, "WITHSCORES")
        ends = {int(number): float(end) for number, end in pairs_of(found).items()}
        return [
            Member(
                number, known["host"], known["pid"], known["joined"], known["version"],
                tuple(known["consumes"]),
                ends[number] - known.get("lease", LEASE) if number in ends else None,
            )
            for number, known in sorted(self.read().items())
        ]  # fmt: skip

    def take_over(self, process: int, peers: Peers, *, is_own: bool) -> int:
        """Put back the jobs of a process that is dead, or leaves; return how many."""
        found = self.run(_CONDEMN, process)
        if not found:
            return 0
        known = json.loads(found[_NONCE_BYTES:])
        begun = b"" if is_own else b"all"
        if not is_own and known["place"] == self.place:
            begun = pack_begun(peers.marks_of(process))
        count = 0
        for pool in known["pools"]:
            keys = self.location.pool_keys(pool, process)
            arguments = (self.location.channels, process, begun, MAX_CRASHES)
            portion = _PORTION
            while portion == _PORTION:
                portion = self.connection.run(_TAKEOVER, keys, *arguments)
                count += portion
        self.run(_REMOVE, process)
        return count


class Membership:
    """This process, from `join` until it leaves or is taken over.

    Args:
        members: for the store thread.
        directory: where the processes of this machine meet; by default one that they all find.
        lease: seconds.
        note: is called by the thread of the lease, when the store thread should look.

    Thread safety: the store thread uses it. The thread of the lease sets `is_evicted` and
    `has_new_peers`, which the store thread resets, and has `taken_over` to itself.
    """

    def __init__(
        self,
        members: Members,
        *,
        directory: Path | None,
        lease: float,
        note: Callable[[], object],
    ) -> None:
        self._members: Final = members
        self._directory: Final = directory
        self._lease: Final = lease
        self._note: Final = note
        self.taken_over: int = 0  # jobs of dead processes, by the thread of the lease
        self._store_id = b""
        self._stop: threading.Event | None = None
        self._known: dict[str, Any] = {"host": "", "pid": 0}
        self.peers: Peers = LocalPeers()
        self.caller: Caller | None = None  # while it has joined
        self.is_evicted: bool = False
        self.has_new_peers: bool = False

    def join(self) -> Caller:
        """Register this process under a new number."""
        from oddjob import __version__  # it is there by now

        self.stop()
        number, now = self._draw()
        while not self.peers.is_dead(number):  # a server that lost data gave it twice
            number, now = self._draw()
        self.peers.enter(number)  # before others can see it
        caller = Caller(os.urandom(_NONCE_BYTES), number)
        self._known = {
            "host": host_name(), "pid": os.getpid(), "place": self._members.place,
            "joined": float(now), "lease": self._lease, "version": __version__,
            "pools": [], "consumes": [],
        }  # fmt: skip
        self._register(caller, is_new=True)
        self.caller, self.is_evicted, self.has_new_peers = caller, False, True
        self._stop = threading.Event()
        keep = partial(self._keep, caller, self._stop)
        ServiceThread(keep, f"oddjob-lease-{caller.process}").start()
        return caller

    def _draw(self) -> tuple[int, bytes]:
        """Return a number for this process, and the time; meet the peers of that store."""
        number, store_id, now = self._members.run(_NUMBER, os.urandom(16).hex())
        if store_id != self._store_id:
            self._open_peers(store_id)
        return number, now

    def _open_peers(self, store_id: bytes) -> None:
        name = store_id.decode()
        self.peers.close()
        try:
            directory = self._directory or _meeting_place()
            directory = directory / name
            directory.mkdir(exist_ok=True)
            self.peers = FilePeers(directory)
            self._members.place = self.peers.place
        except (ImportError, OSError):  # there is none: leases alone say who is dead
            self.peers = LocalPeers()
            self._members.place = os.urandom(16).hex()
        self._store_id = store_id

    @property
    def about(self) -> str:
        """Which process this is, for people."""
        return f"{self._known['host']}:{self._known['pid']}"

    def use(self, pools: Iterable[str], consumed: Iterable[str]) -> None:
        """Note which pools this process uses, before it enters them.

        Raises:
            Evicted: it was taken over.
        """
        assert self.caller is not None  # noqa: S101  (as its caller has found)
        self._known |= {"pools": sorted(pools), "consumes": sorted(consumed)}
        self._register(self.caller, is_new=False)

    def try_write(self, caller: Caller) -> None:
        """Register what is registered once more, if the server has memory left for new jobs.

        Raises:
            Evicted: it was taken over.
            StoreFull: it has none.
        """
        self._register(caller, is_new=False, script=_TRY_WRITE)

    def _register(self, caller: Caller, *, is_new: bool, script: Script = _REGISTER) -> None:
        known = json.dumps(self._known)
        arguments = (caller.process, caller.nonce, known, self._lease, int(is_new))
        if not self._members.run(script, *arguments, *self._known["pools"]):
            raise Evicted

    def meet_peers(self) -> list[int]:
        """Watch the processes of this machine; return those that are dead already."""
        assert self.caller is not None  # noqa: S101  (as its caller has found)
        self.has_new_peers = False
        peers, place = self.peers, self._members.place
        others = {
            number: known
            for number, known in self._members.read().items()
            if number != self.caller.process and known["place"] == place
        }
        for gone in peers.watched() - others.keys():
            peers.unwatch(gone)
        new = others.keys() - peers.watched()
        for number in new:
            peers.watch(number, others[number]["pid"], place)
        return [number for number in new if peers.is_dead(number)]

    def stop(self) -> None:
        """Renew the lease no longer, and be dead to the peers."""
        if self._stop is not None:
            self._stop.set()
            self._stop = None
        self.caller = None
        self.peers.leave()

    # The thread of the lease.

    def _keep(self, caller: Caller, stop: threading.Event) -> None:
        connection = Connection(self._members.location, patience=0.0)
        members = Members(self._members.location, connection, self._members.place)
        newest, expired_before = caller.process, set[int]()
        pause = self._lease / _BEATS
        while not stop.wait(pause):
            pause = self._lease / _BEATS
            try:
                answer = members.run(_BEAT, caller.process, caller.nonce, self._lease)
                if not answer:
                    self.is_evicted = self.caller is caller
                    self._note()
                    break
                if int(answer[0]) != newest:
                    newest, self.has_new_peers = int(answer[0]), True
                    self._note()
                expired = set(map(int, answer[1])) - {caller.process}
                for process in expired & expired_before:
                    self.taken_over += members.take_over(process, self.peers, is_own=False)
                expired_before = expired
            except Exception as error:  # whatever it is, the lease has to be kept
                if not isinstance(error, StoreUnusable):
                    log(logging.ERROR, "the lease of this process is not renewed", error=error)
                expired_before = set()
                pause = random.uniform(0, min(2.0, self._lease / _BEATS))  # noqa: S311
        connection.close()


class _Mark(NamedTuple):
    id: int
    token: int


class ClaimMarks(Marks):
    """Where this process notes what has begun: a file that its peers can read."""

    def __init__(self, membership: Membership) -> None:
        self._membership: Final = membership

    @override
    def mark(self, place: int, claim: Claim) -> None:
        number = int(claim.id.rpartition(":")[2])
        self._membership.peers.mark(place, _Mark(number, claim.token))

    @override
    def unmark(self, place: int) -> None:
        self._membership.peers.unmark(place)


def _meeting_place() -> Path:
    """Return a directory of this user's, for the processes of this machine.

    Raises:
        OSError: there is none, or it is another user's.
    """
    if not hasattr(os, "getuid"):
        raise OSError("Windows has no users with numbers")
    directory = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    directory /= f"oddjob-{os.getuid()}"
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    if directory.stat().st_uid != os.getuid():
        raise PermissionError(f"{directory} is another user's")
    return directory
