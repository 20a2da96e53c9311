"""WakeupListener: the thread that receives this process's wake-ups from the server.

Scripts publish them on a channel of this process. They carry nothing: what they are about is in the
store, and the process takes a turn.

Why no wake-up is lost: one that is published while there is no connection is not delivered; but
after each subscription the process is woken once, and takes a turn then. (Not after the first one,
before which nobody could mean this process.) A connection from which nothing comes any more is
noticed: the server has to answer a PING every few seconds.
"""

import random
import threading
from collections.abc import Callable
from typing import Any, Final

from redis.exceptions import NoPermissionError
from redis.exceptions import TimeoutError as LateAnswer

from oddjob.durable.redis.location import Location
from oddjob.durable.redis.topology import connect
from oddjob.errors import StoreUnusable
from oddjob.threads import ServiceThread

_PING_AFTER: Final = 5.0  # seconds without a message
_PATIENCE: Final = 3.0  # seconds, for an answer
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0


class WakeupListener:
    """One subscription, under a number of this process.

    Args:
        location: the server.
        process: the number.
        wake: is called for each wake-up.
        lost: is called when the connection is lost.
    """

    def __init__(
        self,
        location: Location,
        process: int,
        wake: Callable[[], object],
        lost: Callable[[], object],
    ) -> None:
        self._location: Final = location
        self._channel: Final = location.channels + str(process).encode()
        self._wake: Final = wake
        self._lost: Final = lost
        self._has_stopped: Final = threading.Event()
        self._has_subscribed: Final = threading.Event()
        self._refusal: NoPermissionError | None = None
        self._wakes = False  # after a subscription
        self._connection: Final = location.connection(_PATIENCE)
        self._thread: Final = ServiceThread(self._run, f"oddjob-wakeups-{process}")

    def start(self) -> None:
        """Start to listen; return when that is so, or after a moment.

        Raises:
            StoreUnusable: the user is not allowed to.
        """
        self._thread.start()
        if not self._has_subscribed.wait(_PATIENCE):
            self._wakes = True
        if self._refusal is not None:
            self.stop()
            channels = self._location.channels.decode()
            raise StoreUnusable(
                f"{self._location}: {self._refusal}; ACL SETUSER … &{channels}* allows it"
            )

    def stop(self) -> None:
        """Stop; the thread ends soon."""
        self._has_stopped.set()
        self.reconnect()

    def reconnect(self) -> None:
        """Close the connection, where the thread may be waiting for a message."""
        self._connection.disconnect()

    def _run(self) -> None:
        connection, pause = self._connection, 0.0
        while not self._has_stopped.is_set():
            try:
                connect(self._location, connection)
                connection.send_command("SUBSCRIBE", self._channel, check_health=False)
                connection.read_response()
                pause = 0.0
                self._has_subscribed.set()
                if self._wakes:
                    self._wake()
                self._wakes = True
                self._listen(connection)
            except Exception as error:  # redis-py's; or any, when `stop` has closed the connection
                if isinstance(error, NoPermissionError):
                    self._refusal = error
                    self._has_subscribed.set()
                if not self._has_stopped.is_set():
                    self._lost()
                self._has_stopped.wait(random.uniform(pause / 2, pause))  # noqa: S311
                pause = min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)
            finally:
                connection.disconnect()

    def _listen(self, connection: Any) -> None:
        while not self._has_stopped.is_set():
            if not connection.can_read(timeout=_PING_AFTER):
                connection.send_command("PING", check_health=False)
                if not connection.can_read(timeout=_PATIENCE):
                    raise LateAnswer
            if connection.read_response()[0] == b"message":
                self._wake()
