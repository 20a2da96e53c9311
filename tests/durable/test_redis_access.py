"""Who may use a Redis server, and how it is known to be the right one: TLS, users, passwords."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from oddjob import Pool, StoreUnusable
from oddjob.durable.redis import connection
from oddjob.durable.redis.location import Location
from tests.durable import jobs
from tests.durable.conftest import WAIT, have_left
from tests.hang import until
from tests.redis_server import RedisServer, free_port
from tests.redis_topologies import Replicated

GUIDE = Path(__file__).parents[2] / "examples" / "guides" / "many-machines.md"
Start = Callable[..., RedisServer]


@pytest.fixture(autouse=True)
def meeting_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def start() -> Iterator[Start]:
    servers: list[RedisServer] = []

    def start(*options: str, port: int = 0) -> RedisServer:
        servers.append(RedisServer(*options, port=port))
        return servers[-1]

    yield start
    until(have_left)
    for server in servers:
        server.close()


@pytest.fixture
def certificate(tmp_path: Path) -> str:
    """The path of a certificate for 127.0.0.1, without its ending: its key ends with ``key``."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("needs the program openssl")
    path = f"{tmp_path}/server"
    command = [openssl, "req", "-x509", "-nodes", "-newkey", "ec", "-subj", "/CN=server"]
    command += [
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    command += ["-keyout", f"{path}.key", "-out", f"{path}.crt"]
    subprocess.run(command, check=True, capture_output=True)
    return path


def start_with_tls(start: Start, path: str, auth_clients: str) -> int:
    """Return the port of a server that speaks TLS there."""
    port = free_port()
    options = ["--tls-port", str(port), "--tls-auth-clients", auth_clients]
    options += ["--tls-cert-file", f"{path}.crt", "--tls-key-file", f"{path}.key"]
    options += ["--tls-ca-cert-file", f"{path}.crt"]
    try:
        start(*options)
    except AssertionError:
        pytest.skip("the server is built without TLS")
    return port


def works(url: str) -> bool:
    with Pool("durable", 1, store=url) as pool:
        return bool(pool.submit(jobs.note, 1).result(WAIT) == 1)


def test_a_certificate_that_is_not_right_is_refused_at_once(start: Start, certificate: str) -> None:
    """It has to be signed by whom the URL names, and be of the host that the URL names."""
    port = start_with_tls(start, certificate, "no")
    trusted = f"ssl_ca_certs={certificate}.crt"
    assert works(f"rediss://127.0.0.1:{port}/0?{trusted}")
    with pytest.raises(StoreUnusable, match="CERTIFICATE_VERIFY_FAILED"):
        works(f"rediss://127.0.0.1:{port}/0")
    with pytest.raises(StoreUnusable, match="not valid for 'localhost'"):
        works(f"rediss://localhost:{port}/0?{trusted}")
    assert works(f"rediss://localhost:{port}/0?{trusted}&ssl_check_hostname=0")
    assert works(f"rediss://localhost:{port}/0?ssl_cert_reqs=none")


def test_a_server_may_ask_for_the_certificate_of_a_client(
    start: Start, certificate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_PATIENCE", 0.1)
    port = start_with_tls(start, certificate, "yes")
    url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate}.crt"
    with pytest.raises(StoreUnusable):
        works(url)
    assert works(f"{url}&ssl_certfile={certificate}.crt&ssl_keyfile={certificate}.key")


def test_a_user_needs_the_keys_and_channels_of_its_prefix_alone(start: Start) -> None:
    """And the commands that the guide says; its password may have any characters."""
    server = start(port=free_port())
    rights = re.search(r"^ACL SETUSER jobs on >secret (.*)$", GUIDE.read_text(), re.MULTILINE)
    assert rights is not None
    server.ask("ACL", "SETUSER", "jobs", "on", ">a:b@c/d", *rights[1].split())
    assert works(f"redis://jobs:{quote('a:b@c/d', safe='')}@127.0.0.1:{server.port}/3")
    assert server.ask("INFO", "keyspace").keys() == {"db3"}


@pytest.mark.parametrize(
    ("rights", "said"),
    [
        ("allkeys +@all resetchannels", r"ACL SETUSER … &{oddjob}:wake:\* allows it"),
        ("allkeys allchannels +@all -info", "no permissions to run the 'info' command"),
        ("~other:* allchannels +@all", "permissions to access .*key"),
    ],
)
def test_a_user_who_lacks_rights_is_told_so(start: Start, rights: str, said: str) -> None:
    server = start(port=free_port())
    server.ask("ACL", "SETUSER", "me", "on", ">verysecret", *rights.split())
    with pytest.raises(StoreUnusable, match=said) as caught:
        works(f"redis://me:verysecret@127.0.0.1:{server.port}")
    assert "verysecret" not in f"{caught.value} {caught.value.__cause__!r}"


def test_sentinels_may_have_a_password_of_their_own(
    replicated: Replicated, caplog: pytest.LogCaptureFixture
) -> None:
    """Which is shown as little as that of the server."""
    rights = ("+@all", "allkeys", "allchannels")
    replicated.master.ask("ACL", "SETUSER", "me", "on", ">verysecret", *rights)
    replicated.sentinel.ask("ACL", "SETUSER", "default", "resetpass", ">hushhush")
    url = replicated.url.replace("//", "//me:verysecret@")
    with Pool("durable", 1, store=f"{url}?sentinel_password=hushhush") as pool:
        assert pool.submit(jobs.note, 1).result(WAIT) == 1
        shown = f"{pool!r} {pool.configuration}"
    for wrong in (url, f"{url}?sentinel_password=verywrong"):
        with pytest.raises(StoreUnusable) as caught:
            works(wrong)
        shown += f"{caught.value} {caught.value.__cause__!r}"
    for secret in ("verysecret", "hushhush", "verywrong"):
        assert secret not in shown + caplog.text


def test_a_server_that_is_too_old_is_refused(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_OLDEST", (99, 0))
    with pytest.raises(StoreUnusable, match=r"is Redis \d+.\d+; 99.0 or newer is needed"):
        works(start().url)


@pytest.mark.parametrize("sign", ["/", "?", "#"])
@pytest.mark.parametrize("scheme", ["redis", "redis+sentinel"])
@pytest.mark.parametrize("secret", ["secret", "1234"])
def test_a_password_with_a_sign_of_urls_is_in_no_error(scheme: str, sign: str, secret: str) -> None:
    with pytest.raises(ValueError, match="write / as %2F") as caught:
        Location(f"{scheme}://user:{secret}{sign}word@host/0")
    assert secret not in str(caught.value)
    assert "word@" not in str(caught.value)


@pytest.mark.parametrize("secret", ["s\u2100cret", "[secret]", "[secret"])
@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_a_url_that_cannot_be_read_is_not_shown_with_its_password(scheme: str, secret: str) -> None:
    with pytest.raises(ValueError, match=r"write it as urllib\.parse\.quote") as caught:
        Pool("durable", 1, store=f"{scheme}://me:{secret}@host")
    assert "cret" not in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("unix://run/redis.sock", r"names a path from / on, as in unix:///run/redis\.sock"),
        ("unix://redis.sock", "names a path from / on"),
        ("unix:", "names a path from / on"),
        ("unix:///redis.sock?db=one", "a database is a number, as .db=0, not 'one'"),
        ("redis://host/0/1", "/0/1.*: a database is a number, as /0 at the end, not '0/1'"),
        ("redis+sentinel://host/main/x", "a database is a number, as /0 at the end, not 'x'"),
        ("redis://host/0?prefix=", "a prefix has some text, as .prefix=shop"),
        ("redis://host/0?accept_eviction=yes", "accept_eviction is 1 or 0, not 'yes'"),
    ],
)
def test_what_is_wrong_in_a_url_is_named(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Location(url)


def test_a_path_of_a_socket_is_read_whole() -> None:
    location = Location("unix://user:secret@/run/a%20b.sock?db=3&accept_eviction=0")
    assert location.options == {"path": "/run/a b.sock", "db": 3}
    assert not location.accepts_eviction
