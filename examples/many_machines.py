"""Workers on many machines share a Redis server; one of them is killed, and nothing is lost."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import oddjob


def start_server() -> "subprocess.Popen[bytes]":
    """Start a Redis server, and put its URL where the workers find it, too."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        print("This example needs a Redis server: apt-get install redis-server")
        sys.exit()
    path = f"{tempfile.mkdtemp()}/redis.sock"
    options = ["--port", "0", "--unixsocket", path, "--save", "", "--logfile", f"{path}.log"]
    server = subprocess.Popen([program, *options])
    while not os.path.exists(path):  # noqa: PTH110
        time.sleep(0.01)
    os.environ["JOBS"] = f"unix://{path}"
    return server


if __name__ == "__main__":
    server = start_server()
pool = oddjob.Pool("render", 2, store=os.environ["JOBS"], consume=False)


@pool.job
def render(frame: int) -> int:
    """Stand for some work that takes a while."""
    time.sleep(0.05)
    return frame


if __name__ == "__main__":
    folder = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    command = [sys.executable, "-m", "oddjob", "worker", "many_machines:pool", "--quiet"]
    workers = [subprocess.Popen(command, cwd=folder) for _ in range(3)]  # as on three machines
    jobs = render.submit_many(range(60))
    jobs[10].result(timeout=30)
    workers[0].send_signal(signal.SIGKILL)  # with jobs in its hands
    frames = [job.result(timeout=30) for job in jobs]
    pool.shutdown()
    for worker in workers:
        worker.terminate()  # finish what has begun
    ended = [worker.wait(30) for worker in workers]
    server.terminate()
    server.wait(30)
    print(f"{len(frames)} frames are rendered; the workers ended with {ended}")
    assert frames == list(range(60))
    assert ended == [-signal.SIGKILL, 0, 0]
