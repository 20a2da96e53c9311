"""DirectSubmits: jobs that a user's thread stores by itself, on a connection of its own.

That takes half the time of the way through the store thread, which is mostly two switches of
threads. One thread at a time does so. Others leave their jobs to the store thread meanwhile, which
stores those of many threads in one call.

The runner sees to it that they are jobs of a process which does not run any of their pool, and does
not wait for their ends.
"""

import threading
from collections.abc import Sequence
from typing import Final

from oddjob.durable.record import Submit, Submitted
from oddjob.durable.redis.calls import Calls
from oddjob.durable.redis.connection import Connection
from oddjob.durable.redis.location import Location


class DirectSubmits:
    """The submits of one process that do not wait for its next turn.

    Thread safety: any thread may use it; ``_lock`` is held while the server answers.
    """

    def __init__(self, location: Location, calls: Calls) -> None:
        self._connection: Final = Connection(location)
        self._calls: Final = calls
        self._lock: Final = threading.Lock()
        self._number = 0  # of the last call; the server keeps it apart from that of `Calls`

    def submit(self, submits: Sequence[Submit]) -> list[Submitted] | None:
        """Store jobs of one pool; None: nothing has happened, the store thread has to do it.

        Raises:
            StoreFull, StoreUnusable: see `Connection.run`.
        """
        access = self._calls.pools.get(submits[0].partition.pool)
        if access is None or any(each.max_queue is not None or each.is_linked for each in submits):
            return None
        if not self._lock.acquire(blocking=False):
            return None
        try:
            self._number += 1
            call = access.submit_call(self._number, submits)
            if call is None:
                return None
            answer = self._connection.run(call.script, call.keys, *call.arguments)
        finally:
            self._lock.release()
        return access.read_submitted(answer, len(submits)) if answer else None

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()
