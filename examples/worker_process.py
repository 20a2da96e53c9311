"""A web process that only enqueues, and a worker process that runs the jobs."""

import os
import signal
import subprocess
import sys
import tempfile

import oddjob

# Both processes make the same pool; the command `oddjob worker` has it run jobs.
os.environ.setdefault("JOBS", f"sqlite:///{tempfile.mkdtemp()}/jobs.db")
pool = oddjob.Pool("thumbnails", 4, store=os.environ["JOBS"], consume=False)


@pool.job(retries=3, timeout=30)
def shrink(picture: str) -> str:
    """Stand for some work that a web request should not wait for."""
    return f"{picture}.small"


if __name__ == "__main__":
    folder = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    # In a shell: JOBS=sqlite:///jobs.db oddjob worker worker_process:pool
    command = [sys.executable, "-m", "oddjob", "worker", "worker_process:pool", "--quiet"]
    with subprocess.Popen(command, cwd=folder) as worker:
        jobs = shrink.submit_many(["cat.png", "dog.png"])
        results = [job.result(timeout=30) for job in jobs]  # run by the other process
        print(*results)
        worker.send_signal(signal.SIGTERM)  # finish what has begun, hand back the rest
    pool.shutdown()
    assert results == ["cat.png.small", "dog.png.small"]
    assert worker.returncode == 0
