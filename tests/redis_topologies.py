"""A Redis master with a replica and a sentinel, and a small cluster, of the tests' own."""

import signal

import redis
from redis.crc import key_slot

from tests.hang import until
from tests.redis_server import RedisServer, free_port

SLOTS = 16384


def has_replicated(master: RedisServer) -> bool:
    """Return whether a replica has all that its master has acknowledged so far."""
    with redis.Redis(unix_socket_path=str(master.socket), single_connection_client=True) as client:
        client.set("{oddjob}:written", "")  # what WAIT waits for is of its own connection
        return bool(client.wait(1, 1000) == 1)


class Replicated:
    """A master, a replica that is promoted soon after the master has died, and a sentinel."""

    def __init__(self) -> None:
        self.master = RedisServer("--repl-diskless-sync-delay", "0", port=free_port())
        self.replica = RedisServer(
            "--replicaof", "127.0.0.1", str(self.master.port), port=free_port()
        )
        watched = f"sentinel monitor main 127.0.0.1 {self.master.port} 1\n"
        delays = "sentinel down-after-milliseconds main 200\nsentinel failover-timeout main 1000\n"
        self.sentinel = RedisServer("--sentinel", port=free_port(), config=watched + delays)
        until(lambda: self.sentinel.ask("SENTINEL", "REPLICAS", "main"))
        until(lambda: has_replicated(self.master))

    @property
    def url(self) -> str:
        """The URL of the master, as the sentinels know it; one of them cannot be reached."""
        return f"redis+sentinel://127.0.0.1:1,127.0.0.1:{self.sentinel.port}/main/0"

    def cut(self) -> None:
        """Have the replica receive nothing any more."""
        self.replica.ask("REPLICAOF", "127.0.0.1", "1")

    def pause(self) -> None:
        """Have the replica confirm nothing, until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self.replica.process is not None
        self.replica.process.send_signal(number)

    def close(self) -> None:
        for server in (self.sentinel, self.replica, self.master):
            server.close()


class Cluster:
    """Three masters, which have a third of the slots each."""

    def __init__(self) -> None:
        self.nodes = [self._node() for _ in range(3)]
        share = SLOTS // 3 + 1
        for n, node in enumerate(self.nodes):
            node.ask("CLUSTER", "ADDSLOTS", *range(n * share, min(SLOTS, (n + 1) * share)))
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for node in self.nodes[1:]:
            self._meet(node)
        until(lambda: all(self._is_ready(node) for node in self.nodes))

    def _node(self) -> RedisServer:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "500")
        return RedisServer(*options, "--repl-diskless-sync-delay", "0", port=free_port())

    def _meet(self, node: RedisServer) -> None:
        self.nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port)

    def _is_ready(self, node: RedisServer) -> bool:
        info: bytes = node.ask("CLUSTER", "INFO")
        knows_all = f"cluster_known_nodes:{len(self.nodes)}\r".encode() in info
        return b"cluster_state:ok" in info and knows_all

    @property
    def url(self) -> str:
        """The URL of the cluster by one node; another one cannot be reached."""
        return f"redis+cluster://127.0.0.1:1,127.0.0.1:{self.nodes[0].port}"

    def node_of(self, key: bytes) -> RedisServer:
        """Return the node that has a key."""
        slot = key_slot(key)
        for first, last, (_, port, *_), *_ in self.nodes[0].ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(each for each in self.nodes if each.port == port)
        raise AssertionError(slot)

    def add_replica(self, master: RedisServer) -> RedisServer:
        """Add a node that takes over from a master when it has died."""
        replica, name = self._node(), master.ask("CLUSTER", "MYID")
        self.nodes.append(replica)
        self._meet(replica)
        # Otherwise the master may die before the other nodes, which elect its successor, are known.
        until(lambda: all(self._is_ready(node) for node in self.nodes))
        replica.ask("CLUSTER", "REPLICATE", name)
        until(lambda: has_replicated(master))
        return replica

    def move(self, key: bytes, target: RedisServer) -> None:
        """Move the slot that has a key to another node, while clients use it."""
        slot, source = key_slot(key), self.node_of(key)
        names = {node: node.ask("CLUSTER", "MYID") for node in (source, target)}
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 10):
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for node in (target, source):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", names[target])

    def close(self) -> None:
        for node in self.nodes:
            node.close()
