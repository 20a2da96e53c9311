"""A pre-fork server: pools that were configured, and used, before the workers were forked."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

APP = """
import os
import threading
import oddjob

oddjob.configure({"extra_pools": [{"email": {"pool_size": 2}}]})
MASTER = os.getpid()
api = oddjob.Pool("api", 3)

# With --preload all this happens in the master, whose pools are busy while it forks.
squares = list(api.map(pow, range(50), [2] * 50))


def churn():
    try:
        while True:
            oddjob.perform("email", abs, -1)
            api.submit(abs, -1).result()
    except oddjob.PoolClosed:
        pass  # the process ends


threading.Thread(target=churn, daemon=True).start()


def app(environ, start_response):
    here = api.submit(os.getpid).result(10)
    there = oddjob.async_perform("email", os.getpid).result(10)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid() == here == there} {here != MASTER or not PRELOAD} {here}".encode()]
"""


@contextmanager
def gunicorn(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server of two workers, on a free port; its address, and all that it says."""
    (folder / "served.py").write_text(f"PRELOAD = {'--preload' in options}\n{APP}")
    command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--bind", "127.0.0.1:0"]
    server = subprocess.Popen(
        [*command, *options, "served:app"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        for line in server.stderr:
            listening = re.search(r"Listening at: (http://\S+)", line)
            if listening:
                yield server, listening[1]
                return
        raise AssertionError("it did not begin to listen")
    finally:
        server.kill()
        server.wait()
        if server.stderr is not None:
            server.stderr.close()


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["loaded by workers", "preloaded"])
def test_workers_of_a_pre_fork_server_use_pools_made_at_import(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    answers: list[str] = []

    def ask(address: str) -> None:
        for _ in range(10):
            with urlopen(address, timeout=20) as answer:  # a server of ours
                answers.append(answer.read().decode())

    with gunicorn(tmp_path, *options) as (server, address):
        askers = [threading.Thread(target=ask, args=(address,)) for _ in range(4)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        server.send_signal(signal.SIGTERM)
        assert server.stderr is not None
        said = server.stderr.read()
        assert server.wait(20) == 0
    assert len(answers) == 40
    assert {answer.rsplit(" ", 1)[0] for answer in answers} == {"True True"}
    assert "Traceback" not in said
    assert "Exception ignored" not in said
