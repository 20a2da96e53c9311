"""StatementLog: what a store asks SQLite, and whether it may ask that."""

import re
from typing import NamedTuple

from oddjob.compat import override
from oddjob.durable.sqlite.store import SqliteStore
from tests.durable.local_peers import LocalHub, LocalPeers

# Tables with a row for each process, pool, limiter and so on; `watch` is asked for any one row.
SMALL = ["process", "consumer", "known", "pool", "partition", "limiter", "room", "watch", "entry",
         "fair_level"]  # fmt: skip


class PeersWithTurn(LocalPeers):
    """Peers that know whether they are in the writer's turn."""

    def __init__(self, hub: LocalHub) -> None:
        super().__init__(hub)
        self.hub = hub
        self.in_turn = False

    @override
    def lock(self) -> None:
        super().lock()
        self.in_turn = True

    @override
    def unlock(self) -> None:
        self.in_turn = False
        super().unlock()


class Statement(NamedTuple):
    text: str
    in_turn: bool

    @property
    def verb(self) -> str:
        return self.text.split()[0].upper()


class StatementLog:
    """All statements of the writing connection of a store, from its opening on."""

    def __init__(self, store: SqliteStore, peers: PeersWithTurn) -> None:
        self._connection = store._database.connection
        self.statements: list[Statement] = []

        def note(text: str) -> None:
            if not text.startswith("--"):  # of a trigger
                self.statements.append(Statement(text.strip(), peers.in_turn))

        self._connection.set_trace_callback(note)

    def check(self) -> None:
        self._connection.set_trace_callback(None)
        self.check_transactions()
        self.check_plans()

    def check_transactions(self) -> None:
        """Whatever is written is in a transaction that began as a writer, in the writer's turn."""
        is_open = False
        assert any(each.text == "BEGIN IMMEDIATE" for each in self.statements)
        for each in self.statements:
            if each.verb == "BEGIN":
                assert not is_open
                assert each.text.upper() == "BEGIN IMMEDIATE"
            is_open = each.verb == "BEGIN" or (is_open and each.verb not in ("COMMIT", "ROLLBACK"))
            is_look = each.verb in ("SELECT", "PRAGMA") and "checkpoint" not in each.text
            assert each.in_turn or (is_look and not is_open), each.text
            if (
                each.verb in ("INSERT", "UPDATE", "DELETE", "VACUUM")
                or "incremental_vacuum" in each.text
            ):
                assert is_open, each.text
                assert not each.text.upper().startswith("VACUUM")

    def check_plans(self) -> None:
        """Nothing is looked for by going through all jobs, nor sorted."""
        texts = {re.sub(r"\d+", "0", each.text[:300]): each.text for each in self.statements}
        for text in texts.values():
            if text.split()[0] not in ("SELECT", "INSERT", "UPDATE", "DELETE"):
                continue
            if text.startswith("UPDATE pool SET waiting = (SELECT count(*)"):
                continue  # once in the life of a pool, and only if it has max_queue
            if text.startswith("SELECT EXISTS"):
                continue  # any one row
            plan = [row[3] for row in self._connection.execute(f"EXPLAIN QUERY PLAN {text}")]
            for line in plan:
                scanned = re.match(r"SCAN (\w+)", line)
                is_small = scanned is None or scanned[1] in (
                    *SMALL,
                    "json_each",
                    "CONSTANT",
                    "sqlite_sequence",
                )
                assert is_small or "VIRTUAL TABLE" in line, (line, text)
                assert "TEMP B-TREE" not in line or "FROM entry" in text, (line, text)
