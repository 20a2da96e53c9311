"""The store contract, for every store that there is; and what SQLite is asked meanwhile."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oddjob.compat import override
from oddjob.durable.sqlite.store import SqliteStore
from oddjob.durable.store import Store
from oddjob.testing.store_contract import StoreContract
from oddjob.testing.store_operations import StoreOperationsContract
from oddjob.testing.store_suite import StoreSuite
from tests.durable.local_peers import LocalHub
from tests.durable.statements import PeersWithTurn, StatementLog

_opened: list[str] = []  # files, by Python code
_is_watching = threading.Event()


def _note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _is_watching.is_set():
        _opened.append(str(arguments[0]))


sys.addaudithook(_note_opened)  # there is no way to remove it


@pytest.fixture(autouse=True)
def nobody_but_sqlite_opens_its_files() -> Iterator[None]:
    """To close any descriptor of them gives up all of SQLite's locks (fault 5)."""
    _is_watching.set()
    yield
    _is_watching.clear()
    assert [each for each in _opened if each.endswith((".db", "-wal", "-shm"))] == []
    _opened.clear()


class Sqlite(StoreSuite):
    """No deferred transaction (fault 1), no checkpoint beside a commit (4), no scan (10, 23)."""

    hubs: dict[Path, LocalHub]
    logs: dict[Store, StatementLog]

    @pytest.fixture(autouse=True)
    def begin(self) -> None:
        self.hubs, self.logs = {}, {}

    @override
    def open(self, directory: Path) -> Store:
        peers = PeersWithTurn(self.hubs.setdefault(directory, LocalHub()))
        store = SqliteStore(str(directory / "jobs.db"), peers=peers)
        self.logs[store] = StatementLog(store, peers)
        return store

    @override
    def close(self, store: Store) -> None:
        store.leave()
        self.logs[store].check()
        store.close()


class TestSqlite(Sqlite, StoreContract):
    pass


class TestSqliteOperations(Sqlite, StoreOperationsContract):
    pass
