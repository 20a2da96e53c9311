"""StoreAccess: how operations reach a store, from any thread, and who else uses it.

And what they make of the times that people give, and of those that the store knows.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import islice
from operator import methodcaller
from typing import Any, Final, Literal, NamedTuple, cast

from oddjob.durable.codec import Codec
from oddjob.durable.operation import RunnerOver
from oddjob.durable.runner import Runner
from oddjob.durable.store import StoreReader
from oddjob.quantities import Seconds, as_retention
from oddjob.schedule.clock import clock

_SLICE: Final = 200  # jobs, that are changed in one commit

Change = Literal["retry", "cancel", "delete"]
When = datetime | Seconds | str


class RunnerInfo(NamedTuple):
    """A process that uses a store.

    Attributes:
        id: its identifier in the store.
        host: the machine that it runs on, after the name that ``oddjob worker --name`` has given
            the process: ``web3``, or ``mail-1@web3``.
        pid: its process identifier there.
        joined: when it began to use the store.
        version: the version of OddJob that it uses.
        pools: the names of the pools of which it runs jobs.
        seen: when it has renewed its lease last, on Redis; None of a file, whose processes hold a
            lock that ends with them.
    """

    id: str
    host: str
    pid: int
    joined: datetime
    version: str
    pools: tuple[str, ...]
    seen: datetime | None = None


class StoreAccess:
    """A store, through this process's runner for it.

    Args:
        runner: returns the runner; it is another one when the former has ended.
        codec: how values become bytes in the store.
    """

    def __init__(self, runner: Callable[[], Runner], codec: Codec) -> None:
        self._runner: Final = runner
        self.codec: Final = codec

    @property
    def reader(self) -> StoreReader:
        """The half of the store that is read."""
        return self._runner().reader

    def change(self, method: str, *args: Any, **options: Any) -> Any:
        """Have the store thread call a method of `Store` in a turn; return its answer."""
        call = methodcaller(method, *args, **options)
        return self._ask(lambda runner: runner.call(call))

    def change_jobs(self, method: Change, jobs: Iterable[Any]) -> int:
        """Call a method of `Store` with jobs, a slice at a time; return how many it has changed."""
        count, left = 0, iter(jobs)
        while some := list(islice(left, _SLICE)):
            count += self.change(method, some)
        return count

    def submit(self, submits: Any) -> Any:
        """Store jobs of which this process hears no more."""
        return self._ask(lambda runner: runner.submit(submits))

    def runners(self) -> list[RunnerInfo]:
        """Return the processes that use the store."""
        return [
            RunnerInfo(
                str(each.id), each.host, each.pid, cast("datetime", time_of(each.joined)),
                each.version, each.pools, time_of(each.seen),
            )
            for each in self.reader.members()
        ]  # fmt: skip

    def _ask(self, ask: Callable[[Runner], Any]) -> Any:
        while True:
            try:
                return ask(self._runner())
            except RunnerOver:  # it has ended since
                continue


def seconds_of(name: str, when: When) -> float:
    """Return seconds since the epoch of a ``datetime``, or of a time that long ago."""
    if isinstance(when, datetime):
        return when.timestamp()
    return clock.wall() - as_retention(name, when)


def time_of(seconds: float | None) -> datetime | None:
    """Return seconds since the epoch as a ``datetime`` in UTC; the last one if it is later."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):  # the delay of a retry, or a tick that never comes
        return datetime.max.replace(tzinfo=UTC)
