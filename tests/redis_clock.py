"""A Redis server whose time is this process's clock, for tests that let time pass."""

from hashlib import sha1
from typing import Any

import pytest

from oddjob.durable.redis.connection import Connection, Script
from oddjob.schedule.clock import clock

KEY = "clock of the tests"


def follow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have scripts read the time from a key, which every call sets."""
    run_all, ask, form = Connection._run_all, Connection.ask, Script.form

    def with_clock(script: Script, version: tuple[int, int]) -> tuple[str, bytes]:
        source = form(script, version)[0]
        source = source.replace(
            "redis.call('TIME')", f"{{math.floor(redis.call('GET', '{KEY}') / 1000000), "
            f"redis.call('GET', '{KEY}') % 1000000}}"
        )  # fmt: skip
        return source, sha1(source.encode()).hexdigest().encode()

    def answer(connection: Connection, *command: Any) -> Any:
        return (
            divmod(round(clock.wall() * 1e6), 10**6)
            if command == ("TIME",)
            else ask(connection, *command)
        )

    def at_that_time(connection: Connection, calls: Any) -> Any:
        connection._connect()
        connection._raw.send_command("SET", KEY, round(clock.wall() * 1e6))
        connection._receive()
        return run_all(connection, calls)

    monkeypatch.setattr(Script, "form", with_clock)
    monkeypatch.setattr(Connection, "_run_all", at_that_time)
    monkeypatch.setattr(Connection, "ask", answer)
