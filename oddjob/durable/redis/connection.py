"""Connection: one to the server, and scripts that are run through it.

Guarantees
  * A command whose answer was lost is sent again over a new connection, so every script must be
    safe to repeat. The first time that is at once, then after pauses that grow at random.
  * No call waits for the server longer than `_PATIENCE`, and a few seconds of the sockets. Then
    `StoreUnusable` says whether its outcome is unknown. From then on each call tries once, until
    one succeeds.
  * With `min_replicas`, a call that stores jobs, or what has become of them, is answered when that
    many replicas have it. Until then it is as if the answer was lost.
  * A server that has no memory left refuses a script before it has written anything: `StoreFull`.

Assumptions: one thread uses a connection at a time. Passwords are in no text that is made here.
"""

import random
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    NoPermissionError,
    NoScriptError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import TimeoutError as LateAnswer

from oddjob.durable.redis.location import Keys, Location, pack_strings
from oddjob.durable.redis.script import Script
from oddjob.durable.redis.topology import connect
from oddjob.errors import StoreFull, StoreUnsafe, StoreUnusable

_PATIENCE: Final = 3.0  # seconds
_SOCKET_TIMEOUT: Final = 5.0
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
_FOR_REPLICAS: Final = 1000  # milliseconds, for which each try waits for them
_OLDEST: Final = (6, 2)  # version of the server

# What is wrong with a server, by what it says; else it does not answer.
_FAULTS: Final = {
    "NOREPLICAS": "lacks replicas",
    "read only replica": "is a replica: name the primary, or use redis+sentinel://",
}

# A server that restarts, loads, or hands over to another one: as a connection that was lost.
# (redis-py leaves out the first word of some errors. A subclass of `AskError` is `MovedError`.)
_COMES_BACK: Final = (
    *("READONLY", "LOADING", "MASTERDOWN", "UNBLOCKED", "NOREPLICAS", "BUSY"),
    *("read only replica", "MASTER is down", "max number of clients"),
)
_LOST: Final = (LostConnection, LateAnswer, AskError, TryAgainError, ClusterDownError)
Argument = bytes | str | int | float


class Call(NamedTuple):
    """A script, and what it is called with."""

    script: Script
    keys: Keys
    arguments: Sequence[Argument]
    is_for_replicas: bool = False  # they are to have what it writes


def pairs_of(answer: Sequence[Any]) -> dict[Any, Any]:
    """Return what an answer says by turns: fields and values, or members and scores."""
    return dict(zip(answer[::2], answer[1::2], strict=True))


def info_of(answer: bytes) -> dict[str, str]:
    """Return what a server says of itself, in answer to INFO."""
    lines = answer.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _pack(command: bytes, script: bytes, keys: Keys, arguments: Sequence[Argument]) -> bytes:
    """Return a command, as the server reads it (redis-py's own way takes three times as long)."""
    texts = [each if type(each) is bytes else str(each).encode() for each in arguments]
    count = b"*%d\r\n" % (3 + keys.count + len(texts))
    return b"".join((count, pack_strings((command, script)), keys.packed, pack_strings(texts)))


