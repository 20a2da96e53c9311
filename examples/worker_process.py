"""A web process that only enqueues, and a worker process that runs the jobs."""

import subprocess
import sys
import tempfile

import oddjob

IS_WORKER = sys.argv[1:2] == ["worker"]
FOLDER = sys.argv[2] if IS_WORKER else tempfile.mkdtemp()

# Both processes make the same pool; `consume` says which of them runs jobs.
pool = oddjob.Pool("thumbnails", 4, store=f"sqlite:///{FOLDER}/jobs.db", consume=IS_WORKER)


@pool.job(retries=3, timeout=30)
def shrink(picture: str) -> str:
    """Stand for some work that a web request should not wait for."""
    return f"{picture}.small"


if __name__ == "__main__":
    if IS_WORKER:
        oddjob.run_forever(timeout=10)  # at SIGTERM: finish what has begun, hand back the rest
    else:
        with subprocess.Popen([sys.executable, __file__, "worker", FOLDER]) as worker:
            jobs = shrink.submit_many(["cat.png", "dog.png"])
            results = [job.result(timeout=30) for job in jobs]  # run by the other process
            print(*results)
            worker.terminate()
        pool.shutdown()
        assert results == ["cat.png.small", "dog.png.small"]
        assert worker.returncode == 0
