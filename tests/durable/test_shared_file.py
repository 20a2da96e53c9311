"""A SQLite file that a store shares with another program: its tables, its numbers, its data."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from oddjob import Pool
from oddjob.durable.sqlite import schema
from oddjob.durable.sqlite.store import SqliteStore
from oddjob.errors import StoreUnusable
from oddjob.operations import StoreOperations
from oddjob.operations.findings import schema_of

NUMBERS = {"application_id": 1234, "user_version": 7}


def ask(path: Path, *queries: str) -> list[Any]:
    """Return the first value that each query finds."""
    with closing(sqlite3.connect(path)) as connection:
        return [connection.execute(each).fetchone()[0] for each in queries]


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(";".join(statements))


def numbers_in(path: Path) -> dict[str, int]:
    return dict(zip(NUMBERS, ask(path, *(f"PRAGMA {name}" for name in NUMBERS)), strict=True))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A database of another program, with data, and numbers of its own."""
    path = tmp_path / "shop.db"
    pragmas = [f"PRAGMA {name} = {number}" for name, number in NUMBERS.items()]
    change(path, "CREATE TABLE orders (item)", "INSERT INTO orders VALUES ('tea')", *pragmas)
    return path


@pytest.fixture
def pool(shop: Path) -> Iterator[Pool]:
    with Pool("shop", 1, store=f"sqlite:///{shop}", consume=False) as pool:
        yield pool


def test_a_database_of_another_program_can_have_a_store(
    shop: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with Pool("shop", 1, store=f"sqlite:///{shop}") as pool:
            assert pool.submit(len, "four").result(20) == 4
    assert ask(shop, "SELECT item FROM orders") == ["tea"]
    assert numbers_in(shop) == NUMBERS
    (said,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert "has tables of another program" in said.getMessage()


def test_jobs_are_stored_in_transactions_of_the_other_program(shop: Path, pool: Pool) -> None:
    with closing(sqlite3.connect(shop)) as connection:
        connection.execute("INSERT INTO orders VALUES ('cup')")
        pool.using(connection).submit(len, "rolled back")
        connection.rollback()
        connection.execute("INSERT INTO orders VALUES ('pot')")
        kept = pool.using(connection).submit(len, "kept")
        connection.commit()
    assert [record.id for record in pool.records()] == [kept.id]
    assert ask(shop, "SELECT group_concat(item) FROM orders") == ["tea,pot"]


@pytest.mark.parametrize("taken", ["TABLE Job (title)", "VIEW entry AS SELECT 1",
                                   "INDEX news_reader ON orders (item)"])  # fmt: skip
def test_a_file_where_a_name_is_taken_is_refused_and_left_as_it_was(shop: Path, taken: str) -> None:
    change(shop, f"CREATE {taken}")
    before = shop.read_bytes()
    with pytest.raises(StoreUnusable, match=f"{taken.split()[1].lower()}.*: choose another file"):
        SqliteStore(str(shop))
    assert shop.read_bytes() == before
    assert [*shop.parent.iterdir()] == [shop]


def test_what_only_looks_at_a_store_makes_none_in_a_file_of_another_program(shop: Path) -> None:
    before = shop.read_bytes()
    with pytest.raises(StoreUnusable, match=f"there is no store in {shop}"):
        StoreOperations(f"sqlite:///{shop}")
    with pytest.raises(StoreUnusable, match="of another program"):
        schema_of(f"sqlite:///{shop}")
    assert shop.read_bytes() == before
    assert [each.name for each in shop.parent.iterdir()] == [shop.name]


def test_another_program_may_come_second_and_set_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    SqliteStore(str(path)).close()
    assert numbers_in(path) == dict.fromkeys(NUMBERS, 0)
    change(path, *(f"PRAGMA {name} = {number}" for name, number in NUMBERS.items()))
    SqliteStore(str(path)).close()
    assert numbers_in(path) == NUMBERS


def test_a_store_has_a_write_ahead_log_whatever_another_program_has_chosen(shop: Path) -> None:
    SqliteStore(str(shop)).close()
    change(shop, "PRAGMA journal_mode = DELETE")
    SqliteStore(str(shop)).close()
    assert ask(shop, "PRAGMA journal_mode") == ["wal"]


def test_a_file_that_cannot_shrink_is_left_alone(shop: Path) -> None:
    """It has no room for that: auto_vacuum is chosen before the first table."""
    store = SqliteStore(str(shop))
    blob = "INSERT INTO orders VALUES (zeroblob(20000000))"
    change(shop, blob, "DELETE FROM orders")
    store._database.note_deleted()
    assert store._database.tidy() is None
    store.close()


def test_the_numbers_of_an_older_store_are_given_back(tmp_path: Path) -> None:
    """Before the fourth version, they said that the file is a store, and which version it has."""
    path = tmp_path / "jobs.db"
    change(path, schema.CREATE.partition(schema.MIGRATIONS[3].partition(";")[0])[0],
           "PRAGMA application_id = 0x6F646A62", "PRAGMA user_version = 3")  # fmt: skip
    assert schema_of(f"sqlite:///{path}") == (3, schema.VERSION)
    SqliteStore(str(path)).close()
    assert schema_of(f"sqlite:///{path}") == (schema.VERSION, schema.VERSION)
    assert numbers_in(path) == dict.fromkeys(NUMBERS, 0)
