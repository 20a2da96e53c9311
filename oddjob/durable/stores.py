"""Stores: which store a URL means, and this process's runner for it.

All pools of a process that name the same store share one runner, which lives from the first of them
to the last. A forked child begins anew: it opens the store for itself when it first uses a pool.

Locking: ``lock`` guards the dict; nothing is opened under it.
"""

from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from oddjob.durable.runner import Runner
from oddjob.durable.sqlite.store import SqliteStore
from oddjob.durable.store import Store
from oddjob.locks import ProcessLock, after_fork_in_child

_IN_MEMORY: Final = ":memory:"


class StoreUrl(NamedTuple):
    """A store, and how to use it."""

    path: str
    is_durable: bool = True
    allow_network_filesystem: bool = False

    def open(self) -> Store:
        """Open the store; raise `StoreUnusable` if that cannot be done."""
        return SqliteStore(self.path, is_durable=self.is_durable,
                           allow_network_filesystem=self.allow_network_filesystem)  # fmt: skip


class _Stores(ProcessLock):
    def __init__(self) -> None:
        super().__init__()
        self.runners: dict[str, tuple[StoreUrl, Runner]] = {}


_stores: Final = _Stores()
after_fork_in_child(_stores.runners.clear)


def runner_of(url: str) -> Runner:
    """Return the runner of a store, which is opened if this process does not use it yet.

    Raises:
        StoreUnusable: the store cannot be opened.
        ValueError: the URL is wrong, or contradicts one that is in use.
    """
    wanted = parse_url(url)
    with _stores.lock:
        used, runner = _stores.runners.get(wanted.path, (wanted, None))
        if runner is None or runner.is_over:
            runner = Runner(wanted.open, url)
            _stores.runners[wanted.path] = wanted, runner
        elif used != wanted:
            raise ValueError(
                f"this process uses {used.path} already, with other options than {url}"
            )
    runner.start()
    return runner


def parse_url(url: str) -> StoreUrl:
    """Read ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or ``memory:``.

    Options follow as in ``?durability=normal&allow_network_filesystem=1``.

    Raises:
        ValueError: it is none of these, or has an unknown option.
    """
    if url == "memory:":
        return StoreUrl(_IN_MEMORY)
    parts = urlsplit(url)
    if parts.scheme != "sqlite" or parts.netloc or parts.path in ("", "/"):
        raise ValueError(f'a store is given as "sqlite:///jobs.db" or "memory:", not {url!r}')
    path = parts.path[1:]
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
    return StoreUrl(path if path == _IN_MEMORY else str(Path(path).absolute()), **options)


_FLAG: Final = {"1": True, "0": False}
_OPTIONS: Final[dict[str, tuple[str, dict[str, bool]]]] = {
    "durability": ("is_durable", {"full": True, "normal": False}),
    "allow_network_filesystem": ("allow_network_filesystem", _FLAG),
}
