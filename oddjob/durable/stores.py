"""Stores: finds the store that a URL names, and this process's runner for it.

All pools of a process that name the same store share one runner, which lives from the first of them
to the last. A forked child begins anew: it opens the store for itself when it first uses a pool.

Locking: ``lock`` guards the dict; nothing is opened under it.
"""

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from oddjob.durable.codec import Codec
from oddjob.durable.operation import RunnerOver, in_transaction
from oddjob.durable.runner import Runner
from oddjob.durable.serializers import JsonSerializer, PickleSerializer, SignedSerializer
from oddjob.durable.sqlite.location import version_at
from oddjob.durable.sqlite.store import SqliteStore
from oddjob.durable.store import Store
from oddjob.errors import StoreUnusable
from oddjob.locks import ProcessLock, after_fork_in_child
from oddjob.option_checks import SafeUrl
from oddjob.signing import SigningKeys

if TYPE_CHECKING:
    from oddjob.durable.redis.location import Location

_REDIS: Final = (  # schemes
    *("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster"),
    "rediss+cluster",
)
OPERATIONS: Final = ("submit", "call", "turn")  # whose errors are counted: see `counts_of`
_IN_MEMORY: Final = ":memory:"


class RedisUrl(NamedTuple):
    """A store on a Redis server. Its text has no password."""

    location: "Location"
    priority_bits: int = 32  # with the partition, they are a score of Redis

    @property
    def path(self) -> str:
        """What names the store."""
        return str(self.location)

    @property
    def exists(self) -> bool:
        """Whether there is a store; to look at an empty one on a server makes none."""
        return True

    def open(self) -> Store:
        """Open the store; raise `StoreUnusable` if that cannot be done."""
        try:
            from oddjob.durable.redis.store import RedisStore
        except ImportError as error:
            what = f'{self.path} needs the package redis: pip install "oddjob[redis]"'
            raise StoreUnusable(what) from error
        return RedisStore(self.location)


class StoreUrl(NamedTuple):
    """A store in a SQLite file, and how to use it."""

    path: str
    is_durable: bool = True
    allow_network_filesystem: bool = False
    priority_bits: int = 64

    @property
    def file(self) -> Path | None:
        """The file; None if the store is in memory."""
        return None if self.path == _IN_MEMORY else Path(self.path)

    @property
    def exists(self) -> bool:
        """Whether there is a store; True also of a file that cannot be read."""
        try:
            return self.path == _IN_MEMORY or version_at(Path(self.path)) is not None
        except sqlite3.Error:
            return True

    def open(self) -> Store:
        """Open the store; raise `StoreUnusable` if that cannot be done."""
        return SqliteStore(self.path, is_durable=self.is_durable,
                           allow_network_filesystem=self.allow_network_filesystem)  # fmt: skip


class _Stores(ProcessLock):
    def __init__(self) -> None:
        super().__init__()
        self.runners: dict[str, tuple[StoreUrl | RedisUrl, Runner]] = {}


_stores: Final = _Stores()
after_fork_in_child(_stores.runners.clear)


def runner_of(url: str, *, must_exist: bool = False) -> Runner:
    """Return the runner of a store, which is opened if this process does not use it yet.

    Args:
        url: of the store.
        must_exist: do not make a store where there is none.

    Raises:
        RuntimeError: the process was forked in the open transaction of a job.
        StoreUnusable: the store cannot be opened.
        ValueError: the URL is wrong, or contradicts one that is in use.
    """
    wanted = parse_url(url)
    if must_exist and not wanted.exists:
        raise StoreUnusable(f"there is no store in {wanted.path}: is its path right?")
    label = wanted.path if isinstance(wanted, RedisUrl) else url
    with _stores.lock:
        used, runner = _stores.runners.get(wanted.path, (wanted, None))
        if runner is None or runner.is_over:
            runner = Runner(wanted.open, label)
            _stores.runners[wanted.path] = wanted, runner
        elif used != wanted:
            raise ValueError(f"this process uses {used.path} {_difference(used, wanted)}")
    writer, transaction = in_transaction.get()
    if writer not in (None, runner) and writer._label == url and transaction.is_open:
        raise RuntimeError(
            "this process was forked by a job with an open transaction, until whose end nobody "
            "else can use the store: fork before the transaction begins"
        )
    try:
        runner.start()
    except BaseException:  # the next one may be opened with other options
        with _stores.lock:
            if _stores.runners.get(wanted.path) == (wanted, runner):
                del _stores.runners[wanted.path]
        raise
    return runner


