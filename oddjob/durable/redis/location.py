"""Location: which servers a URL names, and which keys on them. Its text has no password.

All keys of a store have one hash tag, its prefix: in a cluster, a store is on one node. So what its
pools share (processes, leases) is where they are, and a store is either there or not. Stores that
differ in their prefix are on different nodes.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from oddjob.compat import override

_OPTIONS: Final[tuple[str, ...]] = ("prefix", "accept_eviction", "min_replicas")
_OPTIONS_OF_TLS: Final = (
    "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname",
)  # fmt: skip
_OPTIONS_OF_SENTINELS: Final = ("sentinel_username", "sentinel_password")
_WORDS: Final = {  # by the attributes in which two URLs of one store may differ
    "accepts_eviction": "accept_eviction",
    "min_replicas": "min_replicas",
    "options": "setting of TLS",
    "_credentials": "user or password",
    "_sentinel_credentials": "user or password of the sentinels",
}
_PORTS: Final = {"": 6379, "sentinel": 26379, "cluster": 6379}


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
        url: ``redis://user:password@host:port/database?prefix=oddjob``; ``unix:///path?db=0``;
            ``redis+sentinel://host:port,host:port/master/database``; or
            ``redis+cluster://host:port,host:port``. With TLS, it begins with ``rediss``.

    Raises:
        ValueError: the URL is wrong. The message does not have the password.
    """

    def __init__(self, url: str) -> None:
        parts = _split(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        scheme, _, topology = parts.scheme.partition("+")
        self._scheme: Final = scheme
        self.topology: Final = topology
        self.prefix: Final = query.get("prefix", "oddjob")
        self.options: Final[dict[str, Any]] = {}  # of a connection
        self.seeds: tuple[tuple[str, int], ...] = ()  # sentinels, or nodes of a cluster
        self.master: str = ""  # as the sentinels call it
        self._text = ""
        is_path = scheme == "unix"
        database = self._read_path(parts, query) if is_path else self._read_servers(parts, query)
        self._check_options(query)
        if not database.isdecimal():
            where = "?db=0" if is_path else "/0 at the end"
            raise ValueError(f"{self}: a database is a number, as {where}, not {database!r}")
        if parts.fragment:
            raise ValueError(f"{self}: it goes on with a #: write # as %23")
        if not self.prefix:
            raise ValueError(f"{self}: a prefix has some text, as ?prefix=shop")
        self.options["db"] = int(database)
        self.accepts_eviction: Final = self._read_flag(query, "accept_eviction")
        replicas = query.get("min_replicas", "0")
        if not replicas.isdecimal():
            raise ValueError(f"{self}: min_replicas is a whole number, 0 or more, not {replicas!r}")
        self.min_replicas: Final = int(replicas)
        if scheme == "rediss":
            self._read_tls(query)
        self._credentials: Final = {
            "username": unquote(parts.username or "") or None,
            "password": unquote(parts.password or "") or None,
        }
        self._sentinel_credentials: Final = {
            "username": query.get("sentinel_username"),
            "password": query.get("sentinel_password"),
        }
        # What the names of channels begin with on which processes are woken.
        self.channels: Final = f"{self._tag}wake:".encode()

    def _read_path(self, parts: SplitResult, query: dict[str, str]) -> str:
        """Read the path of a socket; return the database."""
        if parts.netloc.rpartition("@")[2] or parts.path in ("", "/"):
            raise ValueError(
                "a URL that begins with unix:// names a path from / on, as in "
                "unix:///run/redis.sock"
            )
        self.options["path"] = unquote(parts.path)
        database = query.pop("db", "0")
        self._text = f"unix://{parts.path}/{database}?prefix={self.prefix}"
        return database

    def _read_servers(self, parts: SplitResult, query: dict[str, str]) -> str:
        """Read which servers are named; return the database."""
        if any("@" in each for each in (parts.path, parts.fragment, *query)):
            raise _bad_port(parts.scheme)
        servers = []
        for each in parts.netloc.rpartition("@")[2].split(","):
            try:
                server = urlsplit(f"//{each.strip()}")
                port = server.port or _PORTS[self.topology]
            except ValueError:
                raise _bad_port(parts.scheme) from None
            servers.append((server.hostname or "localhost", port))
        names = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
                         for host, port in servers)  # fmt: skip
        path = unquote(parts.path).strip("/")
        self._text = f"{parts.scheme}://{names}/{path or '0'}?prefix={self.prefix}"
        self.options.update(host=servers[0][0], port=servers[0][1], socket_keepalive=True)
        if self.topology == "sentinel":
            self.master, _, path = path.partition("/")
            if not self.master or self.master.isdecimal():
                raise ValueError(f"{self}: name the master as the sentinels do, as in "
                                 f"{parts.scheme}://{names}/mymaster/0")  # fmt: skip
        if self.topology:
            self.seeds = tuple(servers)
        elif len(servers) > 1:
            raise ValueError(f"{self}: name one server, or {self._scheme}+sentinel://…, or "
                             f"{self._scheme}+cluster://…")  # fmt: skip
        return path or "0"

    def _read_flag(self, query: dict[str, str], name: str) -> bool:
        flag = query.get(name, "0")
        if flag not in ("0", "1"):
            raise ValueError(f"{self}: {name} is 1 or 0, not {flag!r}")
        return flag == "1"

    def _read_tls(self, query: dict[str, str]) -> None:
        self.options.update({name: query[name] for name in query if name.startswith("ssl_")})
        is_checked = query.get("ssl_check_hostname", "1").lower() not in ("0", "no", "false")
        is_checked &= (
            query.get("ssl_cert_reqs") != "none"
        )  # redis-py before 6.0 does not look at it
        self.options["ssl_check_hostname"] = is_checked  # not by itself in redis-py before 6.0

    def _check_options(self, names: Iterable[str]) -> None:
        known = _OPTIONS
        if self._scheme == "rediss":
            known += _OPTIONS_OF_TLS
        if self.topology == "sentinel":
            known += _OPTIONS_OF_SENTINELS
        for name in names:
            if name not in known:
                raise ValueError(f"unknown option {name} of {self}; known are {', '.join(known)}")

    def connection(self, timeout: float, *, seed: tuple[str, int] | None = None) -> Any:
        """Return a connection of redis-py's to the server, not opened yet, which repeats nothing.

        Args:
            timeout: of its socket, in seconds.
            seed: connect to this sentinel or node, in place of the server that has the store.
        """
        from redis import backoff, connection, retry

        kinds = {
            "unix": connection.UnixDomainSocketConnection,
            "rediss": connection.SSLConnection,
        }
        options = self.options | self._credentials
        if seed is not None:
            options |= {"host": seed[0], "port": seed[1], "db": 0}
            if self.topology == "sentinel":
                options |= self._sentinel_credentials
        opened = kinds.get(self._scheme, connection.Connection)(
            **options,
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

    def difference(self, other: "Location") -> list[str]:
        """Return what another location of the same store has otherwise, in words, no values."""
        return list(dict.fromkeys(_WORDS.get(name, "option") for name, value in vars(self).items()
                                  if value != vars(other)[name]))  # fmt: skip

    @override
    def __hash__(self) -> int:
        return hash(self._text)

    # Keys.

    @property
    def _tag(self) -> str:
        return f"{{{quote(self.prefix, safe='')}}}:"

    def store_keys(self) -> Keys:
        """Return the keys of the scripts on the whole store."""
        names = ("meta", "members", "lease", "pools")
        return Keys([f"{self._tag}{name}".encode() for name in names])

    def pool_keys(self, pool: str, process: int = 0, starts: Iterable[str] = ()) -> Keys:
        """Return the keys of the scripts on a pool, called by a process, with those of rates."""
        names = (*POOL_KEYS, f"process:{process}", *(f"starts:{name}" for name in starts))
        return Keys([self.pool_key(pool, name) for name in names])

    def pool_key(self, pool: str, name: str) -> bytes:
        """Return one key of a pool."""
        return f"{self._tag}{quote(pool, safe='')}:{quote(name, safe=':')}".encode()


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # which shows what stands for the server, and that may be of a password
        raise ValueError(
            f"a URL that begins with {url.partition('://')[0]}:// cannot be read. If it has a "
            "password, write it as urllib.parse.quote(password, safe='') returns it"
        ) from None


def _bad_port(scheme: str) -> ValueError:
    """Return an error that does not show what stands for the port: it may be of a password."""
    return ValueError(
        f"a URL that begins with {scheme}:// names a port that is no number from 0 to 65535. If "
        "that is a part of the password, write / as %2F there, ? as %3F and # as %23"
    )


POOL_KEYS: Final = (
    *("job", "queue", "due", "parked", "run", "busy", "tries", "holders", "unique", "ended"),
    *("outcomes", "extra", "stopped", "watch", "news", "hungry", "spare", "room", "members"),
    *("known", "stranded", "entries", "ticks", "meta", "times", "turns", "lines"),
)
