"""Two hosts with a network between them and a Redis server, one of which is cut off for a while."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import oddjob
from tests.durable import service
from tests.durable.service import work
from tests.hang import until
from tests.long import IS_LONG
from tests.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
WAIT = 30.0

pytestmark = pytest.mark.skipif(not IS_LONG, reason="takes seconds: make stress")
LEASE = "1"  # seconds


class Network:
    """A namespace for the server, and one for each host, linked to it by a cable of its own."""

    def __init__(self, hosts: int) -> None:
        self.server = f"oddjob-{os.getpid()}"
        self.hosts = [f"{self.server}-{n}" for n in range(hosts)]
        self.namespaces: list[str] = []
        for name in (self.server, *self.hosts):
            self._ip("netns", "add", name)
            self.namespaces.append(name)
            self._ip("-n", name, "link", "set", "lo", "up")
        for n, host in enumerate(self.hosts):
            end = ("peer", "name", "eth0", "netns", host)
            self._ip("-n", self.server, "link", "add", f"host{n}", "type", "veth", *end)
            self._ip("-n", self.server, "addr", "add", f"192.0.2.{4 * n + 1}/30", "dev", f"host{n}")
            self._ip("-n", self.server, "link", "set", f"host{n}", "up")
            self._ip("-n", host, "addr", "add", f"192.0.2.{4 * n + 2}/30", "dev", "eth0")
            self._ip("-n", host, "link", "set", "eth0", "up")

    def _ip(self, *command: str) -> None:
        subprocess.run(["ip", *command], check=True, capture_output=True)

    def launcher(self, namespace: str) -> list[str]:
        return ["ip", "netns", "exec", namespace]

    def cut(self, host: int) -> None:
        """Pull a host's cable out: what is sent is lost, and nobody is told."""
        self._ip("-n", self.server, "link", "set", f"host{host}", "down")

    def restore(self, host: int) -> None:
        self._ip("-n", self.server, "link", "set", f"host{host}", "up")

    def close(self) -> None:
        for name in self.namespaces:
            self._ip("netns", "delete", name)


@pytest.fixture
def network() -> Iterator[Network]:
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("needs root, and the program ip, for network namespaces")
    try:
        network = Network(2)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this machine allows no network namespaces: {error.stderr.decode()}")
    yield network
    network.close()


def test_a_host_that_was_cut_off_loses_its_jobs_and_joins_again(
    network: Network, tmp_path: Path
) -> None:
    """They are run on the other one after the lease; the first one cannot end them any more."""
    addresses = ("--bind", "0.0.0.0", "--protected-mode", "no")
    server = RedisServer(*addresses, port=6379, launcher=network.launcher(network.server))
    processes: list[subprocess.Popen[str]] = []

    def start(host: int) -> None:
        (tmp_path / str(host)).mkdir()
        url = f"redis://192.0.2.{4 * host + 1}"
        command = [*network.launcher(network.hosts[host]), sys.executable, "-m"]
        command += ["tests.durable.service", "consume", url, f"{tmp_path}/log"]
        environment = {"XDG_RUNTIME_DIR": f"{tmp_path}/{host}", "ODDJOB_LEASE": LEASE}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **environment}
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    gate, log = tmp_path / "gate", tmp_path / "log"
    try:
        start(0)
        with oddjob.Pool(service.POOL, 1, store=server.url, consume=False) as pool:
            job = pool.submit(service.hold, str(gate))
            until(log.exists)
            start(1)
            first, second = (process.pid for process in processes)
            network.cut(0)
            until(lambda: log.read_text().split()[1::2] == [str(first), str(second)])
            gate.touch()
            assert job.result(WAIT) == second
            network.restore(0)
            until(
                lambda: first in {each.result(WAIT) for each in pool.submit_many(work, [0.05] * 16)}
            )
            (record,) = (each for each in pool.records() if each.id == job.id)
            assert (record.id, record.state, record.crashes) == (job.id, "succeeded", 1)
            assert pool.find(job.id).result(WAIT) == second
    finally:
        for process in processes:
            process.kill()
            process.communicate()
        server.close()
