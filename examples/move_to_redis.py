"""A live pool moves from a file to Redis: nothing is lost, and nothing runs twice."""

import os
import shutil
import subprocess
import tempfile
import time

import oddjob

sent: list[str] = []


def send(address: str) -> None:
    """Stand for an e-mail that must be sent once."""
    sent.append(address)


def start_redis(folder: str) -> "subprocess.Popen[bytes] | None":
    """Start a server for this example, if there is one on this machine."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        return None
    socket = ["--port", "0", "--unixsocket", f"{folder}/redis.sock"]
    safe = ["--dir", folder, "--appendonly", "yes"]  # what it acknowledges is on the disk
    server = subprocess.Popen([program, *socket, *safe], stdout=subprocess.DEVNULL)
    while not os.path.exists(f"{folder}/redis.sock"):  # noqa: PTH110
        time.sleep(0.01)
    return server


if __name__ == "__main__":
    folder = tempfile.mkdtemp()
    file, redis = f"sqlite:///{folder}/jobs.db", f"unix://{folder}/redis.sock"
    server = start_redis(folder)
    if server is None:
        print("This example needs a Redis server: apt-get install redis-server")
        raise SystemExit

    try:
        # The program as it was: its jobs are in a file.
        with oddjob.Pool("mail", 1, store=file, consume=False) as pool:
            pool.perform_many(send, [f"user-{n}@example.org" for n in range(100)])

        # Start the new processes, whose jobs are on the server, and move what waits. In a shell:
        #     oddjob --store sqlite:///jobs.db copy redis://localhost
        with oddjob.Pool("mail", 1, store=redis) as pool:
            pool.perform(send, "new@example.org")
            report = oddjob.copy_store(file, redis)
            print(f"moved {report.moved} jobs, left {report.left or 'none'}")
            assert report.is_complete
    finally:
        server.kill()
        server.wait()
    print(f"sent {len(sent)} e-mails")
    assert len(sent) == len(set(sent)) == 101
