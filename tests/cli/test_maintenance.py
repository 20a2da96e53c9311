"""What keeps a store well: doctor, migrate, torture."""

import json
import pickle
import re
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from oddjob import Pool
from oddjob.durable.record import Capacity, Partition, Submit
from oddjob.durable.redis.location import Location
from oddjob.durable.redis.store import RedisStore
from oddjob.durable.sqlite import schema
from oddjob.operations import StoreOperations, findings
from oddjob.schedule.clock import clock
from tests.cli.conftest import Call, Run, eventually, on_a_file
from tests.durable import jobs
from tests.redis_server import RedisServer

WAIT = 10.0
Read = Callable[..., Any]


def file_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


@on_a_file
def test_a_store_without_faults_passes(pool: Pool, url: str, run: Run, read: Read) -> None:
    file_of(url).chmod(0o600)
    found = read("doctor")
    assert all(set(each) == {"status", "what", "advice"} for each in found)
    assert {each["status"] for each in found} == {"ok"}
    assert "ok    oddjob" in run("doctor").stdout
    assert run("doctor", "--quiet").output == ""


@on_a_file
def test_what_people_should_know_is_said_with_what_to_do(running: Pool, url: str, run: Run) -> None:
    running.submit(jobs.fail, "disk").exception(WAIT)
    running.perform(jobs.note, 1)
    running.pause()
    file_of(url).chmod(0o644)
    warned = run("doctor", exit_code=1)
    assert re.search(r"3 of \d+ checks found something", warned.stderr)
    out = warned.stdout
    for words in (
        "warn  every user of the machine may read it (644)",
        "warn  pool mail is paused",
        "→ oddjob resume mail",
        "warn  pool mail: 1 job failed in the last hour",
        "→ oddjob list --pool mail --state failed",
    ):
        assert words in out


def words_of(read: Read, url: str) -> dict[str, str]:
    """Return what doctor says of a store, and how that is."""
    found = read("doctor", store=url, exit_code=None)
    return {each["what"]: each["status"] for each in found}


