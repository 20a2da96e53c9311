"""The store contract, for every store that there is."""

from pathlib import Path

from oddjob.compat import override
from oddjob.durable.local_peers import LocalHub, LocalPeers
from oddjob.durable.sqlite.store import SqliteStore
from oddjob.durable.store import Store
from oddjob.testing.store_contract import StoreContract

_hubs: dict[Path, LocalHub] = {}


class TestSqlite(StoreContract):
    @override
    def open(self, directory: Path) -> Store:
        hub = _hubs.setdefault(directory, LocalHub())
        return SqliteStore(str(directory / "jobs.db"), peers=LocalPeers(hub))
