"""StoreOperations: a whole store, for a program that has its URL and no pools."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Final, Self

from oddjob.durable.stores import RedisUrl, StoreUrl, codec_of, let_go, parse_url, runner_of
from oddjob.errors import JobNotFound
from oddjob.operations.access import Change, RunnerInfo, StoreAccess
from oddjob.operations.pool_operations import PoolOperations
from oddjob.operations.reasons import reasons_of
from oddjob.operations.record import Record, record_of, stored_id
from oddjob.signing import SigningKeys, as_signing_keys


class StoreOperations:
    """What can be seen of a store, and done to it; its jobs are not run here.

    Use it in a ``with`` block, or `close` it.

    Args:
        url: as for ``Pool(store=…)``.
        signing_keys: as for ``Pool``; to read the arguments of jobs.

    Raises:
        StoreUnusable: there is no such store, or it cannot be opened.
        ValueError: the URL is wrong.
    """

    def __init__(
        self,
        url: str,
        signing_keys: str | bytes | Iterable[str | bytes] | SigningKeys | None = None,
    ) -> None:
        self._url: Final = url
        given = signing_keys
        keys = None if given is None else as_signing_keys("signing_keys", given)
        opens = partial(runner_of, url, must_exist=True)
        self._access: Final = StoreAccess(opens, codec_of(url, keys))
        self._access.reader  # noqa: B018  (it raises if the store cannot be opened)

    @property
    def url(self) -> str:
        """The URL that was given, which may have a password."""
        return self._url

    @property
    def label(self) -> str:
        """What names the store, without a password."""
        return label_of(self._url)

    def pools(self) -> dict[str, PoolOperations]:
        """Return the pools that have had jobs, by name."""
        return {name: self.pool(name) for name in self._access.reader.pools()}

    def pool(self, name: str) -> PoolOperations:
        """Return the operations on the jobs of one pool, which may have none."""
        return PoolOperations(name, self._access)

    def record(self, job: object) -> Record:
        """Return the record of a job of any pool; raise `JobNotFound` if there is none."""
        stored = self._access.reader.record(str(job))
        if stored is None:
            raise JobNotFound(f"there is no job {job}")
        return record_of(stored, self._access)

    def why(self, record: Record) -> list[str]:
        """Return why a job is in its state, and what it waits for, in sentences for people."""
        return reasons_of(record, self._access)

    def runners(self) -> list[RunnerInfo]:
        """Return the processes that use the store, this one included."""
        return self._access.runners()

    def change(self, how: Change, records: Iterable[Record]) -> int:
        """Change jobs of any pools, as the methods of `PoolOperations` do; return how many."""
        return self._access.change_jobs(how, map(stored_id, records))

    def drain(self, runner: str) -> bool:
        """Ask a process to end as after SIGTERM: what it runs goes on, the rest is left to others.

        That is for ``oddjob worker``, and programs in `oddjob.run_forever`; another one logs that
        it was asked.

        Args:
            runner: as `RunnerInfo.id`.

        Returns:
            Whether it was asked: False if it runs no jobs, or is gone.
        """
        return bool(self._access.change("ask_to_end", runner))

    def server(self) -> dict[str, str]:
        """Return what Redis says of itself in ``INFO``, with its ``time``; of a file, nothing."""
        return self._access.reader.server()

    def try_write(self) -> None:
        """Write what changes nothing; raise `StoreFull` or `StoreUnusable` if that fails."""
        self._access.change("try_write")

    def close(self) -> None:
        """Let go of the store, unless pools of this process use it; what follows opens it again."""
        let_go(self._url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def label_of(url: str) -> str:
    """Return what names a store, the same for all URLs of it, without a password."""
    return parse_url(url).path


def min_replicas_of(url: str) -> int:
    """Return how many replicas of a server are to have what is acknowledged."""
    place = parse_url(url)
    return place.location.min_replicas if isinstance(place, RedisUrl) else 0


def file_of(url: str) -> Path | None:
    """Return the file of a store; None if it is none."""
    place = parse_url(url)
    return place.file if isinstance(place, StoreUrl) else None