def test_what_a_server_does_with_jobs_is_said(
    redis_server: RedisServer, redis_url: str, read: Read
) -> None:
    """Whether it deletes them, how many are lost with its machine, and when it is full."""
    set_to = partial(redis_server.ask, "CONFIG", "SET")
    set_to("appendonly", "yes")
    try:
        found = words_of(read, redis_url)
        assert set(found.values()) == {"ok"}
        assert any(re.fullmatch(r"the server is (Redis|Valkey) [\d.]+", each) for each in found)
        assert (
            "about a second of jobs is lost if its machine loses power (appendfsync is everysec)"
            in found
        )
        set_to("appendfsync", "always")
        assert "nothing is lost if its machine loses power (appendfsync is always)" in words_of(
            read, redis_url
        )
        set_to("appendfsync", "no")
        what = "its latest jobs are lost when its machine loses power (appendfsync is no)"
        assert words_of(read, redis_url)[what] == "warn"
        set_to("appendonly", "no")
        what = "jobs since its last snapshot are lost when it ends (there is no append-only file)"
        assert words_of(read, redis_url)[what] == "warn"
        set_to("maxmemory-policy", "allkeys-lru")
        what = "it deletes jobs when its memory is full (maxmemory-policy is allkeys-lru)"
        assert words_of(read, redis_url)[what] == "warn"
        set_to("maxmemory", "1gb")
        accepting = f"{redis_url}?accept_eviction=1"
        assert words_of(read, accepting)[what] == "fail"
        assert "set it to noeviction" in str(words_of(read, redis_url))
        used = redis_server.ask("INFO", "memory")["used_memory"]
        set_to("maxmemory", used + used // 50)
        assert "of its memory is used" in str(words_of(read, accepting))
    finally:
        for name, value in (
            ("maxmemory", "0"), ("maxmemory-policy", "noeviction"), ("appendfsync", "everysec"),
            ("appendonly", "no"),
        ):  # fmt: skip
            set_to(name, value)


def test_a_server_that_hides_its_settings_is_looked_at_all_the_same(
    redis_server: RedisServer, redis_url: str, read: Read
) -> None:
    """As those do that are rented."""
    redis_server.ask("ACL", "SETUSER", "me", "on", ">secret", "+@all", "-config", "~*", "&*")
    try:
        found = words_of(read, redis_url.replace("unix://", "unix://me:secret@"))
        assert "its clock and this machine's agree" in found
        assert "appendfsync" not in str(found)
    finally:
        redis_server.ask("ACL", "DELUSER", "me")


@pytest.mark.parametrize(("shift", "said"), [(3600, "ahead of"), (-3600, "behind")])
def test_a_clock_that_is_not_the_servers_is_found(
    redis_url: str, read: Read, monkeypatch: pytest.MonkeyPatch, shift: int, said: str
) -> None:
    monkeypatch.setattr(clock, "_wall", lambda: time.time() + shift)
    what = f"this machine's clock is 3,600 s {said} the server's"
    assert words_of(read, redis_url)[what] == "warn"


def test_a_store_that_cannot_be_written_is_found(
    url: str, pool: Pool, request: pytest.FixtureRequest
) -> None:
    """It could be when it was opened, which is long ago for the dashboard."""
    pool.perform(jobs.note, 1)
    ok = findings.Finding("ok", "the store can be written")
    with StoreOperations(url) as store:
        assert ok in findings.findings(url, opened=store)
        if url.startswith("sqlite"):
            program = "CREATE TRIGGER t BEFORE UPDATE ON process BEGIN SELECT RAISE(ABORT, ''); END"
            with closing(sqlite3.connect(file_of(url))) as connection:
                connection.execute(program)
            found = [*findings.findings(url, opened=store)]
        else:
            redis_server: RedisServer = request.getfixturevalue("redis_server")
            redis_server.ask("CONFIG", "SET", "maxmemory", "1")
            try:
                found = [*findings.findings(url, opened=store)]
            finally:
                redis_server.ask("CONFIG", "SET", "maxmemory", "0")
    assert ok not in found
    assert any(each.what.startswith("the store cannot be written: ") for each in found)
    assert any(each.what.startswith("pool mail") for each in found)


def test_unsigned_pickle_on_a_server_is_found(redis_url: str, read: Read) -> None:
    """It is not unpickled, but another program has put it there."""
    store = RedisStore(Location(redis_url))
    store.join({}, 0)
    partition = Partition("mail", "tests.durable.jobs:note")
    store.turn([], [Submit(partition, pickle.dumps([[1], {}], 5))], {"mail": Capacity(0, 0)})
    store.leave()
    store.close()
    what = "pool mail: 1 job with unsigned pickle, which will fail unread"
    assert words_of(read, redis_url)[what] == "fail"


def test_functions_that_cannot_be_imported_are_named(
    pool: Pool, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("lost_module")
    exec("def note(number): ...", vars(module))
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, module.__name__, module)
        pool.perform_many(module.note, range(3))
    what = "3 jobs of lost_module:note, which cannot be imported"
    assert what in run("doctor", exit_code=1).stdout
    assert "lost_module" not in run("doctor", "--no-import", exit_code=1).stdout


@on_a_file
def test_a_fault_is_exit_code_1(
    pool: Pool, url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_of(url).chmod(0o666)
    result = run("doctor", exit_code=1)
    assert "fail  every user of the machine may write it (666)" in result.stdout
    assert "1 of " in result.stderr
    file_of(url).chmod(0o600)
    monkeypatch.setattr(findings, "_NO_SPACE", 1 << 60)
    monkeypatch.setattr(findings, "_LITTLE_SPACE", 1 << 60)
    assert "make room" in run("doctor", exit_code=1).stdout


@on_a_file
def test_a_store_of_this_version_needs_no_migration(pool: Pool, run: Run, read: Read) -> None:
    assert read("migrate", "--check") == {"found": schema.VERSION, "known": schema.VERSION}
    assert read("migrate") == {"found": schema.VERSION, "known": schema.VERSION}
    assert "as it should" in run("migrate").stderr


@on_a_file
def test_an_older_store_is_migrated_and_a_newer_one_refused(
    url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Pool("mail", store=url, consume=False).shutdown()
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    monkeypatch.setitem(schema.MIGRATIONS, schema.VERSION - 1, "SELECT 1")
    run("migrate", "--check", exit_code=1)
    run("migrate")
    run("migrate", "--check")
    with closing(sqlite3.connect(file_of(url))) as connection:
        connection.execute(f"UPDATE oddjob_schema SET version = {schema.VERSION + 1}")
        connection.commit()
    assert "update oddjob" in run("migrate", exit_code=3).stderr
    assert "update oddjob" in run("migrate", "--check", exit_code=1).stderr


@on_a_file
def test_a_file_of_another_program_is_not_touched(url: str, run: Run) -> None:
    with closing(sqlite3.connect(file_of(url))) as connection:
        connection.execute("CREATE TABLE theirs (id)")
    assert "of another program" in run("migrate", exit_code=3).stderr
    assert "of another program" in run("doctor", exit_code=1).stdout


def test_torture_loses_no_job_and_cleans_up(call: Call, url: str, tmp_path: Path) -> None:
    out, _ = call("torture", "--kills", "2", "--json")
    found = json.loads(out)
    assert found["kills"] == 2
    assert found["jobs"] >= found["acknowledged"] > 0
    assert (found["lost"], found["run_twice_without_a_crash"], found["unfinished"]) == (0, 0, 0)
    assert list(tmp_path.glob("*.db")) + list(tmp_path.glob("oddjob-torture-*")) == []
    if not url.startswith("sqlite"):  # its pool is gone, or empty
        with StoreOperations(url) as store:
            assert not any(any(pool.counts().values()) for pool in store.pools().values())


def test_a_signing_key_that_cannot_be_read_is_named(run: Run, pool: Pool) -> None:
    said = run("copy", "sqlite:///to.db", "--source-key", "/nowhere", exit_code=2).stderr
    assert "the signing key cannot be read" in said


@on_a_file
def test_a_store_is_copied_to_another_one(
    running: Pool, url: str, run: Run, redis_url: str, tmp_path: Path
) -> None:
    """While something is left in it, the exit code is 4."""
    jobs.gate.clear()
    first = running.options(key="k").submit(jobs.hang)
    assert jobs.entered.acquire(timeout=WAIT)
    running.options(key="k").perform(jobs.note, "behind")
    running.after(60).perform(jobs.note, "later")
    (tmp_path / "target").write_text(redis_url)
    result = run("copy", f"@{tmp_path}/target", exit_code=4)
    assert "Moved 1 job and 0 recurring jobs." in result.stderr
    assert "Left 1: is of a key with a job that stays" in result.stderr
    assert "1 job running, 1 waiting: call it again later" in result.stderr
    jobs.gate.set()
    first.result(WAIT)
    eventually(lambda: not running.counts()["queued"] + running.counts()["running"])
    assert json.loads(run("copy", redis_url, "--json").stdout) == {
        "moved": 0, "twins": 0, "entries": 0, "running": 0, "left": {},
    }  # fmt: skip
    assert run("status", store=redis_url).exit_code == 0
    assert "both stores are" in run("copy", url, exit_code=2).stderr
    assert "no store" in run("copy", redis_url, store=f"{url}2", exit_code=3).stderr