class Connection:
    """One connection to the server, which is opened when it is needed.

    Args:
        location: where the server is.
        patience: the seconds for which a call tries to reach the server.
    """

    def __init__(self, location: Location, *, patience: float = _PATIENCE) -> None:
        self._location: Final = location
        self._patience: Final = patience
        self._version = (0, 0)
        self._is_open = False
        self._server = ""  # which run of which server it is
        self.has_changed: bool = False  # it is another one than before, and may have lost data
        self._is_lost = False  # the server did not answer in time, and has not answered since
        self._raw: Final[Any] = location.connection(_SOCKET_TIMEOUT)  # redis-py's

    def run(self, script: Script, keys: Keys, *arguments: Argument) -> Any:
        """Run a script; return its answer.

        Raises:
            StoreFull: nothing has happened.
            StoreUnusable: the server cannot be reached, and what has happened is unknown; or it
                refuses what is asked of it.
        """
        (answer,) = self.run_all([Call(script, keys, arguments, script.needs_memory)])
        if isinstance(answer, StoreFull):
            raise answer
        return answer

    def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts one after the other, in one round trip; return their answers.

        The answer of one for which the server has no memory is a `StoreFull`.

        Raises:
            StoreUnusable: as above.
        """
        answers: list[Any] = self._persist(lambda: self._run_all(calls))
        return answers

    def ask(self, *command: Argument) -> Any:
        """Send a command that changes nothing; return its answer; raises as `run`."""

        def ask() -> Any:
            self._connect()
            self._raw.send_command(*command, check_health=False)
            return self._receive()

        return self._persist(ask)

    def time(self) -> float:
        """Return the time of the server, in seconds since the epoch; raises as `run`."""
        seconds, microseconds = self.ask("TIME")
        return int(seconds) + int(microseconds) / 1e6

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        self._is_open = False
        self._raw.disconnect()

    def _persist(self, attempt: Any) -> Any:
        give_up, pause = time.monotonic() + (0.0 if self._is_lost else self._patience), 0.0
        doubt = ""
        while True:
            try:
                answer = attempt()
            except RedisError as error:
                if self._is_open:  # else nothing was sent
                    doubt = "; what it was asked last may have been done"
                self.close()
                if not _may_pass(error):
                    raise StoreUnusable(f"{self._location}: {error}") from error
                if time.monotonic() + pause > give_up:
                    self._is_lost = True
                    found = [fault for text, fault in _FAULTS.items() if text in str(error)]
                    fault = found[0] if found else "does not answer"
                    raise StoreUnusable(f"{self._location} {fault}{doubt}: {error}") from error
            except BaseException:  # in the middle of an answer
                self.close()
                raise
            else:
                self._is_lost = False
                return answer
            time.sleep(random.uniform(pause / 2, pause))  # noqa: S311
            pause = min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)

    def _run_all(self, calls: Sequence[Call]) -> list[Any]:
        self._connect()
        connection, version = self._raw, self._version
        commands = [
            _pack(b"EVALSHA", call.script.form(version)[1], call.keys, call.arguments)
            for call in calls
        ]
        connection.send_packed_command([b"".join(commands)], check_health=False)
        answers = [self._receive_answer() for _ in calls]
        for n, call in enumerate(calls):
            if isinstance(answers[n], NoScriptError):  # nothing was done
                source = call.script.form(version)[0].encode()
                command = _pack(b"EVAL", source, call.keys, call.arguments)
                connection.send_packed_command([command], check_health=False)
                answers[n] = self._receive_answer()
        if self._location.min_replicas and any(call.is_for_replicas for call in calls):
            self._wait_for_replicas()
        return answers

    def _wait_for_replicas(self) -> None:
        wanted = self._location.min_replicas
        self._raw.send_command("WAIT", wanted, _FOR_REPLICAS, check_health=False)
        found = self._receive()
        if found < wanted:
            raise ResponseError(f"NOREPLICAS {found} of the {wanted} in min_replicas have it yet")

    def _receive_answer(self) -> Any:
        try:
            return self._receive()
        except NoScriptError as error:
            return error
        except ResponseError as error:
            if "OOM " in str(error) or "used memory" in str(error):
                return StoreFull(f"{self._location} has no memory left: {error}")
            raise

    def _receive(self) -> Any:
        answer = self._raw.read_response()
        if isinstance(answer, RedisError):
            raise answer
        return answer

    def _connect(self) -> None:
        if self._is_open:
            return
        connection = self._raw
        connect(self._location, connection)
        connection.send_command("INFO", check_health=False)
        info = info_of(self._receive())
        major, minor = info.get("redis_version", "0.0").split(".")[:2]
        self._version = int(major), int(minor)
        if self._version < _OLDEST:
            raise StoreUnusable(
                f"{self._location} is Redis {major}.{minor}; {_OLDEST[0]}.{_OLDEST[1]} or newer is "
                "needed"
            )
        self._check_mode(info)
        server = info.get("run_id", "")
        self.has_changed |= self._server not in ("", server)
        self._server = server
        policy = info.get("maxmemory_policy", "noeviction")
        may_evict = int(info.get("maxmemory", 0)) > 0 and policy != "noeviction"
        if may_evict and not self._location.accepts_eviction:
            raise StoreUnsafe(
                f"{self._location} deletes jobs when its memory is full (maxmemory-policy is "
                f"{policy}): set it to noeviction, or say ?accept_eviction=1 in the URL"
            )
        self._is_open = True

    def _check_mode(self, info: dict[str, str]) -> None:
        location = self._location
        if "sentinel_masters" in info:
            what = "a sentinel: begin with redis+sentinel://host:26379/mymaster"
            raise StoreUnusable(f"{location} is {what}")
        if info.get("cluster_enabled") == "1" and location.topology != "cluster":
            what = "a node of a cluster: begin with redis+cluster://"
            raise StoreUnusable(f"{location} is {what}")


def _may_pass(error: RedisError) -> bool:
    """Return whether the same command may succeed over another connection, or later."""
    if isinstance(error, (AuthenticationError, NoPermissionError)):
        return False
    if "CERTIFICATE" in str(error):  # as OpenSSL's names of errors
        return False
    return isinstance(error, _LOST) or any(each in str(error) for each in _COMES_BACK)
