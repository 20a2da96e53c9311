"""Which server has a store at present: the master that sentinels name, or a node of a cluster.

They are asked at each new connection. What a server answers that has the store no longer (READONLY,
MOVED), or its silence, closes a connection: so a process finds the new one.
"""

from collections.abc import Callable
from typing import Any, Final

from redis.crc import key_slot
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as LateAnswer

from oddjob.durable.redis.location import Location

Server = tuple[str, int]

_WRONG_KIND: Final = ("unknown command", "cluster support disabled")  # said by other servers
_TIMEOUT: Final = 1.0  # seconds, for each of those who are asked


def connect(location: Location, connection: Any) -> None:
    """Connect to the server that has a store.

    Raises:
        redis.exceptions.RedisError: there is none at present, or it refuses the connection.
    """
    if location.topology:
        find = _find_master if location.topology == "sentinel" else _find_node
        connection.host, connection.port = _ask_each(location, find)
    connection.connect()


def _ask_each(location: Location, find: Callable[..., Server | None]) -> Server:
    """Return what the first sentinel or node says that knows."""
    lost: Exception | None = None
    for seed in location.seeds:
        connection = location.connection(_TIMEOUT, seed=seed)
        try:
            connection.connect()
            server = find(location, connection)
        except (LostConnection, LateAnswer) as error:
            lost = error
            continue
        except ResponseError as error:
            if not any(each in str(error) for each in _WRONG_KIND):
                raise
            is_sentinel = location.topology == "sentinel"
            what = (
                "sentinel: name the sentinels, mostly at 26379" if is_sentinel else "cluster node"
            )
            raise ResponseError(
                f"{seed[0]}:{seed[1]} is no {what}; or begin with redis:// for a server by itself"
            ) from error
        finally:
            connection.disconnect()
        if server is not None:
            return server
    if lost is not None:
        raise lost
    if location.topology == "sentinel":
        raise ResponseError(f"its sentinels know no master {location.master!r}")
    raise LostConnection("no node of the cluster has the store's slot")


def _find_master(location: Location, sentinel: Any) -> Server | None:
    found = _ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", location.master)
    return (found[0].decode(), int(found[1])) if found else None


def _find_node(location: Location, node: Any) -> Server | None:
    slot = key_slot(location.store_keys().all[0])
    for first, last, (host, port, *_), *_ in _ask(node, "CLUSTER", "SLOTS"):
        if first <= slot <= last:
            # A node that does not know its own name is meant by the one that was asked for.
            return (host or b"").decode() or node.host, int(port)
    return None


def _ask(connection: Any, *command: str) -> Any:
    connection.send_command(*command, check_health=False)
    return connection.read_response()
