"""The store contract, for every store that there is; and what SQLite is asked meanwhile."""

import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import oddjob
from oddjob.compat import override
from oddjob.durable.redis import newest
from oddjob.durable.redis.location import Location
from oddjob.durable.redis.store import RedisStore
from oddjob.durable.sqlite.store import SqliteStore
from oddjob.durable.store import Store
from oddjob.testing.store_contract import StoreContract
from oddjob.testing.store_operations import StoreOperationsContract
from oddjob.testing.store_suite import StoreSuite
from oddjob.testing.store_turns import StoreTurnsContract
from oddjob.testing.store_workflows import StoreWorkflowsContract
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
    def open_store(self, directory: Path) -> Store:
        peers = PeersWithTurn(self.hubs.setdefault(directory, LocalHub()))
        store = SqliteStore(str(directory / "jobs.db"), peers=peers)
        self.logs[store] = StatementLog(store, peers)
        return store

    @override
    def close_store(self, store: Store) -> None:
        store.leave()
        self.logs[store].check()
        store.close()


class TestSqlite(Sqlite, StoreContract):
    pass


class TestSqliteWorkflows(Sqlite, StoreWorkflowsContract):
    pass


class TestSqliteTurns(Sqlite, StoreTurnsContract):
    pass


class TestSqliteOperations(Sqlite, StoreOperationsContract):
    pass


class Redis(StoreSuite):
    """Times are the server's; processes of this machine find out about each other by themselves."""

    location: Location

    @pytest.fixture(autouse=True)
    def begin_on_server(self, redis_url: str) -> None:
        self.location = Location(redis_url)

    @override
    def open_store(self, directory: Path) -> Store:
        return RedisStore(self.location)


class TestRedis(Redis, StoreContract):
    pass


class TestRedisWorkflows(Redis, StoreWorkflowsContract):
    pass


class TestRedisTurns(Redis, StoreTurnsContract):
    pass


class TestRedisOperations(Redis, StoreOperationsContract):
    @pytest.mark.parametrize("at_once", [2, 30])
    def test_pages_of_indexes_that_are_read_by_parts(
        self, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(newest, "_IDS_AT_ONCE", at_once)
        monkeypatch.setattr(newest, "_SLACK", 100)
        self.test_pages_are_parts_of_the_whole_list(tmp_path)


def test_scripts_name_no_keys_but_those_that_they_are_given() -> None:
    """In a cluster, the server must know beforehand which keys a script uses."""
    scripts = list((Path(oddjob.__file__).parent / "durable/redis/scripts").glob("*.lua"))
    assert len(scripts) > 20
    for script in scripts:
        for command, key in re.findall(r"call\('(\w+)', ([^ ,)]+)", script.read_text()):
            is_given = command == "PUBLISH" or (key.isidentifier() and key not in ("id", "name"))
            assert is_given, f"{script.name}: {command} {key}"
