"""``oddjob dashboard``: who can reach it, and what it lets them do."""

import re
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from oddjob import Pool
from tests.cli.conftest import Run, on_a_file, start


@contextmanager
def served(url: str, *options: str) -> Iterator[str]:
    """Start the command; yield the address that it prints."""
    with start("dashboard", "--port", "0", *options, url=url) as process:
        assert process.stderr is not None
        found = re.search(r"http://\S+", process.stderr.readline())
        assert found is not None, process.stderr.read()
        yield found[0]


def status(address: str, path: str = "", data: bytes | None = None, **headers: str) -> int:
    request = Request(address + path, data, headers)
    try:
        with urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@on_a_file
def test_it_asks_for_the_password_that_is_in_a_file(pool: Pool, url: str, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("a long one\n")
    with served(url, "--auth", f"ada:@{secret}", "--host", "0.0.0.0") as address:
        here = address.replace("0.0.0.0", "127.0.0.1")
        assert status(here) == 401
        assert status(here, Authorization="Basic YWRhOmEgbG9uZyBvbmU=") == 200
        assert status(here, Host="evil.example") == 403


def test_it_tells_prometheus_of_the_store(pool: Pool, url: str) -> None:
    pytest.importorskip("prometheus_client", reason="it is not installed")
    pool.perform(print, 1)
    with served(url, "--metrics") as address, urlopen(f"{address}metrics") as answer:
        assert 'state="queued"' in answer.read().decode()


@on_a_file
def test_it_can_be_read_only(pool: Pool, url: str) -> None:
    pool.perform(print, 1)
    with served(url, "--read-only", "--base-path", "deep") as address:
        assert re.search(r"\d/deep/$", address)
        here = address.removesuffix("deep/")
        assert status(here, "jobs") == 200
        assert status(here, "jobs", b"action=cancel&id=1") == 403
    assert pool.counts()["queued"] == 1


@pytest.mark.parametrize(
    ("options", "said", "exit_code"),
    [
        (["--host", "0.0.0.0"], "say who may", 2),
        (["--auth", "ada:secret"], "user:@file", 2),
        (["--auth", "ada:@/nowhere"], "cannot be read", 1),
        (["--auth", "ada:@/dev/null"], "one of them is empty", 2),
        (["--host", "192.0.2.1", "--auth", "ada:@{secret}"], "cannot serve at 192.0.2.1", 2),
    ],
)
def test_what_cannot_be_served_is_refused(
    pool: Pool, run: Run, tmp_path: Path, options: list[str], said: str, exit_code: int
) -> None:
    secret = tmp_path / "password"
    secret.write_text("a long one")
    result = run(
        "dashboard", *(each.format(secret=secret) for each in options), exit_code=exit_code
    )
    assert said in result.stderr
