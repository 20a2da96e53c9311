"""Location: which server a URL names, and which keys on it. Its text has no password."""

from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from oddjob.compat import override

_OPTIONS: Final = ("prefix", "accept_eviction", "ssl_ca_certs", "ssl_certfile",
                   "ssl_keyfile", "ssl_cert_reqs")  # fmt: skip


class Keys:
    """The keys that scripts are called with, packed once for many calls."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.all: Final = tuple(keys)
        self.count: Final = len(keys)
        self.packed: Final = pack_strings([b"%d" % len(keys), *keys])


def pack_strings(strings: Sequence[bytes]) -> bytes:
    """Return strings, as the server reads them in a command."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(each), each) for each in strings])


class Location:
    """A server, and the prefix of the keys of one store on it.

    Args:
        url: ``redis://user:password@host:port/database?prefix=oddjob``; ``rediss://`` with TLS; or
            ``unix:///path?db=0``.

    Raises:
        ValueError: the URL is wrong. The message does not have the password.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.prefix: Final = query.get("prefix", "oddjob")
        self.accepts_eviction: Final = query.get("accept_eviction") == "1"
        self.options: Final[dict[str, Any]] = {}
        if parts.scheme == "unix":
            server = f"unix://{parts.path}"
            self.options["path"] = unquote(parts.path)
            database = query.pop("db", "0")
        else:
            try:
                host, port = parts.hostname or "localhost", parts.port or 6379
            except ValueError as error:
                raise ValueError(f"{parts.scheme}://{parts.hostname}: {error}") from None
            server = f"{parts.scheme}://{host}:{port}"
            self.options.update(host=host, port=port, socket_keepalive=True)
            database = parts.path.strip("/") or "0"
        self._text: Final = f"{server}/{database}?prefix={self.prefix}"
        for name in query:
            if name not in _OPTIONS:
                known = ", ".join(_OPTIONS)
                raise ValueError(f"unknown option {name} of {self}; known are {known}")
        if not database.isdecimal() or not self.prefix:
            raise ValueError(f"{self}: a database has a number, and a prefix some text")
        self.options["db"] = int(database)
        self.options.update({name: query[name] for name in query if name.startswith("ssl_")})
        if parts.username:
            self.options["username"] = unquote(parts.username)
        if parts.password:
            self.options["password"] = unquote(parts.password)
        self._scheme: Final = parts.scheme
        # What the names of channels begin with on which processes are woken.
        self.channels: Final = f"{{{quote(self.prefix, safe='')}}}:wake:".encode()

    def connection(self, timeout: float) -> Any:
        """Return a connection of redis-py's to the server, not opened yet, which repeats nothing.

        Args:
            timeout: of its socket, in seconds.
        """
        from redis import backoff, connection, retry

        kinds = {
            "unix": connection.UnixDomainSocketConnection,
            "rediss": connection.SSLConnection,
        }
        opened = kinds.get(self._scheme, connection.Connection)(
            **self.options,
            socket_connect_timeout=timeout,
            socket_timeout=timeout,
            retry=retry.Retry(backoff.NoBackoff(), 0),
            protocol=2,
        )
        opened.socket_timeout = timeout  # which redis-py before 5.1 forgets for a path
        return opened

    @override
    def __str__(self) -> str:
        return self._text

    @override
    def __repr__(self) -> str:
        return f"Location({self._text})"

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Location) and vars(self) == vars(other)

    @override
    def __hash__(self) -> int:
        return hash(self._text)

    # Keys. What is in braces decides on which node of a cluster a key is: all keys of a pool are on
    # the same one.

    def store_keys(self) -> Keys:
        """Return the keys of the scripts on the whole store."""
        tag = f"{{{quote(self.prefix, safe='')}}}:"
        return Keys([f"{tag}{name}".encode() for name in ("meta", "members", "lease", "pools")])

    def pool_keys(self, pool: str, process: int = 0, starts: Iterable[str] = ()) -> Keys:
        """Return the keys of the scripts on a pool, called by a process, with those of rates."""
        names = (*_POOL_KEYS, f"process:{process}", *(f"starts:{name}" for name in starts))
        return Keys([self.pool_key(pool, name) for name in names])

    def pool_key(self, pool: str, name: str) -> bytes:
        """Return one key of a pool."""
        tag = quote(f"{self.prefix}:{pool}", safe=":")
        return f"{{{tag}}}:{quote(name, safe=':')}".encode()


_POOL_KEYS: Final = (
    *("job", "queue", "due", "parked", "run", "busy", "tries", "holders", "unique", "ended"),
    *("outcomes", "extra", "stopped", "watch", "news", "hungry", "spare", "room", "members"),
    *("known", "stranded", "entries", "ticks", "meta", "times"),
)