def counts_of(url: str) -> tuple[int, dict[str, int]]:
    """Return what this process has counted since it began to use a store.

    These are the jobs that it has taken over from dead processes; and the errors by operation:
    ``submit``, ``call`` (by a user, or by a job), and ``turn``, which claims jobs and stores
    outcomes.
    """
    with _stores.lock:
        _, runner = _stores.runners.get(parse_url(url).path, (None, None))
    if runner is None or runner._thread is None:  # it has no store yet
        return 0, {}
    return runner.store.taken_over, {**runner._trouble.errors}


def let_go(url: str) -> None:
    """Close a store, unless a pool of this process uses it."""
    with _stores.lock:
        _, runner = _stores.runners.get(parse_url(url).path, (None, None))
    if runner is not None:
        with suppress(RunnerOver):
            runner.let_go()


def codec_of(url: str, keys: SigningKeys | None) -> Codec:
    """Return the codec of a store: pickle for files, which are trusted, else JSON or signatures.

    Raises:
        ValueError: the URL is wrong.
    """
    place = parse_url(url)
    if keys is not None:
        store = place.location.prefix if isinstance(place, RedisUrl) else "file"
        return Codec(SignedSerializer(keys, store))
    return Codec(JsonSerializer() if isinstance(place, RedisUrl) else PickleSerializer())


def parse_url(url: str) -> StoreUrl | RedisUrl:
    """Read ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``memory:`` or ``redis://host``.

    Options follow as in ``?durability=normal&allow_network_filesystem=1``; for those of a server
    see `Location`.

    Raises:
        ValueError: it is none of these, or has an unknown option.
    """
    if url == "memory:":
        return StoreUrl(_IN_MEMORY)
    url = SafeUrl(url)  # as errors show it
    if url.partition(":")[0].lower() in _REDIS:
        from oddjob.durable.redis.location import Location

        return RedisUrl(Location(url))
    parts = urlsplit(url, allow_fragments=False)  # the name of a file may have a #
    if parts.scheme != "sqlite":
        wanted = '"sqlite:///jobs.db", "redis://localhost" or "memory:"'
        raise ValueError(f"a store is given as {wanted}, not {url!r}")
    path = parts.path[1:]
    if not (url.startswith("sqlite:///") and path):
        raise ValueError(
            'a SQLite file is given as "sqlite:///jobs.db" or, by its whole path, as '
            f'"sqlite:////var/jobs.db", not {url!r}'
        )
    if path == _IN_MEMORY:
        raise ValueError(f'a store in memory is given as "memory:", not {url!r}')
    options: dict[str, Any] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        try:
            field, read = _OPTIONS[name]
            options[field] = read[value]
        except KeyError:
            known = "; ".join(f"{each}={'|'.join(_OPTIONS[each][1])}" for each in _OPTIONS)
            raise ValueError(
                f"unknown option {name}={value} in {url!r}; known are {known}"
            ) from None
    return StoreUrl(str(Path(path).absolute()), **options)


def _difference(used: StoreUrl | RedisUrl, wanted: StoreUrl | RedisUrl) -> str:
    """Return how a URL that is in use contradicts another one of the same store."""
    if isinstance(used, RedisUrl) or isinstance(wanted, RedisUrl):
        assert isinstance(used, RedisUrl) and isinstance(wanted, RedisUrl)  # noqa: S101, PT018
        names = used.location.difference(wanted.location)
        return f"with another {' and another '.join(names)} than this URL"
    words = {
        name: [_word_for(getattr(url, field), known) for url in (used, wanted)]
        for name, (field, known) in _OPTIONS.items()
    }
    return "with " + ", ".join(f"{name}={a}, not {b}" for name, (a, b) in words.items() if a != b)


def _word_for(value: bool, known: dict[str, bool]) -> str:
    return next(word for word in known if known[word] is value)


_FLAG: Final = {"1": True, "0": False}
_OPTIONS: Final[dict[str, tuple[str, dict[str, bool]]]] = {
    "durability": ("is_durable", {"full": True, "normal": False}),
    "allow_network_filesystem": ("allow_network_filesystem", _FLAG),
}
